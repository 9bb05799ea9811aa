//! Draws on every adapter and the CPU executor: as often as they are likely, the same sequence everywhere for a seed, and the same
//! however an answer is cut.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{devices, full_tier, material};
use lampyris::engine::gpu::{ConstantStore, States};
use lampyris::engine::kernels::text::{CURSOR_WORDS, Draw, DrawSettings, Sample};
use lampyris::engine::kernels::{Desc, Format, HostTensor};
use lampyris::engine::{Executor, PlanBuilder};
use lampyris::models::decoder::{Decoder, DecoderFiles, Session};
use lampyris::{Error, Gpu, Sampling};
use std::sync::Arc;

/// Logits of eight tokens, one of which cannot be drawn.
const LOGITS: [f32; 8] = [0.5, -1.0, 2.0, f32::NEG_INFINITY, 1.0, 0.0, -3.0, 0.75];

/// Draws of [`LOGITS`] at one place after another, all with one seed.
fn draws(gpu: &Gpu, settings: DrawSettings, count: usize) -> Vec<u32> {
    let mut b = PlanBuilder::new();
    let word = |length: usize| Desc::new(Format::Word, [length]);
    let logits = b.input("logits", Desc::f32([1, LOGITS.len()]));
    let tokens = b.state("tokens", word(count));
    let cursor = b.state("cursor", word(CURSOR_WORDS));
    let sampling = b.state("sampling", word(DrawSettings::WORDS));
    let made = b.apply_all("draw", Draw, &[logits, tokens, cursor, sampling]).unwrap();
    b.output("token", made[0]);
    let plan = Arc::new(b.finish());
    let states = gpu.block_on(States::new(gpu, &[&plan])).unwrap();
    states.write("sampling", 0, &settings.words()).unwrap();
    let executor = gpu.block_on(Executor::with_states(gpu, plan, &ConstantStore::new(), &states, |_| ())).unwrap();
    let logits = HostTensor::from_values(Desc::f32([1, LOGITS.len()]), &LOGITS);
    for _ in 0..count {
        gpu.block_on(executor.run(std::slice::from_ref(&logits))).unwrap();
    }
    gpu.block_on(states.read("tokens")).unwrap().words
}

/// Two thousand draws are as frequent as the softmax says; the first adapter's are those of the CPU executor.
#[test]
fn draws_are_as_frequent_as_they_are_likely_and_equal_everywhere() {
    let count = 2000;
    let settings = DrawSettings { temperature: 0.8, seed: 11, ..DrawSettings::GREEDY };
    let found = devices();
    let (first, cpu) = (&found[0], &found[found.len() - 1]);
    let reference = draws(&cpu.1, settings, count);
    if first.0 != cpu.0 {
        let several = if full_tier() { count } else { 400 };
        assert_eq!(draws(&first.1, settings, several), reference[..several], "{}", first.0);
    }
    let weights = LOGITS.map(|l| (f64::from(l) / 0.8).exp());
    let total: f64 = weights.iter().sum();
    let mut chi_square = 0.0;
    for (token, weight) in weights.iter().enumerate() {
        let expected = weight / total * count as f64;
        let drawn = reference.iter().filter(|drawn| **drawn as usize == token).count() as f64;
        assert!(expected > 0.0 || drawn == 0.0, "token {token} was drawn");
        chi_square += if expected > 0.0 { (drawn - expected).powi(2) / expected } else { 0.0 };
    }
    // Six degrees of freedom; an honest generator exceeds this once in a thousand seeds, and the seed is fixed.
    assert!(chi_square < 22.46, "{chi_square}");
    assert!(reference.iter().all(|token| *token != Sample::NONE));
}

fn sample(gpu: &Gpu, session: &mut Session, most: usize, sampling: &Sampling) -> (Vec<u32>, Vec<f32>) {
    let mut generation = session.sample(most, sampling).unwrap();
    let (mut tokens, mut likely) = (Vec::new(), Vec::new());
    while let Some(token) = gpu.block_on(generation.next()).unwrap() {
        tokens.push(token);
        likely.extend(generation.log_probability());
    }
    (tokens, likely)
}

#[test]
fn a_seed_gives_one_story_on_every_device_however_it_is_cut() {
    let Some(material) = material() else { return };
    let folder = material.join("stories260k");
    let prompt = [1, 403, 407, 261, 378];
    let most = if full_tier() { 100 } else { 24 };
    let settings = [
        Sampling::at(1.0).top_p(0.9).seed(1),
        Sampling::at(0.8).top_k(40).top_p(0.95).min_p(0.05).repetition_penalty(1.1).seed(2),
        Sampling::greedy().frequency_penalty(0.5).presence_penalty(0.5),
        Sampling::greedy().log_probabilities(),
    ];
    let found = devices();
    let files = ["hf", "gguf/stories260K-Q4_0.gguf"];
    for file in if full_tier() { &files[..] } else { &files[..1] } {
        let mut expected: Vec<Vec<u32>> = Vec::new();
        // The CPU executor is the last, and here the reference.
        for (name, gpu) in found.iter().rev() {
            let model = Decoder::new(gpu, DecoderFiles::open(folder.join(file)).unwrap()).unwrap();
            let mut session = gpu.block_on(model.session(128)).unwrap();
            gpu.block_on(session.feed(&prompt)).unwrap();
            let mut stories = Vec::new();
            for sampling in &settings {
                session.rewind(prompt.len());
                let (story, likely) = sample(gpu, &mut session, most, sampling);
                let text = session.tokens().to_vec();
                // The log-probabilities are those of the logits, whatever was done to them.
                let logits = gpu.block_on(session.logits()).unwrap();
                for (at, found) in likely.iter().enumerate().take(10) {
                    let row = &logits[(prompt.len() + at - 1) * 512..][..512];
                    let total: f64 = row.iter().map(|l| f64::from(*l).exp()).sum();
                    let expected = f64::from(row[text[prompt.len() + at] as usize]) - total.ln();
                    assert!((f64::from(*found) - expected).abs() < 1e-3, "{file} on {name}: {found}, not {expected}");
                }
                assert_eq!(likely.len(), most, "{file} on {name}");
                // Cut in two, it is the same story.
                session.rewind(prompt.len());
                let mut pieces = sample(gpu, &mut session, 7, sampling).0;
                pieces.extend(sample(gpu, &mut session, most - 7, sampling).0);
                assert_eq!(pieces, story, "{file} on {name}, cut");
                stories.push(story);
            }
            session.rewind(prompt.len());
            let mut generation = session.generate(most).unwrap();
            for token in &stories[3] {
                assert_eq!(gpu.block_on(generation.next()).unwrap(), Some(*token), "{file} on {name}, likeliest");
            }
            drop(generation);
            session.rewind(prompt.len());
            assert_ne!(sample(gpu, &mut session, most, &settings[0].seed(3)).0, stories[0], "another seed");
            if expected.is_empty() {
                expected = stories;
            } else {
                assert_eq!(stories, expected, "{file} on {name}");
            }
        }
    }
}

#[test]
fn settings_without_meaning_are_refused_before_anything_changes() {
    let Some(material) = material() else { return };
    let gpu = Gpu::cpu_executor();
    let model = Decoder::new(&gpu, DecoderFiles::open(material.join("stories260k/hf")).unwrap()).unwrap();
    let mut session = gpu.block_on(model.session(16)).unwrap();
    gpu.block_on(session.feed(&[1])).unwrap();
    for wrong in [Sampling::at(f32::NAN), Sampling::at(1.0).top_p(0.0), Sampling::greedy().repetition_penalty(-1.0)] {
        assert!(matches!(session.sample(3, &wrong), Err(Error::Sampling { .. })), "{wrong:?}");
    }
    assert_eq!(session.tokens(), [1]);
}
