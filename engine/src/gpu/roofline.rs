//! What an adapter can do at best: bandwidth, arithmetic, and the price of a dispatch and of a submission.

use super::profile::median;
use super::timer::{Pass, wall};
use super::{ConstantStore, Gpu, GpuPlan, InputData, VariantChoice};
use crate::certify::Prepared;
use crate::plan::PlanBuilder;
use crate::{Error, Result};
use lampyris_shaders::roofline::{CopyRows, MultiplyAdd, PackedDot, ReadRows};
use lampyris_shaders::{Case, Desc, Format, Kernel, Tier, Work};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shortest pass that is timed, in seconds, so that its ends do not count.
const PASS: f64 = 0.02;

/// Most dispatches of a pass.
const MOST_REPEATS: u32 = 4096;

/// How long each figure is looked for.
const BUDGET: Duration = Duration::from_millis(400);

/// Bytes that are read and copied on a software adapter, and on a GPU: more than most caches hold.
pub(super) const READ_BYTES: [u64; 2] = [64 << 20, 256 << 20];

/// An adapter's limits, each measured by a kernel that agrees with its twin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Roofline {
    /// The adapter, as [`super::AdapterSummary`] displays it.
    pub adapter: String,
    /// Bytes of the buffers that were read and copied.
    pub buffer_bytes: u64,
    /// 10^9 bytes a second, read and written, of a copy.
    pub copy_gbytes: f64,
    /// 10^9 bytes a second of a sum.
    pub read_gbytes: f64,
    /// 10^9 additions and multiplications a second in f32.
    pub gflops: f64,
    /// 10^9 operations a second of dot products of packed bytes; a product of four bytes and its addition are eight.
    pub gops: f64,
    /// Microseconds from one tiny dispatch to the next that depends on it, in one pass.
    pub dispatch_micros: f64,
    /// Microseconds to encode one tiny dispatch, submit it, and see it done.
    pub submit_micros: f64,
}

impl Roofline {
    /// Seconds that no kernel of this work can beat: its traffic at the best bandwidth or its arithmetic at the f32 rate,
    /// whichever takes longer.
    pub fn bound(&self, work: Work) -> f64 {
        let bandwidth = self.copy_gbytes.max(self.read_gbytes);
        (work.bytes / (bandwidth * 1e9)).max(work.flops / (self.gflops * 1e9))
    }
}

impl fmt::Display for Roofline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Roofline { adapter, buffer_bytes, copy_gbytes, read_gbytes, gflops, gops, dispatch_micros, submit_micros } =
            self;
        writeln!(f, "{adapter}")?;
        writeln!(f, "copy           {copy_gbytes:10.1} GB/s, buffers of {} MiB", buffer_bytes >> 20)?;
        writeln!(f, "read           {read_gbytes:10.1} GB/s")?;
        writeln!(f, "multiply-add   {gflops:10.1} GFLOP/s in f32")?;
        writeln!(f, "packed dot     {gops:10.1} GOP/s in int8")?;
        writeln!(f, "dispatch       {dispatch_micros:10.2} us")?;
        write!(f, "submit and wait{submit_micros:10.1} us")
    }
}

/// Measures the limits of an adapter, the best of several tries each; takes a few seconds.
///
/// Every kernel is checked against its twin first, because a wrong kernel has no speed.
///
/// # Errors
/// [`Error::Disagrees`] when a kernel does not agree with its twin; [`Error::NoDevice`] on the CPU executor; as
/// [`GpuPlan::new`] and [`GpuPlan::run`] from the device.
pub async fn roofline(gpu: &Gpu) -> Result<Roofline> {
    verified(gpu).await?;
    let software = gpu.caps().software;
    let large = large(gpu, READ_BYTES);
    // Enough invocations to fill a large GPU, and few enough not to keep a software adapter busy for long.
    let invocations = if software { 1 << 14 } else { 1 << 20 };
    let rate = async |kernel: Arc<dyn Kernel>, desc: &Desc, noise: bool| -> Result<(Work, f64)> {
        let case = Case::noise("roofline", Tier::Short, CopyRows, vec![desc.clone()]);
        let tensors = if noise { case.tensors() } else { Vec::new() };
        let plan = single(gpu, kernel, desc).await?;
        let input = tensors.first().map_or(InputData::Bound, |tensor| InputData::Words(&tensor.words));
        let seconds = fastest(&plan, &[input]).await?;
        let step = &plan.plan().steps[0];
        Ok((plan.plan().with_call(step, |call| step.kernel.work(call)), seconds))
    };
    // The large buffers hold the zeros that they are made with: what is moved does not matter.
    let (copy, copy_seconds) = rate(Arc::new(CopyRows), &large, false).await?;
    let (read, read_seconds) = rate(Arc::new(ReadRows), &large, false).await?;
    let values = Desc::f32([4 * invocations]);
    let (multiply, multiply_seconds) = rate(Arc::new(MultiplyAdd { rounds: 256 }), &values, true).await?;
    let words = Desc::new(Format::Word, [invocations]);
    let (dot, dot_seconds) = rate(Arc::new(PackedDot { rounds: 256 }), &words, true).await?;
    let (_, dispatch_seconds) = rate(Arc::new(CopyRows), &Desc::f32([4]), true).await?;
    Ok(Roofline {
        adapter: gpu.summary().to_string(),
        buffer_bytes: large.bytes(),
        copy_gbytes: copy.bytes / copy_seconds / 1e9,
        read_gbytes: read.bytes / read_seconds / 1e9,
        gflops: multiply.flops / multiply_seconds / 1e9,
        gops: dot.flops / dot_seconds / 1e9,
        dispatch_micros: dispatch_seconds * 1e6,
        submit_micros: submit_micros(gpu).await?,
    })
}

/// Refuses the CPU executor, and an adapter on which a kernel that measures does not agree with its twin.
pub(super) async fn verified(gpu: &Gpu) -> Result<()> {
    if gpu.is_cpu_executor() {
        let reason = "the CPU executor has no limits to find".to_owned();
        return Err(Error::NoDevice { adapter: gpu.summary().name.clone(), reason });
    }
    for entry in lampyris_shaders::roofline::entries() {
        for case in (entry.cases)().iter().filter(|case| case.tier == Tier::Short) {
            verify(gpu, case).await?;
        }
    }
    Ok(())
}

/// A tensor of `bytes` on a software adapter and of a GPU, as far as the adapter binds it and a budget has room for it and a copy.
pub(super) fn large(gpu: &Gpu, [software, other]: [u64; 2]) -> Desc {
    let budget = gpu.options().budget.unwrap_or(u64::MAX);
    let wanted = if gpu.caps().software { software } else { other };
    let most = gpu.caps().max_binding_bytes.min(gpu.caps().max_buffer_bytes).min(budget / 3);
    Desc::f32([(wanted.min(most) / 4096 * 1024) as usize])
}

/// Refuses a kernel that does not agree with its twin.
async fn verify(gpu: &Gpu, case: &Case) -> Result<()> {
    let prepared = Prepared::new(case)?;
    for source in prepared.variants(gpu)? {
        let verdict = prepared.check(gpu, source).await?;
        let (kernel, adapter) = (format!("{}[{}]", verdict.kernel, verdict.variant), gpu.summary().name.clone());
        if let Some(reason) = verdict.failure {
            return Err(Error::Driver { adapter, doing: kernel, reason });
        }
        if !verdict.passed() {
            return Err(Error::Disagrees {
                kernel,
                adapter,
                case: verdict.case,
                error: verdict.worst_error,
                tolerance: verdict.tolerance,
            });
        }
    }
    Ok(())
}

/// A plan of one step with one input.
pub(super) async fn single(gpu: &Gpu, kernel: Arc<dyn Kernel>, desc: &Desc) -> Result<GpuPlan> {
    let mut builder = PlanBuilder::new();
    let x = builder.input("x", desc.clone());
    for output in builder.apply_shared(kernel.name().to_owned(), kernel, &[x])? {
        builder.output("y", output);
    }
    GpuPlan::new(gpu, Arc::new(builder.finish()), &ConstantStore::new(), VariantChoice::Best).await
}

/// Fewest seconds of one dispatch, in passes that last long enough to be timed.
async fn fastest(plan: &GpuPlan, inputs: &[InputData<'_>]) -> Result<f64> {
    plan.time(inputs, 1).await?;
    let start = Instant::now();
    let mut repeats = 1;
    let mut best = f64::INFINITY;
    loop {
        let seconds = plan.time(inputs, repeats).await?;
        if seconds > 0.0 {
            best = best.min(seconds / f64::from(repeats));
        }
        if seconds < PASS && repeats < MOST_REPEATS {
            let factor = (1.2 * PASS / seconds.max(1e-9)).clamp(2.0, 64.0);
            repeats = ((f64::from(repeats) * factor) as u32).min(MOST_REPEATS);
        } else if start.elapsed() >= BUDGET {
            return Ok(best);
        }
    }
}

/// Median microseconds of a submission with one tiny dispatch until it is seen to be done.
pub(super) async fn submit_micros(gpu: &Gpu) -> Result<f64> {
    let plan = single(gpu, Arc::new(CopyRows), &Desc::f32([4])).await?;
    let start = Instant::now();
    let mut found = Vec::new();
    while found.len() < 200 && (found.len() < 8 || start.elapsed() < BUDGET) {
        let pass = [Pass { steps: 0..1, repeats: 1 }];
        found.push(wall(gpu, plan.clocked(&[InputData::Bound], &pass, None)).await? * 1e6);
    }
    Ok(median(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_traffic_and_arithmetic_bounds_a_kernel() {
        let roofline = Roofline {
            adapter: "some adapter".into(),
            buffer_bytes: 64 << 20,
            copy_gbytes: 80.0,
            read_gbytes: 100.0,
            gflops: 1000.0,
            gops: 4000.0,
            dispatch_micros: 2.0,
            submit_micros: 50.0,
        };
        let near =
            |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-12, "{found} for {expected}");
        near(roofline.bound(Work { flops: 1e9, bytes: 1e9 }), 0.01);
        near(roofline.bound(Work { flops: 1e12, bytes: 1e9 }), 1.0);
        let text = serde_json::to_string(&roofline).unwrap();
        assert_eq!(serde_json::from_str::<Roofline>(&text).unwrap(), roofline);
        assert!(roofline.to_string().contains("1000.0 GFLOP/s"), "{roofline}");
    }
}
