//! Writes GGUF files of version 3, whole or not at all.

#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use super::super::WeightsError;
#[cfg(not(target_arch = "wasm32"))]
use super::super::beside;
use super::super::blocks::BlockFormat;
use super::ALIGNMENT;
use super::cursor::DEEPEST;
use super::error::{GgufError, GgufPart, GgufProblem};
use super::header::{LONGEST_KEY, LONGEST_NAME, MOST_DIMENSIONS, MOST_ENTRIES, MOST_TENSORS, byte_size};
use super::value::{Value, ValueType};

/// The version that is written.
const VERSION: u32 = 3;
/// The alignment of the tensors, which is what a reader assumes.
pub(super) const WRITTEN_ALIGNMENT: usize = 32;

/// A value of the metadata, to be written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant is the type it names")]
pub enum MetadataValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// What every element is, and the elements.
    Array(ValueType, Vec<MetadataValue>),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A copy of what a file has.
impl From<Value<'_>> for MetadataValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::U8(value) => Self::U8(value),
            Value::I8(value) => Self::I8(value),
            Value::U16(value) => Self::U16(value),
            Value::I16(value) => Self::I16(value),
            Value::U32(value) => Self::U32(value),
            Value::I32(value) => Self::I32(value),
            Value::F32(value) => Self::F32(value),
            Value::Bool(value) => Self::Bool(value),
            Value::String(text) => Self::String(text.to_owned()),
            Value::Array(array) => Self::Array(array.kind(), array.iter().map(Self::from).collect()),
            Value::U64(value) => Self::U64(value),
            Value::I64(value) => Self::I64(value),
            Value::F64(value) => Self::F64(value),
        }
    }
}

impl MetadataValue {
    /// Which type it has.
    #[must_use]
    pub const fn kind(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(..) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    fn put(&self, bytes: &mut Vec<u8>, depth: usize) -> Result<(), GgufProblem> {
        match self {
            Self::U8(value) => bytes.extend(value.to_le_bytes()),
            Self::I8(value) => bytes.extend(value.to_le_bytes()),
            Self::U16(value) => bytes.extend(value.to_le_bytes()),
            Self::I16(value) => bytes.extend(value.to_le_bytes()),
            Self::U32(value) => bytes.extend(value.to_le_bytes()),
            Self::I32(value) => bytes.extend(value.to_le_bytes()),
            Self::F32(value) => bytes.extend(value.to_le_bytes()),
            Self::Bool(value) => bytes.push((*value).into()),
            Self::String(text) => put_text(bytes, text),
            Self::U64(value) => bytes.extend(value.to_le_bytes()),
            Self::I64(value) => bytes.extend(value.to_le_bytes()),
            Self::F64(value) => bytes.extend(value.to_le_bytes()),
            Self::Array(kind, values) => {
                if depth == DEEPEST {
                    return Err(GgufProblem::Nesting { limit: DEEPEST });
                }
                bytes.extend(kind.number().to_le_bytes());
                bytes.extend((values.len() as u64).to_le_bytes());
                for value in values {
                    if value.kind() != *kind {
                        let wanted = "an element of the array's type";
                        return Err(GgufProblem::WrongType { found: value.kind(), wanted });
                    }
                    value.put(bytes, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

/// A tensor to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewBlocks<'a> {
    /// Its name, unique in the file.
    pub name: &'a str,
    /// What its elements are stored as.
    pub format: BlockFormat,
    /// Its shape, outermost dimension first; at most four dimensions.
    pub shape: &'a [usize],
    /// Its blocks, row after row.
    pub bytes: &'a [u8],
}

impl<'a> NewBlocks<'a> {
    fn layout(&self) -> BlocksLayout<'a> {
        BlocksLayout { name: self.name, format: self.format, shape: self.shape }
    }
}

/// A tensor to be written, without its bytes.
#[derive(Clone, Copy, Debug)]
pub struct BlocksLayout<'a> {
    /// Its name, unique in the file.
    pub name: &'a str,
    /// What its elements are stored as.
    pub format: BlockFormat,
    /// Its shape, outermost dimension first; at most four dimensions.
    pub shape: &'a [usize],
}

/// The bytes of a GGUF file of version 3 with `metadata` and `tensors`, in this order. `file` stands for it in errors.
///
/// # Errors
/// [`WeightsError::Gguf`] for what a reader would refuse: names that are empty, too long or there twice, too many
/// dimensions, rows that end inside a block, bytes that are not as many as the shape needs, arrays of mixed types or too deep
/// in each other, and the key `general.alignment`, which is the writer's to choose.
pub fn gguf_bytes<K: AsRef<str>>(
    file: &str,
    metadata: &[(K, MetadataValue)],
    tensors: &[NewBlocks<'_>],
) -> Result<Vec<u8>, WeightsError> {
    let layouts: Vec<BlocksLayout<'_>> = tensors.iter().map(|it| it.layout()).collect();
    let (mut bytes, sizes) = header(file, metadata, &layouts)?;
    for (tensor, expected) in tensors.iter().zip(sizes) {
        check_size(file, &tensor.layout(), expected, tensor.bytes.len() as u64)?;
        bytes.extend_from_slice(tensor.bytes);
        bytes.resize(bytes.len().next_multiple_of(WRITTEN_ALIGNMENT), 0);
    }
    Ok(bytes)
}

/// All that comes before the data of the first tensor, and the bytes of each tensor.
pub(super) fn header<K: AsRef<str>>(
    file: &str,
    metadata: &[(K, MetadataValue)],
    tensors: &[BlocksLayout<'_>],
) -> Result<(Vec<u8>, Vec<u64>), WeightsError> {
    let refused = |at, problem| GgufError { file: file.to_owned(), at, offset: 0, problem };
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(VERSION.to_le_bytes());
    for (what, count, limit) in
        [("tensors", tensors.len(), MOST_TENSORS), ("metadata entries", metadata.len(), MOST_ENTRIES)]
    {
        if count as u64 > limit {
            let problem = GgufProblem::TooMany { what, found: count as u64, limit };
            return Err(refused(GgufPart::Header, problem).into());
        }
        bytes.extend((count as u64).to_le_bytes());
    }
    for (key, value) in metadata {
        let key = key.as_ref();
        let named = |problem| refused(GgufPart::Key(key.to_owned()), problem);
        check_name(key, "bytes of a key", LONGEST_KEY).map_err(named)?;
        if key == ALIGNMENT {
            let problem = GgufProblem::WrongType { found: value.kind(), wanted: "no value for the writer's own key" };
            return Err(named(problem).into());
        }
        put_text(&mut bytes, key);
        bytes.extend(value.kind().number().to_le_bytes());
        value.put(&mut bytes, 0).map_err(named)?;
    }
    let mut keys: Vec<&str> = metadata.iter().map(|(key, _)| key.as_ref()).collect();
    if let Some(twice) = repeated(&mut keys) {
        return Err(refused(GgufPart::Key(twice.to_owned()), GgufProblem::Twice).into());
    }
    let (mut offset, mut sizes) = (0_u64, Vec::with_capacity(tensors.len()));
    for tensor in tensors {
        let size = describe(tensor, offset, &mut bytes)
            .map_err(|problem| refused(GgufPart::Tensor(tensor.name.to_owned()), problem))?;
        offset += size.next_multiple_of(WRITTEN_ALIGNMENT as u64);
        sizes.push(size);
    }
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name).collect();
    if let Some(twice) = repeated(&mut names) {
        return Err(refused(GgufPart::Tensor(twice.to_owned()), GgufProblem::Twice).into());
    }
    bytes.resize(bytes.len().next_multiple_of(WRITTEN_ALIGNMENT), 0);
    Ok((bytes, sizes))
}

/// Refuses a tensor of which there are more or fewer bytes than its shape needs.
pub(super) fn check_size(file: &str, tensor: &BlocksLayout<'_>, expected: u64, found: u64) -> Result<(), WeightsError> {
    if expected == found {
        return Ok(());
    }
    let shape = tensor.shape.iter().map(|&dim| dim as u64).collect();
    let problem = GgufProblem::Size { format: tensor.format, shape, expected, found };
    let at = GgufPart::Tensor(tensor.name.to_owned());
    Err(GgufError { file: file.to_owned(), at, offset: 0, problem }.into())
}

/// Writes the bytes of [`gguf_bytes`] to `path`, replacing what was there.
///
/// The file is written beside `path` under a temporary name, flushed to the disk and then renamed, so that `path` holds
/// either the old file or the whole new one.
///
/// # Errors
/// Those of [`gguf_bytes`], before anything is written; [`WeightsError::Io`] if the disk refuses, after which no temporary
/// file is left.
#[cfg(not(target_arch = "wasm32"))]
pub fn write_gguf<K: AsRef<str>>(
    path: &Path,
    metadata: &[(K, MetadataValue)],
    tensors: &[NewBlocks<'_>],
) -> Result<(), WeightsError> {
    let bytes = gguf_bytes(&path.display().to_string(), metadata, tensors)?;
    beside::replace(path, |file| std::io::Write::write_all(file, &bytes))
}

/// Appends what the header says of a tensor; its bytes.
fn describe(tensor: &BlocksLayout<'_>, offset: u64, bytes: &mut Vec<u8>) -> Result<u64, GgufProblem> {
    check_name(tensor.name, "bytes of a name", LONGEST_NAME)?;
    let found = tensor.shape.len() as u64;
    if found > MOST_DIMENSIONS {
        return Err(GgufProblem::TooMany { what: "dimensions", found, limit: MOST_DIMENSIONS });
    }
    let shape: Vec<u64> = tensor.shape.iter().map(|&dim| dim as u64).collect();
    let size = byte_size(&shape, tensor.format)?;
    put_text(bytes, tensor.name);
    bytes.extend((shape.len() as u32).to_le_bytes());
    shape.iter().rev().for_each(|dim| bytes.extend(dim.to_le_bytes()));
    bytes.extend(tensor.format.ggml_type().to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    Ok(size)
}

fn check_name(name: &str, what: &'static str, limit: u64) -> Result<(), GgufProblem> {
    match name.len() as u64 {
        0 => Err(GgufProblem::NoName),
        found if found > limit => Err(GgufProblem::TooMany { what, found, limit }),
        _ => Ok(()),
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// A name that is there twice.
fn repeated<'a>(names: &mut [&'a str]) -> Option<&'a str> {
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}
