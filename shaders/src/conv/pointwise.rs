//! Pointwise (1x1) convolution: most of a MobileNet's arithmetic, with everything that surrounds it folded in.

use crate::{
    Activation, Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, Operand, ShapeError, Source, Tier,
    Tolerance, Work, fitting, parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(crate) const SOURCES: &[Source] = crate::linked::POINTWISE;

/// `y[p, n] = act(sum_k x[p, k] * scale[image(p), k] * w[k, n] * factor[n] + bias[n]) + residual[p, n]`
///
/// Inputs: `x [images, h, w, k]`, `w [k, n]` as a matrix, `affine [1, n]` (bias) or `[2, n]` (bias, then the scale of each
/// output channel of quantized weights), then if asked `residual [images, h, w, n]` and `scale [images, 1, 1, k]` (the
/// squeeze-excite gate). Output: `[images, h, w, n]` stored as `x` is. (Howard et al. 2017, section 3.1.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pointwise {
    /// Applied to the sum and bias, before the residual.
    pub activation: Activation,
    /// A fourth input is added to the result.
    pub residual: bool,
    /// The last input scales the channels of `x` as they are loaded.
    pub scaled: bool,
}

/// The name of a weight format on the `storage` axis, when it goes with activations stored as `x`.
pub(crate) fn storage_choice(x: Format, w: Format) -> Option<&'static str> {
    match (x, w) {
        (Format::F32, Format::MatrixF32) => Some("f32"),
        (Format::F16, Format::MatrixF16) => Some("f16"),
        (Format::F32, Format::MatrixI8) => Some("i8"),
        _ => None,
    }
}

impl Pointwise {
    fn scale_position(self) -> usize {
        3 + usize::from(self.residual)
    }
}

impl Kernel for Pointwise {
    fn name(&self) -> &'static str {
        "pointwise"
    }

    fn summary(&self) -> String {
        let mut text = self.activation.label().to_owned();
        for (on, word) in [(self.scaled, " scaled"), (self.residual, " +residual")] {
            if on {
                text.push_str(word);
            }
        }
        text
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let expected = self.scale_position() + usize::from(self.scaled);
        if inputs.len() != expected {
            let expected = "x, w, affine, the residual and the scale if it has them";
            return Err(ShapeError::Count { kernel, expected, found: inputs.len() });
        }
        let refuse = |position: usize, expected: String| {
            Err(ShapeError::Input { kernel, position, expected, found: inputs[position].clone() })
        };
        let Some((images, height, width, k)) = inputs[0].nhwc() else {
            return refuse(0, "an activation [images, height, width, channels]".into());
        };
        if inputs[1].shape.len() != 2
            || inputs[1].shape[0] != k
            || storage_choice(inputs[0].format, inputs[1].format).is_none()
        {
            return refuse(1, format!("a matrix of {k} rows in a format that goes with {}", inputs[0].format.label()));
        }
        let n = inputs[1].shape[1];
        let rows = if inputs[1].format == Format::MatrixI8 { 2 } else { 1 };
        if inputs[2] != Desc::f32([rows, n]) {
            return refuse(2, Desc::f32([rows, n]).to_string());
        }
        let output = Desc::new(inputs[0].format, [images, height, width, n]);
        if self.residual && inputs[3] != output {
            return refuse(3, output.to_string());
        }
        let scale = Desc::new(inputs[0].format, [images, 1, 1, k]);
        if self.scaled && inputs[self.scale_position()] != scale {
            return refuse(self.scale_position(), scale.to_string());
        }
        Ok(vec![output])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let storage = storage_choice(call.inputs[0].format, call.inputs[1].format).unwrap_or_default();
        let gate = if self.scaled { "scaled" } else { "plain" };
        let paths: &[&str] = match (caps.software, call.outputs[0].last().is_multiple_of(8)) {
            (true, true) => &["subgroup8", "subgroup4", "broad", "portable"],
            (true, false) => &["subgroup8", "subgroup4", "portable"],
            (false, _) => &["tiled", "portable"],
        };
        let mut found: Vec<_> = paths
            .iter()
            .flat_map(|path| {
                fitting(SOURCES, &[("path", path), ("storage", storage), ("gate", gate)], caps).collect::<Vec<_>>()
            })
            .collect();
        if caps.software {
            // A pipeline takes a software adapter up to a second, and the order above never measured wrong there.
            found.truncate(1);
        }
        found
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (x, y) = (&call.inputs[0], &call.outputs[0]);
        let (m, k4, n4) = (x.rows(), x.last().div_ceil(4), y.last().div_ceil(4));
        let pixels = m / x.shape[0].max(1);
        let scales = call.inputs[2].shape[0] == 2;
        let mut params =
            vec![m as u32, k4 as u32, n4 as u32, pixels as u32, u32::from(self.residual), u32::from(scales)];
        params.extend(self.activation.words());
        params.extend([0, 0]);
        let (columns, rows) = match source.choice("path") {
            "portable" => (8, 8 * source.number("TM")),
            "broad" => (source.number("NG"), source.number("LANES") * source.number("TM")),
            "tiled" => (16, 16 * source.number("TM")),
            _ => (source.subgroup * source.number("NG"), source.number("TM")),
        };
        let mut operands = vec![Operand::Input(0), Operand::Input(1), Operand::Input(2)];
        operands.push(Operand::Input(if self.residual { 3 } else { 0 }));
        if self.scaled {
            operands.push(Operand::Input(self.scale_position()));
        }
        operands.push(Operand::Output(0));
        Launch { params, grid: [(n4 as u32).div_ceil(columns), (m as u32).div_ceil(rows), 1], operands }
    }

    fn first_group(&self) -> [Option<usize>; 2] {
        [Some(12), Some(13)]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, w, affine) = (inputs[0].values(), inputs[1].values(), inputs[2].values());
        let residual = if self.residual { inputs[3].values() } else { Vec::new() };
        let scale = if self.scaled { inputs[self.scale_position()].values() } else { Vec::new() };
        let (k, n) = (inputs[0].desc.last(), outputs[0].last());
        let pixels = inputs[0].desc.rows() / inputs[0].desc.shape[0];
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, n, |p, row| {
            let mut sums = vec![0.0f64; n];
            for i in 0..k {
                let gate = if self.scaled { f64::from(scale[p / pixels * k + i]) } else { 1.0 };
                let v = f64::from(x[p * k + i]) * gate;
                for (sum, weight) in sums.iter_mut().zip(&w[i * n..(i + 1) * n]) {
                    *sum += v * f64::from(*weight);
                }
            }
            for (j, (out, sum)) in row.iter_mut().zip(sums).enumerate() {
                let factor = affine.get(n + j).map_or(1.0, |s| f64::from(*s));
                let added = if self.residual { f64::from(residual[p * n + j]) } else { 0.0 };
                *out = (self.activation.apply(sum * factor + f64::from(affine[j])) + added) as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        Tolerance::of_sum(call.inputs[0].last(), call.outputs[0].format)
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let [k, n] = [call.inputs[0].last(), call.outputs[0].last()];
        Work { flops: 2.0 * call.inputs[0].rows() as f64 * (k * n) as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sizes round the tiles of every variant, the options, and the layers of the MobileNets.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, kernel: Pointwise, storage: &str, [images, height, width, k, n]: [usize; 5]| {
        let (values, matrix) = match storage {
            "f16" => (Format::F16, Format::MatrixF16),
            "i8" => (Format::F32, Format::MatrixI8),
            _ => (Format::F32, Format::MatrixF32),
        };
        let noise = |format: Format, shape: &[usize]| (Desc::new(format, shape), Fill::Noise);
        let mut inputs =
            vec![noise(values, &[images, height, width, k]), noise(matrix, &[k, n]), super::affine_of(matrix, n)];
        if kernel.residual {
            inputs.push(noise(values, &[images, height, width, n]));
        }
        if kernel.scaled {
            inputs.push(noise(values, &[images, 1, 1, k]));
        }
        let options = kernel.summary().replace(' ', "_");
        let label = format!("{images}x{height}x{width}x{k}x{n}.{storage}.{options}");
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    let plain = Pointwise::default();
    for storage in ["f32", "f16", "i8"] {
        for activation in Activation::ALL {
            add(Tier::Short, Pointwise { activation, ..plain }, storage, [1, 5, 7, 16, 24]);
        }
        add(Tier::Short, Pointwise { residual: true, ..plain }, storage, [2, 3, 5, 20, 33]);
        // Channels out in eights have a variant of their own.
        let tier = if storage == "f32" { Tier::Short } else { Tier::Full };
        add(tier, Pointwise { residual: true, ..plain }, storage, [2, 5, 7, 24, 40]);
        add(tier, Pointwise { scaled: true, ..plain }, storage, [3, 4, 5, 24, 40]);
        let both = Pointwise { residual: true, scaled: true, activation: Activation::Relu6 };
        add(Tier::Full, both, storage, [3, 5, 5, 17, 13]);
        add(Tier::Full, both, storage, [3, 5, 5, 8, 24]);
        for m in [1, 3, 4, 5, 15, 16, 17, 27, 28, 29, 31, 32, 33, 57, 63, 64, 65] {
            add(Tier::Full, plain, storage, [1, 1, m, 12, 36]);
            if storage == "f32" {
                add(Tier::Full, plain, storage, [1, 1, m, 16, 8]);
            }
        }
        for n in [1, 2, 4, 15, 16, 17, 31, 32, 33, 37, 64, 65] {
            add(Tier::Full, plain, storage, [1, 2, 3, 8, n]);
        }
        for k in [1, 2, 3, 4, 5, 7, 11, 129] {
            add(Tier::Full, plain, storage, [1, 3, 3, k, 20]);
        }
        for [side, k, n] in [
            [112, 32, 16],
            [112, 16, 96],
            [56, 24, 144],
            [28, 144, 32],
            [14, 96, 576],
            [14, 576, 96],
            [7, 160, 960],
            [7, 960, 320],
            [7, 320, 1280],
        ] {
            add(Tier::Model, Pointwise { activation: Activation::Relu6, ..plain }, storage, [1, side, side, k, n]);
        }
    }
    cases
}
