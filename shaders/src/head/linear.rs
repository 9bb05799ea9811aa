//! Fully connected layer: the classifier, where a handful of rows meets a large matrix.

use crate::conv::storage_choice;
use crate::{
    Activation, Call, Caps, Case, Desc, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, parallel, traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::LINEAR;

/// `y[m, n] = act(sum_k x[m, k] * w[k, n] * factor[n] + bias[n])`
///
/// Inputs: `x [.., k]`, whose other axes are rows; `w [k, n]` as a matrix; `affine [1, n]` (bias) or, for quantized weights,
/// `[2, n]` (bias, then the scale of each column). Output: `[.., n]` stored as `x` is. It is made for few rows: with hundreds,
/// [`Pointwise`](crate::conv::Pointwise) computes the same and reuses the weights better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Linear {
    /// Applied to the sum and bias.
    pub activation: Activation,
}

impl Kernel for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn summary(&self) -> String {
        self.activation.label().to_owned()
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x, w, affine] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "x, w and affine", found: inputs.len() });
        };
        let refuse =
            |position: usize, expected: String| ShapeError::Input { kernel, position, expected, found: inputs[position].clone() };
        if x.is_empty() || x.shape.len() < 2 {
            return Err(refuse(0, "rows of values [.., k], not empty".into()));
        }
        let k = x.last();
        if w.shape.len() != 2 || w.shape[0] != k || w.is_empty() || storage_choice(x.format, w.format).is_none() {
            return Err(refuse(1, format!("a matrix of {k} rows in a format that goes with {}", x.format.label())));
        }
        let n = w.last();
        let expected = Desc::f32([if w.format == Format::MatrixI8 { 2 } else { 1 }, n]);
        if *affine != expected {
            return Err(refuse(2, expected.to_string()));
        }
        let mut output = x.clone();
        if let Some(last) = output.shape.last_mut() {
            *last = n;
        }
        Ok(vec![output])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let storage = storage_choice(call.inputs[0].format, call.inputs[1].format).unwrap_or_default();
        let rows = if call.inputs[0].rows() == 1 { "one" } else { "few" };
        let paths: &[&str] = if caps.software { &["subgroup8", "subgroup4", "broad", "portable"] } else { &["portable"] };
        let mut found: Vec<_> = paths
            .iter()
            .flat_map(|path| fitting(SOURCES, &[("path", path), ("rows", rows), ("storage", storage)], caps).collect::<Vec<_>>())
            .collect();
        found.truncate(1);
        found
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (x, y) = (&call.inputs[0], &call.outputs[0]);
        let (m, k4, n4) = (x.rows() as u32, x.last().div_ceil(4) as u32, y.last().div_ceil(4) as u32);
        let scales = u32::from(call.inputs[2].shape[0] == 2);
        let mut params = vec![m, k4, n4, scales];
        params.extend(self.activation.words());
        let columns = source.subgroup.max(source.number("CW"));
        Launch::new(call, params, [n4.div_ceil(columns), m.div_ceil(source.number("TM")), 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, w, affine) = (inputs[0].values(), inputs[1].values(), inputs[2].values());
        let (k, n) = (inputs[0].desc.last(), outputs[0].last());
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, n, |m, row| {
            let mut sums = vec![0.0f64; n];
            for (value, weights) in x[m * k..(m + 1) * k].iter().zip(w.chunks(n)) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += f64::from(*value) * f64::from(*weight);
                }
            }
            for (j, (out, sum)) in row.iter_mut().zip(sums).enumerate() {
                let factor = affine.get(n + j).map_or(1.0, |s| f64::from(*s));
                *out = self.activation.apply(sum * factor + f64::from(affine[j])) as f32;
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

/// Sizes round the tiles and slices of every variant, every activation, and the classifiers of the MobileNets.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, activation: Activation, storage: &str, [m, k, n]: [usize; 3]| {
        let (values, matrix, rows) = match storage {
            "f16" => (Format::F16, Format::MatrixF16, 1),
            "i8" => (Format::F32, Format::MatrixI8, 2),
            _ => (Format::F32, Format::MatrixF32, 1),
        };
        let inputs = vec![Desc::new(values, [m, 1, 1, k]), Desc::new(matrix, [k, n]), Desc::f32([rows, n])];
        let label = format!("{m}x{k}x{n}.{storage}.{}", activation.label());
        cases.push(Case::noise(label, tier, Linear { activation }, inputs));
    };
    for storage in ["f32", "f16", "i8"] {
        for activation in Activation::ALL {
            add(Tier::Short, activation, storage, [1, 20, 10]);
        }
        add(Tier::Short, Activation::None, storage, [3, 133, 41]);
        for m in [2, 4, 5, 8, 31, 32] {
            add(Tier::Full, Activation::None, storage, [m, 37, 36]);
        }
        for k in [1, 3, 4, 5, 31, 32, 33, 127, 128, 129, 131] {
            add(Tier::Full, Activation::None, storage, [1, k, 20]);
            add(Tier::Full, Activation::None, storage, [2, k, 20]);
        }
        for n in [1, 2, 5, 15, 16, 17, 31, 32, 33, 64, 65] {
            add(Tier::Full, Activation::None, storage, [1, 24, n]);
            add(Tier::Full, Activation::None, storage, [6, 24, n]);
        }
        for [k, n] in [[1280, 1000], [1280, 1001], [576, 1024], [1024, 1000], [960, 1280]] {
            let activation = if n == 1280 || n == 1024 { Activation::HardSwish } else { Activation::None };
            add(Tier::Model, activation, storage, [1, k, n]);
        }
        add(Tier::Model, Activation::None, storage, [8, 1280, 1000]);
    }
    cases
}
