//! One view of both kinds of weight files, so that a model's code need not know which it was given.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::blocks::BlockFormat;
use super::gguf::Gguf;
use super::{ByteSource, Dtype, Feed, Weights, WeightsError};

/// What the elements of a tensor are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Plain numbers.
    Plain(Dtype),
    /// Blocks of several elements.
    Blocks(BlockFormat),
}

impl Storage {
    /// The storage of a GGUF tensor of a format.
    #[must_use]
    pub fn of(format: BlockFormat) -> Self {
        format.dtype().map_or(Self::Blocks(format), Self::Plain)
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(dtype) => dtype.fmt(f),
            Self::Blocks(format) => format.fmt(f),
        }
    }
}

/// A tensor of either kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape, outermost dimension first: a linear layer's weight is `[out, in]` in both.
    pub shape: &'a [usize],
    /// What its elements are stored as.
    pub storage: Storage,
    /// Bytes of its data, as stored.
    pub bytes: u64,
}

/// The tensors of a model in safetensors or GGUF files.
///
/// Clones share the files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TensorFile {
    /// A safetensors file, or shards of one model.
    Safetensors(Weights),
    /// A GGUF file, or the parts of a split one.
    Gguf(Gguf),
}

impl From<Weights> for TensorFile {
    fn from(weights: Weights) -> Self {
        Self::Safetensors(weights)
    }
}

impl From<Gguf> for TensorFile {
    fn from(gguf: Gguf) -> Self {
        Self::Gguf(gguf)
    }
}

impl TensorFile {
    /// Takes a whole file of either kind from memory, told apart by its first bytes. `name` stands for it in errors.
    ///
    /// # Errors
    /// As [`Weights::from_bytes`] and [`Gguf::from_bytes`].
    pub fn from_bytes(name: &str, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self, WeightsError> {
        match is_gguf(bytes.as_ref()) {
            true => Gguf::from_bytes(name, bytes).map(Self::Gguf),
            false => Weights::from_bytes(name, bytes).map(Self::Safetensors),
        }
    }

    /// Takes a whole file of either kind from a source of ranges, of which only the header is read. `name` stands for it in errors.
    ///
    /// # Errors
    /// As [`Weights::from_source`] and [`Gguf::from_bytes`].
    pub fn from_source(name: &str, source: impl ByteSource + 'static) -> Result<Self, WeightsError> {
        let failed = |source| WeightsError::Io { file: name.to_owned(), action: "read the file", source };
        let gguf = is_gguf(&source.read(0..source.size().min(4)).map_err(failed)?);
        match gguf {
            true => Gguf::from_bytes(name, source).map(Self::Gguf),
            false => Weights::from_source(name, Box::new(source)).map(Self::Safetensors),
        }
    }

    /// What fetches the bytes that a read lacks, if they come later.
    #[must_use]
    pub fn feed(&self) -> Option<&Feed> {
        match self {
            Self::Safetensors(weights) => weights.feed(),
            Self::Gguf(gguf) => gguf.feed(),
        }
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Stored<'_>> {
        let count = match self {
            Self::Safetensors(weights) => weights.tensors().len(),
            Self::Gguf(gguf) => gguf.tensors().len(),
        };
        (0..count).map(|at| self.at(at))
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors().map(|tensor| tensor.name)
    }

    /// The tensor called `name`, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Stored<'_>> {
        match self {
            Self::Safetensors(weights) => weights.get(name).map(safetensors),
            Self::Gguf(gguf) => gguf.get(name).map(blocks),
        }
    }

    fn at(&self, at: usize) -> Stored<'_> {
        match self {
            Self::Safetensors(weights) => safetensors(&weights.tensors()[at]),
            Self::Gguf(gguf) => blocks(&gguf.tensors()[at]),
        }
    }

    /// The path or name given when opening.
    #[must_use]
    pub fn file(&self) -> &str {
        match self {
            Self::Safetensors(weights) => weights.file(),
            Self::Gguf(gguf) => gguf.file(),
        }
    }

    /// The data of `name` as stored, row after row.
    ///
    /// # Errors
    /// As [`Weights::bytes`] and [`Gguf::bytes`].
    pub fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, WeightsError> {
        match self {
            Self::Safetensors(weights) => weights.bytes(name),
            Self::Gguf(gguf) => gguf.bytes(name),
        }
    }

    /// The data of some rows of `name` as stored. A row is one run of the innermost dimension; there are as many as the other
    /// dimensions' product.
    ///
    /// # Errors
    /// As [`Weights::rows`] and [`Gguf::rows`].
    pub fn rows(&self, name: &str, rows: Range<usize>) -> Result<Cow<'_, [u8]>, WeightsError> {
        match self {
            Self::Safetensors(weights) => weights.rows(name, rows),
            Self::Gguf(gguf) => gguf.rows(name, rows),
        }
    }

    /// Says that these rows of `name` are about to be read one after another, so that a source that fetches them does so at once.
    ///
    /// # Errors
    /// As [`TensorFile::rows`].
    pub fn expect_rows(&self, name: &str, rows: Range<usize>) -> Result<(), WeightsError> {
        match self {
            Self::Safetensors(weights) => weights.expect_rows(name, rows),
            Self::Gguf(gguf) => gguf.expect_rows(name, rows),
        }
    }

    /// The elements of `name` as single precision, row after row.
    ///
    /// # Errors
    /// As [`Weights::f32`] and [`Gguf::f32`].
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        match self {
            Self::Safetensors(weights) => weights.f32(name),
            Self::Gguf(gguf) => gguf.f32(name),
        }
    }

    /// Some rows of `name` as single precision.
    ///
    /// # Errors
    /// As [`Weights::f32_rows`] and [`Gguf::f32_rows`].
    pub fn f32_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightsError> {
        match self {
            Self::Safetensors(weights) => weights.f32_rows(name, rows),
            Self::Gguf(gguf) => gguf.f32_rows(name, rows),
        }
    }
}

fn safetensors(info: &super::TensorInfo) -> Stored<'_> {
    let storage = Storage::Plain(info.dtype);
    Stored { name: &info.name, shape: &info.shape, storage, bytes: info.range.len() as u64 }
}

fn blocks(tensor: &super::gguf::GgufTensor) -> Stored<'_> {
    let bytes = tensor.range.end - tensor.range.start;
    Stored { name: &tensor.name, shape: &tensor.shape, storage: Storage::of(tensor.format), bytes }
}

fn is_gguf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"GGUF")
}

#[cfg(not(target_arch = "wasm32"))]
mod by_path {
    //! Opening by path.

    use std::fs;
    use std::path::{Path, PathBuf};

    use super::super::source::first_bytes;
    use super::super::{Weights, WeightsError, gguf::Gguf};
    use super::{TensorFile, is_gguf};

    impl TensorFile {
        /// Maps the file at `path`: a safetensors file, the index of shards, a GGUF file, or any part of a split one. What is called
        /// `.gguf` and is neither nor any known kind of file is refused as a GGUF file. A folder opens as [`Weights::open`] opens it or, if it has no safetensors, the one model in GGUF files that is in it.
        ///
        /// # Errors
        /// As [`Weights::open`] and [`Gguf::open`].
        pub fn open(path: &Path) -> Result<Self, WeightsError> {
            if path.is_dir() {
                return match Weights::open(path) {
                    Err(WeightsError::NoWeights { .. }) => Gguf::open(&only_gguf(path)?).map(Self::Gguf),
                    opened => opened.map(Self::Safetensors),
                };
            }
            let gguf = path.extension().is_some_and(|ending| ending == "gguf");
            match is_gguf(&first_bytes(path)?) {
                true => Gguf::open(path).map(Self::Gguf),
                false => match Weights::open(path) {
                    Err(error) if gguf && is_damaged(&error) => Gguf::open(path).map(Self::Gguf),
                    opened => opened.map(Self::Safetensors),
                },
            }
        }
    }

    /// Whether a file was refused for a header that no safetensors file has.
    fn is_damaged(error: &WeightsError) -> bool {
        use WeightsError::{HeaderNotJson, HeaderNotUtf8, HeaderPastEnd, HeaderTooLarge, TooShort};
        let length = matches!(error, TooShort { .. } | HeaderTooLarge { .. } | HeaderPastEnd { .. });
        length || matches!(error, HeaderNotUtf8 { .. } | HeaderNotJson { .. })
    }

    /// The GGUF file of a folder that has one, or the first part of its split one.
    fn only_gguf(folder: &Path) -> Result<PathBuf, WeightsError> {
        let name = folder.display().to_string();
        let failed = |source| WeightsError::Io { file: name.clone(), action: "list the folder", source };
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let later = stem.contains("-of-") && !stem.contains("-00001-of-");
            if path.extension().is_some_and(|ending| ending == "gguf") && !later {
                found.push(path);
            }
        }
        match <[PathBuf; 1]>::try_from(found) {
            Ok([path]) => Ok(path),
            Err(found) => Err(WeightsError::NoWeights { folder: name, found: found.len() }),
        }
    }
}
