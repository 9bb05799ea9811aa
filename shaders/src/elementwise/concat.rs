//! Joining two tensors along an axis.

use super::layout::{coordinates, filled, grid, index_of, require_f32};
use crate::{
    Call, Caps, Case, Desc, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting, parallel, traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::CONCAT;

/// `a`, and after it along `axis`, `b`
///
/// Inputs: two tensors in F32 rows that differ in the extent of `axis` only. Output: their sum there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concat {
    /// The axis, counted from the outermost.
    pub axis: usize,
}

impl Kernel for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn summary(&self) -> String {
        format!("axis {}", self.axis)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [a, b] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "two tensors", found: inputs.len() });
        };
        require_f32(kernel, inputs)?;
        let Some(extent) = a.shape.get(self.axis) else {
            return Err(ShapeError::Parameter { kernel, reason: format!("{a} has no axis {}", self.axis) });
        };
        let mut shape = b.shape.clone();
        if let Some(own) = shape.get_mut(self.axis) {
            *own = *extent;
        }
        if shape != a.shape {
            let expected = format!("the shape of {a} except on axis {}", self.axis);
            return Err(ShapeError::Input { kernel, position: 1, expected, found: b.clone() });
        }
        shape[self.axis] += b.shape[self.axis];
        Ok(vec![Desc::f32(shape)])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let ([a, b], y) = ([&call.inputs[0], &call.inputs[1]], &call.outputs[0]);
        let (grid, width) = grid(y.words().div_ceil(64), source);
        let block = |x: &Desc| x.shape[self.axis..].iter().product::<usize>();
        let numbers = [y.words(), width as usize, y.last(), a.last(), b.last(), block(a), block(b)];
        filled(Launch::new(call, numbers.map(|n| n as u32).to_vec(), grid), source)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (a, b) = (inputs[0].values(), inputs[1].values());
        let first = inputs[0].desc.shape[self.axis];
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, 1, |i, value| {
            let mut place = coordinates(&outputs[0].shape, i);
            value[0] = if place[self.axis] < first {
                a[place.iter().zip(&inputs[0].desc.shape).fold(0, |index, (at, extent)| index * extent + at)]
            } else {
                place[self.axis] -= first;
                b[index_of(&inputs[1].desc.shape, &place)]
            };
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance::EXACT
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 0.0, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Every axis, with extents on and off multiples of four.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (tier, axis, a, b) in [
        (Tier::Short, 1, &[2, 3, 5][..], &[2, 2, 5][..]),
        (Tier::Short, 2, &[2, 3, 5], &[2, 3, 6]),
        (Tier::Full, 0, &[2, 3, 5], &[1, 3, 5]),
        (Tier::Full, 0, &[7], &[60]),
        (Tier::Full, 3, &[1, 14, 14, 24], &[1, 14, 14, 40]),
    ] {
        let size = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let label = format!("{}.{}.axis{axis}", size(a), size(b));
        cases.push(Case::noise(label, tier, Concat { axis }, vec![Desc::f32(a), Desc::f32(b)]));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_hand_made_pairs() {
        let tensor = |shape: [usize; 2], values: &[f32]| HostTensor::from_values(Desc::f32(shape), values);
        let run = |axis: usize, a: &HostTensor, b: &HostTensor| {
            let kernel = Concat { axis };
            kernel.reference(&[a, b], &kernel.outputs(&[a.desc.clone(), b.desc.clone()]).unwrap()).remove(0).values()
        };
        let (a, b) = (tensor([2, 2], &[1.0, 2.0, 3.0, 4.0]), tensor([2, 1], &[8.0, 9.0]));
        assert_eq!(run(1, &a, &b), [1.0, 2.0, 8.0, 3.0, 4.0, 9.0]);
        assert_eq!(run(0, &a, &tensor([1, 2], &[5.0, 6.0])), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert!(Concat { axis: 0 }.outputs(&[a.desc.clone(), b.desc.clone()]).is_err());
        assert!(Concat { axis: 2 }.outputs(&[a.desc.clone(), a.desc.clone()]).is_err());
    }
}
