//! General convolution, for whatever the specialized kernels do not take: one that is right before it is fast.

use super::padding::{Padding, Window};
use crate::{
    Activation, Call, Caps, Case, Desc, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, parallel, traffic,
};
use std::any::Any;

/// The linked variants.
pub(crate) const SOURCES: &[Source] = crate::linked::CONV;

/// `y[n, i, j, o] = act(sum_{u, v, k} x[n, i * sy + u * dy - top, j * sx + v * dx - left, g(o) * K + k] * w[u, v, k, o] + bias[o])`
///
/// `K` is the number of input channels of a group and `g(o)` the group of output channel `o`; `x` is zero outside the
/// image. Inputs, all [`Format::F32`]: `x [images, h, w, cin]`, `w [kh, kw, cin / groups, cout]`, `affine [1, cout]`
/// (bias). Output: `[images, ho, wo, cout]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Step of the window, vertically and horizontally.
    pub stride: [u32; 2],
    /// Distance between neighbouring taps of the window, vertically and horizontally.
    pub dilation: [u32; 2],
    /// Zeros round the image.
    pub padding: Padding,
    /// Number of groups that the channels are split into.
    pub groups: u32,
    /// Applied to the sum and bias.
    pub activation: Activation,
}

impl Default for Conv {
    /// Steps and distances of one, one group, no padding.
    fn default() -> Conv {
        Conv { stride: [1; 2], dilation: [1; 2], padding: Padding::default(), groups: 1, activation: Activation::None }
    }
}

impl Kernel for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn summary(&self) -> String {
        let [[sy, sx], [dy, dx]] = [self.stride, self.dilation];
        let (padding, activation) = (self.padding.label(), self.activation.label());
        format!("s{sy}x{sx} d{dy}x{dx} {padding} g{} {activation}", self.groups)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x, w, affine] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "x, w and affine", found: inputs.len() });
        };
        let refuse = |position: usize, expected: String| {
            Err(ShapeError::Input { kernel, position, expected, found: inputs[position].clone() })
        };
        let Some((images, height, width, cin)) = x.nhwc().filter(|_| x.format == Format::F32 && !x.is_empty()) else {
            return refuse(0, "an f32 activation [images, height, width, channels]".into());
        };
        let groups = self.groups as usize;
        if groups == 0 || cin % groups != 0 {
            let reason = format!("{cin} input channels cannot be split into {groups} groups");
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let Some((kh, kw, _, cout)) =
            w.nhwc().filter(|(_, _, k, n)| w.format == Format::F32 && *k == cin / groups && *n > 0 && n % groups == 0)
        else {
            let expected = format!("f32 [height, width, {}, a multiple of {groups}]", cin / groups);
            return refuse(1, expected);
        };
        let window = Window { kernel: [kh, kw], stride: self.stride, dilation: self.dilation, padding: self.padding };
        let [ho, wo] = window.positions(kernel, [height, width])?;
        if *affine != Desc::f32([1, cout]) {
            return refuse(2, Desc::f32([1, cout]).to_string());
        }
        Ok(vec![Desc::f32([images, ho, wo, cout])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[("grouping", if self.groups == 1 { "one" } else { "many" })], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (x, w, y) = (&call.inputs[0].shape, &call.inputs[1].shape, &call.outputs[0].shape);
        let (ho, wo, cout) = (y[1] as u32, y[2] as u32, y[3] as u32);
        let mut params = vec![x[1] as u32, x[2] as u32, ho, wo, x[3] as u32, cout];
        params.extend([w[2] as u32, cout / self.groups, w[0] as u32, w[1] as u32]);
        params.extend(self.stride);
        params.extend(self.dilation);
        params.extend([self.padding.top, self.padding.left]);
        params.extend(self.activation.words());
        params.extend([0, 0]);
        let items = if source.choice("grouping") == "one" { ho * wo.div_ceil(4) } else { ho * wo };
        Launch::new(call, params, [cout.div_ceil(32), items.div_ceil(8), y[0] as u32])
    }

    fn first_group(&self) -> [Option<usize>; 2] {
        [Some(22), Some(23)]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, w, bias) = (inputs[0].values(), inputs[1].values(), inputs[2].values());
        let (height, width) = (inputs[0].desc.shape[1] as i64, inputs[0].desc.shape[2] as i64);
        let cin = inputs[0].desc.last();
        let [kh, kw, depth, cout] = [0, 1, 2, 3].map(|axis| inputs[1].desc.shape[axis]);
        let (ho, wo) = (outputs[0].shape[1], outputs[0].shape[2]);
        let per_group = cout / self.groups as usize;
        let [[sy, sx], [dy, dx]] = [self.stride, self.dilation].map(|pair| pair.map(i64::from));
        let (top, left) = (i64::from(self.padding.top), i64::from(self.padding.left));
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, wo * cout, |r, row| {
            let (image, i) = ((r / ho) as i64, (r % ho) as i64);
            let mut sums = vec![0.0f64; cout];
            for (j, out) in row.chunks_exact_mut(cout).enumerate() {
                sums.fill(0.0);
                for tap in 0..kh * kw {
                    let iy = i * sy + (tap / kw) as i64 * dy - top;
                    let ix = j as i64 * sx + (tap % kw) as i64 * dx - left;
                    if iy < 0 || iy >= height || ix < 0 || ix >= width {
                        continue;
                    }
                    let pixel = &x[((image * height + iy) * width + ix) as usize * cin..][..cin];
                    for (group, sums) in sums.chunks_exact_mut(per_group).enumerate() {
                        for (k, value) in pixel[group * depth..(group + 1) * depth].iter().enumerate() {
                            let weights = &w[(tap * depth + k) * cout + group * per_group..][..per_group];
                            for (sum, weight) in sums.iter_mut().zip(weights) {
                                *sum += f64::from(*value) * f64::from(*weight);
                            }
                        }
                    }
                }
                for ((out, sum), bias) in out.iter_mut().zip(&sums).zip(&bias) {
                    *out = self.activation.apply(sum + f64::from(*bias)) as f32;
                }
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        Tolerance::of_sum(call.inputs[1].rows(), Format::F32)
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let flops = 2.0 * (call.outputs[0].len() * call.inputs[1].rows()) as f64;
        Work { flops, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Windows, steps, dilations, paddings and groups of every kind, alone and together.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, conv: Conv, x: [usize; 4], [kh, kw]: [usize; 2], cout: usize| {
        let options = conv.summary().replace(' ', "_");
        let [images, height, width, cin] = x;
        let label = format!("{images}x{height}x{width}x{cin}.k{kh}x{kw}x{cout}.{options}");
        let w = Desc::f32([kh, kw, cin / (conv.groups as usize).max(1), cout]);
        cases.push(Case::noise(label, tier, conv, vec![Desc::f32(x), w, Desc::f32([1, cout])]));
    };
    let plain = Conv { padding: Padding::all(1), ..Conv::default() };
    let uneven = Padding { top: 2, left: 0, bottom: 1, right: 3 };
    for activation in Activation::ALL {
        add(Tier::Short, Conv { activation, ..plain }, [1, 6, 7, 8], [3, 3], 12);
        add(Tier::Short, Conv { activation, groups: 2, ..plain }, [1, 5, 6, 8], [3, 3], 6);
    }
    let skewed = Conv { stride: [2, 1], dilation: [1, 2], padding: uneven, ..Conv::default() };
    add(Tier::Short, skewed, [2, 9, 7, 5], [2, 3], 7);
    add(Tier::Short, Conv { groups: 3, ..skewed }, [2, 9, 7, 6], [3, 2], 9);
    add(Tier::Short, Conv { groups: 7, ..plain }, [1, 4, 5, 7], [3, 3], 14);
    for cin in [1, 2, 3, 4, 5, 8, 13] {
        for cout in [1, 2, 4, 5, 31, 32, 33] {
            add(Tier::Full, plain, [1, 4, 5, cin], [3, 3], cout);
        }
    }
    for size in [1, 2, 3, 7, 8, 9, 16, 17, 33] {
        add(Tier::Full, plain, [1, size, 4, 6], [3, 3], 5);
        add(Tier::Full, plain, [1, 5, size, 6], [3, 3], 5);
    }
    for [kh, kw] in [[1, 1], [1, 5], [5, 1], [2, 4], [7, 7]] {
        for stride in [[1, 1], [2, 3]] {
            for dilation in [[1, 1], [2, 1], [3, 2]] {
                for (groups, cin, cout) in [(1, 6, 9), (2, 6, 8), (3, 6, 3), (6, 6, 6), (6, 6, 12)] {
                    let conv = Conv { stride, dilation, padding: Padding::all(4), groups, ..Conv::default() };
                    add(Tier::Full, conv, [1, 19, 18, cin], [kh, kw], cout);
                }
            }
        }
    }
    add(Tier::Model, Conv { activation: Activation::Relu, ..plain }, [1, 56, 56, 64], [3, 3], 64);
    add(Tier::Model, Conv { groups: 32, ..plain }, [1, 28, 28, 128], [3, 3], 128);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(conv: Conv, inputs: [HostTensor; 3]) -> Vec<f32> {
        let outputs = conv.outputs(&inputs.each_ref().map(|t| t.desc.clone())).unwrap();
        conv.reference(&inputs.each_ref(), &outputs)[0].values()
    }

    #[test]
    fn a_dilated_window_skips_pixels() {
        let x = HostTensor::from_values(Desc::f32([1, 1, 6, 1]), &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]);
        let w = HostTensor::from_values(Desc::f32([1, 2, 1, 1]), &[1.0, 10.0]);
        let bias = HostTensor::from_values(Desc::f32([1, 1]), &[0.5]);
        let padding = Padding { left: 1, ..Padding::default() };
        let conv = Conv { dilation: [1, 3], stride: [1, 2], padding, ..Conv::default() };
        assert_eq!(run(conv, [x, w, bias]), [40.5, 162.5]);
    }

    #[test]
    fn groups_see_their_own_channels_only() {
        let x = HostTensor::from_values(Desc::f32([1, 1, 1, 4]), &[1.0, 10.0, 100.0, 1000.0]);
        let w = HostTensor::from_values(Desc::f32([1, 1, 2, 4]), &[1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0]);
        let bias = HostTensor::zeros(Desc::f32([1, 4]));
        let conv = Conv { groups: 2, ..Conv::default() };
        assert_eq!(run(conv, [x, w, bias]), [11.0, 12.0, 1300.0, 1400.0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let inputs = [Desc::f32([1, 4, 4, 6]), Desc::f32([3, 3, 2, 6]), Desc::f32([1, 6])];
        assert!(Conv { groups: 3, ..Conv::default() }.outputs(&inputs).is_ok());
        assert!(Conv { groups: 4, ..Conv::default() }.outputs(&inputs).is_err());
        assert!(Conv { groups: 0, ..Conv::default() }.outputs(&inputs).is_err());
        assert!(Conv { groups: 3, dilation: [1, 2], ..Conv::default() }.outputs(&inputs).is_err());
        assert!(Conv::default().outputs(&inputs).is_err());
    }
}
