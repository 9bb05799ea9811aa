//! GGUF files that other software wrote, against the values and the metadata that it gives for them.

use crate::measured;
use crate::support::material;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{Gguf, GgufProblem, Value, ValueType};
use lampyris::engine::weights::{TensorFile, Weights, WeightsError};
use serde_json::Value as Json;
use std::path::PathBuf;

fn folder() -> Option<PathBuf> {
    Some(material()?.join("gguf-quants/files"))
}

fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let differs = found.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(differs, None, "{what}");
}

#[test]
fn files_of_every_format_hold_the_expected_values() {
    let Some(folder) = folder() else { return };
    let expected = Weights::open(&folder.join("expected.safetensors")).unwrap();
    let mut read = 0;
    for info in expected.tensors().iter().filter(|info| !info.name.starts_with("big-endian")) {
        let (file, tensor) = info.name.split_once('/').unwrap();
        let file = if file == "split" { "split-00001-of-00003.gguf" } else { file };
        let same_bytes = if file == "small-Q4_K.gguf" { Some("v2-Q4_K.gguf") } else { None };
        for file in [Some(file), same_bytes].into_iter().flatten() {
            let opened = TensorFile::open(&folder.join(file)).unwrap();
            assert_eq!(opened.get(tensor).unwrap().shape, info.shape, "{file} {tensor}");
            assert_same(&opened.f32(tensor).unwrap(), &expected.f32(&info.name).unwrap(), &format!("{file} {tensor}"));
            read += 1;
        }
    }
    assert_eq!(read, expected.tensors().len() - 1 + 4);
}

#[test]
fn files_say_what_they_are() {
    let Some(folder) = folder() else { return };
    let open = |name: &str| Gguf::open(&folder.join(name)).unwrap();
    assert_eq!((open("v2-Q4_K.gguf").version(), open("small-Q4_K.gguf").version()), (2, 3));
    assert_eq!((open("align-256.gguf").alignment(), open("small-Q8_0.gguf").alignment()), (256, 32));
    let small = open("small-MXFP4.gguf");
    assert_eq!(small.value("test.answer"), Some(Value::U32(42)));
    assert_eq!(small.get("three.weight").unwrap().format, BlockFormat::MXFP4);
    assert_eq!(small.get("three.weight").unwrap().shape, [2, 4, 256]);
    for part in 1..=3 {
        let split = open(&format!("split-0000{part}-of-00003.gguf"));
        let names: Vec<_> = split.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["t0", "t1", "t2", "t3", "t4"]);
    }
    match Gguf::open(&folder.join("big-endian-v3.gguf")).unwrap_err() {
        WeightsError::Gguf(error) => assert_eq!((error.offset, error.problem), (4, GgufProblem::BigEndian)),
        other => panic!("{other:?}"),
    }
}

/// Whether a value is the one that the list has: 64-bit integers as text, infinity as `inf`.
fn matches(value: Value<'_>, listed: &Json) -> bool {
    match value {
        Value::F32(value) if value.is_infinite() => listed == "inf",
        Value::F32(value) => listed.as_f64().map(|listed| (listed as f32).to_bits()) == Some(value.to_bits()),
        Value::F64(value) => listed.as_f64() == Some(value),
        Value::Bool(value) => listed.as_bool() == Some(value),
        Value::String(value) => listed.as_str() == Some(value),
        Value::U64(value) => listed.as_str() == Some(value.to_string().as_str()),
        Value::I64(value) => listed.as_str() == Some(value.to_string().as_str()),
        Value::Array(array) => {
            let listed = listed.as_array().unwrap();
            array.len() == listed.len() && array.iter().zip(listed).all(|(value, listed)| matches(value, listed))
        }
        other => other.integer() == listed.as_i64().map(i128::from),
    }
}

fn short(kind: ValueType) -> &'static str {
    match kind {
        ValueType::U8 => "u8",
        ValueType::I8 => "i8",
        ValueType::U16 => "u16",
        ValueType::I16 => "i16",
        ValueType::U32 => "u32",
        ValueType::I32 => "i32",
        ValueType::F32 => "f32",
        ValueType::Bool => "bool",
        ValueType::String => "str",
        ValueType::Array => "arr",
        ValueType::U64 => "u64",
        ValueType::I64 => "i64",
        ValueType::F64 => "f64",
        _ => "?",
    }
}

#[test]
fn metadata_of_every_type_is_what_was_written() {
    let Some(folder) = folder() else { return };
    let file = Gguf::open(&folder.join("metadata-all-types.gguf")).unwrap();
    let listed: Json = serde_json::from_slice(&std::fs::read(folder.join("metadata-all-types.json")).unwrap()).unwrap();
    let listed = listed["metadata"].as_array().unwrap();
    assert_eq!(file.metadata().count(), listed.len());
    for ((key, value), listed) in file.metadata().zip(listed) {
        assert_eq!(listed["key"], key);
        let kind = match value.array() {
            Some(array) => format!("arr:{}", short(array.kind())),
            None => short(value.kind()).to_owned(),
        };
        assert_eq!(listed["type"], kind, "{key}");
        assert!(matches(value, &listed["value"]), "{key}: {value:?} for {}", listed["value"]);
    }
}

/// A small language model in every plain format: as the safetensors file it was made from, or as close as the format is.
#[test]
fn a_language_model_is_the_same_in_both_kinds_of_files() {
    let Some(folder) = material().map(|folder| folder.join("stories260k")) else { return };
    let plain = TensorFile::open(&folder.join("gguf/stories260K-F32.gguf")).unwrap();
    let original = TensorFile::open(&folder.join("hf")).unwrap();
    // These are neither renamed with a permutation nor shared.
    for (gguf, safetensors) in [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"),
        ("blk.4.attn_v.weight", "model.layers.4.self_attn.v_proj.weight"),
    ] {
        assert_eq!(plain.get(gguf).unwrap().shape, original.get(safetensors).unwrap().shape);
        assert_same(&plain.f32(gguf).unwrap(), &original.f32(safetensors).unwrap(), gguf);
    }
    for name in ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"] {
        let format = BlockFormat::from_name(name).unwrap();
        let path = folder.join(format!("gguf/stories260K-{name}.gguf"));
        let file = Gguf::open(&path).unwrap();
        assert_eq!(file.tensors().len(), plain.tensors().len());
        let mut encoded = 0;
        for tensor in file.tensors() {
            let exact = plain.f32(&tensor.name).unwrap();
            assert_eq!(tensor.shape, plain.get(&tensor.name).unwrap().shape);
            // The same numbers encode to the same blocks, so each tensor is known to the bit.
            let ours = tensor.format.quantize(&exact).unwrap();
            assert_eq!(*file.bytes(&tensor.name).unwrap(), ours.bytes, "{name} {}", tensor.name);
            encoded += usize::from(tensor.format == format);
        }
        assert!(encoded > 20, "{encoded} tensors are {name}");
    }
}

/// Opening reads the header in place: a vocabulary of 128 thousand texts and as many merges costs next to nothing.
#[test]
fn a_large_vocabulary_is_not_copied() {
    let Some(folder) = material() else { return };
    let path = folder.join("tokenizers/llama-bpe/ggml-vocab-llama-bpe.gguf");
    let (file, _, held) = measured(|| Gguf::open(&path).unwrap());
    assert!(held < 64 << 10, "{held} bytes");
    let (longest, _, held) = measured(|| {
        let tokens = file.value("tokenizer.ggml.tokens").unwrap().array().unwrap();
        assert_eq!(tokens.len(), 128_256);
        tokens.texts().unwrap().map(str::len).max().unwrap()
    });
    assert!(longest > 100 && held == 0, "{longest} {held}");
}
