//! Where the bytes of a weight file come from on a machine with a file system: a memory map, so that nothing is copied.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use memmap2::Mmap;

use super::{Weights, WeightsError};

impl Weights {
    /// Maps the safetensors file at `path` and checks its header; no tensor's data is read yet.
    ///
    /// The file must be left alone while any clone of the result is alive. Replacing it by renaming another over it is safe,
    /// and [`write_safetensors`](super::write_safetensors) does that; changing it in place changes the weights under the
    /// reader, and **truncating it cannot be guarded against**: the operating system ends a process that touches a mapped
    /// page which is no longer there (`SIGBUS` on Unix, an in-page error on Windows). Where somebody else may do that, read
    /// the file into memory and use [`Weights::from_bytes`].
    ///
    /// # Errors
    /// [`WeightsError::NotFound`], [`NotAFile`](WeightsError::NotAFile) or [`Io`](WeightsError::Io) if it cannot be mapped,
    /// and everything [`Weights::from_bytes`] refuses.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let name = path.display().to_string();
        let failed = |action, source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => WeightsError::NotFound { file: name.clone() },
            _ => WeightsError::Io { file: name.clone(), action, source },
        };
        // Asked before opening, because opening a pipe would wait for its writer.
        let kind = fs::metadata(path).map_err(|error| failed("look at the file", error))?;
        if !kind.is_file() {
            let found = if kind.is_dir() { "a directory" } else { "a device or a pipe" };
            return Err(WeightsError::NotAFile { file: name, found });
        }
        let file = File::open(path).map_err(|error| failed("open the file", error))?;
        let map = map(&file).map_err(|error| failed("map the file into memory", error))?;
        Self::from_bytes(&name, map)
    }
}

#[allow(
    unsafe_code,
    reason = "a file is mapped instead of copied; `Weights::open` tells its callers what they owe for it"
)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and lives as long as every slice given out of it, since `Weights` owns it. That nobody
    // changes the file meanwhile cannot be enforced; `Weights::open` asks it of its callers. Every bit pattern is a valid
    // `u8`, bounds come from the map's length and from a header that is copied out once, never from the data.
    unsafe { Mmap::map(file) }
}
