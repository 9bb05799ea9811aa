//! Reads and distrusts the header of one GGUF file: after this, every value and every tensor is inside the file.

use std::ops::Range;

use super::super::blocks::BlockFormat;
use super::cursor::{Cursor, Stop};
use super::error::{GgufError, GgufPart, GgufProblem};
use super::value::{Value, ValueType};
use super::{ALIGNMENT, GgufTensor};

/// Metadata entries, tensors, dimensions of a tensor, and bytes of its name: at most so many are read. ggml has four
/// dimensions; the rest is far beyond any known model's, and little enough that refusing the longest header is cheap.
pub(super) const MOST_ENTRIES: u64 = 1 << 16;
pub(super) const MOST_TENSORS: u64 = 1 << 15;
pub(super) const MOST_DIMENSIONS: u64 = 4;
pub(super) const LONGEST_NAME: u64 = 128;
/// Bytes of the longest key, by the format.
pub(super) const LONGEST_KEY: u64 = (1 << 16) - 1;
/// Bytes that an entry takes at least: a key's length and one byte, a type, one byte.
const LEAST_ENTRY: u64 = 14;
/// Bytes that a tensor's description takes at least: a name's length and one byte, the number of dimensions, type, offset.
const LEAST_TENSOR: u64 = 25;
/// The alignment where the file does not name one.
const USUAL_ALIGNMENT: u64 = 32;

/// What a checked header says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) metadata: Metadata,
    /// Sorted by name.
    pub(super) tensors: Vec<GgufTensor>,
}

/// Where the values of a header are.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// In the order of the file.
    pub(super) entries: Vec<Entry>,
    /// Their numbers, sorted by key.
    order: Vec<u32>,
}

/// One value of the metadata. A header is shorter than 4 GB, so its places have 32 bits.
#[derive(Debug)]
pub(super) struct Entry {
    key: Range<u32>,
    kind: ValueType,
    value: Range<u32>,
}

fn slice<'a>(front: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    front.get(range.start as usize..range.end as usize).unwrap_or_default()
}

impl Entry {
    pub(super) fn key<'a>(&self, front: &'a [u8]) -> &'a str {
        std::str::from_utf8(slice(front, &self.key)).unwrap_or_default()
    }

    /// The value; `None` only if the bytes are no longer those that were checked.
    pub(super) fn value<'a>(&self, front: &'a [u8]) -> Option<Value<'a>> {
        Value::take(self.kind, &mut slice(front, &self.value))
    }
}

impl Metadata {
    pub(super) fn get<'a>(&self, front: &'a [u8], key: &str) -> Option<Value<'a>> {
        let by_key = |&number: &u32| slice(front, &self.entries[number as usize].key).cmp(key.as_bytes());
        let found = self.order.binary_search_by(by_key).ok()?;
        self.entries[self.order[found] as usize].value(front)
    }
}

/// Why a header could not be read.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(Box<GgufError>),
    /// More of the file must be at hand, up to here at least.
    More(u64),
}

/// What was being read when something was wrong: the part of the file, and a place other than the cursor's.
type Trouble = (GgufPart, Option<u64>, Stop);

/// Reads the header of a file of `size` bytes that begins with `front`.
pub(super) fn read(file: &str, front: &[u8], size: u64) -> Result<Header, Failure> {
    let mut cursor = Cursor::new(front, size);
    parse(&mut cursor, front).map_err(|(at, offset, stop)| match stop {
        Stop::More(end) => Failure::More(end),
        Stop::Refused(problem) => {
            let offset = offset.unwrap_or_else(|| cursor.at());
            Failure::Refused(Box::new(GgufError { file: file.to_owned(), at, offset, problem }))
        }
    })
}

fn parse(cursor: &mut Cursor<'_>, front: &[u8]) -> Result<Header, Trouble> {
    let (version, tensor_count, entry_count) = opening(cursor).map_err(|stop| (GgufPart::Header, None, stop))?;
    let mut metadata = Metadata::default();
    for number in 0..entry_count {
        metadata.entries.push(entry(cursor, number)?);
    }
    metadata.order = (0..entry_count as u32).collect();
    let entries = &metadata.entries;
    metadata.order.sort_by_key(|&number| slice(front, &entries[number as usize].key));
    let same =
        |pair: &&[u32]| slice(front, &entries[pair[0] as usize].key) == slice(front, &entries[pair[1] as usize].key);
    if let Some(twice) = metadata.order.windows(2).find(same) {
        let again = &entries[twice[1] as usize];
        let key = GgufPart::Key(again.key(front).to_owned());
        return Err((key, Some(again.key.start.into()), GgufProblem::Twice.into()));
    }
    let alignment = alignment(&metadata, front)?;
    let mut tensors = Vec::new();
    for number in 0..tensor_count {
        tensors.push(describe(cursor, number)?);
    }
    tensors.sort_by(|a, b| a.tensor.name.cmp(&b.tensor.name));
    if let Some(twice) = tensors.windows(2).find(|pair| pair[0].tensor.name == pair[1].tensor.name) {
        let part = GgufPart::Tensor(twice[1].tensor.name.clone());
        return Err((part, Some(twice[1].at), GgufProblem::Twice.into()));
    }
    lay_out(cursor, alignment, &mut tensors)?;
    Ok(Header { version, alignment, metadata, tensors: tensors.into_iter().map(|found| found.tensor).collect() })
}

/// Version, number of tensors, number of metadata entries.
fn opening(cursor: &mut Cursor<'_>) -> Result<(u32, u64, u64), Stop> {
    let magic: [u8; 4] = cursor.clone().array()?;
    if &magic != b"GGUF" {
        return Err(GgufProblem::Magic { found: String::from_utf8_lossy(&magic).into_owned() }.into());
    }
    cursor.take(4)?;
    let version = cursor.clone().u32()?;
    match version {
        2 | 3 => {}
        _ if version != 0 && version & 0xffff == 0 => return Err(GgufProblem::BigEndian.into()),
        found => return Err(GgufProblem::Version { found }.into()),
    }
    cursor.take(4)?;
    let tensors = count(cursor, "tensors", MOST_TENSORS, LEAST_TENSOR)?;
    let entries = count(cursor, "metadata entries", MOST_ENTRIES, LEAST_ENTRY)?;
    Ok((version, tensors, entries))
}

/// A count of things that take `least` bytes each.
fn count(cursor: &mut Cursor<'_>, what: &'static str, limit: u64, least: u64) -> Result<u64, Stop> {
    let found = cursor.clone().u64()?;
    if found > limit {
        return Err(GgufProblem::TooMany { what, found, limit }.into());
    }
    cursor.expect(8 + found * least)?;
    cursor.take(8)?;
    Ok(found)
}

fn entry(cursor: &mut Cursor<'_>, number: u64) -> Result<Entry, Trouble> {
    let unnamed = |stop| (GgufPart::Entry(number), None, stop);
    let key = cursor.name("bytes of a key", LONGEST_KEY).map_err(unnamed)?;
    let end = cursor.at() as u32;
    let named = |stop| (GgufPart::Key(key.to_owned()), None, stop);
    let kind = cursor.value_type().map_err(named)?;
    let value = cursor.value(kind, 0).map_err(named)?;
    Ok(Entry { key: end - key.len() as u32..end, kind, value: value.start as u32..value.end as u32 })
}

fn alignment(metadata: &Metadata, front: &[u8]) -> Result<u64, Trouble> {
    let Some(value) = metadata.get(front, ALIGNMENT) else { return Ok(USUAL_ALIGNMENT) };
    let problem = match value {
        Value::U32(found) if found.is_power_of_two() => return Ok(found.into()),
        Value::U32(found) => GgufProblem::Alignment { found: found.into() },
        other => GgufProblem::WrongType { found: other.kind(), wanted: "a u32" },
    };
    let offset = metadata.entries.iter().find(|entry| entry.key(front) == ALIGNMENT).map(|entry| entry.value.start);
    Err((GgufPart::Key(ALIGNMENT.to_owned()), offset.map(u64::from), problem.into()))
}

/// A tensor whose range is still counted from the start of the data, and where its description is.
struct Described {
    tensor: GgufTensor,
    at: u64,
}

fn describe(cursor: &mut Cursor<'_>, number: u64) -> Result<Described, Trouble> {
    let at = cursor.at();
    let unnamed = |stop| (GgufPart::TensorNumber(number), None, stop);
    let name = cursor.name("bytes of a name", LONGEST_NAME).map_err(unnamed)?;
    let tensor = shape_and_place(cursor, name);
    let tensor = tensor.map_err(|stop| (GgufPart::Tensor(name.to_owned()), None, stop))?;
    Ok(Described { tensor, at })
}

fn shape_and_place(cursor: &mut Cursor<'_>, name: &str) -> Result<GgufTensor, Stop> {
    let dimensions = u64::from(cursor.clone().u32()?);
    if dimensions > MOST_DIMENSIONS {
        let what = "dimensions";
        return Err(GgufProblem::TooMany { what, found: dimensions, limit: MOST_DIMENSIONS }.into());
    }
    cursor.take(4)?;
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        shape.push(cursor.u64()?);
    }
    // The file has the innermost dimension first.
    shape.reverse();
    let format = tensor_type(cursor.clone().u32()?)?;
    cursor.take(4)?;
    let bytes = byte_size(&shape, format)?;
    let offset = cursor.u64()?;
    let end = offset.checked_add(bytes).ok_or_else(|| GgufProblem::Shape { shape: shape.clone() })?;
    let narrow: Result<Vec<usize>, _> = shape.iter().copied().map(usize::try_from).collect();
    let shape = narrow.map_err(|_| GgufProblem::Shape { shape })?;
    Ok(GgufTensor { name: name.to_owned(), format, shape, range: offset..end, part: 0 })
}

/// The bytes that `shape`, outermost dimension first, takes in `format`.
pub(super) fn byte_size(shape: &[u64], format: BlockFormat) -> Result<u64, GgufProblem> {
    let row = shape.last().copied().unwrap_or(1);
    let block = format.block_elements() as u64;
    if !row.is_multiple_of(block) {
        return Err(GgufProblem::PartialBlock { elements: row, format });
    }
    // Counted in elements first: a shape whose elements cannot be counted is refused even if its bytes could be.
    let elements = shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    let bytes = elements.and_then(|elements| (elements / block).checked_mul(format.block_bytes() as u64));
    bytes.ok_or_else(|| GgufProblem::Shape { shape: shape.to_vec() })
}

fn tensor_type(found: u32) -> Result<BlockFormat, GgufProblem> {
    const REMOVED: [(u32, &str); 8] = [
        (4, "Q4_2"),
        (5, "Q4_3"),
        (31, "Q4_0_4_4"),
        (32, "Q4_0_4_8"),
        (33, "Q4_0_8_8"),
        (36, "IQ4_NL_4_4"),
        (37, "IQ4_NL_4_8"),
        (38, "IQ4_NL_8_8"),
    ];
    if let Some(&(_, name)) = REMOVED.iter().find(|(number, _)| *number == found) {
        return Err(GgufProblem::RemovedType { name });
    }
    BlockFormat::from_ggml_type(found).ok_or(GgufProblem::TensorType { found })
}

/// Turns offsets into ranges of the file, if they are aligned, inside it and apart from each other.
fn lay_out(cursor: &Cursor<'_>, alignment: u64, tensors: &mut [Described]) -> Result<(), Trouble> {
    let start = cursor.at().next_multiple_of(alignment);
    let part = |tensor: &GgufTensor| GgufPart::Tensor(tensor.name.clone());
    for Described { tensor, at } in &mut *tensors {
        let found = tensor.range.start;
        if !found.is_multiple_of(alignment) {
            return Err((part(tensor), Some(*at), GgufProblem::Misaligned { found, alignment }.into()));
        }
        let needed = tensor.range.end - found;
        let begin = start.saturating_add(found);
        let left = cursor.size().saturating_sub(begin);
        if needed > left {
            return Err((part(tensor), Some(begin), GgufProblem::End { needed, left }.into()));
        }
        // A tensor without elements may be said to lie behind the end, where nothing can be read, not even nothing.
        let begin = if needed == 0 { begin.min(cursor.size()) } else { begin };
        tensor.range = begin..begin + needed;
    }
    let mut order: Vec<&GgufTensor> = tensors.iter().map(|found| &found.tensor).collect();
    order.retain(|tensor| !tensor.range.is_empty());
    order.sort_by_key(|tensor| tensor.range.start);
    if let Some(pair) = order.windows(2).find(|pair| pair[1].range.start < pair[0].range.end) {
        let problem = GgufProblem::Overlap { first: pair[0].name.clone() };
        return Err((part(pair[1]), Some(pair[1].range.start), problem.into()));
    }
    Ok(())
}
