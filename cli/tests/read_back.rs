//! Files that `quantize` writes, read back by the reader that Python programs use (PyPI's `gguf`): the same tensors, number for number.
//!
//! Python is `python3`, or what `LAMPYRIS_PYTHON` names; where it has no `gguf` a skip is printed, unless
//! `LAMPYRIS_REQUIRE` lists `python`: then the test fails.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::engine::kernels::Noise;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{Gguf, MetadataValue, NewBlocks, gguf_bytes};
use lampyris::models::decoder::Recipe;
use std::path::Path;
use std::process::Command;
use support::{file, lampyris};

const SCRIPT: &str = "import sys, numpy, gguf\n\
    reader = gguf.GGUFReader(sys.argv[1])\n\
    with open(sys.argv[2], 'wb') as out:\n\
    \x20   for tensor in reader.tensors:\n\
    \x20       print(tensor.name, tensor.tensor_type.name)\n\
    \x20       values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)\n\
    \x20       out.write(numpy.ascontiguousarray(values, dtype='<f4').tobytes())\n";

fn python() -> Command {
    Command::new(std::env::var_os("LAMPYRIS_PYTHON").unwrap_or_else(|| "python3".into()))
}

/// A decoder of noise with rows of 256, the smallest that K formats have.
fn decoder() -> Vec<u8> {
    const LAYERS: usize = 2;
    let number = MetadataValue::U32;
    let metadata = [
        ("general.architecture", MetadataValue::String("llama".to_owned())),
        ("llama.context_length", number(64)),
        ("llama.embedding_length", number(256)),
        ("llama.block_count", number(LAYERS as u32)),
        ("llama.feed_forward_length", number(256)),
        ("llama.attention.head_count", number(4)),
        ("llama.attention.head_count_kv", number(2)),
        ("llama.attention.layer_norm_rms_epsilon", MetadataValue::F32(1e-5)),
        ("tokenizer.ggml.model", MetadataValue::String("none".to_owned())),
    ];
    let mut shapes = vec![
        ("token_embd.weight".to_owned(), vec![33, 256]),
        ("output.weight".to_owned(), vec![33, 256]),
        ("output_norm.weight".to_owned(), vec![256]),
    ];
    for layer in 0..LAYERS {
        for (name, rows) in [("q", 256), ("k", 128), ("v", 128), ("output", 256)] {
            shapes.push((format!("blk.{layer}.attn_{name}.weight"), vec![rows, 256]));
        }
        for name in ["gate", "up", "down"] {
            shapes.push((format!("blk.{layer}.ffn_{name}.weight"), vec![256, 256]));
        }
        shapes.extend(["attn", "ffn"].map(|name| (format!("blk.{layer}.{name}_norm.weight"), vec![256])));
    }
    let mut noise = Noise::new(17);
    let mut bytes = |shape: &[usize]| -> Vec<u8> {
        (0..shape.iter().product::<usize>()).flat_map(|_| noise.real(-0.2, 0.2).to_le_bytes()).collect()
    };
    let filled: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let bytes = bytes(&shape);
            (name, shape, bytes)
        })
        .collect();
    let blocks = |(name, shape, bytes)| NewBlocks { name, format: BlockFormat::F32, shape, bytes };
    let blocks: Vec<NewBlocks<'_>> =
        filled.iter().map(|(name, shape, bytes)| blocks((name, &shape[..], &bytes[..]))).collect();
    gguf_bytes("noise", &metadata, &blocks).unwrap()
}

#[test]
fn python_reads_back_what_is_written() {
    if !python().args(["-c", "import gguf, numpy"]).output().is_ok_and(|output| output.status.success()) {
        let required = std::env::var("LAMPYRIS_REQUIRE");
        let required = required.is_ok_and(|list| list.split(',').any(|word| word.trim() == "python"));
        assert!(!required, "LAMPYRIS_REQUIRE asks for a Python with gguf and numpy; LAMPYRIS_PYTHON names one");
        eprintln!("SKIPPED: no Python with gguf; LAMPYRIS_PYTHON names one");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = file(&folder, "noise.gguf", &decoder());
    let (out, values) = (folder.path().join("out.gguf"), folder.path().join("values"));
    for recipe in Recipe::known() {
        let said = lampyris(&["quantize", &source, out.to_str().unwrap(), "--format", recipe.name()]);
        assert_eq!(said.code, 0, "{recipe}: {}", said.stderr);
        let read = python().args(["-c", SCRIPT]).args([&out, &values]).output().unwrap();
        assert!(read.status.success(), "{recipe}: {}", String::from_utf8_lossy(&read.stderr));
        assert_same(
            &recipe.to_string(),
            &out,
            &String::from_utf8(read.stdout).unwrap(),
            &std::fs::read(&values).unwrap(),
        );
    }
}

/// Holds what Python read against what we read.
fn assert_same(recipe: &str, path: &Path, listed: &str, values: &[u8]) {
    let gguf = Gguf::open(path).unwrap();
    let (mut at, mut kinds) = (0, std::collections::BTreeSet::new());
    assert_eq!(listed.lines().count(), gguf.tensors().len(), "{recipe}");
    for line in listed.lines() {
        let (name, kind) = line.split_once(' ').unwrap();
        let tensor = gguf.get(name).unwrap();
        assert_eq!(tensor.format.name(), kind, "{recipe}: {name}");
        kinds.insert(kind.to_owned());
        for (i, own) in gguf.f32(name).unwrap().into_iter().enumerate() {
            let theirs = f32::from_le_bytes(values[at..at + 4].try_into().unwrap());
            assert!(own == theirs, "{recipe}: {name}, element {i}: {theirs}, and {own} here");
            at += 4;
        }
    }
    assert_eq!(at, values.len(), "{recipe}");
    let mixed = recipe.starts_with("Q4_K_") || recipe.starts_with("Q5_K_");
    assert_eq!(kinds.len() > 2, mixed, "{recipe}: {kinds:?}");
}
