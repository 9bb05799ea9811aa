//! Bytes and scales by hand, and whole networks: what is written loads, and gives what its dequantized values give.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first thing that is not as expected")]

use super::*;
use crate::classifier::open_network;
use crate::{Classifier, Source};
use lampyris_engine::Gpu;
use lampyris_engine::weights::{Weights, write_safetensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const NETWORKS: [&str; 5] = [
    "mobilenet_v2_w025",
    "mobilenet_v3_small_w025",
    "mobilenet_v3_large_w025",
    "timm_mobilenetv3_small_050",
    "timm_tf_mobilenetv3_small_minimal_100",
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mobilenet")
}

/// Tensors as a file in memory, with the configuration of a fixture.
fn source(network: &str, tensors: &[NewTensor<'_>]) -> Source {
    let file = std::env::temp_dir().join(format!("lampyris-{}-{network}.safetensors", std::process::id()));
    write_safetensors(&file, tensors, &BTreeMap::new()).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let config = std::fs::read(fixtures().join(network).join("config.json")).unwrap();
    Source::Files { weights: Weights::from_bytes(network, bytes).unwrap(), config: Some(config), preprocessor: None }
}

/// The same network with floats: each byte times its scale.
fn dequantized(quantized: &Quantized) -> Vec<NewTensor<'static>> {
    let floats = |tensor: &NewTensor<'_>| -> Vec<f32> {
        tensor.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let scales: BTreeMap<String, Vec<f32>> =
        quantized.tensors.iter().filter(|t| t.name.ends_with("_scale")).map(|t| (t.name.clone(), floats(t))).collect();
    let float = |tensor: &NewTensor<'static>| {
        if tensor.dtype != Dtype::I8 {
            return tensor.clone();
        }
        let scales = &scales[&format!("{}_scale", tensor.name)];
        let row = tensor.bytes.len() / scales.len();
        let values = tensor.bytes.iter().enumerate().map(|(i, b)| f32::from(b.cast_signed()) * scales[i / row]);
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        NewTensor { dtype: Dtype::F32, bytes: bytes.into(), ..tensor.clone() }
    };
    quantized.tensors.iter().filter(|t| !t.name.ends_with("_scale")).map(float).collect()
}

/// `[2, 3, 64, 64]` of the fixtures as `[2, 64, 64, 3]`.
fn pixels() -> Vec<f32> {
    let values = Weights::open(&fixtures().join("pixels.safetensors")).unwrap().f32("pixels").unwrap();
    let plane = 64 * 64;
    let image = |image: &[f32]| (0..plane).flat_map(|p| [image[p], image[plane + p], image[2 * plane + p]]).collect();
    values.chunks(3 * plane).flat_map(|values| -> Vec<f32> { image(values) }).collect()
}

fn logits(source: Source, pixels: &[f32]) -> Vec<f32> {
    let gpu = Gpu::cpu_executor();
    let classifier = gpu.block_on(Classifier::load(&gpu, source)).unwrap();
    let answers = gpu.block_on(classifier.classify_normalized(pixels)).unwrap();
    answers.into_iter().flat_map(|answer| answer.logits).collect()
}

#[test]
fn bytes_and_scales_by_hand() {
    let (bytes, scales) = to_bytes(&[127.0, -63.5, 0.4, 0.0, 0.0, 0.0, -254.0, 3.0, 1.0], 3);
    // Halves go to the even neighbour.
    assert_eq!(bytes, [127, -64, 0, 0, 0, 0, -127, 2, 0]);
    assert_eq!(scales, [1.0, 1.0, 2.0]);
    let found = error("w", &[3, 3], &[2.0, 1.0], &[127, 0], &[2.0 / 127.0]);
    assert!((found.worst - 0.5).abs() < 1e-7 && (found.rms - 0.2f64.sqrt()).abs() < 1e-7, "{found:?}");
}

#[test]
fn a_quantized_network_loads_and_gives_what_its_values_give() {
    let pixels = pixels();
    for name in NETWORKS {
        let network = open_network(&Source::from(&fixtures().join(name))).unwrap();
        let quantized = quantize_int8(&network).unwrap();
        let layers = network.spec().convolutions().count() + network.spec().linears().count();
        assert_eq!((quantized.errors.len(), quantized.tensors.len()), (layers, 3 * layers));
        // Half a step of 127 is the most that rounding can miss.
        assert!(quantized.errors.iter().all(|e| e.worst > 0.0 && e.worst <= 0.5001 / 127.0), "{name}");

        let bytes = source(name, &quantized.tensors);
        assert!(open_network(&bytes).unwrap().spec().is_quantized());
        let (found, expected) = (logits(bytes, &pixels), logits(source(name, &dequantized(&quantized)), &pixels));
        let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let worst = found.iter().zip(&expected).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest;
        assert!(found.len() == 20 && worst <= 1e-4, "{name}: {worst}");
    }
}

#[test]
fn bytes_are_not_quantized_again() {
    let name = NETWORKS[0];
    let network = open_network(&Source::from(&fixtures().join(name))).unwrap();
    let bytes = source(name, &quantize_int8(&network).unwrap().tensors);
    let again = quantize_int8(&open_network(&bytes).unwrap()).unwrap_err();
    assert!(again.to_string().contains("8 bits already"), "{again}");
}
