//! Holds this reader against the format's own crate on files nobody meant to write: neither may panic, and they must agree.

use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype as JudgeDtype;

use super::super::{Dtype, Weights, WeightsError};
use super::{entry, file};

/// Reads `bytes` with both readers and returns this one's verdict, having checked that the crate's is the same (a repeated
/// name aside) and that what was read is the same too.
fn judged(bytes: &[u8]) -> Result<Weights, WeightsError> {
    let ours = Weights::from_bytes("judged", bytes.to_vec());
    match (&ours, SafeTensors::deserialize(bytes)) {
        (Ok(ours), Ok(judge)) => {
            assert_eq!(ours.names().len(), judge.len());
            for (name, tensor) in judge.iter() {
                let info = ours.get(name).unwrap();
                assert_eq!(info.shape, tensor.shape());
                assert_eq!(info.dtype.name(), format!("{:?}", tensor.dtype()));
                assert_eq!(info.range.len(), tensor.data().len());
                assert_eq!(ours.bytes(name).unwrap(), tensor.data());
            }
            assert_covered(ours, bytes.len());
            let (_, judge) = SafeTensors::read_metadata(bytes).unwrap();
            let noted = judge.metadata().clone().unwrap_or_default();
            assert_eq!(ours.metadata(), &noted.into_iter().collect());
        }
        (Err(WeightsError::DuplicateName { .. }), Ok(_)) => {}
        (Err(WeightsError::BadEntry { entry, reason, .. }), Ok(_)) => {
            assert!(entry == "__metadata__" && reason.contains("there twice"), "{ours:?}");
        }
        (Err(_), Err(_)) => {}
        (ours, judge) => panic!("{ours:?} here, {judge:?} by the crate"),
    }
    ours
}

/// Asserts that the tensors' ranges tile the end of the file.
fn assert_covered(weights: &Weights, file_size: usize) {
    let mut ranges: Vec<_> = weights.tensors().iter().map(|tensor| tensor.range.clone()).collect();
    ranges.sort_by_key(|range| (range.start, range.end));
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].end, pair[1].start);
    }
    assert_eq!(ranges.last().map_or(file_size, |range| range.end), file_size);
}

/// A valid file with several types, a number without dimensions, an empty tensor, metadata and padding.
fn valid() -> Vec<u8> {
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},{},{},{},{}}}   "#,
        entry("conv.weight", "F32", &[2, 2], 0, 16),
        entry("conv.bias", "F16", &[2], 16, 20),
        entry("scale", "BF16", &[], 20, 22),
        entry("none", "I8", &[0, 3], 22, 22),
    );
    file(&header, &(0..22).collect::<Vec<u8>>())
}

#[test]
fn types_have_the_names_and_sizes_of_the_crate() {
    for dtype in Dtype::ALL {
        let judge: JudgeDtype = serde_json::from_value(dtype.name().into()).unwrap();
        assert_eq!(dtype.bits(), judge.bitsize(), "{dtype}");
        assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
    }
    // The crate lists its types in the refusal of an unknown one; each must be known here.
    let refusal = serde_json::from_value::<JudgeDtype>("?".into()).unwrap_err().to_string();
    let (_, list) = refusal.split_once("expected one of ").unwrap();
    let names: Vec<&str> = list.split(", ").map(|name| name.trim_matches('`')).collect();
    assert_eq!(names.len(), Dtype::ALL.len());
    for name in names {
        assert!(Dtype::from_name(name).is_some(), "{name}");
    }
}

#[test]
fn a_valid_file_is_accepted_and_no_shorter_or_longer_one() {
    let bytes = valid();
    judged(&bytes).unwrap();
    for size in 0..bytes.len() {
        judged(&bytes[..size]).unwrap_err();
    }
    for extra in 1..20 {
        let mut longer = bytes.clone();
        longer.extend(vec![0; extra]);
        judged(&longer).unwrap_err();
    }
}

#[test]
fn every_single_bit_of_damage_is_judged_alike() {
    let bytes = valid();
    let (mut accepted, mut refused) = (0, 0);
    for place in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[place / 8] ^= 1 << (place % 8);
        match judged(&damaged) {
            Ok(_) => accepted += 1,
            Err(_) => refused += 1,
        }
    }
    // Data may hold anything and names most things; the rest of the header may not.
    assert!(accepted >= 22 * 8 && refused > 500, "{accepted} accepted, {refused} refused");
}

/// How one tensor of a made-up file lies elsewhere than behind the one before it.
#[derive(Clone, Debug)]
enum Moved {
    Begin(u64),
    End(u64),
    Whole(i64),
}

/// Files close enough to valid that all verdicts happen: small shapes, ranges laid end to end, then one of them moved.
fn almost_valid() -> impl Strategy<Value = Vec<u8>> {
    let dtype = prop_oneof![
        8 => prop::sample::select(vec!["U8", "F16", "F32"]),
        1 => prop::sample::select(vec!["F4", "F6_E2M3", "F31"]),
    ];
    let dim = prop_oneof![20 => 0_u64..4, 1 => prop::sample::select(vec![1_u64 << 63, u64::MAX])];
    let shape = prop::collection::vec(dim, 0..3);
    let name = prop::sample::select(('a'..='z').collect::<Vec<_>>());
    let tensors = prop::collection::vec((name, dtype, shape), 0..5);
    let far = prop_oneof![3 => 0_u64..40, 1 => (u64::MAX - 40)..=u64::MAX];
    let moved =
        prop_oneof![far.clone().prop_map(Moved::Begin), far.prop_map(Moved::End), (-6_i64..7).prop_map(Moved::Whole),];
    let moved = prop::option::weighted(0.5, (0_usize..4, moved));
    let extra = prop_oneof![4 => Just(0_i64), 1 => -3_i64..4];
    let turn = any::<prop::sample::Index>();
    (tensors, moved, extra, turn).prop_map(|(tensors, moved, extra, turn)| {
        let mut laid = 0;
        let mut entries = Vec::new();
        for (i, (name, dtype, shape)) in tensors.into_iter().enumerate() {
            let bits = Dtype::from_name(dtype).map_or(8, Dtype::bits) as u64;
            let elements = shape.iter().fold(1_u64, |product, &dim| product.wrapping_mul(dim));
            let (mut begin, mut end) = (laid, laid + elements.wrapping_mul(bits) / 8 % 4096);
            laid = end;
            match moved {
                Some((which, Moved::Begin(to))) if which == i => begin = to,
                Some((which, Moved::End(to))) if which == i => end = to,
                Some((which, Moved::Whole(by))) if which == i => {
                    begin = begin.saturating_add_signed(by);
                    end = end.saturating_add_signed(by);
                    laid = end;
                }
                _ => {}
            }
            entries.push(entry(&name.to_string(), dtype, &shape, begin, end));
        }
        if !entries.is_empty() {
            let turn = turn.index(entries.len());
            entries.rotate_left(turn);
        }
        let size = laid.saturating_add_signed(extra) as usize;
        file(&format!("{{{}}}", entries.join(",")), &vec![0; size])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn made_up_layouts_are_judged_alike(bytes in almost_valid()) {
        let _ = judged(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = judged(&bytes);
    }

    #[test]
    fn arbitrary_headers_never_panic(header in "[\\[\\]{}\",:0-9eE.a-z\\\\ -]{0,60}", data in 0_usize..9) {
        let _ = judged(&file(&header, &vec![0; data]));
    }

    #[test]
    fn arbitrary_lengths_never_panic(length in any::<u64>(), shift in 0_u32..64) {
        let mut bytes = valid();
        bytes[..8].copy_from_slice(&(length >> shift).to_le_bytes());
        let _ = judged(&bytes);
    }

    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..6),
    ) {
        let mut bytes = valid();
        for (place, value, kind) in edits {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = value,
                1 => bytes.insert(place, value),
                2 => drop(bytes.drain(place..(place + usize::from(value) % 9 + 1).min(bytes.len()))),
                _ => bytes[place] = b"0123456789\"{}[],:"[usize::from(value) % 17],
            }
            if bytes.is_empty() {
                break;
            }
        }
        let _ = judged(&bytes);
    }
}

/// The layouts of [`almost_valid`] would prove nothing if they were all refused for one reason.
#[test]
fn made_up_layouts_meet_every_verdict() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut met = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..4000 {
        let bytes = almost_valid().new_tree(&mut runner).unwrap().current();
        let verdict = match Weights::from_bytes("made up", bytes) {
            Ok(weights) => format!("Ok of {}", weights.names().len().min(2)),
            Err(error) => format!("{error:?}").split(' ').next().unwrap_or_default().to_owned(),
        };
        *met.entry(verdict).or_default() += 1;
    }
    for verdict in [
        "Ok of 0",
        "Ok of 1",
        "Ok of 2",
        "DuplicateName",
        "UnknownDtype",
        "ShapeOverflow",
        "PartialByte",
        "SizeMismatch",
        "BackwardRange",
        "Truncated",
        "Overlap",
        "Gap",
        "TrailingBytes",
    ] {
        assert!(met.contains_key(verdict), "{verdict} was never met: {met:?}");
    }
}
