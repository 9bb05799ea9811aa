//! Throws made-up language models at all that reads them.

#![no_main]

#[allow(dead_code, reason = "each target uses its part")]
#[path = "../entry.rs"]
mod entry;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    entry::model(bytes);
});
