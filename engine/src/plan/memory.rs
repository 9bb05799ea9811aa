//! Which tensors share a buffer: slots are whole buffers, given out by liveness, largest tensors first.
//!
//! WebGPU tracks the use of whole buffers, so a step's inputs and outputs must lie in different ones; a slot is therefore
//! never a part of a larger buffer. (Greedy by size: Pisarchyk and Lee 2020.)

use super::{Place, Plan};

/// Removes steps whose outputs nobody reads, then constants that no step reads.
pub(super) fn drop_unused(plan: &mut Plan) {
    let mut needed = vec![false; plan.tensors.len()];
    for (_, id) in &plan.outputs {
        needed[id.0] = true;
    }
    let mut kept: Vec<_> = Vec::with_capacity(plan.steps.len());
    for step in plan.steps.drain(..).rev() {
        let kept_on = |id: &super::TensorId| matches!(plan.tensors[id.0].place, Place::State(_));
        if step.outputs.iter().any(|id| needed[id.0] || kept_on(id)) {
            for id in step.inputs.iter().chain(&step.outputs) {
                needed[id.0] = true;
            }
            kept.push(step);
        }
    }
    kept.reverse();
    plan.steps = kept;
    let mut position = 0;
    let mut moved = vec![usize::MAX; plan.constants.len()];
    for (i, tensor) in plan.tensors.iter_mut().enumerate() {
        if let Place::Constant(at) = &mut tensor.place
            && needed[i]
        {
            moved[*at] = position;
            *at = position;
            position += 1;
        }
    }
    let mut constants: Vec<_> = plan.constants.drain(..).zip(moved).filter(|(_, to)| *to != usize::MAX).collect();
    constants.sort_by_key(|(_, to)| *to);
    plan.constants = constants.into_iter().map(|(constant, _)| constant).collect();
}

/// First and last step at which each tensor's words matter; `None` for what no slot holds.
fn lifetimes(plan: &Plan) -> Vec<Option<(usize, usize)>> {
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; plan.tensors.len()];
    for (at, step) in plan.steps.iter().enumerate() {
        for id in step.outputs.iter().filter(|id| !matches!(plan.tensor(**id).place, Place::State(_))) {
            lives[id.0] = Some((at, at));
        }
        for id in &step.inputs {
            if let Some((_, last)) = &mut lives[id.0] {
                *last = at;
            }
        }
    }
    for (_, id) in &plan.outputs {
        if let Some((_, last)) = &mut lives[id.0] {
            *last = usize::MAX;
        }
    }
    lives
}

/// Gives every intermediate tensor a slot.
pub(super) fn assign(plan: &mut Plan) {
    let lives = lifetimes(plan);
    let mut order: Vec<usize> = (0..plan.tensors.len()).filter(|i| lives[*i].is_some()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(plan.tensors[*i].desc.bytes()), *i));
    let mut slots: Vec<(u64, Vec<(usize, usize)>)> = Vec::new();
    for i in order {
        let Some((first, last)) = lives[i] else { continue };
        let bytes = plan.tensors[i].desc.bytes().max(4);
        let free = |taken: &[(usize, usize)]| taken.iter().all(|(a, b)| *b < first || last < *a);
        let slot = match slots.iter().position(|(_, taken)| free(taken)) {
            Some(slot) => slot,
            None => {
                slots.push((bytes, Vec::new()));
                slots.len() - 1
            }
        };
        slots[slot].0 = slots[slot].0.max(bytes);
        slots[slot].1.push((first, last));
        plan.tensors[i].place = Place::Slot(slot);
    }
    plan.slots = slots.into_iter().map(|(bytes, _)| bytes).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlanBuilder;
    use lampyris_shaders::{Desc, Format, conv::Pointwise};
    use std::sync::Arc;

    /// Two tensors that share a slot while both are alive, if there are any; a plan never has them.
    fn overlap(plan: &Plan) -> Option<(usize, usize)> {
        let lives = lifetimes(plan);
        for a in 0..plan.tensors.len() {
            for b in 0..a {
                if let (Some((a0, a1)), Some((b0, b1))) = (lives[a], lives[b])
                    && plan.tensors[a].place == plan.tensors[b].place
                    && a0 <= b1
                    && b0 <= a1
                {
                    return Some((a, b));
                }
            }
        }
        None
    }

    #[test]
    fn a_chain_with_residuals_reuses_slots_and_never_overlaps() {
        let mut b = PlanBuilder::new();
        let mut x = b.input("x", Desc::f32([1, 4, 4, 8]));
        for i in 0..6 {
            let make = |desc: Desc| {
                Arc::new(move || Ok(lampyris_shaders::HostTensor::zeros(desc.clone()))) as crate::plan::Maker
            };
            let (w, a) = (Desc::new(Format::MatrixF32, [8, 8]), Desc::f32([1, 8]));
            let w = b.constant(format!("w{i}"), w.clone(), make(w));
            let a = b.constant(format!("a{i}"), a.clone(), make(a));
            let h = b.apply(format!("h{i}"), Pointwise::default(), &[x, w, a]).unwrap();
            let kernel = Pointwise { residual: true, ..Pointwise::default() };
            x = b.apply(format!("y{i}"), kernel, &[h, w, a, x]).unwrap();
        }
        b.output("y", x);
        let plan = b.finish();
        assert_eq!(overlap(&plan), None);
        assert_eq!(plan.slots.len(), 3);
        assert_eq!(overlap(&plan.with_every_step_visible()), None);
        assert_eq!(plan.with_every_step_visible().slots.len(), 12);
    }
}
