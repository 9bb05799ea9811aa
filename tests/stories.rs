//! A really trained decoder against an independent implementation's tokens, logits and perplexity, on every adapter and the CPU
//! executor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::models::decoder::{Decoder, DecoderFiles};
use serde_json::Value;
use support::{Tensors, devices, material, relative};

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn tokens_logits_and_perplexity_of_the_reference() {
    let Some(material) = material() else { return };
    let folder = material.join("stories260k");
    let reference: Value = serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let tensors = Tensors::open(&folder.join("reference.safetensors"));
    let expected = &reference["models"]["hf"];
    for (name, gpu) in devices() {
        let model = Decoder::new(&gpu, DecoderFiles::open(folder.join("hf")).unwrap()).unwrap();
        let mut worst = 0.0f32;
        for (at, (prompt, greedy)) in
            reference["prompts"].as_array().unwrap().iter().zip(expected["greedy"].as_array().unwrap()).enumerate()
        {
            let (prompt, greedy) = (ids(&prompt["ids"]), ids(&greedy["ids"]));
            let mut session = gpu.block_on(model.session(160)).unwrap();
            gpu.block_on(session.feed(&prompt)).unwrap();
            let logits = gpu.block_on(session.logits()).unwrap();
            let last = &logits[logits.len() - model.config().vocabulary..];
            worst = worst.max(relative(last, &tensors.f32(&format!("hf.prompt{at}.last_logits"))));
            let mut found = Vec::new();
            let mut generation = session.generate(greedy.len()).unwrap();
            while let Some(token) = gpu.block_on(generation.next()).unwrap() {
                found.push(token);
            }
            assert_eq!(found, greedy, "{name}, prompt {at}");
        }
        assert!(worst <= 1e-3, "{name}: {worst:e}");

        let text = ids(&reference["ppl_ids"]);
        let mut session = gpu.block_on(model.session(text.len())).unwrap();
        gpu.block_on(session.feed(&text)).unwrap();
        let logits = gpu.block_on(session.logits()).unwrap();
        let vocabulary = model.config().vocabulary;
        let loss = |(row, next): (&[f32], &u32)| {
            let top = f64::from(row.iter().fold(f32::MIN, |m, v| m.max(*v)));
            let total: f64 = row.iter().map(|v| (f64::from(*v) - top).exp()).sum();
            top + total.ln() - f64::from(row[*next as usize])
        };
        let losses: Vec<f64> = logits.chunks(vocabulary).zip(&text[1..]).map(loss).collect();
        let perplexity = (losses.iter().sum::<f64>() / losses.len() as f64).exp();
        let recorded = expected["perplexity"].as_f64().unwrap();
        eprintln!("{name}: logits {worst:e}, perplexity {perplexity:.5} ({recorded:.5} recorded)");
        assert!((perplexity - recorded).abs() < 5e-4, "{name}: {perplexity} and not {recorded}");
    }
}
