//! Squeeze-excite: the gate that weighs the channels of a feature map, from sums over pixels to factors in one dispatch.

use crate::{
    Activation, Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::SQUEEZE_EXCITE;

/// `gate = outer(excite(inner(squeeze(mean over the pixels of x))))`, both layers with bias (Hu et al. 2018)
///
/// Inputs: `x [images, h, w, c]`, either the feature map or partial sums of it `[images, blocks, 1, c]` as a pooling epilogue
/// writes them (then `pixels` says how many pixels they hold); `squeeze [c, r]` as a matrix and its affine `[1 | 2, r]`;
/// `excite [r, c]` and its affine `[1 | 2, c]`; an affine holds the bias and, for quantized weights, the scale of each column.
/// Output: `[images, 1, 1, c]`, F16 where the matrices are and F32 otherwise. F16 input goes with F16 matrices only.
///
/// One workgroup computes a whole image, so `c` is at most [`SqueezeExcite::MAX_CHANNELS`] and `r` at most
/// [`SqueezeExcite::MAX_HIDDEN`]; beyond, a [`GlobalPool`](crate::head::GlobalPool) and two
/// [`Linear`](crate::head::Linear) compute the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqueezeExcite {
    /// Applied to the hidden values.
    pub inner: Activation,
    /// Applied to the gate.
    pub outer: Activation,
    /// Pixels that the rows of an image sum up; `None` when every row is one pixel.
    pub pixels: Option<usize>,
}

impl Default for SqueezeExcite {
    fn default() -> SqueezeExcite {
        SqueezeExcite { inner: Activation::Relu, outer: Activation::HardSigmoid, pixels: None }
    }
}

impl SqueezeExcite {
    /// Most channels that fit in workgroup memory.
    pub const MAX_CHANNELS: usize = 2048;
    /// Most hidden values that fit in workgroup memory.
    pub const MAX_HIDDEN: usize = 512;

    fn storage(inputs: &[Desc]) -> Option<&'static str> {
        match (inputs[0].format, inputs[1].format) {
            (Format::F32, Format::MatrixF32) => Some("f32"),
            (Format::F32 | Format::F16, Format::MatrixF16) => Some("f16"),
            (Format::F32, Format::MatrixI8) => Some("i8"),
            _ => None,
        }
    }
}

impl Kernel for SqueezeExcite {
    fn name(&self) -> &'static str {
        "squeeze_excite"
    }

    fn summary(&self) -> String {
        let of = self.pixels.map(|pixels| format!(" of {pixels}")).unwrap_or_default();
        format!("{} {}{of}", self.inner.label(), self.outer.label())
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x, squeeze, squeeze_affine, excite, excite_affine] = inputs else {
            let expected = "x, the squeeze matrix and its affine, the excite matrix and its affine";
            return Err(ShapeError::Count { kernel, expected, found: inputs.len() });
        };
        let refuse =
            |position: usize, expected: String| ShapeError::Input { kernel, position, expected, found: inputs[position].clone() };
        let c = x.last();
        if x.nhwc().is_none() || x.is_empty() {
            return Err(refuse(0, "an activation [images, height, width, channels], not empty".into()));
        }
        if squeeze.shape.len() != 2 || squeeze.shape[0] != c || squeeze.is_empty() || Self::storage(inputs).is_none() {
            return Err(refuse(1, format!("a matrix of {c} rows in a format that goes with {}", x.format.label())));
        }
        let r = squeeze.last();
        let rows = if squeeze.format == Format::MatrixI8 { 2 } else { 1 };
        let expected = [Desc::f32([rows, r]), Desc::new(squeeze.format, [r, c]), Desc::f32([rows, c])];
        for (position, (found, expected)) in [squeeze_affine, excite, excite_affine].into_iter().zip(expected).enumerate() {
            if *found != expected {
                return Err(refuse(position + 2, expected.to_string()));
            }
        }
        if c > Self::MAX_CHANNELS || r > Self::MAX_HIDDEN {
            let (most_c, most_r) = (Self::MAX_CHANNELS, Self::MAX_HIDDEN);
            let reason = format!(
                "{c} channels and {r} hidden values exceed the {most_c} and {most_r} that fit in workgroup memory; \
                 a global pool and two linear layers compute the same"
            );
            return Err(ShapeError::Parameter { kernel, reason });
        }
        if self.pixels == Some(0) {
            return Err(ShapeError::Parameter { kernel, reason: "a mean of 0 pixels does not exist".into() });
        }
        let format = if squeeze.format == Format::MatrixF16 { Format::F16 } else { Format::F32 };
        Ok(vec![Desc::new(format, [x.shape[0], 1, 1, c])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let path = if caps.software { "sweep" } else { "portable" };
        let storage = Self::storage(call.inputs).unwrap_or_default();
        let choices = [("path", path), ("input", call.inputs[0].format.label()), ("storage", storage)];
        fitting(SOURCES, &choices, caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (x, squeeze) = (&call.inputs[0], &call.inputs[1]);
        let rows = x.rows() / x.shape[0].max(1);
        let weight = (1.0 / self.pixels.unwrap_or(rows) as f64) as f32;
        let (c4, r4) = (x.last().div_ceil(4) as u32, squeeze.last().div_ceil(4) as u32);
        let wide = |columns: u32| columns.next_power_of_two().min(source.number("WG"));
        let scales = u32::from(call.inputs[2].shape[0] == 2);
        let mut params = vec![rows as u32, weight.to_bits(), c4, r4, wide(c4), wide(r4), scales];
        params.extend(self.inner.words());
        params.extend(self.outer.words());
        Launch::new(call, params, [x.shape[0] as u32, 1, 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let x = inputs[0].values();
        let (c, r) = (inputs[0].desc.last(), inputs[1].desc.last());
        let rows = inputs[0].desc.rows() / outputs[0].shape[0];
        let layer = |from: &[f64], weights: &[f32], affine: &[f32], width: usize, activation: Activation| -> Vec<f64> {
            let column = |j: usize| {
                let sum: f64 = from.iter().enumerate().map(|(i, v)| v * f64::from(weights[i * width + j])).sum();
                let factor = affine.get(width + j).map_or(1.0, |s| f64::from(*s));
                activation.apply(sum * factor + f64::from(affine[j]))
            };
            (0..width).map(column).collect()
        };
        let [squeeze, squeeze_affine, excite, excite_affine] = [1, 2, 3, 4].map(|i: usize| inputs[i].values());
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, c, |image, row| {
            let mut mean = vec![0.0f64; c];
            for p in 0..rows {
                for (sum, value) in mean.iter_mut().zip(&x[(image * rows + p) * c..]) {
                    *sum += f64::from(*value) / self.pixels.unwrap_or(rows) as f64;
                }
            }
            let hidden = layer(&mean, &squeeze, &squeeze_affine, r, self.inner);
            let gate = layer(&hidden, &excite, &excite_affine, c, self.outer);
            for (out, value) in row.iter_mut().zip(gate) {
                *out = value as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// The three sums run one after the other, so their relative errors add up. They are relative to the largest value before the
    /// last activation; a hard sigmoid divides by six and reaches one, so that this holds while those values stay within
    /// plus and minus six, beyond which the gates saturate.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let x = &call.inputs[0];
        let sums = [x.rows() / x.shape[0], x.last(), call.inputs[1].last()];
        let relative = sums.iter().map(|terms| Tolerance::of_sum(*terms, Format::F32).relative).sum::<f64>();
        Tolerance { relative: relative + Tolerance::of_sum(0, call.outputs[0].format).relative }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let [x, squeeze] = [&call.inputs[0], &call.inputs[1]];
        let flops = x.len() as f64 + 4.0 * (x.shape[0] * squeeze.len()) as f64;
        Work { flops, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Partial sums and feature maps, widths round the invocations of every variant, the limits, and the gates of V3.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, kernel: SqueezeExcite, storage: &str, input: Format, [images, h, w, c, r]: [usize; 5]| {
        let (matrix, rows) = match storage {
            "f16" => (Format::MatrixF16, 1),
            "i8" => (Format::MatrixI8, 2),
            _ => (Format::MatrixF32, 1),
        };
        // Weights and quantization scales that keep the gates from saturating.
        let depth = |from: usize| 4.0 / (from as f32).sqrt();
        let weights = |from: usize| match matrix {
            Format::MatrixI8 => Fill::Noise,
            _ => Fill::Range(-depth(from), depth(from)),
        };
        let affine = |from: usize| match matrix {
            Format::MatrixI8 => Fill::Range(0.1 * depth(from) / 127.0, depth(from) / 127.0),
            _ => Fill::Noise,
        };
        let inputs = vec![
            (Desc::new(input, [images, h, w, c]), Fill::Noise),
            (Desc::new(matrix, [c, r]), weights(c)),
            (Desc::f32([rows, r]), affine(c)),
            (Desc::new(matrix, [r, c]), weights(r)),
            (Desc::f32([rows, c]), affine(r)),
        ];
        let label = format!("{images}x{h}x{w}x{c}x{r}.{}.{storage}.{}", input.label(), kernel.summary().replace(' ', "_"));
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    let plain = SqueezeExcite::default();
    let sums = SqueezeExcite { pixels: Some(10), ..plain };
    for (storage, input) in [("f32", Format::F32), ("i8", Format::F32), ("f16", Format::F32), ("f16", Format::F16)] {
        add(Tier::Short, sums, storage, input, [2, 4, 1, 72, 24]);
        add(Tier::Short, plain, storage, input, [1, 3, 5, 37, 13]);
        for activation in Activation::ALL {
            let kernel = SqueezeExcite { inner: activation, outer: activation, pixels: None };
            add(Tier::Full, kernel, storage, input, [1, 2, 2, 20, 8]);
        }
        for [c, r] in [[1, 1], [4, 4], [5, 3], [32, 8], [33, 9], [1000, 61], [1024, 64], [1028, 65], [1152, 288], [2048, 512]] {
            add(Tier::Full, sums, storage, input, [1, 10, 1, c, r]);
        }
        for [rows, c, r] in [[28, 72, 24], [14, 120, 32], [14, 480, 120], [7, 672, 168], [7, 960, 240], [7, 576, 144]] {
            let kernel = SqueezeExcite { pixels: Some(rows * rows), ..plain };
            add(Tier::Model, kernel, storage, input, [1, rows, 1, c, r]);
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{GlobalPool, Linear};

    #[test]
    fn agrees_with_a_pool_and_two_layers() {
        for case in cases().iter().filter(|case| case.tier == Tier::Short) {
            let kernel = case.kernel.as_any().downcast_ref::<SqueezeExcite>().unwrap();
            let inputs = case.tensors();
            let expected = &case.expected(&inputs).unwrap()[0];
            // In 32 bits throughout, so that nothing but the order of operations differs.
            let wide = |t: &HostTensor| {
                let format = if t.desc.format == Format::F16 { Format::F32 } else { t.desc.format };
                let format = if format == Format::MatrixF16 { Format::MatrixF32 } else { format };
                HostTensor::from_values(Desc::new(format, t.desc.shape.clone()), &t.values())
            };
            let inputs: Vec<HostTensor> = inputs.iter().map(wide).collect();
            let run = |kernel: &dyn Kernel, inputs: &[&HostTensor]| {
                let descs: Vec<Desc> = inputs.iter().map(|t| t.desc.clone()).collect();
                kernel.reference(inputs, &kernel.outputs(&descs).unwrap()).remove(0)
            };
            let pool = GlobalPool { pixels: kernel.pixels, ..GlobalPool::default() };
            let mean = run(&pool, &[&inputs[0]]);
            let hidden = run(&Linear { activation: kernel.inner }, &[&mean, &inputs[1], &inputs[2]]);
            let gate = run(&Linear { activation: kernel.outer }, &[&hidden, &inputs[3], &inputs[4]]);
            for (a, b) in expected.values().iter().zip(gate.values()) {
                assert!((a - b).abs() <= if expected.desc.format == Format::F16 { 5e-4 } else { 1e-6 }, "{}", case.label);
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit_in_workgroup_memory() {
        let inputs = |c: usize, r: usize| {
            [
                Desc::f32([1, 1, 1, c]),
                Desc::new(Format::MatrixF32, [c, r]),
                Desc::f32([1, r]),
                Desc::new(Format::MatrixF32, [r, c]),
                Desc::f32([1, c]),
            ]
        };
        let kernel = SqueezeExcite::default();
        assert!(kernel.outputs(&inputs(2048, 512)).is_ok());
        for (c, r) in [(2049, 512), (2048, 513)] {
            let error = kernel.outputs(&inputs(c, r)).unwrap_err();
            assert!(matches!(error, ShapeError::Parameter { .. }), "{error}");
        }
    }
}
