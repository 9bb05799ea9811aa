//! Which pictures the command line means, and their pixels, decoded ahead of the device.

use crate::failure::Failure;
use lampyris::models::decode::{DecodeError, Limits, Rgba8Image, claimed_size, decode_image, read_file};
use lampyris::{Answer, Classifier, Input};
use std::iter::Peekable;
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

/// Most bytes that the pictures of one group take: their files and their pixels, as the headers claim them. While the device
/// works on one group the next is decoded, so twice as much is held.
const MOST_BYTES: u64 = 256 << 20;

/// A picture file in memory.
struct Read<'a> {
    path: &'a Path,
    bytes: Vec<u8>,
}

/// Decodes `files` in groups of at most `batch` pictures, fewer where they are large, and hands each group on, until all are
/// decoded, one fails, or nobody listens.
pub(crate) fn decode_all(files: &[PathBuf], batch: usize, to: &SyncSender<Result<Vec<Rgba8Image>, DecodeError>>) {
    let mut read = files.iter().map(|file| read(file)).peekable();
    while read.peek().is_some() {
        let decoded = next_group(&mut read, batch, MOST_BYTES).and_then(|group| decode_group(&group));
        let failed = decoded.is_err();
        if to.send(decoded).is_err() || failed {
            return;
        }
    }
}

/// A picture file, and the bytes that it takes together with its pixels.
fn read(path: &Path) -> Result<(Read<'_>, u64), DecodeError> {
    let limits = Limits::default();
    let bytes = read_file(path, &limits)?;
    let (width, height) = claimed_size(&path.display().to_string(), &bytes, &limits)?;
    let held = bytes.len() as u64 + 4 * u64::from(width) * u64::from(height);
    Ok((Read { path, bytes }, held))
}

/// Classifies pictures in one run. An error names the picture that it is about, where it is about one.
pub(crate) fn classify(
    classifier: &Classifier,
    inputs: &[Input<'_>],
    files: &[PathBuf],
) -> Result<Vec<Answer>, Failure> {
    let gpu = classifier.gpu();
    let error = match gpu.block_on(classifier.classify_batch(inputs)) {
        Ok(answers) => return Ok(answers),
        Err(error) => error,
    };
    if gpu.check_alive().is_err() {
        return Err(error.into());
    }
    // Alone, the culprit fails again; where none does, the fault is the batch's.
    for (input, file) in inputs.iter().zip(files) {
        if let Err(error) = gpu.block_on(classifier.classify_batch(std::slice::from_ref(input))) {
            return Err(Failure::OfPicture { picture: file.display().to_string(), source: Box::new(error) });
        }
    }
    Err(error.into())
}

/// Takes the next items that may be held at once: at most `most`, and together at most `budget` bytes unless the first alone
/// takes more. An error ends the group before it and is given when its turn comes.
fn next_group<T, E>(
    items: &mut Peekable<impl Iterator<Item = Result<(T, u64), E>>>,
    most: usize,
    budget: u64,
) -> Result<Vec<T>, E> {
    let mut group = Vec::new();
    let mut held = 0_u64;
    while group.len() < most.max(1) {
        let fits = |bytes: u64| held.saturating_add(bytes) <= budget;
        let next = items.next_if(|next| group.is_empty() || next.as_ref().is_ok_and(|(_, bytes)| fits(*bytes)));
        let Some(next) = next else { break };
        let (item, bytes) = next?;
        held = held.saturating_add(bytes);
        group.push(item);
    }
    Ok(group)
}

/// Decodes a few pictures on this machine's threads; the first that fails, in their order, is the error.
fn decode_group(files: &[Read<'_>]) -> Result<Vec<Rgba8Image>, DecodeError> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(files.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut decoded = Vec::new();
        while let Some((at, file)) = take(files, &next) {
            decoded.push((at, decode_image(&file.path.display().to_string(), &file.bytes, &Limits::default())));
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

fn take<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    items.get(at).map(|item| (at, item))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;

    /// The groups of items that take so many bytes, each item by its position; `None` is one that fails.
    fn groups(sizes: &[Option<u64>], most: usize, budget: u64) -> Vec<Result<Vec<usize>, usize>> {
        let mut items = sizes.iter().enumerate().map(|(at, size)| size.map(|bytes| (at, bytes)).ok_or(at)).peekable();
        let mut groups = Vec::new();
        while items.peek().is_some() {
            groups.push(next_group(&mut items, most, budget));
        }
        groups
    }

    #[test]
    fn a_group_closes_at_its_count_and_before_it_goes_over_the_budget() {
        let all = |sizes: &[u64], most, budget| -> Vec<Vec<usize>> {
            let sizes: Vec<Option<u64>> = sizes.iter().copied().map(Some).collect();
            groups(&sizes, most, budget).into_iter().map(Result::unwrap).collect()
        };
        assert_eq!(all(&[1, 1, 1, 1, 1], 2, 100), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(all(&[60, 40, 1, 99, 1, 1], 8, 100), [vec![0, 1], vec![2, 3], vec![4, 5]]);
        // What is too large for any group is one of its own.
        assert_eq!(all(&[1, 500, u64::MAX, 1, 1], 8, 100), [vec![0], vec![1], vec![2], vec![3, 4]]);
        assert_eq!(all(&[], 8, 100), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn an_error_waits_for_what_comes_before_it() {
        assert_eq!(groups(&[Some(1), Some(1), None, Some(1)], 8, 100), [Ok(vec![0, 1]), Err(2), Ok(vec![3])]);
        assert_eq!(groups(&[None], 8, 100), [Err(0)]);
    }
}
