//! Blocks of GGUF tensors as the columns of panels: the same numbers in the order in which kernels read them.

use lampyris_engine::kernels::HostTensor;
use lampyris_engine::kernels::panel::{Code, Layout};
use lampyris_engine::kernels::text::Scheme;
use lampyris_engine::weights::blocks::BlockFormat;

/// The scheme that holds a format's numbers exactly; `None` for formats that have none.
pub(super) fn scheme_of(format: BlockFormat) -> Option<Scheme> {
    Some(match format {
        BlockFormat::Q8_0 => Scheme::Q8_0,
        BlockFormat::Q4_0 => Scheme::Q4_0,
        BlockFormat::Q4_1 => Scheme::Q4_1,
        BlockFormat::Q5_0 => Scheme::Q5_0,
        BlockFormat::Q5_1 => Scheme::Q5_1,
        BlockFormat::Q2K => Scheme::Q2K,
        BlockFormat::Q3K => Scheme::Q3K,
        BlockFormat::Q4K => Scheme::Q4K,
        BlockFormat::Q5K => Scheme::Q5K,
        BlockFormat::Q6K => Scheme::Q6K,
        BlockFormat::IQ4NL => Scheme::Iq4Nl,
        BlockFormat::IQ4XS => Scheme::Iq4Xs,
        BlockFormat::MXFP4 => Scheme::Mxfp4,
        _ => return None,
    })
}

/// Whether the scales of a row of blocks are numbers; what is multiplied with them is small.
pub(super) fn is_finite(format: BlockFormat, stored: &[u8]) -> bool {
    let halves: &[usize] = match format {
        BlockFormat::Q2K => &[80, 82],
        BlockFormat::Q3K => &[108],
        BlockFormat::Q6K => &[208],
        BlockFormat::Q4_1 | BlockFormat::Q5_1 | BlockFormat::Q4K | BlockFormat::Q5K => &[0, 2],
        _ => &[0],
    };
    let finite = |block: &[u8]| match format {
        // An exponent of which twelve halves are below 2^128.
        BlockFormat::MXFP4 => block[0] <= 252,
        _ => halves.iter().all(|at| half(block, *at) & 0x7c00 != 0x7c00),
    };
    stored.chunks_exact(format.block_bytes()).all(finite)
}

/// What puts blocks into the panel of a code: where their numbers go is worked out once, for all of its rows.
pub(super) struct Unpacking {
    format: BlockFormat,
    code: Code,
    layout: Layout,
}

impl Unpacking {
    /// For rows of `columns` columns of the panel.
    pub(super) fn new(format: BlockFormat, code: Code, columns: usize) -> Unpacking {
        let share = code.columns(format.block_elements());
        Unpacking { format, code, layout: Layout::of_units(code, columns, share) }
    }

    /// Puts a row of blocks into the panel, in words that hold zero there.
    pub(super) fn row(&self, stored: &[u8], tensor: &mut HostTensor, row: usize) {
        for (at, block) in stored.chunks_exact(self.format.block_bytes()).enumerate() {
            let (first, up) = self.layout.begins(row, at);
            for (column, (word, shift)) in self.layout.places().iter().enumerate() {
                tensor.words[first + word] |= bits(self.format, self.code, block, column) << (up + shift);
            }
        }
    }
}

/// The bits that column `column` of a block's share of a panel holds.
fn bits(format: BlockFormat, code: Code, block: &[u8], column: usize) -> u32 {
    let byte = |at: usize| u32::from(block[at]);
    match code {
        Code::Exponent => byte(0),
        Code::Scale | Code::ScaleMin => half(block, 2 * column),
        Code::Scales16x6 | Code::Scales16x8 | Code::Scales8x6 => scales(format, block, column),
        Code::I8 => byte(2 + column),
        Code::U1 => high_bit(format, block, column),
        Code::U2 => {
            // 128 columns share 32 bytes; 32 columns have one shift.
            let first = match format {
                BlockFormat::Q6K => 128,
                BlockFormat::Q3K => 32,
                _ => 16,
            };
            byte(first + column / 128 * 32 + column % 32) >> (column % 128 / 32 * 2) & 3
        }
        _ => low_half(format, block, column),
    }
}

/// The lower four bits of a number.
fn low_half(format: BlockFormat, block: &[u8], column: usize) -> u32 {
    let (first, run) = match format {
        BlockFormat::Q4K => (16, 32),
        BlockFormat::Q5K => (48, 32),
        BlockFormat::Q6K => (0, 64),
        BlockFormat::IQ4XS => (8, 16),
        _ => (block.len() - 16, 16),
    };
    // Two runs of columns share as many bytes, the first in the lower halves.
    u32::from(block[first + column / (2 * run) * run + column % run]) >> (column % (2 * run) / run * 4) & 15
}

/// The one bit of a number that lies apart.
fn high_bit(format: BlockFormat, block: &[u8], column: usize) -> u32 {
    let (at, shift) = match format {
        BlockFormat::Q3K => (column % 32, column / 32),
        BlockFormat::Q5K => (16 + column % 32, column / 32),
        _ => (block.len() - 20 + column / 8, column % 8),
    };
    u32::from(block[at] >> shift & 1)
}

/// Scales of a super-block: its floats, then its small numbers, those of six bits first with their lower four bits.
fn scales(format: BlockFormat, block: &[u8], column: usize) -> u32 {
    match (format, column) {
        (BlockFormat::Q2K, 0 | 1) => half(block, 80 + 2 * column),
        (BlockFormat::Q2K, _) => u32::from(block[column - 2]),
        (BlockFormat::Q6K, 0) => half(block, 208),
        (BlockFormat::Q6K | BlockFormat::Q3K, 1) => 0,
        (BlockFormat::Q6K, _) => u32::from(block[192 + column - 2]),
        (BlockFormat::Q3K, 0) => half(block, 108),
        (BlockFormat::IQ4XS, 0) => half(block, 0),
        (BlockFormat::IQ4XS, ..9) => u32::from(block[4 + (column - 1) / 2]) >> (4 * ((column - 1) % 2)) & 15,
        (BlockFormat::IQ4XS, _) => half(block, 2) >> (2 * (column - 9)) & 3,
        (_, 0 | 1) => half(block, 2 * column),
        (_, ..18) => six_bits(format, block, column - 2) & 15,
        _ => six_bits(format, block, column - 18) >> 4,
    }
}

/// Number `i` of the 16 numbers of six bits of a super-block: in Q4_K and Q5_K the scale and the minimum of each block in turn.
fn six_bits(format: BlockFormat, block: &[u8], i: usize) -> u32 {
    let (low, high) = match (format, i / 2, i % 2) {
        (BlockFormat::Q3K, ..) => {
            let low = block[96 + i % 8] >> (i / 8 * 4) & 15;
            (low, block[104 + i % 4] >> (i / 4 * 2) & 3)
        }
        (_, j @ ..4, which) => {
            let six = block[4 + 4 * which + j] & 63;
            (six & 15, six >> 4)
        }
        (_, j, which) => (block[8 + j] >> (4 * which) & 15, block[4 * which + j] >> 6),
    };
    u32::from(low) | u32::from(high) << 4
}

fn half(block: &[u8], at: usize) -> u32 {
    u32::from(block[at]) | u32::from(block[at + 1]) << 8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;
    use lampyris_engine::kernels::Noise;

    fn formats() -> impl Iterator<Item = (BlockFormat, Scheme)> {
        BlockFormat::ALL.into_iter().filter_map(|format| Some((format, scheme_of(format)?)))
    }

    #[test]
    fn panels_of_any_block_hold_the_numbers_that_it_decodes_to() {
        for (format, scheme) in formats() {
            let (rows, k) = (35, 512);
            let mut noise = Noise::new(11);
            let bytes: Vec<u8> = (0..rows * format.row_bytes(k).unwrap()).map(|_| noise.bits() as u8).collect();
            let mut tensors: Vec<HostTensor> = scheme.descs(rows, k).into_iter().map(HostTensor::zeros).collect();
            for (code, tensor) in scheme.codes().iter().zip(&mut tensors) {
                let unpacking = Unpacking::new(format, *code, tensor.desc.last());
                for (row, stored) in bytes.chunks_exact(format.row_bytes(k).unwrap()).enumerate() {
                    unpacking.row(stored, tensor, row);
                }
            }
            let mut expected = vec![0.0f32; rows * k];
            format.dequantize(&bytes, &mut expected).unwrap();
            let weights = scheme.rows(&tensors.iter().collect::<Vec<_>>());
            let mut compared = 0;
            for (row, expected) in expected.chunks(k).enumerate() {
                for (found, expected) in weights.row(row).into_iter().zip(expected) {
                    if expected.is_finite() {
                        // The format's products are exact in f32; a difference of two is rounded once.
                        let bound = f64::from(f32::EPSILON) * f64::from(expected.abs());
                        assert!((found - f64::from(*expected)).abs() <= bound, "{format}: {found} and not {expected}");
                        compared += 1;
                    }
                }
            }
            // What has no infinite scale.
            assert!(compared > rows * k * 3 / 4, "{format}: {compared}");
        }
    }

    #[test]
    fn a_matrix_takes_no_more_room_than_in_the_file() {
        for (format, scheme) in formats() {
            let (n, k) = (4096, 4096);
            let file = n * format.row_bytes(k).unwrap();
            let device: u64 = scheme.descs(n, k).iter().map(|desc| desc.bytes()).sum();
            assert!(device as f64 <= 1.05 * file as f64, "{format}: {device} bytes of {file}");
        }
    }
}
