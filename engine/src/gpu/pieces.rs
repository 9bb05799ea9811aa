//! The dispatches of a plan that is to be cut finely: a step that alone takes too long is several, each of some of its workgroups.
//!
//! A cut splits outputs, never a sum: the workgroups are those of the whole step, so the bits are as well. Neighbouring pieces that run
//! together are one dispatch, so a fine cut costs nothing where it is not needed.

use super::allocate::Wanted;
use super::compiled::bind;
use super::memory::Held;
use super::{Gpu, GpuPlan, StepTimes, pace};
use crate::Result;
use crate::plan::{PARAMS_STRIDE, Plan, PlanBytes};
use std::ops::Range;

/// Pieces that a plan may have whatever its steps: one of few steps, each of which takes long, is cut as finely as that allows.
const OF_A_PLAN: usize = 4096;

/// Pieces that a plan may have for each step that can be cut.
const OF_A_STEP: usize = 64;

/// Pieces whose bind groups are made without a pause while something is loaded in the gaps between frames, where they count as a pipeline.
const TOGETHER: usize = 512;

/// Most pieces of a plan of which so many steps can be cut.
fn most_pieces(can_be_cut: usize) -> usize {
    if can_be_cut == 0 { 0 } else { OF_A_PLAN.max(can_be_cut * OF_A_STEP) }
}

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

/// A step that is to be cut: how long it takes alone (seconds), where its kernel finds its first workgroup in x and in y, if it can be told,
/// and its workgroups.
#[derive(Debug, Clone, Copy)]
struct Whole {
    seconds: f64,
    first: [Option<usize>; 2],
    grid: [u32; 3],
}

/// How a step is cut: along x or y, and into how many pieces.
#[derive(Debug, Clone, Copy)]
struct Cut {
    axis: usize,
    pieces: usize,
}

impl Cut {
    /// How `steps` are cut so that no piece takes longer than `finest` seconds, or, where there would be more pieces than a plan may have, than all
    /// of them are that long.
    fn all(steps: &[Whole], finest: f64) -> Vec<Cut> {
        let can_be_cut = steps.iter().filter(|step| step.first.iter().any(Option::is_some));
        let (most, seconds) =
            (most_pieces(can_be_cut.clone().count()), can_be_cut.map(|step| step.seconds).sum::<f64>());
        let mut finest = finest.max(seconds / most.max(1) as f64).max(1e-9);
        loop {
            let wanted = |step: &Whole| (step.seconds / finest).ceil() as usize;
            let cuts: Vec<Cut> = steps.iter().map(|step| Cut::new(step.first, step.grid, wanted(step))).collect();
            if Cut::made(&cuts) <= most {
                return cuts;
            }
            finest *= 1.25;
        }
    }

    /// Pieces of those steps of which there is more than one.
    fn made(cuts: &[Cut]) -> usize {
        cuts.iter().map(|cut| cut.pieces).filter(|pieces| *pieces > 1).sum()
    }

    /// Into as many pieces as are `wanted` or up to twice that, so that none has more than its part, or as many as there can be: along x where its
    /// workgroups are enough, else along whichever has more.
    fn new(first: [Option<usize>; 2], grid: [u32; 3], wanted: usize) -> Cut {
        let groups = |axis: usize| first[axis].map_or(1, |_| grid[axis] as usize);
        let axis = usize::from(groups(0) < wanted && groups(1) > groups(0));
        let each = (groups(axis) / wanted.max(1)).max(1);
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
    /// Cuts the steps of `plan` that take longer than `finest` seconds where their kernels can be cut, as finely as the pieces of a plan may be.
    pub(super) async fn new(gpu: &Gpu, plan: &GpuPlan, times: &StepTimes, finest: f64) -> Result<Pieces> {
        let inner = &plan.inner;
        let steps = inner.dispatches.iter().enumerate().map(|(at, dispatch)| {
            let first = inner.plan.steps[at].kernel.first_group();
            let first = if dispatch.bind_group.is_some() { first } else { [None; 2] };
            Whole { seconds: times.of(at..at + 1), first, grid: dispatch.grid }
        });
        let cuts = Cut::all(&steps.collect::<Vec<_>>(), finest);
        let (counts, own) = (cuts.iter().map(|cut| cut.pieces).collect::<Vec<_>>(), Cut::made(&cuts));
        if own == 0 {
            let pieces = (0..counts.len()).map(|step| Piece { step, some: None }).collect();
            return Ok(Pieces { pieces, counts, _held: None });
        }
        let params = own as u64 * PARAMS_STRIDE;
        let held = gpu.account().take(PlanBytes { weights: 0, activations: 0, states: 0, params })?;
        Ok(Pieces { pieces: Pieces::cut(gpu, plan, &cuts, own).await?, counts, _held: Some(held) })
    }

    /// The most that the pieces of `plan` take of the account, however long its steps turn out to take.
    pub(super) fn most_bytes(plan: &Plan) -> u64 {
        let can_be_cut = plan.steps.iter().filter(|step| step.kernel.first_group().iter().any(Option::is_some));
        most_pieces(can_be_cut.count()) as u64 * PARAMS_STRIDE
    }

    /// Every step of `plan` whole.
    pub(super) fn whole(plan: &GpuPlan) -> Pieces {
        let steps = plan.inner.dispatches.len();
        let pieces = (0..steps).map(|step| Piece { step, some: None }).collect();
        Pieces { pieces, counts: vec![1; steps], _held: None }
    }

    async fn cut(gpu: &Gpu, plan: &GpuPlan, cuts: &[Cut], own: usize) -> Result<Vec<Piece>> {
        let (inner, doing) = (&plan.inner, "cutting the steps of a plan");
        let mut blocks = vec![0u32; own * PARAMS_STRIDE as usize / 4];
        let (mut pieces, mut made) = (Vec::new(), Vec::with_capacity(own));
        for (at, (dispatch, cut)) in inner.dispatches.iter().zip(cuts).enumerate() {
            let (step, axis) = (&inner.plan.steps[at], cut.axis);
            let (Some(first), true) = (step.kernel.first_group()[axis], cut.pieces > 1) else {
                pieces.push(Piece { step: at, some: None });
                continue;
            };
            let launch = inner.plan.with_call(step, |call| step.kernel.launch(call, dispatch.source));
            let (all, each) = (dispatch.grid[axis], dispatch.grid[axis].div_ceil(cut.pieces as u32));
            for begin in (0..all).step_by(each as usize) {
                let start = made.len() * PARAMS_STRIDE as usize / 4;
                blocks[start..start + launch.params.len()].copy_from_slice(&launch.params);
                blocks[start + first] = begin;
                made.push((pieces.len(), axis, each.min(all - begin)));
                pieces.push(Piece { step: at, some: None });
            }
        }
        let (size, usage) = (own as u64 * PARAMS_STRIDE, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        let wanted = Wanted { label: "lampyris.pieces", size, usage };
        let params = gpu.guarded(doing, |device| gpu.buffer(device, doing, wanted)).await??;
        for (chunk, some) in made.chunks(TOGETHER).enumerate() {
            pace::pipeline().await;
            let bound = gpu.guarded(doing, |device| -> Result<()> {
                for (block, (piece, axis, count)) in (chunk * TOGETHER..).zip(some) {
                    gpu.allocating(doing)?;
                    let step = pieces[*piece].step;
                    let (step, dispatch) = (&inner.plan.steps[step], &inner.dispatches[step]);
                    let group = bind(device, step, &inner.plan, dispatch, &inner.regions, (&params, block), &[]);
                    pieces[*piece].some = group.map(|params| Groups { params, axis: *axis, count: *count });
                }
                Ok(())
            });
            bound.await??;
        }
        if let Some(queue) = gpu.queue() {
            let words = bytemuck::cast_slice(&blocks);
            gpu.guarded(doing, |_| gpu.write(queue, doing, (&params, 0), words)).await??;
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
        assert_eq!(cut(both, [2, 100, 1], 70), (1, 100));
        assert_eq!(cut(both, [7, 3, 1], 9), (0, 7));
        assert_eq!(cut(both, [5, 5, 1], 4), (0, 5), "three would have two workgroups where a fourth part is less");
        assert_eq!(cut(both, [1024, 1, 1], 60), (0, 61), "of seventeen each, and a few");
        for (groups, wanted) in (1..400).flat_map(|groups| (1..=200).map(move |wanted| (groups, wanted))) {
            let pieces = cut(both, [groups, 1, 1], wanted).1;
            let largest = groups.div_ceil(pieces as u32) as usize;
            assert!(largest * wanted <= groups as usize || largest == 1, "{groups} in {wanted}: {pieces} of {largest}");
            assert!(pieces <= (2 * wanted).min(groups as usize), "{groups} in {wanted}: {pieces}");
        }
        assert_eq!(cut([Some(3), None], [2, 100, 1], 8), (0, 2));
        for (first, wanted) in [(both, 1), (both, 0), ([None; 2], 9)] {
            assert_eq!(cut(first, [9, 9, 9], wanted), (0, 1));
        }
    }

    #[test]
    fn few_long_steps_are_cut_finely_and_many_share_what_a_plan_may_have() {
        let step = |seconds, groups| Whole { seconds, first: [Some(3), None], grid: [groups, 1, 1] };
        let pieces =
            |steps: &[Whole], finest| -> Vec<usize> { Cut::all(steps, finest).iter().map(|cut| cut.pieces).collect() };
        // A step of a second among short ones.
        assert_eq!(pieces(&[step(1e-3, 9), step(1.0, 100_000)], 1e-3), [1, 1000]);
        // As long for all, where that would be too many.
        for count in [1, 10, 100] {
            let steps: Vec<Whole> = (0..count).map(|at| step(0.1 + 0.01 * at as f64, 1 << 20)).collect();
            let found = pieces(&steps, 1e-6);
            let (all, most) = (found.iter().sum::<usize>(), most_pieces(count));
            assert!(all <= most && 2 * all > most, "{count}: {all} of {most}");
            let longest = steps.iter().zip(&found).map(|(step, pieces)| step.seconds / *pieces as f64);
            let (least, longest) = longest.fold((f64::MAX, 0.0_f64), |(a, b), it| (a.min(it), b.max(it)));
            assert!(longest < 1.2 * least, "{count}: {least} to {longest}");
        }
        // What cannot be cut takes nothing from what can.
        let fixed = Whole { seconds: 50.0, first: [None; 2], grid: [9, 9, 1] };
        assert_eq!(pieces(&[fixed, step(1.0, 100_000)], 1e-3), [1, 1000]);
        assert_eq!(most_pieces(0), 0);
    }
}
