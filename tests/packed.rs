//! Prompts multiplied in whole numbers: how a device rounds to bytes, and how far logits move.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::engine::certify::Prepared;
use lampyris::engine::kernels::text::Quantize;
use lampyris::engine::kernels::{Case, Desc, Fill, Tier};
use lampyris::models::decoder::{Decoder, DecoderFiles, Products, SessionOptions};
use lampyris::{Gpu, engine};
use serde_json::Value;
use std::sync::Arc;
use support::{devices, material, relative};

/// How far packed products may move the logits of the recorded model, relative to the largest: `docs/numerics.md`.
const APART: f32 = 0.05;

/// No value lies within a fifth of a step of the middle between two bytes, so that every device must round as the twin does.
#[test]
fn values_go_to_the_nearest_byte() {
    let (rows, columns) = (6, 70);
    let value = |i: usize| {
        let (row, column) = (i / columns, i % columns);
        let whole = ((row * 31 + column * 17) % 253) as f32 - 126.0;
        let off = [0.3, -0.3, 0.0][i % 3];
        (if column % 32 == 5 { 127.0 } else { whole + off }) * 0.01 * (1 + row) as f32
    };
    let fill = Fill::Values((0..rows * columns).map(value).collect());
    let inputs = vec![(Desc::f32([rows, columns]), fill)];
    let case = Case { label: "apart".into(), kernel: Arc::new(Quantize::default()), inputs, tier: Tier::Short };
    let prepared = Prepared::new(&case).unwrap();
    let expected = case.expected(&case.tensors()).unwrap();
    for (name, gpu) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        for source in prepared.variants(&gpu).unwrap() {
            let found = gpu.block_on(prepared.run(&gpu, source)).unwrap();
            let worst = engine::kernels::difference(&expected, &found).worst;
            assert!(worst < 1e-6, "{} on {name}: {worst:e}", source.label);
        }
    }
}

/// Quantized weights: logits lie as far from the exact ones as is said, not further and not by nothing. How two devices round a
/// value that lies between two bytes is left to them, and what follows from it is of the same size, so that they are held against the
/// exact logits and not against each other's.
#[test]
fn packed_products_move_logits_by_no_more_than_is_said() {
    let Some(material) = material() else { return };
    let folder = material.join("stories260k");
    let reference: Value = serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let text: Vec<u32> =
        reference["ppl_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let logits = |gpu: &Gpu, file: &str, products: Products| {
        let path = folder.join(format!("gguf/stories260K-{file}.gguf"));
        let model = Decoder::new(gpu, DecoderFiles::open(path).unwrap()).unwrap();
        let options = SessionOptions::default().context(text.len()).products(products);
        let mut session = gpu.block_on(model.session(options)).unwrap();
        gpu.block_on(session.feed(&text)).unwrap();
        gpu.block_on(session.logits()).unwrap()
    };
    for file in ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] {
        let exact = logits(&Gpu::cpu_executor(), file, Products::Exact);
        for (name, gpu) in devices() {
            let moved = relative(&logits(&gpu, file, Products::Packed), &exact);
            eprintln!("{file} on {name}: packed products move logits by {moved:e}");
            assert!((1e-3..APART).contains(&moved), "{file} on {name}: {moved:e}");
        }
    }
    // Floats are multiplied as floats, whatever is asked for.
    let [asked, exact] =
        [Products::Packed, Products::Exact].map(|products| logits(&Gpu::cpu_executor(), "F16", products));
    assert_eq!(asked, exact);
}
