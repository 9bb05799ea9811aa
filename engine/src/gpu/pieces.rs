//! The dispatches of a plan that is to be cut finely: a step that alone takes too long is several, each of some of its workgroups.
//!
//! A cut splits outputs, never a sum: the workgroups are those of the whole step, so the bits are as well. Neighbouring pieces that run
//! together are one dispatch, so a fine cut costs nothing where it is not needed.

use super::allocate::Wanted;
use super::compiled::bind;
use super::memory::Held;
use super::{Gpu, GpuPlan, StepTimes};
use crate::Result;
use crate::plan::{PARAMS_STRIDE, PlanBytes};
use std::ops::Range;

/// Most pieces of a step.
const MOST_PIECES: usize = 64;

/// A step of a plan, or some workgroups of one.
#[derive(Debug)]
struct Piece {
    step: usize,
    /// The parameters that say where the workgroups begin in x, and how many these are; all of them when absent.
    some: Option<(wgpu::BindGroup, u32)>,
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
        let mut counts = Vec::with_capacity(inner.dispatches.len());
        for (at, dispatch) in inner.dispatches.iter().enumerate() {
            let can = inner.plan.steps[at].kernel.first_group().is_some() && dispatch.bind_group.is_some();
            let wanted = (times.of(at..at + 1) / finest.max(1e-9)).ceil();
            let most = MOST_PIECES.min(dispatch.grid[0] as usize).max(1);
            let count = if can { (wanted as usize).clamp(1, most) } else { 1 };
            // So many that none is empty.
            let each = (dispatch.grid[0] as usize).div_ceil(count).max(1);
            counts.push((dispatch.grid[0] as usize).div_ceil(each).max(1));
        }
        let own: usize = counts.iter().filter(|count| **count > 1).sum();
        if own == 0 {
            let pieces = (0..counts.len()).map(|step| Piece { step, some: None }).collect();
            return Ok(Pieces { pieces, counts, _held: None });
        }
        let params = own as u64 * PARAMS_STRIDE;
        let held = gpu.account().take(PlanBytes { weights: 0, activations: 0, states: 0, params })?;
        let made = gpu.guarded("cutting the steps of a plan", |device| Pieces::cut(gpu, device, plan, &counts, own));
        Ok(Pieces { pieces: made.await??, counts, _held: Some(held) })
    }

    /// Every step of `plan` whole.
    pub(super) fn whole(plan: &GpuPlan) -> Pieces {
        let steps = plan.inner.dispatches.len();
        let pieces = (0..steps).map(|step| Piece { step, some: None }).collect();
        Pieces { pieces, counts: vec![1; steps], _held: None }
    }

    fn cut(gpu: &Gpu, device: &wgpu::Device, plan: &GpuPlan, counts: &[usize], own: usize) -> Result<Vec<Piece>> {
        let inner = &plan.inner;
        let (size, usage) = (own as u64 * PARAMS_STRIDE, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        let params =
            gpu.buffer(device, "cutting the steps of a plan", Wanted { label: "lampyris.pieces", size, usage })?;
        let mut blocks = vec![0u32; own * PARAMS_STRIDE as usize / 4];
        let (mut pieces, mut block) = (Vec::new(), 0);
        for (at, (dispatch, count)) in inner.dispatches.iter().zip(counts).enumerate() {
            let step = &inner.plan.steps[at];
            let (Some(first), true) = (step.kernel.first_group(), *count > 1) else {
                pieces.push(Piece { step: at, some: None });
                continue;
            };
            let launch = inner.plan.with_call(step, |call| step.kernel.launch(call, dispatch.source));
            let each = dispatch.grid[0].div_ceil(*count as u32);
            for begin in (0..dispatch.grid[0]).step_by(each as usize) {
                let start = block * PARAMS_STRIDE as usize / 4;
                blocks[start..start + launch.params.len()].copy_from_slice(&launch.params);
                blocks[start + first] = begin;
                gpu.allocating("cutting the steps of a plan")?;
                let group = bind(device, step, &inner.plan, dispatch, &inner.regions, (&params, block), &[]);
                let groups = each.min(dispatch.grid[0] - begin);
                pieces.push(Piece { step: at, some: group.map(|group| (group, groups)) });
                block += 1;
            }
        }
        if let Some(queue) = gpu.queue() {
            queue.write_buffer(&params, 0, bytemuck::cast_slice(&blocks));
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
            let groups = together.iter().filter_map(|piece| piece.some.as_ref()).map(|(_, groups)| groups).sum();
            match together.first().map(|first| (first.step, &first.some)) {
                Some((step, Some((params, _)))) => plan.encode_groups(pass, step, (params, groups)),
                Some((step, None)) => plan.encode_step(pass, step, &[]),
                None => {}
            }
        }
    }
}
