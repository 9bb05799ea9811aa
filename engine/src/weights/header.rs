//! Reads and distrusts the header of a safetensors file: after this, every range is inside the file and means what it says.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::shown::shortened;
use super::{ByteSource, Dtype, TensorInfo, WeightsError};

/// Bytes of the length in front of the header.
pub(super) const LENGTH_BYTES: usize = 8;
/// The longest header accepted, in bytes; the format's own implementations draw the line at the same place.
pub(super) const HEADER_LIMIT: u64 = 100_000_000;
/// The entry that describes the file and no tensor.
pub(super) const METADATA: &str = "__metadata__";

/// What a checked header says.
#[derive(Debug)]
pub(super) struct Header {
    /// Sorted by name. Their ranges, in order of offset, cover the file from the end of the header without gap or overlap.
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Reads the header of a file from its source; no tensor's data is touched.
pub(super) fn of_source(file: &str, source: &dyn ByteSource) -> Result<Header, WeightsError> {
    let failed = |source| WeightsError::Io { file: file.to_owned(), action: "read the header", source };
    let size = source.size();
    let whole = usize::try_from(size).map_err(|_| failed(std::io::ErrorKind::FileTooLarge.into()))?;
    if let Some(bytes) = source.whole() {
        return read(file, bytes, bytes.len());
    }
    let first = source.read(0..size.min(LENGTH_BYTES as u64)).map_err(failed)?;
    let declared = first.first_chunk::<LENGTH_BYTES>().map_or(0, |length| u64::from_le_bytes(*length));
    // Of a length that cannot be right a little more is read, to say what the file is instead.
    let end = if declared > HEADER_LIMIT { 64 } else { LENGTH_BYTES as u64 + declared };
    let front = source.read(0..size.min(end)).map_err(failed)?;
    read(file, &front, whole)
}

/// Reads the header at the front of a file of `size` bytes, `front` being all of the file or all of the header.
fn read(file: &str, front: &[u8], size: usize) -> Result<Header, WeightsError> {
    let text = text(file, front)?;
    let RawHeader { metadata, mut entries } = parse(file, text)?;
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    if let Some(twice) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(WeightsError::DuplicateName { file: file.to_owned(), tensor: twice[0].0.clone() });
    }
    let mut tensors = Vec::with_capacity(entries.len());
    let mut spans = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let (tensor, span) = describe(file, name, entry)?;
        tensors.push(tensor);
        spans.push(span);
    }
    lay_out(file, size, LENGTH_BYTES + text.len(), &mut tensors, &spans)?;
    Ok(Header { tensors, metadata: metadata.unwrap_or_default() })
}

/// Turns `spans`, counted from `data_start`, into the ranges of `tensors`, if they tile the rest of the file.
fn lay_out(
    file: &str,
    file_size: usize,
    data_start: usize,
    tensors: &mut [TensorInfo],
    spans: &[(u64, u64)],
) -> Result<(), WeightsError> {
    let file = || file.to_owned();
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| spans[i]);

    let data_size = (file_size - data_start) as u64;
    if let Some(&cut) = order.iter().find(|&&i| spans[i].1 > data_size) {
        let needed = spans.iter().map(|span| span.1).max().unwrap_or(0);
        return Err(WeightsError::Truncated {
            file: file(),
            size: file_size as u64,
            needed: needed.saturating_add(data_start as u64),
            tensor: tensors[cut].name.clone(),
        });
    }
    // From here every span is inside the file, so its ends are a `usize` also where that has 32 bits.
    let mut end = data_start;
    let mut previous: Option<usize> = None;
    for &i in &order {
        let begin = data_start + spans[i].0 as usize;
        if let Some(first) = previous
            && begin < end
        {
            return Err(WeightsError::Overlap {
                file: file(),
                first: tensors[first].name.clone(),
                second: tensors[i].name.clone(),
                offset: begin,
            });
        }
        if begin > end {
            return Err(WeightsError::Gap {
                file: file(),
                tensor: tensors[i].name.clone(),
                offset: end,
                size: begin - end,
            });
        }
        end = data_start + spans[i].1 as usize;
        tensors[i].range = begin..end;
        previous = Some(i);
    }
    if end != file_size {
        return Err(WeightsError::TrailingBytes { file: file(), size: file_size, expected: end });
    }
    Ok(())
}

/// The number of bytes that `shape` elements of `dtype` take.
pub(super) fn byte_size(file: &str, tensor: &str, dtype: Dtype, shape: &[u64]) -> Result<u64, WeightsError> {
    let bits = shape
        .iter()
        .try_fold(1_u64, |product, &dim| product.checked_mul(dim))
        .and_then(|elements| elements.checked_mul(dtype.bits() as u64))
        .ok_or_else(|| WeightsError::ShapeOverflow {
            file: file.to_owned(),
            tensor: tensor.to_owned(),
            shape: shape.to_vec(),
        })?;
    if !bits.is_multiple_of(8) {
        return Err(WeightsError::PartialByte {
            file: file.to_owned(),
            tensor: tensor.to_owned(),
            dtype,
            shape: shape.to_vec(),
        });
    }
    Ok(bits / 8)
}

/// The header's text, found by the length in front of it.
fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, WeightsError> {
    let file = || file.to_owned();
    if bytes.is_empty() {
        return Err(WeightsError::Empty { file: file() });
    }
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(WeightsError::TooShort { file: file(), size: bytes.len() });
    };
    let declared = u64::from_le_bytes(*length);
    if declared > HEADER_LIMIT {
        if let Some((found, remedy)) = other_format(bytes) {
            return Err(WeightsError::OtherFormat { file: file(), found, remedy });
        }
        return Err(WeightsError::HeaderTooLarge { file: file(), declared, limit: HEADER_LIMIT });
    }
    let Some(header) = rest.get(..declared as usize) else {
        return Err(WeightsError::HeaderPastEnd { file: file(), size: bytes.len(), declared });
    };
    std::str::from_utf8(header)
        .map_err(|error| WeightsError::HeaderNotUtf8 { file: file(), offset: LENGTH_BYTES + error.valid_up_to() })
}

/// What a file that is not safetensors is most often instead, and what to do about it.
fn other_format(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const NAME: &str = "name the model's folder, or its .safetensors or .gguf file";
    const CONVERT: &str = "convert it to .safetensors first";
    const KNOWN: [(&[u8], &str, &str); 13] = [
        (b"version https://git-lfs", "a Git LFS pointer", "fetch what it points to with `git lfs pull`"),
        (b"GGUF", "a GGUF file", "get the model's .safetensors file instead"),
        (b"PK\x03\x04", "a zip archive (PyTorch saves those)", CONVERT),
        (b"\x80\x02", "a pickle (PyTorch saved those)", CONVERT),
        (b"\x89HDF", "an HDF5 file (Keras saves those)", CONVERT),
        (b"<!DOCTYPE", "a web page", "download the file itself, not the page that shows it"),
        (b"<html", "a web page", "download the file itself, not the page that shows it"),
        (b"\x89PNG", "a picture", NAME),
        (b"\xFF\xD8\xFF", "a picture", NAME),
        (b"GIF8", "a picture", NAME),
        (b"RIFF", "a picture or a sound", NAME),
        (b"%PDF", "a PDF document", NAME),
        (b"\x1F\x8B", "a compressed file", "unpack it first"),
    ];
    // Of these only web pages are written in letters of either case.
    let begins = |(magic, ..): &&(&[u8], _, _)| {
        let start = bytes.get(..magic.len());
        start.is_some_and(|it| it == *magic || magic[0] == b'<' && it.eq_ignore_ascii_case(magic))
    };
    if let Some((_, found, remedy)) = KNOWN.iter().find(begins) {
        return Some((found, remedy));
    }
    // A text may begin so too, but has no zeros where a bitmap does.
    if bytes.starts_with(b"BM") && bytes.get(6..10) == Some(&[0; 4]) {
        return Some(("a picture", NAME));
    }
    // A character that is cut in two at the end is no reason to take a text for something else.
    let start = &bytes[..bytes.len().min(64)];
    let text = std::str::from_utf8(start).or_else(|error| match error.error_len() {
        None => std::str::from_utf8(&start[..error.valid_up_to()]),
        Some(_) => Err(error),
    });
    let text = text.ok()?.trim_start_matches('\u{FEFF}').trim_start();
    if text.contains(|c: char| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    Some((if text.starts_with(['{', '[']) { "JSON text" } else { "text" }, NAME))
}

/// Checks one entry by itself: its type, its shape and the length of its span. The range is filled in later.
fn describe(file: &str, name: String, entry: Entry) -> Result<(TensorInfo, (u64, u64)), WeightsError> {
    let Some(dtype) = Dtype::from_name(&entry.dtype) else {
        return Err(WeightsError::UnknownDtype { file: file.to_owned(), tensor: name, dtype: entry.dtype });
    };
    let (begin, end) = entry.data_offsets;
    if end < begin {
        return Err(WeightsError::BackwardRange { file: file.to_owned(), tensor: name, begin, end });
    }
    let expected = byte_size(file, &name, dtype, &entry.shape)?;
    if expected != end - begin {
        return Err(WeightsError::SizeMismatch {
            file: file.to_owned(),
            tensor: name,
            dtype,
            shape: entry.shape,
            expected,
            found: end - begin,
        });
    }
    let shape: Result<Vec<usize>, _> = entry.shape.iter().copied().map(usize::try_from).collect();
    match shape {
        Ok(shape) => Ok((TensorInfo { name, dtype, shape, range: 0..0, shard: 0 }, (begin, end))),
        Err(_) => Err(WeightsError::ShapeOverflow { file: file.to_owned(), tensor: name, shape: entry.shape }),
    }
}

/// The header as JSON, before anything in it is believed.
struct RawHeader {
    metadata: Option<BTreeMap<String, String>>,
    entries: Vec<(String, Entry)>,
}

/// One tensor's entry. Other members are passed over, as the format allows.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

fn parse(file: &str, text: &str) -> Result<RawHeader, WeightsError> {
    let mut failed = None;
    let mut json = serde_json::Deserializer::from_str(text);
    let visitor = HeaderVisitor { failed: &mut failed };
    let parsed = (&mut json).deserialize_map(visitor).and_then(|header| json.end().map(|()| header));
    parsed.map_err(|error| {
        let file = file.to_owned();
        let reason = shortened(&error.to_string());
        match failed {
            Some(entry) => WeightsError::BadEntry { file, entry, reason },
            None => WeightsError::HeaderNotJson { file, reason },
        }
    })
}

/// Takes the header's members one by one, so that two of one name are both seen.
struct HeaderVisitor<'a> {
    /// The member whose value could not be read.
    failed: &'a mut Option<String>,
}

impl<'de> Visitor<'de> for HeaderVisitor<'_> {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one member for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader { metadata: None, entries: Vec::new() };
        while let Some(name) = map.next_key::<String>()? {
            let outcome = if name == METADATA {
                read_metadata(&mut map, &mut header.metadata)
            } else {
                map.next_value::<Entry>().map(Some)
            };
            match outcome {
                Ok(Some(entry)) => header.entries.push((name, entry)),
                Ok(None) => {}
                Err(error) => {
                    *self.failed = Some(name);
                    return Err(error);
                }
            }
        }
        Ok(header)
    }
}

/// Reads the member [`METADATA`] into `slot`, which it may fill only once. It is no tensor, hence the `None`.
fn read_metadata<'de, A: MapAccess<'de>>(
    map: &mut A,
    slot: &mut Option<BTreeMap<String, String>>,
) -> Result<Option<Entry>, A::Error> {
    let found = map.next_value::<Option<Texts>>()?.unwrap_or_default();
    match slot.replace(found.0) {
        None => Ok(None),
        Some(_) => Err(A::Error::custom("it is there twice")),
    }
}

/// An object of texts, no key twice: a file's notes about itself, an index's list of tensors.
#[derive(Default)]
pub(super) struct Texts(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut notes = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if notes.insert(key, value).is_some() {
                return Err(A::Error::custom("a key is there twice"));
            }
        }
        Ok(Texts(notes))
    }
}
