//! What the two caches on disk share: a checksum, reading within a bound, and replacing a file as a whole.

#[cfg(not(target_arch = "wasm32"))]
use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// FNV-1a, 64 bits: enough to notice damage and to tell texts apart.
pub(super) fn checksum(data: &[u8]) -> u64 {
    data.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3))
}

/// The bytes of a file; `None` when it cannot be read or has more than `most`.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn read(file: &Path, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file).ok()?.take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

/// Replaces a file as a whole, making its folder: a reader finds the old bytes or the new ones. Every call has a temporary file of
/// its own, of which nothing is left after an error.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let (process, call) = (std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    let temporary = file.with_extension(format!("{process}-{call}.tmp"));
    let replaced = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, file));
    if replaced.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    replaced
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn threads_of_one_process_replace_a_file_without_mixing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made").join("cache.bin");
        std::thread::scope(|scope| {
            for fill in 0..8u8 {
                let file = &file;
                scope.spawn(move || {
                    for _ in 0..50 {
                        replace(file, &vec![fill; 20_000]).unwrap();
                        let found = read(file, 20_000).unwrap();
                        assert!(found.len() == 20_000 && found.iter().all(|byte| *byte == found[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "a temporary file is left");
        assert_eq!(read(&file, 19_999), None);
        assert!(replace(folder.path(), &[1]).is_err(), "a folder was replaced");
    }
}
