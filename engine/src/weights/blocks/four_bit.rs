//! Decodes the formats whose four bits choose from a table of levels that are not evenly spaced.

use super::half_at;

/// The levels of IQ4_NL and IQ4_XS.
pub(super) const UNEVEN: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the numbers of the 4-bit float of the OCP microscaling formats (E2M1), whose negative zero is plain zero.
pub(super) const FLOAT4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 32 elements from 16 bytes: the first half in the low bits, the second in the high ones.
fn choose(levels: &[i8; 16], packed: &[u8], scale: f32, out: &mut [f32]) {
    let (low, high) = out.split_at_mut(16);
    for ((low, high), &byte) in low.iter_mut().zip(high).zip(packed) {
        *low = scale * f32::from(levels[usize::from(byte & 15)]);
        *high = scale * f32::from(levels[usize::from(byte >> 4)]);
    }
}

/// Scale, then 16 bytes.
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    choose(&UNEVEN, &block[2..], half_at(block, 0), out);
}

/// Scale; of eight scales of six bits the upper two in 2 bytes and the lower four in 4; then 16 bytes for each 32 elements.
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let scale = half_at(block, 0);
    let upper = u16::from_le_bytes([block[2], block[3]]);
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        let low = block[4 + i / 2] >> (4 * (i % 2)) & 15;
        let high = (upper >> (2 * i) & 3) as u8;
        let step = f32::from(low | high << 4) - 32.0;
        choose(&UNEVEN, &block[8 + 16 * i..], scale * step, out);
    }
}

/// A power of two as an exponent alone (E8M0), then 16 bytes.
pub(super) fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    // Half of 2^(e - 127), because the levels are twice what they stand for; the smallest two are subnormal.
    let exponent = u32::from(block[0]);
    let bits = if exponent < 2 { 0x0020_0000 << exponent } else { (exponent - 1) << 23 };
    choose(&FLOAT4, &block[1..], f32::from_bits(bits), out);
}
