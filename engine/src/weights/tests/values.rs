//! What is read is what was stored: conversions bit by bit, and the numbers that are refused.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use half::{bf16, f16};

use super::super::{Dtype, Weights, WeightsError};
use super::{entry, file};

/// Weights of one tensor `t`.
fn one(dtype: &str, shape: &[u64], data: &[u8]) -> Weights {
    let header = format!("{{{}}}", entry("t", dtype, shape, 0, data.len() as u64));
    Weights::from_bytes("one", file(&header, data)).unwrap()
}

#[test]
fn every_half_precision_number_converts_exactly_or_is_refused() {
    for bits in 0..=u16::MAX {
        let data = bits.to_le_bytes();
        for (dtype, value) in [("F16", f16::from_bits(bits).to_f64()), ("BF16", bf16::from_bits(bits).to_f64())] {
            let read = one(dtype, &[], &data).f32("t");
            if value.is_finite() {
                let read = read.unwrap();
                assert_eq!(read.len(), 1);
                assert_eq!(f64::from(read[0]).to_bits(), value.to_bits(), "{dtype} {bits:#06x}");
            } else {
                assert!(matches!(read, Err(WeightsError::NotFinite { .. })), "{dtype} {bits:#06x}");
            }
        }
    }
}

#[test]
fn single_precision_is_untouched_at_any_alignment() {
    let values = [0.0_f32, -0.0, 1.0, f32::MIN_POSITIVE, f32::MAX, f32::MIN, 1e-45];
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    for padding in 0..8 {
        let header = format!("{{{}}}{}", entry("t", "F32", &[7, 1], 0, 28), " ".repeat(padding));
        let weights = Weights::from_bytes("padded", file(&header, &data)).unwrap();
        let read = weights.f32("t").unwrap();
        assert_eq!(read.map_bits(), values.to_vec().map_bits());
    }
}

trait MapBits {
    fn map_bits(self) -> Vec<u32>;
}

impl MapBits for Vec<f32> {
    fn map_bits(self) -> Vec<u32> {
        self.into_iter().map(f32::to_bits).collect()
    }
}

#[test]
fn double_precision_is_rounded_and_refused_where_it_does_not_fit() {
    let read = |value: f64| one("F64", &[1], &value.to_le_bytes()).f32("t");
    assert_eq!(read(0.1).unwrap(), [0.1_f32]);
    assert_eq!(read(1e-300).unwrap(), [0.0]);
    assert_eq!(read(f64::from(f32::MAX)).unwrap(), [f32::MAX]);
    let error = read(-1e300).unwrap_err();
    assert!(matches!(error, WeightsError::NotFinite { value: -1e300, .. }), "{error:?}");
}

#[test]
fn the_first_bad_number_is_named_with_its_place() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 1, 4098, 9999] {
            let mut values = vec![0.5_f32; 10_000];
            values[place] = bad;
            values[9999] = bad;
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let weights = one("F32", &[100, 100], &data);
            let begin = weights.get("t").unwrap().range.start;
            match weights.f32("t").unwrap_err() {
                WeightsError::NotFinite { file, tensor, index, offset, value } => {
                    assert_eq!((file.as_str(), tensor.as_str()), ("one", "t"));
                    assert_eq!((index, offset), (place, begin + 4 * place));
                    assert!(value == f64::from(bad) || value.is_nan() && bad.is_nan());
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn integers_are_not_floats_nor_floats_integers() {
    assert_eq!(one("I8", &[3], &[0, 127, 128]).i8("t").unwrap(), [0, 127, -128]);
    for dtype in ["BOOL", "U8", "I8", "I16", "I32", "I64", "U64", "C64"] {
        let size = Dtype::from_name(dtype).unwrap().bits() / 8;
        let weights = one(dtype, &[1], &vec![1; size]);
        match weights.f32("t").unwrap_err() {
            WeightsError::WrongDtype { found, .. } => assert_eq!(found.name(), dtype),
            other => panic!("{other:?}"),
        }
        assert_eq!(weights.i8("t").is_ok(), dtype == "I8");
        assert_eq!(weights.bytes("t").unwrap(), vec![1; size]);
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let weights = one("U8", &[1], &[0]);
    for error in
        [weights.f32("fc.bias").unwrap_err(), weights.i8("fc.bias").unwrap_err(), weights.bytes("fc.bias").unwrap_err()]
    {
        assert!(error.to_string().starts_with("one: it has no tensor `fc.bias` among its 1;"));
    }
    assert_eq!(weights.get("fc.bias"), None);
}

#[test]
fn what_the_file_says_of_itself() {
    let header = format!(
        r#"{{{},"__metadata__":{{"format":"pt","by":"me"}},{},{}}}"#,
        entry("b", "F16", &[2, 3], 1, 13),
        entry("a.weight", "BOOL", &[1, 1, 1], 0, 1),
        entry("none", "F32", &[0, u32::MAX.into(), 1000], 13, 13),
    );
    let bytes: Arc<[u8]> = file(&header, &[0; 13]).into();
    let weights = Weights::from_bytes("listed", Arc::clone(&bytes)).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a.weight", "b", "none"]);
    assert_eq!(weights.file(), "listed");
    assert_eq!(weights.total_bytes(), 13);
    assert_eq!(weights.metadata()["format"], "pt");
    assert_eq!(weights.metadata().len(), 2);
    let b = weights.get("b").unwrap();
    assert_eq!((b.dtype, b.shape.as_slice(), b.elements()), (Dtype::F16, &[2, 3][..], 6));
    assert_eq!(b.range, bytes.len() - 12..bytes.len());
    assert_eq!(weights.get("none").unwrap().elements(), 0);
    assert_eq!(weights.f32("none").unwrap(), [0.0; 0]);
    assert_eq!(weights.get("none").unwrap().shape, [0, u32::MAX as usize, 1000]);
    assert_eq!(weights.tensors().len(), 3);
}

#[test]
fn clones_share_the_bytes_across_threads() {
    let bytes: Arc<[u8]> = file(&format!("{{{}}}", entry("t", "U8", &[1], 0, 1)), &[7]).into();
    let weights = Weights::from_bytes("shared", Arc::clone(&bytes)).unwrap();
    let held = Arc::strong_count(&bytes);
    let clone = weights.clone();
    assert_eq!(Arc::strong_count(&bytes), held);
    let read = std::thread::spawn(move || clone.bytes("t").map(Cow::into_owned));
    assert_eq!(read.join().unwrap().unwrap(), [7]);
    let inside = weights.bytes("t").unwrap().as_ptr();
    assert!(bytes.as_ptr_range().contains(&inside));
    drop(weights);
    assert_eq!(Arc::strong_count(&bytes), 1);
}

/// Bytes whose owner gives out fewer of them once it is told to.
struct Shrinking(Vec<u8>, Arc<AtomicBool>);

impl AsRef<[u8]> for Shrinking {
    fn as_ref(&self) -> &[u8] {
        if self.1.load(Ordering::Relaxed) { &self.0[..9] } else { &self.0 }
    }
}

#[test]
fn an_owner_that_takes_bytes_back_is_an_error_and_no_panic() {
    let bytes = file(&format!("{{{}}}", entry("t", "U8", &[1], 0, 1)), &[7]);
    let shrunk = Arc::new(AtomicBool::new(false));
    let weights = Weights::from_bytes("shrinking", Shrinking(bytes, shrunk.clone())).unwrap();
    assert_eq!(weights.bytes("t").unwrap(), [7].as_slice());
    shrunk.store(true, Ordering::Relaxed);
    assert!(matches!(weights.bytes("t"), Err(WeightsError::Truncated { size: 9, .. })));
}
