//! Finds the test data that is not part of the repository, for this crate's own tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first thing that is not as expected")]

use std::path::PathBuf;

/// The folder of test data, from `LAMPYRIS_MATERIAL` or beside the workspace. Where it is absent a skip is printed, unless
/// `LAMPYRIS_REQUIRE` lists `material`: then the test fails.
pub(crate) fn material(test: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/material");
    let folder = std::env::var_os("LAMPYRIS_MATERIAL").map_or_else(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    let required =
        std::env::var("LAMPYRIS_REQUIRE").is_ok_and(|list| list.split(',').any(|item| item.trim() == "material"));
    assert!(!required, "{test}: no test data at {}, and LAMPYRIS_REQUIRE asks for it", folder.display());
    eprintln!("skipped: {test}: no test data at {} (set LAMPYRIS_MATERIAL)", folder.display());
    None
}

/// Reads a file below the folder of test data.
pub(crate) fn bytes(folder: &std::path::Path, file: &str) -> Vec<u8> {
    std::fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}
