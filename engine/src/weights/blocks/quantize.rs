//! Encodes the formats of 32 elements, byte for byte as ggml's reference does.

use super::put_half;

/// Elements of a block.
const N: usize = 32;

/// The value of the largest magnitude, the first of several.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, &value| if value.abs() > most.abs() { value } else { most })
}

fn bounds(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::MAX, f32::MIN), |(low, high), &value| (low.min(value), high.max(value)))
}

/// 1 over `scale`, or 0 for the scale of a block of zeros.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Two runs of 16 in four bits each, the first in the low ones.
fn pack_low(levels: &[u8; N], out: &mut [u8]) {
    for (j, byte) in out.iter_mut().enumerate() {
        *byte = levels[j] & 15 | (levels[j + 16] & 15) << 4;
    }
}

/// The fifth bits, one after the other.
fn pack_high(levels: &[u8; N], out: &mut [u8]) {
    let bits = levels.iter().enumerate().fold(0_u32, |bits, (j, &level)| bits | u32::from(level >> 4) << j);
    out.copy_from_slice(&bits.to_le_bytes());
}

/// The levels of a block with a scale alone: `-half` stands for the extreme value, and zero lies in the middle.
fn centred(values: &[f32; N], half: u8) -> (f32, [u8; N]) {
    let scale = extreme(values) / -f32::from(half);
    let inverse = inverse(scale);
    let middle = f32::from(half) + 0.5;
    // A conversion to an integer cuts, so half a step makes it round.
    (scale, values.map(|value| ((value * inverse + middle) as u8).min(2 * half - 1)))
}

/// The levels of a block with a scale and a minimum: 0 stands for the smallest value and `most` for the largest.
fn from_minimum(values: &[f32; N], most: u8) -> (f32, f32, [u8; N]) {
    let (low, high) = bounds(values);
    let scale = (high - low) / f32::from(most);
    let inverse = inverse(scale);
    (scale, low, values.map(|value| (((value - low) * inverse + 0.5) as u8).min(most)))
}

pub(super) fn q4_0(values: &[f32; N], block: &mut [u8; 18]) {
    let (scale, levels) = centred(values, 8);
    put_half(block, 0, scale);
    pack_low(&levels, &mut block[2..]);
}

pub(super) fn q4_1(values: &[f32; N], block: &mut [u8; 20]) {
    let (scale, minimum, levels) = from_minimum(values, 15);
    put_half(block, 0, scale);
    put_half(block, 2, minimum);
    pack_low(&levels, &mut block[4..]);
}

pub(super) fn q5_0(values: &[f32; N], block: &mut [u8; 22]) {
    let (scale, levels) = centred(values, 16);
    put_half(block, 0, scale);
    pack_high(&levels, &mut block[2..6]);
    pack_low(&levels, &mut block[6..]);
}

pub(super) fn q5_1(values: &[f32; N], block: &mut [u8; 24]) {
    let (scale, minimum, levels) = from_minimum(values, 31);
    put_half(block, 0, scale);
    put_half(block, 2, minimum);
    pack_high(&levels, &mut block[4..8]);
    pack_low(&levels, &mut block[8..]);
}

pub(super) fn q8_0(values: &[f32; N], block: &mut [u8; 34]) {
    let scale = extreme(values).abs() / 127.0;
    let inverse = inverse(scale);
    put_half(block, 0, scale);
    for (byte, &value) in block[2..].iter_mut().zip(values) {
        *byte = (value * inverse).round() as i8 as u8;
    }
}
