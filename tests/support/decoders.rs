//! Decoders of noise, made from a configuration alone: every tensor that it describes, in memory.

use lampyris::engine::kernels::Noise;
use lampyris::engine::weights::{TensorFile, Weights};
use lampyris::models::decoder::DecoderFiles;
use serde_json::{Value, json};

/// Names and shapes of a layer's tensors, without the layer's number.
fn layer(config: &Value, at: usize) -> Vec<(String, Vec<usize>)> {
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let kind = config["model_type"].as_str().unwrap();
    let (hidden, heads) = (number("hidden_size"), number("num_attention_heads"));
    let head = config["head_dim"].as_u64().map_or(hidden / heads, |head| head as usize);
    let key_heads = config["num_key_value_heads"].as_u64().map_or(heads, |heads| heads as usize);
    let mut all: Vec<(String, Vec<usize>)> = vec![
        ("input_layernorm".into(), vec![hidden]),
        ("self_attn.q_proj".into(), vec![heads * head, hidden]),
        ("self_attn.k_proj".into(), vec![key_heads * head, hidden]),
        ("self_attn.v_proj".into(), vec![key_heads * head, hidden]),
        ("self_attn.o_proj".into(), vec![hidden, heads * head]),
        ("post_attention_layernorm".into(), vec![hidden]),
    ];
    if kind.starts_with("qwen3") {
        all.extend(["q_norm", "k_norm"].map(|name| (format!("self_attn.{name}"), vec![head])));
    }
    if kind == "gemma2" {
        all.extend(["pre", "post"].map(|name| (format!("{name}_feedforward_layernorm"), vec![hidden])));
    }
    let mut units = |prefix: String, width: usize| {
        all.extend(["gate_proj", "up_proj"].map(|name| (format!("{prefix}.{name}"), vec![width, hidden])));
        all.push((format!("{prefix}.down_proj"), vec![hidden, width]));
    };
    let dense = config["mlp_only_layers"].as_array().is_some_and(|layers| layers.contains(&json!(at)));
    if kind != "qwen3_moe" || dense {
        units("mlp".into(), number("intermediate_size"));
    } else {
        (0..number("num_experts")).for_each(|i| units(format!("mlp.experts.{i}"), number("moe_intermediate_size")));
        all.push(("mlp.gate".into(), vec![number("num_experts"), hidden]));
    }
    all
}

/// Every tensor of `config`'s network with its shape and noise: wide enough that neither softmax nor gates are flat.
pub fn tensors(config: &str) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let config: Value = serde_json::from_str(config).unwrap();
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let (vocabulary, hidden) = (number("vocab_size"), number("hidden_size"));
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocabulary, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for at in 0..number("num_hidden_layers") {
        let named = |(name, shape): (String, Vec<usize>)| (format!("model.layers.{at}.{name}.weight"), shape);
        shapes.extend(layer(&config, at).into_iter().map(named));
    }
    if config["tie_word_embeddings"] == json!(false) {
        shapes.push(("lm_head.weight".to_owned(), vec![vocabulary, hidden]));
    }
    let mut noise = Noise::new(7);
    let filled = |(name, shape): (String, Vec<usize>)| {
        let values = (0..shape.iter().product()).map(|_| noise.real(-0.6, 0.6)).collect();
        (name, shape, values)
    };
    shapes.into_iter().map(filled).collect()
}

/// A model in memory: its `config.json`, and name, type, shape and bytes of each tensor.
pub fn files(
    config: &str,
    tensors: impl IntoIterator<Item = (String, &'static str, Vec<usize>, Vec<u8>)>,
) -> DecoderFiles {
    let (mut entries, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend(bytes);
        entries.insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] }));
    }
    let header = serde_json::to_vec(&entries).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    let weights = TensorFile::from(Weights::from_bytes("noise", file).unwrap());
    DecoderFiles { weights, config: Some(config.as_bytes().to_vec()) }
}

/// A model of noise. Tensors that `half` names a part of are stored as BF16, the others as F32; those that `left_out` names a part
/// of are not there.
pub fn noise(config: &str, half: &[&str], left_out: &[&str]) -> DecoderFiles {
    let is = |name: &str, parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let there = tensors(config).into_iter().filter(|(name, ..)| !is(name, left_out));
    let stored = there.map(|(name, shape, values)| {
        let (dtype, skipped) = if is(&name, half) { ("BF16", 2) } else { ("F32", 0) };
        let bytes = values.iter().flat_map(|value| value.to_le_bytes().into_iter().skip(skipped)).collect();
        (name, dtype, shape, bytes)
    });
    files(config, stored)
}
