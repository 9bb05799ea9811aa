//! Which files hold the network of a configuration, and how large constants become that join tensors of a file, at the shapes of published
//! models.

#![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

use super::super::network::{Head, PlanRequest, plan};
use super::super::{CacheFormat, Products};
use super::*;
use lampyris_engine::weights::{ByteSource, Feed, Weights};
use std::borrow::Cow;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

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

const SMALL: &str = r#"{"model_type": "llama", "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "vocab_size": 600}"#;

/// A file of `tensors` with so many bytes of 32-bit noughts, but for the tensors of `ones`, whose last byte is one.
fn small(tensors: &[(String, Vec<usize>)], ones: &[&str]) -> TensorFile {
    Weights::from_bytes("small", small_bytes(tensors, ones)).unwrap().into()
}

fn small_bytes(tensors: &[(String, Vec<usize>)], ones: &[&str]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in tensors {
        let begin = data.len();
        data.resize(begin + 4 * shape.iter().product::<usize>(), 0);
        *data.last_mut().unwrap() = u8::from(ones.contains(&name.as_str()));
        let offsets = [begin, data.len()];
        header.insert(name.clone(), serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": offsets }));
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// The tensors of [`SMALL`], tied or not.
fn of_small(tied: bool) -> (Vec<(String, Vec<usize>)>, DecoderConfig) {
    let config = DecoderConfig::read("config.json", SMALL.as_bytes()).unwrap();
    let config = DecoderConfig { tied, ..config };
    let file = of_source(&serde_json::Map::new(), 0);
    let naming = Naming::of_file(&file, config.post_norm);
    let tensors = Tensors { file, naming, config: config.clone() };
    (tensors.expected().collect(), config)
}

#[test]
fn a_layers_tensor_without_a_place_is_refused_by_name() {
    let (tensors, config) = of_small(false);
    let with = |more: &[&str], config: &DecoderConfig| {
        let more = more.iter().map(|name| ((*name).to_owned(), vec![16]));
        Tensors::new(small(&tensors.iter().cloned().chain(more).collect::<Vec<_>>(), &[]), config.clone())
    };
    let harmless = [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.1.self_attn.masked_bias",
        "vision_tower.layers.0.weight",
        "mtp.layers.0.weight",
        "score.weight",
    ];
    with(&harmless, &config).unwrap();
    let bias = "model.layers.1.self_attn.q_proj.bias";
    let Err(Error::Incomplete { problems, .. }) = with(&[bias], &config) else { panic!("a bias has no place") };
    assert_eq!(problems.0, [Problem::Unexpected { name: bias.to_owned() }]);
    // A layer more than the configuration speaks of.
    let one = DecoderConfig { layers: 1, ..config };
    let Err(Error::Incomplete { problems, .. }) = with(&[], &one) else { panic!("a layer has no place") };
    assert_eq!(problems.0.len(), 9);
    assert!(problems.0.iter().all(|it| matches!(it, Problem::Unexpected { name } if name.contains("layers.1."))));
}

#[test]
fn a_head_that_differs_from_the_table_is_not_tied_to_it() {
    let (tensors, config) = of_small(true);
    assert!(Tensors::new(small(&tensors, &[]), config.clone()).unwrap().config().tied);
    let both = |shape: [usize; 2], ones: &[&str]| {
        let head = ("lm_head.weight".to_owned(), shape.to_vec());
        let all: Vec<_> = tensors.iter().cloned().chain([head]).collect();
        Tensors::new(small(&all, ones), config.clone())
    };
    let names = ["lm_head.weight", "model.embed_tokens.weight"];
    for (ones, tied) in [(&names[..0], true), (&names[..], true), (&names[..1], false), (&names[1..], false)] {
        let tensors = both([600, 16], ones).unwrap();
        assert_eq!(tensors.config().tied, tied, "{ones:?}");
        assert_eq!(tensors.head().pieces[0].tensor, if tied { names[1] } else { names[0] });
    }
    // Beside an encoder of pictures the head lies where the decoder does, as old files have it, or apart.
    for (prefix, head) in
        [("model.language_model.", "lm_head.weight"), ("language_model.model.", "language_model.lm_head.weight")]
    {
        let named = tensors.iter().map(|(name, shape)| (name.replacen("model.", prefix, 1), shape.clone()));
        let all: Vec<_> = named.chain([(head.to_owned(), vec![600, 16])]).collect();
        let found = Tensors::new(small(&all, &[head]), config.clone()).unwrap();
        assert!(!found.config().tied && found.head().pieces[0].tensor == head, "{prefix}");
    }
    let Err(Error::Incomplete { problems, .. }) = both([599, 16], &[]) else { panic!("the head lacks a row") };
    assert!(matches!(&problems.0[..], [Problem::Shape { name, .. }] if name == "lm_head.weight"), "{problems}");
}

/// Of a file that arrives by range nothing is compared, because two tables would be fetched for it.
#[test]
fn a_head_that_is_still_to_come_is_what_the_configuration_says() {
    let (tensors, config) = of_small(true);
    let head = ("lm_head.weight".to_owned(), vec![600, 16]);
    let bytes = small_bytes(&tensors.into_iter().chain([head]).collect::<Vec<_>>(), &["lm_head.weight"]);
    let feed = Feed::new();
    let source = feed.file(bytes.len() as u64);
    let file = loop {
        let mut opening = pin!(feed.until_there(|| TensorFile::from_source("fed", source.clone())));
        match opening.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(file) => break file.unwrap(),
            Poll::Pending => {
                let wanted = feed.take_wanted().unwrap();
                let range = wanted.range.start as usize..wanted.range.end as usize;
                feed.supply(&wanted, bytes[range].to_vec());
            }
        }
    };
    for tied in [true, false] {
        let found = Tensors::new(file.clone(), DecoderConfig { tied, ..config.clone() }).unwrap();
        assert_eq!(found.config().tied, tied);
    }
}

#[test]
fn what_serves_as_two_is_missing_once() {
    let (mut tensors, config) = of_small(true);
    tensors.retain(|(name, _)| name != "model.embed_tokens.weight");
    let Err(Error::Incomplete { problems, .. }) = Tensors::new(small(&tensors, &[]), config) else {
        panic!("no table")
    };
    assert_eq!(problems.0.len(), 1, "{problems}");
}

#[test]
fn a_file_that_is_one_of_several_is_told_so() {
    let missing = || Problem::Missing { name: "a".to_owned(), expected: Vec::new(), or_batch_norm: None };
    let incomplete = |file: &str, problem: Problem| {
        let (file, model, problems) = (file.to_owned(), "llama".to_owned(), Problems(vec![problem]));
        Error::Incomplete { file, model, problems }.to_string().ends_with("open the folder that has all")
    };
    let part = "a/model-00001-of-00002.safetensors";
    assert!(incomplete(part, missing()) && !incomplete(part, Problem::Unexpected { name: "a".to_owned() }));
    let whole = ["best-of-5/model.safetensors", "a/model-00001-of-00002.gguf", "model-00001-of-00001.safetensors"];
    for file in whole.into_iter().chain(["best-of-n.safetensors", "best-of-5.safetensors"]) {
        assert!(!incomplete(file, missing()), "{file}");
    }
}
