//! A decoder of noise, made when a test asks for it, so that a clone without trained models tests the whole way of a token.

use lampyris::engine::kernels::Noise;
use lampyris::engine::weights::{TensorFile, Weights};
use lampyris::models::decoder::DecoderFiles;

/// A network in the shape of Qwen3 with heads of `head` columns and tensors of noise from `seed`, without those that `left_out` names.
pub(crate) fn decoder(head: usize, seed: u64, left_out: &[&str]) -> DecoderFiles {
    let config = serde_json::json!({"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": head, "vocab_size": 61, "max_position_embeddings": 128,
        "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true});
    let mut tensors =
        vec![("model.embed_tokens.weight".to_owned(), vec![61, 24]), ("model.norm.weight".to_owned(), vec![24])];
    for layer in 0..2 {
        for (name, shape) in [
            ("input_layernorm", vec![24]),
            ("self_attn.q_proj", vec![4 * head, 24]),
            ("self_attn.k_proj", vec![2 * head, 24]),
            ("self_attn.v_proj", vec![2 * head, 24]),
            ("self_attn.q_norm", vec![head]),
            ("self_attn.k_norm", vec![head]),
            ("self_attn.o_proj", vec![24, 4 * head]),
            ("post_attention_layernorm", vec![24]),
            ("mlp.gate_proj", vec![20, 24]),
            ("mlp.up_proj", vec![20, 24]),
            ("mlp.down_proj", vec![24, 20]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    tensors.retain(|(name, _)| !left_out.iter().any(|part| name.contains(part)));
    let (mut header, mut data, mut noise) = (serde_json::Map::new(), Vec::new(), Noise::new(seed));
    for (name, shape) in tensors {
        let start = data.len();
        // Wide enough that neither softmax nor gates are flat.
        data.extend((0..shape.iter().product()).flat_map(|_| noise.real(-0.6, 0.6).to_le_bytes()));
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name, entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    let weights = TensorFile::from(Weights::from_bytes("noise", file).unwrap());
    DecoderFiles { weights, config: Some(config.to_string().into_bytes()) }
}
