//! The command as a user runs it, under a tracer: `lampyris` alone, `classify` and `chat` open no connection, write nothing but their
//! caches, and keep nothing of a picture or of what was said in them; `pull` does open one, which shows that the tracer would see it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

#[path = "../../tests/support/tracer.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the library's own test")]
mod tracer;

use lampyris::models::decode::{Limits, decode_image};
use std::path::Path;

/// A name that would be found anywhere.
const NAME: &str = "holiday-with-friends-4711.png";

#[test]
fn classify_opens_no_connection_and_writes_only_caches() {
    if !tracer::present() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let model = root.join("tests/fixtures/mobilenet/mobilenet_v2_w025");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let (cache, picture) = (folder.join("cache"), folder.join(NAME));
    std::fs::create_dir(&cache).unwrap();
    let bytes = std::fs::read(root.join("examples/picture.png")).unwrap();
    std::fs::write(&picture, &bytes).unwrap();
    let pixels = decode_image(NAME, &bytes, &Limits::default()).unwrap().pixels;

    let adapters = pollster::block_on(lampyris::adapters()).len();
    for adapter in (0..adapters).map(|index| index.to_string()).chain(["cpu".to_owned()]) {
        let [model, picture] = [&model, &picture].map(|path| path.to_str().unwrap());
        let arguments = ["classify", "--model", model, "--adapter", &adapter, "--json", picture];
        let (output, calls) = tracer::trace(Path::new(env!("CARGO_BIN_EXE_lampyris")), &arguments, &cache, &[]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("\"predictions\""), "{said}");
        tracer::judge(&calls, &cache, NAME);
    }
    let files = tracer::nothing_of_the_input(&cache, NAME, &[&pixels, &bytes]);
    eprintln!("{files} cached files hold nothing of the picture");
    assert!(files > 0 || adapters == 0, "no cache was written, so this proves nothing of it");
}

/// What every traced program reads, if it is traced at all.
#[cfg(feature = "bundled")]
const LOADER: &str = "ld.so.cache";

/// The best adapter and the CPU executor: what a driver does by itself, the test of `classify` sees on all of them.
#[cfg(feature = "bundled")]
fn adapters() -> Vec<&'static str> {
    let none = pollster::block_on(lampyris::adapters()).is_empty();
    if none { vec!["cpu"] } else { vec!["0", "cpu"] }
}

#[test]
#[cfg(feature = "bundled")]
fn the_tour_and_chat_open_no_connection_and_write_only_caches() {
    if !tracer::present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let cache = folder.join("cache");
    std::fs::create_dir(&cache).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_lampyris"));
    // Words that no shader and no driver has.
    let secret =
        "My neighbour Quintilia Zwackelmann hides 4711 marzipan badgers under the xylophone of her uncle Joachim.";
    let said = format!("{secret}\nWhat did {NAME} show?\n");
    let mut answers = Vec::new();
    for adapter in adapters() {
        let (output, calls) = tracer::trace(program, &["--adapter", adapter], &cache, &[]);
        assert!(String::from_utf8(output.stdout).unwrap().contains("where to go next"));
        tracer::judge(&calls, &cache, LOADER);
        let arguments = ["chat", "--adapter", adapter, "--max-tokens", "16", "--temperature", "0"];
        let (output, calls) = tracer::trace_with_input(program, &arguments, &cache, &[], said.as_bytes());
        assert!(!output.stdout.is_empty());
        answers.push(output.stdout);
        tracer::judge(&calls, &cache, LOADER);
    }
    let mut secrets: Vec<&[u8]> = answers.iter().map(Vec::as_slice).collect();
    secrets.push(secret.as_bytes());
    let files = tracer::nothing_of(&cache, NAME, &secrets, 6);
    eprintln!("{files} cached files hold nothing of what was said");
    assert!(files > 0 || adapters().len() == 1, "no cache was written, so this proves nothing of it");
}

#[test]
#[cfg(feature = "pull")]
fn the_tracer_sees_the_connection_that_pull_opens() {
    if !tracer::present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("calls");
    let output = std::process::Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=network", "-o"])
        .arg(&log)
        .args([env!("CARGO_BIN_EXE_lampyris"), "pull", "o/n", "--pause", "1"])
        .env("HF_ENDPOINT", "http://127.0.0.1:1")
        .env("HF_HOME", folder.path())
        .env_remove("HF_HUB_OFFLINE")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let calls = std::fs::read_to_string(log).unwrap();
    assert!(calls.lines().any(|call| !tracer::allowed(call, folder.path())), "{calls}");
}
