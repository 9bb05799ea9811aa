//! What the experts of each token gave, added up by their shares.

use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::EXPERT_SUM;

/// `y[t, n] = residual[t, n] + sum_s share[t, s] * x[t, s, n]` (Shazeer et al. 2017)
///
/// Inputs: `x [m, chosen, n]`, the shares `[m, chosen]`, the residual `[m, n]`. Output `[m, n]`, all in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpertSum;

impl Kernel for ExpertSum {
    fn name(&self) -> &'static str {
        "expert_sum"
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x, shares, residual] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "x, shares and residual", found: inputs.len() });
        };
        let ([m, chosen, n], Format::F32, false) = (&x.shape[..], x.format, x.is_empty()) else {
            let (expected, found) = ("x [tokens, chosen, columns] in f32, not empty".to_owned(), x.clone());
            return Err(ShapeError::Input { kernel, position: 0, expected, found });
        };
        let output = Desc::f32([*m, *n]);
        for (position, found, wanted) in [(1, shares, Desc::f32([*m, *chosen])), (2, residual, output.clone())] {
            if *found != wanted {
                let (expected, found) = (wanted.to_string(), found.clone());
                return Err(ShapeError::Input { kernel, position, expected, found });
            }
        }
        Ok(vec![output])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (rows, n4) = (call.outputs[0].rows() as u32, call.outputs[0].last().div_ceil(4) as u32);
        let chosen = call.inputs[1].last();
        Launch::new(call, vec![chosen as u32, chosen.div_ceil(4) as u32, n4], [n4.div_ceil(64), rows, 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let [x, shares, residual] = [0, 1, 2].map(|at: usize| inputs[at].values());
        let (chosen, n) = (inputs[1].desc.last(), outputs[0].last());
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, n, |t, row| {
            for (i, value) in row.iter_mut().enumerate() {
                let term = |s: usize| f64::from(shares[t * chosen + s]) * f64::from(x[(t * chosen + s) * n + i]);
                let sum: f64 = (0..chosen).map(term).sum();
                *value = (f64::from(residual[t * n + i]) + sum) as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// A sum of as many products as a token has experts, and the residual.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        Tolerance::of_sum(call.inputs[1].last() + 1, Format::F32)
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 2.0 * call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Columns and experts on and off the fours, columns round the invocations, and a published model.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (tier, [m, chosen, n]) in [
        (Tier::Short, [3, 2, 33]),
        (Tier::Short, [2, 5, 300]),
        (Tier::Full, [1, 1, 1]),
        (Tier::Full, [5, 3, 255]),
        (Tier::Full, [2, 4, 256]),
        (Tier::Full, [2, 6, 257]),
        (Tier::Model, [512, 8, 2048]),
    ] {
        let inputs = vec![
            (Desc::f32([m, chosen, n]), Fill::Noise),
            (Desc::f32([m, chosen]), Fill::Range(0.0, 1.0)),
            (Desc::f32([m, n]), Fill::Noise),
        ];
        cases.push(Case { label: format!("{m}x{chosen}x{n}"), kernel: Arc::new(ExpertSum), inputs, tier });
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_count_by_their_shares() {
        let x = HostTensor::from_values(Desc::f32([2, 2, 1]), &[1.0, 10.0, 100.0, 1000.0]);
        let shares = HostTensor::from_values(Desc::f32([2, 2]), &[0.5, 0.25, 1.0, 0.0]);
        let residual = HostTensor::from_values(Desc::f32([2, 1]), &[7.0, 8.0]);
        let inputs = [&x, &shares, &residual];
        let descs: Vec<Desc> = inputs.iter().map(|tensor| tensor.desc.clone()).collect();
        let y = ExpertSum.reference(&inputs, &ExpertSum.outputs(&descs).unwrap());
        assert_eq!(y[0].values(), [10.0, 108.0]);
    }
}
