//! Decoders whose weights lie in super-blocks: logits and tokens against an independent implementation with dequantized weights, on
//! every adapter and the CPU executor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{Tensors, devices, material, relative};
use lampyris::models::decoder::{Decoder, DecoderFiles};
use serde_json::Value;

/// The files by the names that the reference has for them; the mixed one stores values, embeddings and one projection in Q6_K.
const FILES: [&str; 6] = ["Q2_K", "Q3_K", "Q4_K_M", "Q5_K", "Q6_K", "IQ4_XS"];

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn logits_and_tokens_of_the_references() {
    let Some(material) = material() else { return };
    let folder = material.join("families/kquant");
    let references: Value = serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let tensors = Tensors::open(&folder.join("reference.safetensors"));
    for (name, gpu) in devices() {
        for file in FILES {
            let reference = &references[file];
            let path = folder.join(format!("model-{file}.gguf"));
            let stored = std::fs::metadata(&path).unwrap().len();
            let model = Decoder::new(&gpu, DecoderFiles::open(&path).unwrap()).unwrap();
            let mut worst = 0.0f32;
            for (at, prompt) in reference["prompts"].as_array().unwrap().iter().enumerate() {
                let (prompt, greedy) = (ids(prompt), &reference[format!("greedy.{at}")]);
                let expected = if greedy.is_null() { Vec::new() } else { ids(&greedy["ids"]) };
                let mut session = gpu.block_on(model.session(prompt.len() + expected.len())).unwrap();
                gpu.block_on(session.feed(&prompt)).unwrap();
                let logits = gpu.block_on(session.logits()).unwrap();
                worst = worst.max(relative(&logits, &tensors.f32(&format!("{file}.logits.{at}"))));
                assert!(worst <= 1e-3, "{file} on {name}, prompt {at}: {worst:e}");
                let mut found = Vec::new();
                let mut generation = session.generate(expected.len()).unwrap();
                while let Some(token) = gpu.block_on(generation.next()).unwrap() {
                    found.push(token);
                }
                assert_eq!(found, expected, "{file} on {name}, prompt {at}");
            }
            // Panels of the 257 rows of the embedding are full at 288, and the angles of positions are constants too.
            let bytes = model.weight_bytes();
            assert!(bytes as f64 <= 1.2 * stored as f64, "{file} on {name}: {bytes} bytes of weights from {stored}");
            eprintln!("{file} on {name}: logits {worst:e}, {bytes} bytes of weights from {stored}");
        }
    }
}
