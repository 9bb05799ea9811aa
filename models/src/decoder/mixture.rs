//! A layer's experts in a plan: one token after another, or gathered by their experts where a GPU has many tokens at once.
//!
//! Shazeer et al. 2017; Qwen3 technical report 2025.

use super::matrix::Matrix;
use super::names::Part;
use super::network::{Cut, bytes};
use super::weights::Stack;
use super::{DecoderConfig, Mixture};
use crate::Result;
use lampyris_engine::PlanBuilder;
use lampyris_engine::kernels::elementwise::{Binary, Operation};
use lampyris_engine::kernels::text::{Dense, Experts, Route, Unit, Way};
use lampyris_engine::plan::TensorId;

/// A layer with experts.
#[derive(Debug, Clone, Copy)]
struct Layer<'a> {
    cut: Cut<'a>,
    config: &'a DecoderConfig,
    mixture: &'a Mixture,
    number: usize,
}

/// The experts of a layer, those that are chosen for a token added to its row of `x`.
pub(super) fn experts(
    b: &mut PlanBuilder,
    cut: Cut<'_>,
    number: usize,
    mixture: &Mixture,
    x: TensorId,
) -> Result<TensorId> {
    let layer = Layer { cut, config: cut.tensors.config(), mixture, number };
    let stacks = cut.tensors.stacks(number, mixture, cut.limit);
    #[cfg(not(target_arch = "wasm32"))]
    if gathered::pays(layer, &stacks) {
        return gathered::experts(b, layer, stacks, x);
    }
    layer.singly(b, stacks, x)
}

impl Layer<'_> {
    /// The experts of each row of `x`, and their shares; with the norm, if it is not `x` itself that has it.
    fn route(self, b: &mut PlanBuilder, (x, norm): (TensorId, Option<(f32, TensorId)>)) -> Result<Vec<TensorId>> {
        let router = self.cut.tensors.router(self.number, self.mixture);
        let mut inputs = [vec![x], self.cut.tensors.constants(b, &router)].concat();
        inputs.extend(norm.map(|(_, gain)| gain));
        let dense = Dense { norm: norm.map(|(epsilon, _)| epsilon), ..Dense::default() };
        let logits = b.apply(router.name.as_str(), dense, &inputs)?;
        let route = Route { chosen: self.mixture.chosen, renormalized: self.mixture.renormalized };
        Ok(b.apply_all(format!("layers.{}.route", self.number), route, &[logits])?)
    }

    /// What the matrices of all `stacks` multiply instead of `x` when products are packed.
    fn packed(
        self,
        b: &mut PlanBuilder,
        stacks: &[Stack],
        x: (TensorId, Option<(f32, TensorId)>),
    ) -> Result<Option<TensorId>> {
        match self.cut.packs(stacks.iter().flat_map(|stack| [&stack.gate_up].into_iter().chain(&stack.up))) {
            true => Ok(Some(bytes(b, format!("layers.{}.experts.input", self.number), x)?)),
            false => Ok(None),
        }
    }

    /// Units of a stack, in bytes where products with its second matrix are packed.
    fn units(self, b: &mut PlanBuilder, Stack { down, .. }: &Stack, units: TensorId) -> Result<TensorId> {
        match self.cut.packs([down]) {
            true => bytes(b, format!("{}.input", down.name), (units, None)),
            false => Ok(units),
        }
    }

    /// One token after another.
    fn singly(self, b: &mut PlanBuilder, stacks: Vec<Stack>, x: TensorId) -> Result<TensorId> {
        let Layer { cut: Cut { tensors, .. }, config, mixture, number } = self;
        let (epsilon, gain) = (config.epsilon, tensors.gain(b, number, Part::UnitsNorm));
        let routed = self.route(b, (x, Some((epsilon, gain))))?;
        let packed = self.packed(b, &stacks, (x, Some((epsilon, gain))))?;
        let mut sum = x;
        for stack in stacks {
            let Stack { first, count, .. } = stack;
            let (width, unit, norm) = (mixture.width, config.unit, packed.is_none().then_some(epsilon));
            let inward = |b: &mut PlanBuilder, matrix: &Matrix, way: Way| {
                let mut inputs = [vec![packed.unwrap_or(x)], tensors.constants(b, matrix), vec![routed[0]]].concat();
                inputs.extend(packed.is_none().then_some(gain));
                b.apply(matrix.name.as_str(), Experts { first, count, way }, &inputs)
            };
            let units = match &stack.up {
                None => inward(b, &stack.gate_up, Way::In { width, unit, norm })?,
                Some(up) => {
                    let gates = inward(b, &stack.gate_up, Way::Alone { width, unit, norm })?;
                    let units = inward(b, up, Way::Alone { width, unit: Unit::Linear, norm })?;
                    let name = format!("{}.units", stack.gate_up.name);
                    b.apply(name, Binary { operation: Operation::Mul }, &[gates, units])?
                }
            };
            let units = self.units(b, &stack, units)?;
            let way = Way::Out { columns: config.hidden };
            let matrix = tensors.constants(b, &stack.down);
            let inputs = [vec![units], matrix, routed.clone(), vec![sum]].concat();
            sum = b.apply(stack.down.name.as_str(), Experts { first, count, way }, &inputs)?;
        }
        Ok(sum)
    }
}

/// The tokens of each expert side by side, so that its weights are read once for a tile of them. Not in browsers, where runs are small.
#[cfg(not(target_arch = "wasm32"))]
mod gathered {
    use super::{Layer, Part, PlanBuilder, Result, Stack, TensorId, Way};
    use lampyris_engine::kernels::text::{ExpertSum, ExpertTiles, GroupedExperts, Norm};

    /// Choices that come to an expert on average from which on they are gathered: of fewer each may as well read its expert alone.
    const FEWEST: usize = 4;

    /// Whether the run of a layer has tokens enough, and is a GPU's; gates that are stored unlike their units are not computed in tiles.
    pub(super) fn pays(layer: Layer<'_>, stacks: &[Stack]) -> bool {
        let joined = stacks.iter().all(|stack| stack.up.is_none());
        joined && !layer.cut.caps.software && layer.cut.tokens * layer.mixture.chosen >= FEWEST * layer.mixture.experts
    }

    /// As [`Layer::singly`].
    pub(super) fn experts(b: &mut PlanBuilder, layer: Layer<'_>, stacks: Vec<Stack>, x: TensorId) -> Result<TensorId> {
        let Layer { cut, config, mixture, number } = layer;
        let (experts, chosen, epsilon) = (mixture.experts, mixture.chosen, config.epsilon);
        let gain = cut.tensors.gain(b, number, Part::UnitsNorm);
        // With a norm of its own a tile has a fifth fewer products; the router takes the same input.
        let norm = Norm { epsilon, centered: false, bias: false, residual: false };
        let normed = b.apply(format!("layers.{number}.experts.norm"), norm, &[x, gain])?;
        let routed = layer.route(b, (normed, None))?;
        let tiles = b.apply(format!("layers.{number}.tiles"), ExpertTiles { experts }, &routed[..1])?;
        let input = layer.packed(b, &stacks, (normed, None))?.unwrap_or(normed);
        let mut sum = x;
        for stack in stacks {
            let Stack { first, count, .. } = stack;
            let grouped = |way: Way| GroupedExperts { first, count, chosen, experts, way };
            let way = Way::In { width: mixture.width, unit: config.unit, norm: None };
            let inputs = [vec![input], cut.tensors.constants(b, &stack.gate_up), vec![tiles]].concat();
            let units = b.apply(stack.gate_up.name.as_str(), grouped(way), &inputs)?;
            let units = layer.units(b, &stack, units)?;
            let way = Way::Out { columns: config.hidden };
            let inputs = [vec![units], cut.tensors.constants(b, &stack.down), vec![tiles]].concat();
            let each = b.apply(stack.down.name.as_str(), grouped(way), &inputs)?;
            sum = b.apply(format!("{}.sum", stack.down.name), ExpertSum, &[each, routed[1], sum])?;
        }
        Ok(sum)
    }
}
