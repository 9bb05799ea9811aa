//! Writes safetensors files whole or not at all, so that a failed conversion never leaves half a model behind.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use super::beside;
use super::header::{HEADER_LIMIT, LENGTH_BYTES, METADATA, byte_size};
use super::{Dtype, WeightsError};

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct NewTensor<'a> {
    /// Its name, unique in the file.
    pub name: String,
    /// What an element is.
    pub dtype: Dtype,
    /// Its shape, outermost dimension first; empty for a single number.
    pub shape: Vec<usize>,
    /// Its elements, little-endian, in row-major order.
    pub bytes: Cow<'a, [u8]>,
}

/// Writes `tensors` and `metadata` to `path` as one safetensors file, replacing what was there.
///
/// The file is written beside `path` under a temporary name, flushed to the disk and then renamed, so that `path` holds
/// either the old file or the whole new one, also for a reader that has the old one mapped. Equal input gives equal bytes:
/// tensors lie in the file by element size, the largest first (which aligns them all), then by name.
///
/// # Errors
/// [`WeightsError::SizeMismatch`], [`PartialByte`](WeightsError::PartialByte), [`ShapeOverflow`](WeightsError::ShapeOverflow),
/// [`DuplicateName`](WeightsError::DuplicateName), [`ReservedName`](WeightsError::ReservedName) or
/// [`HeaderTooLarge`](WeightsError::HeaderTooLarge) for what a reader would refuse, before anything is written;
/// [`Io`](WeightsError::Io) if the disk refuses, after which no temporary file is left.
pub fn write_safetensors(
    path: &Path,
    tensors: &[NewTensor<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let name = path.display().to_string();
    let mut order: Vec<&NewTensor<'_>> = tensors.iter().collect();
    order.sort_by(|a, b| (b.dtype.bits(), &a.name).cmp(&(a.dtype.bits(), &b.name)));
    let header = header(&name, &order, metadata)?;

    beside::replace(path, |file| write_all(file, &header, &order))
}

/// One member of the header.
#[derive(Serialize)]
#[serde(untagged)]
enum Member<'a> {
    Metadata(&'a BTreeMap<String, String>),
    Tensor { dtype: &'static str, shape: &'a [usize], data_offsets: (usize, usize) },
}

/// The header with its length in front, padded so that the data begins at a multiple of 8.
fn header(file: &str, order: &[&NewTensor<'_>], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, WeightsError> {
    let mut members = BTreeMap::new();
    if !metadata.is_empty() {
        members.insert(METADATA, Member::Metadata(metadata));
    }
    let mut end = 0;
    for tensor in order {
        if tensor.name == METADATA {
            return Err(WeightsError::ReservedName { file: file.to_owned() });
        }
        let shape: Vec<u64> = tensor.shape.iter().map(|&dim| dim as u64).collect();
        let expected = byte_size(file, &tensor.name, tensor.dtype, &shape)?;
        let begin = end;
        end += tensor.bytes.len();
        if expected != tensor.bytes.len() as u64 {
            return Err(WeightsError::SizeMismatch {
                file: file.to_owned(),
                tensor: tensor.name.clone(),
                dtype: tensor.dtype,
                shape,
                expected,
                found: tensor.bytes.len() as u64,
            });
        }
        let member = Member::Tensor { dtype: tensor.dtype.name(), shape: &tensor.shape, data_offsets: (begin, end) };
        if members.insert(&tensor.name, member).is_some() {
            return Err(WeightsError::DuplicateName { file: file.to_owned(), tensor: tensor.name.clone() });
        }
    }

    let mut bytes = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut bytes, &members).map_err(|error| WeightsError::Io {
        file: file.to_owned(),
        action: "write the header",
        source: error.into(),
    })?;
    bytes.resize(bytes.len().next_multiple_of(LENGTH_BYTES), b' ');
    let length = (bytes.len() - LENGTH_BYTES) as u64;
    if length > HEADER_LIMIT {
        return Err(WeightsError::HeaderTooLarge { file: file.to_owned(), declared: length, limit: HEADER_LIMIT });
    }
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

fn write_all(file: &mut File, header: &[u8], order: &[&NewTensor<'_>]) -> io::Result<()> {
    file.write_all(header)?;
    for tensor in order {
        file.write_all(&tensor.bytes)?;
    }
    Ok(())
}
