//! Norms that stand by themselves: those after a block, which nothing follows that could take them in.

use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, Operand, ShapeError, Source, Tier, Tolerance, Work,
    fitting, parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::NORM;

/// `y = (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * gain + bias + residual`, row by row
///
/// Inputs: `x [m, k]`, `gain [k]`, then those asked for: `bias [k]`, `residual [m, k]`. Output `[m, k]`; all f32. Without `centered` the
/// mean counts as zero, which makes it the norm by the root mean square. (Ba et al. 2016; Zhang and Sennrich 2019.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Added to the mean square.
    pub epsilon: f32,
    /// The mean is taken away first.
    pub centered: bool,
    /// A bias is added.
    pub bias: bool,
    /// The last input is added to the result.
    pub residual: bool,
}

impl Kernel for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn summary(&self) -> String {
        let mut text = if self.centered { "layer" } else { "rms" }.to_owned();
        for (on, word) in [(self.bias, " +bias"), (self.residual, " +residual")] {
            if on {
                text.push_str(word);
            }
        }
        text
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        if inputs.len() != 2 + usize::from(self.bias) + usize::from(self.residual) {
            let expected = "x, gain, and bias and residual if it has them";
            return Err(ShapeError::Count { kernel, expected, found: inputs.len() });
        }
        let x = &inputs[0];
        let vector = Desc::f32([x.last()]);
        let mut wanted = vec![Desc::f32([x.rows(), x.last()]), vector.clone()];
        wanted.extend(self.bias.then_some(vector));
        wanted.extend(self.residual.then(|| wanted[0].clone()));
        for (position, (found, wanted)) in inputs.iter().zip(&wanted).enumerate() {
            if found != wanted || found.is_empty() {
                let (expected, found) = (wanted.to_string(), found.clone());
                return Err(ShapeError::Input { kernel, position, expected, found });
            }
        }
        Ok(vec![x.clone()])
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
        let flags = u32::from(self.centered) + 2 * u32::from(self.bias) + 4 * u32::from(self.residual);
        let params = vec![k as u32, k.div_ceil(4) as u32, flags, self.epsilon.to_bits()];
        let input = |there: bool, at: usize, otherwise: usize| Operand::Input(if there { at } else { otherwise });
        let operands = vec![
            Operand::Input(0),
            Operand::Input(1),
            input(self.bias, 2, 1),
            input(self.residual, 2 + usize::from(self.bias), 0),
            Operand::Output(0),
        ];
        Launch { params, grid: [m, 1, 1], operands }
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, gain) = (inputs[0].values(), inputs[1].values());
        let bias = self.bias.then(|| inputs[2].values());
        let residual = self.residual.then(|| inputs[2 + usize::from(self.bias)].values());
        let k = outputs[0].last();
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, k, |row, out| {
            let x: Vec<f64> = x[row * k..][..k].iter().map(|v| f64::from(*v)).collect();
            let mean = if self.centered { x.iter().sum::<f64>() / k as f64 } else { 0.0 };
            let square = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / k as f64;
            let factor = 1.0 / (square + f64::from(self.epsilon)).sqrt();
            for (i, out) in out.iter_mut().enumerate() {
                let bias = bias.as_ref().map_or(0.0, |b| f64::from(b[i]));
                let added = residual.as_ref().map_or(0.0, |r| f64::from(r[row * k + i]));
                *out = ((x[i] - mean) * factor * f64::from(gain[i]) + bias + added) as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// Two sums over a row, one after the other.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        Tolerance { relative: 2.0 * Tolerance::of_sum(call.inputs[0].last(), Format::F32).relative }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 6.0 * call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Rows below, on and off the invocations, and the widths of small models.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, m: usize, k: usize, [centered, bias, residual]: [bool; 3]| {
        let kernel = Norm { epsilon: 1e-5, centered, bias, residual };
        let mut inputs = vec![Desc::f32([m, k]), Desc::f32([k])];
        inputs.extend(bias.then(|| Desc::f32([k])));
        inputs.extend(residual.then(|| Desc::f32([m, k])));
        let label = format!("{m}x{k}.{}", kernel.summary().replace(' ', "."));
        let inputs = inputs.into_iter().map(|desc| (desc, Fill::Range(-1.0, 2.0))).collect();
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    for flags in [[false, false, false], [false, false, true], [true, true, false], [true, true, true]] {
        add(Tier::Short, 3, 41, flags);
        add(Tier::Model, 1, 576, flags);
    }
    for k in [1, 2, 3, 4, 5, 31, 32, 33, 255, 256, 257, 260] {
        add(Tier::Full, 2, k, [false, false, true]);
        add(Tier::Full, 2, k, [true, true, false]);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_taken_away_only_where_it_should_be() {
        let x = HostTensor::from_values(Desc::f32([1, 2]), &[1.0, 7.0]);
        let gain = HostTensor::from_values(Desc::f32([2]), &[1.0, 10.0]);
        let run = |centered: bool| {
            let kernel = Norm { epsilon: 0.0, centered, bias: false, residual: false };
            kernel.reference(&[&x, &gain], std::slice::from_ref(&x.desc))[0].values()
        };
        assert_eq!(run(true), [-1.0, 10.0]);
        // The mean square of 1 and 7 is 25.
        assert_eq!(run(false), [0.2, 14.0]);
    }
}
