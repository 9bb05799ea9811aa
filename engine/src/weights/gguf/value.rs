//! The metadata of a GGUF file, read where it lies: a vocabulary of a million bytes is never copied.

use std::fmt;

/// What a value of the metadata is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant is the type it names")]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    /// Every type, in the order of its number in a file.
    pub const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    pub(super) const fn number(self) -> u32 {
        self as u32
    }

    /// Bytes of a value; of a text or an array without content.
    pub(super) const fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "a u8",
            Self::I8 => "an i8",
            Self::U16 => "a u16",
            Self::I16 => "an i16",
            Self::U32 => "a u32",
            Self::I32 => "an i32",
            Self::F32 => "an f32",
            Self::Bool => "a truth value",
            Self::String => "a text",
            Self::Array => "an array",
            Self::U64 => "a u64",
            Self::I64 => "an i64",
            Self::F64 => "an f64",
        })
    }
}

/// A value of the metadata.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant is the type it names")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(&'a str),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Which type it has.
    #[must_use]
    pub const fn kind(self) -> ValueType {
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
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// The whole number, of any integer type; `None` for everything else.
    #[must_use]
    pub fn integer(self) -> Option<i128> {
        Some(match self {
            Self::U8(value) => value.into(),
            Self::I8(value) => value.into(),
            Self::U16(value) => value.into(),
            Self::I16(value) => value.into(),
            Self::U32(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::U64(value) => value.into(),
            Self::I64(value) => value.into(),
            _ => return None,
        })
    }

    /// The number, of any type; 64-bit integers are rounded to the nearest.
    #[must_use]
    pub fn number(self) -> Option<f64> {
        match self {
            Self::F32(value) => Some(value.into()),
            Self::F64(value) => Some(value),
            other => other.integer().map(|value| value as f64),
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub const fn text(self) -> Option<&'a str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The truth value, if it is one.
    #[must_use]
    pub const fn truth(self) -> Option<bool> {
        if let Self::Bool(truth) = self { Some(truth) } else { None }
    }

    /// The array, if it is one.
    #[must_use]
    pub const fn array(self) -> Option<Array<'a>> {
        if let Self::Array(array) = self { Some(array) } else { None }
    }

    /// Takes a value of type `kind` off the front of `bytes`; `None` if they are too few or no such value.
    pub(super) fn take(kind: ValueType, bytes: &mut &'a [u8]) -> Option<Self> {
        Some(match kind {
            ValueType::U8 => Self::U8(u8::from_le_bytes(split(bytes)?)),
            ValueType::I8 => Self::I8(i8::from_le_bytes(split(bytes)?)),
            ValueType::U16 => Self::U16(u16::from_le_bytes(split(bytes)?)),
            ValueType::I16 => Self::I16(i16::from_le_bytes(split(bytes)?)),
            ValueType::U32 => Self::U32(u32::from_le_bytes(split(bytes)?)),
            ValueType::I32 => Self::I32(i32::from_le_bytes(split(bytes)?)),
            ValueType::F32 => Self::F32(f32::from_le_bytes(split(bytes)?)),
            ValueType::Bool => Self::Bool(split::<1>(bytes)? != [0]),
            ValueType::U64 => Self::U64(u64::from_le_bytes(split(bytes)?)),
            ValueType::I64 => Self::I64(i64::from_le_bytes(split(bytes)?)),
            ValueType::F64 => Self::F64(f64::from_le_bytes(split(bytes)?)),
            ValueType::String => {
                let length = usize::try_from(u64::from_le_bytes(split(bytes)?)).ok()?;
                let (text, rest) = bytes.split_at_checked(length)?;
                *bytes = rest;
                Self::String(std::str::from_utf8(text).ok()?)
            }
            ValueType::Array => Self::Array(Array::take(bytes)?),
        })
    }
}

/// The next `N` of `bytes`, which are left behind.
fn split<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// An array of the metadata, decoded as it is walked through.
#[derive(Clone, Copy, PartialEq)]
pub struct Array<'a> {
    kind: ValueType,
    len: usize,
    /// The elements.
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let kind = ValueType::from_number(u32::from_le_bytes(split(bytes)?))?;
        let len = usize::try_from(u64::from_le_bytes(split(bytes)?)).ok()?;
        let all = *bytes;
        match kind {
            ValueType::String | ValueType::Array => {
                for _ in 0..len {
                    pass(kind, bytes)?;
                }
            }
            _ => *bytes = bytes.get(len.checked_mul(kind.least_bytes() as usize)?..)?,
        }
        Some(Self { kind, len, bytes: &all[..all.len() - bytes.len()] })
    }

    /// What every element is.
    #[must_use]
    pub const fn kind(&self) -> ValueType {
        self.kind
    }

    /// How many elements it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements, one after the other; nothing is copied.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let Self { kind, len, mut bytes } = *self;
        (0..len).map_while(move |_| Value::take(kind, &mut bytes))
    }

    /// The texts of an array of texts; `None` for any other.
    #[must_use]
    pub fn texts(&self) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
        (self.kind == ValueType::String).then(|| self.iter().filter_map(Value::text))
    }

    /// The elements as they lie in the file, little-endian: for arrays of numbers.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Passes over a text or an array without looking inside.
fn pass(kind: ValueType, bytes: &mut &[u8]) -> Option<()> {
    match kind {
        ValueType::String => {
            let length = usize::try_from(u64::from_le_bytes(split(bytes)?)).ok()?;
            *bytes = bytes.get(length..)?;
            Some(())
        }
        _ => Array::take(bytes).map(drop),
    }
}
