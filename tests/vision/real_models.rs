//! Really trained MobileNets against an independent implementation's logits, on every adapter and the CPU executor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{Tensors, channels_last, devices, material, relative, taking};
use lampyris::models::mobilenet::Precision;
use lampyris::{Classifier, ClassifierOptions};

#[test]
fn logits_of_the_reference_pixels() {
    let Some(material) = material() else { return };
    let labels: serde_json::Value =
        serde_json::from_slice(&std::fs::read(material.join("images/labels.json")).unwrap()).unwrap();
    let index: Vec<usize> =
        labels["pixels"]["index"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as usize).collect();
    let pixels = channels_last(&Tensors::open(&material.join("images/pixels.safetensors")).f32("pixels"), 224);
    let few = channels_last(&Tensors::open(&material.join("mobilenet_tiny/pixels.safetensors")).f32("pixels"), 96);
    let models = [
        ("mobilenet_v2", true),
        ("mobilenet_v3_small", true),
        ("mobilenet_v3_large_minimalistic", true),
        ("mobilenet_tiny/mobilenet_v2_w025", false),
        ("mobilenet_tiny/mobilenet_v3_small_w025", false),
        ("mobilenet_tiny/mobilenet_v3_large_w025", false),
    ];
    for (case, (model, imagenet)) in models.into_iter().enumerate() {
        let folder = material.join(model);
        let reference = Tensors::open(&folder.join("reference.safetensors")).f32("logits");
        let reference: Vec<f32> = match imagenet {
            true => index.iter().flat_map(|i| reference[i * 1001..(i + 1) * 1001].to_vec()).collect(),
            false => reference,
        };
        let pixels = if imagenet { &pixels } else { &few };
        for (name, gpu) in taking(case, devices()) {
            for (precision, tolerance) in [(Precision::F32, 1e-3), (Precision::F16, 2e-2)] {
                let options = ClassifierOptions::default().precision(precision);
                let loaded = Classifier::load_with(&gpu, &folder, options, |_| ());
                let classifier = gpu.block_on(loaded).unwrap();
                let answers = gpu.block_on(classifier.classify_normalized(pixels)).unwrap();
                let logits: Vec<f32> = answers.into_iter().flat_map(|answer| answer.logits).collect();
                let error = relative(&logits, &reference);
                eprintln!("{model} {precision:?} on {name}: {error:e}");
                assert!(error <= tolerance, "{model} {precision:?} on {name}: {error:e} > {tolerance:e}");
            }
        }
    }
}
