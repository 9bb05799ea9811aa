//! Depthwise convolution: the spatial half of a separable convolution, bound by loads and stores.

use super::padding::{Padding, Window};
use super::{affine_of, rows_choice};
use crate::{
    Activation, Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance,
    Work, fitting, parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(crate) const SOURCES: &[Source] = crate::linked::DEPTHWISE;

/// `y[n, i, j, c] = act(sum_{u, v} x[n, i * stride + u - top, j * stride + v - left, c] * w[u, v, c] * factor[c] + bias[c])`
///
/// `x` is zero outside the image. Inputs: `x [images, h, w, c]`, `w [kernel * kernel, c]` in rows of [`Format::F32`] or
/// [`Format::I8`], `affine [1, c]` (bias) or, for bytes, `[2, c]` (bias, then the scale of each channel). Outputs:
/// `[images, ho, wo, c]` stored as `x` is and, if asked, `[images, ceil(ho / 2), 1, c]` of [`Format::F32`]: the sums of
/// each two rows of the first, the last perhaps of one row only. (Howard et al. 2017, section 3.1.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depthwise {
    /// Extent of the square window, odd.
    pub kernel: u32,
    /// Step of the window.
    pub stride: u32,
    /// Zeros round the image.
    pub padding: Padding,
    /// Applied to the sum and bias.
    pub activation: Activation,
    /// There is a second output, the sums of each two rows.
    pub pool: bool,
}

/// Output rows that one row of the second output sums.
pub const POOLED_ROWS: usize = 2;

impl Depthwise {
    fn window(&self) -> Window {
        Window::square(self.kernel, self.stride, self.padding)
    }

    fn taps(&self) -> usize {
        (self.kernel * self.kernel) as usize
    }

    fn shape(&self) -> &'static str {
        match (self.kernel, self.stride) {
            (3, 1) => "k3s1",
            (3, 2) => "k3s2",
            (5, 1) => "k5s1",
            (5, 2) => "k5s2",
            _ => "any",
        }
    }
}

impl Kernel for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn summary(&self) -> String {
        let pool = if self.pool { " pool" } else { "" };
        format!("k{} s{} {} {}{pool}", self.kernel, self.stride, self.padding.label(), self.activation.label())
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x, w, affine] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "x, w and affine", found: inputs.len() });
        };
        let refuse = |position: usize, expected: String| {
            Err(ShapeError::Input { kernel, position, expected, found: inputs[position].clone() })
        };
        let Some((images, height, width, c)) = x.nhwc().filter(|_| !x.is_empty()) else {
            return refuse(0, "an activation [images, height, width, channels]".into());
        };
        if self.kernel.is_multiple_of(2) {
            let reason =
                format!("the window is {0} x {0} and must be odd; a general convolution takes even ones", self.kernel);
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let [ho, wo] = self.window().positions(kernel, [height, width])?;
        if w.shape != [self.taps(), c] || rows_choice(x.format, w.format).is_none() {
            return refuse(1, format!("{}x{c} in a format that goes with {}", self.taps(), x.format.label()));
        }
        let affines = Desc::f32([if w.format == Format::I8 { 2 } else { 1 }, c]);
        if *affine != affines {
            return refuse(2, affines.to_string());
        }
        let mut outputs = vec![Desc::new(x.format, [images, ho, wo, c])];
        if self.pool {
            outputs.push(Desc::f32([images, ho.div_ceil(POOLED_ROWS), 1, c]));
        }
        Ok(outputs)
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let storage = rows_choice(call.inputs[0].format, call.inputs[1].format).unwrap_or_default();
        let pool = if self.pool { "pooled" } else { "plain" };
        let paths: &[&str] = if caps.software { &["sweep", "portable"] } else { &["portable"] };
        paths
            .iter()
            .flat_map(|path| {
                let choices = [("path", *path), ("shape", self.shape()), ("storage", storage), ("pool", pool)];
                fitting(SOURCES, &choices, caps).collect::<Vec<_>>()
            })
            .take(1)
            .collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (x, y) = (&call.inputs[0].shape, &call.outputs[0].shape);
        let (ho, wo, c4) = (y[1] as u32, y[2] as u32, y[3].div_ceil(4) as u32);
        let mut params = vec![x[1] as u32, x[2] as u32, c4, ho, wo, self.padding.top, self.padding.left];
        params.extend([self.kernel, self.stride]);
        params.extend(self.activation.words());
        params.extend([0, 0]);
        let rows = match source.choice("path") {
            "sweep" => ho.div_ceil(source.number("OY")),
            _ if self.pool => ho.div_ceil(POOLED_ROWS as u32),
            _ => (ho * wo.div_ceil(4)).div_ceil(8),
        };
        Launch::new(call, params, [c4.div_ceil(8), rows, y[0] as u32])
    }

    fn first_group(&self) -> [Option<usize>; 2] {
        [Some(15), Some(16)]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, w, affine) = (inputs[0].values(), inputs[1].values(), inputs[2].values());
        let (height, width) = (inputs[0].desc.shape[1] as i64, inputs[0].desc.shape[2] as i64);
        let (ho, wo, c) = (outputs[0].shape[1], outputs[0].shape[2], outputs[0].last());
        let (kernel, stride) = (i64::from(self.kernel), i64::from(self.stride));
        let (top, left) = (i64::from(self.padding.top), i64::from(self.padding.left));
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, wo * c, |r, row| {
            let (image, i) = ((r / ho) as i64, (r % ho) as i64);
            let mut sums = vec![0.0f64; c];
            for (j, out) in row.chunks_exact_mut(c).enumerate() {
                sums.fill(0.0);
                for u in 0..kernel {
                    for v in 0..kernel {
                        let (iy, ix) = (i * stride + u - top, j as i64 * stride + v - left);
                        if iy < 0 || iy >= height || ix < 0 || ix >= width {
                            continue;
                        }
                        let at = ((image * height + iy) * width + ix) as usize * c;
                        let tap = (u * kernel + v) as usize * c;
                        for ((sum, value), weight) in sums.iter_mut().zip(&x[at..at + c]).zip(&w[tap..tap + c]) {
                            *sum += f64::from(*value) * f64::from(*weight);
                        }
                    }
                }
                for (o, (out, sum)) in out.iter_mut().zip(&sums).enumerate() {
                    let factor = affine.get(c + o).map_or(1.0, |s| f64::from(*s));
                    *out = self.activation.apply(sum * factor + f64::from(affine[o])) as f32;
                }
            }
        });
        let mut results = vec![HostTensor::from_values(outputs[0].clone(), &y)];
        if let Some(desc) = outputs.get(1) {
            let mut partials = vec![0.0; desc.len()];
            let blocks = ho.div_ceil(POOLED_ROWS);
            parallel::rows(&mut partials, c, |r, sums| {
                let (image, first) = (r / blocks, r % blocks * POOLED_ROWS);
                let rows = image * ho + first..image * ho + (first + POOLED_ROWS).min(ho);
                for (o, sum) in sums.iter_mut().enumerate() {
                    let column = y[rows.start * wo * c + o..rows.end * wo * c].iter().step_by(c);
                    *sum = column.map(|v| f64::from(*v)).sum::<f64>() as f32;
                }
            });
            results.push(HostTensor::from_values(desc.clone(), &partials));
        }
        results
    }

    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let pooled = if self.pool { POOLED_ROWS * call.outputs[0].shape[2] } else { 0 };
        Tolerance::of_sum(self.taps() + pooled, call.outputs[0].format)
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 2.0 * (call.outputs[0].len() * self.taps()) as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sizes round the tiles of every variant, every window and padding, and the layers of the MobileNets.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, kernel: Depthwise, storage: &str, [images, height, width, c]: [usize; 4]| {
        let values = if storage == "f16" { Format::F16 } else { Format::F32 };
        let weights = if storage == "i8" { Format::I8 } else { Format::F32 };
        let options = kernel.summary().replace(' ', "_");
        let label = format!("{images}x{height}x{width}x{c}.{storage}.{options}");
        let (x, w) = (Desc::new(values, [images, height, width, c]), Desc::new(weights, [kernel.taps(), c]));
        let inputs = vec![(x, Fill::Noise), (w, Fill::Noise), affine_of(weights, c)];
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    let of = |kernel: u32, stride: u32| Depthwise {
        kernel,
        stride,
        padding: Padding::all(kernel / 2),
        activation: Activation::None,
        pool: false,
    };
    let uneven = Padding { top: 0, left: 2, bottom: 1, right: 0 };
    for storage in ["f32", "f16", "i8"] {
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (3, 3)] {
            let plain = of(kernel, stride);
            let pooled = Depthwise { pool: true, ..plain };
            let common = storage == "f32" || (kernel, stride) == (3, 1);
            // No network has a plain 5x5 layer; the pooled one has the same loop.
            let tier = if common && kernel != 5 { Tier::Short } else { Tier::Full };
            add(tier, Depthwise { activation: Activation::Relu6, ..plain }, storage, [1, 7, 9, 40]);
            let tier = if common && kernel < 7 && stride < 3 { Tier::Short } else { Tier::Full };
            add(tier, pooled, storage, [2, 8, 7, 21]);
            add(Tier::Full, Depthwise { padding: uneven, ..plain }, storage, [2, 9, 11, 6]);
            add(Tier::Full, Depthwise { padding: uneven, ..pooled }, storage, [2, 10, 8, 36]);
            add(Tier::Full, Depthwise { padding: Padding::all(kernel), ..pooled }, storage, [1, 3, 4, 5]);
            for side in [1, 2, 3, 4, 5, 8, 13, 16, 17, 31] {
                add(Tier::Full, plain, storage, [1, side, 5, 12]);
                add(Tier::Full, plain, storage, [1, 6, side, 12]);
                add(Tier::Full, pooled, storage, [1, side, side, 4]);
            }
            for c in [1, 2, 3, 4, 5, 31, 32, 33, 37, 65] {
                add(Tier::Full, plain, storage, [1, 6, 7, c]);
            }
        }
        add(Tier::Full, Depthwise { padding: Padding::default(), ..of(1, 1) }, storage, [1, 4, 5, 9]);
    }
    for activation in Activation::ALL {
        add(Tier::Short, Depthwise { activation, ..of(3, 1) }, "f32", [1, 4, 5, 8]);
    }
    let same = Padding { top: 0, left: 0, bottom: 1, right: 1 };
    for storage in ["f32", "f16", "i8"] {
        for (side, c, stride) in [
            (112, 32, 1),
            (112, 96, 2),
            (56, 144, 1),
            (56, 144, 2),
            (28, 192, 1),
            (28, 192, 2),
            (14, 384, 1),
            (14, 576, 2),
            (7, 960, 1),
        ] {
            let padding = if stride == 2 { same } else { Padding::all(1) };
            let kernel = Depthwise { activation: Activation::Relu6, padding, ..of(3, stride) };
            add(Tier::Model, kernel, storage, [1, side, side, c]);
        }
        for (side, c, stride) in [(56, 72, 2), (28, 120, 1), (14, 672, 2), (7, 960, 1)] {
            let kernel = Depthwise { activation: Activation::HardSwish, pool: true, ..of(5, stride) };
            add(Tier::Model, kernel, storage, [1, side, side, c]);
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window of ones counts the pixels under it; channel 1 has weight 2 and a bias.
    #[test]
    fn windows_end_at_the_border_and_blocks_sum_two_rows() {
        let kernel =
            Depthwise { kernel: 3, stride: 2, padding: Padding::all(1), activation: Activation::Relu, pool: true };
        let x = HostTensor::from_values(Desc::f32([1, 5, 4, 2]), &[1.0; 40]);
        let w = HostTensor::from_values(Desc::new(Format::I8, [9, 2]), &[1.0, 2.0].repeat(9));
        let affine = HostTensor::from_values(Desc::f32([2, 2]), &[0.0, -9.0, 1.0, 0.5]);
        let outputs = kernel.outputs(&[x.desc.clone(), w.desc.clone(), affine.desc.clone()]).unwrap();
        let results = kernel.reference(&[&x, &w, &affine], &outputs);
        let expected = [4.0, 0.0, 6.0, 0.0, 6.0, 0.0, 9.0, 0.0, 4.0, 0.0, 6.0, 0.0];
        assert_eq!(results[0].values(), expected);
        assert_eq!(results[1].values(), [25.0, 0.0, 10.0, 0.0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let kernel =
            Depthwise { kernel: 3, stride: 1, padding: Padding::all(1), activation: Activation::None, pool: false };
        let inputs = [Desc::f32([1, 4, 4, 8]), Desc::f32([9, 8]), Desc::f32([1, 8])];
        assert!(kernel.outputs(&inputs).is_ok());
        assert!(Depthwise { kernel: 4, ..kernel }.outputs(&inputs).is_err());
        assert!(Depthwise { stride: 0, ..kernel }.outputs(&inputs).is_err());
        assert!(kernel.outputs(&[inputs[0].clone(), Desc::f32([9, 7]), inputs[2].clone()]).is_err());
        assert!(kernel.outputs(&[inputs[0].clone(), inputs[1].clone(), Desc::f32([2, 8])]).is_err());
    }
}
