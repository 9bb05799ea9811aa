//! Which pictures the command line means, and their pixels, decoded ahead of the device.

use crate::failure::Failure;
use lampyris::models::decode::{DecodeError, Limits, Rgba8Image, decode_file};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

/// Endings of file names that a folder's pictures have.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "png", "gif", "webp", "bmp"];

/// The files that `paths` name: files as they are, folders as the pictures in them, sorted.
pub(crate) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(pictures_of(path)?);
        } else if path.exists() {
            files.push(path.clone());
        } else {
            return Err(Failure::NoPicture { path: path.display().to_string() });
        }
    }
    Ok(files)
}

fn pictures_of(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let named = || folder.display().to_string();
    let unreadable = |source| Failure::Unreadable { path: named(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let ending = path.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
        if ending.is_some_and(|e| ENDINGS.contains(&e.as_str())) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() { Err(Failure::NoPictures { folder: named() }) } else { Ok(found) }
}

/// Decodes `files` in groups of `batch` and hands each group on, until all are decoded, one fails, or nobody listens.
pub(crate) fn decode_all(files: &[PathBuf], batch: usize, to: &SyncSender<Result<Vec<Rgba8Image>, DecodeError>>) {
    for group in files.chunks(batch.max(1)) {
        let decoded = decode_group(group);
        let failed = decoded.is_err();
        if to.send(decoded).is_err() || failed {
            return;
        }
    }
}

/// Decodes a few pictures on this machine's threads; the first that fails, in their order, is the error.
fn decode_group(files: &[PathBuf]) -> Result<Vec<Rgba8Image>, DecodeError> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(files.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut decoded = Vec::new();
        while let Some((at, file)) = take(files, &next) {
            decoded.push((at, decode_file(file, &Limits::default())));
        }
        decoded
    };
    let mut decoded: Vec<(usize, Result<Rgba8Image, DecodeError>)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            match other.join() {
                Ok(part) => all.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    decoded.sort_by_key(|(at, _)| *at);
    decoded.into_iter().map(|(_, picture)| picture).collect()
}

fn take<'a>(files: &'a [PathBuf], next: &AtomicUsize) -> Option<(usize, &'a PathBuf)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    files.get(at).map(|file| (at, file))
}
