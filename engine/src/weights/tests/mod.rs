//! Holds the reader to its word: what it reads is what was stored, and what is wrong is refused by name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod agreement;
mod blocks;
mod fed;
mod gguf_mutated;
mod gguf_refused;
mod gguf_streamed;
mod gguf_values;
mod refused;
mod shards;
mod values;
mod written;

/// A file of `header` and `data`, with the right length in front.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// A header's entry.
fn entry(name: &str, dtype: &str, shape: &[u64], begin: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#)
}
