//! A sentence encoder of noise in a folder, as sentence-transformers lays one out, and what it must give by the plainest arithmetic.

#![allow(dead_code, unreachable_pub, reason = "each program of tests uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Columns, heads, units, layers and positions of the network.
pub const SIZES: [usize; 5] = [24, 3, 40, 2, 20];
/// Tokens of the vocabulary: five special ones, the letters as beginnings and as continuations of words, a full stop.
pub const VOCABULARY: usize = 58;

/// The network's `config.json`.
pub fn config() -> Value {
    config_of(SIZES, VOCABULARY)
}

/// The `config.json` of a network of other sizes.
pub fn config_of([hidden, heads, units, layers, positions]: [usize; 5], vocabulary: usize) -> Value {
    json!({
        "model_type": "bert", "hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": units,
        "num_hidden_layers": layers, "max_position_embeddings": positions, "vocab_size": vocabulary, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    })
}

/// A tensor's shape and values.
pub type Tensor = (Vec<usize>, Vec<f32>);

/// The network's tensors, by their plain names.
pub fn tensors() -> BTreeMap<String, Tensor> {
    tensors_of(SIZES, VOCABULARY)
}

/// The tensors of a network of other sizes.
pub fn tensors_of([hidden, _, units, layers, positions]: [usize; 5], vocabulary: usize) -> BTreeMap<String, Tensor> {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![vocabulary, hidden]),
        ("embeddings.position_embeddings.weight".into(), vec![positions, hidden]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, hidden]),
        ("embeddings.LayerNorm.weight".into(), vec![hidden]),
        ("embeddings.LayerNorm.bias".into(), vec![hidden]),
    ];
    for layer in 0..layers {
        for (name, rows, columns) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("attention.output.LayerNorm", hidden, 0),
            ("intermediate.dense", units, hidden),
            ("output.dense", hidden, units),
            ("output.LayerNorm", hidden, 0),
        ] {
            let shape = [rows, columns].into_iter().filter(|extent| *extent > 0).collect();
            shapes.push((format!("encoder.layer.{layer}.{name}.weight"), shape));
            shapes.push((format!("encoder.layer.{layer}.{name}.bias"), vec![rows]));
        }
    }
    let mut seed = 1u32;
    let mut noise = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    // Wide enough that neither attention nor units are flat.
    let filled = |(name, shape): (String, Vec<usize>)| {
        let values = (0..shape.iter().product()).map(|_| 0.7 * noise()).collect();
        (name, (shape, values))
    };
    shapes.into_iter().map(filled).collect()
}

/// Tensors as a safetensors file in F32.
pub fn safetensors(tensors: &BTreeMap<String, Tensor>) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, (shape, values)) in tensors {
        let start = data.len();
        values.iter().for_each(|value| data.extend(value.to_le_bytes()));
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// A vocabulary of single letters, put together as BERT's are.
pub fn tokenizer() -> Value {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let letters = || (b'a'..=b'z').map(char::from);
    let mut tokens: Vec<String> = special.map(str::to_owned).to_vec();
    tokens.extend(letters().map(String::from));
    tokens.extend(letters().map(|letter| format!("##{letter}")));
    tokens.push(".".to_owned());
    let vocabulary: Map<String, Value> = tokens.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    assert_eq!(vocabulary.len(), VOCABULARY);
    let added = |(id, token): (usize, &str)| json!({"id": id, "content": token, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    let around = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let used = |id: usize, token: &str| json!({"id": token, "ids": [id], "tokens": [token]});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": special.into_iter().enumerate().map(added).collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [around("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, around("[SEP]")],
            "pair": [around("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, around("[SEP]"), {"Sequence": {"id": "B", "type_id": 1}}, around("[SEP]")],
            "special_tokens": {"[CLS]": used(2, "[CLS]"), "[SEP]": used(3, "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    })
}

/// Writes all files of the model, with the mean of the rows as embedding, normalized.
pub fn write(folder: &Path) {
    let module = |kind: &str, path: &str| json!({"type": format!("sentence_transformers.models.{kind}"), "path": path});
    let modules = [module("Transformer", ""), module("Pooling", "1_Pooling"), module("Normalize", "2_Normalize")];
    let pooling = json!({"word_embedding_dimension": SIZES[0], "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false});
    let prompts = json!({"prompts": {"query": "search. ", "passage": ""}, "default_prompt_name": null});
    std::fs::create_dir_all(folder.join("1_Pooling")).unwrap();
    for (name, value) in [
        ("config.json", config()),
        ("tokenizer.json", tokenizer()),
        ("modules.json", modules.to_vec().into()),
        ("1_Pooling/config.json", pooling),
        ("sentence_bert_config.json", json!({"max_seq_length": 16, "do_lower_case": false})),
        ("config_sentence_transformers.json", prompts),
    ] {
        std::fs::write(folder.join(name), value.to_string()).unwrap();
    }
    std::fs::write(folder.join("model.safetensors"), safetensors(&tensors())).unwrap();
}

/// `x [m, k]` times the matrix `name`, with its bias.
fn linear(tensors: &BTreeMap<String, Tensor>, name: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let (shape, weight) = &tensors[&format!("{name}.weight")];
    let (_, bias) = &tensors[&format!("{name}.bias")];
    let unit = |row: &Vec<f64>, n: usize| {
        let products = row.iter().zip(&weight[n * shape[1]..]).map(|(x, w)| x * f64::from(*w));
        products.sum::<f64>() + f64::from(bias[n])
    };
    x.iter().map(|row| (0..shape[0]).map(|n| unit(row, n)).collect()).collect()
}

/// The sums of two tables of rows, each row normalized by the norm `name`.
fn added_and_normed(tensors: &BTreeMap<String, Tensor>, name: &str, a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let [gain, bias] = ["weight", "bias"].map(|end| &tensors[&format!("{name}.{end}")].1);
    let norm = |(a, b): (&Vec<f64>, &Vec<f64>)| {
        let row: Vec<f64> = a.iter().zip(b).map(|(a, b)| a + b).collect();
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let scaled =
            row.iter().enumerate().map(|(i, v)| (v - mean) / variance.sqrt() * f64::from(gain[i]) + f64::from(bias[i]));
        scaled.collect()
    };
    a.iter().zip(b).map(norm).collect()
}

/// What the last layer makes of each token, with `unit` as the units' function.
pub fn rows(tensors: &BTreeMap<String, Tensor>, tokens: &[u32], unit: fn(f64) -> f64) -> Vec<Vec<f64>> {
    let [hidden, heads, _, layers, _] = SIZES;
    let table = |name: &str, row: usize| -> Vec<f64> {
        tensors[&format!("embeddings.{name}.weight")].1[row * hidden..][..hidden]
            .iter()
            .map(|v| f64::from(*v))
            .collect()
    };
    let kind = table("token_type_embeddings", 0);
    let words: Vec<Vec<f64>> = tokens.iter().map(|token| table("word_embeddings", *token as usize)).collect();
    let place = |at: usize| table("position_embeddings", at).iter().zip(&kind).map(|(a, b)| a + b).collect();
    let places: Vec<Vec<f64>> = (0..tokens.len()).map(place).collect();
    let mut x = added_and_normed(tensors, "embeddings.LayerNorm", &words, &places);
    for layer in 0..layers {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let [q, k, v] =
            ["query", "key", "value"].map(|part| linear(tensors, &name(&format!("attention.self.{part}")), &x));
        let head = hidden / heads;
        let mut attended = vec![vec![0.0; hidden]; tokens.len()];
        for (t, out) in attended.iter_mut().enumerate() {
            for h in 0..heads {
                let columns = h * head..(h + 1) * head;
                let score = |j: &Vec<f64>| columns.clone().map(|c| q[t][c] * j[c]).sum::<f64>() / (head as f64).sqrt();
                let weights: Vec<f64> = k.iter().map(|key| score(key).exp()).collect();
                let total: f64 = weights.iter().sum();
                for c in columns.clone() {
                    out[c] = weights.iter().zip(&v).map(|(w, v)| w * v[c]).sum::<f64>() / total;
                }
            }
        }
        let attended = linear(tensors, &name("attention.output.dense"), &attended);
        x = added_and_normed(tensors, &name("attention.output.LayerNorm"), &attended, &x);
        let mut units = linear(tensors, &name("intermediate.dense"), &x);
        units.iter_mut().flatten().for_each(|v| *v = unit(*v));
        let units = linear(tensors, &name("output.dense"), &units);
        x = added_and_normed(tensors, &name("output.LayerNorm"), &units, &x);
    }
    x
}
