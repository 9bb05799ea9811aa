//! Broken GGUF files: made by others, and made here by changing every byte of a header.

use crate::measured;
use crate::support::material;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{Gguf, MetadataValue, NewBlocks, ValueType, gguf_bytes};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What refusing a file may take.
const TIME: Duration = Duration::from_millis(100);
const HEAP: usize = 16 << 20;

/// What `work` gives, having taken no more than the bounds. A busy machine may stop a test at any time, so the time is that of
/// the quickest of a few.
fn bounded<T>(what: &str, work: impl Fn() -> T) -> T {
    for _ in 0..5 {
        let (made, time, held) = measured(&work);
        assert!(held < HEAP, "{what}: {held} bytes");
        if time < TIME {
            return made;
        }
    }
    panic!("{what}: never done within {TIME:?}");
}

/// Those that may be read: a reader need not mind what is wrong with them. A dimension of 0 and a name of 65 bytes are read
/// here, the others are not.
const READ: [&str; 2] = ["dim-zero.gguf", "tensor-name-65-chars.gguf"];

#[test]
fn malformed_files_are_refused_at_once() {
    let Some(folder) = material().map(|folder| folder.join("gguf-quants/malformed")) else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".gguf") {
            continue;
        }
        seen += 1;
        match bounded(&name, || Gguf::open(&path)) {
            Ok(_) => assert!(READ.contains(&name.as_str()), "{name} was read"),
            Err(error) => {
                assert!(!READ.contains(&name.as_str()), "{error}");
                assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
            }
        }
    }
    assert!(seen >= 24, "{seen} files");
}

/// A file with values of every kind and a few tensors; what a test changes is its header.
fn sample() -> (Vec<u8>, usize) {
    let text = |text: &str| MetadataValue::String(text.to_owned());
    let array = |values: Vec<MetadataValue>| MetadataValue::Array(values[0].kind(), values);
    let metadata = [
        ("general.architecture", text("test")),
        ("u8", MetadataValue::U8(1)),
        ("bool", MetadataValue::Bool(true)),
        ("f64", MetadataValue::F64(1.5)),
        ("u32s", array(vec![MetadataValue::U32(7); 3])),
        ("texts", array(vec![text("a"), text(""), text("cd")])),
        ("bools", array(vec![MetadataValue::Bool(false); 2])),
        ("nested", array(vec![array(vec![MetadataValue::I8(1)]), MetadataValue::Array(ValueType::String, Vec::new())])),
        ("split.count", MetadataValue::U16(1)),
    ];
    let q = BlockFormat::Q4_0.quantize(&[1.0; 128]).unwrap().bytes;
    let tensors = [
        NewBlocks { name: "bias", format: BlockFormat::F32, shape: &[2], bytes: &[0; 8] },
        NewBlocks { name: "weight", format: BlockFormat::Q4_0, shape: &[2, 64], bytes: &q },
        NewBlocks { name: "one", format: BlockFormat::F16, shape: &[], bytes: &[0, 60] },
    ];
    let bytes = gguf_bytes("sample", &metadata, &tensors).unwrap();
    let data: usize = tensors.iter().map(|tensor| tensor.bytes.len().next_multiple_of(32)).sum();
    let header = bytes.len() - data;
    (bytes, header)
}

/// Opens `bytes` and reads all that is in them, within the bounds; whether they were accepted.
fn survives(bytes: &[u8], what: &str) -> Result<(), String> {
    let opened = bounded(what, || {
        Gguf::from_bytes("changed", bytes.to_vec()).map(|file| {
            let shown: usize = file.metadata().map(|(key, value)| key.len() + format!("{value:?}").len()).sum();
            for tensor in file.tensors() {
                let _ = file.f32(&tensor.name);
                assert!(tensor.range.end <= bytes.len() as u64, "{what}");
            }
            shown
        })
    });
    opened.map(drop).map_err(|error| {
        assert!(error.to_string().starts_with("changed: "), "{what}: {error}");
        let text = format!("{error:?}");
        text.split("problem: ").nth(1).unwrap_or(&text).split([' ', '}']).next().unwrap().to_owned()
    })
}

#[test]
fn every_byte_of_a_header_may_be_anything() {
    let (sample, header) = sample();
    survives(&sample, "unchanged").unwrap();
    let mut met = BTreeMap::<String, usize>::new();
    let mut accepted = 0;
    for place in 0..header {
        let old = sample[place];
        for new in
            [0, 1, 2, 7, 9, 0x7f, 0x80, 0xff, old ^ 1, old ^ 4, old ^ 0x20, old.wrapping_add(1), old.wrapping_sub(1)]
        {
            let mut changed = sample.clone();
            changed[place] = new;
            match survives(&changed, &format!("byte {place} from {old} to {new}")) {
                Ok(()) => accepted += 1,
                Err(problem) => *met.entry(problem).or_default() += 1,
            }
        }
    }
    // Letters and numbers may change; what holds the file together may not.
    assert!(accepted > 500, "{accepted} accepted");
    for problem in [
        "Magic",
        "Version",
        "End",
        "TooMany",
        "NotUtf8",
        "NoName",
        "ValueType",
        "Bool",
        "TensorType",
        "RemovedType",
        "Shape",
        "PartialBlock",
        "Misaligned",
        "Overlap",
        "Part",
    ] {
        assert!(met.contains_key(problem), "{problem} was never met: {met:?}");
    }
}

#[test]
fn no_shorter_file_is_accepted() {
    let (sample, _) = sample();
    let needed = sample.len() - 30;
    for size in 0..sample.len() {
        let accepted = survives(&sample[..size], &format!("cut at {size}")).is_ok();
        assert_eq!(accepted, size >= needed, "cut at {size} of {}", sample.len());
    }
}

/// Each run of eight bytes as a number at the edges of what can be counted.
#[test]
fn every_number_of_a_header_may_be_huge() {
    let (sample, header) = sample();
    for place in 0..header - 8 {
        for number in [u64::MAX, u64::MAX - 31, 1 << 63, 1 << 61, 1 << 40, u32::MAX.into(), 1 << 16] {
            let mut changed = sample.clone();
            changed[place..place + 8].copy_from_slice(&number.to_le_bytes());
            let _ = survives(&changed, &format!("{number} at byte {place}"));
        }
    }
}

/// Headers as long as they may be, with nothing wrong but their end.
#[test]
fn the_longest_headers_are_refused_at_once() {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let opening =
        |tensors: u64, entries: u64| [&b"GGUF\x03\0\0\0"[..], &tensors.to_le_bytes(), &entries.to_le_bytes()].concat();
    let mut tensors = opening(1 << 15, 0);
    for number in 0..1 << 15 {
        tensors.extend(text(&format!("{number:0128}")));
        tensors.extend([&4_u32.to_le_bytes()[..], &[1_u64.to_le_bytes(); 4].concat(), &[0; 4]].concat());
        tensors.extend(((1 << 15) as u64 * 32).to_le_bytes());
    }
    let mut entries = opening(0, 1 << 16);
    for number in 0..1 << 16 {
        entries.extend(text(&format!("{:0100}", number / 2)));
        entries.extend([0; 5]);
    }
    // As many texts as there may be, none with a letter, and one text as long as there may be: both wrong in the last byte.
    let array = |key: &str| [opening(0, 1), text(key), [9_u32, 8].map(u32::to_le_bytes).concat()].concat();
    let mut texts = [array("texts"), (1_u64 << 20).to_le_bytes().to_vec()].concat();
    texts.resize(texts.len() + (8 << 20), 0);
    *texts.last_mut().unwrap() = 1;
    let mut more = [array("more"), ((1_u64 << 20) + 1).to_le_bytes().to_vec()].concat();
    more.resize(more.len() + (8 << 20) + 8, 0);
    let long = "\u{e9}".repeat(16_000_000);
    let mut long = [opening(0, 1), text("text"), 8_u32.to_le_bytes().to_vec(), text(&long)].concat();
    *long.last_mut().unwrap() = 0;
    for (what, bytes) in [("tensors", tensors), ("entries", entries), ("texts", texts), ("more", more), ("long", long)]
    {
        let bytes: Arc<[u8]> = bytes.into();
        bounded(what, || Gguf::from_bytes(what, Arc::clone(&bytes)).map(drop)).unwrap_err();
    }
}
