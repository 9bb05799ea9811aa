//! Answers that run only when a host ticks them: cut at any budget they are the uncut ones bit for bit, whatever the host does to the
//! encoders, and whoever else uses the device. Needs no file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::engine::kernels::Noise;
use lampyris::models::decoder::{CacheFormat, Decoder, DrivenSession, Sampling, SessionOptions};
use lampyris::{Budget, Gpu, GpuOptions, Tick, VariantSet, wgpu};
use std::time::Duration;
use support::decoders::noise;
use support::host::{Host, hosts};

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

const GEMMA: &str = r#"{"model_type": "gemma2", "hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 3,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 300, "max_position_embeddings": 512,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "query_pre_attn_scalar": 16, "sliding_window": 24,
    "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "hidden_activation": "gelu_pytorch_tanh"}"#;

fn text(tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (i * i + 3 * i) % 61).collect()
}

fn encoder(host: &Host) -> wgpu::CommandEncoder {
    host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("the host's frame") })
}

/// What follows the header of a saved session, whose entries may stand in any order.
fn cache_of(saved: &[u8]) -> Vec<u8> {
    let header = u64::from_le_bytes(saved[..8].try_into().unwrap()) as usize;
    saved[8 + header..].to_vec()
}

/// The tokens and the cache of an answer that nobody has cut.
fn uncut(gpu: &Gpu, model: &Decoder, options: SessionOptions, (prompt, most, how): Asked<'_>) -> (Vec<u32>, Vec<u8>) {
    let mut session = gpu.block_on(model.session(options)).unwrap();
    gpu.block_on(session.feed(prompt)).unwrap();
    let mut generation = session.sample(most, how).unwrap();
    let tokens = std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect();
    (tokens, cache_of(&gpu.block_on(session.save()).unwrap()))
}

/// A prompt, the most tokens that are to follow, and how they are chosen.
type Asked<'a> = (&'a [u32], usize, &'a Sampling);

/// Draws frames until the answer is there, each with a budget of `budget`'s; `submit` does with an encoder what the host does.
fn answer(
    (host, driven): (&Host, &mut DrivenSession),
    budget: &mut dyn FnMut() -> Duration,
    submit: &mut dyn FnMut(wgpu::CommandEncoder),
) -> (Vec<u32>, usize) {
    let (mut tokens, mut frames) = (Vec::new(), 0);
    for _ in 0..100_000 {
        let mut frame = encoder(host);
        let tick = driven.tick(&mut frame, &mut Budget::gpu(budget())).unwrap();
        submit(frame);
        frames += 1;
        match tick {
            Tick::Pieces(more) => tokens.extend(more),
            Tick::Done(summary) => {
                assert_eq!(summary.tokens, tokens.len());
                return (tokens, frames);
            }
            // Nothing can be recorded until something arrives, for which a busy machine takes its time.
            Tick::Working(progress) if progress.steps == 0 => std::thread::sleep(Duration::from_micros(300)),
            Tick::Working(_) => {}
            other => panic!("{other:?} on {}", host.name),
        }
    }
    panic!("no answer in 100,000 frames on {}", host.name);
}

/// The session of an answer that has come to its end.
fn settled(host: &Host, gpu: &Gpu, mut driven: DrivenSession) -> lampyris::models::decoder::Session {
    for _ in 0..100_000 {
        match driven.into_session() {
            Ok(session) => return session,
            Err(again) => driven = *again,
        }
        host.queue.submit([]);
        gpu.pump();
        std::thread::sleep(Duration::from_micros(100));
    }
    panic!("commands are under way for ever on {}", host.name);
}

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

/// With work waiting most of a budget is used: by what steps are expected to take, which is all that a tick knows.
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

#[test]
fn most_of_a_budget_is_used() {
    for host in hosts() {
        let gpu = host.guest();
        let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let session = gpu.block_on(model.session(2000)).unwrap();
        let greedy = Sampling::greedy();
        let driven = session.driven().finest(Duration::from_micros(20));
        let mut driven = gpu.block_on(driven.measured(&greedy)).unwrap();
        driven.generate(&text(1500), 40, &greedy);
        let (mut used, mut given, mut frames) = (0.0, 0.0, 0);
        for _ in 0..100_000 {
            // No step is longer than a tenth of it, as steps are found to be meanwhile.
            let longest =
                driven.times().map_or(0.0, |all| all.iter().flat_map(|it| it.seconds()).copied().fold(0.0, f64::max));
            let time = Duration::from_secs_f64(10.0 * longest);
            let (mut frame, mut budget) = (encoder(&host), Budget::gpu(time));
            let tick = driven.tick(&mut frame, &mut budget).unwrap();
            host.queue.submit([frame.finish()]);
            gpu.block_on(gpu.idle()).unwrap();
            match tick {
                // Nothing is left to be recorded.
                Tick::Working(progress) if progress.steps == 0 => {}
                Tick::Working(progress) => {
                    if progress.done < progress.of {
                        (used, given) = (used + budget.used().as_secs_f64(), given + budget.whole().as_secs_f64());
                        frames += 1;
                    }
                }
                Tick::Pieces(_) => {}
                Tick::Done(_) => break,
                other => panic!("{other:?} on {}", host.name),
            }
        }
        let share = used / given;
        eprintln!("{}: {share:.3} of the budgets of {frames} frames was used", host.name);
        assert!(share > 0.8 && frames > 4, "{}: {share} of {frames} frames", host.name);
    }
}
