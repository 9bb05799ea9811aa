//! Opens GGUF files from any source of bytes, and joins the parts of a split one.

use std::sync::Arc;

use super::super::WeightsError;
use super::super::bytes::ByteSource;
use super::cursor::HEADER_LIMIT;
use super::error::{GgufError, GgufPart, GgufProblem};
use super::header::{self, Failure, Header, MOST_TENSORS};
use super::{Gguf, GgufTensor, Inner, Part};

/// Bytes of a header that are asked of a source at first; more if the header is longer.
const FIRST_READ: u64 = 64 << 10;

/// The keys by which a split file says which part it is, of how many, and how many tensors all have together.
const SPLIT_NUMBER: &str = "split.no";
const SPLIT_COUNT: &str = "split.count";
const SPLIT_TENSORS: &str = "split.tensors.count";

impl Gguf {
    /// Takes a whole file from `source`: bytes in memory, without copying them, or a source of ranges, of which only the
    /// header is read. `name` stands for the file in errors.
    ///
    /// # Errors
    /// [`WeightsError::Gguf`] for whatever is wrong with the header, [`GgufProblem::Part`] among it for one of several split
    /// files; [`WeightsError::Io`] if the source cannot be read.
    pub fn from_bytes(name: &str, source: impl ByteSource + 'static) -> Result<Self, WeightsError> {
        Self::from_parts(vec![(name.to_owned(), Box::new(source))])
    }

    /// Takes the parts of a split file, in order, each with the name that stands for it in errors; or one whole file.
    ///
    /// # Errors
    /// As [`Gguf::from_bytes`]; [`GgufProblem::Set`] if the parts do not belong together, or there is none.
    pub fn from_parts(parts: Vec<(String, Box<dyn ByteSource>)>) -> Result<Self, WeightsError> {
        let read: Result<Vec<_>, _> = parts.into_iter().map(|(name, source)| read_part(name, source)).collect();
        Self::assemble(read?)
    }

    /// Joins what was read of all files of a set.
    pub(super) fn assemble(parts: Vec<(Part, Vec<GgufTensor>)>) -> Result<Self, WeightsError> {
        let mut read = Vec::with_capacity(parts.len());
        let mut tensors: Vec<GgufTensor> = Vec::new();
        for (number, (part, found)) in parts.into_iter().enumerate() {
            tensors.extend(found.into_iter().map(|tensor| GgufTensor { part: number, ..tensor }));
            read.push(part);
        }
        let Some(first) = read.first() else {
            let at = GgufPart::Key(SPLIT_COUNT.to_owned());
            let problem = GgufProblem::Set { what: "the number of files", found: 0, expected: 1 };
            return Err(GgufError { file: "no file".to_owned(), at, offset: 0, problem }.into());
        };
        let count = read.len();
        let (number, wanted) = split(first)?;
        if count == 1 && wanted > 1 {
            let count = wanted;
            return Err(refused(first, SPLIT_NUMBER, GgufProblem::Part { number, count }));
        }
        for (expected, part) in read.iter().enumerate() {
            let (number, wanted) = split(part)?;
            agree(part, SPLIT_COUNT, "the number of files", count as i128, wanted.into())?;
            agree(part, SPLIT_NUMBER, "the number of the part", number.into(), expected as i128)?;
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(twice) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            let (file, at) = (read[twice[1].part].name.clone(), GgufPart::Tensor(twice[1].name.clone()));
            return Err(GgufError { file, at, offset: twice[1].range.start, problem: GgufProblem::Twice }.into());
        }
        if let Some(total) = integer(first, SPLIT_TENSORS, MOST_TENSORS.into())? {
            agree(first, SPLIT_TENSORS, "the number of tensors in all files", tensors.len() as i128, total)?;
        }
        Ok(Self { inner: Arc::new(Inner { parts: read, tensors }) })
    }
}

fn refused(part: &Part, key: &str, problem: GgufProblem) -> WeightsError {
    let at = GgufPart::Key(key.to_owned());
    GgufError { file: part.name.clone(), at, offset: 0, problem }.into()
}

fn agree(part: &Part, key: &str, what: &'static str, found: i128, expected: i128) -> Result<(), WeightsError> {
    if found == expected {
        return Ok(());
    }
    Err(refused(part, key, GgufProblem::Set { what, found, expected }))
}

/// Which part a file is, from 0, and of how many.
pub(super) fn split(part: &Part) -> Result<(u32, u32), WeightsError> {
    let most = i128::from(u16::MAX);
    let number = integer(part, SPLIT_NUMBER, most)?.unwrap_or(0);
    // A count of 0 is written by some for a file that is whole.
    let count = integer(part, SPLIT_COUNT, most)?.unwrap_or(1).max(1);
    Ok((number as u32, count as u32))
}

/// The metadata's integer of `key`, if it is there, from 0 to `most`.
fn integer(part: &Part, key: &str, most: i128) -> Result<Option<i128>, WeightsError> {
    let Some(value) = part.value(key) else { return Ok(None) };
    match value.integer() {
        Some(found) if (0..=most).contains(&found) => Ok(Some(found)),
        Some(found) => Err(refused(part, key, GgufProblem::Set { what: "the value", found, expected: most })),
        None => Err(refused(part, key, GgufProblem::WrongType { found: value.kind(), wanted: "an integer" })),
    }
}

/// Reads one file's header.
pub(super) fn read_part(name: String, source: Box<dyn ByteSource>) -> Result<(Part, Vec<GgufTensor>), WeightsError> {
    let size = source.size();
    if size == 0 {
        return Err(WeightsError::Empty { file: name });
    }
    let mut front = Vec::new();
    let header = match source.whole() {
        Some(whole) => header::read(&name, whole, size).map_err(|failure| stopped(&name, size, failure))?,
        None => read_by_range(&name, &*source, &mut front)?,
    };
    let front = source.whole().is_none().then_some(front);
    let Header { version, alignment, metadata, tensors } = header;
    Ok((Part { name, version, alignment, metadata, source, front }, tensors))
}

/// Reads as much of the front of a file as its header needs.
fn read_by_range(name: &str, source: &dyn ByteSource, front: &mut Vec<u8>) -> Result<Header, WeightsError> {
    let size = source.size();
    let mut wanted = FIRST_READ.min(size);
    loop {
        let failed = |error| WeightsError::Io { file: name.to_owned(), action: "read the header", source: error };
        let more = source.read(front.len() as u64..wanted).map_err(failed)?;
        front.extend_from_slice(&more);
        if (front.len() as u64) < wanted {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        match header::read(name, front, size) {
            Ok(header) => return Ok(header),
            Err(Failure::More(end)) if wanted < size => {
                wanted = end.max(wanted.saturating_mul(4)).min(size).min(HEADER_LIMIT.max(end));
            }
            Err(failure) => return Err(stopped(name, size, failure)),
        }
    }
}

/// The error of a header that all of the file was there for.
fn stopped(name: &str, size: u64, failure: Failure) -> WeightsError {
    match failure {
        Failure::Refused(error) => error.into(),
        // Only a source that gives out fewer bytes than it said comes here.
        Failure::More(end) => {
            let problem = GgufProblem::End { needed: end.saturating_sub(size), left: 0 };
            GgufError { file: name.to_owned(), at: GgufPart::Header, offset: size, problem }.into()
        }
    }
}
