//! Runs a program under strace and judges what it did: the connections it opened and the files it changed.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What is written down: the network, and whatever changes the file system.
const CALLS: &str = "trace=network,open,openat,openat2,creat,rename,renameat,renameat2,mkdir,mkdirat,link,linkat,\
                     symlink,symlinkat,unlink,unlinkat,truncate,mknod,mknodat";
/// Bytes that are looked for together, and how many of them must differ: less could be anywhere by chance.
const RUN: usize = 16;
const DISTINCT: usize = 6;

/// Whether a run could hardly be anywhere by chance: it has different bytes, and does not repeat itself. What is packed bit by bit
/// does, wherever one code stands many times in a row: seven bytes (83 c1 60 30 18 0c 06) that a PNG and a driver's packed shader share.
fn telling(run: &[u8]) -> bool {
    let repeats = (1..=RUN / 2).any(|period| run[period..] == run[..RUN - period]);
    run.iter().collect::<HashSet<_>>().len() >= DISTINCT && !repeats
}

/// Whether there is a tracer; prints a skip, or fails where the device tests are required.
pub fn present() -> bool {
    if Command::new("strace").arg("--version").output().is_ok() {
        return true;
    }
    let required =
        std::env::var("LAMPYRIS_REQUIRE").is_ok_and(|list| list.split(',').any(|word| word.trim() == "adapters"));
    assert!(!required, "strace is missing, and LAMPYRIS_REQUIRE asks for the device tests");
    eprintln!("SKIPPED: strace is missing");
    false
}

/// Runs a program with the folder `cache` for its caches and gives its output and its calls.
pub fn trace(program: &Path, arguments: &[&str], cache: &Path, environment: &[(&str, &Path)]) -> (Output, String) {
    trace_with_input(program, arguments, cache, environment, b"")
}

/// The same, with these bytes as its input.
pub fn trace_with_input(
    program: &Path,
    arguments: &[&str],
    cache: &Path,
    environment: &[(&str, &Path)],
    input: &[u8],
) -> (Output, String) {
    let log = cache.with_extension("calls");
    let mut traced = Command::new("strace")
        .args(["-f", "-qq", "-s", "4096", "-e", CALLS, "-o"])
        .arg(&log)
        .arg(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .env("XDG_CACHE_HOME", cache)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    traced.stdin.take().unwrap().write_all(input).unwrap();
    let output = traced.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, std::fs::read_to_string(log).unwrap())
}

/// Fails on every call that may not be made, and when the tracer did not see the file `read` being read.
pub fn judge(calls: &str, cache: &Path, read: &str) {
    assert!(calls.contains(read), "the tracer did not see {read} being read");
    let forbidden: Vec<&str> = calls.lines().filter(|call| !allowed(call, cache)).collect();
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
}

/// Whether a traced call may be made.
///
/// Drivers look for a window system through local sockets (`AF_UNIX`), which reach no other machine; every other family is
/// refused. Files may be written in the cache folder, where drivers keep compiled shaders too, and devices under `/dev`
/// (shared memory among them); `/proc/self` is the process's own.
pub fn allowed(call: &str, cache: &Path) -> bool {
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

/// No cached file holds the input's name, nor any run of the secret bytes; gives the number of files.
pub fn nothing_of_the_input(cache: &Path, name: &str, secrets: &[&[u8]]) -> usize {
    nothing_of(cache, name, secrets, 1000)
}

/// The same, with at least `least` runs of bytes to look for.
pub fn nothing_of(cache: &Path, name: &str, secrets: &[&[u8]], least: usize) -> usize {
    let runs = secrets.iter().flat_map(|bytes| bytes.chunks_exact(RUN));
    let needles: HashSet<&[u8]> = runs.filter(|run| telling(run)).collect();
    assert!(needles.len() >= least, "{} runs of bytes to look for", needles.len());
    let mut folders = vec![cache.to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.display().to_string().contains(name), "{}", path.display());
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let held = bytes.windows(RUN).any(|window| needles.contains(window))
                || bytes.windows(name.len()).any(|window| window == name.as_bytes());
            assert!(!held, "{} holds a part of the input", path.display());
            files += 1;
        }
    }
    files
}
