//! Reads recorded vectors: one file a test, tensors named `in0`, `out0` and so on, the node's attributes in the metadata.

use half::{bf16, f16};
use lampyris_engine::weights::{Dtype, Weights};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A recorded tensor.
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
    bytes: Vec<u8>,
}

impl Tensor {
    /// Whether the elements are truth values.
    pub(crate) fn is_truth(&self) -> bool {
        self.dtype == Dtype::Bool
    }

    /// Whether the elements are whole numbers.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.dtype, Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8)
    }

    /// The elements as numbers, whatever their type.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        let parts = |size: usize| self.bytes.chunks_exact(size);
        match self.dtype {
            Dtype::F32 => parts(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
            Dtype::I64 => parts(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
            Dtype::I32 => parts(4).map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap()))).collect(),
            Dtype::I16 => parts(2).map(|b| f64::from(i16::from_le_bytes(b.try_into().unwrap()))).collect(),
            Dtype::F16 => parts(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect(),
            Dtype::BF16 => parts(2).map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect(),
            Dtype::I8 => self.bytes.iter().map(|byte| f64::from(*byte as i8)).collect(),
            Dtype::U8 | Dtype::Bool => self.bytes.iter().copied().map(f64::from).collect(),
            other => panic!("a tensor of {other:?} is not read by any test"),
        }
    }

    /// The elements as the engine computes with them.
    pub(crate) fn values(&self) -> Vec<f32> {
        self.numbers().iter().map(|number| *number as f32).collect()
    }

    /// The elements as whole numbers: axes, shapes, amounts.
    pub(crate) fn integers(&self) -> Vec<i64> {
        self.numbers().iter().map(|number| *number as i64).collect()
    }
}

/// One test: a node with its inputs and outputs.
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) op: String,
    pub(crate) rtol: f64,
    pub(crate) atol: f64,
    attributes: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Vector {
    /// Reads a test of the folder.
    pub(crate) fn read(folder: &Path, name: &str) -> Vector {
        let file = folder.join(format!("{name}.safetensors"));
        let weights = Weights::from_bytes(name, std::fs::read(&file).unwrap()).unwrap();
        let metadata = |key: &str| weights.metadata()[key].clone();
        let tensors = weights.tensors().iter().map(|info| {
            let bytes = weights.bytes(&info.name).unwrap().to_vec();
            (info.name.clone(), Tensor { shape: info.shape.clone(), dtype: info.dtype, bytes })
        });
        Vector {
            name: name.to_owned(),
            op: metadata("op"),
            rtol: metadata("rtol").parse().unwrap(),
            atol: metadata("atol").parse().unwrap(),
            attributes: serde_json::from_str(&metadata("attributes")).unwrap(),
            tensors: tensors.collect(),
        }
    }

    /// Input `position`, unless it was omitted.
    pub(crate) fn optional(&self, position: usize) -> Option<&Tensor> {
        self.tensors.get(&format!("in{position}"))
    }

    /// Input `position`.
    pub(crate) fn given(&self, position: usize) -> Result<&Tensor, String> {
        self.optional(position).ok_or_else(|| format!("input {position} is missing"))
    }

    /// Output `position`, unless it was not asked for.
    pub(crate) fn output(&self, position: usize) -> Option<&Tensor> {
        self.tensors.get(&format!("out{position}"))
    }

    /// The outputs that were asked for, in order.
    pub(crate) fn outputs(&self) -> Vec<&Tensor> {
        (0..self.tensors.len()).filter_map(|position| self.output(position)).collect()
    }

    /// All tensors.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.values()
    }

    /// An attribute that is a whole number.
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        self.attributes.get(name).and_then(Value::as_i64)
    }

    /// An attribute that is a real number.
    pub(crate) fn real(&self, name: &str) -> Option<f32> {
        self.attributes.get(name).and_then(Value::as_f64).map(|number| number as f32)
    }

    /// An attribute that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_str)
    }

    /// An attribute that is a list of whole numbers.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<usize>> {
        let values = self.attributes.get(name)?.as_array()?;
        values.iter().map(|value| value.as_u64().map(|number| number as usize)).collect()
    }
}

/// The names of all tests of the folder, from its index.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let entries = index.as_array().unwrap().iter();
    entries.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

/// Whether `LAMPYRIS_REQUIRE` lists `what`.
pub(crate) fn required(what: &str) -> bool {
    std::env::var("LAMPYRIS_REQUIRE").is_ok_and(|list| list.split(',').any(|item| item.trim() == what))
}

/// A folder of the test data that is not part of the repository: below `LAMPYRIS_MATERIAL`, or beside the workspace. Where it is
/// absent a skip is printed, unless `LAMPYRIS_REQUIRE` lists `material`: then the test fails.
pub(crate) fn material(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/material");
    let folder = std::env::var_os("LAMPYRIS_MATERIAL").map_or_else(beside, PathBuf::from).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(!required("material"), "no test data at {}, and LAMPYRIS_REQUIRE asks for it", folder.display());
    eprintln!("skipped: no test data at {} (set LAMPYRIS_MATERIAL)", folder.display());
    None
}
