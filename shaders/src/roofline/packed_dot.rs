//! Chains of dot products of packed bytes: the int8 arithmetic that an adapter can do at best.

use crate::elementwise::layout::{filled, grid};
use crate::{
    Call, Caps, Case, Desc, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting, traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::PACKED_DOT;

/// Chains of each word.
const CHAINS: u32 = 8;

/// Rounds that the shader's loop makes at a time.
const UNROLL: u32 = 8;

/// Weights of the four bytes, lowest first.
const WEIGHTS: [i8; 4] = [-127, 127, -1, 1];

/// `y = v_0 xor .. xor v_7`, where `v_t` starts as `x + t * 0x01010101` and the dot product of its four signed bytes with
/// (-127, 127, -1, 1) is added to it `rounds` times, all modulo 2^32
///
/// Input: any shape of words whose last extent is a multiple of four. Output: the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedDot {
    /// Products of each chain, a multiple of 8.
    pub rounds: u32,
}

impl Kernel for PackedDot {
    fn name(&self) -> &'static str {
        "packed_dot"
    }

    fn summary(&self) -> String {
        format!("{} rounds", self.rounds)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        super::require(self.name(), inputs, Format::Word)?;
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
        let count = call.inputs[0].words();
        let (grid, width) = grid(count.div_ceil(64), source);
        let weights = u32::from_le_bytes(WEIGHTS.map(|w| w as u8));
        filled(Launch::new(call, vec![count as u32, width, self.rounds / UNROLL, weights], grid), source)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let dot = |v: u32| -> i32 {
            v.to_le_bytes().iter().zip(WEIGHTS).map(|(byte, w)| i32::from(*byte as i8) * i32::from(w)).sum()
        };
        let chain = |start: u32| (0..self.rounds).fold(start, |v, _| v.wrapping_add_signed(dot(v)));
        let word = |x: &u32| (0..CHAINS).map(|t| chain(x.wrapping_add(t * 0x0101_0101))).fold(0, |all, v| all ^ v);
        vec![HostTensor::from_words(outputs[0].clone(), inputs[0].words.iter().map(word).collect())]
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance::EXACT
    }

    /// A product of four bytes and its addition count as eight operations.
    fn work(&self, call: &Call<'_>) -> Work {
        let products = f64::from(CHAINS * self.rounds) * call.inputs[0].len() as f64;
        Work { flops: 8.0 * products, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// No round, some, and as many as the measurement makes.
pub(crate) fn cases() -> Vec<Case> {
    let case = |tier, len: usize, rounds: u32| {
        let desc = Desc::new(Format::Word, [len]);
        Case::noise(format!("{len}.r{rounds}"), tier, PackedDot { rounds }, vec![desc])
    };
    vec![
        case(Tier::Short, 1028, 8),
        case(Tier::Short, 260, 256),
        case(Tier::Full, 256, 0),
        case(Tier::Full, 4, 32),
        case(Tier::Full, 252, 48),
    ]
}
