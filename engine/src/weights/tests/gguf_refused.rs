//! One malformed GGUF file for every reason to refuse one, each with its part, its place and the facts.

use super::super::blocks::BlockFormat;
use super::super::gguf::{Gguf, GgufError, GgufPart, GgufProblem, MetadataValue, NewBlocks, ValueType, gguf_bytes};
use super::super::{ByteSource, WeightsError};
use super::gguf_values::parts;

/// A file by hand: what the writer would never write.
struct Hand {
    magic: [u8; 4],
    version: u32,
    tensors: u64,
    entries: u64,
    rest: Vec<u8>,
}

impl Default for Hand {
    fn default() -> Self {
        Self { magic: *b"GGUF", version: 3, tensors: 0, entries: 0, rest: Vec::new() }
    }
}

impl Hand {
    fn text(mut self, text: &[u8]) -> Self {
        self.rest.extend((text.len() as u64).to_le_bytes());
        self.rest.extend(text);
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.rest.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.rest.extend(value.to_le_bytes());
        self
    }

    fn byte(mut self, value: u8) -> Self {
        self.rest.push(value);
        self
    }

    /// The beginning of an entry: key and type.
    fn entry(mut self, key: &str, kind: u32) -> Self {
        self.entries += 1;
        self.text(key.as_bytes()).u32(kind)
    }

    /// A tensor's description, innermost dimension first.
    fn tensor(mut self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Self {
        self.tensors += 1;
        let start = self.text(name.as_bytes()).u32(dimensions.len() as u32);
        dimensions.iter().fold(start, |hand, &dim| hand.u64(dim)).u32(kind).u64(offset)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensors.to_le_bytes());
        bytes.extend(self.entries.to_le_bytes());
        bytes.extend(&self.rest);
        bytes
    }

    /// The file with `size` bytes of data behind the header.
    fn with_data(&self, size: usize) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.resize(bytes.len().next_multiple_of(32) + size, 0);
        bytes
    }
}

/// The error that `bytes` are refused with, after checking that its sentence names the file and ends with a way out.
fn refusal(bytes: Vec<u8>) -> GgufError {
    let error = Gguf::from_bytes("model.gguf", bytes).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("model.gguf: "), "{text}");
    let (_, way_out) = text.rsplit_once(';').or(text.rsplit_once(',')).unwrap();
    let verbs = ["download", "export", "convert", "get ", "open ", "put "];
    assert!(verbs.iter().any(|verb| way_out.contains(verb)), "{text}");
    assert!(text.len() < 700 && !text.contains(char::is_control), "{text}");
    match error {
        WeightsError::Gguf(error) => *error,
        other => panic!("{other:?}"),
    }
}

fn assert_refused(bytes: Vec<u8>, at: GgufPart, offset: u64, problem: GgufProblem) {
    assert_eq!(refusal(bytes), GgufError { file: "model.gguf".to_owned(), at, offset, problem });
}

fn key(key: &str) -> GgufPart {
    GgufPart::Key(key.to_owned())
}

fn tensor(name: &str) -> GgufPart {
    GgufPart::Tensor(name.to_owned())
}

#[test]
fn an_empty_file_and_the_wrong_kind() {
    assert!(matches!(Gguf::from_bytes("e", Vec::new()), Err(WeightsError::Empty { .. })));
    let hand = Hand { magic: *b"GGML", ..Hand::default() };
    assert_refused(hand.bytes(), GgufPart::Header, 0, GgufProblem::Magic { found: "GGML".to_owned() });
    let short = b"GG".to_vec();
    assert_refused(short, GgufPart::Header, 0, GgufProblem::End { needed: 4, left: 2 });
}

#[test]
fn versions_that_are_not_read() {
    for version in [0, 1, 4, 0x0001_0003] {
        let hand = Hand { version, ..Hand::default() };
        assert_refused(hand.bytes(), GgufPart::Header, 4, GgufProblem::Version { found: version });
    }
    let hand = Hand { version: 3_u32.swap_bytes(), ..Hand::default() };
    assert_refused(hand.bytes(), GgufPart::Header, 4, GgufProblem::BigEndian);
    let hand = Hand { version: 2, ..Hand::default() };
    assert_eq!(Gguf::from_bytes("two", hand.bytes()).unwrap().version(), 2);
}

#[test]
fn counts_that_the_file_cannot_hold() {
    let too_many = |what, found, limit| GgufProblem::TooMany { what, found, limit };
    for found in [(1 << 16) + 1, 1 << 62, u64::MAX] {
        let hand = Hand { tensors: found, ..Hand::default() };
        assert_refused(hand.bytes(), GgufPart::Header, 8, too_many("tensors", found, 1 << 15));
        let hand = Hand { entries: found, ..Hand::default() };
        assert_refused(hand.bytes(), GgufPart::Header, 16, too_many("metadata entries", found, 1 << 16));
    }
    let hand = Hand { tensors: 1 << 15, ..Hand::default() };
    assert_refused(hand.bytes(), GgufPart::Header, 8, GgufProblem::End { needed: 8 + 25 * (1 << 15), left: 16 });
    let hand = Hand { entries: 3, ..Hand::default() };
    assert_refused(hand.bytes(), GgufPart::Header, 16, GgufProblem::End { needed: 50, left: 8 });
}

#[test]
fn keys_that_are_none() {
    let hand = |text: &[u8]| Hand { entries: 1, ..Hand::default() }.text(text).u32(0).u64(0).bytes();
    assert_refused(hand(b"\xff\xfe"), GgufPart::Entry(0), 24, GgufProblem::NotUtf8);
    assert_refused(hand(b""), GgufPart::Entry(0), 32, GgufProblem::NoName);
    let (what, limit) = ("bytes of a key", 65535);
    for found in [65536, u64::MAX] {
        let hand = Hand { entries: 1, ..Hand::default() }.u64(found).u64(0);
        assert_refused(hand.bytes(), GgufPart::Entry(0), 24, GgufProblem::TooMany { what, found, limit });
    }
    let twice = Hand::default().entry("a", 0).byte(1).entry("b", 0).byte(1).entry("a", 7).byte(1);
    assert_refused(twice.bytes(), key("a"), 24 + 14 + 14 + 8, GgufProblem::Twice);
}

#[test]
fn values_that_are_none() {
    for found in [13, 255, u32::MAX] {
        let hand = Hand::default().entry("k", found).u64(0);
        assert_refused(hand.bytes(), key("k"), 33, GgufProblem::ValueType { found });
    }
    assert_refused(Hand::default().entry("k", 7).byte(2).bytes(), key("k"), 37, GgufProblem::Bool { found: 2 });
    let array = |kind, count| Hand::default().entry("k", 9).u32(kind).u64(count);
    let bools = array(7, 3).byte(0).byte(1).byte(9);
    assert_refused(bools.bytes(), key("k"), 51, GgufProblem::Bool { found: 9 });
    let text = Hand::default().entry("k", 8).u64(u64::MAX).u64(0);
    assert_refused(text.bytes(), key("k"), 37, GgufProblem::End { needed: u64::MAX, left: 8 });
    assert_refused(Hand::default().entry("k", 8).text(b"\xc3").bytes(), key("k"), 37, GgufProblem::NotUtf8);
    for (kind, size) in [(0, 1), (3, 2), (4, 4), (10, 8), (8, 8), (9, 12)] {
        for count in [2, 1 << 40, 1 << 61, u64::MAX] {
            let needed = size * count.min(u64::MAX / size);
            let refused = refusal(array(kind, count).bytes());
            assert_eq!((&refused.at, refused.offset), (&key("k"), 49));
            let needed = if count == u64::MAX && size > 1 { u64::MAX } else { needed };
            assert!(matches!(refused.problem, GgufProblem::End { needed: n, left: 0 } if n >= needed), "{refused:?}");
        }
    }
}

#[test]
fn arrays_in_arrays_have_a_depth() {
    let nested = |depth: u32| {
        let outer = (1..depth).fold(Hand::default().entry("k", 9), |hand, _| hand.u32(9).u64(1));
        outer.u32(0).u64(1).byte(5)
    };
    Gguf::from_bytes("deep", nested(8).bytes()).unwrap();
    assert_refused(nested(9).bytes(), key("k"), 37 + 8 * 12, GgufProblem::Nesting { limit: 8 });
    assert!(matches!(refusal(nested(20_000).bytes()).problem, GgufProblem::Nesting { .. }));
}

#[test]
fn alignments_that_are_none() {
    for found in [0, 3, 24, u32::MAX] {
        let hand = Hand::default().entry("general.alignment", 4).u32(found);
        let offset = 24 + 8 + 17 + 4;
        assert_refused(hand.bytes(), key("general.alignment"), offset, GgufProblem::Alignment { found: found.into() });
    }
    let wrong = Hand::default().entry("general.alignment", 10).u64(32);
    let problem = GgufProblem::WrongType { found: ValueType::U64, wanted: "a u32" };
    assert_refused(wrong.bytes(), key("general.alignment"), 53, problem);
}

#[test]
fn an_alignment_moves_the_data() {
    for alignment in [1_u32, 8, 64, 4096] {
        let hand = Hand::default().entry("general.alignment", 4).u32(alignment);
        let hand = hand.tensor("t", &[2], 24, 0).tensor("u", &[1], 24, alignment.next_multiple_of(2).into());
        let mut bytes = hand.bytes();
        let start = bytes.len().next_multiple_of(alignment as usize);
        bytes.resize(start + alignment.next_multiple_of(2) as usize + 1, 0);
        (bytes[start], *bytes.last_mut().unwrap()) = (7, 9);
        let file = Gguf::from_bytes("aligned", bytes).unwrap();
        assert_eq!(file.alignment(), u64::from(alignment));
        assert_eq!(*file.bytes("t").unwrap(), [7, 0]);
        assert_eq!(*file.bytes("u").unwrap(), [9]);
    }
}

#[test]
fn names_and_dimensions_that_are_none() {
    let hand = |name: &str| Hand::default().tensor(name, &[1], 24, 0).with_data(1);
    let limit = 128;
    let problem = GgufProblem::TooMany { what: "bytes of a name", found: 129, limit };
    assert_refused(hand(&"n".repeat(129)), GgufPart::TensorNumber(0), 24, problem);
    Gguf::from_bytes("long", hand(&"n".repeat(128))).unwrap();
    assert_refused(hand(""), GgufPart::TensorNumber(0), 32, GgufProblem::NoName);
    for found in [5, u32::MAX] {
        let hand = Hand { tensors: 1, ..Hand::default() }.text(b"t").u32(found).u64(1).u64(1);
        let problem = GgufProblem::TooMany { what: "dimensions", found: found.into(), limit: 4 };
        assert_refused(hand.bytes(), tensor("t"), 33, problem);
    }
    for shape in [&[1 << 33, 1 << 33][..], &[u64::MAX, 2], &[0, 1 << 63, 2]] {
        let reversed: Vec<u64> = shape.iter().rev().copied().collect();
        let refused = refusal(Hand::default().tensor("t", shape, 24, 0).with_data(1));
        assert_eq!((refused.at, refused.problem), (tensor("t"), GgufProblem::Shape { shape: reversed }));
    }
    let refused = refusal(Hand::default().tensor("t", &[64], 24, u64::MAX - 31).with_data(1));
    assert_eq!(refused.problem, GgufProblem::Shape { shape: vec![64] });
    let empty = Hand::default().tensor("t", &[0, 3], 0, 0).tensor("u", &[0], 0, 0).bytes();
    assert_eq!(Gguf::from_bytes("empty", empty).unwrap().f32("t").unwrap(), [0.0; 0]);
}

#[test]
fn types_and_rows_that_are_none() {
    for (number, name) in [(4, "Q4_2"), (5, "Q4_3"), (31, "Q4_0_4_4"), (38, "IQ4_NL_8_8")] {
        let refused = refusal(Hand::default().tensor("t", &[32], number, 0).with_data(64));
        assert_eq!((refused.at, refused.offset), (tensor("t"), 24 + 9 + 4 + 8));
        assert_eq!(refused.problem, GgufProblem::RemovedType { name });
    }
    for found in [42, 9999, u32::MAX] {
        let refused = refusal(Hand::default().tensor("t", &[32], found, 0).with_data(64));
        assert_eq!(refused.problem, GgufProblem::TensorType { found });
    }
    for (elements, format) in [(33, BlockFormat::Q4_0), (128, BlockFormat::Q6K), (1, BlockFormat::MXFP4)] {
        let refused = refusal(Hand::default().tensor("t", &[elements, 256], format.ggml_type(), 0).with_data(9000));
        assert_eq!(refused.problem, GgufProblem::PartialBlock { elements, format });
    }
}

#[test]
fn data_that_lies_wrong() {
    for found in [1, 4, 31, 33] {
        let hand = Hand::default().tensor("t", &[4], 0, found);
        assert_refused(hand.with_data(99), tensor("t"), 24, GgufProblem::Misaligned { found, alignment: 32 });
    }
    let hand = Hand::default().tensor("t", &[4], 0, 1 << 40);
    assert_refused(hand.with_data(32), tensor("t"), 64 + (1 << 40), GgufProblem::End { needed: 16, left: 0 });
    let hand = Hand::default().tensor("t", &[4], 0, 0);
    assert_refused(hand.with_data(15), tensor("t"), 64, GgufProblem::End { needed: 16, left: 15 });
    Gguf::from_bytes("fits", hand.with_data(16)).unwrap();
    let two = |offset| Hand::default().tensor("t", &[16], 0, 0).tensor("a", &[4], 0, offset).with_data(96);
    for (offset, first) in [(0, "a"), (32, "t")] {
        let refused = refusal(two(offset));
        assert!(matches!(&refused.problem, GgufProblem::Overlap { first: f } if f == "t" || f == first), "{refused:?}");
    }
    Gguf::from_bytes("apart", two(64)).unwrap();
    let twice = Hand::default().tensor("t", &[1], 0, 0).tensor("t", &[1], 0, 32).with_data(64);
    assert_refused(twice, tensor("t"), 24 + 33, GgufProblem::Twice);
}

/// The parts of a set, each called by its number.
fn set(parts: Vec<Vec<u8>>) -> Result<Gguf, WeightsError> {
    let named = parts.into_iter().enumerate();
    Gguf::from_parts(named.map(|(i, bytes)| (format!("part {i}"), Box::new(bytes) as Box<dyn ByteSource>)).collect())
}

#[test]
fn sets_that_are_none() {
    set(parts()).unwrap();
    let alone = refusal(parts().remove(1));
    assert!(
        alone.to_string().contains("this is part 2 of 3; put all into one folder as NAME-00001-of-00003.gguf"),
        "{alone}"
    );
    assert_eq!((alone.at, alone.problem), (key("split.no"), GgufProblem::Part { number: 1, count: 3 }));
    let problem = |parts| match set(parts).unwrap_err() {
        WeightsError::Gguf(error) => (error.file, error.at, error.problem),
        other => panic!("{other:?}"),
    };
    let [first, second, third] = <[Vec<u8>; 3]>::try_from(parts()).unwrap();
    let differ = |what, found, expected| GgufProblem::Set { what, found, expected };
    assert_eq!(
        problem(vec![first.clone(), second.clone()]),
        ("part 0".to_owned(), key("split.count"), differ("the number of files", 2, 3))
    );
    assert_eq!(
        problem(vec![first.clone(), third.clone(), second.clone()]),
        ("part 1".to_owned(), key("split.no"), differ("the number of the part", 2, 1))
    );
    assert!(matches!(problem(Vec::new()).2, GgufProblem::Set { expected: 1, .. }));
    let renamed = |part: &[u8], from: &[u8], to: &[u8]| {
        let at = part.windows(from.len()).position(|window| window == from).unwrap();
        [&part[..at], to, &part[at + from.len()..]].concat()
    };
    // Names have their length in front.
    let doubled = renamed(&third, b"\x01\0\0\0\0\0\0\0d", b"\x01\0\0\0\0\0\0\0a");
    assert_eq!(
        problem(vec![first.clone(), second.clone(), doubled]),
        ("part 2".to_owned(), tensor("a"), GgufProblem::Twice)
    );
    let fewer = renamed(&first, b"tensors.count\x05\0\0\0\x04", b"tensors.count\x05\0\0\0\x05");
    assert!(matches!(problem(vec![fewer, second, third]).2, GgufProblem::Set { found: 4, expected: 5, .. }));
}

#[test]
fn what_a_reader_would_refuse_is_not_written() {
    let problem =
        |metadata: &[(&str, MetadataValue)], tensors: &[NewBlocks<'_>]| match gguf_bytes("new.gguf", metadata, tensors)
            .unwrap_err()
        {
            WeightsError::Gguf(error) => error.problem,
            other => panic!("{other:?}"),
        };
    let one = || MetadataValue::U8(1);
    assert_eq!(problem(&[("a", one()), ("a", one())], &[]), GgufProblem::Twice);
    assert_eq!(problem(&[("", one())], &[]), GgufProblem::NoName);
    assert!(matches!(problem(&[("general.alignment", MetadataValue::U32(64))], &[]), GgufProblem::WrongType { .. }));
    let mixed = MetadataValue::Array(ValueType::I8, vec![one()]);
    assert!(matches!(problem(&[("a", mixed)], &[]), GgufProblem::WrongType { found: ValueType::U8, .. }));
    let deep = (0..9).fold(one(), |inner, _| MetadataValue::Array(inner.kind(), vec![inner]));
    assert_eq!(problem(&[("a", deep)], &[]), GgufProblem::Nesting { limit: 8 });
    let fine = NewBlocks { name: "t", format: BlockFormat::Q4_0, shape: &[2, 32], bytes: &[0; 36] };
    gguf_bytes::<&str>("fine", &[], &[fine]).unwrap();
    assert_eq!(problem(&[], &[fine, fine]), GgufProblem::Twice);
    assert!(matches!(
        problem(&[], &[NewBlocks { bytes: &[0; 18], ..fine }]),
        GgufProblem::Size { expected: 36, found: 18, .. }
    ));
    assert!(matches!(problem(&[], &[NewBlocks { shape: &[64, 1], ..fine }]), GgufProblem::PartialBlock { .. }));
    assert!(matches!(problem(&[], &[NewBlocks { shape: &[1, 1, 1, 2, 32], ..fine }]), GgufProblem::TooMany { .. }));
    assert!(matches!(problem(&[], &[NewBlocks { name: &"n".repeat(129), ..fine }]), GgufProblem::TooMany { .. }));
}
