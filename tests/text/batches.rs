//! Sequences that go on together, the weights read once for all of them: each must say what it says alone, on every adapter and the
//! CPU executor. Equal means within the tolerances (other shapes, so other sums): the same tokens, unless two were as likely.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::{Runs, kinds, logits_by};
use crate::support::{devices, full_tier, material, relative};
use lampyris::engine::gpu::States;
use lampyris::models::decoder::{CacheFormat, Decoder, Head, Products, Sampling, Session, SessionOptions, Together};
use lampyris::{AnswerOptions, Error, Gpu, TextModel};
use std::sync::Arc;

/// Room of every session.
const CONTEXT: usize = 64;

/// Texts of one token, of more than a chunk of a prompt, and between.
fn texts() -> Vec<Vec<u32>> {
    [1, 37, 5, 12].iter().map(|n| (0..*n).map(|i| (i * i + 3 * i + 7 * n) % 61).collect()).collect()
}

fn session(gpu: &Gpu, model: &Decoder, cache: CacheFormat, text: &[u32]) -> Session {
    let options = SessionOptions::default().context(CONTEXT).cache(cache);
    let mut session = gpu.block_on(model.session(options)).unwrap();
    gpu.block_on(session.feed(text)).unwrap();
    session
}

/// The tokens that `most` runs give each session.
fn take(gpu: &Gpu, together: &mut Together<'_>, most: usize, sessions: usize) -> Vec<Vec<u32>> {
    let mut found = vec![Vec::new(); sessions];
    for _ in 0..most {
        for (at, token) in gpu.block_on(together.next()).unwrap() {
            found[at].push(token);
        }
    }
    found
}

/// Devices for the tests that open many sessions: the first, the CPU executor, and in the full tier all.
fn some_devices() -> Vec<(String, Gpu)> {
    let all = devices().into_iter().enumerate();
    all.filter(|(at, (_, gpu))| full_tier() || *at == 0 || gpu.is_cpu_executor()).map(|(_, device)| device).collect()
}

/// Asserts that a text goes on alone, in a session of its own, as it did beside others: where they part, both tokens are as likely. Each
/// logit may lie 1e-4 of the largest from that of another shape, hence the difference of two of them twice that.
fn assert_same(gpu: &Gpu, alone: &mut Session, text: &[u32], beside: &[u32], what: &str) {
    alone.rewind(0);
    gpu.block_on(alone.feed(text)).unwrap();
    let mut generation = alone.generate(beside.len()).unwrap();
    let found: Vec<u32> = std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect();
    assert_eq!(found.len(), beside.len(), "{what}");
    let Some(at) = found.iter().zip(beside).position(|(a, b)| a != b) else { return };
    let shared = [text, &found[..at]].concat();
    alone.rewind(0);
    gpu.block_on(alone.feed(&shared)).unwrap();
    let logits = gpu.block_on(alone.logits_from(shared.len() - 1)).unwrap();
    let [a, b] = [found[at], beside[at]].map(|token| logits[token as usize]);
    let largest = logits.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    assert!((a - b).abs() <= 2e-4 * largest, "{what}, token {at}: {beside:?} beside others, {found:?} alone");
}

#[test]
fn sequences_say_together_what_each_says_alone() {
    let first = some_devices().remove(0).0;
    for (name, gpu) in devices() {
        let all = full_tier() || gpu.is_cpu_executor() || name == first;
        for (kind, files) in kinds().into_iter().take(if all { usize::MAX } else { 1 }) {
            let formats = [CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8];
            let formats = &formats[..if kind == "llama" && all { 3 } else { 1 }];
            let model = Decoder::new(&gpu, files).unwrap();
            for cache in formats.iter().copied() {
                let mut sessions: Vec<Session> =
                    texts().iter().map(|text| session(&gpu, &model, cache, text)).collect();
                let count = sessions.len();
                let before = gpu.counts();
                let mut together = model.together(&mut sessions, &Sampling::greedy()).unwrap();
                let found = take(&gpu, &mut together, 10, count);
                if !gpu.is_cpu_executor() {
                    let submits = gpu.counts().submits - before.submits;
                    // One for each of ten runs of all, and those submitted ahead.
                    assert!(submits <= 14, "{kind} on {name}: {submits} submits");
                }
                let mut alone = session(&gpu, &model, cache, &[]);
                for (at, (text, beside)) in texts().iter().zip(&found).enumerate() {
                    assert_eq!(beside.len(), 10);
                    let expected = [&text[..], beside].concat();
                    assert_eq!(sessions[at].tokens(), expected, "{kind} on {name}");
                    assert_same(&gpu, &mut alone, text, beside, &format!("{kind} on {name}, {cache:?}, {at}"));
                }
                assert_ne!(found[0], found[1], "{kind} on {name}");
            }
        }
    }
}

/// Not the tokens alone: every logit, of texts that go on with the same tokens alone as a prompt and together as batches.
#[test]
fn logits_together_are_those_of_each_alone() {
    const STEPS: usize = 6;
    let next = |at: usize, step: usize| ((7 * at + 13 * step + step * step) % 61) as u32;
    let whole: Vec<Vec<u32>> = texts()
        .into_iter()
        .enumerate()
        .map(|(at, text)| text.into_iter().chain((0..STEPS).map(|step| next(at, step))).collect())
        .collect();
    for (name, gpu) in devices() {
        for (kind, files) in kinds() {
            let model = Decoder::new(&gpu, files).unwrap();
            let begun = |text: &Vec<u32>| {
                let mut runs = Runs::new(&model, text, CONTEXT, Products::Exact);
                runs.run(text.len() - STEPS);
                runs.states
            };
            let alone = |text: &Vec<u32>| logits_by(&model, text, &[text.len()], Products::Exact);
            let (states, alone): (Vec<States>, Vec<Vec<f32>>) = whole.iter().map(|it| (begun(it), alone(it))).unzip();
            let parts: Vec<(String, &States)> =
                states.iter().enumerate().map(|(at, it)| (at.to_string(), it)).collect();
            let plan = model.plan_together(whole.len(), CONTEXT, CacheFormat::F32, Head::Logits).unwrap();
            let joined = States::joined(&gpu, &parts);
            let executor = gpu.block_on(model.executor(Arc::new(plan), &joined)).unwrap();
            let mut worst = 0.0f32;
            for step in 0..STEPS {
                let place = |text: &[u32]| text.len() - STEPS + step;
                for (states, text) in states.iter().zip(&whole) {
                    states.write("cursor", 0, &[place(text) as u32, 1]).unwrap();
                }
                let beside = gpu.block_on(executor.run(&[])).unwrap();
                assert_eq!(beside.len(), whole.len());
                for ((text, alone), beside) in whole.iter().zip(&alone).zip(&beside) {
                    let error = relative(&beside.values(), &alone[61 * place(text)..][..61]);
                    assert!(error < 1e-4, "{kind} on {name}, {} tokens and {step}: {error:e}", text.len() - STEPS);
                    worst = worst.max(error);
                }
            }
            eprintln!("{kind} on {name}: logits together {worst:e} from those of each alone");
        }
    }
}

#[test]
fn some_end_and_others_begin_while_the_rest_goes_on() {
    for (name, gpu) in some_devices() {
        let model = Decoder::new(&gpu, kinds().remove(0).1).unwrap();
        let texts = texts();
        let mut sessions: Vec<Session> =
            texts[..3].iter().map(|text| session(&gpu, &model, CacheFormat::F32, text)).collect();
        let mut together = model.together(&mut sessions, &Sampling::greedy()).unwrap();
        let first = take(&gpu, &mut together, 4, 3);
        together.stop(0);
        let second = take(&gpu, &mut together, 3, 3);
        assert!(second[0].is_empty(), "{name}: {second:?}");
        gpu.block_on(together.begin(0, &texts[3])).unwrap();
        let third = take(&gpu, &mut together, 5, 3);
        let mut alone = session(&gpu, &model, CacheFormat::F32, &[]);
        let mut check = |text: &[u32], parts: &[&[u32]], what: &str| {
            assert_same(&gpu, &mut alone, text, &parts.concat(), &format!("{what} on {name}"));
        };
        check(&texts[0], &[&first[0]], "the one that ended");
        check(&texts[1], &[&first[1], &second[1], &third[1]], "the one that went on");
        check(&texts[3], &[&third[0]], "the one that began");
        // The longest one ends where its context does, and the others after it.
        let mut rest = 0;
        while !gpu.block_on(together.next()).unwrap().is_empty() {
            rest += 1;
        }
        assert_eq!(rest, CONTEXT - texts[3].len() - 5, "{name}");
        assert!(sessions.iter().all(|session| session.tokens().len() <= CONTEXT));
        assert_eq!((sessions[1].tokens().len(), sessions[0].tokens().len()), (CONTEXT, CONTEXT), "{name}");
    }
}

#[test]
fn draws_are_those_that_each_makes_alone() {
    let sampling = Sampling::at(0.9).top_k(20).seed(11);
    for (name, gpu) in some_devices() {
        let model = Decoder::new(&gpu, kinds().remove(0).1).unwrap();
        let mut sessions: Vec<Session> =
            texts().iter().map(|text| session(&gpu, &model, CacheFormat::F32, text)).collect();
        let count = sessions.len();
        let found = take(&gpu, &mut model.together(&mut sessions, &sampling).unwrap(), 8, count);
        let (mut same, mut alone) = (0, session(&gpu, &model, CacheFormat::F32, &[]));
        for (text, found) in texts().iter().zip(&found) {
            alone.rewind(0);
            gpu.block_on(alone.feed(text)).unwrap();
            let mut generation = alone.sample(8, &sampling).unwrap();
            let expected: Vec<u32> = std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect();
            same += usize::from(*found == expected);
        }
        // A draw that is decided by the last bits of a logit is rare: one in 32 would be far more than logits differ by.
        assert_eq!(same, count, "{name}");
    }
}

#[test]
fn what_cannot_go_on_together_is_refused() {
    let gpu = Gpu::cpu_executor();
    let open = || Decoder::new(&gpu, kinds().remove(0).1).unwrap();
    let (model, text) = (open(), [1, 2, 3]);
    let refused = |mut sessions: Vec<Session>, named: &str| {
        let error = model.together(&mut sessions, &Sampling::greedy()).unwrap_err();
        assert!(error.to_string().contains(named), "{named} is not in: {error}");
    };
    let plain = || session(&gpu, &model, CacheFormat::F32, &text);
    let with = |options: SessionOptions| {
        let mut session = gpu.block_on(model.session(options)).unwrap();
        gpu.block_on(session.feed(&text)).unwrap();
        session
    };
    refused(vec![plain(), with(SessionOptions::from(32))], "differ in their room");
    refused(vec![plain(), session(&gpu, &model, CacheFormat::F16, &text)], "how their keys and values");
    refused(vec![plain(), with(SessionOptions::from(CONTEXT).slide(2))], "slides");
    refused(vec![plain(), session(&gpu, &open(), CacheFormat::F32, &text)], "another model");
    let mut empty = [session(&gpu, &model, CacheFormat::F32, &[])];
    let error = model.together(&mut empty, &Sampling::greedy()).unwrap_err();
    assert!(matches!(error, Error::Context { tokens: 0, .. }), "{error}");
    assert!(gpu.block_on(model.together(&mut [], &Sampling::greedy()).unwrap().next()).unwrap().is_empty());
}

#[test]
fn many_prompts_get_the_answers_that_each_gets_alone() {
    let Some(material) = material() else { return };
    let folder = material.join("stories260k/hf");
    // More than are written side by side, and one that leaves no room.
    let mut prompts: Vec<String> = [
        "Once upon a time",
        "Lily",
        "The dog ran",
        "One day, a bird",
        "Tom and his mom",
        "It was",
        "A big",
        "She said",
    ]
    .iter()
    .flat_map(|prompt| [(*prompt).to_owned(), format!("{prompt} was happy. The")])
    .take(11)
    .collect();
    prompts.push("so ".repeat(40));
    for (name, gpu) in some_devices() {
        let model = gpu.block_on(TextModel::load(&gpu, &folder)).unwrap();
        let options = AnswerOptions::new(24).stop("happy").stop("play");
        let together = gpu.block_on(model.generate_batch(&prompts, 64, options.clone())).unwrap();
        assert_eq!(together.len(), prompts.len(), "{name}");
        let (mut session, mut lengths) = (gpu.block_on(model.session(64)).unwrap(), Vec::new());
        for (prompt, beside) in prompts.iter().zip(&together) {
            let mut answer = gpu.block_on(session.generate(prompt, options.clone())).unwrap();
            let mut text = String::new();
            while let Some(piece) = gpu.block_on(answer.next()).unwrap() {
                text += &piece;
            }
            assert_eq!((&beside.text, &beside.ids[..]), (&text, answer.ids()), "{prompt:?} on {name}");
            lengths.push(beside.ids.len());
        }
        lengths.sort_unstable();
        lengths.dedup();
        assert!(lengths.len() > 2, "{name}: all answers are {lengths:?} tokens long");
        let error = gpu.block_on(model.generate_batch(["a", &"long ".repeat(99)], 64, 4)).unwrap_err();
        assert!(matches!(error, Error::Context { context: 64, .. }), "{error}");
    }
}
