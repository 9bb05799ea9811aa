//! Shards are one model by their index, both kinds of files look alike to a model's code, and what does not fit is named.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::super::blocks::BlockFormat;
use super::super::gguf::{NewBlocks, write_gguf};
use super::super::{Dtype, NewTensor, ShardError, Storage, TensorFile, Weights, WeightsError, write_safetensors};

const INDEX: &str = "model.safetensors.index.json";

fn write_shard(folder: &Path, name: &str, tensors: &[(&str, f32)]) {
    let new = |&(name, value): &(&str, f32)| NewTensor {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape: vec![1],
        bytes: Cow::Owned(value.to_le_bytes().to_vec()),
    };
    let noted = BTreeMap::from([("shard".to_owned(), name.to_owned())]);
    write_safetensors(&folder.join(name), &tensors.iter().map(new).collect::<Vec<_>>(), &noted).unwrap();
}

fn write_index(folder: &Path, map: &[(&str, &str)]) {
    let map: BTreeMap<_, _> = map.iter().copied().collect();
    let index = serde_json::json!({ "metadata": { "total_size": 12 }, "weight_map": map });
    fs::write(folder.join(INDEX), index.to_string()).unwrap();
}

/// A folder of two shards with `a`, `c` and `b`, beside the tensor `x` that the index does not name.
fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_shard(folder.path(), "one.safetensors", &[("a", 1.0), ("c", 3.0)]);
    write_shard(folder.path(), "two.safetensors", &[("b", 2.0), ("x", f32::NAN)]);
    write_index(folder.path(), &[("a", "one.safetensors"), ("b", "two.safetensors"), ("c", "one.safetensors")]);
    folder
}

#[test]
fn shards_are_one_model_by_index_and_by_folder() {
    let folder = model();
    for path in [folder.path().to_owned(), folder.path().join(INDEX)] {
        let weights = Weights::open(&path).unwrap();
        assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b", "c", "x"]);
        assert_eq!(weights.tensors().iter().map(|tensor| tensor.shard).collect::<Vec<_>>(), [0, 1, 0, 1]);
        for (name, value) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
            assert_eq!(weights.f32(name).unwrap(), [value]);
        }
        assert_eq!(weights.total_bytes(), 16);
        assert_eq!(weights.metadata()["shard"], "one.safetensors");
        assert_eq!(weights.file(), folder.path().join(INDEX).display().to_string());
        // An error names the shard, not the index.
        let error = weights.f32("x").unwrap_err().to_string();
        assert!(error.starts_with(&folder.path().join("two.safetensors").display().to_string()), "{error}");
    }
    // One whole file goes before an index.
    write_shard(folder.path(), "model.safetensors", &[("whole", 4.0)]);
    assert_eq!(Weights::open(folder.path()).unwrap().f32("whole").unwrap(), [4.0]);
}

/// The error of the folder, which must name the index and a way out.
fn refusal(folder: &Path) -> ShardError {
    let error = Weights::open(folder).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&folder.join(INDEX).display().to_string()), "{text}");
    assert!(text.contains("; ") && ["download", "export"].iter().any(|verb| text.contains(verb)), "{text}");
    match error {
        WeightsError::Shards(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_fit_the_index_is_named() {
    let folder = model();
    let path = folder.path();
    let index = || path.join(INDEX).display().to_string();
    fs::remove_file(path.join("one.safetensors")).unwrap();
    assert_eq!(refusal(path), ShardError::Missing { index: index(), shard: "one.safetensors".to_owned(), tensors: 2 });

    write_shard(path, "one.safetensors", &[("a", 1.0), ("b", 3.0)]);
    let [first, second] = ["one.safetensors", "two.safetensors"].map(str::to_owned);
    let twice =
        ShardError::Twice { index: index(), tensor: "b".to_owned(), first: first.clone(), second: second.clone() };
    assert_eq!(refusal(path), twice);

    write_shard(path, "one.safetensors", &[("a", 1.0)]);
    let absent = ShardError::Absent { index: index(), tensor: "c".to_owned(), expected: first.clone() };
    assert_eq!(refusal(path), absent);

    write_index(path, &[("a", "one.safetensors"), ("b", "one.safetensors"), ("x", "two.safetensors")]);
    let misplaced = ShardError::Misplaced { index: index(), tensor: "b".to_owned(), found: second, expected: first };
    assert_eq!(refusal(path), misplaced);

    for name in ["../one.safetensors", "/etc/passwd", "a\\b", "", "..", "c:x", "sub/one.safetensors"] {
        write_index(path, &[("a", name)]);
        assert_eq!(refusal(path), ShardError::Name { index: index(), shard: name.to_owned() });
    }
}

#[test]
fn an_index_that_is_none_is_refused() {
    let folder = model();
    for text in
        ["", "[]", "{}", r#"{"weight_map":3}"#, r#"{"weight_map":{"a":1}}"#, r#"{"weight_map":{"a":"b","a":"b"}}"#]
    {
        fs::write(folder.path().join(INDEX), text).unwrap();
        assert!(matches!(refusal(folder.path()), ShardError::Index { .. }), "{text}");
    }
    // What is wrong inside a shard is said of the shard.
    write_index(folder.path(), &[("a", "one.safetensors")]);
    fs::write(folder.path().join("one.safetensors"), "short").unwrap();
    assert!(matches!(Weights::open(folder.path()), Err(WeightsError::TooShort { size: 5, .. })));
}

#[test]
fn rows_of_plain_numbers() {
    let data: Vec<u8> = (0..24_u16).flat_map(|i| half::f16::from_f32(f32::from(i)).to_le_bytes()).collect();
    let header =
        format!("{{{},{}}}", super::entry("w", "F16", &[2, 3, 4], 0, 48), super::entry("p", "F4", &[3, 6], 48, 57));
    let bytes = super::file(&header, &[data.as_slice(), &[0; 9]].concat());
    let weights = Weights::from_bytes("rows", bytes).unwrap();
    assert_eq!(weights.rows("w", 1..3).unwrap(), &data[8..24]);
    assert_eq!(weights.f32_rows("w", 5..6).unwrap(), [20.0, 21.0, 22.0, 23.0]);
    for rows in [0..7, 7..7, usize::MAX..usize::MAX] {
        assert!(matches!(weights.f32_rows("w", rows), Err(WeightsError::RowsOutside { count: 6, .. })));
    }
    assert_eq!(weights.rows("p", 2..3).unwrap().len(), 3);
}

#[test]
fn both_kinds_of_files_look_alike() {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..6).map(|i| i as f32 / 4.0).collect();
    let plain: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let blocks = BlockFormat::Q8_0.quantize(&[0.5; 64]).unwrap().bytes;
    let (safetensors, gguf) = (folder.path().join("a.safetensors"), folder.path().join("b.gguf"));
    let new = NewTensor { name: "w".to_owned(), dtype: Dtype::F32, shape: vec![2, 3], bytes: Cow::Borrowed(&plain) };
    write_safetensors(&safetensors, &[new], &BTreeMap::new()).unwrap();
    let tensors = [
        NewBlocks { name: "w", format: BlockFormat::F32, shape: &[2, 3], bytes: &plain },
        NewBlocks { name: "q", format: BlockFormat::Q8_0, shape: &[2, 32], bytes: &blocks },
    ];
    write_gguf::<&str>(&gguf, &[], &tensors).unwrap();

    let files = [&safetensors, &gguf].map(|path| TensorFile::open(path).unwrap());
    let from_memory = TensorFile::from_bytes("memory", fs::read(&gguf).unwrap()).unwrap();
    for file in files.iter().chain([&from_memory]) {
        let w = file.get("w").unwrap();
        assert_eq!((w.name, w.shape, w.storage, w.bytes), ("w", &[2, 3][..], Storage::Plain(Dtype::F32), 24));
        assert_eq!(file.f32("w").unwrap(), values);
        assert_eq!(file.f32_rows("w", 1..2).unwrap(), values[3..]);
        assert_eq!(*file.bytes("w").unwrap(), plain);
        assert_eq!(*file.rows("w", 0..1).unwrap(), plain[..12]);
        assert_eq!(file.get("v"), None);
    }
    assert_eq!(files[0].names().collect::<Vec<_>>(), ["w"]);
    assert_eq!(files[1].names().collect::<Vec<_>>(), ["q", "w"]);
    assert_eq!(files[1].file(), gguf.display().to_string());
    let q = files[1].get("q").unwrap();
    assert_eq!((q.storage, q.storage.to_string()), (Storage::Blocks(BlockFormat::Q8_0), "Q8_0".to_owned()));
    assert_eq!(files[1].tensors().len(), 2);
    assert_eq!(files[1].f32_rows("q", 1..2).unwrap().len(), 32);
}

#[test]
fn a_folder_opens_as_the_one_model_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let opened = || TensorFile::open(folder.path());
    assert!(matches!(opened(), Err(WeightsError::NoWeights { found: 0, .. })));
    for (number, bytes) in super::gguf_values::parts().into_iter().enumerate() {
        fs::write(folder.path().join(format!("m-{:05}-of-00003.gguf", number + 1)), bytes).unwrap();
    }
    assert_eq!(opened().unwrap().names().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    write_gguf::<&str>(&folder.path().join("other.gguf"), &[], &[]).unwrap();
    let error = opened().unwrap_err();
    assert!(matches!(error, WeightsError::NoWeights { found: 2, .. }), "{error:?}");
    write_shard(folder.path(), "model.safetensors", &[("whole", 4.0)]);
    assert!(matches!(opened().unwrap(), TensorFile::Safetensors(_)));
    let missing = TensorFile::open(&folder.path().join("missing"));
    assert!(matches!(missing, Err(WeightsError::NotFound { .. })));
}
