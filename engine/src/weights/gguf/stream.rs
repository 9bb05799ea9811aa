//! Writes a GGUF file tensor by tensor and part by part, so that no model has to be in memory to be written.

use std::fmt;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::super::WeightsError;
use super::super::beside;
use super::write::{BlocksLayout, MetadataValue, WRITTEN_ALIGNMENT, check_size, header};

/// Where the bytes of one tensor go.
pub struct TensorSink<'a> {
    file: &'a mut dyn Write,
    path: &'a Path,
    written: u64,
}

impl fmt::Debug for TensorSink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorSink").field("path", &self.path).field("written", &self.written).finish_non_exhaustive()
    }
}

impl TensorSink<'_> {
    /// Appends some of the tensor's blocks.
    ///
    /// # Errors
    /// [`WeightsError::Io`] if the disk refuses.
    pub fn put(&mut self, blocks: &[u8]) -> Result<(), WeightsError> {
        self.written += blocks.len() as u64;
        self.file.write_all(blocks).map_err(|error| beside::unwritten(self.path, error))
    }
}

/// Writes a GGUF file of version 3 to `path` with `metadata` and the tensors that `tensors` describe, in this order,
/// replacing what was there. `fill` is called for each tensor in turn with its number and puts all of its blocks, row after
/// row, in as many parts as it likes.
///
/// The file is written beside `path` under a temporary name, flushed to the disk and then renamed, so that `path` holds
/// either the old file or the whole new one.
///
/// # Errors
/// Those of [`gguf_bytes`](super::gguf_bytes), for the descriptions before anything is written; what `fill` fails with;
/// [`WeightsError::Io`] if the disk refuses. After any of them no temporary file is left.
pub fn write_gguf_with<K: AsRef<str>, E: From<WeightsError>>(
    path: &Path,
    metadata: &[(K, MetadataValue)],
    tensors: &[BlocksLayout<'_>],
    mut fill: impl FnMut(usize, &mut TensorSink<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let name = path.display().to_string();
    let (front, sizes) = header(&name, metadata, tensors)?;
    beside::replace_with(path, |file| {
        let mut file = BufWriter::new(file);
        let failed = |error| beside::unwritten(path, error);
        file.write_all(&front).map_err(failed)?;
        for (number, (tensor, expected)) in tensors.iter().zip(sizes).enumerate() {
            let written = {
                let mut sink = TensorSink { file: &mut file, path, written: 0 };
                fill(number, &mut sink)?;
                sink.written
            };
            check_size(&name, tensor, expected, written)?;
            let padding = expected.next_multiple_of(WRITTEN_ALIGNMENT as u64) - expected;
            file.write_all(&[0; WRITTEN_ALIGNMENT][..padding as usize]).map_err(failed)?;
        }
        file.flush().map_err(|error| failed(error).into())
    })
}
