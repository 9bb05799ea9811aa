//! A good model's file, bent in one place: what a hostile or broken file looks like.

use super::fixture;
use lampyris::engine::weights::{Dtype, NewTensor, Weights, write_safetensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The network that is bent, and its side in pixels.
pub const NETWORK: &str = "mobilenet_v2_w025";
pub const SIDE: u32 = 64;

/// A folder with the network's configuration and this file as its weights.
pub fn folder(parent: &Path, name: &str, model: &[u8]) -> PathBuf {
    let folder = parent.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(fixture(NETWORK).join("config.json"), folder.join("config.json")).unwrap();
    std::fs::write(folder.join("model.safetensors"), model).unwrap();
    folder
}

/// The bytes of the good file.
pub fn good() -> Vec<u8> {
    std::fs::read(fixture(NETWORK).join("model.safetensors")).unwrap()
}

/// The good file with another header over the same data.
pub fn header(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let bytes = good();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]].concat()
}

/// The good file with one tensor changed, well-formed as a file.
pub fn tensor(name: &str, edit: impl FnOnce(&mut NewTensor<'_>)) -> Vec<u8> {
    let weights = Weights::open(&fixture(NETWORK).join("model.safetensors")).unwrap();
    let new = |info: &lampyris::engine::weights::TensorInfo| NewTensor {
        name: info.name.clone(),
        dtype: info.dtype,
        shape: info.shape.clone(),
        bytes: weights.bytes(&info.name).unwrap().to_vec().into(),
    };
    let mut tensors: Vec<NewTensor<'_>> = weights.tensors().iter().map(new).collect();
    edit(tensors.iter_mut().find(|tensor| tensor.name == name).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bent.safetensors");
    write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    std::fs::read(path).unwrap()
}

/// One element of a tensor of 16-bit floats.
pub fn element(name: &str, at: usize, bits: u16) -> Vec<u8> {
    tensor(name, |tensor| {
        assert_eq!(tensor.dtype, Dtype::F16);
        tensor.bytes.to_mut()[2 * at..2 * at + 2].copy_from_slice(&bits.to_le_bytes());
    })
}

/// A PNG that ends where its pixels begin, and whose header, checksum included, claims a size.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    let claim = [b"IHDR".as_slice(), &width.to_be_bytes(), &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let crc = !claim.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    });
    [b"\x89PNG\r\n\x1a\n".as_slice(), &13u32.to_be_bytes(), &claim, &crc.to_be_bytes(), b"\0\0\x01\0IDATx\x9c"].concat()
}
