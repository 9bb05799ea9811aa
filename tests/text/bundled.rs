//! The bundled models on every adapter and the CPU executor: what the drawings show, and a story token for token.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::photos::input;
use crate::support::{devices, relative};
use lampyris::models::bundled::{SAMPLES, SKETCHES, STORYTELLER, sketches, storyteller};
use lampyris::models::decode::{Limits, decode_image};
use lampyris::models::decoder::Sampling;
use lampyris::models::text::{Conversation, Message};
use lampyris::models::text_model::{AnswerOptions, TextModel};
use lampyris::{Classifier, Gpu, Input};

/// How far logits may lie apart, relative to the largest.
const TOLERANCE: f32 = 1e-3;
/// Tokens of the story that are compared.
const TOKENS: usize = 48;

/// The logits of the bundled drawings.
fn seen(gpu: &Gpu) -> Vec<Vec<f32>> {
    let classifier = gpu.block_on(Classifier::bundled(gpu)).unwrap();
    let named = |sample: &lampyris::models::bundled::Sample| {
        let picture = decode_image(sample.label, sample.png, &Limits::default()).unwrap();
        let answer = gpu.block_on(classifier.classify(input(&picture))).unwrap();
        let first = &answer.top(1)[0];
        assert_eq!(first.label, sample.label, "on {}: {:?}", gpu.summary(), answer.top(3));
        assert!(first.probability > 0.5, "on {}: {first:?}", gpu.summary());
        answer.logits
    };
    SAMPLES.iter().map(named).collect()
}

#[test]
fn drawings_are_named_alike_everywhere() {
    let reference = seen(&Gpu::cpu_executor());
    for (name, gpu) in devices() {
        let worst = seen(&gpu).iter().zip(&reference).map(|(a, b)| relative(a, b)).fold(0.0, f32::max);
        eprintln!("{name}: logits {worst:e}");
        assert!(worst <= TOLERANCE, "{name}: {worst:e}");
    }
}

/// What is asked for: its story has no place where two tokens are about as likely as each other.
const REQUEST: &str = "Write a story about Ida and a key.";
/// The story, as the network of `models/training/text` tells it in PyTorch with the file's numbers.
const STORY: [u32; TOKENS] = [
    548, 368, 398, 267, 897, 413, 14, 293, 549, 766, 282, 714, 16, 401, 360, 350, 1231, 714, 485, 267, 886, 938, 350,
    264, 1149, 16, 1087, 991, 475, 805, 403, 543, 439, 489, 312, 926, 604, 1159, 349, 323, 310, 735, 264, 421, 16, 714,
    1309, 1480,
];

/// The tokens of a request for a story.
fn request(model: &TextModel, text: &str) -> Vec<u32> {
    let conversation = Conversation::new([Message::user(text)]);
    model.template().unwrap().encode(&conversation, model.tokenizer()).unwrap()
}

/// The likeliest tokens after `prompt`, one after another.
fn told(gpu: &Gpu, model: &TextModel, prompt: &[u32]) -> Vec<u32> {
    let mut session = gpu.block_on(model.decoder().session(prompt.len() + TOKENS)).unwrap();
    gpu.block_on(session.feed(prompt)).unwrap();
    let mut tokens = session.generate(TOKENS).unwrap();
    let mut found = Vec::new();
    while let Some(token) = gpu.block_on(tokens.next()).unwrap() {
        found.push(token);
    }
    found
}

/// The logits after each token of `text` from number `from` on.
fn logits(gpu: &Gpu, model: &TextModel, text: &[u32], from: usize) -> Vec<f32> {
    let mut session = gpu.block_on(model.decoder().session(text.len())).unwrap();
    gpu.block_on(session.feed(text)).unwrap();
    gpu.block_on(session.logits_from(from)).unwrap()
}

/// How far the likeliest of these logits is ahead of the next, relative to the largest.
fn margin(logits: &[f32]) -> f32 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    (sorted[0] - sorted[1]) / logits.iter().fold(0.0, |most: f32, it| most.max(it.abs()))
}

#[test]
fn a_story_is_told_token_for_token_alike_everywhere() {
    let cpu = Gpu::cpu_executor();
    let model = TextModel::bundled(&cpu).unwrap();
    let vocabulary = model.decoder().config().vocabulary;
    let prompt = request(&model, REQUEST);
    let story = told(&cpu, &model, &prompt);
    assert_eq!(story, STORY, "{:?}", model.tokenizer().decode(&story, false));
    let text = [&prompt[..], &story[..TOKENS - 1]].concat();
    let reference = logits(&cpu, &model, &text, prompt.len() - 1);
    // Where two tokens are as likely as each other within the tolerance, no adapter need choose the same.
    let least = reference.chunks(vocabulary).map(margin).fold(f32::MAX, f32::min);
    assert!(least > 2.0 * TOLERANCE, "{least:e}");
    for (name, gpu) in devices() {
        let model = TextModel::bundled(&gpu).unwrap();
        let worst = relative(&logits(&gpu, &model, &text, prompt.len() - 1), &reference);
        eprintln!("{name}: logits {worst:e}");
        assert!(worst <= TOLERANCE, "{name}: {worst:e}");
        assert_eq!(told(&gpu, &model, &prompt), story, "{name}");
    }
}

#[test]
fn a_conversation_ends_by_itself_and_is_remembered() {
    let gpu = Gpu::cpu_executor();
    let model = TextModel::bundled(&gpu).unwrap();
    let mut session = gpu.block_on(model.session(400)).unwrap();
    let mut turns = vec![Message::user("Tell me a story about Ben and a key.")];
    for asked in ["Who is the story about?", ""] {
        let options = AnswerOptions::new(300).sampling(Sampling::greedy());
        let mut answer = gpu.block_on(session.chat(&Conversation::new(turns.clone()), options)).unwrap();
        let mut said = String::new();
        while let Some(piece) = gpu.block_on(answer.next()).unwrap() {
            said += &piece;
        }
        assert!(answer.ids().len() < 300 && said.ends_with(['.', '!', '"']), "{said}");
        turns.extend([Message::assistant(said), Message::user(asked)]);
    }
}

#[test]
fn they_are_as_small_as_promised_and_say_who_they_are() {
    let lampyris::Source::Files { weights, config, .. } = sketches().unwrap() else {
        panic!("bundled files are in memory")
    };
    assert!(weights.total_bytes() <= 1 << 20 && config.is_some());
    assert_eq!(weights.file(), SKETCHES);
    let story = storyteller().unwrap();
    let bytes: u64 = story.decoder.weights.tensors().map(|it| it.bytes).sum();
    let numbers: usize = story.decoder.weights.tensors().map(|it| it.shape.iter().product::<usize>()).sum();
    assert!(bytes <= 4 << 20 && (1_000_000..=3_000_000).contains(&numbers), "{bytes} bytes, {numbers} numbers");
    assert_eq!(story.decoder.weights.file(), STORYTELLER);
    let gpu = Gpu::cpu_executor();
    let classifier = gpu.block_on(Classifier::bundled(&gpu)).unwrap();
    assert_eq!(classifier.preprocess().crop, 64);
    let settings = classifier.network().settings();
    assert!(settings.assumed.is_empty(), "left open: {:?}", settings.assumed);
    let labels: Vec<&str> = (0..settings.labels.classes()).filter_map(|class| settings.labels.get(class)).collect();
    assert!(
        labels.len() >= 30 && ["0", "9", "circle", "house", "fish"].iter().all(|it| labels.contains(it)),
        "{labels:?}"
    );
    // An empty page is no drawing, but has an answer as well.
    let page = gpu.block_on(classifier.classify(Input::rgba8(vec![255; 64 * 64 * 4], 64, 64))).unwrap();
    assert!((page.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
}
