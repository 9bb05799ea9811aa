//! Activations as bytes, quantized once for all rows of a matrix that multiplies whole numbers.

use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, Operand, ShapeError, Source, Tier, Tolerance,
    Work, fitting, panel, parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::QUANTIZE;

/// `y = norm(x)` in bytes: of each block of 32 columns a 127th of the largest value, and the nearest multiples of it; where a value is
/// not finite no value of the block is a number
///
/// Inputs: `x [.., k]`, and with a norm its `gain [k]`, in f32. Output: the shape of `x` as [`Format::BlockI8`]. The norm is
/// `x / sqrt(mean(x^2) + epsilon) * gain` (Zhang and Sennrich 2019).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quantize {
    /// The epsilon of a root-mean-square norm of `x`, when there is one.
    pub norm: Option<f32>,
}

impl Kernel for Quantize {
    fn name(&self) -> &'static str {
        "quantize"
    }

    fn summary(&self) -> String {
        if self.norm.is_some() { "normed".to_owned() } else { String::new() }
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        if inputs.len() != 1 + usize::from(self.norm.is_some()) {
            let expected = if self.norm.is_some() { "x and gain" } else { "x" };
            return Err(ShapeError::Count { kernel, expected, found: inputs.len() });
        }
        let x = &inputs[0];
        let wanted = [Desc { format: Format::F32, ..x.clone() }, Desc::f32([x.last()])];
        for (position, (found, wanted)) in inputs.iter().zip(&wanted).enumerate() {
            if found != wanted || found.is_empty() {
                let (expected, found) = (wanted.to_string(), found.clone());
                return Err(ShapeError::Input { kernel, position, expected, found });
            }
        }
        Ok(vec![Desc { format: Format::BlockI8, ..x.clone() }])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let path = if caps.software { "sweep" } else { "portable" };
        fitting(SOURCES, &[("path", path)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (m, k) = (call.inputs[0].rows() as u32, call.inputs[0].last());
        let (k4, blocks) = (k.div_ceil(4) as u32, k.div_ceil(panel::BLOCK) as u32);
        let normalize = u32::from(self.norm.is_some());
        let params = vec![k as u32, k4, blocks, normalize, self.norm.unwrap_or(0.0).to_bits()];
        let operands = vec![Operand::Input(0), Operand::Input(normalize as usize), Operand::Output(0)];
        Launch { params, grid: [m, 1, 1], operands }
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (mut x, k) = (inputs[0].values(), outputs[0].last());
        if let Some(epsilon) = self.norm {
            let gain = inputs[1].values();
            parallel::rows(&mut x, k, |_, row| {
                let mean = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / k as f64;
                let factor = 1.0 / (mean + f64::from(epsilon)).sqrt();
                row.iter_mut().zip(&gain).for_each(|(v, g)| *v = (f64::from(*v) * factor * f64::from(*g)) as f32);
            });
        }
        vec![HostTensor::from_values(outputs[0].clone(), &x)]
    }

    /// A value that lies between two multiples may be rounded to either, which are a 127th of the block's largest apart.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let norm = self.norm.map_or(0.0, |_| Tolerance::of_sum(call.inputs[0].last(), Format::F32).relative);
        Tolerance { relative: 1.0 / 127.0 + norm + 4.0 * f64::from(f32::EPSILON) }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 4.0 * call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Rows on and off the fours, columns round the blocks, a row of zeros, values that are not finite, and the rows of a small language
/// model.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for norm in [None, Some(1e-5)] {
        for (tier, [m, k]) in [
            (Tier::Short, [5, 68]),
            (Tier::Short, [4, 64]),
            (Tier::Full, [1, 1]),
            (Tier::Full, [3, 31]),
            (Tier::Full, [9, 33]),
            (Tier::Full, [2, 2100]),
            (Tier::Model, [32, 576]),
        ] {
            let mut inputs = vec![(Desc::f32([m, k]), Fill::Noise)];
            inputs.extend(norm.map(|_| (Desc::f32([k]), Fill::Noise)));
            let label = format!("{m}x{k}{}", if norm.is_some() { ".normed" } else { "" });
            cases.push(Case { label, kernel: Arc::new(Quantize { norm }), inputs, tier });
        }
    }
    let inputs = vec![(Desc::f32([3, 2, 40]), Fill::Noise)];
    cases.push(Case { label: "3x2x40".into(), kernel: Arc::new(Quantize::default()), inputs, tier: Tier::Short });
    let inputs = vec![(Desc::f32([2, 40]), Fill::Values(vec![0.0; 80]))];
    cases.push(Case { label: "zeros".into(), kernel: Arc::new(Quantize::default()), inputs, tier: Tier::Short });
    let mut values: Vec<f32> = (0..3 * 70).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
    (values[5], values[70 + 40], values[140 + 69]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    let inputs = vec![(Desc::f32([3, 70]), Fill::Values(values))];
    cases.push(Case { label: "not_finite".into(), kernel: Arc::new(Quantize::default()), inputs, tier: Tier::Short });
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_makes_its_block_no_number_and_no_other() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; 70];
            values[33] = wrong;
            let x = HostTensor::from_values(Desc::f32([1, 70]), &values);
            let kernel = Quantize::default();
            let y = kernel.reference(&[&x], &kernel.outputs(std::slice::from_ref(&x.desc)).unwrap())[0].values();
            assert!(y[..32].iter().chain(&y[64..]).all(|v| *v == 1.0), "{wrong}: {y:?}");
            assert!(y[32..64].iter().all(|v| v.is_nan()), "{wrong}: {y:?}");
        }
    }

    #[test]
    fn a_norm_comes_before_the_bytes() {
        let x = HostTensor::from_values(Desc::f32([1, 2]), &[3.0, -4.0]);
        let gain = HostTensor::from_values(Desc::f32([2]), &[2.0, 1.0]);
        let kernel = Quantize { norm: Some(0.0) };
        let y = kernel.reference(&[&x, &gain], &kernel.outputs(&[x.desc.clone(), gain.desc.clone()]).unwrap());
        // 6 and -4 over the root of 12.5; -4 of 6 are -84.67 of 127.
        let root = 12.5f32.sqrt();
        let found = y[0].values();
        assert!((found[0] - 6.0 / root).abs() < 1e-6);
        assert!((found[1] + 85.0 / 127.0 * 6.0 / root).abs() < 1e-6);
    }
}
