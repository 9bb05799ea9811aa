//! The same values under another shape: flatten, squeeze, unsqueeze.

use super::layout::{filled, grid, require_f32};
use crate::{
    Call, Caps, Case, Desc, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting, traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::RESHAPE;

/// The values of `x` in row-major order, as a tensor of `shape`
///
/// Input: F32 rows of at most six axes. Output: `shape`, which has as many values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reshape {
    /// The new extents.
    pub shape: Vec<usize>,
}

impl Kernel for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "one tensor", found: inputs.len() });
        };
        require_f32(kernel, inputs)?;
        let output = Desc::f32(self.shape.clone());
        if output.len() != x.len() {
            let reason = format!("{x} holds {} values and {output} {}", x.len(), output.len());
            return Err(ShapeError::Parameter { kernel, reason });
        }
        Ok(vec![output])
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
        filled(Launch::new(call, vec![y.words() as u32, width, x.last() as u32, y.last() as u32], grid), source)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        vec![HostTensor::from_values(outputs[0].clone(), &inputs[0].values())]
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

/// Last axes that are and are not multiples of four, before and after.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (tier, from, to) in [
        (Tier::Short, &[2, 3, 5][..], &[5, 6][..]),
        (Tier::Short, &[6, 4], &[24]),
        (Tier::Full, &[7], &[7, 1]),
        (Tier::Full, &[1], &[]),
        (Tier::Full, &[3, 1, 4, 1], &[3, 4]),
        (Tier::Full, &[1, 7, 7, 24], &[1, 1176]),
        (Tier::Full, &[2, 1, 1, 33], &[2, 33]),
    ] {
        let kernel = Reshape { shape: to.to_vec() };
        let size = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        cases.push(Case::noise(format!("{}.{}", size(from), size(to)), tier, kernel, vec![Desc::f32(from)]));
    }
    cases
}
