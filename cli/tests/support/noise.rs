//! A language model of noise, made when it is needed: small enough to be run everywhere.

use super::{file, root};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Rows of its table.
const VOCABULARY: usize = 604;

/// A folder with a decoder of noise for the recorded tokenizer, which has ChatML's tokens. `wrong` changes the configuration.
pub(crate) fn model(folder: &TempDir, wrong: &[(&str, Value)]) -> String {
    let mut config = json!({
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": VOCABULARY, "max_position_embeddings": 96, "tie_word_embeddings": true,
    });
    for (key, value) in wrong {
        config[key] = value.clone();
    }
    let (mut header, mut data, mut seed) = (serde_json::Map::new(), Vec::new(), 1u32);
    for (name, shape) in [
        ("embed_tokens", vec![VOCABULARY, 16]),
        ("norm", vec![16]),
        ("layers.0.input_layernorm", vec![16]),
        ("layers.0.self_attn.q_proj", vec![16, 16]),
        ("layers.0.self_attn.k_proj", vec![8, 16]),
        ("layers.0.self_attn.v_proj", vec![8, 16]),
        ("layers.0.self_attn.o_proj", vec![16, 16]),
        ("layers.0.post_attention_layernorm", vec![16]),
        ("layers.0.mlp.gate_proj", vec![20, 16]),
        ("layers.0.mlp.up_proj", vec![20, 16]),
        ("layers.0.mlp.down_proj", vec![16, 20]),
    ] {
        let start = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.extend(((seed >> 8) as f32 / (1 << 23) as f32 - 1.0).to_le_bytes());
        }
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(format!("model.{name}.weight"), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let weights = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    file(folder, "model.safetensors", &weights);
    file(folder, "config.json", config.to_string().as_bytes());
    let tokenizer = std::fs::read(root().join("models/tests/fixtures/tokenizer.json")).unwrap();
    file(folder, "tokenizer.json", &tokenizer);
    folder.path().display().to_string()
}
