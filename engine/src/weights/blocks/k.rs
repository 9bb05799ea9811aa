//! Decodes the K formats: 256 elements in sub-blocks of 16 or 32, whose scales are small integers under a common one.

use super::half_at;

/// Elements of a block.
const N: usize = 256;

/// The eight scales and minimums of Q4_K and Q5_K: six bits each, in 12 bytes.
pub(super) fn scale_and_minimum(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        return (packed[j] & 63, packed[j + 4] & 63);
    }
    let low = packed[j + 4];
    (low & 15 | packed[j - 4] >> 6 << 4, low >> 4 | packed[j] >> 6 << 4)
}

/// 16 bytes of scales and minimums of four bits for 16 elements each, 64 of elements of two bits, common scale, common minimum.
pub(super) fn q2(block: &[u8; 84], out: &mut [f32; N]) {
    let (scale, minimum) = (half_at(block, 80), half_at(block, 82));
    for (i, out) in out.chunks_exact_mut(16).enumerate() {
        let packed = two_bits_at(i);
        let step = scale * f32::from(block[i] & 15);
        let base = minimum * f32::from(block[i] >> 4);
        for (value, &byte) in out.iter_mut().zip(&block[16 + packed.0..]) {
            *value = step * f32::from(byte >> packed.1 & 3) - base;
        }
    }
}

/// Where the two bits of the elements of the `i`-th 16 are: the first byte, and the shift.
pub(super) fn two_bits_at(i: usize) -> (usize, usize) {
    // 128 elements share 32 bytes; 32 elements have one shift.
    (i / 8 * 32 + i % 2 * 16, i % 8 / 2 * 2)
}

/// 32 bytes of third bits, 64 of the other two, 12 of scales of six bits for 16 elements each, common scale.
pub(super) fn q3(block: &[u8; 110], out: &mut [f32; N]) {
    let scale = half_at(block, 108);
    let scales = &block[96..108];
    for (i, out) in out.chunks_exact_mut(16).enumerate() {
        let low = if i < 8 { scales[i] & 15 } else { scales[i - 8] >> 4 };
        let high = scales[8 + i % 4] >> (2 * (i / 4)) & 3;
        let step = scale * (f32::from(low | high << 4) - 32.0);
        let (first, shift) = two_bits_at(i);
        for (j, value) in out.iter_mut().enumerate() {
            let third = block[i % 2 * 16 + j] >> (i / 2) & 1;
            let q = block[32 + first + j] >> shift & 3 | third << 2;
            *value = step * (f32::from(q) - 4.0);
        }
    }
}

/// Common scale and minimum, 12 bytes of [`scale_and_minimum`] for 32 elements each, 128 bytes of elements.
pub(super) fn q4(block: &[u8; 144], out: &mut [f32; N]) {
    affine(half_at(block, 0), half_at(block, 2), &block[4..16], out, |i, j| four_bits(&block[16..], i, j));
}

/// As [`q4`], with 32 bytes of fifth bits before the others.
pub(super) fn q5(block: &[u8; 176], out: &mut [f32; N]) {
    affine(half_at(block, 0), half_at(block, 2), &block[4..16], out, |i, j| {
        four_bits(&block[48..], i, j) | (block[16 + j] >> i & 1) << 4
    });
}

/// Element `j` of the `i`-th 32: two runs share 32 bytes, the first in the low bits.
fn four_bits(packed: &[u8], i: usize, j: usize) -> u8 {
    packed[i / 2 * 32 + j] >> (4 * (i % 2)) & 15
}

fn affine(scale: f32, minimum: f32, scales: &[u8], out: &mut [f32; N], q: impl Fn(usize, usize) -> u8) {
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        let (s, m) = scale_and_minimum(scales, i);
        let (step, base) = (scale * f32::from(s), minimum * f32::from(m));
        for (j, value) in out.iter_mut().enumerate() {
            *value = step * f32::from(q(i, j)) - base;
        }
    }
}

/// 128 bytes of the low four bits, 64 of the high two, 16 signed scales for 16 elements each, common scale.
pub(super) fn q6(block: &[u8; 210], out: &mut [f32; N]) {
    let scale = half_at(block, 208);
    for (i, out) in out.chunks_exact_mut(16).enumerate() {
        let step = scale * f32::from(block[192 + i] as i8);
        let place = six_bits_at(i);
        for (j, value) in out.iter_mut().enumerate() {
            let low = block[place.low + j] >> place.low_shift & 15;
            let high = block[128 + place.high + j] >> place.high_shift & 3;
            *value = step * (f32::from(low | high << 4) - 32.0);
        }
    }
}

/// Where Q6_K keeps the elements of one run of 16.
pub(super) struct SixBits {
    /// First byte of the low four bits, and their shift.
    pub(super) low: usize,
    pub(super) low_shift: usize,
    /// First byte of the high two bits, counted from the first of all high bits, and their shift.
    pub(super) high: usize,
    pub(super) high_shift: usize,
}

/// The place of the `i`-th 16 elements: 128 elements share 64 bytes of low bits and 32 of high ones.
pub(super) fn six_bits_at(i: usize) -> SixBits {
    let (half, within) = (i / 8, i % 8);
    SixBits {
        low: half * 64 + within % 4 * 16,
        low_shift: within / 4 * 4,
        high: half * 32 + within % 2 * 16,
        high_shift: within / 2 * 2,
    }
}
