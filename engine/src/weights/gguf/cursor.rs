//! Reads the header of a GGUF file from front to back without believing it.

use std::ops::Range;

use super::error::GgufProblem;
use super::value::ValueType;

/// Arrays in arrays, at most.
pub(super) const DEEPEST: usize = 8;
/// Bytes of the longest header that is read: several times that of any known vocabulary.
pub(super) const HEADER_LIMIT: u64 = 32 << 20;
/// Elements of all arrays of texts and of arrays together, at most; those of numbers are not looked at one by one.
pub(super) const MOST_ELEMENTS: u64 = 1 << 20;

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// The file is wrong.
    Refused(GgufProblem),
    /// More of the file must be at hand, up to here at least.
    More(u64),
}

impl From<GgufProblem> for Stop {
    fn from(problem: GgufProblem) -> Self {
        Self::Refused(problem)
    }
}

/// A place in the front part of a file.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    /// The file's front, of which the header is within.
    front: &'a [u8],
    /// Bytes of the whole file.
    size: u64,
    at: usize,
    /// How many more elements of [`MOST_ELEMENTS`] there may be.
    elements: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(front: &'a [u8], size: u64) -> Self {
        Self { front, size, at: 0, elements: MOST_ELEMENTS }
    }

    /// The place, in bytes from the start of the file.
    pub(super) fn at(&self) -> u64 {
        self.at as u64
    }

    /// Bytes of the whole file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Stops if fewer than `needed` bytes follow in the file.
    pub(super) fn expect(&self, needed: u64) -> Result<(), Stop> {
        let left = self.size.saturating_sub(self.at());
        if needed > left {
            return Err(GgufProblem::End { needed, left }.into());
        }
        Ok(())
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], Stop> {
        self.expect(count)?;
        let end = self.at() + count;
        if end > HEADER_LIMIT {
            let what = "bytes of header";
            return Err(GgufProblem::TooMany { what, found: end, limit: HEADER_LIMIT }.into());
        }
        let taken = self.front.get(self.at..end as usize).ok_or(Stop::More(end))?;
        self.at = end as usize;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text with its length in front.
    pub(super) fn text(&mut self) -> Result<&'a str, Stop> {
        let start = self.at;
        let text = self.u64().and_then(|length| self.take(length));
        let text = text.and_then(|bytes| std::str::from_utf8(bytes).map_err(|_| GgufProblem::NotUtf8.into()));
        if text.is_err() {
            // An error is placed where the text begins.
            self.at = start;
        }
        text
    }

    /// A name with its length in front: not empty, and of at most `limit` bytes.
    pub(super) fn name(&mut self, what: &'static str, limit: u64) -> Result<&'a str, Stop> {
        let length = self.clone().u64()?;
        if length > limit {
            return Err(GgufProblem::TooMany { what, found: length, limit }.into());
        }
        let name = self.text()?;
        if name.is_empty() { Err(GgufProblem::NoName.into()) } else { Ok(name) }
    }

    /// The number of a value's type.
    pub(super) fn value_type(&mut self) -> Result<ValueType, Stop> {
        let found = self.clone().u32()?;
        let kind = ValueType::from_number(found).ok_or(GgufProblem::ValueType { found })?;
        self.take(4)?;
        Ok(kind)
    }

    /// Passes over a value that lies `depth` arrays deep, having checked all of it; where it was, in bytes of the file.
    pub(super) fn value(&mut self, kind: ValueType, depth: usize) -> Result<Range<usize>, Stop> {
        let start = self.at;
        match kind {
            ValueType::String => {
                self.text()?;
            }
            ValueType::Bool => self.bools(1)?,
            ValueType::Array => self.items(depth + 1)?,
            _ => {
                self.take(kind.least_bytes())?;
            }
        }
        Ok(start..self.at)
    }

    /// Passes over an array, from its element type on.
    fn items(&mut self, depth: usize) -> Result<(), Stop> {
        if depth > DEEPEST {
            return Err(GgufProblem::Nesting { limit: DEEPEST }.into());
        }
        let kind = self.value_type()?;
        let count = self.u64()?;
        // Before anything is made of the count: each element takes some bytes of the file.
        let least = count.saturating_mul(kind.least_bytes());
        self.expect(least)?;
        match kind {
            ValueType::String | ValueType::Array => {
                let Some(left) = self.elements.checked_sub(count) else {
                    let what = "elements of arrays";
                    return Err(GgufProblem::TooMany { what, found: count, limit: MOST_ELEMENTS }.into());
                };
                self.elements = left;
                for _ in 0..count {
                    self.value(kind, depth)?;
                }
            }
            ValueType::Bool => self.bools(count)?,
            _ => {
                self.take(least)?;
            }
        }
        Ok(())
    }

    /// Passes over truth values, up to the first that is none.
    fn bools(&mut self, count: u64) -> Result<(), Stop> {
        let bytes = self.clone().take(count)?;
        match bytes.iter().position(|byte| *byte > 1) {
            Some(place) => {
                self.at += place;
                Err(GgufProblem::Bool { found: bytes[place] }.into())
            }
            None => self.take(count).map(drop),
        }
    }
}
