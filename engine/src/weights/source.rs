//! Where the bytes of a weight file come from on a machine with a file system: a memory map, so that nothing is copied.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use memmap2::Mmap;

use super::header::HEADER_LIMIT;
use super::{Weights, WeightsError};

/// The names of a folder's weights: a whole file, or the index of several.
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// How the name of an index ends.
const INDEX_ENDING: &str = ".index.json";

impl Weights {
    /// Maps the safetensors file at `path` and checks its header; no tensor's data is read yet. An index
    /// (`model.safetensors.index.json`) opens the shards that it names; a folder opens the `model.safetensors` in it or, if
    /// there is none, the index.
    ///
    /// The files must be left alone while any clone of the result is alive. Replacing one by renaming another over it is safe,
    /// and [`write_safetensors`](super::write_safetensors) does that; changing it in place changes the weights under the
    /// reader, and **truncating it cannot be guarded against**: the operating system ends a process that touches a mapped
    /// page which is no longer there (`SIGBUS` on Unix, an in-page error on Windows). Where somebody else may do that, read
    /// the file into memory and use [`Weights::from_bytes`].
    ///
    /// # Errors
    /// [`WeightsError::NotFound`], [`NotAFile`](WeightsError::NotAFile) or [`Io`](WeightsError::Io) if a file cannot be
    /// mapped, [`NoWeights`](WeightsError::NoWeights) for a folder without weights, and everything [`Weights::from_bytes`] and
    /// [`Weights::from_shards`] refuse.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        if path.is_dir() {
            let inside = [WHOLE, INDEX].map(|name| path.join(name)).into_iter().find(|path| path.exists());
            let nothing = || WeightsError::NoWeights { folder: path.display().to_string(), found: 0 };
            return Self::open_file(&inside.ok_or_else(nothing)?);
        }
        Self::open_file(path)
    }

    /// Opens a whole file or an index.
    fn open_file(path: &Path) -> Result<Self, WeightsError> {
        let name = path.display().to_string();
        if name.ends_with(INDEX_ENDING) {
            let index = read_index(path)?;
            return Self::from_shards(&name, &index, |shard| {
                let beside = path.with_file_name(shard);
                Ok((beside.display().to_string(), Box::new(map_file(&beside)?)))
            });
        }
        Self::from_bytes(&name, map_file(path)?)
    }
}

/// Maps an ordinary file.
pub(super) fn map_file(path: &Path) -> Result<Mmap, WeightsError> {
    let file = open_file(path)?;
    map(&file).map_err(|source| WeightsError::Io {
        file: path.display().to_string(),
        action: "map the file into memory",
        source,
    })
}

/// Opens an ordinary file.
fn open_file(path: &Path) -> Result<File, WeightsError> {
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
    File::open(path).map_err(|error| failed("open the file", error))
}

/// The first bytes of an ordinary file, fewer than four if it has no more.
pub(super) fn first_bytes(path: &Path) -> Result<Vec<u8>, WeightsError> {
    read_front(path, 4)
}

/// The bytes of an index, which is no longer than a header may be.
fn read_index(path: &Path) -> Result<Vec<u8>, WeightsError> {
    let bytes = read_front(path, HEADER_LIMIT + 1)?;
    let declared = bytes.len() as u64;
    if declared > HEADER_LIMIT {
        return Err(WeightsError::HeaderTooLarge { file: path.display().to_string(), declared, limit: HEADER_LIMIT });
    }
    Ok(bytes)
}

fn read_front(path: &Path, most: u64) -> Result<Vec<u8>, WeightsError> {
    let mut bytes = Vec::new();
    let read = open_file(path)?.take(most).read_to_end(&mut bytes);
    read.map_err(|source| WeightsError::Io { file: path.display().to_string(), action: "read the file", source })?;
    Ok(bytes)
}

#[allow(
    unsafe_code,
    reason = "a file is mapped instead of copied; `Weights::open` tells its callers what they owe for it"
)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and lives as long as every slice given out of it, since its owner is what gives them out.
    // That nobody changes the file meanwhile cannot be enforced; `Weights::open` asks it of its callers. Every bit pattern
    // is a valid `u8`, bounds come from the map's length and from a header that was checked against it.
    unsafe { Mmap::map(file) }
}
