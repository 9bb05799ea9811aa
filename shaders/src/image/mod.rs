//! Pictures before a network sees them: the antialiased resize in 8-bit fixed point, exact to the bit.
//!
//! A resize is two passes, first [`ResizeRows`] along the rows, then [`ResizeColumns`] along the columns, and between
//! them the picture is bytes again. Which pixels count how much comes as a [`table`] from the host, so that the
//! filter and its rounding are decided in one place; here are only whole numbers.

mod camera;

pub use camera::{Area, Quarter, Turn, Yuv, YuvMatrix, YuvRange};

use crate::{Desc, Format, HostTensor};

crate::kernels! {
    resize_rows, resize_columns,
}

/// Bits after the point of a coefficient: 1 is `1 << 22`.
pub const PRECISION_BITS: u32 = 22;

/// The table of one pass as the kernels read it, `[outputs, 2 + taps]` words: for each output position the first input,
/// how many inputs from there on, and their coefficients in units of `2^-22` (two's complement).
///
/// `first` and `count` have one value for each output position, `coefficients` has `taps` for each. The magnitudes of one
/// position's coefficients must not sum to more than 2, for which 32 bits are enough.
pub fn table(first: &[u32], count: &[u32], coefficients: &[i32], taps: usize) -> HostTensor {
    let mut words = Vec::with_capacity(first.len() * (2 + taps));
    for ((first, count), row) in first.iter().zip(count).zip(coefficients.chunks(taps.max(1))) {
        words.extend([*first, *count]);
        words.extend(row.iter().map(|coefficient| *coefficient as u32));
    }
    HostTensor::from_words(Desc::new(Format::Word, [first.len(), 2 + taps]), words)
}

/// `sum_t coefficient[t] * pixel(first + t)` of one output position, channel by channel, rounded and clamped to bytes.
fn weighted(entry: &[u32], pixel: impl Fn(usize) -> u32) -> u32 {
    let count = (entry[1] as usize).min(entry.len() - 2);
    let mut sums = [1i64 << (PRECISION_BITS - 1); 4];
    for (tap, coefficient) in entry[2..2 + count].iter().enumerate() {
        let bytes = pixel(entry[0] as usize + tap).to_le_bytes();
        for (sum, byte) in sums.iter_mut().zip(bytes) {
            *sum += i64::from(*coefficient as i32) * i64::from(byte);
        }
    }
    u32::from_le_bytes(sums.map(|sum| (sum >> PRECISION_BITS).clamp(0, 255) as u8))
}

/// Whether `desc` is a [`table`] with at least one position and one coefficient.
fn is_table(desc: &Desc) -> bool {
    desc.format == Format::Word && matches!(desc.shape[..], [outputs, words] if outputs > 0 && words > 2)
}

/// The table of a triangle filter from `input` to `output` pixels, of which the `length` from `start` on are made; for cases.
fn triangle(input: usize, output: usize, start: usize, length: usize) -> HostTensor {
    let step = input as f64 / output as f64;
    let reach = step.max(1.0);
    let taps = (2.0 * reach).ceil() as usize + 1;
    let (mut first, mut count, mut coefficients) = (Vec::new(), Vec::new(), Vec::new());
    for position in start..start + length {
        let centre = (position as f64 + 0.5) * step;
        let from = (centre - reach + 0.5).max(0.0) as usize;
        let to = ((centre + reach + 0.5) as usize).min(input);
        let weights: Vec<f64> =
            (from..to).map(|i| (1.0 - ((i as f64 + 0.5 - centre) / reach).abs()).max(0.0)).collect();
        let total: f64 = weights.iter().sum();
        let unit = f64::from(1u32 << PRECISION_BITS);
        first.push(from as u32);
        count.push(weights.len() as u32);
        coefficients.extend(weights.iter().map(|w| (w / total * unit + 0.5) as i32));
        coefficients.resize(first.len() * taps, 0);
    }
    table(&first, &count, &coefficients, taps)
}

#[cfg(test)]
mod tests;
