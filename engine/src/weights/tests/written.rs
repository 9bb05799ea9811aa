//! Files written here read back the same, here and by the format's own crate, and a failed write leaves nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use safetensors::SafeTensors;

use super::super::{Dtype, NewTensor, Weights, WeightsError, write_safetensors};

fn tensor(name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> NewTensor<'static> {
    NewTensor { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes: Cow::Owned(bytes) }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Tensors of any type with distinct names and as many bytes as they need.
fn tensors() -> impl Strategy<Value = Vec<NewTensor<'static>>> {
    let shape = proptest::collection::vec(0_usize..5, 0..4);
    let one = (0..Dtype::ALL.len(), shape, any::<u8>()).prop_map(|(dtype, mut shape, fill)| {
        let dtype = Dtype::ALL[dtype];
        shape.push(if dtype.bits() < 8 { 8 } else { 1 });
        let size = shape.iter().product::<usize>() * dtype.bits() / 8;
        let bytes = (0..size).map(|i| fill.wrapping_add(i as u8)).collect();
        tensor("", dtype, &shape, bytes)
    });
    proptest::collection::btree_map("\\PC{0,12}", one, 0..8).prop_map(|named| {
        let rename = |(name, tensor)| NewTensor { name, ..tensor };
        named.into_iter().map(rename).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_reads_back(
        tensors in tensors(),
        metadata in proptest::collection::btree_map("\\PC{0,9}", "\\PC{0,9}", 0..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write_safetensors(&path, &tensors, &metadata).unwrap();
        prop_assert_eq!(names_in(folder.path()), ["model.safetensors"]);

        let weights = Weights::open(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let judge = SafeTensors::deserialize(&bytes).unwrap();
        prop_assert_eq!(judge.len(), tensors.len());
        prop_assert_eq!(weights.names().len(), tensors.len());
        prop_assert_eq!(weights.metadata(), &metadata);
        for tensor in &tensors {
            let info = weights.get(&tensor.name).unwrap();
            prop_assert_eq!(info.dtype, tensor.dtype);
            prop_assert_eq!(&info.shape, &tensor.shape);
            prop_assert_eq!(weights.bytes(&tensor.name).unwrap(), &*tensor.bytes);
            prop_assert_eq!(info.range.start % tensor.dtype.bits().div_ceil(8), 0);
            let judged = judge.tensor(&tensor.name).unwrap();
            prop_assert_eq!(judged.data(), &*tensor.bytes);
            prop_assert_eq!(judged.shape(), &tensor.shape);
        }
    }
}

#[test]
fn equal_tensors_give_equal_files_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let metadata: BTreeMap<_, _> = (0..20).map(|i| (format!("k{i}"), "v".to_owned())).collect();
    let mut tensors = vec![
        tensor("small", Dtype::I8, &[3], vec![1, 2, 3]),
        tensor("b", Dtype::F32, &[1], vec![0; 4]),
        tensor("a", Dtype::F32, &[], vec![1; 4]),
    ];
    let mut written = Vec::new();
    for turn in 0..3 {
        let path = folder.path().join(format!("{turn}.safetensors"));
        write_safetensors(&path, &tensors, &metadata).unwrap();
        written.push(fs::read(&path).unwrap());
        tensors.rotate_left(1);
    }
    assert_eq!(written[0], written[1]);
    assert_eq!(written[0], written[2]);
}

#[test]
fn a_mapped_file_survives_being_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let write = |fill| {
        let tensors = [tensor("t", Dtype::U8, &[5000], vec![fill; 5000])];
        write_safetensors(&path, &tensors, &BTreeMap::new())
    };
    write(1).unwrap();
    let old = Weights::open(&path).unwrap();
    if cfg!(unix) {
        write(2).unwrap();
        assert_eq!(Weights::open(&path).unwrap().bytes("t").unwrap(), [2; 5000].as_slice());
    }
    assert_eq!(old.bytes("t").unwrap(), [1; 5000].as_slice());
}

#[cfg(unix)]
#[test]
fn a_written_file_has_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (written, usual) = (folder.path().join("written"), folder.path().join("usual"));
    write_safetensors(&written, &[], &BTreeMap::new()).unwrap();
    fs::write(&usual, []).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&written), mode(&usual));
}

#[test]
fn what_a_reader_would_refuse_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let write = |tensors: &[NewTensor<'_>]| {
        let error = write_safetensors(&path, tensors, &BTreeMap::new()).unwrap_err();
        assert!(names_in(folder.path()).is_empty());
        error
    };
    let fine = tensor("a", Dtype::U8, &[2], vec![0; 2]);
    assert!(matches!(
        write(&[tensor("a", Dtype::F32, &[2], vec![0; 7])]),
        WeightsError::SizeMismatch { expected: 8, found: 7, .. }
    ));
    assert!(matches!(write(&[tensor("a", Dtype::F4, &[3], vec![0; 2])]), WeightsError::PartialByte { .. }));
    assert!(matches!(write(&[tensor("a", Dtype::U8, &[usize::MAX, 2], vec![])]), WeightsError::ShapeOverflow { .. }));
    assert!(matches!(write(&[fine.clone(), fine]), WeightsError::DuplicateName { .. }));
    for metadata in [BTreeMap::new(), BTreeMap::from([("a".to_owned(), "b".to_owned())])] {
        let reserved = [tensor("__metadata__", Dtype::U8, &[], vec![0])];
        let error = write_safetensors(&path, &reserved, &metadata).unwrap_err();
        assert!(matches!(error, WeightsError::ReservedName { .. }), "{error:?}");
    }
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    // A directory that is not empty cannot be renamed over.
    let path = folder.path().join("model.safetensors");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "kept").unwrap();
    let tensors = [tensor("a", Dtype::U8, &[1], vec![0])];
    let error = write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, WeightsError::Io { .. }), "{error:?}");
    assert_eq!(names_in(folder.path()), ["model.safetensors"]);
    assert_eq!(fs::read(path.join("inside")).unwrap(), b"kept");

    let nowhere = folder.path().join("missing").join("model.safetensors");
    assert!(matches!(
        write_safetensors(&nowhere, &tensors, &BTreeMap::new()),
        Err(WeightsError::Io { action: "create a file beside it", .. })
    ));
}
