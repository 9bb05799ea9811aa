//! What is written as GGUF reads back the same: every type of value, every kind of tensor, whole, split and by range.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;

use super::super::blocks::BlockFormat;
use super::super::gguf::{Gguf, MetadataValue, NewBlocks, Value, ValueType, gguf_bytes, write_gguf};
use super::super::{ByteSource, WeightsError};

/// A value of each type, and arrays of each.
pub(super) fn all_types() -> Vec<(String, MetadataValue)> {
    use MetadataValue as V;
    let scalars = [
        V::U8(255),
        V::I8(-128),
        V::U16(65535),
        V::I16(-32768),
        V::U32(u32::MAX),
        V::I32(i32::MIN),
        V::F32(-0.0),
        V::Bool(true),
        V::String("text\0with \u{1F600}\n".to_owned()),
        V::U64(u64::MAX),
        V::I64(i64::MIN),
        V::F64(0.1),
    ];
    let mut all: Vec<(String, V)> = Vec::new();
    for (i, value) in scalars.into_iter().enumerate() {
        let kind = value.kind();
        all.push((format!("one.{i}"), value.clone()));
        all.push((format!("many.{i}"), V::Array(kind, vec![value.clone(), value])));
        all.push((format!("none.{i}"), V::Array(kind, Vec::new())));
    }
    let texts = V::Array(ValueType::String, vec![V::String(String::new()), V::String("b".to_owned())]);
    let numbers = V::Array(ValueType::I32, vec![V::I32(-7)]);
    let nested = V::Array(ValueType::Array, vec![texts, V::Array(ValueType::Array, vec![numbers])]);
    all.push(("nested".to_owned(), nested));
    all
}

/// What was read as what would be written.
fn owned(value: Value<'_>) -> MetadataValue {
    match value {
        Value::U8(value) => MetadataValue::U8(value),
        Value::I8(value) => MetadataValue::I8(value),
        Value::U16(value) => MetadataValue::U16(value),
        Value::I16(value) => MetadataValue::I16(value),
        Value::U32(value) => MetadataValue::U32(value),
        Value::I32(value) => MetadataValue::I32(value),
        Value::F32(value) => MetadataValue::F32(value),
        Value::Bool(value) => MetadataValue::Bool(value),
        Value::String(value) => MetadataValue::String(value.to_owned()),
        Value::Array(array) => MetadataValue::Array(array.kind(), array.iter().map(owned).collect()),
        Value::U64(value) => MetadataValue::U64(value),
        Value::I64(value) => MetadataValue::I64(value),
        Value::F64(value) => MetadataValue::F64(value),
    }
}

#[test]
fn every_type_of_value_reads_back_in_order() {
    let metadata = all_types();
    let file = Gguf::from_bytes("types", gguf_bytes("types", &metadata, &[]).unwrap()).unwrap();
    let read: Vec<_> = file.metadata().map(|(key, value)| (key.to_owned(), owned(value))).collect();
    assert_eq!(read, metadata);
    for (key, value) in &metadata {
        assert_eq!(file.value(key).map(owned).as_ref(), Some(value), "{key}");
        assert_eq!(file.value(key).unwrap().kind(), value.kind());
    }
    assert_eq!(file.value("absent"), None);
    assert_eq!((file.version(), file.alignment(), file.parts()), (3, 32, 1));
    let negative = file.value("one.6").unwrap().number().unwrap();
    assert!(negative == 0.0 && negative.is_sign_negative());
    assert_eq!(file.value("one.9").unwrap().integer(), Some(u64::MAX.into()));
    assert_eq!(file.value("one.8").unwrap().text(), Some("text\0with \u{1F600}\n"));
    assert_eq!(file.value("one.8").unwrap().integer(), None);
    assert_eq!(file.value("one.7").unwrap().truth(), Some(true));
    let texts = file.value("many.8").unwrap().array().unwrap();
    assert_eq!((texts.len(), texts.is_empty(), texts.texts().unwrap().count()), (2, false, 2));
    assert!(file.value("many.0").unwrap().array().unwrap().texts().is_none());
    assert_eq!(file.value("many.1").unwrap().array().unwrap().bytes(), [128, 128]);
}

#[test]
fn a_vocabulary_is_read_where_it_lies() {
    let tokens: Vec<MetadataValue> = (0..5000).map(|i| MetadataValue::String(format!("token{i}"))).collect();
    let metadata = [("tokens", MetadataValue::Array(ValueType::String, tokens)), ("after", MetadataValue::U8(1))];
    let bytes: Arc<[u8]> = gguf_bytes("vocabulary", &metadata, &[]).unwrap().into();
    let file = Gguf::from_bytes("vocabulary", Arc::clone(&bytes)).unwrap();
    let tokens = file.value("tokens").unwrap().array().unwrap();
    for (i, token) in tokens.texts().unwrap().enumerate() {
        assert_eq!(token, format!("token{i}"));
        assert!(bytes.as_ptr_range().contains(&token.as_ptr()));
    }
    assert_eq!(file.value("after"), Some(Value::U8(1)));
}

/// Bytes of `format` for a tensor of `shape`, made of `fill`.
fn filled(format: BlockFormat, shape: &[usize], fill: u8) -> Vec<u8> {
    let size = shape.iter().product::<usize>() / format.block_elements() * format.block_bytes();
    (0..size).map(|i| fill.wrapping_mul(31).wrapping_add(i as u8)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn tensors_read_back_with_shape_and_bytes(
        tensors in prop::collection::btree_map(
            "\\PC{1,20}",
            (0..BlockFormat::ALL.len(), prop::collection::vec(0_usize..4, 0..4), any::<u8>()),
            0..6,
        ),
    ) {
        let made: Vec<_> = tensors.iter().map(|(name, (format, outer, fill))| {
            let format = BlockFormat::ALL[*format];
            let mut shape = outer.clone();
            shape.push(format.block_elements() * (usize::from(*fill) % 3));
            let bytes = filled(format, &shape, *fill);
            (name.as_str(), format, shape, bytes)
        }).collect();
        let new: Vec<_> =
            made.iter().map(|(name, format, shape, bytes)| NewBlocks { name, format: *format, shape, bytes }).collect();
        let file = Gguf::from_bytes("made", gguf_bytes("made", &all_types(), &new).unwrap()).unwrap();
        prop_assert_eq!(file.tensors().len(), made.len());
        for (name, format, shape, bytes) in &made {
            let tensor = file.get(name).unwrap();
            prop_assert_eq!((tensor.format, &tensor.shape, tensor.part), (*format, shape, 0));
            prop_assert_eq!(tensor.range.start % 32, 0);
            prop_assert_eq!(tensor.elements(), shape.iter().product::<usize>());
            prop_assert_eq!(&*file.bytes(name).unwrap(), bytes.as_slice());
        }
    }
}

#[test]
fn rows_are_runs_of_the_innermost_dimension() {
    let format = BlockFormat::Q8_0;
    let values: Vec<f32> = (0..2 * 3 * 64).map(|i| i as f32 - 100.0).collect();
    let encoded = format.quantize(&values).unwrap();
    let new = NewBlocks { name: "w", format, shape: &[2, 3, 64], bytes: &encoded.bytes };
    let file = Gguf::from_bytes("rows", gguf_bytes::<&str>("rows", &[], &[new]).unwrap()).unwrap();
    let all = file.f32("w").unwrap();
    for rows in [0..6, 0..0, 2..3, 5..6, 1..4] {
        assert_eq!(*file.rows("w", rows.clone()).unwrap(), encoded.bytes[rows.start * 68..rows.end * 68]);
        assert_eq!(file.f32_rows("w", rows.clone()).unwrap(), all[rows.start * 64..rows.end * 64]);
    }
    for rows in [0..7, 7..7, Range { start: 3, end: 2 }, 0..usize::MAX, usize::MAX..usize::MAX] {
        let error = file.f32_rows("w", rows.clone()).unwrap_err();
        assert!(matches!(error, WeightsError::RowsOutside { count: 6, .. }), "{error:?}");
        assert!(file.rows("w", rows).is_err());
    }
    assert!(matches!(file.f32("v"), Err(WeightsError::Missing { count: 1, .. })));
}

#[test]
fn what_is_not_decoded_or_not_finite_is_named() {
    let other = filled(BlockFormat::IQ2XS, &[256], 0);
    let mut bad = BlockFormat::Q8_0.quantize(&[127.0; 128]).unwrap().bytes;
    bad[2 * 34 + 1] = 0x7e;
    let tensors = [
        NewBlocks { name: "other", format: BlockFormat::IQ2XS, shape: &[256], bytes: &other },
        NewBlocks { name: "bad", format: BlockFormat::Q8_0, shape: &[4, 32], bytes: &bad },
    ];
    let file = Gguf::from_bytes("bad", gguf_bytes::<&str>("bad", &[], &tensors).unwrap()).unwrap();
    let error = file.f32("other").unwrap_err();
    assert!(matches!(error, WeightsError::Blocks { .. }), "{error:?}");
    assert!(error.to_string().starts_with("bad: tensor `other`: IQ2_XS is not decoded here, only F32, "), "{error}");
    let begin = file.get("bad").unwrap().range.start as usize;
    for error in [file.f32("bad").unwrap_err(), file.f32_rows("bad", 1..3).unwrap_err()] {
        match error {
            WeightsError::NotFinite { tensor, index: 64, offset, .. } => {
                assert_eq!((tensor.as_str(), offset), ("bad", begin + 68));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(file.f32_rows("bad", 0..2).unwrap(), [127.0; 64]);
}

/// A source that hands out ranges only, and counts what it handed out.
struct Ranges(Vec<u8>, Arc<AtomicU64>);

impl ByteSource for Ranges {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        self.1.fetch_add(range.end - range.start, Relaxed);
        let bytes = self.0.get(range.start as usize..range.end as usize);
        bytes.map(|bytes| Cow::Owned(bytes.to_vec())).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[test]
fn a_source_of_ranges_hands_out_the_header_and_the_rows_asked_for() {
    for tokens in [1, 40_000] {
        let tokens = vec![MetadataValue::String("abcdefgh".to_owned()); tokens];
        let metadata = [("tokens", MetadataValue::Array(ValueType::String, tokens.clone()))];
        let data = filled(BlockFormat::F16, &[1000, 1000], 1);
        let new = NewBlocks { name: "w", format: BlockFormat::F16, shape: &[1000, 1000], bytes: &data };
        let bytes = gguf_bytes("ranges", &metadata, &[new]).unwrap();
        let (size, read) = (bytes.len() as u64, Arc::new(AtomicU64::new(0)));
        let file = Gguf::from_bytes("ranges", Ranges(bytes, Arc::clone(&read))).unwrap();
        assert_eq!(file.value("tokens").unwrap().array().unwrap().texts().unwrap().count(), tokens.len());
        let header = size - 2_000_000;
        assert!(read.load(Relaxed) <= (4 * header).max(64 << 10), "{read:?} of a header of {header}");
        read.store(0, Relaxed);
        assert_eq!(*file.rows("w", 7..9).unwrap(), data[14_000..18_000]);
        assert_eq!(read.load(Relaxed), 4000);
    }
}

/// The three parts of a split file, as `gguf-split` makes them.
pub(super) fn parts() -> Vec<Vec<u8>> {
    let part = |number: u16, names: &[&str]| {
        let mut metadata = vec![
            ("split.no", MetadataValue::U16(number)),
            ("split.count", MetadataValue::U16(3)),
            ("split.tensors.count", MetadataValue::I32(4)),
        ];
        if number == 0 {
            metadata.insert(0, ("general.architecture", MetadataValue::String("test".to_owned())));
        }
        let bytes = [number as u8, 0, 0, 0];
        let new = |name| NewBlocks { name, format: BlockFormat::I32, shape: &[1], bytes: &bytes };
        gguf_bytes("part", &metadata, &names.iter().copied().map(new).collect::<Vec<_>>()).unwrap()
    };
    vec![part(0, &[]), part(1, &["b", "a"]), part(2, &["c", "d"])]
}

#[test]
fn a_split_file_is_one_from_any_of_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let name = |number: usize| folder.path().join(format!("model-of-x-{:05}-of-00003.gguf", number + 1));
    for (number, bytes) in parts().into_iter().enumerate() {
        std::fs::write(name(number), bytes).unwrap();
    }
    for number in 0..3 {
        let file = Gguf::open(&name(number)).unwrap();
        assert_eq!(file.file(), name(0).display().to_string());
        assert_eq!(file.parts(), 3);
        assert_eq!(file.value("general.architecture").unwrap().text(), Some("test"));
        let read: Vec<_> = file.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor.part)).collect();
        assert_eq!(read, [("a", 1), ("b", 1), ("c", 2), ("d", 2)]);
        assert_eq!(*file.bytes("d").unwrap(), [2, 0, 0, 0]);
    }
    let error = Gguf::open(&folder.path().join("model.gguf")).unwrap_err();
    assert!(matches!(error, WeightsError::NotFound { .. }), "{error:?}");
    std::fs::remove_file(name(1)).unwrap();
    match Gguf::open(&name(0)).unwrap_err() {
        WeightsError::NotFound { file } => assert_eq!(file, name(1).display().to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_written_file_opens_and_a_refused_one_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let new = NewBlocks { name: "t", format: BlockFormat::F32, shape: &[], bytes: &2.5_f32.to_le_bytes() };
    let twice = write_gguf::<&str>(&path, &[], &[new, new]).unwrap_err();
    assert!(matches!(twice, WeightsError::Gguf(_)), "{twice:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    write_gguf::<&str>(&path, &[], &[new]).unwrap();
    let file = Gguf::open(&path).unwrap();
    assert_eq!((file.f32("t").unwrap(), file.get("t").unwrap().shape.len()), (vec![2.5], 0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
