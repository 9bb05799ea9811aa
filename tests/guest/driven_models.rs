//! Runs of every kind of model, cut at random budgets into pieces of random sizes: they give the bits of the uncut ones, on every adapter.
//! Needs no file but the fixtures.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::host::{Host, hosts};
use crate::support::{NETWORKS, fixture, full_tier};
use crate::ticks::{answer, cache_of, encoder, settled, text, uncut};
use lampyris::engine::Plan;
use lampyris::engine::gpu::{ConstantStore, Course, Event, Few, GpuPlan, InputData, Job, VariantChoice, Written};
use lampyris::engine::kernels::{HostTensor, Noise};
use lampyris::engine::weights::{TensorFile, Weights};
use lampyris::models::decoder::{CacheFormat, Decoder, Sampling, SessionOptions};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, EncoderPlan, TokenEncoder};
use lampyris::models::mobilenet::Pixels;
use lampyris::{Budget, Classifier, Gpu, Input, Tick};
use std::sync::Arc;
use std::time::Duration;

/// Decoders that are unlike: heads without and with groups, a window, biases, experts.
const DECODERS: [&str; 4] = [
    r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 2, "num_attention_heads": 2,
    "vocab_size": 131, "max_position_embeddings": 512, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": false}"#,
    r#"{"model_type": "mistral", "hidden_size": 40, "intermediate_size": 52, "num_hidden_layers": 2, "num_attention_heads": 5,
    "num_key_value_heads": 1, "vocab_size": 97, "max_position_embeddings": 512, "rope_theta": 10000.0, "rms_norm_eps": 1e-5,
    "sliding_window": 29, "tie_word_embeddings": true}"#,
    r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 3, "head_dim": 24, "vocab_size": 161, "max_position_embeddings": 512, "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#,
    r#"{"model_type": "qwen3_moe", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 61, "max_position_embeddings": 512, "tie_word_embeddings": true,
    "num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 18, "norm_topk_prob": true, "mlp_only_layers": [1]}"#,
];

/// Times that are as often tiny as long: from a tenth of a microsecond to tens of milliseconds.
fn any_time(noise: &mut Noise) -> Duration {
    Duration::from_secs_f64(10f64.powf(f64::from(noise.real(-7.0, -1.5))))
}

/// Draws a whole number below `end`.
fn below(noise: &mut Noise, end: usize) -> usize {
    (noise.real(0.0, 1.0) * end as f32) as usize % end
}

#[test]
fn answers_of_every_family_cut_at_random_budgets_are_the_uncut_ones() {
    for host in hosts() {
        let (gpu, mut noisy) = (host.guest(), Noise::new(29));
        for config in DECODERS {
            let model = Decoder::new(&gpu, noise(config, &[], &[])).unwrap();
            for _ in 0..if full_tier() { 6 } else { 1 } {
                let caches = [CacheFormat::F32, CacheFormat::F16];
                let options = SessionOptions::from(120).cache(caches[below(&mut noisy, 2)]);
                let how = [Sampling::greedy(), Sampling::usual().seed(7)][below(&mut noisy, 2)];
                let (length, most) = (1 + below(&mut noisy, 70), 1 + below(&mut noisy, 12));
                let prompt: Vec<u32> = text(length as u32).into_iter().map(|token| token % 61).collect();
                let expected = uncut(&gpu, &model, options, (&prompt, most, &how));
                let finest = any_time(&mut noisy);
                let mut driven = gpu.block_on(model.session(options)).unwrap().driven().finest(finest);
                driven.generate(&prompt, most, &how);
                let mut submit = |frame: lampyris::wgpu::CommandEncoder| {
                    host.queue.submit([frame.finish()]);
                };
                let (tokens, _) = answer((&host, &mut driven), &mut || any_time(&mut noisy), &mut submit);
                let what = format!("{}: {length} tokens and {most} more, finest {finest:?}, of {config}", host.name);
                assert_eq!(tokens, expected.0, "{what}");
                let session = settled(&host, &gpu, driven);
                assert!(cache_of(&gpu.block_on(session.save()).unwrap()) == expected.1, "{what}: another cache");
            }
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// Runs a plan whole, then in pieces of random sizes at random budgets, and wants the same of both.
fn cut_at_random(
    (host, gpu): (&Host, &Gpu),
    (plan, store): (Plan, &ConstantStore),
    noisy: &mut Noise,
    inputs: &mut dyn FnMut(&mut Noise) -> Vec<Vec<u32>>,
    what: &str,
) {
    let plan = gpu.block_on(GpuPlan::new(gpu, Arc::new(plan), store, VariantChoice::Best)).unwrap();
    let names: Vec<&'static str> =
        plan.plan().inputs.iter().map(|id| &*plan.plan().tensor(*id).name.clone().leak()).collect();
    for round in 0..if full_tier() { 8 } else { 2 } {
        let given = inputs(noisy);
        let words: Vec<InputData<'_>> = given.iter().map(|words| InputData::Words(words)).collect();
        let whole = gpu.block_on(plan.run(&words)).unwrap();
        let room = given.iter().map(Vec::len).sum();
        let finest = any_time(noisy);
        let mut course = gpu.block_on(Course::new(gpu, std::slice::from_ref(&plan), finest, room)).unwrap();
        let written =
            names.iter().zip(&given).map(|(name, words)| Written { name, at: 0, words: words.clone().into() });
        let begin = written.collect();
        let mut job = Some(Job { part: 0, tag: 0, positions: 0, begin, again: Few::None, outputs: true });
        let (mut found, mut frames): (Option<Vec<HostTensor>>, usize) = (None, 0);
        while found.is_none() {
            assert!(frames < 100_000, "{what}: nothing came");
            let mut frame = encoder(host);
            let mut budget = Budget::gpu(any_time(noisy));
            let steps = course.record(&mut frame, &mut budget, &mut || job.take()).unwrap();
            host.queue.submit([frame.finish()]);
            gpu.pump();
            match course.event().unwrap() {
                Some(Event::Ran { outputs, .. }) => found = Some(outputs),
                Some(other) => panic!("{what}: {other:?}"),
                None if steps == 0 => std::thread::sleep(Duration::from_micros(300)),
                None => {}
            }
            frames += 1;
        }
        assert!(found == Some(whole), "{what}, round {round}, finest {finest:?}: other bits on {}", host.name);
    }
}

#[test]
fn pictures_and_sentences_cut_at_random_budgets_are_the_uncut_ones() {
    let tensors =
        TensorFile::from(Weights::from_bytes("noise", crate::bert::safetensors(&crate::bert::tensors())).unwrap());
    for host in hosts() {
        let (gpu, mut noisy) = (host.guest(), Noise::new(31));
        for name in NETWORKS {
            let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(name))).unwrap();
            let plan = classifier.plan(1, Pixels::Rgba8).unwrap();
            let mut pictures = |noisy: &mut Noise| {
                let side = classifier.preprocess().crop;
                vec![(0..side * side).map(|_| (noisy.real(0.0, 1.0) * 4e9) as u32).collect()]
            };
            cut_at_random((&host, &gpu), (plan, &ConstantStore::new()), &mut noisy, &mut pictures, name);
        }
        let config = Some(serde_json::to_vec(&crate::bert::config()).unwrap());
        let files = EncoderFiles::new(tensors.clone(), config);
        let sentences = TokenEncoder::new(&gpu, files, EncoderOptions::default()).unwrap();
        for rows in [8, 24] {
            let plan = sentences.plan(EncoderPlan { rows, sequences: Some(2) }).unwrap();
            let mut texts = |noisy: &mut Noise| {
                let first = below(noisy, rows);
                let tokens = (0..rows).map(|_| below(noisy, crate::bert::VOCABULARY) as u32).collect();
                let lengths = [first, rows - first];
                use lampyris::engine::kernels::text::{spans_of_rows, spans_of_sequences};
                vec![tokens, spans_of_rows(&lengths, rows), spans_of_sequences(&lengths, 2)]
            };
            let what = format!("sentences in {rows} rows");
            cut_at_random((&host, &gpu), (plan, &ConstantStore::new()), &mut noisy, &mut texts, &what);
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn a_watched_picture_at_random_budgets_is_the_classified_one() {
    for host in hosts() {
        let (gpu, mut noisy) = (host.guest(), Noise::new(37));
        for name in NETWORKS {
            let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(name))).unwrap();
            let mut eyes = gpu.block_on(classifier.driven()).unwrap();
            for round in 0..if full_tier() { 10 } else { 2 } {
                let side = 1 + below(&mut noisy, 300) as u32;
                let bytes: Vec<u8> = (0..side * side * 4).map(|_| below(&mut noisy, 256) as u8).collect();
                let input = || Input::rgba8(bytes.as_slice(), side, side);
                let expected = gpu.block_on(classifier.classify(input())).unwrap();
                let mut frame = encoder(&host);
                eyes.look(&mut frame, &mut Budget::gpu(any_time(&mut noisy)), input()).unwrap();
                host.queue.submit([frame.finish()]);
                let answered = (0..100_000).find_map(|_| {
                    let mut frame = encoder(&host);
                    let tick = eyes.tick(&mut frame, &mut Budget::gpu(any_time(&mut noisy))).unwrap();
                    host.queue.submit([frame.finish()]);
                    gpu.pump();
                    match tick {
                        Tick::Done(answer) => return Some(answer),
                        Tick::Working(_) => std::thread::sleep(Duration::from_micros(100)),
                        other => panic!("{other:?} on {}", host.name),
                    }
                    None
                });
                let found = answered.unwrap();
                assert_eq!(found.logits, expected.logits, "{name}, round {round} on {}", host.name);
                assert_eq!(found.probabilities, expected.probabilities, "{name}, round {round} on {}", host.name);
                assert_eq!(found.features, expected.features, "{name}, round {round} on {}", host.name);
            }
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// The page for guests says that a host's threads can compile what a classifier needs before it is loaded.
#[test]
fn what_a_classifier_compiles_is_known_before_it_is_loaded() {
    for host in hosts() {
        let pipelines = || host.objects().into_iter().find(|(what, _)| *what == "pipelines").unwrap().1;
        let (gpu, needs) = (host.guest(), Classifier::needs(fixture("mobilenet_v3_small_w025")).unwrap());
        let (jobs, none) = (gpu.warm_jobs([&needs.plan]), pipelines());
        assert!(jobs.len() > 5, "{}: {jobs:?}", host.name);
        std::thread::scope(|scope| jobs.into_iter().for_each(|job| drop(scope.spawn(|| job.run()))));
        let warm = pipelines();
        assert!(warm > none && gpu.warm_jobs([&needs.plan]).is_empty(), "{}: {none} and {warm} pipelines", host.name);
        let loaded = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        assert_eq!(pipelines(), warm, "{}: loading has compiled something", host.name);
        drop(loaded);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}
