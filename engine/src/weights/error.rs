//! What can be wrong with a weight file, as values that carry the facts and sentences that end with a way out.

use std::io;
use std::ops::Range;

use super::blocks::BlockError;
use super::gguf::GgufError;
use super::shown::{Dims, Shown};
use super::{Dtype, ShardError};

/// Why weights could not be opened, read or written.
///
/// `file` is the path or the name given when opening; offsets are bytes from the start of the file. Nothing a file holds is
/// printed raw: names are escaped and shortened, since a model file is not trusted with a terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// No file is at that path.
    #[error("{file}: there is no such file; check the path")]
    NotFound {
        /// The path that was asked for.
        file: String,
    },
    /// The path is a directory, a pipe or a device.
    #[error("{file}: this is {found}, not a file; give the path of a .safetensors file")]
    NotAFile {
        /// The path that was asked for.
        file: String,
        /// What is there instead.
        found: &'static str,
    },
    /// The folder has no weights, or more than one model's.
    #[error(
        "{folder}: the folder has no model.safetensors and {found} GGUF models, and PyTorch's .bin is not read; give the path of a file"
    )]
    NoWeights {
        /// The folder.
        folder: String,
        /// How many models in GGUF files it has, if those were looked for.
        found: usize,
    },
    /// The operating system refused.
    #[error("{file}: could not {action}: {source}; check the folder, its permissions and free space")]
    Io {
        /// The path being worked on.
        file: String,
        /// What was being done, as a verb: "open the file".
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The file has no bytes.
    #[error("{file}: the file is empty; download it again")]
    Empty {
        /// The file.
        file: String,
    },
    /// The file ends inside the length that opens it.
    #[error("{file}: the file is {size} bytes, but a safetensors file opens with an 8-byte length; download it again")]
    TooShort {
        /// The file.
        file: String,
        /// Its size in bytes.
        size: usize,
    },
    /// The file is of some other kind.
    #[error("{file}: this is {found}, not a safetensors file; {remedy}")]
    OtherFormat {
        /// The file.
        file: String,
        /// What its first bytes say it is.
        found: &'static str,
        /// How to get from there to a safetensors file.
        remedy: &'static str,
    },
    /// The header claims more than is ever read.
    #[error(
        "{file}: its header claims {declared} bytes and at most {limit} are accepted; it is damaged or no safetensors file, download it again"
    )]
    HeaderTooLarge {
        /// The file.
        file: String,
        /// The claimed length in bytes.
        declared: u64,
        /// The longest header accepted, in bytes.
        limit: u64,
    },
    /// The header would end behind the end of the file.
    #[error(
        "{file}: the file is {size} bytes but its header alone claims {declared}; it is truncated, download it again"
    )]
    HeaderPastEnd {
        /// The file.
        file: String,
        /// Its size in bytes.
        size: usize,
        /// The claimed length of the header in bytes.
        declared: u64,
    },
    /// The header is not text.
    #[error("{file}: its header is not UTF-8 at byte {offset}; it is damaged, download it again")]
    HeaderNotUtf8 {
        /// The file.
        file: String,
        /// The first byte that is not.
        offset: usize,
    },
    /// The header is text, but not one JSON object.
    #[error("{file}: its header is not a JSON object ({reason}); it is damaged, download or export it again")]
    HeaderNotJson {
        /// The file.
        file: String,
        /// The parser's reason, with line and column in the header.
        reason: String,
    },
    /// One entry of the header is not a tensor's description (or, for `__metadata__`, not text by text).
    #[error("{file}: the header's entry {} is malformed ({reason}); export the file again", Shown(.entry))]
    BadEntry {
        /// The file.
        file: String,
        /// The entry's name.
        entry: String,
        /// The parser's reason, with line and column in the header.
        reason: String,
    },
    /// Two tensors have the same name.
    #[error("{file}: tensor {} is there twice; export the file again with distinct names", Shown(.tensor))]
    DuplicateName {
        /// The file.
        file: String,
        /// The name.
        tensor: String,
    },
    /// A type the format does not define.
    #[error("{file}: tensor {} has the unknown type {}; export it as F32, F16, BF16 or I8", Shown(.tensor), Shown(.dtype))]
    UnknownDtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The type's name in the header.
        dtype: String,
    },
    /// The shape describes more bytes than can be counted.
    #[error("{file}: tensor {} of shape {} is too large to address; the file is damaged, download it again", Shown(.tensor), Dims(.shape))]
    ShapeOverflow {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape in the header.
        shape: Vec<u64>,
    },
    /// A packed type whose elements do not fill whole bytes.
    #[error("{file}: tensor {} of {dtype} {} ends inside a byte; export it with a padded shape", Shown(.tensor), Dims(.shape))]
    PartialByte {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// The number of bytes is not what type and shape need.
    #[error("{file}: tensor {} of {dtype} {} needs {expected} bytes and has {found}; export the file again", Shown(.tensor), Dims(.shape))]
    SizeMismatch {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes by type and shape.
        expected: u64,
        /// Bytes in the file, or handed over for writing.
        found: u64,
    },
    /// A range that ends before it begins.
    #[error("{file}: the data of tensor {} ends at {end}, before its begin {begin}; export the file again", Shown(.tensor))]
    BackwardRange {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its begin as the header says it, counted from the end of the header.
        begin: u64,
        /// Its end, counted likewise.
        end: u64,
    },
    /// Tensors lie behind the end of the file.
    #[error("{file}: the file is {size} bytes but its header says {needed} (tensor {} is the first cut off); it is truncated, download it again", Shown(.tensor))]
    Truncated {
        /// The file.
        file: String,
        /// Its size in bytes.
        size: u64,
        /// The size its header describes.
        needed: u64,
        /// The first tensor that is not all there.
        tensor: String,
    },
    /// Two tensors share bytes.
    #[error("{file}: tensors {} and {} overlap at byte {offset}; export the file again", Shown(.first), Shown(.second))]
    Overlap {
        /// The file.
        file: String,
        /// The tensor that begins first.
        first: String,
        /// The tensor that begins inside it.
        second: String,
        /// Where the second begins.
        offset: usize,
    },
    /// Bytes before a tensor that belong to none.
    #[error("{file}: {size} bytes at byte {offset}, before tensor {}, belong to no tensor; export the file again", Shown(.tensor))]
    Gap {
        /// The file.
        file: String,
        /// The tensor behind the gap.
        tensor: String,
        /// Where the gap begins.
        offset: usize,
        /// Its length in bytes.
        size: usize,
    },
    /// Bytes behind the last tensor.
    #[error(
        "{file}: the file is {size} bytes but its header says {expected}; something was appended, download it again"
    )]
    TrailingBytes {
        /// The file.
        file: String,
        /// Its size in bytes.
        size: usize,
        /// The size its header describes.
        expected: usize,
    },
    /// No tensor of that name.
    #[error("{file}: it has no tensor {} among its {count}; check the name against the file's list", Shown(.tensor))]
    Missing {
        /// The file.
        file: String,
        /// The name asked for.
        tensor: String,
        /// How many tensors the file has.
        count: usize,
    },
    /// The tensor is stored in a type that the caller cannot take.
    #[error("{file}: tensor {} is stored as {found} and {wanted} was expected; convert the file", Shown(.tensor))]
    WrongDtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// How it is stored.
        found: Dtype,
        /// What would have done.
        wanted: &'static str,
    },
    /// A weight that is not a number, infinite, or beyond what single precision holds.
    #[error("{file}: tensor {} holds {value} at element {index} (byte {offset}), not a finite 32-bit float; the file is damaged or its training diverged", Shown(.tensor))]
    NotFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The element, counted in row-major order.
        index: usize,
        /// The byte it begins at.
        offset: usize,
        /// The value as stored.
        value: f64,
    },
    /// The tensor does not fit in memory.
    #[error("{file}: tensor {} takes {size} bytes in memory and there is no room; use a smaller model", Shown(.tensor))]
    OutOfMemory {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Bytes asked for.
        size: usize,
    },
    /// A tensor to be written has the name the format keeps for itself.
    #[error("{file}: a tensor cannot be called `__metadata__`; rename it")]
    ReservedName {
        /// The file that was to be written.
        file: String,
    },
    /// Rows beyond those a tensor has, or rows of packed elements that end inside a byte.
    #[error("{file}: rows {} to {} of tensor {} were asked for, which has {count}; ask for whole rows that are there", .rows.start, .rows.end, Shown(.tensor))]
    RowsOutside {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The rows asked for.
        rows: Range<usize>,
        /// How many it has.
        count: usize,
    },
    /// The tensor's blocks cannot be decoded.
    #[error("{file}: tensor {}: {source}", Shown(.tensor))]
    Blocks {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Why.
        source: BlockError,
    },
    /// A GGUF file is wrong.
    #[error(transparent)]
    Gguf(#[from] Box<GgufError>),
    /// The shards of a model do not fit their index.
    #[error(transparent)]
    Shards(#[from] ShardError),
}

impl From<GgufError> for WeightsError {
    fn from(error: GgufError) -> Self {
        Self::Gguf(Box::new(error))
    }
}
