//! What can be wrong with a GGUF file: where, what was found, and the way out.

use std::fmt;

use super::super::blocks::BlockFormat;
use super::super::shown::{Dims, Shown};
use super::value::ValueType;

/// Why a GGUF file could not be read or written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{file}: {at}, byte {offset}: {problem}")]
#[non_exhaustive]
pub struct GgufError {
    /// The file: its path, or the name given when opening.
    pub file: String,
    /// The part of the file.
    pub at: GgufPart,
    /// Where in the file, in bytes from its start; 0 for a file that is yet to be written.
    pub offset: u64,
    /// What was found there.
    pub problem: GgufProblem,
}

/// A part of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GgufPart {
    /// Magic, version and the two counts.
    Header,
    /// The metadata's entry of this number, whose key could not be read.
    Entry(u64),
    /// The metadata's entry with this key.
    Key(String),
    /// The description of the tensor of this number, whose name could not be read.
    TensorNumber(u64),
    /// The tensor of this name.
    Tensor(String),
}

impl fmt::Display for GgufPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Entry(number) => write!(f, "metadata entry {number}"),
            Self::Key(key) => write!(f, "metadata key {}", Shown(key)),
            Self::TensorNumber(number) => write!(f, "tensor number {number}"),
            Self::Tensor(name) => write!(f, "tensor {}", Shown(name)),
        }
    }
}

/// What is wrong with a part of a GGUF file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufProblem {
    /// The file does not open with `GGUF`.
    #[error("it opens with {} instead of `GGUF`; get the model's .gguf file", Shown(.found))]
    Magic {
        /// The first four bytes, as text.
        found: String,
    },
    /// The file's numbers have their most significant byte first.
    #[error("the file is big-endian, and only little-endian ones are read; convert it with `gguf-convert-endian`")]
    BigEndian,
    /// A version that is not read.
    #[error("version {found} is not read, only 2 and 3; {}", version_remedy(*.found))]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// The file ends before what it announced.
    #[error("{needed} more bytes are needed and the file has {left}; it is truncated or damaged, download it again")]
    End {
        /// Bytes that what was announced takes at least.
        needed: u64,
        /// Bytes from there to the end of the file.
        left: u64,
    },
    /// More of something than is ever read.
    #[error("{found} {what} are announced and at most {limit} are read; the file is damaged, download it again")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The count in the file.
        found: u64,
        /// The largest count that is read.
        limit: u64,
    },
    /// Text that is not UTF-8.
    #[error("the text is not UTF-8; the file is damaged, download or export it again")]
    NotUtf8,
    /// A key or a name without a character.
    #[error("it has no name; export the file again")]
    NoName,
    /// Two entries with one key, or two tensors of one name.
    #[error("it is there twice; export the file again with distinct names")]
    Twice,
    /// A value's type the format does not define.
    #[error("its type has the unknown number {found}; the file is damaged or newer than this reader, export it again")]
    ValueType {
        /// The number in the file.
        found: u32,
    },
    /// A truth value that is neither 0 nor 1.
    #[error("a truth value is {found} and must be 0 or 1; export the file again")]
    Bool {
        /// The byte in the file.
        found: u8,
    },
    /// Arrays in arrays beyond what is read.
    #[error("arrays lie more than {limit} deep in each other; export the file with flatter metadata")]
    Nesting {
        /// The deepest that is read.
        limit: usize,
    },
    /// A value of another type than its key asks for.
    #[error("it is {found} and {wanted} was expected; export the file again")]
    WrongType {
        /// The value's type.
        found: ValueType,
        /// What would have done.
        wanted: &'static str,
    },
    /// An alignment that is no power of two.
    #[error("the alignment {found} is no power of two; export the file again")]
    Alignment {
        /// The alignment in the file.
        found: u64,
    },
    /// A tensor's type whose number is not known.
    #[error("its type has the unknown number {found}; get the model in one of {}", BlockFormat::list(&BlockFormat::DECODED))]
    TensorType {
        /// The number in the file.
        found: u32,
    },
    /// A tensor's type that the format once had.
    #[error("its type {name} was removed from the format; get the model in one of {}", BlockFormat::list(&BlockFormat::DECODED))]
    RemovedType {
        /// The name it had.
        name: &'static str,
    },
    /// More elements or bytes than can be counted.
    #[error("the shape {} is too large to address; the file is damaged, download it again", Dims(.shape))]
    Shape {
        /// The shape, outermost dimension first.
        shape: Vec<u64>,
    },
    /// A row that ends inside a block.
    #[error("rows of {elements} elements end inside a block of {format} ({} elements); export it in another type", .format.block_elements())]
    PartialBlock {
        /// Elements of a row.
        elements: u64,
        /// The tensor's type.
        format: BlockFormat,
    },
    /// Data that does not begin at a multiple of the alignment.
    #[error("its data is at offset {found}, no multiple of the alignment {alignment}; export the file again")]
    Misaligned {
        /// Its offset in the file, counted from the start of the data.
        found: u64,
        /// The alignment.
        alignment: u64,
    },
    /// Data that begins inside another tensor's.
    #[error("its data begins inside that of tensor {}; export the file again", Shown(.first))]
    Overlap {
        /// The tensor that begins before it.
        first: String,
    },
    /// One file of a set, handed over alone.
    #[error("this is part {} of {count}; put all into one folder as NAME-00001-of-{count:05}.gguf and so on, and open the first", u64::from(*.number) + 1)]
    Part {
        /// Which of them, from 0.
        number: u32,
        /// How many there are.
        count: u32,
    },
    /// Files of a set that do not belong together.
    #[error("{what} is {found} and {expected} was expected here; put the files of one model together")]
    Set {
        /// What was compared.
        what: &'static str,
        /// What this file says.
        found: i128,
        /// What the others say.
        expected: i128,
    },
    /// As many bytes were handed over for writing as the shape does not need.
    #[error("{} elements of {format} need {expected} bytes and {found} were handed over; hand over whole tensors", Dims(.shape))]
    Size {
        /// The tensor's type.
        format: BlockFormat,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes by type and shape.
        expected: u64,
        /// Bytes handed over.
        found: u64,
    },
}

fn version_remedy(found: u32) -> &'static str {
    match found {
        0 => "the file is damaged, download it again",
        1 => "convert the model again with a current llama.cpp",
        _ => "get an older export or a newer version of this software",
    }
}
