//! The pure arithmetic between a file's tensors and a plan's constants: batch norms folded away, padding in figures, weights laid out
//! with the output channels innermost.

use crate::error::{Error, Result};

/// How a convolution's input is surrounded with zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Padding {
    /// `(k - 1) / 2` on every side, as PyTorch's MobileNets have it.
    #[default]
    Symmetric,
    /// TensorFlow's SAME: just enough for `ceil(n / s)` outputs, the smaller half before the input.
    TensorflowSame,
}

impl Padding {
    /// Zeros before and after `size` inputs along one axis, for a kernel of `kernel` taps and outputs `stride` apart.
    ///
    /// # Panics
    /// If `stride` is 0.
    pub fn along(self, size: usize, kernel: usize, stride: usize) -> (usize, usize) {
        match self {
            Self::Symmetric => {
                let side = kernel.saturating_sub(1) / 2;
                (side, side)
            }
            Self::TensorflowSame => {
                let total = (size.div_ceil(stride).saturating_sub(1) * stride + kernel).saturating_sub(size);
                (total / 2, total - total / 2)
            }
        }
    }

    /// Zeros above, left of, below and right of a feature map of `height` x `width` pixels.
    ///
    /// # Panics
    /// If `stride` is 0.
    pub fn around(self, height: usize, width: usize, kernel: usize, stride: usize) -> Sides {
        let (top, bottom) = self.along(height, kernel, stride);
        let (left, right) = self.along(width, kernel, stride);
        Sides { top, left, bottom, right }
    }
}

/// Zeros on the four sides of a feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sides {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

/// The values of a batch norm, each of as many as there are channels.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// The weight.
    pub gamma: &'a [f32],
    /// The bias.
    pub beta: &'a [f32],
    /// The mean over the training data.
    pub mean: &'a [f32],
    /// The variance over the training data.
    pub variance: &'a [f32],
}

impl BatchNorm<'_> {
    /// The batch norm as one factor and one summand a channel: `y = x * factor + summand`, in f64.
    ///
    /// `name` is the batch norm in errors; `epsilon` is added to the variance.
    ///
    /// # Errors
    /// [`Error::Length`] if the four differ in length, [`Error::Value`] for a variance that is not above `-epsilon`, and for a value that is
    /// not finite.
    pub fn affine(&self, name: &str, epsilon: f64) -> Result<Vec<(f64, f64)>> {
        let channels = self.gamma.len();
        for (part, values) in [("bias", self.beta), ("running_mean", self.mean), ("running_var", self.variance)] {
            expect_length(&format!("{name}.{part}"), &[channels], values.len())?;
        }
        let values = self.gamma.iter().zip(self.beta).zip(self.mean.iter().zip(self.variance)).enumerate();
        values
            .map(|(channel, ((&gamma, &beta), (&mean, &variance)))| {
                let wrong = |problem| Error::Value { tensor: name.to_owned(), channel, problem };
                let variance = f64::from(variance) + epsilon;
                // A variance that is not a number fails this too.
                if variance.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
                    return Err(wrong("the batch norm's variance is negative or not a number"));
                }
                let factor = f64::from(gamma) / variance.sqrt();
                let summand = f64::from(beta) - f64::from(mean) * factor;
                if factor.is_finite() && summand.is_finite() {
                    Ok((factor, summand))
                } else {
                    Err(wrong("the batch norm is not finite"))
                }
            })
            .collect()
    }
}

/// Folds a batch norm into the weights of the convolution before it, in place: `weight` has those of some output channels, outermost and in
/// torch's order, and `affine` is what [`BatchNorm::affine`] gives of the same channels. Computed in f64, rounded once.
///
/// For a weight in 8 bits pass its `weight_scale` as `weight` instead: scaling the scales is scaling the weights.
/// `name` is the convolution in errors, and `first` the first of the channels.
///
/// # Errors
/// [`Error::Length`] if `weight` does not divide into the channels; [`Error::Value`] if a result is not finite.
pub fn scale_channels(name: &str, weight: &mut [f32], first: usize, affine: &[(f64, f64)]) -> Result<()> {
    let channels = affine.len();
    let each = weight.len().checked_div(channels).unwrap_or(0);
    if each == 0 || each * channels != weight.len() {
        return Err(Error::Length { what: format!("{name}.weight"), shape: vec![channels, each], found: weight.len() });
    }
    for (channel, (row, (factor, _))) in weight.chunks_exact_mut(each).zip(affine).enumerate() {
        let mut sound = true;
        for value in row.iter_mut() {
            *value = (f64::from(*value) * factor) as f32;
            sound &= value.is_finite();
        }
        if !sound {
            return Err(not_finite(name, first + channel));
        }
    }
    Ok(())
}

/// The bias of a convolution `name` into which a batch norm is folded, one value for each channel of `affine`; `bias` is the one before, if
/// there was one. Computed in f64, rounded once.
///
/// # Errors
/// [`Error::Length`] if `bias` has another length, [`Error::Value`] if a result is not finite.
pub fn folded_bias(name: &str, bias: Option<&[f32]>, affine: &[(f64, f64)]) -> Result<Vec<f32>> {
    if let Some(bias) = bias {
        expect_length(&format!("{name}.bias"), &[affine.len()], bias.len())?;
    }
    let fold = |(channel, &(factor, summand)): (usize, &(f64, f64))| {
        let before = bias.and_then(|bias| bias.get(channel)).copied().unwrap_or(0.0);
        let after = (f64::from(before) * factor + summand) as f32;
        if after.is_finite() { Ok(after) } else { Err(not_finite(name, channel)) }
    };
    affine.iter().enumerate().map(fold).collect()
}

fn not_finite(name: &str, channel: usize) -> Error {
    let problem = "not finite after the batch norm is folded in";
    Error::Value { tensor: format!("{name}.weight"), channel, problem }
}

/// A fully connected or pointwise weight from torch's `[n, k]` (or `[n, k, 1, 1]`) to `[k, n]`.
///
/// # Errors
/// [`Error::Length`] if there are not `n * k` values; `name` is the tensor in it.
pub fn linear_rows<T: Copy>(name: &str, weight: &[T], n: usize, k: usize) -> Result<Vec<T>> {
    /// Inputs that are turned together: what a line of a processor's cache holds of f32, so that none is read twice.
    const BLOCK: usize = 16;
    expect_length(name, &[n, k], weight.len())?;
    let mut rows = weight.to_vec();
    for first in (0..k).step_by(BLOCK) {
        for output in 0..n {
            for input in first..k.min(first + BLOCK) {
                rows[input * n + output] = weight[output * k + input];
            }
        }
    }
    Ok(rows)
}

/// A depthwise weight from torch's `[channels, 1, kernel, kernel]` to `[kernel * kernel, channels]`: tap after tap, row by row.
///
/// # Errors
/// [`Error::Length`] if there are not `channels * kernel * kernel` values; `name` is the tensor in it.
pub fn depthwise_rows<T: Copy>(name: &str, weight: &[T], channels: usize, kernel: usize) -> Result<Vec<T>> {
    expect_length(name, &[channels, 1, kernel, kernel], weight.len())?;
    linear_rows(name, weight, channels, kernel * kernel)
}

/// The first convolution's weight from torch's `[cout, 3, kernel, kernel]` to `[kernel * kernel * 4, cout]`: tap after tap, and in each the
/// rows of red, green, blue and one of zeros, so that a whole RGBA pixel is one step of a sum and alpha counts for nothing.
///
/// # Errors
/// [`Error::Length`] if there are not `cout * 3 * kernel * kernel` values; `name` is the tensor in it.
pub fn stem_rows<T: Copy + Default>(name: &str, weight: &[T], cout: usize, kernel: usize) -> Result<Vec<T>> {
    let by_tap = conv_rows(name, weight, cout, 3, kernel, kernel)?;
    let taps = by_tap.chunks((3 * cout).max(1));
    Ok(taps.flat_map(|rows| rows.iter().copied().chain(std::iter::repeat_n(T::default(), cout))).collect())
}

/// Any convolution's weight from torch's `[cout, cin, kh, kw]` to `[kh, kw, cin, cout]`; `cin` is the number of input channels of one group.
///
/// # Errors
/// [`Error::Length`] if there are not `cout * cin * kh * kw` values; `name` is the tensor in it.
pub fn conv_rows<T: Copy>(name: &str, weight: &[T], cout: usize, cin: usize, kh: usize, kw: usize) -> Result<Vec<T>> {
    expect_length(name, &[cout, cin, kh, kw], weight.len())?;
    let taps = kh * kw;
    let starts = (0..taps).flat_map(|tap| (0..cin).map(move |input| input * taps + tap));
    Ok(starts.flat_map(|start| weight.iter().skip(start).step_by((cin * taps).max(1)).copied()).collect())
}

fn expect_length(name: &str, shape: &[usize], found: usize) -> Result<()> {
    let values = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    if values == Some(found) {
        Ok(())
    } else {
        Err(Error::Length { what: name.to_owned(), shape: shape.to_vec(), found })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first thing that is not as expected")]

    use proptest::prelude::*;

    use super::*;

    /// Folds a batch norm into all channels of a weight, and gives the bias.
    fn fold_batch_norm(
        name: &str,
        weight: &mut [f32],
        bias: Option<&[f32]>,
        norm: &BatchNorm<'_>,
        epsilon: f64,
    ) -> Result<Vec<f32>> {
        let affine = norm.affine(name, epsilon)?;
        scale_channels(name, weight, 0, &affine)?;
        folded_bias(name, bias, &affine)
    }

    #[test]
    fn padding_is_the_frameworks() {
        // Stride 2 on an even size: one zero after it for 3 taps, one before and two after for 5.
        assert_eq!(Padding::TensorflowSame.along(224, 3, 2), (0, 1));
        assert_eq!(Padding::TensorflowSame.along(112, 5, 2), (1, 2));
        assert_eq!(Padding::TensorflowSame.along(7, 3, 2), (1, 1));
        assert_eq!(Padding::TensorflowSame.along(14, 3, 1), (1, 1));
        assert_eq!(Padding::TensorflowSame.along(14, 5, 1), (2, 2));
        assert_eq!(Padding::TensorflowSame.along(9, 1, 2), (0, 0));
        assert_eq!(Padding::TensorflowSame.along(0, 3, 2), (1, 2));
        assert_eq!(Padding::Symmetric.along(224, 3, 2), (1, 1));
        assert_eq!(Padding::Symmetric.along(7, 5, 1), (2, 2));
        assert_eq!(Padding::TensorflowSame.around(224, 7, 3, 2), Sides { top: 0, left: 1, bottom: 1, right: 1 });
    }

    proptest! {
        #[test]
        fn either_padding_gives_the_rounded_up_size(size in 1_usize..400, half in 0_usize..4, stride in 1_usize..4) {
            let kernel = 2 * half + 1;
            for padding in [Padding::Symmetric, Padding::TensorflowSame] {
                let (before, after) = padding.along(size, kernel, stride);
                let outputs = (size + before + after).saturating_sub(kernel) / stride + 1;
                prop_assert_eq!(outputs, size.div_ceil(stride), "{:?}", padding);
            }
        }

        #[test]
        fn folded_convolution_gives_what_both_gave(
            channels in proptest::collection::vec((-2.0_f32..2.0, -2.0_f32..2.0, -2.0_f32..2.0, 0.0_f32..4.0, -2.0_f32..2.0), 1..6),
            taps in proptest::collection::vec((-2.0_f32..2.0, -2.0_f32..2.0), 1..10),
        ) {
            let column = |pick: fn(&(f32, f32, f32, f32, f32)) -> f32| channels.iter().map(pick).collect::<Vec<f32>>();
            let (gamma, beta, mean, variance, bias) = (column(|c| c.0), column(|c| c.1), column(|c| c.2), column(|c| c.3), column(|c| c.4));
            let norm = BatchNorm { gamma: &gamma, beta: &beta, mean: &mean, variance: &variance };
            let weight: Vec<f32> = channels.iter().flat_map(|c| taps.iter().map(move |tap| tap.0 * c.4)).collect();
            let mut folded = weight.clone();
            let folded_bias = fold_batch_norm("c", &mut folded, Some(&bias), &norm, 1e-3).unwrap();
            let sum = |weight: &[f32]| -> f64 { weight.iter().zip(&taps).map(|(w, tap)| f64::from(*w) * f64::from(tap.1)).sum() };
            for channel in 0..channels.len() {
                let row = channel * taps.len()..(channel + 1) * taps.len();
                let x = sum(&weight[row.clone()]) + f64::from(bias[channel]);
                let deviation = (f64::from(variance[channel]) + 1e-3).sqrt();
                let expected = (x - f64::from(mean[channel])) / deviation * f64::from(gamma[channel]) + f64::from(beta[channel]);
                let found = sum(&folded[row]) + f64::from(folded_bias[channel]);
                prop_assert!((found - expected).abs() <= 1e-6 * (1.0 + 400.0 / deviation), "{found} {expected}");
            }
        }
    }

    #[test]
    fn folding_by_hand() {
        let norm = BatchNorm { gamma: &[2.0, -1.0], beta: &[1.0, 0.5], mean: &[3.0, 0.0], variance: &[4.0, 0.25] };
        let mut weight = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(fold_batch_norm("c", &mut weight, None, &norm, 0.0).unwrap(), [-2.0, 0.5]);
        assert_eq!(weight, [1.0, 2.0, -6.0, -8.0]);
        let mut scales = [0.5, 0.25];
        assert_eq!(fold_batch_norm("c", &mut scales, Some(&[1.0, 1.0]), &norm, 0.0).unwrap(), [-1.0, -1.5]);
        assert_eq!(scales, [0.5, -0.5]);
    }

    #[test]
    fn bad_batch_norms_are_refused() {
        let good = BatchNorm { gamma: &[1.0, 1.0], beta: &[0.0, 0.0], mean: &[0.0, 0.0], variance: &[1.0, 1.0] };
        let fold = |norm: BatchNorm<'_>, weight: &mut [f32]| {
            fold_batch_norm("c", weight, None, &norm, 1e-5).unwrap_err().to_string()
        };
        let message = fold(BatchNorm { variance: &[1.0, -1.0], ..good }, &mut [1.0; 4]);
        assert_eq!(message, "`c`, channel 1: the batch norm's variance is negative or not a number");
        assert!(fold(BatchNorm { variance: &[f32::NAN, 1.0], ..good }, &mut [1.0; 4]).contains("channel 0"));
        assert!(fold(BatchNorm { gamma: &[1.0, f32::INFINITY], ..good }, &mut [1.0; 4]).contains("not finite"));
        assert!(fold(BatchNorm { mean: &[1.0], ..good }, &mut [1.0; 4]).contains("c.running_mean"));
        assert!(fold(good, &mut [1.0; 3]).contains("c.weight"));
        assert!(fold(good, &mut []).contains("c.weight"));
        assert!(fold(good, &mut [1.0, 1.0, f32::NAN, 1.0]).contains("channel 1"));
        let none = BatchNorm { gamma: &[], beta: &[], mean: &[], variance: &[] };
        assert!(fold(none, &mut [1.0]).contains("c.weight"));
        assert!(matches!(fold_batch_norm("c", &mut [1.0; 2], Some(&[0.0]), &good, 1e-5), Err(Error::Length { .. })));
    }

    #[test]
    fn layouts_put_output_channels_innermost() {
        assert_eq!(linear_rows("w", &[1, 2, 3, 4, 5, 6], 2, 3).unwrap(), [1, 4, 2, 5, 3, 6]);
        let depthwise: Vec<i8> = (0..18).collect();
        assert_eq!(depthwise_rows("w", &depthwise, 2, 3).unwrap()[..6], [0, 9, 1, 10, 2, 11]);
        // [2, 2, 1, 2] to [1, 2, 2, 2].
        assert_eq!(conv_rows("w", &[1, 2, 3, 4, 5, 6, 7, 8], 2, 2, 1, 2).unwrap(), [1, 5, 3, 7, 2, 6, 4, 8]);
    }

    #[test]
    fn stem_has_a_zero_row_for_alpha() {
        let weight: Vec<f32> = (0..2 * 27).map(|value| value as f32).collect();
        let rows = stem_rows("w", &weight, 2, 3).unwrap();
        assert_eq!(rows.len(), 3 * 3 * 4 * 2);
        // The first tap: red, green, blue of both outputs, then zeros; the second follows.
        assert_eq!(rows[..12], [0.0, 27.0, 9.0, 36.0, 18.0, 45.0, 0.0, 0.0, 1.0, 28.0, 10.0, 37.0]);
        assert_eq!(rows[8 * 8..], [8.0, 35.0, 17.0, 44.0, 26.0, 53.0, 0.0, 0.0]);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert!(linear_rows("w", &[1.0; 5], 2, 3).is_err());
        assert!(linear_rows("w", &[1.0; 5], usize::MAX, 3).is_err());
        assert!(depthwise_rows("w", &[1.0; 5], 2, usize::MAX).is_err());
        assert!(stem_rows("w", &[1.0; 26], 1, 3).is_err());
        assert!(conv_rows("w", &[1.0; 5], 2, 2, 2, 2).is_err());
        assert!(linear_rows::<f32>("w", &[], 0, 0).unwrap().is_empty());
        assert!(stem_rows::<f32>("w", &[], 0, 3).unwrap().is_empty());
    }
}
