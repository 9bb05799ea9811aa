//! The trained sentence encoder in each storage of its matrices, against an independent implementation's embeddings.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use super::bert;
use super::support::{Tensors, devices, full_tier, material};
use lampyris::engine::weights::{TensorFile, Weights};
use lampyris::models::encoder::{Encoder, EncoderFiles, EncoderOptions, cosine};
use serde_json::Value;
use std::path::Path;

/// The trained encoder, which its file stores in 16 bits, with matrices in 32 bits and again in 16: the numbers are the same ones.
#[test]
fn the_trained_encoder_is_as_near_in_either_storage() {
    let Some(material) = material() else { return };
    let folder = material.join("minilm");
    let reference: Value = serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let all = reference["sentences"].as_array().unwrap();
    let expected = Tensors::open(&folder.join("reference.safetensors")).f32("embeddings");
    let file = EncoderFiles::open(&folder).unwrap();
    let wide = EncoderFiles { weights: in_32_bits(&folder), ..file.clone() };
    for (name, gpu) in devices() {
        let taken: Vec<usize> = (0..all.len()).filter(|at| full_tier() || *at < 6).collect();
        let texts: Vec<&str> = taken.iter().map(|at| all[*at]["text"].as_str().unwrap()).collect();
        let ways =
            [("f16 stored", &file, false, 0.9999), ("f16 held", &wide, true, 0.9999), ("f32", &wide, false, 0.99999)];
        let mut bytes = Vec::new();
        for (way, files, half, least) in ways {
            let encoder = Encoder::new(&gpu, files.clone(), EncoderOptions::default().half(half)).unwrap();
            let found = gpu.block_on(encoder.embed(&texts)).unwrap();
            let near = found.iter().zip(&taken).map(|(found, at)| cosine(found, &expected[at * 384..][..384]));
            let worst = near.fold(1.0, f32::min);
            assert!(worst >= least, "{way} on {name}: {worst}");
            bytes.push(encoder.network().weight_bytes());
        }
        // Biases, norms and places stay in 32 bits.
        assert!(bytes[0] == bytes[1] && bytes[0] * 100 < bytes[2] * 52, "{name}: {bytes:?}");
    }
}

/// The weights of `folder` with every tensor stored in 32 bits.
fn in_32_bits(folder: &Path) -> TensorFile {
    let weights = Weights::open(&folder.join("model.safetensors")).unwrap();
    // Positions as whole numbers are no weights.
    let real = weights.tensors().iter().filter(|tensor| tensor.dtype.name() == "F16");
    let wide = real.map(|tensor| (tensor.name.clone(), (tensor.shape.clone(), weights.f32(&tensor.name).unwrap())));
    TensorFile::from(Weights::from_bytes("in 32 bits", bert::safetensors(&wide.collect())).unwrap())
}
