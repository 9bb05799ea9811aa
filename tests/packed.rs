//! Tokens multiplied in whole numbers and in 16-bit floats: how a device rounds to bytes, and how far logits move.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::engine::certify::Prepared;
use lampyris::engine::gpu::{ConstantStore, GpuPlan, States, VariantChoice, VariantSet};
use lampyris::engine::kernels::text::Quantize;
use lampyris::engine::kernels::{Case, Desc, Fill, Source, Tier};
use lampyris::engine::plan::Step;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::models::decoder::{
    CacheFormat, Conversion, Decoder, DecoderFiles, Head, PlanRequest, Products, SessionOptions,
};
use lampyris::{AdapterChoice, Gpu, GpuOptions, adapters, engine};
use serde_json::Value;
use std::sync::Arc;
use support::decoders::{files, noise, tensors};
use support::{devices, material, relative};

/// Three experts that every token meets, so that no choice turns on what a rounding moves; columns for every format of blocks.
const MIXTURE: &str = r#"{"model_type": "qwen3_moe", "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 61, "max_position_embeddings": 64,
    "tie_word_embeddings": true, "num_experts": 3, "num_experts_per_tok": 3, "moe_intermediate_size": 256, "norm_topk_prob": true}"#;

/// The logits of every token of `text`, computed one token after the other.
fn one_by_one(gpu: &Gpu, model: &Decoder, text: &[u32], products: Products) -> Vec<f32> {
    let (context, cache, head) = (text.len(), CacheFormat::F32, Head::Logits);
    let plan = model.plan(PlanRequest { context, cache, tokens: 1, head, products }).unwrap();
    let states = gpu.block_on(States::new(gpu, &[&plan])).unwrap();
    states.write("tokens", 0, text).unwrap();
    let executor = gpu.block_on(model.executor(plan, &states)).unwrap();
    let logits = |at: usize| {
        states.write("cursor", 0, &[at as u32, 1]).unwrap();
        gpu.block_on(executor.run(&[])).unwrap()[0].values()
    };
    (0..text.len()).flat_map(logits).collect()
}

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
    let model = |gpu: &Gpu, file: &str| {
        let path = folder.join(format!("gguf/stories260K-{file}.gguf"));
        Decoder::new(gpu, DecoderFiles::open(path).unwrap()).unwrap()
    };
    let logits = |gpu: &Gpu, file: &str, products: Products| {
        let model = model(gpu, file);
        let options = SessionOptions::default().context(text.len()).products(products);
        let mut session = gpu.block_on(model.session(options)).unwrap();
        gpu.block_on(session.feed(&text)).unwrap();
        gpu.block_on(session.logits()).unwrap()
    };
    for file in ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] {
        let exact = logits(&Gpu::cpu_executor(), file, Products::Exact);
        for (name, gpu) in devices() {
            let moved = relative(&logits(&gpu, file, Products::Packed), &exact);
            let alone = &text[..16];
            let one = one_by_one(&gpu, &model(&gpu, file), alone, Products::Packed);
            let one = relative(&one, &exact[..one.len()]);
            eprintln!("{file} on {name}: packed products move logits by {moved:e}, token by token {one:e}");
            let allowed = 1e-3..Products::Packed.tolerance();
            assert!(allowed.contains(&moved) && allowed.contains(&one), "{file} on {name}: {moved:e}, {one:e}");
            if file == "Q4_0" {
                let half = relative(&logits(&gpu, file, Products::Half), &exact);
                assert!(half < Products::Half.tolerance(), "{file} on {name}: products of 16-bit floats: {half:e}");
            }
        }
    }
    // Floats are multiplied as floats, whatever is asked for.
    let [asked, exact] =
        [Products::Packed, Products::Exact].map(|products| logits(&Gpu::cpu_executor(), "F16", products));
    assert_eq!(asked, exact);
}

/// Levels of a table, and experts: with weights of noise, several tokens at a time and one by one.
#[test]
fn experts_and_levels_are_multiplied_in_whole_numbers_too() {
    let (folder, text) = (tempfile::tempdir().unwrap(), (0..9).map(|i| i * 7 % 61).collect::<Vec<u32>>());
    for format in [BlockFormat::Q4K, BlockFormat::IQ4NL, BlockFormat::IQ4XS, BlockFormat::MXFP4] {
        let path = folder.path().join(format!("{format}.gguf"));
        Conversion::new(&noise(MIXTURE, &[], &[]), format, Vec::new()).unwrap().write(&path, |_| ()).unwrap();
        let files = DecoderFiles::open(&path).unwrap();
        let model = |gpu: &Gpu| Decoder::new(gpu, files.clone()).unwrap();
        let exact = one_by_one(&Gpu::cpu_executor(), &model(&Gpu::cpu_executor()), &text, Products::Exact);
        for (name, gpu) in devices() {
            let model = model(&gpu);
            let packed = SessionOptions::default().context(text.len()).products(Products::Packed);
            let mut session = gpu.block_on(model.session(packed)).unwrap();
            gpu.block_on(session.feed(&text)).unwrap();
            let together = relative(&gpu.block_on(session.logits()).unwrap(), &exact);
            let one = relative(&one_by_one(&gpu, &model, &text, Products::Packed), &exact);
            eprintln!("{format} on {name}: packed products move logits by {together:e}, token by token {one:e}");
            let allowed = 1e-3..Products::Packed.tolerance();
            assert!(allowed.contains(&together) && allowed.contains(&one), "{format} on {name}: {together:e}, {one:e}");
        }
    }
}

/// A model whose units overflow: what is no number any more must not become one on its way through bytes, neither those of inputs nor
/// those of a cache.
#[test]
fn what_overflows_stays_no_number_in_bytes() {
    let (folder, text) = (tempfile::tempdir().unwrap(), (0..40).map(|i| i * 7 % 61).collect::<Vec<u32>>());
    let config = MIXTURE.replace("qwen3_moe", "qwen3");
    let path = folder.path().join("huge.gguf");
    let huge = tensors(&config).into_iter().map(|(name, shape, values)| {
        let factor = if name.contains("layers.0.post_attention_layernorm") { 1e37 } else { 1.0 };
        (name, "F32", shape, values.iter().flat_map(|value| (value * factor).to_le_bytes()).collect())
    });
    Conversion::new(&files(&config, huge), BlockFormat::Q8_0, Vec::new()).unwrap().write(&path, |_| ()).unwrap();
    for (name, gpu) in devices() {
        let model = Decoder::new(&gpu, DecoderFiles::open(&path).unwrap()).unwrap();
        for products in [Products::Exact, Products::Packed] {
            let alone = one_by_one(&gpu, &model, &text[..3], products);
            assert!(alone.iter().all(|logit| logit.is_nan()), "{} on {name}: {:?}", products.label(), &alone[..5]);
            for cache in [CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8] {
                let options = SessionOptions::default().context(60).products(products).cache(cache);
                let mut session = gpu.block_on(model.session(options)).unwrap();
                gpu.block_on(session.feed(&text)).unwrap();
                let error = gpu.block_on(session.generate(1).unwrap().next()).unwrap_err();
                let said = matches!(error, lampyris::Error::NotFinite { .. });
                assert!(said, "{} on {name}, cache in {}: {error}", products.label(), cache.label());
            }
        }
    }
}

/// The variants for GPUs, which a software adapter can run if it must: several tokens at a time and one by one, and exact ones beside them.
#[test]
fn products_of_16_bit_floats_move_logits_by_no_more_than_is_said() {
    let (folder, text) = (tempfile::tempdir().unwrap(), (0..9).map(|i| i * 7 % 61).collect::<Vec<u32>>());
    let path = folder.path().join("dense.gguf");
    let files = noise(&MIXTURE.replace("qwen3_moe", "qwen3"), &[], &[]);
    Conversion::new(&files, BlockFormat::Q4K, Vec::new()).unwrap().write(&path, |_| ()).unwrap();
    let model = |gpu: &Gpu| Decoder::new(gpu, DecoderFiles::open(&path).unwrap()).unwrap();
    let exact = one_by_one(&Gpu::cpu_executor(), &model(&Gpu::cpu_executor()), &text, Products::Exact);
    for (index, name) in pollster::block_on(adapters()).iter().enumerate() {
        let options = GpuOptions::default().adapter(AdapterChoice::Index(index)).variants(VariantSet::RealGpu);
        let gpu = pollster::block_on(Gpu::with(options)).unwrap();
        let model = model(&gpu);
        for (products, tokens) in [(Products::Exact, 1), (Products::Half, 1), (Products::Half, text.len())] {
            let (context, cache, head) = (text.len(), CacheFormat::F32, Head::Logits);
            let plan = model.plan(PlanRequest { context, cache, tokens, head, products }).unwrap();
            let states = gpu.block_on(States::new(&gpu, &[&plan])).unwrap();
            states.write("tokens", 0, &text).unwrap();
            // Those of 16-bit floats, whatever is faster.
            let choose = |_: &Step, candidates: &[&'static Source]| {
                candidates.iter().find(|source| source.f16).or(candidates.first()).copied()
            };
            let (store, choice) = (ConstantStore::new(), VariantChoice::By(&choose));
            let plan = gpu.block_on(GpuPlan::with_states(&gpu, plan, &store, &states, choice, |_| ())).unwrap();
            let logits = (0..text.len()).step_by(tokens).flat_map(|at| {
                states.write("cursor", 0, &[at as u32, tokens as u32]).unwrap();
                gpu.block_on(plan.run_tensors(&[])).unwrap()[0].values()
            });
            let moved = relative(&logits.collect::<Vec<f32>>(), &exact);
            eprintln!("{}, {tokens} tokens, on {name}: logits moved by {moved:e}", products.label());
            let rounded = products == Products::Half && gpu.caps().f16;
            let allowed = if rounded { 1e-4..products.tolerance() } else { 0.0..1e-4 };
            assert!(allowed.contains(&moved), "{}, {tokens} tokens, {name}: {moved:e}", products.label());
        }
    }
}
