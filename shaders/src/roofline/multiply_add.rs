//! Chains of multiplications and additions: the arithmetic that an adapter can do at best.

use crate::elementwise::layout::{filled, grid};
use crate::{
    Call, Caps, Case, Desc, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting, traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::MULTIPLY_ADD;

/// Chains of each value.
const CHAINS: usize = 3;

/// Rounds that the shader's loop makes at a time.
const UNROLL: u32 = 16;

/// What a round multiplies by: near enough to one that a missing round shows, and exact in binary.
const FACTOR: f32 = 1023.0 / 1024.0;

/// What a round adds; the chains tend to one.
const OFFSET: f32 = 1.0 / 1024.0;

/// `y = sum_{t < 3} v_t`, where `v_t` starts as `x + t / 8` and `v = v * 1023/1024 + 1/1024` is made `rounds` times
///
/// Input: any shape in F32 whose last extent is a multiple of four, values from -1 to 1. Output: the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultiplyAdd {
    /// Multiplications and additions of each chain, a multiple of 16.
    pub rounds: u32,
}

impl Kernel for MultiplyAdd {
    fn name(&self) -> &'static str {
        "multiply_add"
    }

    fn summary(&self) -> String {
        format!("{} rounds", self.rounds)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        super::require(self.name(), inputs, Format::F32)?;
        super::require_rounds(self.name(), self.rounds, UNROLL)?;
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
        let (grid, width) = grid(count.div_ceil(64), source);
        let params = vec![count as u32, width, self.rounds / UNROLL, FACTOR.to_bits(), OFFSET.to_bits()];
        filled(Launch::new(call, params, grid), source)
    }

    /// In closed form: the distance to one, where a chain stands still, shrinks by the factor in every round.
    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let shrunk = f64::from(FACTOR).powi(self.rounds as i32);
        let chain = |start: f64| 1.0 + (start - 1.0) * shrunk;
        let sum = |x: &f32| (0..CHAINS).map(|t| chain(f64::from(*x) + t as f64 / 8.0)).sum::<f64>() as f32;
        let y: Vec<f32> = inputs[0].values().iter().map(sum).collect();
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// A round rounds twice by half a unit of a value of at most 1.25 in magnitude, and at worst all errors have one sign; the
    /// sum is of three such chains, and its largest value is at least a third of their magnitudes' sum.
    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance { relative: 3.0 * 1.25 * f64::from(self.rounds + 4) * f64::from(f32::EPSILON) }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let rounds = f64::from(self.rounds) * call.inputs[0].len() as f64;
        Work { flops: 2.0 * CHAINS as f64 * rounds, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// No round, some, and as many as the measurement makes.
pub(crate) fn cases() -> Vec<Case> {
    let case = |tier, len: usize, rounds: u32| {
        Case::noise(format!("{len}.r{rounds}"), tier, MultiplyAdd { rounds }, vec![Desc::f32([len])])
    };
    vec![
        case(Tier::Short, 1028, 16),
        case(Tier::Short, 260, 256),
        case(Tier::Full, 256, 0),
        case(Tier::Full, 4, 32),
        case(Tier::Full, 252, 48),
    ]
}
