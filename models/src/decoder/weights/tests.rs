//! How large constants become that join tensors of a file, at the shapes of published models.

#![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

use super::super::network::{Head, PlanRequest, plan};
use super::super::{CacheFormat, Products};
use super::*;
use lampyris_engine::weights::{ByteSource, Weights};
use std::borrow::Cow;

/// The shapes of Qwen3-30B-A3B, whose joined experts take 805 MB in 16 bits, and of Llama-2-70B, whose gates and units take 940; two
/// layers of each.
const QWEN3_30B_A3B: &str = r#"{"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144,
    "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936,
    "max_position_embeddings": 40960, "tie_word_embeddings": false, "num_experts": 128, "num_experts_per_tok": 8,
    "moe_intermediate_size": 768, "norm_topk_prob": true}"#;
const LLAMA_2_70B: &str = r#"{"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672,
    "num_hidden_layers": 2, "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 32000,
    "max_position_embeddings": 4096, "tie_word_embeddings": false}"#;

/// A file of noughts behind a header, which alone is in memory.
struct Noughts {
    header: Vec<u8>,
    size: u64,
}

impl ByteSource for Noughts {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, range: Range<u64>) -> std::io::Result<Cow<'_, [u8]>> {
        let byte = |at: u64| self.header.get(at as usize).copied().unwrap_or(0);
        Ok(range.map(byte).collect::<Vec<u8>>().into())
    }
}

fn of_source(header: &serde_json::Map<String, serde_json::Value>, data: u64) -> TensorFile {
    let json = serde_json::to_vec(header).unwrap();
    let header = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
    let size = header.len() as u64 + data;
    Weights::from_source("noughts", Box::new(Noughts { header, size })).unwrap().into()
}

/// A model in 16 bits of which nothing but the shapes is there.
fn shapes_of(config: &str) -> Tensors {
    let config = DecoderConfig::read("config.json", config.as_bytes()).unwrap();
    let file = of_source(&serde_json::Map::new(), 0);
    let naming = Naming::of_file(&file, config.post_norm);
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in (Tensors { file, naming, config: config.clone() }).expected() {
        let begin = end;
        end += 2 * shape.iter().product::<usize>() as u64;
        let entry = serde_json::json!({ "dtype": "BF16", "shape": shape, "data_offsets": [begin, end] });
        header.insert(name, entry);
    }
    Tensors::new(of_source(&header, end), config).unwrap()
}

#[test]
fn joined_tensors_take_little_more_than_the_largest_tensor() {
    let caps = Caps { max_binding_bytes: 4 << 30, max_buffer_bytes: 4 << 30, ..Caps::WEBGPU_DEFAULT };
    for (config, largest, whole) in [(QWEN3_30B_A3B, 622_329_856, 805_306_368), (LLAMA_2_70B, 524_288_000, 939_524_096)]
    {
        let tensors = shapes_of(config);
        assert_eq!(tensors.largest(), largest);
        for (tokens, head) in [(1, Head::Sample), (512, Head::None)] {
            let (cache, products) = (CacheFormat::F16, Products::Exact);
            let request = PlanRequest { context: 4096, cache, tokens, head, products };
            let most = |limit: u64| {
                let plan = plan(&tensors, request, limit, &caps).unwrap();
                plan.constants.iter().map(|constant| constant.desc.bytes()).max().unwrap()
            };
            assert_eq!(most(u64::MAX), whole);
            let (limit, limited) = (tensors.limit(&caps), most(tensors.limit(&caps)));
            assert!(limited <= limit && limit < largest + (128 << 20), "{limited} bytes of {limit}");
        }
    }
}
