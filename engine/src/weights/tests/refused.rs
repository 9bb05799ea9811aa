//! One hostile or damaged file for every reason to refuse one, each with the facts its error must carry.

use super::super::{Dtype, TensorFile, Weights, WeightsError};
use super::{entry, file};

/// The error that `bytes` are refused with, after checking that its sentence names the file and ends with a way out.
fn refusal(bytes: Vec<u8>) -> WeightsError {
    let error = Weights::from_bytes("model.safetensors", bytes).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("model.safetensors: "), "{text}");
    let (_, way_out) = text.rsplit_once(';').unwrap();
    let verbs = ["download", "export", "convert", "get the", "fetch", "rename", "use", "name the", "unpack"];
    assert!(verbs.iter().any(|verb| way_out.contains(verb)), "{text}");
    assert!(text.len() < 700, "{text}");
    assert!(!text.contains(char::is_control), "{text}");
    error
}

/// The refusal of a file with this one entry and this much data.
fn refusal_of(entry: &str, data: usize) -> WeightsError {
    refusal(file(&format!("{{{entry}}}"), &vec![0; data]))
}

/// Asserts the variant and, of its fields, those that are given.
macro_rules! assert_refused {
    ($error:expr, $variant:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        let error = $error;
        let is_variant = matches!(error, WeightsError::$variant { .. });
        assert!(is_variant, "expected {}, got {error:?}", stringify!($variant));
        $(
            // Taken before the field is bound, whose name would hide a variable of that name.
            let expected = $value;
            if let WeightsError::$variant { $field, .. } = &error {
                assert_eq!(*$field, expected, "{} of {error:?}", stringify!($field));
            }
        )*
    }};
}

#[test]
fn an_empty_file() {
    assert_refused!(refusal(Vec::new()), Empty {});
}

#[test]
fn a_file_shorter_than_its_length() {
    for size in 1..8 {
        assert_refused!(refusal(vec![0; size]), TooShort { size: size });
    }
}

#[test]
fn a_header_that_runs_past_the_end() {
    let mut bytes = file("{}", &[]);
    bytes[0] = 200;
    assert_refused!(refusal(bytes), HeaderPastEnd { size: 10, declared: 200_u64 });
}

#[test]
fn a_header_over_the_limit_and_up_to_the_largest_number() {
    for declared in [100_000_001, u64::from(u32::MAX), 1 << 63, u64::MAX - 8, u64::MAX - 7, u64::MAX] {
        let mut bytes = file("{}", &[]);
        bytes[..8].copy_from_slice(&declared.to_le_bytes());
        assert_refused!(refusal(bytes), HeaderTooLarge { declared: declared, limit: 100_000_000_u64 });
    }
    let mut at_the_limit = file("{}", &[]);
    at_the_limit[..8].copy_from_slice(&100_000_000_u64.to_le_bytes());
    assert_refused!(refusal(at_the_limit), HeaderPastEnd { declared: 100_000_000_u64 });
}

#[test]
fn a_file_of_another_kind_by_its_first_bytes() {
    for (start, expected) in [
        ("version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("GGUF\u{3}\0\0\0\0\0\0\0", "a GGUF file"),
        ("PK\u{3}\u{4}\0\0\u{8}\u{8}\0\0\0\0", "a zip archive (PyTorch saves those)"),
        ("<!doctype html><title>404</title>", "a web page"),
        ("{\n  \"architectures\": [\"LlamaForCausalLM\"]\n}\n", "JSON text"),
        ("\u{FEFF}[1, 2, 3, 4, 5]", "JSON text"),
        ("# A model\n\nIt tells stories.\n", "text"),
        ("<!-- a note -->\n# A model\n", "text"),
        // The 64th byte, up to which a file is looked at, is the first of a character of two.
        (&("a".repeat(63) + "\u{e9} and more"), "text"),
        ("GIF89a\u{8}\0\u{8}\0", "a picture"),
        ("%PDF-1.7\n", "a PDF document"),
    ] {
        assert_refused!(refusal(start.into()), OtherFormat { found: expected });
    }
    for (start, expected) in [
        (&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], "a picture"),
        (&b"\xFF\xD8\xFF\xE0\0\x10JFIF\0"[..], "a picture"),
        (&b"BM\x36\x10\x0e\0\0\0\0\0"[..], "a picture"),
        (&b"\x80\x02\x8a\nl\xfc\x9cF\xf9"[..], "a pickle (PyTorch saved those)"),
        (&b"\x1f\x8b\x08\0\x11\x22\x33\x44\0\x03"[..], "a compressed file"),
    ] {
        let bytes = [start, &[0; 40]].concat();
        assert_refused!(refusal(bytes), OtherFormat { found: expected });
    }
    let words = refusal("# A model\n\nIt tells stories.\n".into()).to_string();
    for word in ["this is text", ".safetensors", ".gguf", "folder"] {
        assert!(words.contains(word), "{words}");
    }
}

#[test]
fn a_header_that_is_not_text() {
    let mut bytes = file(r#"{"abc":0}"#, &[]);
    bytes[11] = 0xff;
    assert_refused!(refusal(bytes), HeaderNotUtf8 { offset: 11 });
}

#[test]
fn a_header_that_is_not_an_object() {
    for header in ["", "[]", "null", "{", "{}{}", "{\"a", "{]", "{}\0"] {
        assert_refused!(refusal(file(header, &[])), HeaderNotJson {});
    }
    let nested = "[".repeat(100_000);
    assert_refused!(refusal(file(&nested, &[])), HeaderNotJson {});
}

#[test]
fn an_entry_that_is_not_a_tensor() {
    for value in [
        "{}",
        "3",
        "null",
        r#"{"dtype":"U8","shape":[1]}"#,
        r#"{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":[1],"data_offsets":[0]}"#,
        r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}"#,
        r#"{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}"#,
    ] {
        let error = refusal(file(&format!(r#"{{"conv.weight":{value}}}"#), &[0]));
        assert_refused!(error, BadEntry { entry: "conv.weight" });
    }
}

#[test]
fn metadata_that_is_not_text_by_text_or_there_twice() {
    for header in [
        r#"{"__metadata__":{"format":1}}"#,
        r#"{"__metadata__":"pt"}"#,
        r#"{"__metadata__":{"a":"1","a":"2"}}"#,
        r#"{"__metadata__":{},"__metadata__":{}}"#,
    ] {
        assert_refused!(refusal(file(header, &[])), BadEntry { entry: "__metadata__" });
    }
}

#[test]
fn two_tensors_of_one_name() {
    let once = entry("a", "U8", &[2], 0, 2);
    assert_refused!(refusal_of(&format!("{once},{once}"), 2), DuplicateName { tensor: "a" });
    let again = entry("a", "U8", &[2], 2, 4);
    assert_refused!(refusal_of(&format!("{once},{again}"), 4), DuplicateName { tensor: "a" });
    // Spelled differently in JSON, the same name all the same.
    let escaped = again.replace("\"a\"", "\"\\u0061\"");
    assert_refused!(refusal_of(&format!("{once},{escaped}"), 4), DuplicateName { tensor: "a" });
}

#[test]
fn an_unknown_type() {
    for dtype in ["F31", "f32", "", "I4"] {
        let error = refusal_of(&entry("a", dtype, &[1], 0, 4), 4);
        assert_refused!(error, UnknownDtype { tensor: "a", dtype: dtype });
    }
}

#[test]
fn a_shape_too_large_to_count() {
    for shape in [&[u64::MAX, 2][..], &[1 << 32, 1 << 32], &[1 << 62], &[u64::MAX], &[1 << 40, 1 << 40, 0]] {
        let error = refusal_of(&entry("a", "F32", shape, 0, 4), 4);
        assert_refused!(error, ShapeOverflow { tensor: "a", shape: shape });
    }
}

#[test]
fn packed_elements_that_end_inside_a_byte() {
    assert_refused!(refusal_of(&entry("a", "F4", &[3], 0, 2), 2), PartialByte { tensor: "a", dtype: Dtype::F4 });
}

#[test]
fn a_size_that_is_not_type_times_shape() {
    for end in [0, 23, 25, 48] {
        assert_refused!(
            refusal_of(&entry("a", "F32", &[2, 3], 0, end), end as usize),
            SizeMismatch { tensor: "a", expected: 24_u64, found: end, dtype: Dtype::F32, shape: [2, 3] }
        );
    }
}

#[test]
fn a_range_that_ends_before_it_begins() {
    for (begin, end) in [(4, 0), (u64::MAX, 0), (u64::MAX, u64::MAX - 1)] {
        assert_refused!(
            refusal_of(&entry("a", "U8", &[4], begin, end), 4),
            BackwardRange { tensor: "a", begin: begin, end: end }
        );
    }
}

#[test]
fn data_behind_the_end_of_the_file() {
    let (a, b) = (entry("b", "U8", &[4], 0, 4), entry("a", "U8", &[100], 4, 104));
    let header = format!("{{{a},{b}}}");
    let whole = 8 + header.len() as u64 + 104;
    for cut in 1..=100 {
        let bytes = file(&header, &vec![0; 104 - cut]);
        let size = bytes.len() as u64;
        assert_refused!(refusal(bytes), Truncated { tensor: "a", size: size, needed: whole });
    }
    assert_refused!(refusal(file(&header, &[0; 3])), Truncated { tensor: "b", needed: whole });
    // A range at the end of what can be counted at all.
    let far = entry("far", "U8", &[4], u64::MAX - 4, u64::MAX);
    assert_refused!(refusal_of(&far, 4), Truncated { tensor: "far", needed: u64::MAX });
    let all = entry("all", "U8", &[1 << 60], 0, 1 << 60);
    assert_refused!(refusal_of(&all, 4), Truncated { tensor: "all" });
}

#[test]
fn tensors_that_share_bytes() {
    for (second, offset) in [((0, 4), 0), ((2, 6), 2), ((3, 7), 3), ((1, 3), 1), ((2, 2), 2)] {
        let (begin, end) = second;
        let header = format!("{{{},{}}}", entry("x", "U8", &[end - begin], begin, end), entry("w", "U8", &[4], 0, 4));
        let data = vec![0; end.max(4) as usize];
        let error = refusal(file(&header, &data));
        assert!(matches!(error, WeightsError::Overlap { .. }), "{error:?}");
        assert_refused!(error, Overlap { offset: 8 + header.len() + offset });
    }
}

#[test]
fn bytes_that_belong_to_no_tensor() {
    let header = format!("{{{},{}}}", entry("a", "U8", &[4], 0, 4), entry("b", "U8", &[4], 7, 11));
    let bytes = file(&header, &[0; 11]);
    assert_refused!(refusal(bytes), Gap { tensor: "b", offset: 8 + header.len() + 4, size: 3 });
    assert_refused!(refusal_of(&entry("a", "U8", &[4], 1, 5), 5), Gap { tensor: "a", size: 1 });

    let mut bytes = file(&header.replace("[7, 11]", "[4, 8]").replace("[7,11]", "[4,8]"), &[0; 9]);
    let size = bytes.len();
    assert_refused!(refusal(bytes.clone()), TrailingBytes { size: size, expected: size - 1 });
    bytes.pop();
    assert_eq!(Weights::from_bytes("whole", bytes).unwrap().total_bytes(), 8);
    assert_refused!(refusal(file("{}", &[0])), TrailingBytes { size: 11, expected: 10 });
}

#[test]
fn names_cannot_reach_the_terminal_raw_or_at_length() {
    let name = "\\u001b[31m\\u202e".to_owned() + &"long".repeat(10_000);
    let error = refusal_of(&entry(&name, "F31", &[1], 0, 1), 1);
    let text = error.to_string();
    assert!(text.contains(r"\u{1b}[31m\u{202e}long"), "{text}");
    let many = refusal_of(&entry("a", "U8", &[1; 1000], 0, 2), 2);
    assert!(many.to_string().contains("[1, 1, 1, 1, 1, 1, 1, 1, ... 1000 dimensions]"), "{many}");
}

#[test]
fn a_damaged_file_is_told_by_its_ending_and_another_kind_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        TensorFile::open(&path).unwrap_err().to_string()
    };
    for start in [&b"GGUX\x03\0\0\0and more"[..], &[0; 64], &[7; 64], b"GG"] {
        let (named, other) = (open("model.gguf", start), open("model.safetensors", start));
        assert!(!named.contains("safetensors") && !other.contains("GGUF"), "{named}\n{other}");
    }
    let page = open("page.gguf", b"<!DOCTYPE html><html></html>");
    assert!(!page.contains("instead of `GGUF`"), "{page}");
}

#[test]
fn missing_files_and_what_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.safetensors");
    let error = Weights::open(&missing).unwrap_err();
    assert_refused!(error, NotFound { file: missing.display().to_string() });
    let error = Weights::open(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("give the path of a file"));
    assert_refused!(error, NoWeights { folder: folder.path().display().to_string(), found: 0_usize });

    let empty = folder.path().join("empty.safetensors");
    std::fs::write(&empty, []).unwrap();
    assert_refused!(Weights::open(&empty).unwrap_err(), Empty { file: empty.display().to_string() });
}

#[cfg(unix)]
#[test]
fn a_device_is_not_read() {
    let error = Weights::open("/dev/zero".as_ref()).unwrap_err();
    assert_refused!(error, NotAFile { found: "a device or a pipe" });
}
