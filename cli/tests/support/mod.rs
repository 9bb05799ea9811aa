//! Runs the command as a user does, away from the user's own settings and caches.

#![allow(dead_code, reason = "each test is a crate of its own and uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

#[cfg(feature = "pull")]
pub(crate) mod hub;
pub(crate) mod noise;

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// What a run of the command gave.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The command with caches in `cache` only, and no adapter chosen by the environment.
pub(crate) fn command(cache: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lampyris"));
    command.env_remove("LAMPYRIS_ADAPTER");
    for variable in ["XDG_CACHE_HOME", "LOCALAPPDATA"] {
        command.env(variable, cache.path());
    }
    command
}

/// Runs the command.
pub(crate) fn lampyris<T: AsRef<OsStr>>(arguments: &[T]) -> Said {
    let cache = tempfile::tempdir().unwrap();
    let Output { status, stdout, stderr } = command(&cache).args(arguments).output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(!stderr.contains("panicked") && !stderr.contains("backtrace"), "{stderr}");
    Said { code: status.code().unwrap(), stdout, stderr }
}

impl Said {
    /// The lines of stdout as JSON, of a run that went well.
    pub(crate) fn json(&self) -> Vec<Value> {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The keys of an object, sorted.
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// The CPU executor, and the best adapter where there is one.
pub(crate) fn adapters() -> Vec<&'static str> {
    let report = lampyris(&["doctor", "--only", "copy", "--json", "--adapter", "cpu"]).json();
    let none = report[0]["adapters"].as_array().unwrap().is_empty();
    let required =
        std::env::var("LAMPYRIS_REQUIRE").is_ok_and(|list| list.split(',').any(|word| word.trim() == "adapters"));
    assert!(!none || !required, "LAMPYRIS_REQUIRE asks for adapters and there are none");
    if none {
        eprintln!("SKIPPED: no adapter; only the CPU executor is tried");
    }
    if none { vec!["cpu"] } else { vec!["cpu", "0"] }
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A recorded network of noise, with 10 classes and 64 x 64 pixels.
pub(crate) fn fixture(name: &str) -> String {
    root().join("tests/fixtures/mobilenet").join(name).display().to_string()
}

/// The repository's own picture.
pub(crate) fn picture() -> String {
    root().join("examples/picture.png").display().to_string()
}

/// A file of these bytes.
pub(crate) fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path: PathBuf = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

/// The folder of test data that is not part of the repository. Where it is absent a skip is printed, unless `LAMPYRIS_REQUIRE`
/// lists `material`: then the test fails.
pub(crate) fn material() -> Option<PathBuf> {
    let beside = || root().join("../shared/material");
    let folder = std::env::var_os("LAMPYRIS_MATERIAL").map_or_else(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    let required =
        std::env::var("LAMPYRIS_REQUIRE").is_ok_and(|list| list.split(',').any(|word| word.trim() == "material"));
    assert!(!required, "LAMPYRIS_REQUIRE asks for material and {} is no folder", folder.display());
    eprintln!("SKIPPED: no material at {}", folder.display());
    None
}
