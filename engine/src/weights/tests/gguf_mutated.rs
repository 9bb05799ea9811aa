//! GGUF files nobody meant to write: whatever is accepted of them can be read to its end, and nothing panics.

use std::ops::Range;

use proptest::prelude::*;

use super::super::blocks::BlockFormat;
use super::super::gguf::{Gguf, NewBlocks, Value, gguf_bytes};
use super::gguf_values::all_types;

/// A file with every type of value and a few tensors.
fn valid() -> Vec<u8> {
    let q = BlockFormat::Q4K.quantize(&[0.5; 512]).unwrap().bytes;
    let tensors = [
        NewBlocks { name: "a", format: BlockFormat::Q4K, shape: &[2, 1, 256], bytes: &q },
        NewBlocks { name: "b", format: BlockFormat::F16, shape: &[3], bytes: &[0; 6] },
        NewBlocks { name: "c", format: BlockFormat::I64, shape: &[], bytes: &[0; 8] },
        NewBlocks { name: "none", format: BlockFormat::Q8_0, shape: &[7, 0], bytes: &[] },
    ];
    gguf_bytes("valid", &all_types(), &tensors).unwrap()
}

fn walk(value: Value<'_>) {
    if let Value::Array(array) = value {
        assert_eq!(array.iter().inspect(|value| walk(*value)).count(), array.len());
    }
}

/// Opens `bytes` and reads all there is; whether they were accepted.
fn judged(bytes: &[u8]) -> bool {
    let Ok(file) = Gguf::from_bytes("judged", bytes.to_vec()) else { return false };
    for (key, value) in file.metadata() {
        walk(value);
        assert!(file.value(key).is_some(), "{key}");
    }
    let mut taken: Vec<Range<u64>> = Vec::new();
    for tensor in file.tensors() {
        let stored = file.bytes(&tensor.name).unwrap();
        assert_eq!(stored.len(), tensor.elements() / tensor.format.block_elements() * tensor.format.block_bytes());
        let _ = file.f32(&tensor.name);
        if !stored.is_empty() {
            taken.push(tensor.range.clone());
        }
    }
    taken.sort_by_key(|range| range.start);
    assert!(taken.windows(2).all(|pair| pair[0].end <= pair[1].start));
    true
}

#[test]
fn the_valid_file_is_accepted() {
    assert!(judged(&valid()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..5), 1..5),
    ) {
        let mut bytes = valid();
        for (place, value, kind) in edits {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = value,
                1 => bytes[place] ^= 1 << (value % 8),
                2 => bytes.insert(place, value),
                3 => drop(bytes.drain(place..(place + usize::from(value) % 9 + 1).min(bytes.len()))),
                _ => bytes[place] = bytes[place].wrapping_add(1),
            }
            if bytes.is_empty() {
                break;
            }
        }
        judged(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(rest in prop::collection::vec(prop_oneof![3 => 0_u8..12, 1 => any::<u8>()], 0..200)) {
        judged(&rest);
        judged(&[b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".as_slice(), &rest].concat());
    }
}
