//! The first convolution of an image network: three input channels leave a GEMM nothing to do, so it reads pixels itself.

use super::padding::{Padding, Window};
use super::{affine_of, rows_choice};
use crate::{
    Activation, Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance,
    Work, fitting, parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(crate) const SOURCES: &[Source] = crate::linked::STEM;

/// `y[n, i, j, o] = act(sum_{u, v, c} p[n, i * stride + u - top, j * stride + v - left, c] * w[u, v, c, o] * factor[o] + bias[o])`
///
/// `p` is zero outside the image. Inputs: `x`, either `[images, h, w]` of [`Format::Rgba8`], normalized as
/// `(byte / 255 - mean) / std` and its alpha ignored, or `[images, h, w, 3]` of [`Format::F32`], taken as it is;
/// `w [kernel * kernel * 3, n]` in rows of [`Format::F32`] or [`Format::I8`], row `(u * kernel + v) * 3 + c`;
/// `affine [1, n]` (bias) or, for bytes, `[2, n]` (bias, then the scale of each output channel).
/// Output: `[images, ho, wo, n]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stem {
    /// Extent of the square window.
    pub kernel: u32,
    /// Step of the window.
    pub stride: u32,
    /// Zeros round the normalized image.
    pub padding: Padding,
    /// Applied to the sum and bias.
    pub activation: Activation,
    /// Mean of red, green and blue in `0..=1`; only pixels are normalized.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue in `0..=1`; only pixels are normalized.
    pub std: [f32; 3],
    /// [`Format::F32`] or [`Format::F16`]: how the output is stored.
    pub storage: Format,
}

impl Default for Stem {
    /// The stem of a MobileNet over pixels normalized to `-1..=1`: 3x3, stride 2, one zero on each side.
    fn default() -> Stem {
        Stem {
            kernel: 3,
            stride: 2,
            padding: Padding::all(1),
            activation: Activation::None,
            mean: [0.5; 3],
            std: [0.5; 3],
            storage: Format::F32,
        }
    }
}

impl Stem {
    fn window(&self) -> Window {
        Window::square(self.kernel, self.stride, self.padding)
    }

    fn terms(&self) -> usize {
        (self.kernel * self.kernel * 3) as usize
    }
}

impl Kernel for Stem {
    fn name(&self) -> &'static str {
        "stem"
    }

    fn summary(&self) -> String {
        format!("k{} s{} {} {}", self.kernel, self.stride, self.padding.label(), self.activation.label())
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x, w, affine] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "x, w and affine", found: inputs.len() });
        };
        let refuse = |position: usize, expected: String| {
            Err(ShapeError::Input { kernel, position, expected, found: inputs[position].clone() })
        };
        let (images, height, width) = match (x.format, &x.shape[..]) {
            (Format::Rgba8, &[images, height, width]) | (Format::F32, &[images, height, width, 3]) => {
                (images, height, width)
            }
            _ => return refuse(0, "pixels [images, height, width] or f32 [images, height, width, 3]".into()),
        };
        if x.is_empty() {
            return refuse(0, "at least one pixel".into());
        }
        let [ho, wo] = self.window().positions(kernel, [height, width])?;
        let rows = self.terms();
        if w.shape.len() != 2 || w.shape[0] != rows || w.is_empty() || rows_choice(self.storage, w.format).is_none() {
            return refuse(1, format!("[{rows}, channels] in a format that goes with {}", self.storage.label()));
        }
        let n = w.last();
        let affines = Desc::f32([if w.format == Format::I8 { 2 } else { 1 }, n]);
        if *affine != affines {
            return refuse(2, affines.to_string());
        }
        Ok(vec![Desc::new(self.storage, [images, ho, wo, n])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let storage = rows_choice(self.storage, call.inputs[1].format).unwrap_or_default();
        let pixels = if call.inputs[0].format == Format::Rgba8 { "rgba8" } else { "f32" };
        let paths: &[&str] = match (caps.software, call.outputs[0].last().is_multiple_of(8)) {
            (true, true) => &["subgroup8", "subgroup4", "broad", "portable"],
            (true, false) => &["subgroup8", "subgroup4", "portable"],
            (false, _) => &["portable"],
        };
        paths
            .iter()
            .flat_map(|path| {
                fitting(SOURCES, &[("path", path), ("storage", storage), ("pixels", pixels)], caps).collect::<Vec<_>>()
            })
            .take(1)
            .collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (x, y) = (&call.inputs[0].shape, &call.outputs[0]);
        let (m, n4) = (y.rows() as u32, y.last().div_ceil(4) as u32);
        let mut params = vec![x[1] as u32, x[2] as u32, y.shape[1] as u32, y.shape[2] as u32, m, n4];
        params.extend([self.kernel, self.stride, self.padding.top, self.padding.left]);
        params.extend(self.std.map(|std| (1.0 / (255.0 * std)).to_bits()));
        params.extend(self.mean.iter().zip(self.std).map(|(mean, std)| (-mean / std).to_bits()));
        params.extend(self.activation.words());
        params.extend([0, 0]);
        let (columns, rows) = match source.choice("path") {
            "broad" => (2 * source.number("NG"), 8 * source.number("TM")),
            "portable" => (8, 8 * source.number("TM")),
            _ => (source.subgroup, source.number("TM")),
        };
        Launch::new(call, params, [n4.div_ceil(columns), m.div_ceil(rows), 1])
    }

    fn first_group(&self) -> [Option<usize>; 2] {
        [Some(22), Some(23)]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let pixels: Vec<[f64; 3]> = match inputs[0].desc.format {
            Format::Rgba8 => {
                let normalize =
                    |byte: u8, c: usize| (f64::from(byte) / 255.0 - f64::from(self.mean[c])) / f64::from(self.std[c]);
                let words = inputs[0].words.iter().map(|word| word.to_le_bytes());
                words.map(|[r, g, b, _]| [normalize(r, 0), normalize(g, 1), normalize(b, 2)]).collect()
            }
            _ => inputs[0].values().chunks_exact(3).map(|p| [p[0], p[1], p[2]].map(f64::from)).collect(),
        };
        let (height, width) = (inputs[0].desc.shape[1] as i64, inputs[0].desc.shape[2] as i64);
        let w: Vec<f64> = inputs[1].values().into_iter().map(f64::from).collect();
        let affine = inputs[2].values();
        let (ho, wo, n) = (outputs[0].shape[1], outputs[0].shape[2], outputs[0].last());
        let (kernel, stride) = (i64::from(self.kernel), i64::from(self.stride));
        let (top, left) = (i64::from(self.padding.top), i64::from(self.padding.left));
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, wo * n, |r, row| {
            let (image, i) = ((r / ho) as i64, (r % ho) as i64);
            let mut sums = vec![0.0f64; n];
            for (j, out) in row.chunks_exact_mut(n).enumerate() {
                sums.fill(0.0);
                for u in 0..kernel {
                    for v in 0..kernel {
                        let (iy, ix) = (i * stride + u - top, j as i64 * stride + v - left);
                        if iy < 0 || iy >= height || ix < 0 || ix >= width {
                            continue;
                        }
                        let pixel = pixels[((image * height + iy) * width + ix) as usize];
                        for (c, value) in pixel.iter().enumerate() {
                            let at = ((u * kernel + v) as usize * 3 + c) * n;
                            for (sum, weight) in sums.iter_mut().zip(&w[at..at + n]) {
                                *sum += value * weight;
                            }
                        }
                    }
                }
                for (o, (out, sum)) in out.iter_mut().zip(&sums).enumerate() {
                    let factor = affine.get(n + o).map_or(1.0, |s| f64::from(*s));
                    *out = self.activation.apply(sum * factor + f64::from(affine[o])) as f32;
                }
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, _: &Call<'_>) -> Tolerance {
        Tolerance::of_sum(self.terms(), self.storage)
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 2.0 * (call.outputs[0].len() * self.terms()) as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sizes round the tiles of every variant, the windows and paddings of the frameworks, and the stems of the MobileNets.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, stem: Stem, pixels: &str, storage: &str, [images, height, width, n]: [usize; 4]| {
        let stem = Stem { storage: if storage == "f16" { Format::F16 } else { Format::F32 }, ..stem };
        let weights = if storage == "i8" { Format::I8 } else { Format::F32 };
        let x = match pixels {
            "rgba8" => Desc::new(Format::Rgba8, [images, height, width]),
            _ => Desc::f32([images, height, width, 3]),
        };
        let options = stem.summary().replace(' ', "_");
        let label = format!("{images}x{height}x{width}x{n}.{pixels}.{storage}.{options}");
        let w = Desc::new(weights, [stem.terms(), n]);
        let inputs = vec![(x, Fill::Noise), (w, Fill::Noise), affine_of(weights, n)];
        cases.push(Case { label, kernel: Arc::new(stem), inputs, tier });
    };
    let imagenet = Stem { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], ..Stem::default() };
    let same = Padding { top: 0, left: 0, bottom: 1, right: 1 };
    for pixels in ["rgba8", "f32"] {
        for storage in ["f32", "f16", "i8"] {
            let relu6 = Stem { activation: Activation::Relu6, ..imagenet };
            add(Tier::Short, relu6, pixels, storage, [1, 16, 20, 32]);
            add(Tier::Short, Stem { padding: same, ..imagenet }, pixels, storage, [2, 9, 12, 13]);
            let uneven = Padding { top: 2, left: 1, bottom: 0, right: 3 };
            add(
                Tier::Short,
                Stem { kernel: 5, stride: 1, padding: uneven, ..imagenet },
                pixels,
                storage,
                [1, 6, 5, 20],
            );
            // Few channels of many pixels.
            add(Tier::Full, imagenet, pixels, storage, [1, 23, 26, 8]);
            for n in [1, 3, 4, 5, 16, 17, 31, 33, 64, 65] {
                add(Tier::Full, imagenet, pixels, storage, [1, 5, 6, n]);
            }
            for width in [1, 2, 3, 7, 15, 16, 17, 23, 24, 25, 29, 31, 33] {
                add(Tier::Full, Stem { stride: 1, ..imagenet }, pixels, storage, [1, 1, width, 12]);
                if storage == "f32" {
                    add(Tier::Full, Stem { stride: 1, ..imagenet }, pixels, storage, [1, 1, width, 8]);
                }
            }
            for kernel in [1, 2, 3, 4, 7] {
                for stride in [1, 2, 3] {
                    let padding = Padding::all(kernel / 2);
                    add(Tier::Full, Stem { kernel, stride, padding, ..imagenet }, pixels, storage, [2, 11, 8, 9]);
                }
            }
        }
    }
    for activation in Activation::ALL {
        add(Tier::Short, Stem { activation, ..imagenet }, "rgba8", "f32", [1, 6, 7, 8]);
    }
    for storage in ["f32", "f16", "i8"] {
        let v2 = Stem { activation: Activation::Relu6, padding: same, ..Stem::default() };
        let v3 = Stem { activation: Activation::HardSwish, ..imagenet };
        add(Tier::Model, v2, "rgba8", storage, [1, 224, 224, 32]);
        add(Tier::Model, v3, "rgba8", storage, [1, 224, 224, 16]);
        add(Tier::Model, v2, "f32", storage, [1, 224, 224, 32]);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window of ones counts, in each channel, the pixels under it: the corners see four, the edges six.
    #[test]
    fn the_border_is_zero_after_normalization() {
        let stem = Stem { stride: 1, mean: [0.0, 0.5, 1.0], std: [1.0, 0.5, 0.25], ..Stem::default() };
        let x = HostTensor::from_words(Desc::new(Format::Rgba8, [1, 3, 3]), vec![0x1180_ff33; 9]);
        let (red, green, blue) = (51.0 / 255.0, 1.0, (128.0 / 255.0 - 1.0) / 0.25);
        let mut weights = vec![0.0; 27 * 4];
        for tap in 0..9 {
            for channel in 0..3 {
                weights[(tap * 3 + channel) * 4 + channel] = 1.0;
                weights[(tap * 3 + channel) * 4 + 3] = 1.0;
            }
        }
        let w = HostTensor::from_values(Desc::f32([27, 4]), &weights);
        let affine = HostTensor::from_values(Desc::f32([1, 4]), &[0.0, 1.0, 0.0, 0.0]);
        let descs = [x.desc.clone(), w.desc.clone(), affine.desc.clone()];
        let outputs = stem.outputs(&descs).unwrap();
        let y = stem.reference(&[&x, &w, &affine], &outputs)[0].values();
        for (position, count) in [4.0, 6.0, 4.0, 6.0, 9.0, 6.0, 4.0, 6.0, 4.0].iter().enumerate() {
            let expected = [red * count, green * count + 1.0, blue * count, (red + green + blue) * count];
            for (found, expected) in y[position * 4..].iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{position}: {found} and {expected}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let stem = Stem::default();
        let (x, w) = (Desc::new(Format::Rgba8, [1, 8, 8]), Desc::f32([27, 16]));
        assert!(stem.outputs(&[x.clone(), w.clone(), Desc::f32([1, 16])]).is_ok());
        let refused = [
            [Desc::f32([1, 8, 8, 4]), w.clone(), Desc::f32([1, 16])],
            [x.clone(), Desc::f32([36, 16]), Desc::f32([1, 16])],
            [x.clone(), Desc::new(Format::I8, [27, 16]), Desc::f32([1, 16])],
            [x, w, Desc::f32([1, 17])],
        ];
        for inputs in refused {
            assert!(matches!(stem.outputs(&inputs), Err(ShapeError::Input { .. })));
        }
    }
}
