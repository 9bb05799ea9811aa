//! Softmax over the last axis, on its own.

use super::layout::{filled, grid, require_f32};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting,
    parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::SOFTMAX;

/// `y[.., c] = exp(x[.., c] - max) / sum_j exp(x[.., j] - max)` over the last axis, or the logarithm of that
///
/// Input: F32 rows of at most six axes. Output: the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Softmax {
    /// Whether the logarithm is wanted.
    pub logarithm: bool,
}

impl Kernel for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn summary(&self) -> String {
        if self.logarithm { "log" } else { "" }.to_owned()
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "one tensor", found: inputs.len() });
        };
        require_f32(kernel, inputs)?;
        Ok(vec![x.clone()])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let path = if caps.software || call.inputs[0].last() <= 32 { "sweep" } else { "portable" };
        fitting(SOURCES, &[("path", path)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let x = &call.inputs[0];
        let rows = if source.number("LANES") > 1 { 1 } else { source.workgroup[0] };
        let (grid, _) = grid(x.rows().div_ceil(rows as usize), source);
        let params = vec![x.rows() as u32, grid[0] * rows, x.last() as u32, u32::from(self.logarithm)];
        filled(Launch::new(call, params, grid), source)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, last) = (inputs[0].values(), outputs[0].last());
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, last, |row, out| {
            let values = &x[row * last..(row + 1) * last];
            let largest = values.iter().fold(f64::NEG_INFINITY, |m, v| m.max(f64::from(*v)));
            let total: f64 = values.iter().map(|v| (f64::from(*v) - largest).exp()).sum();
            for (out, v) in out.iter_mut().zip(values) {
                let shifted = f64::from(*v) - largest;
                *out = if self.logarithm { shifted - total.ln() } else { shifted.exp() / total } as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// Beyond the sum, WGSL allows `exp(v)` an error of `3 + 2 |v|` units, whose product with `exp(v)` is at most 3 units for what
    /// is not positive; it enters above and below a division of 2.5. The logarithm turns the relative error of the sum into an
    /// absolute one and adds 4 units, to a result whose largest magnitude is at least the logarithm of two when a row has
    /// two values or more; hence the division by that.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let sum = Tolerance::of_sum(call.inputs[0].last(), Format::F32).relative;
        let units = f64::from(f32::EPSILON);
        let relative = if self.logarithm { (sum + 7.0 * units) / std::f64::consts::LN_2 } else { sum + 8.5 * units };
        Tolerance { relative }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 4.0 * call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Rows shorter and longer than the workgroup, few and many of them, and values that would overflow if not shifted.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for logarithm in [false, true] {
        for (tier, shape, reach) in [
            (Tier::Short, &[3, 4, 5][..], 4.0),
            (Tier::Short, &[2, 300], 10.0),
            (Tier::Full, &[2], 1.0),
            (Tier::Full, &[5, 2], 1.0e4),
            (Tier::Full, &[3, 255], 8.0),
            (Tier::Full, &[3, 256], 8.0),
            (Tier::Full, &[3, 257], 8.0),
            (Tier::Full, &[40_000, 3], 5.0),
        ] {
            let size = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
            let label = format!("{size}{}", if logarithm { ".log" } else { "" });
            let inputs = vec![(Desc::f32(shape), Fill::Range(-reach, reach))];
            cases.push(Case { label, kernel: Arc::new(Softmax { logarithm }), inputs, tier });
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_probabilities_and_their_logarithms() {
        let x = HostTensor::from_values(Desc::f32([1, 3]), &[0.0, 2.0f32.ln(), 5.0f32.ln()]);
        for logarithm in [false, true] {
            let y = Softmax { logarithm }.reference(&[&x], std::slice::from_ref(&x.desc))[0].values();
            for (found, expected) in y.iter().zip([0.125f32, 0.25, 0.625]) {
                let expected = if logarithm { expected.ln() } else { expected };
                assert!((found - expected).abs() < 1e-6);
            }
        }
    }
}
