//! Tokenizers and templates against what the reference implementations made of the same texts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first thing that is not as expected")]

mod conversations;
mod formats;
mod hostile;
mod published;
mod templates;
mod tokenizers;
mod unigram_vocabularies;
mod vocabularies;
mod written_vocabularies;

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::Tokenizer;
use crate::test_material::{bytes, material};

/// A JSON file of the test data.
fn json(folder: &Path, file: &str) -> Value {
    serde_json::from_slice(&bytes(folder, file)).unwrap()
}

/// The numbers of a JSON list.
fn numbers(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|it| u32::try_from(it.as_u64().unwrap()).unwrap()).collect()
}

/// The `tokenizer.json` of a folder, packed or not.
fn tokenizer_json(folder: &Path, name: &str) -> Vec<u8> {
    let place = if name == "minilm" { name.to_owned() } else { format!("tokenizers/{name}") };
    if folder.join(&place).join("tokenizer.json").is_file() {
        return bytes(folder, &format!("{place}/tokenizer.json"));
    }
    let packed = bytes(folder, &format!("{place}/tokenizer.json.gz"));
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut json).unwrap();
    json
}

/// The tokenizer of a folder, with its configuration if there is one.
fn load(folder: &Path, name: &str) -> Tokenizer {
    let place = if name == "minilm" { name.to_owned() } else { format!("tokenizers/{name}") };
    let config = std::fs::read(folder.join(place).join("tokenizer_config.json")).ok();
    Tokenizer::from_json(&tokenizer_json(folder, name), config.as_deref()).unwrap()
}

/// The text of ids that are pushed one at a time.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.stream();
    let mut text: String = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    text.push_str(&stream.finish());
    text
}
