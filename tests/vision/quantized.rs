//! Weights of 8 bits give what their dequantized values give, and stay 8 bits wide on the device.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::photos::SIDE;
use crate::support::{Tensors, channels_last, devices, material, relative};
use lampyris::Classifier;
use lampyris::engine::kernels::Format;
use lampyris::models::mobilenet::Pixels;

/// How far logits may lie apart, relative to the largest: the weights are equal, only the scale is applied later.
const TOLERANCE: f32 = 1e-4;
/// Bytes on the device, as a share of those of the dequantized model: a quarter, and the biases, scales and padding.
const SHARE: f64 = 0.35;
/// Pictures of the material that are compared.
const IMAGES: usize = 2;

#[test]
fn eight_bit_weights_are_neither_wrong_nor_expanded() {
    let Some(material) = material() else { return };
    let pixels = channels_last(&Tensors::open(&material.join("images/pixels.safetensors")).f32("pixels"), SIDE);
    let pixels = &pixels[..IMAGES * SIDE * SIDE * 3];
    for model in ["mobilenet_v2", "mobilenet_v3_small"] {
        let folder = material.join(model);
        for (name, gpu) in devices() {
            let [whole, bytes] = ["model.safetensors", "model-int8.safetensors"]
                .map(|file| gpu.block_on(Classifier::load(&gpu, &folder.join(file))).unwrap());
            assert!(bytes.network().spec().is_quantized() && !whole.network().spec().is_quantized());

            let plan = bytes.plan(1, Pixels::Normalized).unwrap();
            let weights: Vec<_> = plan.constants.iter().filter(|c| c.name.ends_with(".weight")).collect();
            assert!(weights.len() > 40);
            for weight in weights {
                let format = weight.desc.format;
                assert!(matches!(format, Format::MatrixI8 | Format::I8), "{} is stored as {format:?}", weight.name);
            }
            if !gpu.is_cpu_executor() {
                let share = bytes.weight_bytes() as f64 / whole.weight_bytes() as f64;
                eprintln!("{model} on {name}: {} bytes, {share:.3} of the dequantized", bytes.weight_bytes());
                assert!(whole.weight_bytes() > 4 << 20 && share < SHARE, "{model} on {name}: {share} of the bytes");
            }

            let [expected, found] = [&whole, &bytes].map(|classifier| {
                let answers = gpu.block_on(classifier.classify_normalized(pixels)).unwrap();
                assert_eq!(answers.len(), IMAGES);
                answers.into_iter().flat_map(|answer| answer.logits).collect::<Vec<f32>>()
            });
            let error = relative(&found, &expected);
            eprintln!("{model} on {name}: logits {error:e} apart");
            assert!(error <= TOLERANCE, "{model} on {name}: logits are {error:e} apart, more than {TOLERANCE:e}");
        }
    }
}
