//! Decoders of noise, made from a configuration alone: every tensor that it describes, in memory; and their logits, by runs of any size.

use lampyris::engine::Executor;
use lampyris::engine::gpu::States;
use lampyris::engine::kernels::Noise;
use lampyris::engine::weights::{TensorFile, Weights};
use lampyris::models::decoder::{CacheFormat, Decoder, DecoderFiles, Head, PlanRequest, Products};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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

const SIZES: &str = r#""hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 61, "max_position_embeddings": 128"#;

/// Networks of noise: plain, with values stored apart, with norms of heads, with windows and norms after the blocks, with experts.
pub fn kinds() -> Vec<(&'static str, DecoderFiles)> {
    let files = |more: &str, half: &[&str]| noise(&format!("{{{SIZES}, {more}}}"), half, &[]);
    let llama = r#""model_type": "llama", "tie_word_embeddings": false"#;
    let gemma = r#""model_type": "gemma2", "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 16,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0"#;
    let experts = r#""model_type": "qwen3_moe", "tie_word_embeddings": true, "num_experts": 6, "num_experts_per_tok": 2,
        "moe_intermediate_size": 24, "norm_topk_prob": true, "mlp_only_layers": [1]"#;
    vec![
        ("llama", files(llama, &[])),
        ("mixed types", files(llama, &["q_proj", "k_proj", "gate_proj", "up_proj"])),
        ("qwen3", files(r#""model_type": "qwen3", "tie_word_embeddings": true"#, &["model."])),
        ("gemma2", files(gemma, &[])),
        ("qwen3_moe", files(experts, &[])),
    ]
}

/// A text with a cache of its own, computed in runs of which every logit is read.
pub struct Runs<'a> {
    model: &'a Decoder,
    request: PlanRequest,
    pub states: States,
    executors: BTreeMap<usize, Executor>,
    done: usize,
}

impl<'a> Runs<'a> {
    /// For a text in a session with room for `context`.
    pub fn new(model: &'a Decoder, text: &[u32], context: usize, products: Products) -> Runs<'a> {
        let (cache, head) = (CacheFormat::F32, Head::Logits);
        let request = PlanRequest { context, cache, tokens: 1, head, products };
        let plan = model.plan(request).unwrap();
        let states = model.gpu().block_on(States::new(model.gpu(), &[&plan])).unwrap();
        states.write("tokens", 0, text).unwrap();
        Runs { model, request, states, executors: BTreeMap::new(), done: 0 }
    }

    /// The logits of the next `tokens` tokens, computed in one run.
    pub fn run(&mut self, tokens: usize) -> Vec<f32> {
        let (gpu, request) = (self.model.gpu(), PlanRequest { tokens, ..self.request });
        let made = || gpu.block_on(self.model.executor(self.model.plan(request).unwrap(), &self.states)).unwrap();
        let executor = self.executors.entry(tokens).or_insert_with(made);
        self.states.write("cursor", 0, &[self.done as u32, tokens as u32]).unwrap();
        self.done += tokens;
        gpu.block_on(executor.run(&[])).unwrap()[0].values()
    }
}

/// The logits of every token of `text`, by runs of so many tokens: those of `begin`, then one after the other.
pub fn logits_by(model: &Decoder, text: &[u32], begin: &[usize], products: Products) -> Vec<f32> {
    let mut runs = Runs::new(model, text, text.len(), products);
    let ones = text.len() - begin.iter().sum::<usize>();
    begin.iter().copied().chain(std::iter::repeat_n(1, ones)).flat_map(|tokens| runs.run(tokens)).collect()
}
