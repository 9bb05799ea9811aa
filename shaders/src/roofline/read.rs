//! A sum of all there is: the traffic that an adapter can read at best.

use crate::elementwise::layout::{filled, grid};
use crate::{
    Call, Caps, Case, Desc, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting, parallel,
    traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::READ;

/// Fours that an invocation sums, a workgroup apart.
const EACH: usize = 32;

/// Invocations of a workgroup.
const LANES: usize = 64;

/// `y[64 g + l, c] = sum_{i < 32} x[4 (64 (32 g + i) + l) + c]` over the values of `x` in order, zero after its end
///
/// Input: any shape in F32 whose last extent is a multiple of four. Output: `[64 * ceil(len / 8192), 4]` in F32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRows;

impl Kernel for ReadRows {
    fn name(&self) -> &'static str {
        "read"
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        super::require(self.name(), inputs, Format::F32)?;
        let groups = inputs[0].len().div_ceil(4 * EACH * LANES);
        Ok(vec![Desc::f32([groups * LANES, 4])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let sums = call.outputs[0].rows();
        let (grid, width) = grid(sums / LANES, source);
        let params = vec![(call.inputs[0].words() / 4) as u32, width, sums as u32];
        filled(Launch::new(call, params, grid), source)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let x = inputs[0].values();
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, 4, |row, sums| {
            let (group, lane) = (row / LANES, row % LANES);
            for (c, sum) in sums.iter_mut().enumerate() {
                let at = |i: usize| 4 * (LANES * (EACH * group + i) + lane) + c;
                *sum = (0..EACH).filter_map(|i| x.get(at(i))).map(|v| f64::from(*v)).sum::<f64>() as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        Tolerance::of_sum(EACH, call.outputs[0].format)
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sizes round what an invocation and a workgroup sum.
pub(crate) fn cases() -> Vec<Case> {
    let case = |tier, shape: &[usize]| {
        let size = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        Case::noise(size, tier, ReadRows, vec![Desc::f32(shape)])
    };
    vec![
        case(Tier::Short, &[4]),
        case(Tier::Short, &[3, 5, 700]),
        case(Tier::Full, &[8188]),
        case(Tier::Full, &[8192]),
        case(Tier::Full, &[8196]),
        case(Tier::Full, &[1, 70, 70, 96]),
    ]
}
