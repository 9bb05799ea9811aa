//! Block quantization: what the numbers of a GGUF tensor are stored as, decoded exactly and encoded again.
//!
//! A row of a tensor is cut into blocks of a fixed number of elements, and a block is a fixed number of bytes: one or two
//! scales and the elements as small integers. [`BlockFormat`] names every type that GGUF files use with its sizes, so that
//! any file can be listed; [`DECODED`](BlockFormat::DECODED) are those that become numbers. The layouts are ggml's
//! (`ggml-common.h`), and the decoded values are its values to the bit: each is one product, or a product and a
//! subtraction, rounded after each operation.

mod affine;
mod error;
mod format;
mod four_bit;
mod k;
mod quantize;
mod quantize_k;
mod quantize_low;

pub use error::BlockError;
pub use format::BlockFormat;

use half::{bf16, f16};

/// Numbers in blocks, and what that cost.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Quantized {
    /// The blocks, one after the other.
    pub bytes: Vec<u8>,
    /// What decoding gives against what was encoded: the root of the sum of squared differences over that of the squared
    /// values. 0 where all values are 0.
    pub relative_error: f64,
}

impl BlockFormat {
    /// Decodes whole blocks into `values`, which takes exactly as many elements.
    ///
    /// Scales that are not finite give values that are not; it is for the caller to look.
    ///
    /// # Errors
    /// [`BlockError::NotDecoded`] for a format outside of [`DECODED`](Self::DECODED), [`BlockError::Length`] if `bytes` are
    /// not whole blocks or `values` have another length.
    pub fn dequantize(self, bytes: &[u8], values: &mut [f32]) -> Result<(), BlockError> {
        let whole = bytes.len().is_multiple_of(self.block_bytes());
        if !whole
            || bytes.len() / self.block_bytes() != values.len() / self.block_elements()
            || !self.divides(values.len())
        {
            return Err(BlockError::Length { format: self, bytes: bytes.len(), elements: values.len() });
        }
        match self {
            Self::F32 => each(bytes, values, |block, out: &mut [f32; 1]| out[0] = f32::from_le_bytes(*block)),
            Self::F16 => each(bytes, values, |block, out: &mut [f32; 1]| out[0] = f16::from_le_bytes(*block).to_f32()),
            Self::BF16 => {
                each(bytes, values, |block, out: &mut [f32; 1]| out[0] = bf16::from_le_bytes(*block).to_f32())
            }
            Self::Q4_0 => each(bytes, values, affine::q4_0),
            Self::Q4_1 => each(bytes, values, affine::q4_1),
            Self::Q5_0 => each(bytes, values, affine::q5_0),
            Self::Q5_1 => each(bytes, values, affine::q5_1),
            Self::Q8_0 => each(bytes, values, affine::q8_0),
            Self::Q2K => each(bytes, values, k::q2),
            Self::Q3K => each(bytes, values, k::q3),
            Self::Q4K => each(bytes, values, k::q4),
            Self::Q5K => each(bytes, values, k::q5),
            Self::Q6K => each(bytes, values, k::q6),
            Self::IQ4NL => each(bytes, values, four_bit::iq4_nl),
            Self::IQ4XS => each(bytes, values, four_bit::iq4_xs),
            Self::MXFP4 => each(bytes, values, four_bit::mxfp4),
            _ => return Err(BlockError::NotDecoded { format: self }),
        }
        Ok(())
    }

    /// Encodes `values`, whole blocks of them.
    ///
    /// Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 give the bytes that ggml's reference gives. Q2_K to Q6_K, IQ4_NL and IQ4_XS search
    /// scales as it does, by weighted least squares over a fan of candidates, and need not agree with it in every byte; of the small scales of Q2_K
    /// and Q3_K, whose rounding is coarse, those near the rounded ones are tried by the plain squared loss.
    ///
    /// # Errors
    /// [`BlockError::NotEncoded`] for a format outside of [`ENCODED`](Self::ENCODED), [`BlockError::Length`] if `values` are
    /// not whole blocks, [`BlockError::NotFinite`] for the first value that is no finite number or whose block needs a scale
    /// beyond half precision.
    pub fn quantize(self, values: &[f32]) -> Result<Quantized, BlockError> {
        if !self.divides(values.len()) {
            return Err(BlockError::Length { format: self, bytes: 0, elements: values.len() });
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(BlockError::NotFinite { format: self, index, value: values[index] });
        }
        let mut bytes = vec![0; values.len() / self.block_elements() * self.block_bytes()];
        match self {
            Self::F32 => each_back(values, &mut bytes, |[value]: &[f32; 1], out| *out = value.to_le_bytes()),
            Self::F16 => each_back(values, &mut bytes, |[v]: &[f32; 1], out| *out = f16::from_f32(*v).to_le_bytes()),
            Self::BF16 => each_back(values, &mut bytes, |[v]: &[f32; 1], out| *out = bf16::from_f32(*v).to_le_bytes()),
            Self::Q4_0 => each_back(values, &mut bytes, quantize::q4_0),
            Self::Q4_1 => each_back(values, &mut bytes, quantize::q4_1),
            Self::Q5_0 => each_back(values, &mut bytes, quantize::q5_0),
            Self::Q5_1 => each_back(values, &mut bytes, quantize::q5_1),
            Self::Q8_0 => each_back(values, &mut bytes, quantize::q8_0),
            Self::Q2K => each_back(values, &mut bytes, quantize_low::q2),
            Self::Q3K => each_back(values, &mut bytes, quantize_low::q3),
            Self::Q4K => each_back(values, &mut bytes, quantize_k::q4),
            Self::Q5K => each_back(values, &mut bytes, quantize_k::q5),
            Self::Q6K => each_back(values, &mut bytes, quantize_k::q6),
            Self::IQ4NL => each_back(values, &mut bytes, quantize_low::iq4_nl),
            Self::IQ4XS => each_back(values, &mut bytes, quantize_low::iq4_xs),
            Self::MXFP4 => each_back(values, &mut bytes, quantize_low::mxfp4),
            _ => return Err(BlockError::NotEncoded { format: self }),
        }
        let relative_error = self.relative_error(values, &bytes)?;
        Ok(Quantized { bytes, relative_error })
    }

    /// How far `bytes` decode from `values`, as [`Quantized::relative_error`] says it.
    fn relative_error(self, values: &[f32], bytes: &[u8]) -> Result<f64, BlockError> {
        let mut decoded = vec![0.0; self.block_elements()];
        let (mut apart, mut whole) = (0.0, 0.0);
        let blocks = values.chunks(self.block_elements()).zip(bytes.chunks(self.block_bytes()));
        for (number, (values, block)) in blocks.enumerate() {
            self.dequantize(block, &mut decoded)?;
            for (i, (&value, &back)) in values.iter().zip(&decoded).enumerate() {
                if !back.is_finite() {
                    return Err(BlockError::NotFinite { format: self, index: number * values.len() + i, value });
                }
                apart += (f64::from(value) - f64::from(back)).powi(2);
                whole += f64::from(value).powi(2);
            }
        }
        Ok(if whole == 0.0 { apart.sqrt() } else { (apart / whole).sqrt() })
    }
}

/// Decodes block after block.
fn each<const B: usize, const N: usize>(bytes: &[u8], values: &mut [f32], decode: impl Fn(&[u8; B], &mut [f32; N])) {
    let (blocks, _) = bytes.as_chunks::<B>();
    let (runs, _) = values.as_chunks_mut::<N>();
    blocks.iter().zip(runs).for_each(|(block, run)| decode(block, run));
}

/// Encodes block after block.
fn each_back<const N: usize, const B: usize>(
    values: &[f32],
    bytes: &mut [u8],
    encode: impl Fn(&[f32; N], &mut [u8; B]),
) {
    let (runs, _) = values.as_chunks::<N>();
    let (blocks, _) = bytes.as_chunks_mut::<B>();
    runs.iter().zip(blocks).for_each(|(run, block)| encode(run, block));
}

/// The half-precision number at byte `at` of a block.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Puts `value`, rounded to half precision, at byte `at` of a block.
fn put_half(block: &mut [u8], at: usize, value: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}
