//! The command as a user runs it, under a tracer: `lampyris classify` opens no connection, writes nothing but its caches, and
//! keeps nothing of the picture in them.

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
