//! What is done with a picture stays on the machine: under a tracer, classifying opens no connection and writes no file
//! outside its cache folder, and the caches hold nothing of the picture.
//!
//! The traced program is this test's own binary, which runs itself again to decode a file, open every adapter with a cache
//! folder, load a model and classify, as the command does.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::models::decode::{Limits, decode_file};
use lampyris::{AdapterChoice, Classifier, Gpu, GpuOptions, adapters};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::photos::input;
use support::{fixture, required};

/// Tells the second process that it is the traced one: the picture to classify.
const PICTURE: &str = "LAMPYRIS_TRACED_PICTURE";
/// A name that would be found anywhere.
const NAME: &str = "holiday-with-friends-4711.png";
const SIZE: [u32; 2] = [160, 120];
/// What the tracer writes down: the network, and whatever changes the file system.
const CALLS: &str = "trace=network,open,openat,openat2,creat,rename,renameat,renameat2,mkdir,mkdirat,link,linkat,\
                     symlink,symlinkat,unlink,unlinkat,truncate,mknod,mknodat";

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
    if Command::new("strace").arg("--version").output().is_err() {
        assert!(!required("adapters"), "strace is missing, and LAMPYRIS_REQUIRE asks for the device tests");
        eprintln!("SKIPPED: strace is missing");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let (cache, log, picture) = (folder.join("cache"), folder.join("calls"), folder.join(NAME));
    std::fs::create_dir(&cache).unwrap();
    image::save_buffer(&picture, &pixels(), SIZE[0], SIZE[1], image::ColorType::Rgb8).unwrap();

    let traced = Command::new("strace")
        .args(["-f", "-qq", "-s", "4096", "-e", CALLS, "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "traced", "--nocapture", "--test-threads", "1"])
        .env(PICTURE, &picture)
        .env("XDG_CACHE_HOME", &cache)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&traced.stdout).into_owned();
    assert!(traced.status.success(), "{said}\n{}", String::from_utf8_lossy(&traced.stderr));
    assert!(said.matches("classified on").count() > usize::from(required("adapters")), "{said}");

    let calls = std::fs::read_to_string(&log).unwrap();
    assert!(calls.contains(NAME), "the tracer did not see the picture being read");
    let forbidden: Vec<&str> = calls.lines().filter(|call| !allowed(call, &cache)).collect();
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
    nothing_of_the_input(&cache, &picture);
}

/// Whether a traced call may be made.
///
/// Drivers look for a window system through local sockets (`AF_UNIX`), which reach no other machine; every other family is
/// refused. Files may be written in the cache folder, where drivers keep compiled shaders too, and devices under `/dev`
/// (shared memory among them); `/proc/self` is the process's own.
fn allowed(call: &str, cache: &Path) -> bool {
    let call = call.split_once(' ').map_or(call, |(_, call)| call.trim_start());
    let name = call.split('(').next().unwrap_or(call);
    if name.starts_with('<') || name.starts_with("+++") || name.starts_with("---") {
        return true;
    }
    let changes = match name {
        "open" | "openat" | "openat2" => {
            ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"].iter().any(|flag| call.contains(flag))
        }
        "creat" | "rename" | "renameat" | "renameat2" | "mkdir" | "mkdirat" | "link" | "linkat" | "symlink"
        | "symlinkat" | "unlink" | "unlinkat" | "truncate" | "mknod" | "mknodat" => true,
        "socket" | "socketpair" => return call.contains("AF_UNIX"),
        "connect" | "bind" | "sendto" => return call.contains("AF_UNIX") || !call.contains("AF_"),
        // What remains works on sockets that were allowed.
        _ => return true,
    };
    // A path is what stands between the quotes; a call that failed changed nothing.
    let failed = call.contains(" = -1 ");
    let paths = call.split('"').skip(1).step_by(2);
    let inside = |path: &str| {
        let path = Path::new(path);
        path.starts_with(cache) || path.starts_with("/dev") || path.starts_with("/proc/self")
    };
    !changes || failed || paths.into_iter().all(inside)
}

/// No cached file holds the picture's name, nor any of its pixels or of its file's bytes.
fn nothing_of_the_input(cache: &Path, picture: &Path) {
    let file = std::fs::read(picture).unwrap();
    let [pixels, file] = [pixels(), file].map(|bytes| bytes.chunks_exact(16).map(<[u8]>::to_vec).collect::<Vec<_>>());
    let needles: std::collections::HashSet<Vec<u8>> = pixels.into_iter().chain(file).collect();
    let mut folders = vec![cache.to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.display().to_string().contains(NAME), "{}", path.display());
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let held = bytes.windows(16).any(|window| needles.contains(window))
                || bytes.windows(NAME.len()).any(|window| window == NAME.as_bytes());
            assert!(!held, "{} holds a part of the picture", path.display());
            files += 1;
        }
    }
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
        assert!(!allowed(refused, cache), "{refused}");
    }
    for fine in [
        r#"77  openat(AT_FDCWD, "/tmp/other", O_RDONLY|O_CLOEXEC) = 4"#,
        r#"77  openat(AT_FDCWD, "/tmp/cache/lampyris/a", O_WRONLY|O_CREAT, 0666) = 4"#,
        r#"77  socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3"#,
        r#"77  +++ exited with 0 +++"#,
    ] {
        assert!(allowed(fine, cache), "{fine}");
    }
}
