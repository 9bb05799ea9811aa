//! A really trained decoder against an independent implementation's tokens, logits and perplexity, on every adapter and the CPU
//! executor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{Tensors, devices, full_tier, material, relative};
use lampyris::models::decoder::{Decoder, DecoderFiles, Products, Session};
use lampyris::{Error, Gpu, TextModel};
use serde_json::Value;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The folder of Hugging Face's files and the GGUF files, by the names that the reference has for them.
const FILES: [(&str, &str); 9] = [
    ("hf", "hf"),
    ("F32", "gguf/stories260K-F32.gguf"),
    ("F16", "gguf/stories260K-F16.gguf"),
    ("BF16", "gguf/stories260K-BF16.gguf"),
    ("Q8_0", "gguf/stories260K-Q8_0.gguf"),
    ("Q4_0", "gguf/stories260K-Q4_0.gguf"),
    ("Q4_1", "gguf/stories260K-Q4_1.gguf"),
    ("Q5_0", "gguf/stories260K-Q5_0.gguf"),
    ("Q5_1", "gguf/stories260K-Q5_1.gguf"),
];

/// Perplexity of `text` by the logits of every position.
fn perplexity(logits: &[f32], text: &[u32], vocabulary: usize) -> f64 {
    let loss = |(row, next): (&[f32], &u32)| {
        let top = f64::from(row.iter().fold(f32::MIN, |m, v| m.max(*v)));
        let total: f64 = row.iter().map(|v| (f64::from(*v) - top).exp()).sum();
        top + total.ln() - f64::from(row[*next as usize])
    };
    let losses: Vec<f64> = logits.chunks(vocabulary).zip(&text[1..]).map(loss).collect();
    (losses.iter().sum::<f64>() / losses.len() as f64).exp()
}

/// Everything in the full tier and on the CPU executor; otherwise a device runs all prompts of the first file, and one of each other.
#[test]
fn tokens_logits_and_perplexity_of_the_reference() {
    let Some(material) = material() else { return };
    let folder = material.join("stories260k");
    let reference: Value = serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let tensors = Tensors::open(&folder.join("reference.safetensors"));
    let text = ids(&reference["ppl_ids"]);
    for (name, gpu) in devices() {
        for (file, path) in FILES {
            let expected = &reference["models"][file];
            let model = Decoder::new(&gpu, DecoderFiles::open(folder.join(path)).unwrap()).unwrap();
            let mut session = gpu.block_on(model.session(text.len())).unwrap();
            let mut worst = 0.0f32;
            let prompts = reference["prompts"].as_array().unwrap().iter().zip(expected["greedy"].as_array().unwrap());
            let all = full_tier() || gpu.is_cpu_executor() || file == "hf";
            for (at, (prompt, greedy)) in prompts.enumerate().take(if all { usize::MAX } else { 1 }) {
                let (prompt, greedy) = (ids(&prompt["ids"]), ids(&greedy["ids"]));
                session.rewind(0);
                gpu.block_on(session.feed(&prompt)).unwrap();
                let logits = gpu.block_on(session.logits()).unwrap();
                let last = &logits[logits.len() - model.config().vocabulary..];
                worst = worst.max(relative(last, &tensors.f32(&format!("{file}.prompt{at}.last_logits"))));
                let mut found = Vec::new();
                let mut generation = session.generate(greedy.len()).unwrap();
                while let Some(token) = gpu.block_on(generation.next()).unwrap() {
                    found.push(token);
                }
                assert_eq!(found, greedy, "{file} on {name}, prompt {at}");
            }
            assert!(worst <= 1e-3, "{file} on {name}: {worst:e}");
            if !all {
                continue;
            }
            session.rewind(0);
            gpu.block_on(session.feed(&text)).unwrap();
            let found = perplexity(&gpu.block_on(session.logits()).unwrap(), &text, model.config().vocabulary);
            let recorded = expected["perplexity"].as_f64().unwrap();
            eprintln!("{file} on {name}: logits {worst:e}, perplexity {found:.5} ({recorded:.5} recorded)");
            assert!((found - recorded).abs() < 5e-4, "{file} on {name}: {found} and not {recorded}");
            let mut read = 0;
            let again = gpu.block_on(model.perplexity(&text, Products::Exact, |tokens| read += tokens)).unwrap();
            assert!(
                (again - found).abs() < 1e-4 && read == text.len() as u64,
                "{file} on {name}: {again} and not {found}"
            );
            let short = gpu.block_on(model.perplexity(&text[..1], Products::Exact, |_| ())).unwrap_err();
            assert!(matches!(short, Error::Short { tokens: 1 }), "{short:?}");
        }
    }
}

/// How likely `text` is after `prompt`, by all logits of both.
fn log_probability(gpu: &Gpu, model: &TextModel, session: &mut Session, [prompt, text]: [&str; 2]) -> f64 {
    let ids = |text: &str| model.tokenizer().encode_document(text).unwrap();
    let (before, all) = (ids(prompt), ids(&format!("{prompt}{text}")));
    assert!(all.starts_with(&before) && all.len() > before.len(), "{before:?}, {all:?}");
    session.rewind(0);
    gpu.block_on(session.feed(&all)).unwrap();
    let logits = gpu.block_on(session.logits()).unwrap();
    let rows: Vec<&[f32]> = logits.chunks_exact(model.decoder().config().vocabulary).collect();
    let of = |at: usize| {
        let total: f64 = rows[at - 1].iter().map(|logit| f64::from(*logit).exp()).sum();
        f64::from(rows[at - 1][all[at] as usize]) - total.ln()
    };
    (before.len()..all.len()).map(of).sum()
}

#[test]
fn the_likeliest_continuation_is_the_one_that_makes_sense() {
    let Some(material) = material() else { return };
    let folder = material.join("stories260k");
    for (name, gpu) in devices() {
        let model = gpu.block_on(TextModel::load(&gpu, folder.join("hf"))).unwrap();
        let mut session = gpu.block_on(model.session(64)).unwrap();
        let options = [" a big mountain of salt", " a time", " time"];
        let choices = gpu.block_on(session.choose("Once upon", &options)).unwrap();
        let found: Vec<&str> = choices.iter().map(|choice| choice.text.as_str()).collect();
        assert_eq!((found[0], choices[0].index, found.len()), (" a time", 1, 3), "{name}: {choices:?}");
        let total: f64 = choices.iter().map(|choice| choice.probability).sum();
        assert!((total - 1.0).abs() < 1e-9 && choices[0].probability > 0.9, "{name}: {choices:?}");
        let mut other = gpu.block_on(model.decoder().session(64)).unwrap();
        for choice in &choices {
            let expected = log_probability(&gpu, &model, &mut other, ["Once upon", &choice.text]);
            let apart = (choice.log_probability - expected).abs();
            assert!(apart < 1e-4, "{name}: {choice:?}, {expected} by its logits");
            let sum: f64 = choices.iter().map(|other| (other.log_probability - choice.log_probability).exp()).sum();
            assert!((choice.probability - 1.0 / sum).abs() < 1e-9, "{name}: {choices:?}");
        }
        // Asked alone, a continuation is as likely as among others.
        let alone = gpu.block_on(session.choose("Once upon", &options[..1])).unwrap();
        let among = choices.iter().find(|choice| choice.index == 0).unwrap();
        assert!((alone[0].log_probability - among.log_probability).abs() < 1e-3, "{name}: {alone:?}, {among:?}");
        for (options, named) in [(&[][..], "no continuation was offered"), (&["", " a"][..], "adds nothing")] {
            let error = gpu.block_on(session.choose("Once upon", options)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
