//! Encodes the K formats: a scale for each sub-block by weighted least squares, then those scales as small integers.

use std::ops::RangeInclusive;

use super::k::{scale_and_minimum, six_bits_at};
use super::{half_at, put_half};

/// Elements of a block.
const N: usize = 256;
/// The largest scale or minimum of Q4_K and Q5_K in six bits.
const MOST_SCALE: f32 = 63.0;
/// A sub-block whose values are all below this is stored as zeros.
pub(super) const NOTHING: f32 = 1e-15;
/// How far apart the scales that are tried lie, in levels.
const STEP: f32 = 0.1;
/// The scales that are tried, in steps from the plain one. Each starts from the minimum found so far, so the fan is the
/// reference's: another one finds other, on average equally good, scales.
const FAN_Q4: RangeInclusive<i32> = -10..=10;
pub(super) const FAN_Q5: RangeInclusive<i32> = -5..=10;
const FAN_Q6: RangeInclusive<i32> = -9..=9;

/// The scale and the minimum with `values` close to `scale * level - minimum` for levels of 0 to `most`; neither is negative.
pub(super) fn fit_affine(values: &[f32], most: f32, fan: RangeInclusive<i32>) -> (f32, f32) {
    // Large values matter more, but small ones are not free.
    let mean = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
    let weigh = |value: f32| mean + value.abs();
    let low = values.iter().fold(0.0, |low: f32, &value| low.min(value));
    let high = values.iter().fold(f32::MIN, |high, &value| high.max(value));
    if high - low < NOTHING {
        return (0.0, -low);
    }
    let error = |scale: f32, minimum: f32, inverse: f32, origin: f32| {
        let off = |v: f32| scale * level(v, origin, inverse, most) + minimum - v;
        values.iter().map(|&v| weigh(v) * off(v) * off(v)).sum::<f32>()
    };
    let plain = most / (high - low);
    let (mut scale, mut minimum) = (1.0 / plain, low);
    let mut least = error(scale, minimum, plain, low);
    for step in fan {
        let inverse = (most + STEP * step as f32) / (high - low);
        let origin = minimum;
        let (mut w, mut x, mut l, mut ll, mut xl) = (0.0_f32, 0.0, 0.0, 0.0, 0.0);
        for &value in values {
            let (weight, level) = (weigh(value), level(value, origin, inverse, most));
            w += weight;
            x += weight * value;
            l += weight * level;
            ll += weight * level * level;
            xl += weight * value * level;
        }
        let determinant = w * ll - l * l;
        if determinant <= 0.0 {
            continue;
        }
        let (mut tried, mut base) = ((w * xl - x * l) / determinant, (ll * x - l * xl) / determinant);
        if base > 0.0 {
            (tried, base) = (xl / ll, 0.0);
        }
        let found = error(tried, base, inverse, origin);
        if found < least {
            (least, scale, minimum) = (found, tried, base);
        }
    }
    (scale, -minimum)
}

fn level(value: f32, origin: f32, inverse: f32, most: f32) -> f32 {
    ((value - origin) * inverse).round_ties_even().clamp(0.0, most)
}

/// Common scales, the eight of each kind in six bits, and the levels, all of Q4_K or Q5_K.
fn affine(values: &[f32; N], most: u8, fan: RangeInclusive<i32>, head: &mut [u8]) -> [u8; N] {
    let mut fits = [(0.0_f32, 0.0_f32); 8];
    for (fit, values) in fits.iter_mut().zip(values.chunks_exact(32)) {
        *fit = fit_affine(values, f32::from(most), fan.clone());
    }
    let largest = |of: fn(&(f32, f32)) -> f32| fits.iter().map(of).fold(0.0, f32::max);
    let (scale, minimum) = (largest(|fit| fit.0), largest(|fit| fit.1));
    put_half(head, 0, scale / MOST_SCALE);
    put_half(head, 2, minimum / MOST_SCALE);
    let small = |value: f32, largest: f32| match largest > 0.0 {
        true => (value * (MOST_SCALE / largest)).round_ties_even().clamp(0.0, MOST_SCALE) as u8,
        false => 0,
    };
    for (i, fit) in fits.iter().enumerate() {
        let (s, m) = (small(fit.0, scale), small(fit.1, minimum));
        let packed = &mut head[4..];
        if i < 4 {
            packed[i] |= s;
            packed[i + 4] |= m;
        } else {
            packed[i + 4] |= s & 15 | (m & 15) << 4;
            packed[i - 4] |= s >> 4 << 6;
            packed[i] |= m >> 4 << 6;
        }
    }
    let (scale, minimum) = (half_at(head, 0), half_at(head, 2));
    let mut levels = [0; N];
    for (i, (levels, values)) in levels.chunks_exact_mut(32).zip(values.chunks_exact(32)).enumerate() {
        let (s, m) = scale_and_minimum(&head[4..], i);
        let (step, base) = (scale * f32::from(s), minimum * f32::from(m));
        if step == 0.0 {
            continue;
        }
        for (level, &value) in levels.iter_mut().zip(values) {
            *level = ((value + base) / step).round_ties_even().clamp(0.0, f32::from(most)) as u8;
        }
    }
    levels
}

/// Two runs of 32 in four bits each, the first in the low ones.
fn pack_low(levels: &[u8; N], out: &mut [u8]) {
    for (out, levels) in out.chunks_exact_mut(32).zip(levels.chunks_exact(64)) {
        for (j, byte) in out.iter_mut().enumerate() {
            *byte = levels[j] & 15 | (levels[j + 32] & 15) << 4;
        }
    }
}

pub(super) fn q4(values: &[f32; N], block: &mut [u8; 144]) {
    let levels = affine(values, 15, FAN_Q4, &mut block[..16]);
    pack_low(&levels, &mut block[16..]);
}

pub(super) fn q5(values: &[f32; N], block: &mut [u8; 176]) {
    let levels = affine(values, 31, FAN_Q5, &mut block[..16]);
    for (i, levels) in levels.chunks_exact(32).enumerate() {
        for (byte, level) in block[16..48].iter_mut().zip(levels) {
            *byte |= (level >> 4) << i;
        }
    }
    pack_low(&levels, &mut block[48..]);
}

/// The scale with `values` close to `scale * level` for levels of `-half` to `half - 1`; its sign is its own choice.
pub(super) fn fit_centred(values: &[f32], half: f32) -> f32 {
    let extreme = values.iter().fold(0.0, |most: f32, &value| if value.abs() > most.abs() { value } else { most });
    if extreme.abs() < NOTHING {
        return 0.0;
    }
    // What least squares takes away from the error, to be made as large as possible.
    // Where squares are beyond single precision nothing compares, and the plain scale stays.
    let (mut most, mut best) = (f32::MIN, extreme / -half);
    // The plain scale first, because the first of equals is kept.
    for step in [0].into_iter().chain(FAN_Q6) {
        let inverse = -(half + STEP * step as f32) / extreme;
        let (mut xl, mut ll) = (0.0_f32, 0.0_f32);
        for &value in values {
            let level = (value * inverse).round_ties_even().clamp(-half, half - 1.0);
            let weight = value * value;
            xl += weight * value * level;
            ll += weight * level * level;
        }
        if ll > 0.0 && xl * xl / ll > most {
            (most, best) = (xl * xl / ll, xl / ll);
        }
    }
    best
}

pub(super) fn q6(values: &[f32; N], block: &mut [u8; 210]) {
    const HALF: f32 = 32.0;
    let mut scales = [0.0_f32; 16];
    for (scale, values) in scales.iter_mut().zip(values.chunks_exact(16)) {
        *scale = fit_centred(values, HALF);
    }
    let extreme = scales.iter().fold(0.0, |most: f32, &scale| if scale.abs() > most.abs() { scale } else { most });
    if extreme.abs() < NOTHING {
        return;
    }
    // The extreme scale is -128, since there is no 128.
    let inverse = -128.0 / extreme;
    put_half(block, 208, 1.0 / inverse);
    let common = half_at(block, 208);
    for (i, (scale, values)) in scales.iter().zip(values.chunks_exact(16)).enumerate() {
        let small = (inverse * scale).round_ties_even().clamp(-128.0, 127.0) as i8;
        block[192 + i] = small as u8;
        let step = common * f32::from(small);
        let place = six_bits_at(i);
        for (j, &value) in values.iter().enumerate() {
            let level = match step == 0.0 {
                true => HALF as u8,
                false => ((value / step).round_ties_even().clamp(-HALF, HALF - 1.0) + HALF) as u8,
            };
            block[place.low + j] |= (level & 15) << place.low_shift;
            block[128 + place.high + j] |= (level >> 4) << place.high_shift;
        }
    }
}
