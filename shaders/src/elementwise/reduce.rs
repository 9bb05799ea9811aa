//! Sums, means and extremes over some axes of a tensor.

use super::layout::{MAX_AXES, coordinates, filled, grid, require_f32, strides};
use crate::{
    Call, Caps, Case, Desc, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting, parallel,
    traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::REDUCE;

/// What becomes of the values along the axes that go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// `y[kept] = sum, mean, max or min over the axes that go of x[kept, gone]`
///
/// Input: F32 rows of at most six axes. Output: without the axes that go, or with an extent of one there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduce {
    /// What is kept of the values.
    pub reduction: Reduction,
    /// The axes that go, counted from the outermost.
    pub axes: Vec<usize>,
    /// Whether they stay with an extent of one.
    pub keep: bool,
}

impl Reduce {
    fn covered(&self, x: &Desc) -> usize {
        self.axes.iter().map(|axis| x.shape[*axis]).product()
    }
}

impl Kernel for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn summary(&self) -> String {
        let name = match self.reduction {
            Reduction::Sum => "sum",
            Reduction::Mean => "mean",
            Reduction::Max => "max",
            Reduction::Min => "min",
        };
        format!("{name} {:?}", self.axes)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "one tensor", found: inputs.len() });
        };
        require_f32(kernel, inputs)?;
        let twice = (1..self.axes.len()).any(|i| self.axes[..i].contains(&self.axes[i]));
        if twice || self.axes.iter().any(|axis| *axis >= x.shape.len()) {
            let reason = format!("{:?} are not distinct axes of {x}", self.axes);
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let mut shape = Vec::new();
        for (axis, extent) in x.shape.iter().enumerate() {
            match (self.axes.contains(&axis), self.keep) {
                (false, _) => shape.push(*extent),
                (true, true) => shape.push(1),
                (true, false) => {}
            }
        }
        Ok(vec![Desc::f32(shape)])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (x, y) = (&call.inputs[0], &call.outputs[0]);
        let (grid, width) = grid(y.words().div_ceil(64), source);
        let strides = strides(x);
        let mut params = Vec::new();
        for gone in [false, true] {
            let chosen: Vec<usize> = (0..x.shape.len()).rev().filter(|axis| self.axes.contains(axis) == gone).collect();
            for place in 0..MAX_AXES {
                let [extent, step] = chosen.get(place).map_or([1, 0], |axis| [x.shape[*axis], strides[*axis]]);
                params.extend([extent as u32, step as u32, 0, 0]);
            }
        }
        let covered = self.covered(x);
        let (choice, weight) = match self.reduction {
            Reduction::Sum => (0, 1.0),
            Reduction::Mean => (0, (1.0 / covered as f64) as f32),
            Reduction::Max => (1, 1.0),
            Reduction::Min => (2, 1.0f32),
        };
        params.extend([y.words() as u32, width, y.last() as u32, covered as u32, choice, weight.to_bits()]);
        filled(Launch::new(call, params, grid), source)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, shape) = (inputs[0].values(), &inputs[0].desc.shape);
        let kept: Vec<usize> = (0..shape.len()).filter(|axis| !self.axes.contains(axis)).collect();
        let [kept_shape, gone_shape] = [&kept, &self.axes].map(|axes| axes.iter().map(|a| shape[*a]).collect::<Vec<_>>());
        let covered: usize = gone_shape.iter().product();
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, 1, |i, value| {
            let mut place = vec![0; shape.len()];
            for (axis, at) in kept.iter().zip(coordinates(&kept_shape, i)) {
                place[*axis] = at;
            }
            let values = (0..covered).map(|j| {
                let mut place = place.clone();
                for (axis, at) in self.axes.iter().zip(coordinates(&gone_shape, j)) {
                    place[*axis] = at;
                }
                f64::from(x[place.iter().zip(shape).fold(0, |index, (at, extent)| index * extent + at)])
            });
            value[0] = match self.reduction {
                Reduction::Sum => values.sum::<f64>(),
                Reduction::Mean => values.sum::<f64>() / covered as f64,
                Reduction::Max => values.fold(f64::NEG_INFINITY, f64::max),
                Reduction::Min => values.fold(f64::INFINITY, f64::min),
            } as f32;
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        match self.reduction {
            Reduction::Sum | Reduction::Mean => Tolerance::of_sum(self.covered(&call.inputs[0]), Format::F32),
            Reduction::Max | Reduction::Min => Tolerance::EXACT,
        }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Every reduction over no, some and all axes, with one to six of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for reduction in [Reduction::Sum, Reduction::Mean, Reduction::Max, Reduction::Min] {
        for (tier, shape, axes, keep) in [
            (Tier::Short, &[3, 4, 5][..], &[1][..], false),
            (Tier::Short, &[3, 4, 5], &[2, 0], true),
            (Tier::Full, &[3, 4, 5], &[0, 1, 2], false),
            (Tier::Full, &[3, 4, 5], &[], false),
            (Tier::Full, &[67], &[0], true),
            (Tier::Full, &[2, 3, 2, 3, 2, 3], &[1, 4, 5], false),
            (Tier::Full, &[2, 14, 14, 30], &[1, 2], true),
        ] {
            let kernel = Reduce { reduction, axes: axes.to_vec(), keep };
            let size = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
            let label = format!("{size}.{}.{}", kernel.summary().replace(' ', ""), if keep { "kept" } else { "gone" });
            cases.push(Case::noise(label, tier, kernel, vec![Desc::f32(shape)]));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduces_a_hand_computed_tensor() {
        let x = HostTensor::from_values(Desc::f32([2, 2, 2]), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0]);
        let run = |reduction: Reduction, axes: &[usize], keep: bool| {
            let kernel = Reduce { reduction, axes: axes.to_vec(), keep };
            let y = kernel.reference(&[&x], &kernel.outputs(std::slice::from_ref(&x.desc)).unwrap()).remove(0);
            (y.desc.shape.clone(), y.values())
        };
        assert_eq!(run(Reduction::Sum, &[1], false), (vec![2, 2], vec![4.0, 6.0, 12.0, 15.0]));
        assert_eq!(run(Reduction::Mean, &[0, 2], true), (vec![1, 2, 1], vec![3.5, 5.75]));
        assert_eq!(run(Reduction::Max, &[0, 1, 2], false), (vec![], vec![9.0]));
        assert_eq!(run(Reduction::Min, &[2], false), (vec![2, 2], vec![1.0, 3.0, 5.0, 7.0]));
    }

    #[test]
    fn refuses_axes_that_are_not_there() {
        for axes in [vec![2], vec![0, 0]] {
            assert!(Reduce { reduction: Reduction::Sum, axes, keep: false }.outputs(&[Desc::f32([2, 2])]).is_err());
        }
    }
}
