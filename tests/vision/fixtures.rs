//! What PyTorch recorded of small networks, against every adapter: logits, feature vectors, and the output of every block, so
//! that a bare clone without any downloaded model proves as much.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::photos::json;
use crate::support::{NETWORKS, Tensors, channels_last, devices, fixture, relative};
use lampyris::engine::Executor;
use lampyris::engine::gpu::ConstantStore;
use lampyris::engine::kernels::HostTensor;
use lampyris::models::mobilenet::Pixels;
use lampyris::{Classifier, Gpu};
use serde_json::Value;
use std::sync::Arc;

/// Input images, and their side in pixels.
const IMAGES: usize = 2;
const SIDE: usize = 64;
/// How far a value may lie from the recorded one, relative to the largest.
const TOLERANCE: f32 = 1e-3;

fn pixels() -> Vec<f32> {
    channels_last(&Tensors::open(&fixture("pixels.safetensors")).f32("pixels"), SIDE)
}

#[test]
fn logits_and_features_are_the_recorded_ones() {
    let pixels = pixels();
    let devices = devices();
    for network in NETWORKS {
        let folder = fixture(network);
        let reference = Tensors::open(&folder.join("reference.safetensors"));
        // The feature vector is the global average, which is the head's last input where nothing lies between.
        let vector = if reference.names().contains(&"pooled") { "pooled" } else { "penultimate" };
        for (name, gpu) in &devices {
            let classifier = gpu.block_on(Classifier::load(gpu, &folder)).unwrap();
            let answers = gpu.block_on(classifier.classify_normalized(&pixels)).unwrap();
            assert_eq!(answers.len(), IMAGES);
            let logits: Vec<f32> = answers.iter().flat_map(|answer| answer.logits.clone()).collect();
            let features: Vec<f32> = answers.iter().flat_map(|answer| answer.features.clone()).collect();
            let errors = [relative(&logits, &reference.f32("logits")), relative(&features, &reference.f32(vector))];
            eprintln!("{network} on {name}: logits {:e} off, features {:e}", errors[0], errors[1]);
            assert!(errors.iter().all(|e| *e <= TOLERANCE), "{network} on {name}: {errors:?} off");
        }
    }
}

#[test]
fn every_block_gives_the_recorded_activations() {
    let pixels = &pixels()[..SIDE * SIDE * 3];
    let devices = devices();
    for network in NETWORKS {
        let folder = fixture(network);
        let reference = Tensors::open(&folder.join("reference.safetensors"));
        let said = json(&folder.join("reference.json"));
        let blocks = said["activations"].as_object().unwrap();
        assert!(blocks.len() > 10, "{network} has {} recorded blocks", blocks.len());
        for (name, gpu) in &devices {
            let steps = every_step(gpu, &folder, pixels);
            let mut worst = 0.0f32;
            for (block, facts) in blocks {
                let found = channels_first(output_of(&steps, block));
                let error = relative(&sampled(&found, facts), &reference.f32(block)).max(moments(&found, facts));
                worst = worst.max(error);
                assert!(error <= TOLERANCE, "{network} on {name}: {block} is {error:e} off");
            }
            eprintln!("{network} on {name}: {} blocks, the worst {worst:e} off", blocks.len());
        }
    }
}

/// The outputs of all steps for one image, by `step#output`.
fn every_step(gpu: &Gpu, folder: &std::path::Path, pixels: &[f32]) -> Vec<(String, HostTensor)> {
    let classifier = gpu.block_on(Classifier::load(gpu, folder)).unwrap();
    let plan = Arc::new(classifier.plan(1, Pixels::Normalized).unwrap().with_every_step_visible());
    let names: Vec<String> = plan.outputs.iter().map(|(name, _)| name.clone()).collect();
    let input = HostTensor::from_values(plan.tensor(plan.inputs[0]).desc.clone(), pixels);
    let executor = gpu.block_on(Executor::new(gpu, plan, &ConstantStore::new(), |_| ())).unwrap();
    let outputs = gpu.block_on(executor.run(&[input])).unwrap();
    assert_eq!(outputs.len(), names.len());
    names.into_iter().zip(outputs).collect()
}

/// What the last step of a block gives; timm's `bn1` is the first convolution with its batch norm.
fn output_of<'a>(steps: &'a [(String, HostTensor)], block: &str) -> &'a HostTensor {
    let prefix = match block {
        "bn1" => "conv_stem#".to_owned(),
        block => format!("{block}."),
    };
    let last = steps.iter().rfind(|(name, _)| name.starts_with(&prefix) && name.ends_with("#0"));
    &last.unwrap_or_else(|| panic!("no step of {block}")).1
}

/// `[1, height, width, channels]` as PyTorch has it: the shape and values of `[channels, height, width]`.
fn channels_first(tensor: &HostTensor) -> (Vec<usize>, Vec<f32>) {
    let &[1, height, width, channels] = &tensor.desc.shape[..] else { panic!("{} is no activation", tensor.desc) };
    let values = tensor.values();
    let first = (0..channels).flat_map(|c| (0..height * width).map(move |p| (p, c)));
    (vec![channels, height, width], first.map(|(p, c)| values[p * channels + c]).collect())
}

/// The values that were recorded, after checking the shape.
fn sampled((shape, values): &(Vec<usize>, Vec<f32>), facts: &Value) -> Vec<f32> {
    let recorded: Vec<usize> =
        facts["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize).collect();
    assert_eq!(*shape, recorded);
    values.iter().copied().step_by(facts["step"].as_u64().unwrap() as usize).collect()
}

/// How far mean and deviation of the whole block lie from the recorded ones, relative to the deviation.
fn moments((_, values): &(Vec<usize>, Vec<f32>), facts: &Value) -> f32 {
    let [mean, std] = ["mean", "std"].map(|key| facts[key].as_f64().unwrap());
    let count = values.len() as f64;
    let found = values.iter().copied().map(f64::from).sum::<f64>() / count;
    let square = values.iter().map(|value| (f64::from(*value) - found).powi(2)).sum::<f64>() / count;
    (((found - mean).abs()).max((square.sqrt() - std).abs()) / std) as f32
}
