//! Replaces a file by a whole new one or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::WeightsError;

/// Lets `write` fill a new file beside `path`, flushes it to the disk and renames it to `path`.
pub(super) fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), WeightsError> {
    let failed = |action, source| WeightsError::Io { file: path.display().to_string(), action, source };
    let (temporary, mut file) = create_beside(path).map_err(|error| failed("create a file beside it", error))?;
    let written = write(&mut file).and_then(|()| file.sync_all());
    // Closed before it is renamed, which some systems insist on.
    drop(file);
    written.and_then(|()| fs::rename(&temporary, path)).map_err(|error| {
        // The first failure is the one to report; a leftover that cannot be removed either is named by the same disk.
        let _ = fs::remove_file(&temporary);
        failed("write the file", error)
    })
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
