//! Opens GGUF files by path, and finds the other parts of a split one beside it.

use std::path::{Path, PathBuf};

use super::super::WeightsError;
use super::super::source::map_file;
use super::Gguf;
use super::open::{read_part, split};

/// Digits of a number in the name of a part: `model-00001-of-00003.gguf`.
const DIGITS: usize = 5;

impl Gguf {
    /// Maps the GGUF file at `path` and checks its header; no tensor's data is read yet. Of a split file any part will do:
    /// the others are looked for beside it, by the names that `gguf-split` gives (`model-00001-of-00003.gguf`).
    ///
    /// What [`Weights::open`](super::super::Weights::open) asks of its callers holds here too: the files must be left alone
    /// while any clone of the result is alive.
    ///
    /// # Errors
    /// [`WeightsError::NotFound`], [`NotAFile`](WeightsError::NotAFile) or [`Io`](WeightsError::Io) if a file cannot be
    /// mapped, and everything [`Gguf::from_bytes`] and [`Gguf::from_parts`] refuse.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let read = |path: &Path| read_part(path.display().to_string(), Box::new(map_file(path)?));
        let first = read(path)?;
        let (_, count) = split(&first.0)?;
        match parts(path, count).filter(|_| count > 1) {
            // One part under another name is refused as what it is.
            None => Self::assemble(vec![first]),
            Some(paths) => {
                let parts: Result<Vec<_>, _> = paths.iter().map(|path| read(path)).collect();
                Self::assemble(parts?)
            }
        }
    }
}

/// The paths of all parts of the set of `count` that `path` is one of; `None` if it is not named like a part.
fn parts(path: &Path, count: u32) -> Option<Vec<PathBuf>> {
    let name = path.file_name()?.to_str()?;
    let (rest, last) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, first) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(first) || !is_number(last) {
        return None;
    }
    let name = |number: u32| format!("{stem}-{number:0DIGITS$}-of-{count:0DIGITS$}.gguf");
    Some((1..=count).map(|number| path.with_file_name(name(number))).collect())
}
