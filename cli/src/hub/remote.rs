//! A language model's files as far as their headers say what it will take, so that nothing else of them has to be fetched.

use super::{Hub, HubError, HubName, Listed};
use crate::failure::Failure;
use lampyris::engine::weights::gguf::Gguf;
use lampyris::engine::weights::{ByteSource, TensorFile};
use lampyris::models::decoder::DecoderFiles;
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The largest header of a safetensors file, in bytes; more is refused by the reader as well.
const MOST_HEADER: u64 = 100 << 20;
/// The largest configuration or index, in bytes.
const MOST_JSON: u64 = 64 << 20;

/// A file that is read by range where it lies.
struct Ranges {
    hub: Arc<Hub>,
    name: HubName,
    commit: String,
    file: Listed,
}

impl ByteSource for Ranges {
    fn size(&self) -> u64 {
        self.file.size
    }

    fn read(&self, range: Range<u64>) -> std::io::Result<Cow<'_, [u8]>> {
        let read = self.hub.range(&self.name, (&self.commit, &self.file.path), range);
        read.map(Cow::Owned).map_err(|error| std::io::Error::other(error.to_string()))
    }
}

/// The decoder that `files` of a commit are, read by their headers alone; `None` where they are no language model. Headers of
/// safetensors are put into the empty folder `into`, in files whose data is a hole.
pub(crate) fn headers(
    hub: &Arc<Hub>,
    name: &HubName,
    commit: &str,
    files: &[Listed],
    into: &Path,
) -> Result<Option<DecoderFiles>, Failure> {
    let ending = |ending: &str| -> Vec<&Listed> { files.iter().filter(|file| file.path.ends_with(ending)).collect() };
    let of =
        |file: &Listed| Ranges { hub: hub.clone(), name: name.clone(), commit: commit.to_owned(), file: file.clone() };
    let gguf = ending(".gguf");
    if !gguf.is_empty() {
        let parts = gguf.iter().map(|file| (file.path.clone(), Box::new(of(file)) as Box<dyn ByteSource>)).collect();
        let weights = TensorFile::Gguf(Gguf::from_parts(parts).map_err(lampyris::Error::from)?);
        return Ok(Some(DecoderFiles { weights, config: None }));
    }
    let put = |file: &Listed, front: &[u8], size: u64| -> Result<(), Failure> {
        let path = into.join(&file.path);
        let written =
            std::fs::write(&path, front).and_then(|()| std::fs::File::options().write(true).open(&path)?.set_len(size));
        written.map_err(|source| Failure::Unwritable { path: path.display().to_string(), source })
    };
    for file in ending(".json").into_iter().filter(|file| !file.path.contains('/') && file.size <= MOST_JSON) {
        if file.path == "config.json" || file.path.ends_with(".index.json") {
            put(file, &hub.range(name, (commit, &file.path), 0..file.size)?, file.size)?;
        }
    }
    for file in ending(".safetensors").into_iter().filter(|file| !file.path.contains('/')) {
        let first = hub.range(name, (commit, &file.path), 0..file.size.min(8))?;
        let length = first.as_slice().try_into().map_or(0, u64::from_le_bytes).min(MOST_HEADER);
        let front = hub.range(name, (commit, &file.path), 0..length.saturating_add(8).min(file.size))?;
        put(file, &front, file.size)?;
    }
    if crate::texts::kind(into) != crate::texts::Kind::Language {
        return Ok(None);
    }
    Ok(Some(DecoderFiles::open(into)?))
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Failure {
        Failure::Hub(error)
    }
}
