//! Decodes the formats of 32 elements with one scale each, and those with a minimum besides.

use super::half_at;

/// Elements of a block.
const N: usize = 32;

/// Element `j` of 32 packed four bits each: the first half in the low bits, the second in the high ones.
fn nibble(packed: &[u8], j: usize) -> u8 {
    let byte = packed[j % 16];
    if j < 16 { byte & 15 } else { byte >> 4 }
}

/// Element `j` of 32 of five bits each, whose highest are in `high`, one after the other.
fn five_bits(packed: &[u8], high: [u8; 4], j: usize) -> u8 {
    nibble(packed, j) | ((u32::from_le_bytes(high) >> j & 1) as u8) << 4
}

/// Scale, then 16 bytes: `(q - 8) * scale`.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; N]) {
    let scale = half_at(block, 0);
    for (j, value) in out.iter_mut().enumerate() {
        *value = (f32::from(nibble(&block[2..], j)) - 8.0) * scale;
    }
}

/// Scale and minimum, then 16 bytes: `q * scale + minimum`.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; N]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    for (j, value) in out.iter_mut().enumerate() {
        *value = f32::from(nibble(&block[4..], j)) * scale + minimum;
    }
}

/// Scale, then 4 bytes of fifth bits and 16 of the others: `(q - 16) * scale`.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; N]) {
    let scale = half_at(block, 0);
    let high = [block[2], block[3], block[4], block[5]];
    for (j, value) in out.iter_mut().enumerate() {
        *value = (f32::from(five_bits(&block[6..], high, j)) - 16.0) * scale;
    }
}

/// Scale and minimum, then 4 bytes of fifth bits and 16 of the others: `q * scale + minimum`.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; N]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let high = [block[4], block[5], block[6], block[7]];
    for (j, value) in out.iter_mut().enumerate() {
        *value = f32::from(five_bits(&block[8..], high, j)) * scale + minimum;
    }
}

/// Scale, then 32 signed bytes: `q * scale`.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; N]) {
    let scale = half_at(block, 0);
    for (value, &q) in out.iter_mut().zip(&block[2..]) {
        *value = f32::from(q as i8) * scale;
    }
}
