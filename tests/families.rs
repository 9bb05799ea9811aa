//! Small random decoders of every family against an independent implementation: logits of every position, and greedy tokens, on
//! every adapter and the CPU executor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::models::decoder::{Decoder, DecoderFiles};
use serde_json::Value;
use support::{Tensors, devices, full_tier, material, relative};

/// Models whose weights lie in a folder of that name.
const MODELS: [&str; 17] = [
    "gemma2",
    "gemma3",
    "gemma3-scaled",
    "llama-7to1",
    "llama-bias-linear",
    "llama-hd80",
    "llama-hd96",
    "llama3-rope",
    "mistral-swa",
    "phi3",
    "phi3-longrope",
    "qwen2",
    "qwen2-yarn",
    "qwen3",
    "qwen3-moe",
    "qwen3-moe-mixed",
    "smollm2",
];

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// On a device the Hugging Face files, in the full tier and on the CPU executor the GGUF twins as well.
#[test]
fn logits_and_tokens_of_the_references() {
    let Some(material) = material() else { return };
    for (name, gpu) in devices() {
        let (mut worst, mut count) = ((0.0f32, String::new()), 0);
        for family in MODELS {
            let folder = material.join("families").join(family);
            let reference: Value =
                serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
            let tensors = Tensors::open(&folder.join("reference.safetensors"));
            let twin = folder.join("model.gguf");
            let twin = (twin.exists() && (full_tier() || gpu.is_cpu_executor())).then_some(twin);
            for path in [folder.join("model.safetensors")].into_iter().chain(twin) {
                count += 1;
                let model = Decoder::new(&gpu, DecoderFiles::open(&path).unwrap()).unwrap();
                let what = format!("{} on {name}", path.display());
                for (at, prompt) in reference["prompts"].as_array().unwrap().iter().enumerate() {
                    let (prompt, greedy) = (ids(prompt), &reference[format!("greedy.{at}")]);
                    let expected = if greedy.is_null() { Vec::new() } else { ids(&greedy["ids"]) };
                    let mut session = gpu.block_on(model.session(prompt.len() + expected.len())).unwrap();
                    gpu.block_on(session.feed(&prompt)).unwrap();
                    let logits = gpu.block_on(session.logits()).unwrap();
                    let error = relative(&logits, &tensors.f32(&format!("logits.{at}")));
                    assert!(error <= 1e-3, "{what}, prompt {at}: {error:e}");
                    if error > worst.0 {
                        worst = (error, what.clone());
                    }
                    let mut found = Vec::new();
                    let mut generation = session.generate(expected.len()).unwrap();
                    while let Some(token) = gpu.block_on(generation.next()).unwrap() {
                        found.push(token);
                    }
                    assert_eq!(found, expected, "{what}, prompt {at}");
                }
            }
        }
        eprintln!("{name}: {count} files, worst logits {:e} ({})", worst.0, worst.1);
    }
}
