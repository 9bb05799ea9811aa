//! The dispatches of a plan that is to be cut finely: a step that alone takes too long is several, each of some of its workgroups.
//!
//! A cut splits outputs, never a sum: the workgroups are those of the whole step, so the bits are as well. Neighbouring pieces that run
//! together are one dispatch, so a fine cut costs nothing where it is not needed.

use super::allocate::Wanted;
use super::compiled::bind;
use super::memory::Held;
use super::{Gpu, GpuPlan, StepTimes};
use crate::Result;
use crate::plan::{PARAMS_STRIDE, Plan, PlanBytes};
use std::ops::Range;

/// Most pieces of a step.
const MOST_PIECES: usize = 64;

/// A step of a plan, or some workgroups of one.
#[derive(Debug)]
struct Piece {
    step: usize,
    /// All of the workgroups when absent.
    some: Option<Groups>,
}

/// Some workgroups of a step.
#[derive(Debug)]
struct Groups {
    /// The parameters that say where they begin.
    params: wgpu::BindGroup,
    /// Whether they are counted in x or in y.
    axis: usize,
    count: u32,
}

/// How a step is cut: along x or y, and into how many pieces.
#[derive(Debug, Clone, Copy)]
struct Cut {
    axis: usize,
    pieces: usize,
}

impl Cut {
    /// Not at all.
    const NONE: Cut = Cut { axis: 0, pieces: 1 };

    /// Into as many pieces as are `wanted` or up to twice that, so that none has more than its part, or as many as there can be: along x where its
    /// workgroups are enough, else along whichever has more.
    fn new(first: [Option<usize>; 2], grid: [u32; 3], wanted: usize) -> Cut {
        let wanted = wanted.min(MOST_PIECES);
        let groups = |axis: usize| first[axis].map_or(1, |_| grid[axis] as usize);
        let axis = usize::from(groups(0) < wanted && groups(1) > groups(0));
        // The most pieces that are made are larger where that does not come out even.
        let each = (groups(axis) / wanted.max(1)).max(groups(axis).div_ceil(MOST_PIECES)).max(1);
        // So many that none is empty.
        Cut { axis, pieces: groups(axis).div_ceil(each).max(1) }
    }
}

/// The dispatches of a plan in their order.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: Vec<Piece>,
    counts: Vec<usize>,
    /// The bytes of the parameters.
    _held: Option<Held>,
}

impl Pieces {
    /// Cuts the steps of `plan` that take longer than `finest` seconds where their kernels can be cut.
    pub(super) async fn new(gpu: &Gpu, plan: &GpuPlan, times: &StepTimes, finest: f64) -> Result<Pieces> {
        let inner = &plan.inner;
        let mut cuts = Vec::with_capacity(inner.dispatches.len());
        for (at, dispatch) in inner.dispatches.iter().enumerate() {
            let wanted = (times.of(at..at + 1) / finest.max(1e-9)).ceil() as usize;
            let first = inner.plan.steps[at].kernel.first_group();
            let can = dispatch.bind_group.is_some();
            cuts.push(if can { Cut::new(first, dispatch.grid, wanted) } else { Cut::NONE });
        }
        let counts: Vec<usize> = cuts.iter().map(|cut| cut.pieces).collect();
        let own: usize = counts.iter().filter(|count| **count > 1).sum();
        if own == 0 {
            let pieces = (0..counts.len()).map(|step| Piece { step, some: None }).collect();
            return Ok(Pieces { pieces, counts, _held: None });
        }
        let params = own as u64 * PARAMS_STRIDE;
        let held = gpu.account().take(PlanBytes { weights: 0, activations: 0, states: 0, params })?;
        let made = gpu.guarded("cutting the steps of a plan", |device| Pieces::cut(gpu, device, plan, &cuts, own));
        Ok(Pieces { pieces: made.await??, counts, _held: Some(held) })
    }

    /// The most that the pieces of `plan` take of the account, however long its steps turn out to take.
    pub(super) fn most_bytes(plan: &Plan) -> u64 {
        let can_be_cut = plan.steps.iter().filter(|step| step.kernel.first_group().iter().any(Option::is_some));
        (can_be_cut.count() * MOST_PIECES) as u64 * PARAMS_STRIDE
    }

    /// Every step of `plan` whole.
    pub(super) fn whole(plan: &GpuPlan) -> Pieces {
        let steps = plan.inner.dispatches.len();
        let pieces = (0..steps).map(|step| Piece { step, some: None }).collect();
        Pieces { pieces, counts: vec![1; steps], _held: None }
    }

    fn cut(gpu: &Gpu, device: &wgpu::Device, plan: &GpuPlan, cuts: &[Cut], own: usize) -> Result<Vec<Piece>> {
        let inner = &plan.inner;
        let (size, usage) = (own as u64 * PARAMS_STRIDE, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        let params =
            gpu.buffer(device, "cutting the steps of a plan", Wanted { label: "lampyris.pieces", size, usage })?;
        let mut blocks = vec![0u32; own * PARAMS_STRIDE as usize / 4];
        let (mut pieces, mut block) = (Vec::new(), 0);
        for (at, (dispatch, cut)) in inner.dispatches.iter().zip(cuts).enumerate() {
            let (step, axis) = (&inner.plan.steps[at], cut.axis);
            let (Some(first), true) = (step.kernel.first_group()[axis], cut.pieces > 1) else {
                pieces.push(Piece { step: at, some: None });
                continue;
            };
            let launch = inner.plan.with_call(step, |call| step.kernel.launch(call, dispatch.source));
            let (all, each) = (dispatch.grid[axis], dispatch.grid[axis].div_ceil(cut.pieces as u32));
            for begin in (0..all).step_by(each as usize) {
                let start = block * PARAMS_STRIDE as usize / 4;
                blocks[start..start + launch.params.len()].copy_from_slice(&launch.params);
                blocks[start + first] = begin;
                gpu.allocating("cutting the steps of a plan")?;
                let group = bind(device, step, &inner.plan, dispatch, &inner.regions, (&params, block), &[]);
                let count = each.min(all - begin);
                pieces.push(Piece { step: at, some: group.map(|params| Groups { params, axis, count }) });
                block += 1;
            }
        }
        if let Some(queue) = gpu.queue() {
            gpu.write(queue, "cutting the steps of a plan", (&params, 0), bytemuck::cast_slice(&blocks))?;
        }
        Ok(pieces)
    }

    /// Pieces of each step.
    pub(super) fn counts(&self) -> &[usize] {
        &self.counts
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Encodes some pieces of `plan`, whose pieces these are.
    pub(super) fn encode(&self, plan: &GpuPlan, pass: &mut wgpu::ComputePass<'_>, some: Range<usize>) {
        let some = self.pieces.get(some).unwrap_or_default();
        for together in some.chunk_by(|a, b| a.step == b.step) {
            let count = together.iter().filter_map(|piece| piece.some.as_ref()).map(|it| it.count).sum();
            match together.first().map(|first| (first.step, &first.some)) {
                Some((step, Some(first))) => plan.encode_groups(pass, step, (&first.params, first.axis, count)),
                Some((step, None)) => plan.encode_step(pass, step, &[]),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_cut_along_x_unless_that_is_too_short() {
        let cut = |first, grid, wanted| {
            let Cut { axis, pieces } = Cut::new(first, grid, wanted);
            (axis, pieces)
        };
        let both = [Some(3), Some(4)];
        assert_eq!(cut(both, [8, 100, 1], 8), (0, 8));
        assert_eq!(cut(both, [2, 100, 1], 8), (1, 9), "of twelve workgroups each, and one of four");
        assert_eq!(
            cut(both, [2, 100, 1], 70),
            (1, 50),
            "of two workgroups each, for more than sixty-four are not made"
        );
        assert_eq!(cut(both, [7, 3, 1], 9), (0, 7));
        assert_eq!(cut(both, [5, 5, 1], 4), (0, 5), "three would have two workgroups where a fourth part is less");
        assert_eq!(cut(both, [1024, 1, 1], 60), (0, 61), "of seventeen each, and a few");
        assert_eq!(
            cut(both, [1025, 1, 1], 64),
            (0, 61),
            "of seventeen each, for with sixteen there would be one too many"
        );
        for (groups, wanted) in (1..400).flat_map(|groups| (1..=MOST_PIECES).map(move |wanted| (groups, wanted))) {
            let pieces = cut(both, [groups, 1, 1], wanted).1;
            let largest = groups.div_ceil(pieces as u32) as usize;
            let (even, most) = (largest * wanted <= groups as usize, groups.div_ceil(MOST_PIECES as u32) as usize);
            assert!(even || largest <= most, "{groups} in {wanted}: {pieces} of {largest}");
            assert!(pieces <= MOST_PIECES, "{groups} in {wanted}: {pieces}");
        }
        assert_eq!(cut([Some(3), None], [2, 100, 1], 8), (0, 2));
        for (first, wanted) in [(both, 1), (both, 0), ([None; 2], 9)] {
            assert_eq!(cut(first, [9, 9, 9], wanted), (0, 1));
        }
    }
}
