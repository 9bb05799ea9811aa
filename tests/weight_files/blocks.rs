//! Blocks that ggml's quantizer wrote, against the values that its decoder gives and the numbers they were made from.

use crate::support::material;
use lampyris::engine::weights::Weights;
use lampyris::engine::weights::blocks::{BlockError, BlockFormat};
use std::path::PathBuf;

/// Rows and columns of every recorded tensor.
const SHAPE: [usize; 2] = [16, 512];

fn folder() -> Option<PathBuf> {
    Some(material()?.join("gguf-quants/blocks"))
}

fn open(folder: &std::path::Path, name: &str) -> Weights {
    Weights::open(&folder.join(format!("{name}.safetensors"))).unwrap()
}

#[test]
fn every_decoded_format_has_the_recorded_values_to_the_bit() {
    let Some(folder) = folder() else { return };
    for format in BlockFormat::DECODED.into_iter().filter(|format| *format != BlockFormat::F32) {
        let recorded = open(&folder, format.name());
        assert_eq!(recorded.metadata()["ggml_type"], format.ggml_type().to_string());
        assert_eq!(recorded.metadata()["block_elements"], format.block_elements().to_string());
        assert_eq!(recorded.metadata()["block_bytes"], format.block_bytes().to_string());
        assert_eq!(recorded.get("blocks").unwrap().shape, [SHAPE[0], format.row_bytes(SHAPE[1]).unwrap()]);
        let values = recorded.f32("values").unwrap();
        let mut decoded = vec![f32::NAN; values.len()];
        format.dequantize(&recorded.bytes("blocks").unwrap(), &mut decoded).unwrap();
        for (i, (found, value)) in decoded.iter().zip(&values).enumerate() {
            assert_eq!(found.to_bits(), value.to_bits(), "{format}, element {i}: {found} for {value}");
        }
    }
}

#[test]
fn other_formats_have_the_recorded_sizes_and_are_refused() {
    let Some(folder) = folder() else { return };
    let others =
        ["IQ1_M", "IQ1_S", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_S", "IQ3_XXS", "NVFP4", "Q1_0", "TQ1_0", "TQ2_0"];
    for name in others {
        let format = BlockFormat::from_name(name).unwrap();
        let recorded = open(&folder, name);
        assert_eq!(recorded.metadata()["ggml_type"], format.ggml_type().to_string());
        assert_eq!(recorded.get("blocks").unwrap().shape, [SHAPE[0], format.row_bytes(SHAPE[1]).unwrap()]);
        let mut values = vec![0.0; SHAPE[0] * SHAPE[1]];
        let refused = format.dequantize(&recorded.bytes("blocks").unwrap(), &mut values).unwrap_err();
        assert_eq!(refused, BlockError::NotDecoded { format });
    }
}

#[test]
fn plain_formats_encode_to_the_recorded_bytes() {
    let Some(folder) = folder() else { return };
    let source = open(&folder, "source").f32("source").unwrap();
    for name in ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"] {
        let format = BlockFormat::from_name(name).unwrap();
        let recorded = open(&folder, name);
        let bytes = recorded.bytes("blocks").unwrap();
        let encoded = format.quantize(&source).unwrap();
        let first = encoded.bytes.iter().zip(bytes.iter()).position(|(ours, theirs)| ours != theirs);
        assert_eq!((first, encoded.bytes.len()), (None, bytes.len()), "{name}");
    }
}

/// The reference's encoder makes some error on each row; ours may not make more than a hair more, row by row.
#[test]
fn k_formats_encode_as_closely_as_the_recorded_blocks() {
    const HAIR: f64 = 1.03;
    let Some(folder) = folder() else { return };
    let source = open(&folder, "source").f32("source").unwrap();
    for format in [
        BlockFormat::Q2K,
        BlockFormat::Q3K,
        BlockFormat::Q4K,
        BlockFormat::Q5K,
        BlockFormat::Q6K,
        BlockFormat::IQ4NL,
        BlockFormat::IQ4XS,
    ] {
        let theirs = open(&folder, format.name()).f32("values").unwrap();
        for (row, (values, theirs)) in source.chunks(SHAPE[1]).zip(theirs.chunks(SHAPE[1])).enumerate() {
            let ours = format.quantize(values).unwrap().relative_error;
            let apart: f64 = values.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            let whole: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
            let theirs = if whole == 0.0 { 0.0 } else { (apart / whole).sqrt() };
            assert!(ours <= theirs * HAIR, "{format} row {row}: {ours} here, {theirs} recorded");
        }
    }
}
