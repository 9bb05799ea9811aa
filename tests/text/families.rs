//! Small random decoders of every family against an independent implementation: logits of every position, and greedy tokens, on
//! every adapter and the CPU executor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{Tensors, as_gpus, cpu_as_gpu, devices, full_tier, material, relative};
use lampyris::Gpu;
use lampyris::engine::gpu::States;
use lampyris::engine::weights::Weights;
use lampyris::models::decoder::{CacheFormat, Decoder, DecoderConfig, DecoderFiles, Head, PlanRequest, Products};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

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

/// The mixtures as on a GPU, which gathers the tokens of each expert.
#[test]
fn gathered_experts_give_the_logits_of_the_references() {
    let Some(material) = material() else { return };
    for (name, gpu) in as_gpus().into_iter().chain([cpu_as_gpu()]) {
        for family in ["qwen3-moe", "qwen3-moe-mixed"] {
            let folder = material.join("families").join(family);
            let reference: Value =
                serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
            let tensors = Tensors::open(&folder.join("reference.safetensors"));
            let files = DecoderFiles::open(folder.join("model.safetensors")).unwrap();
            let model = Decoder::new(&gpu, files).unwrap();
            for (at, prompt) in reference["prompts"].as_array().unwrap().iter().enumerate() {
                let prompt = ids(prompt);
                let mut session = gpu.block_on(model.session(prompt.len().max(32))).unwrap();
                gpu.block_on(session.feed(&prompt)).unwrap();
                let error = relative(&gpu.block_on(session.logits()).unwrap(), &tensors.f32(&format!("logits.{at}")));
                eprintln!("{family} on {name}, prompt {at}: {error:e}");
                assert!(error <= 1e-3, "{family} on {name}, prompt {at}: {error:e}");
            }
            let (context, cache, head, products) = (64, CacheFormat::F32, Head::Logits, Products::Exact);
            let plan = model.plan(PlanRequest { context, cache, tokens: 32, head, products }).unwrap();
            assert!(plan.steps.iter().any(|step| step.kernel.name() == "grouped_experts"), "{family} on {name}");
        }
    }
}

/// What flows between the layers of a run over `text`: the embeddings, and what each layer adds up to.
fn between_layers(gpu: &Gpu, model: &Decoder, text: &[u32]) -> Vec<Vec<f32>> {
    let (context, cache, tokens) = (text.len(), CacheFormat::F32, text.len());
    let request = PlanRequest { context, cache, tokens, head: Head::Logits, products: Products::Exact };
    let mut plan = model.plan(request).unwrap().with_every_step_visible();
    let layers = (0..model.config().layers).map(|layer| format!("layers.{layer}."));
    let last = |prefix: String| {
        let step = plan.steps.iter().rev().find(|step| step.name.starts_with(&prefix)).unwrap();
        (prefix, step.outputs[0])
    };
    plan.outputs = ["embed".to_owned()].into_iter().chain(layers).map(last).collect();
    let plan = Arc::new(plan);
    let states = gpu.block_on(States::new(gpu, &[&plan])).unwrap();
    states.write("tokens", 0, text).unwrap();
    states.write("cursor", 0, &[0, text.len() as u32]).unwrap();
    let executor = gpu.block_on(model.executor(plan, &states)).unwrap();
    gpu.block_on(executor.run(&[])).unwrap().iter().map(|rows| rows.values()).collect()
}

/// The norm before the head, which the references have in their last rows.
fn normed(rows: &[f32], file: &Path, config: &DecoderConfig) -> Vec<f32> {
    let gains = Weights::open(file).unwrap().f32("model.norm.weight").unwrap();
    let row = |row: &[f32]| {
        let mean = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / row.len() as f64;
        let factor = 1.0 / (mean + f64::from(config.epsilon)).sqrt();
        row.iter()
            .zip(&gains)
            .map(|(v, gain)| (f64::from(*v) * factor * f64::from(gain + config.gain_offset)) as f32)
            .collect::<Vec<f32>>()
    };
    rows.chunks(config.hidden).flat_map(row).collect()
}

/// Rows after the embeddings and after every layer, in the same files on the same devices as the logits.
#[test]
fn rows_between_the_layers_are_those_of_the_references() {
    let Some(material) = material() else { return };
    for (name, gpu) in devices() {
        let mut worst = (0.0f32, String::new());
        for family in MODELS {
            let folder = material.join("families").join(family);
            let reference: Value =
                serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
            let text = ids(&reference["prompts"][1]);
            let expected = Tensors::open(&folder.join("reference.safetensors")).f32("hidden_states.1");
            let (twin, file) = (folder.join("model.gguf"), folder.join("model.safetensors"));
            let read = Decoder::new(&gpu, DecoderFiles::open(&file).unwrap()).unwrap();
            let twin = (twin.exists() && (full_tier() || gpu.is_cpu_executor())).then_some(twin);
            for path in [file.clone()].into_iter().chain(twin) {
                let model = Decoder::new(&gpu, DecoderFiles::open(&path).unwrap()).unwrap();
                let mut found = between_layers(&gpu, &model, &text);
                let last = found.last_mut().unwrap();
                *last = normed(last, &file, read.config());
                let each = text.len() * model.config().hidden;
                assert_eq!(expected.len(), found.len() * each, "{}", path.display());
                for (at, (found, expected)) in found.iter().zip(expected.chunks(each)).enumerate() {
                    let error = relative(found, expected);
                    assert!(error <= 1e-3, "{} on {name}, after layer {at}: {error:e}", path.display());
                    if error > worst.0 {
                        worst = (error, format!("{}, after layer {at}", path.display()));
                    }
                }
            }
        }
        eprintln!("{name}: worst rows {:e} ({})", worst.0, worst.1);
    }
}
