//! Answers that run only when a host ticks them: cut at any budget they are the uncut ones bit for bit, whatever the host does to the
//! encoders, and whoever else uses the device. Needs no file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::fixture;
use crate::support::host::hosts;
use crate::ticks::{answer, cache_of, encoder, settled, text, uncut};
use lampyris::engine::gpu::StepTimes;
use lampyris::engine::kernels::Noise;
use lampyris::models::decoder::{CacheFormat, Decoder, Sampling, SessionOptions};
use lampyris::{Budget, Classifier, Gpu, GpuOptions, VariantSet, wgpu};
use std::path::Path;
use std::time::{Duration, Instant};

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

const GEMMA: &str = r#"{"model_type": "gemma2", "hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 3,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 300, "max_position_embeddings": 512,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "query_pre_attn_scalar": 16, "sliding_window": 24,
    "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "hidden_activation": "gelu_pytorch_tanh"}"#;

#[test]
fn cut_at_any_budget_an_answer_is_the_uncut_one() {
    for host in hosts() {
        let gpu = host.guest();
        let mut noisy = Noise::new(11);
        for (config, cache) in [(CONFIG, CacheFormat::F32), (CONFIG, CacheFormat::Q8), (GEMMA, CacheFormat::F16)] {
            let model = Decoder::new(&gpu, noise(config, &[], &[])).unwrap();
            let options = SessionOptions::from(200).cache(cache);
            for how in [Sampling::greedy(), Sampling::usual().seed(5)] {
                let prompt = text(75);
                let expected = uncut(&gpu, &model, options, (&prompt, 20, &how));
                for round in 0..3 {
                    // From one step a tick to several tokens a tick.
                    let exponent = [-6.5, -4.0, -2.0][round];
                    let mut budget = || Duration::from_secs_f64(10f64.powf(exponent + noisy.real(-0.7, 0.7) as f64));
                    let session = gpu.block_on(model.session(options)).unwrap();
                    let finest = Duration::from_micros([1, 50, 1000][round]);
                    let mut driven = session.driven().finest(finest);
                    driven.generate(&prompt, 20, &how);
                    let mut submit = |frame: wgpu::CommandEncoder| {
                        host.queue.submit([frame.finish()]);
                    };
                    let (tokens, frames) = answer((&host, &mut driven), &mut budget, &mut submit);
                    assert_eq!(tokens, expected.0, "{}: {cache:?}, round {round}", host.name);
                    assert!(round > 0 || frames > 100, "{}: one step a frame, and only {frames} frames", host.name);
                    let session = settled(&host, &gpu, driven);
                    let cache = cache_of(&gpu.block_on(session.save()).unwrap());
                    assert!(cache == expected.1, "{}: another cache, round {round}", host.name);
                }
            }
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// What was made for GPUs, tiles and subgroups of any size among it, is cut as well.
#[test]
fn variants_for_gpus_are_cut_like_others() {
    for host in hosts() {
        let options = GpuOptions::default().variants(VariantSet::RealGpu);
        let gpu = Gpu::from_device_with(&host.adapter, &host.device, &host.queue, options).unwrap();
        let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let (prompt, greedy, options) = (text(50), Sampling::greedy(), SessionOptions::from(100));
        let expected = uncut(&gpu, &model, options, (&prompt, 8, &greedy));
        let mut driven = gpu.block_on(model.session(options)).unwrap().driven().finest(Duration::from_nanos(100));
        driven.generate(&prompt, 8, &greedy);
        let mut submit = |frame: wgpu::CommandEncoder| {
            host.queue.submit([frame.finish()]);
        };
        let (tokens, _) = answer((&host, &mut driven), &mut || Duration::from_micros(300), &mut submit);
        assert_eq!(tokens, expected.0, "{}", host.name);
        let session = settled(&host, &gpu, driven);
        assert!(cache_of(&gpu.block_on(session.save()).unwrap()) == expected.1, "{}: another cache", host.name);
    }
}

/// What loading has measured is in the cache: a second start knows it before its first tick, and measures nothing.
#[test]
fn a_second_start_measures_nothing_again() {
    let greedy = Sampling::greedy();
    for host in hosts() {
        // How many dispatches measuring takes, and what is known after it: of a character and of a picture's network.
        let start = |folder: &Path| {
            let options = GpuOptions::default().cache(folder);
            let gpu = Gpu::from_device_with(&host.adapter, &host.device, &host.queue, options).unwrap();
            let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
            let session = gpu.block_on(model.session(200)).unwrap();
            let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
            let mut eyes = gpu.block_on(classifier.driven()).unwrap();
            let (before, began) = (gpu.counts().dispatches, Instant::now());
            // Nothing is cut, so the times are the ones that were written.
            let driven = session.driven().finest(Duration::from_secs(1000));
            let driven = gpu.block_on(driven.measured(&greedy)).unwrap();
            let of_text = gpu.counts().dispatches - before;
            gpu.block_on(eyes.measure()).unwrap();
            let dispatches = [of_text, gpu.counts().dispatches - before - of_text];
            let times: Vec<StepTimes> = driven.times().unwrap().into_iter().cloned().collect();
            assert!(times.iter().all(StepTimes::is_measured), "{}", host.name);
            (dispatches, times, began.elapsed())
        };
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (first, measured, took) = start(folders[0].path());
        assert!(first.iter().all(|dispatches| *dispatches > 0), "{}: {first:?}", host.name);
        let (second, known, then) = start(folders[0].path());
        assert_eq!(second, [0, 0], "{}: something was measured again", host.name);
        let seconds = |all: &[StepTimes]| all.iter().flat_map(|it| it.seconds().to_vec()).collect::<Vec<f64>>();
        let (measured, known) = (seconds(&measured), seconds(&known));
        // They are written in hundredths of a microsecond.
        let same = measured.iter().zip(&known).all(|(a, b)| (a - b).abs() <= 0.0051e-6);
        assert!(same && measured.len() == known.len(), "{}: {measured:?} and {known:?}", host.name);
        eprintln!("{}: measured in {took:?}, known in {then:?}", host.name);
        // Another cache knows nothing of it.
        assert_eq!(start(folders[1].path()).0, first, "{}", host.name);
    }
}

/// What ticks have learnt is in the cache once the host has it written: a second start does not guess in its first tick.
#[test]
fn what_ticks_have_learnt_is_known_to_a_second_start() {
    for host in hosts() {
        let folder = tempfile::tempdir().unwrap();
        let start = || {
            let options = GpuOptions::default().cache(folder.path());
            let gpu = Gpu::from_device_with(&host.adapter, &host.device, &host.queue, options).unwrap();
            let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
            let mut driven = gpu.block_on(model.session(200)).unwrap().driven();
            driven.generate(&text(20), 12, &Sampling::greedy());
            // The first ticks load: none has told anything of a run yet when the times are there.
            let times = loop {
                let mut frame = encoder(&host);
                driven.tick(&mut frame, &mut Budget::gpu(Duration::from_millis(2))).unwrap();
                host.queue.submit([frame.finish()]);
                match driven.times() {
                    Some(times) => break times.map(StepTimes::is_measured),
                    None => gpu.pump(),
                }
            };
            (gpu, driven, times)
        };
        let (gpu, mut driven, guessed) = start();
        assert_eq!(guessed, [false; 2], "{}: nothing was measured before", host.name);
        if !gpu.caps().timestamps {
            eprintln!("SKIPPED: ticks learn nothing on {}, which has no timestamps", host.name);
            continue;
        }
        let mut submit = |frame: wgpu::CommandEncoder| {
            host.queue.submit([frame.finish()]);
        };
        answer((&host, &mut driven), &mut || Duration::from_millis(2), &mut submit);
        drop(settled(&host, &gpu, driven));
        assert_eq!(start().2, [false; 2], "{}: nobody has had it written", host.name);
        gpu.save_measurements();
        assert_eq!(start().2, [true; 2], "{}: it was written", host.name);
    }
}
