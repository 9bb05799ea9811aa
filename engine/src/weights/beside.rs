//! Replaces a file by a whole new one or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::WeightsError;

/// Lets `write` fill a new file beside `path`, flushes it to the disk and renames it to `path`.
pub(super) fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), WeightsError> {
    replace_with(path, |file| write(file).map_err(|source| unwritten(path, source)))
}

/// As [`replace`], for a `write` with errors of its own; when it fails, nothing is left.
pub(super) fn replace_with<E: From<WeightsError>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let (temporary, mut file) = create_beside(path).map_err(|source| {
        let file = path.display().to_string();
        WeightsError::Io { file, action: "create a file beside it", source }
    })?;
    let written = write(&mut file).and_then(|()| file.sync_all().map_err(|error| unwritten(path, error).into()));
    // Closed before it is renamed, which some systems insist on.
    drop(file);
    let done = written.and_then(|()| fs::rename(&temporary, path).map_err(|error| unwritten(path, error).into()));
    if done.is_err() {
        // The first failure is the one to report; a leftover that cannot be removed either is named by the same disk.
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// The error of a disk that refuses.
pub(super) fn unwritten(path: &Path, source: io::Error) -> WeightsError {
    WeightsError::Io { file: path.display().to_string(), action: "write the file", source }
}

/// A new, empty file in the directory of `path`, where renaming to `path` cannot cross file systems.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    const ATTEMPTS: u32 = 64;
    let Some(file_name) = path.file_name() else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let mut attempt = 0;
    loop {
        let mut name = OsString::from(".");
        name.push(file_name);
        name.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let candidate = path.with_file_name(name);
        match File::create_new(&candidate) {
            Ok(file) => return Ok((candidate, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt + 1 < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}
