//! A copy: the traffic that an adapter can move at best.

use crate::elementwise::layout::grid;
use crate::{
    Call, Caps, Case, Desc, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting, traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::COPY;

/// Fours that an invocation copies.
const EACH: usize = 8;

/// `y = x`
///
/// Input: any shape in F32 whose last extent is a multiple of four. Output: the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyRows;

impl Kernel for CopyRows {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        super::require(self.name(), inputs, Format::F32)?;
        Ok(inputs.to_vec())
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let count = call.inputs[0].words() / 4;
        let (grid, width) = grid(count.div_ceil(64 * EACH), source);
        Launch::new(call, vec![count as u32, width], grid)
    }

    fn reference(&self, inputs: &[&HostTensor], _outputs: &[Desc]) -> Vec<HostTensor> {
        vec![inputs[0].clone()]
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

/// Sizes round what an invocation and a workgroup copy.
pub(crate) fn cases() -> Vec<Case> {
    let case = |tier, shape: &[usize]| {
        let size = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        Case::noise(size, tier, CopyRows, vec![Desc::f32(shape)])
    };
    vec![
        case(Tier::Short, &[4]),
        case(Tier::Short, &[3, 5, 700]),
        case(Tier::Full, &[2044]),
        case(Tier::Full, &[2048]),
        case(Tier::Full, &[2052]),
        case(Tier::Full, &[1, 70, 70, 96]),
    ]
}
