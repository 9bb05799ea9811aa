//! Encodes the formats of two and three bits, and those of four bits with uneven levels: scales by weighted least squares, or a power
//! of two.

use super::four_bit::{FLOAT4, UNEVEN};
use super::k::two_bits_at;
use super::quantize_k::{FAN_Q5, NOTHING, fit_affine, fit_centred};
use super::{half_at, put_half};

/// Elements of a block of a K format.
const N: usize = 256;
/// The largest scale or minimum of Q2_K in four bits.
const MOST_SCALE: f32 = 15.0;
/// Levels of Q3_K below zero.
const HALF: f32 = 4.0;
/// The scales that are tried for IQ4_NL and IQ4_XS, in levels from the one that maps the extreme value to the lowest level.
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
        let (s, m) = nearest_pair(values, (small(fit.0, scale), small(fit.1, minimum)), common);
        block[i] = s | m << 4;
        let (step, base) = (common.0 * f32::from(s), common.1 * f32::from(m));
        let (first, shift) = two_bits_at(i);
        if step == 0.0 {
            continue;
        }
        for (byte, &value) in block[16 + first..].iter_mut().zip(values) {
            *byte |= (two_bits(value, step, base) as u8) << shift;
        }
    }
}

/// The level of a value in steps of `step` above `-base`.
fn two_bits(value: f32, step: f32, base: f32) -> f32 {
    ((value + base) / step).round_ties_even().clamp(0.0, 3.0)
}

/// Of a scale and a minimum in four bits, and those beside them, the pair in which `values` lose least: rounding both is coarse, and what one
/// loses by it the other may gain.
fn nearest_pair(values: &[f32], (scale, minimum): (u8, u8), common: (f32, f32)) -> (u8, u8) {
    let loss = |(s, m): (u8, u8)| {
        let (step, base) = (common.0 * f32::from(s), common.1 * f32::from(m));
        let level = |value: f32| if step == 0.0 { 0.0 } else { step * two_bits(value, step, base) };
        values.iter().map(|&value| (level(value) - base - value).powi(2)).sum::<f32>()
    };
    let beside = |it: u8| it.saturating_sub(1)..=(it + 1).min(MOST_SCALE as u8);
    let pairs = beside(scale).flat_map(|s| beside(minimum).map(move |m| (s, m)));
    // The rounded pair first, because the first of equals is kept.
    let mut best = ((scale, minimum), loss((scale, minimum)));
    for pair in pairs {
        let lost = loss(pair);
        if lost < best.1 {
            best = (pair, lost);
        }
    }
    best.0
}

pub(super) fn q3(values: &[f32; N], block: &mut [u8; 110]) {
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
        let small = nearest_scale(values, (inverse * scale).round_ties_even().clamp(-32.0, 31.0), common);
        let packed = (small + 32.0) as u8;
        block[96 + i % 8] |= (packed & 15) << (i / 8 * 4);
        block[104 + i % 4] |= (packed >> 4) << (i / 4 * 2);
        let step = common * small;
        let (first, shift) = two_bits_at(i);
        for (j, &value) in values.iter().enumerate() {
            let level = (three_bits(value, step) + HALF) as u8;
            block[32 + first + j] |= (level & 3) << shift;
            block[i % 2 * 16 + j] |= (level >> 2) << (i / 2);
        }
    }
}

/// The level of a value in steps of `step`, from `-HALF`.
fn three_bits(value: f32, step: f32) -> f32 {
    if step == 0.0 { 0.0 } else { (value / step).round_ties_even().clamp(-HALF, HALF - 1.0) }
}

/// Of a scale in six bits and the four nearest to it the one in which `values` lose least.
fn nearest_scale(values: &[f32], scale: f32, common: f32) -> f32 {
    let loss = |small: f32| {
        let step = common * small;
        values.iter().map(|&value| (step * three_bits(value, step) - value).powi(2)).sum::<f32>()
    };
    let mut best = (scale, loss(scale));
    for beside in [scale - 1.0, scale + 1.0, scale - 2.0, scale + 2.0] {
        let lost = loss(beside);
        if (-32.0..=31.0).contains(&beside) && lost < best.1 {
            best = (beside, lost);
        }
    }
    best.0
}

/// The number of the level that is nearest to a value.
fn nearest(value: f32) -> u8 {
    let above = UNEVEN.iter().position(|&level| f32::from(level) >= value).unwrap_or(UNEVEN.len() - 1);
    let below = above.saturating_sub(1);
    let off = |at: usize| (f32::from(UNEVEN[at]) - value).abs();
    if off(below) < off(above) { below as u8 } else { above as u8 }
}

/// The scale that loses the least of a run of uneven levels; `None` for a run of zeros.
fn uneven_scale(values: &[f32]) -> Option<f32> {
    let extreme = values.iter().fold(0.0, |most: f32, &value| if value.abs() > most.abs() { value } else { most });
    if extreme.abs() < NOTHING {
        return None;
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
    Some(best)
}

/// The numbers of the levels nearest to a run of 32 values in steps of `scale`, two in a byte.
fn put_uneven(values: &[f32], scale: f32, out: &mut [u8]) {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    for (j, byte) in out.iter_mut().enumerate() {
        *byte = nearest(values[j] * inverse) | nearest(values[j + 16] * inverse) << 4;
    }
}

pub(super) fn iq4_nl(values: &[f32; 32], block: &mut [u8; 18]) {
    // The level that is nearest to zero is not zero, and the scale of a run of zeros is.
    let Some(scale) = uneven_scale(values) else { return };
    put_half(block, 0, scale);
    let scale = half_at(block, 0);
    put_uneven(values, scale, &mut block[2..]);
}

pub(super) fn iq4_xs(values: &[f32; N], block: &mut [u8; 136]) {
    let mut scales = [0.0_f32; 8];
    for (scale, values) in scales.iter_mut().zip(values.chunks_exact(32)) {
        *scale = uneven_scale(values).unwrap_or(0.0);
    }
    let extreme = scales.iter().fold(0.0, |most: f32, &scale| if scale.abs() > most.abs() { scale } else { most });
    if extreme == 0.0 {
        return;
    }
    // The extreme scale is -32, since there is no 32.
    put_half(block, 0, extreme / -32.0);
    let common = half_at(block, 0);
    let mut upper = 0_u16;
    for (i, (scale, values)) in scales.iter().zip(values.chunks_exact(32)).enumerate() {
        let small = if common == 0.0 { 0.0 } else { (scale / common).round_ties_even().clamp(-32.0, 31.0) };
        let packed = (small + 32.0) as u8;
        block[4 + i / 2] |= (packed & 15) << (4 * (i % 2));
        upper |= u16::from(packed >> 4) << (2 * i);
        put_uneven(values, common * small, &mut block[8 + 16 * i..][..16]);
    }
    block[2..4].copy_from_slice(&upper.to_le_bytes());
}

/// The exponent lets the largest value keep its own power of two, four times the smallest step of a level's (OCP Microscaling
/// Formats 1.0, 2023, section 6.3).
pub(super) fn mxfp4(values: &[f32; 32], block: &mut [u8; 17]) {
    let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    if largest == 0.0 {
        return;
    }
    let exponent = (largest.to_bits() >> 23).saturating_sub(2);
    block[0] = exponent as u8;
    // Half of the power of two, as the levels are twice what they stand for; the smallest two are subnormal.
    let step = f32::from_bits(if exponent < 2 { 0x0020_0000 << exponent } else { (exponent - 1) << 23 });
    let level = |value: f32| {
        let apart = |at: &usize| (f32::from(FLOAT4[*at]) * step - value.abs()).abs();
        // The first of equals, so a value half way goes to the smaller one.
        let nearest = (0..8).min_by(|a, b| apart(a).total_cmp(&apart(b))).unwrap_or(0) as u8;
        if value < 0.0 && nearest > 0 { nearest | 8 } else { nearest }
    };
    for (j, byte) in block[1..].iter_mut().enumerate() {
        *byte = level(values[j]) | level(values[j + 16]) << 4;
    }
}
