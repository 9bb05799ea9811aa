//! Which of several variants is faster on this adapter: measured once per step shape, and remembered.

use super::disk::checksum;
use super::{ConstantStore, Gpu, GpuPlan, InputData, VariantChoice, texture};
use crate::plan::{FusionOptions, Plan, PlanBuilder, Step, TensorId};
use crate::{Error, Result};
use lampyris_shaders::elementwise::{Binary, Operation};
use lampyris_shaders::{Call, Case, Desc, Format, HostTensor, Source, Tier, difference};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long one sample of a variant should take at least, in seconds.
const SAMPLE_SECONDS: f64 = 1e-3;

/// Samples of a variant, of which the fastest counts.
const SAMPLES: usize = 5;

/// Seconds of samples after which no more are taken: what takes that long varies little, and the user waits for it.
const ENOUGH_SECONDS: f64 = 0.25;

/// Most runs of one sample.
const MOST_REPEATS: u32 = 1 << 12;

/// Bytes that the copies of a matrix should come to: more than most caches hold, and within what loading may take beside the weights.
const COLD_BYTES: u64 = 48 << 20;

/// Most copies of a matrix: as many as a small network has layers.
const MOST_COPIES: u64 = 16;

/// How many copies of a step are timed in turn. A matrix that is read for a few tokens comes from memory whenever its turn comes in a network, and
/// timed alone it would come from a cache, where other variants are the faster ones. What has more arithmetic to do than that, or reads
/// mostly what the step before it wrote, is timed alone.
fn copies(call: &Call<'_>, step: &Step) -> usize {
    let bytes: u64 = call.inputs.iter().map(Desc::bytes).sum();
    let given = call.inputs.first().map_or(0, Desc::bytes);
    let summed = matches!(call.outputs, [output] if output.format == Format::F32);
    let textures = call.inputs.iter().any(|desc| desc.format.is_texture());
    let work = step.kernel.work(call);
    if !summed || textures || 8 * given > bytes || work.flops > 32.0 * work.bytes {
        return 1;
    }
    (COLD_BYTES / bytes.max(1)).clamp(1, MOST_COPIES) as usize
}

/// What a measurement holds for: the kernel, its parameters, its shapes, and the very text of the shaders.
fn key(step: &Step, call: &Call<'_>, candidates: &[&'static Source]) -> String {
    let shaders = candidates.iter().fold(0, |sum, source| sum ^ checksum(source.wgsl.text().as_bytes()));
    format!("{} {} {:?} {shaders:016x}", step.kernel.name(), step.kernel.summary(), call.inputs)
}

/// What a measurement of whole networks holds for: their steps, and the very text of the shaders that these may run.
fn key_of_plans(plans: &[Arc<Plan>]) -> String {
    let mut texts: BTreeSet<Cow<'static, str>> = BTreeSet::new();
    let mut sum = 0;
    for (at, plan) in plans.iter().enumerate() {
        sum ^= checksum(format!("{at} {plan}").as_bytes());
        texts.extend(plan.steps.iter().flat_map(|step| step.kernel.sources()).map(|source| source.wgsl.text()));
    }
    let shaders = texts.iter().fold(0, |sum, text| sum ^ checksum(text.as_bytes()));
    format!("plans {sum:016x} {shaders:016x}")
}

/// The variant that a step runs where nothing is measured: what is known to be the fastest, or the best guess.
pub(super) fn known_or_first(gpu: &Gpu, step: &Step, call: &Call<'_>) -> Option<&'static Source> {
    let candidates = step.kernel.candidates(call, gpu.caps());
    let known = gpu.tuning().filter(|_| candidates.len() > 1).and_then(|it| it.get(&key(step, call, &candidates)));
    let known = known.and_then(|label| candidates.iter().find(|source| source.label == label).copied());
    known.or(candidates.first().copied())
}

/// The fastest of `candidates` on this adapter, and whether it had to be measured. Those that disagree with the last,
/// portable one are not taken.
///
/// # Errors
/// [`Error::DeviceLost`] when the device is gone.
pub(super) async fn fastest(
    gpu: &Gpu,
    step: &Step,
    call: &Call<'_>,
    candidates: &[&'static Source],
) -> Result<(Option<&'static Source>, bool)> {
    let (Some(tuning), [_, _, ..]) = (gpu.tuning(), candidates) else {
        return Ok((candidates.first().copied(), false));
    };
    let key = key(step, call, candidates);
    if let Some(known) = tuning.get(&key).and_then(|label| candidates.iter().find(|s| s.label == label)) {
        return Ok((Some(known), false));
    }
    if !gpu.is_own() || !step.kernel.in_place().is_empty() {
        return Ok((candidates.first().copied(), false));
    }
    let case = Case {
        label: step.name.clone(),
        kernel: step.kernel.clone(),
        inputs: call.inputs.iter().map(|desc| (desc.clone(), lampyris_shaders::Fill::Noise)).collect(),
        tier: Tier::Model,
    };
    let inputs = case.tensors();
    let textures = gpu.textures(&inputs).await?;
    let mut reference: Option<Vec<HostTensor>> = None;
    let mut best: Option<(f64, &'static Source)> = None;
    let mut all = true;
    for source in candidates.iter().rev().copied() {
        let mut count = copies(call, step);
        let mut plan = alone(gpu, step, &inputs, source, count).await;
        if count > 1 && matches!(plan, Err(Error::Budget { .. } | Error::OutOfMemory { .. })) {
            // From the caches the times are others, so they are not for later.
            (count, all) = (1, false);
            plan = alone(gpu, step, &inputs, source, count).await;
        }
        let plan = match plan {
            Ok(plan) => plan,
            Err(error @ Error::DeviceLost { .. }) => return Err(error),
            Err(error) => {
                // With more room it may be the faster one.
                all &= !matches!(error, Error::Budget { .. });
                tracing::warn!(%error, variant = source.label, "a variant was left out");
                continue;
            }
        };
        // All copies but the last hold the zeros that they are made with.
        let mut data = vec![InputData::Bound; (count - 1) * inputs.len()];
        data.extend(texture::data(&inputs, &textures));
        let found = plan.run(&data).await?;
        let tolerance = 2.0 * step.kernel.tolerance(call).relative;
        match &reference {
            Some(reference) if difference(reference, &found).worst > tolerance => {
                tracing::warn!(variant = source.label, kernel = source.kernel, "a variant disagrees and was left out");
                continue;
            }
            Some(_) => {}
            None => reference = Some(found),
        }
        let seconds = match seconds_of_a_run(&plan, &data).await {
            Err(Error::NoTimer { .. }) => return Ok((candidates.first().copied(), false)),
            seconds => seconds? / count as f64,
        };
        if best.is_none_or(|(fastest, _)| seconds < fastest) {
            best = Some((seconds, source));
        }
    }
    if let Some((_, source)) = best.filter(|_| all) {
        tuning.put(key, source.label);
    }
    Ok((best.map(|(_, source)| source).or(candidates.last().copied()), true))
}

/// The step as a plan of its own: `count` copies of it, each with inputs of its own, and the sum of what they give, which makes each wait for
/// the one before it.
async fn alone(
    gpu: &Gpu,
    step: &Step,
    inputs: &[HostTensor],
    source: &'static Source,
    count: usize,
) -> Result<GpuPlan> {
    let mut builder = PlanBuilder::new();
    let mut outputs: Vec<TensorId> = Vec::new();
    for copy in 0..count {
        let input = |(i, t): (usize, &HostTensor)| (format!("input{copy}.{i}"), t.desc.clone());
        let ids: Vec<_> = inputs.iter().enumerate().map(input).map(|(name, desc)| builder.input(name, desc)).collect();
        let made = builder.apply_shared(step.name.clone(), step.kernel.clone(), &ids)?;
        outputs = match outputs.first() {
            None => made,
            Some(sum) => {
                let sum = [&[*sum], &made[..1]].concat();
                builder.apply_all("sum", Binary { operation: Operation::Add }, &sum)?
            }
        };
    }
    for (i, id) in outputs.into_iter().enumerate() {
        builder.output(format!("output{i}"), id);
    }
    let own = |other: &Step| other.kernel.name() == source.kernel;
    let choose = |other: &Step, candidates: &[&'static Source]| match own(other) {
        true => Some(source),
        false => candidates.first().copied(),
    };
    let (plan, store) = (builder.finish_with(FusionOptions::NONE), ConstantStore::new());
    Box::pin(GpuPlan::new(gpu, Arc::new(plan), &store, VariantChoice::By(&choose))).await
}

/// Seconds of one run, from runs repeated in one pass: the best of some samples, each long enough for the clock.
async fn seconds_of_a_run(plan: &GpuPlan, data: &[InputData<'_>]) -> Result<f64> {
    let (mut repeats, mut best, mut samples, mut spent) = (1, f64::INFINITY, 0, 0.0);
    while samples < SAMPLES && spent < ENOUGH_SECONDS {
        let seconds = plan.time(data, repeats).await?;
        if seconds < SAMPLE_SECONDS && repeats < MOST_REPEATS {
            repeats *= 2;
            continue;
        }
        best = best.min(seconds / f64::from(repeats));
        (samples, spent) = (samples + 1, spent + seconds);
    }
    Ok(best)
}

impl GpuPlan {
    /// Compiles the fastest of `plans`, which must take the same inputs and give the same outputs: each is compiled, held
    /// against the first on noise and timed once on an adapter, and the choice remembered. A form that disagrees with the
    /// first is not used. On a host's device, and where there is no clock, the first is taken untimed.
    ///
    /// # Errors
    /// As [`GpuPlan::new`]; [`Error::NoVariant`] when there is no plan.
    pub async fn fastest(
        gpu: &Gpu,
        plans: &[Arc<Plan>],
        store: &ConstantStore,
        mut progress: impl FnMut(u64),
    ) -> Result<GpuPlan> {
        let key = key_of_plans(plans);
        let known = gpu.tuning().and_then(|tuning| tuning.get(&key)).and_then(|text| text.parse::<usize>().ok());
        let known = if plans.len() < 2 || !gpu.is_own() { Some(0) } else { known };
        let only = known.and_then(|at| plans.get(at)).or(plans.first());
        let first = only.ok_or_else(|| Error::NoVariant {
            kernel: "a network".to_owned(),
            adapter: gpu.summary().name.clone(),
            call: "no plan".to_owned(),
        })?;
        let mut best = GpuPlan::with_progress(gpu, first.clone(), store, &mut progress).await?;
        if known.is_some() {
            return Ok(best);
        }
        let noise = |(seed, id): (usize, &TensorId)| HostTensor::noise(&first.tensor(*id).desc, seed as u64);
        let inputs: Vec<HostTensor> = first.inputs.iter().enumerate().map(noise).collect();
        let textures = gpu.textures(&inputs).await?;
        let data = texture::data(&inputs, &textures);
        let expected = best.run(&data).await?;
        let mut fastest = match seconds_of_a_run(&best, &data).await {
            Err(Error::NoTimer { .. }) => return Ok(best),
            seconds => (0, seconds?),
        };
        let mut all = true;
        for (at, plan) in plans.iter().enumerate().skip(1) {
            // A form that this adapter cannot run is no reason to refuse the network.
            let timed = async {
                let other = GpuPlan::with_progress(gpu, plan.clone(), store, |_| ()).await?;
                let apart = apart(&expected, &other.run(&data).await?);
                let allowed = tolerance(first) + tolerance(plan);
                if apart > allowed {
                    tracing::warn!(apart, allowed, form = at, "a form of the network disagrees and was left out");
                    return Ok(None);
                }
                let seconds = seconds_of_a_run(&other, &data).await?;
                Ok(Some((other, seconds)))
            };
            match timed.await {
                Ok(Some((other, seconds))) if seconds < fastest.1 => (best, fastest) = (other, (at, seconds)),
                Ok(_) => {}
                Err(error @ Error::DeviceLost { .. }) => return Err(error),
                Err(error) => {
                    // With more room it may be the faster one.
                    all &= !matches!(error, Error::Budget { .. });
                    tracing::warn!(%error, "a form of the network was left out");
                }
            }
        }
        if let Some(tuning) = gpu.tuning().filter(|_| all) {
            tuning.put(key, &fastest.0.to_string());
            tuning.save();
        }
        Ok(best)
    }
}

/// The largest relative error that a form of a network may have: each step adds at most its own.
fn tolerance(plan: &Plan) -> f64 {
    let of = |step: &Step| plan.with_call(step, |call| step.kernel.tolerance(call).relative);
    plan.steps.iter().map(of).sum()
}

/// How far two forms of a network lie apart. Words, such as ranks, turn on ties between the values that they are made of, and
/// count only where they are all there is.
fn apart(expected: &[HostTensor], found: &[HostTensor]) -> f64 {
    let values = |outputs: &[HostTensor]| -> Vec<HostTensor> {
        outputs.iter().filter(|tensor| !tensor.desc.format.is_word()).cloned().collect()
    };
    match (values(expected), values(found)) {
        (a, b) if a.is_empty() && b.is_empty() => difference(expected, found).worst,
        (a, b) => difference(&a, &b).worst,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lampyris_shaders::text::{Dense, Scheme};

    fn copies_of([m, k, n]: [usize; 3], scheme: Scheme) -> usize {
        let inputs = [vec![Desc::f32([m, k])], scheme.descs(n, k)].concat();
        let outputs = [Desc::f32([m, n])];
        let (name, kernel) = ("dense".to_owned(), Arc::new(Dense::default()));
        let step = Step { name, kernel, inputs: Vec::new(), outputs: Vec::new() };
        copies(&Call { inputs: &inputs, outputs: &outputs }, &step)
    }

    #[test]
    fn what_is_read_for_a_few_tokens_is_timed_out_of_the_caches() {
        assert_eq!(copies_of([1, 4096, 4096], Scheme::Q4_0), 5);
        assert_eq!(copies_of([8, 4096, 4096], Scheme::Q4_0), 5);
        assert_eq!(copies_of([1, 576, 576], Scheme::Q4_0), 16);
        assert_eq!(copies_of([1, 4096, 65_536], Scheme::F16), 1);
        assert_eq!(copies_of([32, 4096, 4096], Scheme::Q4_0), 1);
        assert_eq!(copies_of([1, 8, 4], Scheme::F32), 16);
    }
}
