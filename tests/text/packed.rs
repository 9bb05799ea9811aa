//! Tokens multiplied in whole numbers and in 16-bit floats: how a device rounds to bytes, and how far logits move.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::{files, logits_by, noise, tensors};
use crate::support::{devices, material, relative, taking};
use lampyris::engine::certify::Prepared;
use lampyris::engine::gpu::{ConstantStore, GpuPlan, States, VariantChoice, VariantSet};
use lampyris::engine::kernels::text::Quantize;
use lampyris::engine::kernels::{Case, Desc, Fill, HostTensor, Source, Tier};
use lampyris::engine::plan::Step;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::models::decoder::{
    CacheFormat, Conversion, Decoder, DecoderFiles, Head, PlanRequest, Products, SessionOptions,
};
use lampyris::{AdapterChoice, Gpu, GpuOptions, adapters, engine};
use serde_json::Value;
use std::sync::Arc;

/// Three experts that every token meets, so that no choice turns on what a rounding moves; columns for every format of blocks.
const MIXTURE: &str = r#"{"model_type": "qwen3_moe", "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 61, "max_position_embeddings": 64,
    "tie_word_embeddings": true, "num_experts": 3, "num_experts_per_tok": 3, "moe_intermediate_size": 256, "norm_topk_prob": true}"#;

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
    for (case, file) in ["Q4_0", "Q8_0", "Q4_1", "Q5_0", "Q5_1"].into_iter().enumerate() {
        let exact = logits(&Gpu::cpu_executor(), file, Products::Exact);
        for (name, gpu) in taking(case, devices()) {
            let moved = relative(&logits(&gpu, file, Products::Packed), &exact);
            let alone = &text[..16];
            let one = logits_by(&model(&gpu, file), alone, &[], Products::Packed);
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
    let formats = [BlockFormat::Q4K, BlockFormat::IQ4NL, BlockFormat::IQ4XS, BlockFormat::MXFP4];
    for (case, format) in formats.into_iter().enumerate() {
        let path = folder.path().join(format!("{format}.gguf"));
        Conversion::new(&noise(MIXTURE, &[], &[]), format, Vec::new()).unwrap().write(&path, |_| ()).unwrap();
        let files = DecoderFiles::open(&path).unwrap();
        let model = |gpu: &Gpu| Decoder::new(gpu, files.clone()).unwrap();
        let exact = logits_by(&model(&Gpu::cpu_executor()), &text, &[], Products::Exact);
        for (name, gpu) in taking(case, devices()) {
            let model = model(&gpu);
            let packed = SessionOptions::default().context(text.len()).products(Products::Packed);
            let mut session = gpu.block_on(model.session(packed)).unwrap();
            gpu.block_on(session.feed(&text)).unwrap();
            let together = relative(&gpu.block_on(session.logits()).unwrap(), &exact);
            let one = relative(&logits_by(&model, &text, &[], Products::Packed), &exact);
            eprintln!("{format} on {name}: packed products move logits by {together:e}, token by token {one:e}");
            let allowed = 1e-3..Products::Packed.tolerance();
            assert!(allowed.contains(&together) && allowed.contains(&one), "{format} on {name}: {together:e}, {one:e}");
        }
    }
}

/// The experts that each layer chose for each token, sorted, the logits by which it did, and those of the vocabulary.
fn choices(gpu: &Gpu, model: &Decoder, text: &[u32], products: Products) -> (Vec<Vec<u32>>, Vec<Vec<f32>>, Vec<f32>) {
    let (context, cache, head) = (text.len(), CacheFormat::F32, Head::Logits);
    let request = PlanRequest { context, cache, tokens: text.len(), head, products };
    let mut plan = model.plan(request).unwrap().with_every_step_visible();
    let of = |ending: &str| {
        let steps = plan.steps.iter().filter(|step| step.name.ends_with(ending));
        steps.map(|step| (step.name.clone(), step.outputs[0])).collect::<Vec<_>>()
    };
    let (chosen, asked, logits) = (of(".route"), of(".router"), of("head"));
    let layers = chosen.len();
    assert_eq!((layers, asked.len(), logits.len()), (model.config().layers, layers, 1));
    plan.outputs = [chosen, asked, logits].concat();
    let plan = Arc::new(plan);
    let states = gpu.block_on(States::new(gpu, &[&plan])).unwrap();
    states.write("tokens", 0, text).unwrap();
    states.write("cursor", 0, &[0, text.len() as u32]).unwrap();
    let executor = gpu.block_on(model.executor(plan, &states)).unwrap();
    let outputs = gpu.block_on(executor.run(&[])).unwrap();
    let each = model.config().mixture.as_ref().unwrap().chosen;
    let sorted = |words: &[u32]| {
        let mut words = words.to_vec();
        words.chunks_mut(each).for_each(<[u32]>::sort_unstable);
        words
    };
    let chosen = outputs[..layers].iter().map(|tensor| sorted(&tensor.words)).collect();
    let asked = outputs[layers..2 * layers].iter().map(HostTensor::values).collect();
    (chosen, asked, outputs[2 * layers].values())
}

/// Where experts are chosen, the tolerance holds as long as no choice turns, and a choice turns only between experts whose logits are so near
/// each other that what products round may tell: `docs/numerics.md`.
#[test]
fn a_choice_of_experts_turns_only_where_two_are_nearly_equal() {
    const EXPERTS: usize = 16;
    const CHOSEN: usize = 4;
    let config = MIXTURE.replace("\"num_experts\": 3", "\"num_experts\": 16").replace("_tok\": 3", "_tok\": 4");
    let (folder, text) = (tempfile::tempdir().unwrap(), (0..64).map(|i| i * i % 61).collect::<Vec<u32>>());
    for (case, format) in [BlockFormat::Q8_0, BlockFormat::Q4_0, BlockFormat::Q4K].into_iter().enumerate() {
        let path = folder.path().join(format!("{format}.gguf"));
        Conversion::new(&noise(&config, &[], &[]), format, Vec::new()).unwrap().write(&path, |_| ()).unwrap();
        let model = |gpu: &Gpu| Decoder::new(gpu, DecoderFiles::open(&path).unwrap()).unwrap();
        let cpu = Gpu::cpu_executor();
        assert_eq!(model(&cpu).config().tolerance(Products::Packed), None);
        assert_eq!(model(&cpu).config().tolerance(Products::Exact), Some(1e-3));
        let exact = choices(&cpu, &model(&cpu), &text, Products::Exact);
        for (name, gpu) in taking(case, devices()) {
            let packed = choices(&gpu, &model(&gpu), &text, Products::Packed);
            let turned = |token: usize| {
                (0..exact.0.len()).find(|layer| {
                    let of = |chosen: &[Vec<u32>]| chosen[*layer][token * CHOSEN..][..CHOSEN].to_vec();
                    of(&exact.0) != of(&packed.0)
                })
            };
            // Tokens behind one whose choice turned have seen what came of it.
            let first = (0..text.len()).find(|token| turned(*token).is_some());
            let alike = first.unwrap_or(text.len());
            let vocabulary = exact.2.len() / text.len();
            let moved = relative(&packed.2[..alike * vocabulary], &exact.2[..alike * vocabulary]);
            let count = (0..text.len()).filter(|token| turned(*token).is_some()).count();
            eprintln!(
                "{format} on {name}: {moved:e} for {alike} tokens before a choice turned, {count} tokens with another choice"
            );
            assert!(alike > 0 && moved < Products::Packed.tolerance(), "{format} on {name}: {moved:e}");
            if let Some(token) = first
                && let Some(layer) = turned(token)
            {
                let logits = &exact.1[layer][token * EXPERTS..][..EXPERTS];
                let before = &exact.0[layer][token * CHOSEN..][..CHOSEN];
                let after = &packed.0[layer][token * CHOSEN..][..CHOSEN];
                let least = |all: &[u32]| all.iter().map(|at| logits[*at as usize]).fold(f32::INFINITY, f32::min);
                let gap = least(before) - least(after);
                let largest = logits.iter().fold(0.0f32, |most, logit| most.max(logit.abs()));
                assert!(gap >= 0.0 && gap < 0.1 * largest, "{format} on {name}: {gap} between {logits:?}");
            }
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
            let alone = logits_by(&model, &text[..3], &[], products);
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
    let exact = logits_by(&model(&Gpu::cpu_executor()), &text, &[], Products::Exact);
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
