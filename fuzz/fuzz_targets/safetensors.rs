//! Any bytes are a safetensors file or refused, and what is read of one lies within it.

#![no_main]

use lampyris_engine::weights::Weights;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Weights::from_bytes("fuzzed", bytes.to_vec()) else { return };
    for tensor in file.tensors() {
        let stored = file.bytes(&tensor.name).expect("a checked range is inside the file");
        assert_eq!(stored.len(), tensor.range.len());
        let _ = file.f32(&tensor.name);
        let _ = file.i8(&tensor.name);
    }
});
