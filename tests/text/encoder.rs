//! Sentence encoders: a really trained one against an independent implementation's embeddings, and one of noise made here against the
//! plainest arithmetic, on every adapter and the CPU executor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{Tensors, devices, full_tier, material, relative};
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{MetadataValue, NewBlocks, ValueType, gguf_bytes};
use lampyris::engine::weights::{TensorFile, Weights};
use lampyris::models::encoder::{Encoder, EncoderFiles, EncoderOptions, EncoderPlan, TokenEncoder, cosine};
use lampyris::{Error, Gpu};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Everything in the full tier and on the CPU executor; otherwise a device embeds the first texts and a long one.
#[test]
fn embeddings_of_the_reference() {
    let Some(material) = material() else { return };
    let folder = material.join("minilm");
    let reference: Value = serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let all = reference["sentences"].as_array().unwrap();
    let tensors = Tensors::open(&folder.join("reference.safetensors"));
    let expected = tensors.f32("embeddings");
    for (name, gpu) in devices() {
        let encoder = gpu.block_on(Encoder::load(&gpu, &folder)).unwrap();
        assert_eq!((encoder.dimension(), encoder.max_tokens()), (384, 256));
        let taken = |at: usize| full_tier() || gpu.is_cpu_executor() || at < 18 || at == 38;
        let taken: Vec<usize> = (0..all.len()).filter(|at| taken(*at)).collect();
        let texts: Vec<&str> = taken.iter().map(|at| all[*at]["text"].as_str().unwrap()).collect();
        for (text, at) in texts.iter().zip(&taken) {
            assert_eq!(encoder.ids(text).unwrap(), ids(&all[*at]["ids"]), "{text:?}");
        }
        let start = Instant::now();
        let found = gpu.block_on(encoder.embed(&texts)).unwrap();
        let seconds = start.elapsed().as_secs_f32();
        let found: BTreeMap<usize, Vec<f32>> = taken.into_iter().zip(found).collect();
        let mut worst = 0.0f32;
        for (at, found) in &found {
            let expected = &expected[at * 384..][..384];
            let near = cosine(found, expected);
            assert!(near >= 0.99999, "text {at} on {name}: {near}");
            worst = worst.max(relative(found, expected));
        }
        // Far below what a cosine of 0.99999 allows, so that a small mistake shows.
        assert!(worst < 1e-4, "{name}: {worst:e}");
        let mut pairs = 0;
        for pair in reference["cosine"].as_array().unwrap() {
            let [a, b] = ["a", "b"].map(|which| found.get(&(pair[which].as_u64().unwrap() as usize)));
            let (Some(a), Some(b)) = (a, b) else { continue };
            let near = f64::from(cosine(a, b));
            assert!((near - pair["cos"].as_f64().unwrap()).abs() < 1e-5, "{pair} on {name}: {near}");
            pairs += 1;
        }
        assert!(pairs >= 7, "{name}: {pairs}");
        for at in [4, 30] {
            let rows = gpu.block_on(encoder.network().rows(&ids(&all[at]["ids"]))).unwrap();
            let error = relative(&rows, &tensors.f32(&format!("last_hidden_state.{at}")));
            assert!(error < 1e-4, "rows of {at} on {name}: {error:e}");
        }
        eprintln!("{name}: {} texts in {seconds:.1} s, worst value off by {worst:e}", found.len());
    }
}

/// The network of noise, with the tensors and the configuration changed.
fn noise(change: impl FnOnce(&mut BTreeMap<String, crate::bert::Tensor>, &mut Value)) -> EncoderFiles {
    let (mut tensors, mut config) = (crate::bert::tensors(), crate::bert::config());
    change(&mut tensors, &mut config);
    let weights = Weights::from_bytes("noise", crate::bert::safetensors(&tensors)).unwrap();
    EncoderFiles::new(TensorFile::from(weights), Some(config.to_string().into_bytes()))
}

fn plain() -> EncoderFiles {
    noise(|_, _| ())
}

fn open(gpu: &Gpu, files: EncoderFiles) -> TokenEncoder {
    TokenEncoder::new(gpu, files, EncoderOptions::default()).unwrap()
}

/// Sequences of one token, of all the network can read, and between.
fn sequences() -> Vec<Vec<u32>> {
    let lengths = [1, 20, 3, 7, 0, 12, 2, 20, 5, 4, 9, 1];
    lengths.iter().enumerate().map(|(s, n)| (0..*n).map(|t| ((s * 31 + t * t * 7 + t) % 58) as u32).collect()).collect()
}

/// `v` times the normal distribution, by its series (Abramowitz and Stegun 26.2.10).
fn gelu(v: f64) -> f64 {
    if v.abs() > 7.0 {
        return v.max(0.0);
    }
    let (mut term, mut sum, mut n) = (v, v, 0.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 1.0;
        term *= -v * v / (2.0 * n);
        sum += term / (2.0 * n + 1.0);
    }
    v * (0.5 + sum / (2.0 * std::f64::consts::PI).sqrt())
}

fn gelu_tanh(v: f64) -> f64 {
    0.5 * v * (1.0 + (0.797_884_560_802_865_4 * (v + 0.044715 * v * v * v)).tanh())
}

/// An activation by its name in `config.json`.
type Unit = (&'static str, fn(f64) -> f64);

/// What a way of pooling makes of a column.
type Pool = (&'static str, fn(&[f64]) -> f64);

#[test]
fn every_token_and_every_pooling_is_as_plain_arithmetic_has_it() {
    let units: [Unit; 3] = [("gelu", gelu), ("gelu_new", gelu_tanh), ("relu", |v| v.max(0.0))];
    for (name, gpu) in devices() {
        for (act, unit) in units {
            let encoder = open(&gpu, noise(|_, config| config["hidden_act"] = act.into()));
            for sequence in sequences().iter().filter(|sequence| !sequence.is_empty()) {
                let expected: Vec<f32> = crate::bert::rows(&crate::bert::tensors(), sequence, unit)
                    .concat()
                    .iter()
                    .map(|v| *v as f32)
                    .collect();
                let error = relative(&gpu.block_on(encoder.rows(sequence)).unwrap(), &expected);
                assert!(error < 2e-5, "{act} of {} tokens on {name}: {error:e}", sequence.len());
            }
        }
        let pool: [Pool; 5] = [
            ("pooling_mode_mean_tokens", |column| column.iter().sum::<f64>() / column.len() as f64),
            ("pooling_mode_cls_token", |column| column[0]),
            ("pooling_mode_lasttoken", |column| column[column.len() - 1]),
            ("pooling_mode_max_tokens", |column| column.iter().copied().fold(f64::MIN, f64::max)),
            ("pooling_mode_mean_sqrt_len_tokens", |column| column.iter().sum::<f64>() / (column.len() as f64).sqrt()),
        ];
        for (at, (mode, pool)) in pool.into_iter().enumerate() {
            let normalize = at % 2 == 1;
            let mut types = vec!["Transformer", "Pooling"];
            types.extend(normalize.then_some("Normalize"));
            let list: Vec<Value> = types.iter().map(|kind| json!({"type": kind, "path": ""})).collect();
            let mut files = plain();
            files.modules = Some(Value::from(list).to_string().into_bytes());
            files.pooling = Some(json!({ mode: true }).to_string().into_bytes());
            let encoder = open(&gpu, files);
            let found = gpu.block_on(encoder.embed(&sequences())).unwrap();
            for (sequence, found) in sequences().iter().zip(found) {
                let rows = crate::bert::rows(&crate::bert::tensors(), sequence, gelu);
                let column = |c: usize| rows.iter().map(|row| row[c]).collect::<Vec<f64>>();
                let mut expected: Vec<f64> = match rows.len() {
                    0 => vec![0.0; 24],
                    _ => (0..24).map(|c| pool(&column(c))).collect(),
                };
                let length = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
                if normalize && length > 0.0 {
                    expected.iter_mut().for_each(|v| *v /= length);
                }
                let expected: Vec<f32> = expected.iter().map(|v| *v as f32).collect();
                if sequence.is_empty() {
                    assert_eq!(found, expected, "{mode} on {name}");
                } else {
                    let error = relative(&found, &expected);
                    assert!(error < 3e-5, "{mode} of {} tokens on {name}: {error:e}", sequence.len());
                }
            }
        }
    }
}

#[test]
fn a_batch_gives_what_its_sequences_give_one_by_one() {
    // More than one run has room for, of tokens and of sequences.
    let mut many: Vec<Vec<u32>> = (0..7).flat_map(|_| sequences()).collect();
    many.extend((0..150).map(|s| vec![s % 58]));
    for (name, gpu) in devices() {
        let encoder = open(&gpu, plain());
        let together = gpu.block_on(encoder.embed(&many)).unwrap();
        assert_eq!(together, gpu.block_on(encoder.embed(&many)).unwrap(), "the same runs on {name}");
        assert_eq!(together.len(), many.len());
        let alone: Vec<Vec<f32>> = sequences()
            .iter()
            .map(|one| gpu.block_on(encoder.embed(std::slice::from_ref(one))).unwrap().remove(0))
            .collect();
        for (at, found) in together.iter().enumerate().take(7 * alone.len()) {
            let expected = &alone[at % alone.len()];
            if many[at].is_empty() {
                assert_eq!(found, expected, "{name}");
                continue;
            }
            // Other shapes, so within the tolerances of about twenty steps.
            let error = relative(found, expected);
            assert!(error < 2e-5, "{at} on {name}: {error:e}");
        }
        assert_eq!(gpu.block_on(encoder.embed(&[])).unwrap().len(), 0);
    }
}

#[test]
fn a_layer_is_seven_dispatches_and_a_run_one_submit() {
    for (name, gpu) in devices() {
        let encoder = open(&gpu, plain());
        let plan = encoder.plan(EncoderPlan { rows: 16, sequences: Some(4) }).unwrap();
        assert_eq!(plan.steps.len(), 2 + 2 * 7 + 1);
        let three = [vec![2, 7, 3], vec![2, 3], vec![2, 9, 9, 3]];
        gpu.block_on(encoder.embed(&three)).unwrap();
        let before = gpu.counts();
        gpu.block_on(encoder.embed(&three)).unwrap();
        let after = gpu.counts();
        let counted = (after.submits - before.submits, after.dispatches - before.dispatches);
        assert_eq!(counted, if gpu.is_cpu_executor() { (0, 0) } else { (1, 17) }, "{name}");
    }
}

#[test]
fn other_names_and_positions_are_the_same_network() {
    let gpu = Gpu::cpu_executor();
    let embed = |files: EncoderFiles| gpu.block_on(open(&gpu, files).embed(&sequences())).unwrap();
    let expected = embed(plain());
    let prefixed = noise(|tensors, _| {
        *tensors = std::mem::take(tensors).into_iter().map(|(name, tensor)| (format!("bert.{name}"), tensor)).collect();
        tensors.insert("cls.predictions.bias".to_owned(), (vec![2], vec![0.0; 2]));
    });
    assert_eq!(embed(prefixed), expected);
    let greek = noise(|tensors, _| {
        let rename = |name: String| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        };
        *tensors = std::mem::take(tensors).into_iter().map(|(name, tensor)| (rename(name), tensor)).collect();
    });
    assert_eq!(embed(greek), expected);
    // RoBERTa's first position is the third of the table, and it has one type of token.
    let roberta = noise(|tensors, config| {
        for (key, value) in
            [("model_type", json!("roberta")), ("max_position_embeddings", json!(22)), ("type_vocab_size", json!(1))]
        {
            config[key] = value;
        }
        let (shape, values) = tensors.get_mut("embeddings.position_embeddings.weight").unwrap();
        shape[0] += 2;
        values.splice(0..0, vec![9.0; 48]);
        let (shape, values) = tensors.get_mut("embeddings.token_type_embeddings.weight").unwrap();
        shape[0] = 1;
        values.truncate(24);
    });
    assert_eq!(embed(roberta), expected);
}

/// The network and the vocabulary of noise as llama.cpp's converter writes them.
fn gguf(change: impl FnOnce(&mut Vec<(String, MetadataValue)>)) -> Vec<u8> {
    let text = |text: &str| MetadataValue::String(text.to_owned());
    let [hidden, heads, units, layers, positions] = crate::bert::SIZES.map(|size| MetadataValue::U32(size as u32));
    let vocabulary = crate::bert::tokenizer()["model"]["vocab"].as_object().unwrap().clone();
    let mut tokens: Vec<(String, u64)> =
        vocabulary.into_iter().map(|(token, id)| (token, id.as_u64().unwrap())).collect();
    tokens.sort_by_key(|(_, id)| *id);
    let marked = |(token, id): &(String, u64)| match token.strip_prefix("##") {
        _ if *id < 5 => text(token),
        Some(rest) => text(rest),
        None => text(&format!("\u{2581}{token}")),
    };
    let kind = |(_, id): &(String, u64)| MetadataValue::I32(if *id < 5 { 3 } else { 1 });
    let mut metadata: Vec<(String, MetadataValue)> = [
        ("general.architecture", text("bert")),
        ("bert.embedding_length", hidden),
        ("bert.attention.head_count", heads),
        ("bert.feed_forward_length", units),
        ("bert.block_count", layers),
        ("bert.context_length", positions),
        ("bert.attention.layer_norm_epsilon", MetadataValue::F32(1e-12)),
        ("bert.pooling_type", MetadataValue::U32(1)),
        ("tokenizer.ggml.model", text("bert")),
        ("tokenizer.ggml.tokens", MetadataValue::Array(ValueType::String, tokens.iter().map(marked).collect())),
        ("tokenizer.ggml.token_type", MetadataValue::Array(ValueType::I32, tokens.iter().map(kind).collect())),
        ("tokenizer.ggml.cls_token_id", MetadataValue::U32(2)),
        ("tokenizer.ggml.seperator_token_id", MetadataValue::U32(3)),
        ("tokenizer.ggml.unknown_token_id", MetadataValue::U32(1)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec();
    change(&mut metadata);
    let mut tensors = Vec::new();
    for (name, (shape, values)) in crate::bert::tensors() {
        let mut name = name.replace("encoder.layer.", "blk.");
        for (theirs, gguf) in [
            ("embeddings.word_embeddings", "token_embd"),
            ("embeddings.position_embeddings", "position_embd"),
            ("embeddings.token_type_embeddings", "token_types"),
            ("embeddings.LayerNorm", "token_embd_norm"),
            ("attention.self.query", "attn_q"),
            ("attention.self.key", "attn_k"),
            ("attention.self.value", "attn_v"),
            ("attention.output.dense", "attn_output"),
            ("attention.output.LayerNorm", "attn_output_norm"),
            ("intermediate.dense", "ffn_up"),
            ("output.dense", "ffn_down"),
            ("output.LayerNorm", "layer_output_norm"),
        ] {
            name = name.replace(theirs, gguf);
        }
        tensors.push((name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()));
    }
    let blocks = tensors.iter().map(|(name, shape, bytes)| NewBlocks { name, format: BlockFormat::F32, shape, bytes });
    let blocks: Vec<NewBlocks<'_>> = blocks.collect();
    gguf_bytes("noise", &metadata, &blocks).unwrap()
}

#[test]
fn a_gguf_file_is_the_same_encoder() {
    let folder = tempfile::tempdir().unwrap();
    crate::bert::write(folder.path());
    std::fs::write(folder.path().join("noise.gguf"), gguf(|_| ())).unwrap();
    let texts = ["", "a fox", "A\u{e9}b. zzz 7", "[SEP] q"];
    for (name, gpu) in devices() {
        let plain = gpu.block_on(Encoder::load(&gpu, folder.path())).unwrap();
        let file = gpu.block_on(Encoder::load(&gpu, folder.path().join("noise.gguf"))).unwrap();
        for text in texts {
            assert_eq!(plain.ids(text).unwrap(), file.ids(text).unwrap(), "{text:?}");
        }
        assert_eq!(file.max_tokens(), 20);
        let [a, b] = [&plain, &file].map(|encoder| gpu.block_on(encoder.embed(texts)).unwrap());
        assert_eq!(a, b, "{name}");
    }
    let gpu = Gpu::cpu_executor();
    for (key, value, named) in [
        ("general.architecture", MetadataValue::String("nomic-bert".to_owned()), "nomic-bert"),
        ("bert.pooling_type", MetadataValue::U32(4), "bert.pooling_type"),
        ("bert.attention.head_count", MetadataValue::U32(5), "bert.attention.head_count"),
        ("bert.block_count", MetadataValue::U32(3), "blk.2.attn_q.weight"),
        ("tokenizer.ggml.model", MetadataValue::String("wordy".to_owned()), "wordy"),
    ] {
        let file = gguf(|metadata| {
            metadata.iter_mut().filter(|(known, _)| known == key).for_each(|(_, old)| *old = value.clone())
        });
        let weights = TensorFile::from_bytes("noise.gguf", file).unwrap();
        let error =
            Encoder::new(&gpu, EncoderFiles::new(weights, None), EncoderOptions::default()).unwrap_err().to_string();
        assert!(error.contains(named), "{named} is not in: {error}");
    }
}

#[test]
fn matrices_in_16_bits_take_half_and_stay_near() {
    for (name, gpu) in devices() {
        let (whole, half) =
            (open(&gpu, plain()), TokenEncoder::new(&gpu, plain(), EncoderOptions::default().half(true)).unwrap());
        let [a, b] = [&whole, &half].map(|encoder| gpu.block_on(encoder.embed(&sequences())).unwrap());
        for (a, b) in a.iter().zip(&b).filter(|(a, _)| a.iter().any(|v| *v != 0.0)) {
            assert!(cosine(a, b) >= 0.9999, "{name}: {}", cosine(a, b));
        }
        assert_ne!(a, b, "{name}");
        assert!(half.weight_bytes() < whole.weight_bytes() * 6 / 10, "{name}");
    }
    let huge = noise(|tensors, _| tensors.get_mut("encoder.layer.1.output.dense.weight").unwrap().1[5] = 1e5);
    let gpu = Gpu::cpu_executor();
    let encoder = TokenEncoder::new(&gpu, huge, EncoderOptions::default().half(true)).unwrap();
    let error = gpu.block_on(encoder.embed(&sequences())).unwrap_err().to_string();
    assert!(error.contains("layers.1.down") && error.contains("65504"), "{error}");
}

#[test]
fn texts_are_cut_prompted_and_may_be_empty() {
    let folder = tempfile::tempdir().unwrap();
    crate::bert::write(folder.path());
    for (name, gpu) in devices() {
        let encoder = gpu.block_on(Encoder::load(&gpu, folder.path())).unwrap();
        assert_eq!((encoder.dimension(), encoder.max_tokens()), (24, 16));
        assert_eq!(encoder.ids("").unwrap(), [2, 3]);
        assert_eq!(encoder.ids("Ab.").unwrap(), [2, 5, 32, 57, 3]);
        assert_eq!(encoder.ids("[SEP]").unwrap(), [2, 3, 3]);
        let long = "abc. ".repeat(50_000);
        assert_eq!(encoder.ids(&long).unwrap().len(), 16);
        assert_eq!(encoder.ids(&long).unwrap()[13..], [5, 32, 3]);
        let found = gpu.block_on(encoder.embed(["", "a", "search. a", &long])).unwrap();
        assert!(found.iter().all(|row| (cosine(row, row) - 1.0).abs() < 1e-6 && row.len() == 24), "{name}");
        let prompted = gpu.block_on(encoder.embed_as("query", ["", "a"])).unwrap();
        assert!(relative(&prompted[1], &found[2]) < 1e-6, "{name}");
        assert_eq!(encoder.prompts().keys().collect::<Vec<_>>(), ["passage", "query"]);
        let error = gpu.block_on(encoder.embed_as("nothing", ["a"])).unwrap_err().to_string();
        assert!(error.contains("`nothing`") && error.contains("passage, query"), "{error}");
        assert!(gpu.block_on(encoder.embed(Vec::<String>::new())).unwrap().is_empty());
    }
    // A prompt that the files name stands before every text.
    let gpu = Gpu::cpu_executor();
    let asked =
        gpu.block_on(async { Encoder::load(&gpu, folder.path()).await?.embed_as("query", ["a"]).await }).unwrap();
    let prompts = json!({"prompts": {"query": "search. "}, "default_prompt_name": "query"});
    std::fs::write(folder.path().join("config_sentence_transformers.json"), prompts.to_string()).unwrap();
    let usual = gpu.block_on(async { Encoder::load(&gpu, folder.path()).await?.embed(["a"]).await }).unwrap();
    assert_eq!(asked, usual);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let gpu = Gpu::cpu_executor();
    let encoder = open(&gpu, plain());
    let embed = |sequence: Vec<u32>| gpu.block_on(encoder.embed(&[vec![2, 3], sequence])).unwrap_err();
    assert!(matches!(embed(vec![0; 21]), Error::Context { tokens: 21, context: 20 }));
    assert!(matches!(embed(vec![1, 58]), Error::Token { token: 58, vocabulary: 58 }));
    let missing = noise(|tensors, _| {
        tensors.remove("encoder.layer.1.attention.self.key.bias");
        tensors.get_mut("embeddings.LayerNorm.bias").unwrap().0 = vec![4, 6];
    });
    let error = TokenEncoder::new(&gpu, missing, EncoderOptions::default()).unwrap_err().to_string();
    for part in
        ["noise", "bert", "encoder.layer.1.attention.self.key.bias", "embeddings.LayerNorm.bias", "[4, 6]", "[24]"]
    {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let broken = noise(|tensors, _| {
        tensors.get_mut("encoder.layer.0.intermediate.dense.bias").unwrap().1[0] = 3e38;
        tensors.get_mut("encoder.layer.0.output.dense.weight").unwrap().1[0] = 10.0;
    });
    let error = gpu.block_on(open(&gpu, broken).embed(&[vec![2, 3]])).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }), "{error}");
    let mut unnamed = plain();
    unnamed.modules = Some(
        b"[{\"type\": \"Transformer\", \"path\": \"\"}, {\"type\": \"Pooling\", \"path\": \"1_Pooling\"}]".to_vec(),
    );
    let error = TokenEncoder::new(&gpu, unnamed, EncoderOptions::default()).unwrap_err().to_string();
    assert!(error.contains("1_Pooling/config.json"), "{error}");
}

/// A file of the folder, what is written in it, and what the refusal names.
#[test]
fn a_folder_with_hostile_files_is_refused_in_a_sentence() {
    let cases: [(&str, Option<&[u8]>, &str); 16] = [
        ("config.json", None, "config.json"),
        ("config.json", Some(b"{"), "config.json"),
        ("config.json", Some(b"{\"model_type\": \"t5\"}"), "t5"),
        ("model.safetensors", None, "model.safetensors"),
        ("model.safetensors", Some(b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"), "model.safetensors"),
        ("modules.json", Some(b"{\"a\": 1}"), "a list of objects"),
        (
            "modules.json",
            Some(b"[{\"type\": \"x.Transformer\"}, {\"type\": \"x.Pooling\", \"path\": \"../..\"}]"),
            "a folder below",
        ),
        (
            "modules.json",
            Some(b"[{\"type\": \"x.Transformer\"}, {\"type\": \"x.Pooling\", \"path\": \"no\"}]"),
            "no/config.json",
        ),
        ("1_Pooling/config.json", Some(b"{\"pooling_mode_weightedmean_tokens\": true}"), "weightedmean"),
        (
            "1_Pooling/config.json",
            Some(b"{\"pooling_mode_mean_tokens\": true, \"word_embedding_dimension\": 1e9}"),
            "hidden_size",
        ),
        ("tokenizer.json", None, "tokenizer.json"),
        ("tokenizer.json", Some(b"{}"), "tokenizer.json"),
        ("sentence_bert_config.json", Some(b"{\"max_seq_length\": 0}"), "max_seq_length"),
        ("sentence_bert_config.json", Some(b"{\"max_seq_length\": 1}"), "2 tokens do not fit a context of 1"),
        ("config_sentence_transformers.json", Some(b"{\"prompts\": {\"q\": 3}}"), "prompts"),
        ("config_sentence_transformers.json", Some(b"{\"default_prompt_name\": \"q\"}"), "default_prompt_name"),
    ];
    let gpu = Gpu::cpu_executor();
    for (file, bytes, named) in cases {
        let folder = tempfile::tempdir().unwrap();
        crate::bert::write(folder.path());
        let path = folder.path().join(file);
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        let error = gpu.block_on(Encoder::load(&gpu, folder.path())).unwrap_err().to_string();
        assert!(error.contains(named) && !error.contains('\n'), "{named} is not in: {error}");
    }
    // A tokenizer with more tokens than the network has embeddings.
    let folder = tempfile::tempdir().unwrap();
    crate::bert::write(folder.path());
    let mut tokenizer = crate::bert::tokenizer();
    tokenizer["model"]["vocab"]["zzz"] = json!(58);
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let error = gpu.block_on(Encoder::load(&gpu, folder.path())).unwrap_err().to_string();
    assert!(error.contains("58"), "{error}");
    let error = gpu.block_on(Encoder::load(&gpu, folder.path().join("nowhere"))).unwrap_err().to_string();
    assert!(error.contains("nowhere does not exist"), "{error}");
}
