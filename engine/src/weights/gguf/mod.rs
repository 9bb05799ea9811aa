//! GGUF, the file format of llama.cpp: metadata and tensors in blocks, read without trusting a number in it.
//!
//! A [`Gguf`] is one file or a set of split ones, [opened](Gguf::open) by memory map, [taken](Gguf::from_bytes) from memory
//! or read by range from any [`ByteSource`]. Opening checks the header and nothing else. Metadata stays
//! where it lies in the file and is decoded when it is asked for, so a vocabulary is never copied.
//!
//! # The format
//! All numbers are little-endian: `GGUF`, a version (`u32`, 2 or 3), the number of tensors and of metadata entries (`u64`).
//! An entry is a key (a `u64` of bytes and UTF-8), a type (`u32`) and a value. A tensor's description is a name, the number of
//! dimensions (`u32`), the dimensions (`u64`, innermost first), a type (`u32`) and an offset (`u64`) into the data, which
//! begins at the next multiple of `general.alignment` (32 where there is none). The specification is `docs/gguf.md` of ggml.
//!
//! # What a file may do
//! It may be refused, with a [`GgufError`] that names the file, the key or tensor, the place and what was found. Counts,
//! lengths and dimensions are held against the bytes that the file has before anything is made of them; arrays nest at most
//! 8 deep; a header ends within 32 MiB; two keys or tensors of one name, tensors that share bytes and offsets that are not
//! aligned are refused. Big-endian files and version 1 are refused by name.
//!
//! ```
//! use lampyris_engine::weights::blocks::BlockFormat;
//! use lampyris_engine::weights::gguf::{Gguf, MetadataValue, NewBlocks, gguf_bytes};
//!
//! let bias = NewBlocks { name: "bias", format: BlockFormat::F32, shape: &[2], bytes: &[0, 0, 128, 63, 0, 0, 0, 64] };
//! let metadata = [("general.architecture", MetadataValue::String("example".to_owned()))];
//! let file = Gguf::from_bytes("example.gguf", gguf_bytes("example.gguf", &metadata, &[bias])?)?;
//! assert_eq!(file.value("general.architecture").and_then(|value| value.text()), Some("example"));
//! assert_eq!(file.f32("bias")?, [1.0, 2.0]);
//! # Ok::<(), lampyris_engine::weights::WeightsError>(())
//! ```

mod cursor;
mod error;
#[cfg(not(target_arch = "wasm32"))]
mod files;
mod header;
mod open;
#[cfg(not(target_arch = "wasm32"))]
mod stream;
mod tensors;
mod value;
mod write;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub use error::{GgufError, GgufPart, GgufProblem};
#[cfg(not(target_arch = "wasm32"))]
pub use stream::{TensorSink, write_gguf_with};
pub use value::{Array, Value, ValueType};
#[cfg(not(target_arch = "wasm32"))]
pub use write::write_gguf;
pub use write::{BlocksLayout, MetadataValue, NewBlocks, gguf_bytes};

use super::blocks::BlockFormat;
use super::bytes::ByteSource;

/// The key of the alignment of tensors.
const ALIGNMENT: &str = "general.alignment";

/// What a file says about one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GgufTensor {
    /// Its name, unique in the file or the set of files.
    pub name: String,
    /// What its elements are stored as.
    pub format: BlockFormat,
    /// Its shape, outermost dimension first, as in a safetensors file and unlike in this one; empty for a single number.
    pub shape: Vec<usize>,
    /// Where its blocks are, in bytes from the start of its file; row after row.
    pub range: Range<u64>,
    /// The file of the set that has it, from 0.
    pub part: usize,
}

/// The tensors and the metadata of one file, or of a set of split files.
///
/// Clones share the files.
#[derive(Clone)]
pub struct Gguf {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Vec<Part>,
    /// Of all parts, sorted by name.
    tensors: Vec<GgufTensor>,
}

/// One file.
struct Part {
    name: String,
    version: u32,
    alignment: u64,
    metadata: header::Metadata,
    source: Box<dyn ByteSource>,
    /// The front of the file, where the source does not have the whole in memory.
    front: Option<Vec<u8>>,
}

impl Part {
    fn front(&self) -> &[u8] {
        self.front.as_deref().or_else(|| self.source.whole()).unwrap_or_default()
    }

    fn value(&self, key: &str) -> Option<Value<'_>> {
        self.metadata.get(self.front(), key)
    }
}

impl Gguf {
    /// The path or name given when opening; of a set, its first file's.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.first().name
    }

    /// How many files it is.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.inner.parts.len()
    }

    /// The version of the format: 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.first().version
    }

    /// What the tensors' offsets are multiples of, in bytes.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        self.first().alignment
    }

    /// The metadata in the order of the file; of a set, its first file's.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let front = self.first().front();
        let entries = self.first().metadata.entries.iter();
        entries.filter_map(move |entry| Some((entry.key(front), entry.value(front)?)))
    }

    /// The metadata's value of `key`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        self.first().value(key)
    }

    /// All tensors, sorted by name.
    #[must_use]
    pub fn tensors(&self) -> &[GgufTensor] {
        &self.inner.tensors
    }

    /// The tensor called `name`, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&GgufTensor> {
        let tensors = &self.inner.tensors;
        let found = tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name));
        found.ok().map(|i| &tensors[i])
    }

    fn first(&self) -> &Part {
        // There is always one: nothing is assembled from no part.
        &self.inner.parts[0]
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("file", &self.file())
            .field("parts", &self.parts())
            .field("tensors", &self.inner.tensors.len())
            .finish_non_exhaustive()
    }
}
