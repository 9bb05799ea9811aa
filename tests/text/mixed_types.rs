//! Files that store neighbouring matrices in different types, as published mixes do: none of them is held wider than it is stored, and
//! results are those of the same numbers in one type, on every adapter and the CPU executor. Needs no file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{devices, relative};
use lampyris::Gpu;
use lampyris::engine::kernels::Noise;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{MetadataValue, NewBlocks, gguf_bytes};
use lampyris::engine::weights::{TensorFile, Weights};
use lampyris::models::decoder::{CacheFormat, Decoder, DecoderFiles, Head, PlanRequest, Products, SessionOptions};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, TokenEncoder};
use serde_json::json;

/// Columns, units and vocabulary of the decoder; whole super-blocks of 256 columns.
const HIDDEN: usize = 256;
const UNITS: usize = 512;
const VOCABULARY: usize = 64;
const EXPERTS: usize = 4;

/// The types of queries, keys, values, gates and units.
type Mix = [BlockFormat; 5];

/// As published mixes have them, and each of them unlike its neighbours.
const MIXES: [Mix; 5] = {
    use BlockFormat as B;
    [
        [B::Q4K, B::Q4K, B::Q6K, B::Q4K, B::Q5K],
        [B::Q4K, B::Q6K, B::Q6K, B::Q4K, B::Q4K],
        [B::Q5K, B::Q8_0, B::Q5K, B::IQ4XS, B::Q3K],
        [B::Q4K, B::Q5K, B::Q6K, B::Q2K, B::Q2K],
        [B::Q8_0, B::F16, B::Q8_0, B::F16, B::Q8_0],
    ]
};

/// Names, types and shapes of the tensors of a decoder of two layers, with gated units or with experts.
fn layout(mix: Mix, experts: bool) -> Vec<(String, BlockFormat, Vec<usize>)> {
    let [queries, keys, values, gates, units] = mix;
    let plain = BlockFormat::F32;
    let mut all = vec![
        ("token_embd.weight".to_owned(), BlockFormat::Q6K, vec![VOCABULARY, HIDDEN]),
        ("output_norm.weight".to_owned(), plain, vec![HIDDEN]),
    ];
    for layer in 0..2 {
        let mut add = |name: &str, format: BlockFormat, shape: &[usize]| {
            all.push((format!("blk.{layer}.{name}.weight"), format, shape.to_vec()));
        };
        add("attn_norm", plain, &[HIDDEN]);
        add("attn_q", queries, &[HIDDEN, HIDDEN]);
        add("attn_k", keys, &[HIDDEN / 2, HIDDEN]);
        add("attn_v", values, &[HIDDEN / 2, HIDDEN]);
        add("attn_output", BlockFormat::Q4K, &[HIDDEN, HIDDEN]);
        add("ffn_norm", plain, &[HIDDEN]);
        if experts {
            add("attn_q_norm", plain, &[64]);
            add("attn_k_norm", plain, &[64]);
            add("ffn_gate_inp", plain, &[EXPERTS, HIDDEN]);
            add("ffn_gate_exps", gates, &[EXPERTS, UNITS, HIDDEN]);
            add("ffn_up_exps", units, &[EXPERTS, UNITS, HIDDEN]);
            add("ffn_down_exps", BlockFormat::Q6K, &[EXPERTS, HIDDEN, UNITS]);
        } else {
            add("ffn_gate", gates, &[UNITS, HIDDEN]);
            add("ffn_up", units, &[UNITS, HIDDEN]);
            add("ffn_down", BlockFormat::Q6K, &[HIDDEN, UNITS]);
        }
    }
    all
}

/// The decoder as a GGUF file of noise, as the mix says and with the same numbers in f32, and the bytes of the mix's tensors.
fn decoder(mix: Mix, experts: bool) -> ([DecoderFiles; 2], u64) {
    let kind = if experts { "qwen3moe" } else { "llama" };
    let number = |key: &str, value: usize| (format!("{kind}.{key}"), MetadataValue::U32(value as u32));
    let mut metadata = vec![("general.architecture".to_owned(), MetadataValue::String(kind.to_owned()))];
    metadata.extend([
        number("context_length", 64),
        number("embedding_length", HIDDEN),
        number("block_count", 2),
        number("feed_forward_length", UNITS),
        number("attention.head_count", 4),
        number("attention.head_count_kv", 2),
        (format!("{kind}.attention.layer_norm_rms_epsilon"), MetadataValue::F32(1e-5)),
    ]);
    if experts {
        metadata.extend([
            number("attention.key_length", 64),
            number("attention.value_length", 64),
            number("expert_count", EXPERTS),
            number("expert_used_count", 2),
            number("expert_feed_forward_length", UNITS),
        ]);
    }
    let (layout, mut noise) = (layout(mix, experts), Noise::new(11));
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    for (_, format, shape) in &layout {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| noise.real(-0.15, 0.15)).collect();
        let bytes = format.quantize(&values).unwrap().bytes;
        let mut same = vec![0.0; values.len()];
        format.dequantize(&bytes, &mut same).unwrap();
        plain.push(same.iter().flat_map(|value| value.to_le_bytes()).collect());
        stored.push(bytes);
    }
    let bytes = stored.iter().map(|bytes: &Vec<u8>| bytes.len() as u64).sum();
    let file = |data: &[Vec<u8>], plain: bool| {
        let both = layout.iter().zip(data);
        let tensors = both.map(|((name, format, shape), bytes)| {
            let format = if plain { BlockFormat::F32 } else { *format };
            NewBlocks { name, format, shape, bytes }
        });
        let tensors: Vec<NewBlocks<'_>> = tensors.collect();
        let bytes = gguf_bytes("noise.gguf", &metadata, &tensors).unwrap();
        DecoderFiles { weights: TensorFile::from_bytes("noise.gguf", bytes).unwrap(), config: None }
    };
    ([file(&stored, false), file(&plain, true)], bytes)
}

/// What a model's weights take on the device: as many bytes as its file, up to the padding of panels and the turns of positions.
#[test]
fn nothing_is_held_wider_than_it_is_stored() {
    let gpu = Gpu::cpu_executor();
    for mix in MIXES {
        for experts in [false, true] {
            let ([files, _], stored) = decoder(mix, experts);
            let model = Decoder::new(&gpu, files).unwrap();
            for products in [Products::Exact, Products::Packed] {
                let needs = model.needs(SessionOptions::from(64).products(products)).unwrap();
                let turns = 4 * 64 * 64;
                assert!(
                    needs.weights - turns <= stored + stored / 20,
                    "{mix:?}, experts {experts}: {} bytes of weights of {stored} stored",
                    needs.weights - turns
                );
            }
        }
    }
}

#[test]
fn a_mix_gives_what_its_numbers_give_in_one_type() {
    let text: Vec<u32> = (0..17).map(|i| (i * i + 3 * i) % VOCABULARY as u32).collect();
    let logits = |gpu: &Gpu, files: DecoderFiles| {
        let model = Decoder::new(gpu, files).unwrap();
        let mut session = gpu.block_on(model.session(64)).unwrap();
        gpu.block_on(session.feed(&text)).unwrap();
        let logits = gpu.block_on(session.logits()).unwrap();
        // Token by token as well, where other kernels multiply.
        let mut answer = session.generate(4).unwrap();
        let mut tokens = Vec::new();
        while let Some(token) = gpu.block_on(answer.next()).unwrap() {
            tokens.push(token);
        }
        (logits, tokens)
    };
    let devices = devices();
    for (at, mix) in MIXES.into_iter().enumerate() {
        for experts in [false, true] {
            let ([mixed, plain], _) = decoder(mix, experts);
            let (expected, tokens) = logits(&Gpu::cpu_executor(), plain);
            // Each device and the executor have some of the mixes.
            for (number, (name, gpu)) in devices.iter().enumerate() {
                if number % MIXES.len() == at || crate::support::full_tier() {
                    let (found, generated) = logits(gpu, mixed.clone());
                    let error = relative(&found, &expected);
                    assert!(error < 1e-4, "{mix:?}, experts {experts} on {name}: {error:e}");
                    assert_eq!(generated, tokens, "{mix:?}, experts {experts} on {name}");
                }
            }
        }
    }
}

/// Experts of one layer in a tensor each, as folders have them, some of them stored in 16 bits.
#[test]
fn experts_that_are_stored_unlike_are_in_stacks_of_their_own() {
    const CONFIG: &str = r#"{"model_type": "qwen3_moe", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 61, "max_position_embeddings": 128,
        "tie_word_embeddings": true, "num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 18}"#;
    // All values are those that 16 bits hold.
    let files = |half: &[&str]| {
        let stored = crate::support::decoders::tensors(CONFIG).into_iter().map(|(name, shape, values)| {
            let is = half.iter().any(|part| name.contains(part));
            let wide = |value: &f32| f32::from_bits(value.to_bits() & 0xffff_0000).to_le_bytes();
            let bytes = values.iter().flat_map(|value| wide(value).into_iter().skip(if is { 2 } else { 0 })).collect();
            (name, if is { "BF16" } else { "F32" }, shape, bytes)
        });
        crate::support::decoders::files(CONFIG, stored)
    };
    let text: Vec<u32> = (0..40).map(|i| (i * i + 3 * i) % 61).collect();
    let logits = |gpu: &Gpu, files: DecoderFiles| {
        let model = Decoder::new(gpu, files).unwrap();
        let mut session = gpu.block_on(model.session(text.len())).unwrap();
        gpu.block_on(session.feed(&text)).unwrap();
        gpu.block_on(session.logits()).unwrap()
    };
    let cpu = Gpu::cpu_executor();
    let expected = logits(&cpu, files(&[]));
    for half in
        [&["experts.0.", "experts.4.up", "experts.5.down"][..], &["experts.6.", "gate_proj"], &["q_proj", "v_proj"]]
    {
        let model = Decoder::new(&cpu, files(half)).unwrap();
        let request = PlanRequest {
            context: 64,
            cache: CacheFormat::F32,
            tokens: 1,
            head: Head::Sample,
            products: Products::Exact,
        };
        let text = model.plan(request).unwrap().to_string();
        let wide = |line: &str| line.contains("panel-f32") && !line.contains("embed") && !line.contains("head");
        let wide = text.lines().filter(|line| wide(line)).count();
        let halved = text.lines().filter(|line| line.contains("panel-bf16")).count();
        assert!(halved > 0 && wide > 0, "{half:?}: {text}");
        for (name, gpu) in devices() {
            let error = relative(&logits(&gpu, files(half)), &expected);
            assert!(error < 1e-4, "{half:?} on {name}: {error:e}");
        }
    }
}

#[test]
fn an_encoder_is_not_held_wider_either() {
    let sizes = [64, 4, 96, 2, 20];
    let tensors = crate::bert::tensors_of(sizes, crate::bert::VOCABULARY);
    let files = |half: &[&str]| {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, (shape, values)) in &tensors {
            let (start, is) = (data.len(), half.iter().any(|part| name.ends_with(part)));
            let wide = |value: &f32| f32::from_bits(value.to_bits() & 0xffff_0000).to_le_bytes();
            data.extend(values.iter().flat_map(|value| wide(value).into_iter().skip(if is { 2 } else { 0 })));
            let dtype = if is { "BF16" } else { "F32" };
            header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}));
        }
        let (bytes, header) = (data.len() as u64, serde_json::to_vec(&header).unwrap());
        let file = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        let config = crate::bert::config_of(sizes, crate::bert::VOCABULARY).to_string().into_bytes();
        let weights = TensorFile::from(Weights::from_bytes("noise", file).unwrap());
        (EncoderFiles::new(weights, Some(config)), bytes)
    };
    let sequences = [vec![3, 1, 4, 1, 5], vec![9, 2, 6], vec![5]];
    let embed = |gpu: &Gpu, files: EncoderFiles| {
        let encoder = TokenEncoder::new(gpu, files, EncoderOptions::default()).unwrap();
        let embedded = gpu.block_on(encoder.embed(&sequences)).unwrap().concat();
        (embedded, encoder.needs(16).unwrap().weights)
    };
    let (expected, whole) = embed(&Gpu::cpu_executor(), files(&[]).0);
    let all = files(&[]).1;
    for half in [&["self.query.weight"][..], &["self.key.weight"], &["self.value.weight"]] {
        let saved = all - files(half).1;
        for (name, gpu) in devices() {
            let (found, weights) = embed(&gpu, files(half).0);
            let error = relative(&found, &expected);
            assert!(error < 1e-4, "{half:?} on {name}: {error:e}");
            assert_eq!(whole - weights, saved, "{half:?} on {name}");
        }
    }
}
