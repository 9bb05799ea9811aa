//! Weights: reading tensors from files that are never trusted, and writing them back.
//!
//! A [`Weights`] is one safetensors file, or the shards of one model, [opened](Weights::open) by memory map or
//! [taken](Weights::from_bytes) from memory (the only way on the web). A [`gguf::Gguf`] is the same for GGUF files, whose
//! numbers lie in [`blocks`], and a [`TensorFile`] is either, for code that need not know which. Opening reads and checks the
//! header and nothing else; after that every tensor's bytes are known to be inside the file, to belong to no other tensor and
//! to be as many as its type and shape need. Data is decoded when it is asked for, one tensor at a time, so that the heap
//! never holds more than the tensor at hand.
//!
//! # What a file may do
//! It may be refused, with a [`WeightsError`] that names the file, the tensor and the place. It may not cause a panic, a read
//! outside itself, or an allocation on the word of a number in it: a header is at most 100 MB, takes less than ten times
//! that in memory while it is read, and a tensor never has more elements than the file holds. Names out of a file are
//! escaped before they reach a terminal. Numbers that are not finite are refused when a tensor is read as
//! [`f32`](Weights::f32), before they can spread through a network.
//!
//! # The format of safetensors
//! A length (8 bytes, little-endian), a JSON object of that length, then the data. Each member of the object is a tensor:
//! `{"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}`, with offsets counted from the end of the object; the
//! optional member `__metadata__` holds strings. Ranges must cover the data without gap and without overlap. This reader
//! accepts what the format's own `safetensors` crate accepts, except two members of one name, of which that crate silently
//! keeps the last; it does its own parsing to see those, and to say which tensor is wrong and how. The tests hold the
//! two against each other on files that are valid, mutated and made up.
//!
//! ```
//! use lampyris_engine::weights::Weights;
//!
//! let mut file = Vec::new();
//! let header = r#"{"bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
//! file.extend((header.len() as u64).to_le_bytes());
//! file.extend(header.as_bytes());
//! file.extend(1.5_f32.to_le_bytes());
//! file.extend((-2.0_f32).to_le_bytes());
//!
//! let weights = Weights::from_bytes("example", file)?;
//! assert_eq!(weights.f32("bias")?, [1.5, -2.0]);
//! # Ok::<(), lampyris_engine::weights::WeightsError>(())
//! ```

#[cfg(not(target_arch = "wasm32"))]
mod beside;
pub mod blocks;
mod bytes;
mod decode;
mod dtype;
mod error;
mod feed;
pub mod gguf;
mod header;
mod rows;
mod shards;
mod shown;
#[cfg(not(target_arch = "wasm32"))]
mod source;
mod tensor_file;
#[cfg(not(target_arch = "wasm32"))]
mod write;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use rows::Rows;

pub use bytes::ByteSource;
pub use dtype::Dtype;
pub use error::WeightsError;
pub use feed::{FedFile, Feed, Wanted};
pub use shards::ShardError;
pub use tensor_file::{Storage, Stored, TensorFile};
#[cfg(not(target_arch = "wasm32"))]
pub use write::{NewTensor, write_safetensors};

/// What a file says about one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Its name, unique in the file.
    pub name: String,
    /// What an element is.
    pub dtype: Dtype,
    /// Its shape, outermost dimension first; empty for a single number. A dimension may be 0.
    pub shape: Vec<usize>,
    /// Where its elements are, in bytes from the start of its file; row-major, little-endian.
    pub range: Range<usize>,
    /// The shard that has it, from 0, by name; 0 where there is one file.
    pub shard: usize,
}

impl TensorInfo {
    /// The number of elements: the product of the shape.
    #[must_use]
    pub fn elements(&self) -> usize {
        // Not multiplied out: with a 0 in the shape the other dimensions may be any numbers.
        (self.range.len() as u64 * 8 / self.dtype.bits() as u64) as usize
    }
}

/// The tensors of one file, or of the shards of one model.
///
/// Clones share the files, which are unmapped or freed with the last of them.
#[derive(Clone)]
pub struct Weights {
    file: Arc<Inner>,
}

struct Inner {
    name: String,
    /// Sorted by name.
    tensors: Vec<TensorInfo>,
    metadata: BTreeMap<String, String>,
    shards: Vec<Shard>,
}

/// One file of a model, or the only one.
struct Shard {
    name: String,
    source: Box<dyn ByteSource>,
}

impl Weights {
    /// Takes a whole safetensors file from memory without copying it: a `Vec<u8>`, an `Arc<[u8]>`, or the `&'static`
    /// bytes of `include_bytes!`. `name` stands for the file in errors.
    ///
    /// # Errors
    /// Whatever is wrong with the header, each with its own variant of [`WeightsError`].
    pub fn from_bytes(name: &str, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self, WeightsError> {
        Self::from_source(name, Box::new(bytes))
    }

    /// Takes a whole safetensors file from any source, of which only the header is read. `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Weights::from_bytes`]; [`WeightsError::Io`] if the source cannot be read.
    pub fn from_source(name: &str, source: Box<dyn ByteSource>) -> Result<Self, WeightsError> {
        let header = header::of_source(name, &*source)?;
        Ok(Self {
            file: Arc::new(Inner {
                name: name.to_owned(),
                tensors: header.tensors,
                metadata: header.metadata,
                shards: vec![Shard { name: name.to_owned(), source }],
            }),
        })
    }

    /// What fetches the bytes that a read lacks, if they come later.
    #[must_use]
    pub fn feed(&self) -> Option<&Feed> {
        self.file.shards.iter().find_map(|shard| shard.source.feed())
    }

    /// The path or name given when opening; of shards, their index's.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file.name
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.file.tensors.iter().map(|tensor| tensor.name.as_str())
    }

    /// All tensors, sorted by name.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.file.tensors
    }

    /// The tensor called `name`, if the file has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        let tensors = &self.file.tensors;
        let found = tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name));
        found.ok().map(|i| &tensors[i])
    }

    /// The strings the file carries about itself; empty if it has none. Of shards, the first one's.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.file.metadata
    }

    /// Bytes of all tensors together, as stored.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.file.tensors.iter().map(|tensor| tensor.range.len()).sum()
    }

    /// The stored elements of `name`, whatever their type: little-endian, row-major, not aligned in memory.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is no such tensor.
    pub fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, WeightsError> {
        self.find(name).map(|(_, bytes)| bytes)
    }

    /// The stored elements of some rows of `name`. A row is one run of the innermost dimension; there are as many as the other
    /// dimensions' product.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is no such tensor, [`RowsOutside`](WeightsError::RowsOutside) if it has fewer rows
    /// or its packed elements do not end with a byte there.
    pub fn rows(&self, name: &str, rows: Range<usize>) -> Result<Cow<'_, [u8]>, WeightsError> {
        let info = self.info(name)?;
        self.read(info, self.place(info, rows)?)
    }

    /// Says that these rows of `name` are about to be read one after another.
    ///
    /// # Errors
    /// As [`Weights::rows`].
    pub fn expect_rows(&self, name: &str, rows: Range<usize>) -> Result<(), WeightsError> {
        let info = self.info(name)?;
        let place = self.place(info, rows)?;
        self.file.shards[info.shard].source.expect(place).map_err(|error| self.unread(info, error))
    }

    /// Where rows of `info` are, from the start of its file.
    fn place(&self, info: &TensorInfo, rows: Range<usize>) -> Result<Range<u64>, WeightsError> {
        let within = Rows::of(&info.shape, info.range.len() as u64).bytes(self.file_of(info), &info.name, rows)?;
        let start = info.range.start as u64;
        Ok(start + within.start..start + within.end)
    }

    /// The file that has `info`.
    fn file_of(&self, info: &TensorInfo) -> &str {
        self.file.shards.get(info.shard).map_or(self.file(), |shard| &shard.name)
    }

    /// The tensor called `name`.
    fn info(&self, name: &str) -> Result<&TensorInfo, WeightsError> {
        self.get(name).ok_or_else(|| WeightsError::Missing {
            file: self.file.name.clone(),
            tensor: name.to_owned(),
            count: self.file.tensors.len(),
        })
    }

    /// The tensor called `name` and its bytes.
    fn find(&self, name: &str) -> Result<(&TensorInfo, Cow<'_, [u8]>), WeightsError> {
        let info = self.info(name)?;
        let bytes = self.read(info, info.range.start as u64..info.range.end as u64)?;
        Ok((info, bytes))
    }

    /// Bytes of the file that has `info`.
    fn read(&self, info: &TensorInfo, range: Range<u64>) -> Result<Cow<'_, [u8]>, WeightsError> {
        let needed = range.end - range.start;
        let bytes = self.file.shards[info.shard].source.read(range).map_err(|error| self.unread(info, error))?;
        if bytes.len() as u64 != needed {
            return Err(self.unread(info, io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    /// The error of a read that failed: of an owner of bytes that gives out fewer than when it was handed over, or of a source.
    fn unread(&self, info: &TensorInfo, source: io::Error) -> WeightsError {
        let file = self.file_of(info).to_owned();
        match source.kind() {
            io::ErrorKind::UnexpectedEof => WeightsError::Truncated {
                file,
                size: self.file.shards[info.shard].source.size(),
                needed: info.range.end as u64,
                tensor: info.name.clone(),
            },
            _ => WeightsError::Io { file, action: "read a tensor", source },
        }
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights")
            .field("file", &self.file.name)
            .field("tensors", &self.file.tensors.len())
            .field("bytes", &self.total_bytes())
            .finish_non_exhaustive()
    }
}
