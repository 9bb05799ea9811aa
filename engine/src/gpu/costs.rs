//! What an adapter usually needs: to read, for a dispatch, for a submission, and for a step of a plan whose weights are not there yet. From
//! these follows how fast a network will be, before anything of it is loaded.

use super::profile::median;
use super::roofline::{READ_BYTES, large, single, submit_micros, verified};
use super::{ConstantStore, Gpu, GpuPlan, InputData, VariantChoice};
use crate::plan::{Plan, PlanBuilder, PlanTensor};
use crate::{Error, Result};
use lampyris_shaders::Desc;
use lampyris_shaders::roofline::{CopyRows, ReadRows};
use serde::Serialize;
use std::sync::Arc;

/// Times that each figure is looked for.
const TRIES: usize = 9;
/// Shortest pass, in seconds, whose time counts: enough for a clock, little enough that a network's steps take no more than some seconds.
const PASS: f64 = 0.005;
/// Most dispatches of a pass.
const MOST_REPEATS: f64 = 256.0;

/// What an adapter usually needs, the median of several tries each, where [`super::Roofline`] has the best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Costs {
    /// 10^9 bytes a second of a sum over more than caches hold.
    pub read_gbytes: f64,
    /// Microseconds from one tiny dispatch to the next that depends on it, in one pass.
    pub dispatch_micros: f64,
    /// Microseconds to encode one tiny dispatch, submit it, and see it done.
    pub submit_micros: f64,
}

/// Measures what an adapter usually needs; takes about a second.
///
/// # Errors
/// As [`super::roofline`].
pub async fn costs(gpu: &Gpu) -> Result<Costs> {
    verified(gpu).await?;
    let buffer = large(gpu, READ_BYTES);
    let read = single(gpu, Arc::new(ReadRows), &buffer).await?;
    let dispatch = single(gpu, Arc::new(CopyRows), &Desc::f32([4])).await?;
    Ok(Costs {
        read_gbytes: buffer.bytes() as f64 / usual(&read, &[InputData::Bound]).await? / 1e9,
        dispatch_micros: usual(&dispatch, &[InputData::Bound]).await? * 1e6,
        submit_micros: submit_micros(gpu).await?,
    })
}

/// Seconds that step `at` of a plan usually takes alone, in the variant that the engine chooses for it: its inputs hold zeros, but for those
/// of which `filled` gives the words. Its weights are not needed, and none of the plan's other tensors is made. `None` for a step that writes
/// over one of its inputs, which no other step shares here.
///
/// # Errors
/// [`Error::NoDevice`] on the CPU executor; as [`GpuPlan::new`] and [`GpuPlan::time`] from the device.
pub async fn alone(
    gpu: &Gpu,
    plan: &Plan,
    at: usize,
    filled: impl Fn(&PlanTensor) -> Option<Vec<u32>>,
) -> Result<Option<f64>> {
    if gpu.is_cpu_executor() {
        let reason = "the CPU executor's steps are not timed".to_owned();
        return Err(Error::NoDevice { adapter: gpu.summary().name.clone(), reason });
    }
    let Some(step) = plan.steps.get(at).filter(|step| step.kernel.in_place().is_empty()) else { return Ok(None) };
    let mut builder = PlanBuilder::new();
    let tensors: Vec<&PlanTensor> = step.inputs.iter().map(|id| plan.tensor(*id)).collect();
    let inputs: Vec<_> =
        tensors.iter().enumerate().map(|(i, it)| builder.input(i.to_string(), it.desc.clone())).collect();
    for (i, output) in builder.apply_shared(step.name.clone(), step.kernel.clone(), &inputs)?.into_iter().enumerate() {
        builder.output(i.to_string(), output);
    }
    let one = GpuPlan::new(gpu, Arc::new(builder.finish()), &ConstantStore::new(), VariantChoice::Best).await?;
    let words: Vec<Option<Vec<u32>>> = tensors.iter().map(|tensor| filled(tensor)).collect();
    let inputs: Vec<InputData<'_>> =
        words.iter().map(|words| words.as_deref().map_or(InputData::Bound, InputData::Words)).collect();
    usual(&one, &inputs).await.map(Some)
}

/// Median seconds of one dispatch, in passes that last long enough to be timed.
async fn usual(plan: &GpuPlan, inputs: &[InputData<'_>]) -> Result<f64> {
    // Of the first ones a device may still be setting up, or waking.
    plan.time(inputs, 2).await?;
    let some = 4.0;
    let each = plan.time(inputs, some as u32).await? / some;
    let repeats = (PASS / each.max(1e-9)).clamp(1.0, MOST_REPEATS).ceil();
    let mut found = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        found.push(plan.time(inputs, repeats as u32).await? / repeats);
    }
    Ok(median(found))
}
