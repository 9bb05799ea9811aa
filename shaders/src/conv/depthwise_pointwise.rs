//! Depthwise and pointwise convolution in one: saves the tensor between them, at the price of computing it more than once.

use super::padding::{Padding, Window};
use super::{affine_of, rows_choice, storage_choice};
use crate::{
    Activation, Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, Operand, ShapeError, Source, Tier,
    Tolerance, Work, fitting, parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(crate) const SOURCES: &[Source] = crate::linked::DEPTHWISE_POINTWISE;

/// `y[n, i, j, o] = sum_c act(sum_{u, v} x[n, i * stride + u - top, j * stride + v - left, c] * d[u, v, c] * f[c] + b[c]) * w[c, o] * factor[o] + bias[o] + residual[n, i, j, o]`
///
/// `x` is zero outside the image. Inputs: `x [images, h, w, c]`, `d [kernel * kernel, c]` in rows of [`Format::F32`] or
/// [`Format::I8`], `[1, c]` (`b`) or, for bytes, `[2, c]` (`b`, then `f`), `w [c, n]` as a matrix, `[1, n]` (`bias`) or
/// `[2, n]` (`bias`, then `factor`), and if asked `residual [images, ho, wo, n]`. Both weights are bytes or neither is.
/// Output: `[images, ho, wo, n]` stored as `x` is. (Howard et al. 2017, section 3.1; Sandler et al. 2018, section 3.4.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepthwisePointwise {
    /// Extent of the square window: 3 or 5.
    pub kernel: u32,
    /// Step of the window: 1 or 2.
    pub stride: u32,
    /// Zeros round the image.
    pub padding: Padding,
    /// Applied between the two convolutions.
    pub activation: Activation,
    /// A sixth input is added to the result.
    pub residual: bool,
}

impl DepthwisePointwise {
    fn taps(&self) -> usize {
        (self.kernel * self.kernel) as usize
    }

    fn shape(&self) -> Option<&'static str> {
        match (self.kernel, self.stride) {
            (3, 1) => Some("k3s1"),
            (3, 2) => Some("k3s2"),
            (5, 1) => Some("k5s1"),
            (5, 2) => Some("k5s2"),
            _ => None,
        }
    }
}

/// The option of the `storage` axis, when the formats of activations, taps and matrix go together.
fn storage(inputs: &[Desc]) -> Option<&'static str> {
    let [x, taps, _, w, ..] = inputs else {
        return None;
    };
    rows_choice(x.format, taps.format).filter(|choice| storage_choice(x.format, w.format) == Some(choice))
}

impl Kernel for DepthwisePointwise {
    fn name(&self) -> &'static str {
        "depthwise_pointwise"
    }

    fn summary(&self) -> String {
        let residual = if self.residual { " +residual" } else { "" };
        format!("k{} s{} {} {}{residual}", self.kernel, self.stride, self.padding.label(), self.activation.label())
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        if inputs.len() != 5 + usize::from(self.residual) {
            let expected = "x, the taps and their affine, w and its affine, and the residual if it has one";
            return Err(ShapeError::Count { kernel, expected, found: inputs.len() });
        }
        let refuse = |position: usize, expected: String| {
            Err(ShapeError::Input { kernel, position, expected, found: inputs[position].clone() })
        };
        let (x, taps, w) = (&inputs[0], &inputs[1], &inputs[3]);
        let Some((images, height, width, c)) = x.nhwc().filter(|_| !x.is_empty()) else {
            return refuse(0, "an activation [images, height, width, channels]".into());
        };
        if self.shape().is_none() {
            let reason = "the window is 3 x 3 or 5 x 5 and its step 1 or 2; others take two kernels".to_owned();
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let window = Window::square(self.kernel, self.stride, self.padding);
        let [ho, wo] = window.positions(kernel, [height, width])?;
        if taps.shape != [self.taps(), c] || rows_choice(x.format, taps.format).is_none() {
            return refuse(1, format!("{}x{c} in a format that goes with {}", self.taps(), x.format.label()));
        }
        let affine_rows = if taps.format == Format::I8 { 2 } else { 1 };
        if inputs[2] != Desc::f32([affine_rows, c]) {
            return refuse(2, Desc::f32([affine_rows, c]).to_string());
        }
        if w.shape.len() != 2 || w.shape[0] != c || w.is_empty() || storage(inputs).is_none() {
            return refuse(3, format!("a matrix of {c} rows in a format that goes with {}", x.format.label()));
        }
        let n = w.last();
        if inputs[4] != Desc::f32([affine_rows, n]) {
            return refuse(4, Desc::f32([affine_rows, n]).to_string());
        }
        let output = Desc::new(x.format, [images, ho, wo, n]);
        if self.residual && inputs[5] != output {
            return refuse(5, output.to_string());
        }
        Ok(vec![output])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let storage = storage(call.inputs).unwrap_or_default();
        let shape = self.shape().unwrap_or_default();
        let paths: &[&str] = if caps.software { &["subgroup8", "subgroup4", "portable"] } else { &["portable"] };
        paths
            .iter()
            .flat_map(|path| {
                fitting(SOURCES, &[("path", path), ("shape", shape), ("storage", storage)], caps).collect::<Vec<_>>()
            })
            .take(1)
            .collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (x, y) = (&call.inputs[0].shape, &call.outputs[0].shape);
        let (ho, wo) = (y[1] as u32, y[2] as u32);
        let (c4, n4) = (x[3].div_ceil(4) as u32, y[3].div_ceil(4) as u32);
        let mut params = vec![x[1] as u32, x[2] as u32, c4, n4, ho, wo, self.padding.top, self.padding.left];
        params.extend([self.kernel, u32::from(self.residual)]);
        params.extend(self.activation.words());
        params.extend([0, 0]);
        let lanes = if source.subgroup == 0 { 8 } else { source.subgroup };
        let mut operands: Vec<Operand> = (0..5).map(Operand::Input).collect();
        operands.extend([Operand::Input(if self.residual { 5 } else { 0 }), Operand::Output(0)]);
        let strips = ho * wo.div_ceil(4);
        Launch { params, grid: [n4.div_ceil(lanes), strips.div_ceil(lanes), y[0] as u32], operands }
    }

    fn first_group(&self) -> [Option<usize>; 2] {
        [Some(16), Some(17)]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let [x, taps, taps_affine, w, affine] = [0, 1, 2, 3, 4].map(|i| inputs[i].values());
        let residual = inputs.get(5).map(|tensor| tensor.values());
        let [_, height, width, c] = [0, 1, 2, 3].map(|axis| inputs[0].desc.shape[axis] as i64);
        let (ho, wo, n) = (outputs[0].shape[1], outputs[0].shape[2], outputs[0].last());
        let (kernel, stride) = (i64::from(self.kernel), i64::from(self.stride));
        let (top, left) = (i64::from(self.padding.top), i64::from(self.padding.left));
        let channels = c as usize;
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, wo * n, |r, row| {
            let (image, i) = ((r / ho) as i64, (r % ho) as i64);
            let (mut between, mut sums) = (vec![0.0f64; channels], vec![0.0f64; n]);
            for (j, out) in row.chunks_exact_mut(n).enumerate() {
                between.fill(0.0);
                for u in 0..kernel {
                    for v in 0..kernel {
                        let (iy, ix) = (i * stride + u - top, j as i64 * stride + v - left);
                        if iy < 0 || iy >= height || ix < 0 || ix >= width {
                            continue;
                        }
                        let at = ((image * height + iy) * width + ix) as usize * channels;
                        let tap = &taps[(u * kernel + v) as usize * channels..][..channels];
                        for ((sum, value), weight) in between.iter_mut().zip(&x[at..at + channels]).zip(tap) {
                            *sum += f64::from(*value) * f64::from(*weight);
                        }
                    }
                }
                sums.fill(0.0);
                for (k, value) in between.iter().enumerate() {
                    let factor = taps_affine.get(channels + k).map_or(1.0, |s| f64::from(*s));
                    let value = self.activation.apply(value * factor + f64::from(taps_affine[k]));
                    for (sum, weight) in sums.iter_mut().zip(&w[k * n..(k + 1) * n]) {
                        *sum += value * f64::from(*weight);
                    }
                }
                for (o, (out, sum)) in out.iter_mut().zip(&sums).enumerate() {
                    let factor = affine.get(n + o).map_or(1.0, |s| f64::from(*s));
                    let added = residual.as_ref().map_or(0.0, |values| f64::from(values[(r * wo + j) * n + o]));
                    *out = (sum * factor + f64::from(affine[o]) + added) as f32;
                }
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        Tolerance::of_sum(self.taps() + call.inputs[0].last(), call.outputs[0].format)
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let (c, n) = (call.inputs[0].last(), call.outputs[0].last());
        Work { flops: 2.0 * (call.outputs[0].rows() * c * (self.taps() + n)) as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sizes round the tiles of every variant, every window, and the ends of the MobileNets' blocks.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, kernel: DepthwisePointwise, storage: &str, [images, height, width, c, n]: [usize; 5]| {
        let (values, taps, matrix) = match storage {
            "f16" => (Format::F16, Format::F32, Format::MatrixF16),
            "i8" => (Format::F32, Format::I8, Format::MatrixI8),
            _ => (Format::F32, Format::F32, Format::MatrixF32),
        };
        let mut inputs = vec![
            (Desc::new(values, [images, height, width, c]), Fill::Noise),
            (Desc::new(taps, [kernel.taps(), c]), Fill::Noise),
            affine_of(taps, c),
            (Desc::new(matrix, [c, n]), Fill::Noise),
            affine_of(matrix, n),
        ];
        if kernel.residual {
            // The residual exists where the block keeps the size of its image.
            inputs.push((Desc::new(values, [images, height, width, n]), Fill::Noise));
        }
        let options = kernel.summary().replace(' ', "_");
        let label = format!("{images}x{height}x{width}x{c}x{n}.{storage}.{options}");
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    let of = |kernel: u32, stride: u32| DepthwisePointwise {
        kernel,
        stride,
        padding: Padding::all(kernel / 2),
        activation: Activation::Relu6,
        residual: false,
    };
    let uneven = Padding { top: 0, left: 2, bottom: 3, right: 1 };
    for storage in ["f32", "f16", "i8"] {
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
            let plain = of(kernel, stride);
            // One of each kind: every pipeline of this kernel costs a software adapter up to a second.
            let tier = if (kernel, stride, storage) == (3, 1, "f32") { Tier::Short } else { Tier::Full };
            add(tier, plain, storage, [2, 7, 9, 20, 24]);
            add(Tier::Full, DepthwisePointwise { padding: uneven, ..plain }, storage, [2, 6, 8, 12, 36]);
            for side in [1, 2, 3, 4, 5, 13, 16, 17, 33] {
                add(Tier::Full, plain, storage, [1, side, 6, 8, 12]);
                add(Tier::Full, plain, storage, [1, 5, side, 8, 12]);
            }
            for c in [1, 2, 3, 4, 5, 28, 31, 32, 33, 36, 65] {
                add(Tier::Full, plain, storage, [1, 4, 5, c, 8]);
            }
            for n in [1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 65] {
                add(Tier::Full, plain, storage, [1, 5, 4, 8, n]);
            }
        }
        let tier = if storage == "f32" { Tier::Short } else { Tier::Full };
        add(tier, DepthwisePointwise { residual: true, ..of(3, 1) }, storage, [2, 5, 6, 13, 33]);
        add(Tier::Full, DepthwisePointwise { residual: true, ..of(5, 1) }, storage, [1, 9, 7, 40, 21]);
    }
    for activation in Activation::ALL {
        add(Tier::Short, DepthwisePointwise { activation, ..of(3, 1) }, "f32", [1, 4, 5, 8, 8]);
    }
    for storage in ["f32", "f16", "i8"] {
        for (side, c, n, stride, residual) in [
            (112, 32, 16, 1, false),
            (112, 96, 24, 2, false),
            (56, 144, 24, 1, true),
            (28, 192, 32, 1, true),
            (14, 384, 64, 1, true),
            (7, 960, 160, 1, true),
        ] {
            add(Tier::Model, DepthwisePointwise { residual, ..of(3, stride) }, storage, [1, side, side, c, n]);
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::super::{Depthwise, Pointwise};
    use super::*;

    /// The two kernels that it replaces give the same, but for the rounding of the tensor between them.
    #[test]
    fn it_is_the_two_in_sequence() {
        for case in cases().iter().filter(|case| case.tier == Tier::Short && case.label.contains(".f32.")) {
            let fused = case.kernel.as_any().downcast_ref::<DepthwisePointwise>().unwrap();
            let tensors = case.tensors();
            let found = case.expected(&tensors).unwrap();
            let DepthwisePointwise { kernel, stride, padding, activation, residual } = *fused;
            let first = Depthwise { kernel, stride, padding, activation, pool: false };
            let inputs: Vec<&HostTensor> = tensors[..3].iter().collect();
            let descs: Vec<Desc> = inputs.iter().map(|t| t.desc.clone()).collect();
            let between = first.reference(&inputs, &first.outputs(&descs).unwrap());
            let second = Pointwise { residual, ..Pointwise::default() };
            let inputs: Vec<&HostTensor> = between.iter().chain(&tensors[3..]).collect();
            let descs: Vec<Desc> = inputs.iter().map(|t| t.desc.clone()).collect();
            let expected = second.reference(&inputs, &second.outputs(&descs).unwrap());
            assert!(crate::difference(&expected, &found).worst < 1e-6, "{}", case.label);
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let kernel = DepthwisePointwise {
            kernel: 3,
            stride: 1,
            padding: Padding::all(1),
            activation: Activation::None,
            residual: false,
        };
        let inputs = [
            Desc::f32([1, 4, 4, 8]),
            Desc::f32([9, 8]),
            Desc::f32([1, 8]),
            Desc::new(Format::MatrixF32, [8, 5]),
            Desc::f32([1, 5]),
        ];
        assert!(kernel.outputs(&inputs).is_ok());
        assert!(DepthwisePointwise { kernel: 7, ..kernel }.outputs(&inputs).is_err());
        assert!(DepthwisePointwise { residual: true, ..kernel }.outputs(&inputs).is_err());
        let mut mixed = inputs.clone();
        mixed[3].format = Format::MatrixI8;
        assert!(matches!(kernel.outputs(&mixed), Err(ShapeError::Input { position: 3, .. })));
    }
}
