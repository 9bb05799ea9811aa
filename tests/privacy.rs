//! What is done with a picture stays on the machine: under a tracer, classifying opens no connection and writes no file
//! outside its cache folder, and the caches hold nothing of the picture.
//!
//! The traced program is this test's own binary, which runs itself again to decode a file, open every adapter with a cache
//! folder, load a model and classify; `cli/tests/privacy.rs` traces the command.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::models::decode::{Limits, decode_file};
use lampyris::{AdapterChoice, Classifier, Gpu, GpuOptions, adapters};
use std::path::{Path, PathBuf};
use support::photos::input;
use support::{fixture, required, tracer};

/// Tells the second process that it is the traced one: the picture to classify.
const PICTURE: &str = "LAMPYRIS_TRACED_PICTURE";
/// A name that would be found anywhere.
const NAME: &str = "holiday-with-friends-4711.png";
const SIZE: [u32; 2] = [160, 120];
/// Pixels without a pattern, so that any run of them is theirs alone.
fn pixels() -> Vec<u8> {
    let mut state = 4711u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..SIZE[0] * SIZE[1] * 3).map(next).collect()
}

/// What the traced process does; in an ordinary run there is nothing to trace.
#[test]
fn traced() {
    let Some(picture) = std::env::var_os(PICTURE).map(PathBuf::from) else { return };
    let cache = PathBuf::from(std::env::var_os("XDG_CACHE_HOME").unwrap()).join("lampyris");
    let picture = decode_file(&picture, &Limits::default()).unwrap();
    let count = pollster::block_on(adapters()).len();
    let choices = (0..count).map(AdapterChoice::Index).chain([AdapterChoice::Cpu]);
    for choice in choices {
        let options = GpuOptions::default().adapter(choice).cache(&cache);
        let gpu = pollster::block_on(Gpu::with(options)).unwrap();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v2_w025"))).unwrap();
        let answer = gpu.block_on(classifier.classify(input(&picture))).unwrap();
        println!("classified on {}: {}", gpu.summary(), answer.top(1)[0].label);
    }
}

#[test]
fn classifying_opens_no_connection_and_writes_only_caches() {
    if !tracer::present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let (cache, picture) = (folder.join("cache"), folder.join(NAME));
    std::fs::create_dir(&cache).unwrap();
    image::save_buffer(&picture, &pixels(), SIZE[0], SIZE[1], image::ColorType::Rgb8).unwrap();

    let arguments = ["--exact", "traced", "--nocapture", "--test-threads", "1"];
    let (output, calls) = tracer::trace(&std::env::current_exe().unwrap(), &arguments, &cache, &[(PICTURE, &picture)]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.matches("classified on").count() > usize::from(required("adapters")), "{said}");
    tracer::judge(&calls, &cache, NAME);
    let files = tracer::nothing_of_the_input(&cache, NAME, &[&pixels(), &std::fs::read(&picture).unwrap()]);
    eprintln!("{files} cached files hold nothing of the picture");
}

#[test]
fn the_judge_of_calls_can_refuse() {
    let cache = Path::new("/tmp/cache");
    for refused in [
        r#"77  socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 3"#,
        r#"77  socket(AF_INET6, SOCK_DGRAM, 0) = -1 EAFNOSUPPORT"#,
        r#"77  openat(AT_FDCWD, "/tmp/other", O_WRONLY|O_CREAT, 0666) = 4"#,
        r#"77  openat(AT_FDCWD, "/tmp/cached", O_RDWR) = 4"#,
        r#"77  rename("/tmp/cache/a", "/srv/somebody/a") = 0"#,
        r#"77  mkdir("/srv/somebody/.lampyris", 0777) = 0"#,
    ] {
        assert!(!tracer::allowed(refused, cache), "{refused}");
    }
    for fine in [
        r#"77  openat(AT_FDCWD, "/tmp/other", O_RDONLY|O_CLOEXEC) = 4"#,
        r#"77  openat(AT_FDCWD, "/tmp/cache/lampyris/a", O_WRONLY|O_CREAT, 0666) = 4"#,
        r#"77  socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3"#,
        r#"77  +++ exited with 0 +++"#,
    ] {
        assert!(tracer::allowed(fine, cache), "{fine}");
    }
}
