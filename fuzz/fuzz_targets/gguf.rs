//! Any bytes are a GGUF file or refused, and what is read of one lies within it.

#![no_main]

use lampyris_engine::weights::gguf::{Gguf, Value};
use libfuzzer_sys::fuzz_target;

/// Walks through a value to its end.
fn walk(value: Value<'_>) -> usize {
    match value {
        Value::Array(array) => {
            let walked = array.iter().map(walk).count();
            assert_eq!(walked, array.len());
            walked
        }
        Value::String(text) => text.len(),
        _ => 1,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Gguf::from_bytes("fuzzed", bytes.to_vec()) else { return };
    for (key, value) in file.metadata() {
        walk(value);
        assert!(file.value(key).is_some());
    }
    for tensor in file.tensors() {
        let stored = file.bytes(&tensor.name).expect("a checked range is inside the file");
        assert_eq!(stored.len() as u64, tensor.range.end - tensor.range.start);
        let _ = file.f32(&tensor.name);
    }
});
