//! Encodes the formats of two and three bits, and the one of four bits with uneven levels: scales by weighted least squares.

use super::four_bit::UNEVEN;
use super::k::two_bits_at;
use super::quantize_k::{FAN_Q5, NOTHING, fit_affine, fit_centred};
use super::{half_at, put_half};

/// Elements of a block of a K format.
const N: usize = 256;
/// The largest scale or minimum of Q2_K in four bits.
const MOST_SCALE: f32 = 15.0;
/// The scales that are tried for IQ4_NL, in levels from the one that maps the extreme value to the lowest level.
const FAN: std::ops::RangeInclusive<i32> = -7..=7;

pub(super) fn q2(values: &[f32; N], block: &mut [u8; 84]) {
    let mut fits = [(0.0_f32, 0.0_f32); 16];
    for (fit, values) in fits.iter_mut().zip(values.chunks_exact(16)) {
        *fit = fit_affine(values, 3.0, FAN_Q5);
    }
    let largest = |of: fn(&(f32, f32)) -> f32| fits.iter().map(of).fold(0.0, f32::max);
    let (scale, minimum) = (largest(|fit| fit.0), largest(|fit| fit.1));
    put_half(block, 80, scale / MOST_SCALE);
    put_half(block, 82, minimum / MOST_SCALE);
    let small = |value: f32, largest: f32| match largest > 0.0 {
        true => (value * (MOST_SCALE / largest)).round_ties_even().clamp(0.0, MOST_SCALE) as u8,
        false => 0,
    };
    let common = (half_at(block, 80), half_at(block, 82));
    for (i, (fit, values)) in fits.iter().zip(values.chunks_exact(16)).enumerate() {
        let (s, m) = (small(fit.0, scale), small(fit.1, minimum));
        block[i] = s | m << 4;
        let (step, base) = (common.0 * f32::from(s), common.1 * f32::from(m));
        let (first, shift) = two_bits_at(i);
        if step == 0.0 {
            continue;
        }
        for (byte, &value) in block[16 + first..].iter_mut().zip(values) {
            *byte |= (((value + base) / step).round_ties_even().clamp(0.0, 3.0) as u8) << shift;
        }
    }
}

pub(super) fn q3(values: &[f32; N], block: &mut [u8; 110]) {
    const HALF: f32 = 4.0;
    let mut scales = [0.0_f32; 16];
    for (scale, values) in scales.iter_mut().zip(values.chunks_exact(16)) {
        *scale = fit_centred(values, HALF);
    }
    let extreme = scales.iter().fold(0.0, |most: f32, &scale| if scale.abs() > most.abs() { scale } else { most });
    if extreme.abs() < NOTHING {
        return;
    }
    // The extreme scale is -32, since there is no 32.
    let inverse = -32.0 / extreme;
    put_half(block, 108, 1.0 / inverse);
    let common = half_at(block, 108);
    for (i, (scale, values)) in scales.iter().zip(values.chunks_exact(16)).enumerate() {
        let small = (inverse * scale).round_ties_even().clamp(-32.0, 31.0);
        let packed = (small + 32.0) as u8;
        block[96 + i % 8] |= (packed & 15) << (i / 8 * 4);
        block[104 + i % 4] |= (packed >> 4) << (i / 4 * 2);
        let step = common * small;
        let (first, shift) = two_bits_at(i);
        for (j, &value) in values.iter().enumerate() {
            let level = match step == 0.0 {
                true => HALF as u8,
                false => ((value / step).round_ties_even().clamp(-HALF, HALF - 1.0) + HALF) as u8,
            };
            block[32 + first + j] |= (level & 3) << shift;
            block[i % 2 * 16 + j] |= (level >> 2) << (i / 2);
        }
    }
}

/// The number of the level that is nearest to a value.
fn nearest(value: f32) -> u8 {
    let above = UNEVEN.iter().position(|&level| f32::from(level) >= value).unwrap_or(UNEVEN.len() - 1);
    let below = above.saturating_sub(1);
    let off = |at: usize| (f32::from(UNEVEN[at]) - value).abs();
    if off(below) < off(above) { below as u8 } else { above as u8 }
}

pub(super) fn iq4_nl(values: &[f32; 32], block: &mut [u8; 18]) {
    let extreme = values.iter().fold(0.0, |most: f32, &value| if value.abs() > most.abs() { value } else { most });
    if extreme.abs() < NOTHING {
        // The level that is nearest to zero is not zero, and its scale is.
        return;
    }
    let lowest = f32::from(UNEVEN[0]);
    let (mut most, mut best) = (f32::MIN, extreme / lowest);
    // The plain scale first, because the first of equals is kept.
    for step in [0].into_iter().chain(FAN) {
        let inverse = (lowest + step as f32) / extreme;
        let (mut xl, mut ll) = (0.0_f32, 0.0_f32);
        for &value in values {
            let level = f32::from(UNEVEN[usize::from(nearest(value * inverse))]);
            let weight = value * value;
            xl += weight * value * level;
            ll += weight * level * level;
        }
        if ll > 0.0 && xl * xl / ll > most {
            (most, best) = (xl * xl / ll, xl / ll);
        }
    }
    put_half(block, 0, best);
    let scale = half_at(block, 0);
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    for (j, byte) in block[2..].iter_mut().enumerate() {
        *byte = nearest(values[j] * inverse) | nearest(values[j + 16] * inverse) << 4;
    }
}
