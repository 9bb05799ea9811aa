//! Where the time of a run goes: microseconds of every step, as a table and as a trace.

use super::timer::{Pass, Timer};
use super::{GpuPlan, InputData};
use crate::Result;
use serde::Serialize;
use std::fmt;

/// How a profile was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProfileMethod {
    /// By the device's timestamps at both ends of each step's pass.
    Timestamps,
    /// By the host's clock: each step alone, repeated in a submission of its own, less what an empty submission takes.
    WallClock,
}

impl fmt::Display for ProfileMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProfileMethod::Timestamps => "the device's timestamps",
            ProfileMethod::WallClock => "the host's clock, each step alone (the device has no timestamps)",
        })
    }
}

/// One step's time and work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepProfile {
    /// Name of the step.
    pub step: String,
    /// Kernel.
    pub kernel: String,
    /// Variant that ran.
    pub variant: String,
    /// Workgroups.
    pub grid: [u32; 3],
    /// Median microseconds.
    pub micros: f64,
    /// Additions and multiplications.
    pub flops: f64,
    /// Bytes of inputs read and outputs written, each counted once.
    pub bytes: f64,
}

impl StepProfile {
    /// 10^9 additions and multiplications a second.
    pub fn gflops(&self) -> f64 {
        rate(self.flops, self.micros)
    }

    /// 10^9 bytes a second.
    pub fn gbytes(&self) -> f64 {
        rate(self.bytes, self.micros)
    }
}

fn rate(count: f64, micros: f64) -> f64 {
    if micros > 0.0 { count / micros / 1e3 } else { 0.0 }
}

/// The time of each step of a plan on a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// The adapter, as [`super::AdapterSummary`] displays it.
    pub adapter: String,
    /// How it was measured.
    pub method: ProfileMethod,
    /// How many runs the medians are of.
    pub runs: usize,
    /// The steps, in the plan's order.
    pub steps: Vec<StepProfile>,
}

impl Profile {
    /// Microseconds of all steps. A run has them in one pass, and can be faster where a pass of its own costs each step something.
    pub fn micros(&self) -> f64 {
        self.steps.iter().map(|step| step.micros).sum()
    }

    /// The steps one after the other as trace events in JSON, for `chrome://tracing` and <https://ui.perfetto.dev>.
    pub fn chrome_trace(&self) -> String {
        let mut events = vec![
            serde_json::json!({ "name": "process_name", "ph": "M", "pid": 1, "tid": 1, "args": { "name": self.adapter } }),
            serde_json::json!({
                "name": "thread_name", "ph": "M", "pid": 1, "tid": 1,
                "args": { "name": format!("steps, median of {} runs by {}", self.runs, self.method) },
            }),
        ];
        let mut start = 0.0;
        for step in &self.steps {
            events.push(serde_json::json!({
                "name": step.step, "cat": step.kernel, "ph": "X", "ts": start, "dur": step.micros, "pid": 1, "tid": 1,
                "args": {
                    "kernel": step.kernel, "variant": step.variant, "grid": step.grid,
                    "GFLOP/s": step.gflops(), "GB/s": step.gbytes(),
                },
            }));
            start += step.micros;
        }
        serde_json::json!({ "traceEvents": events, "displayTimeUnit": "ns" }).to_string()
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.micros();
        let (flops, bytes) = self.steps.iter().fold((0.0, 0.0), |(f, b), s| (f + s.flops, b + s.bytes));
        let kernel = |s: &StepProfile| format!("{}[{}]", s.kernel, s.variant);
        let grid = |s: &StepProfile| s.grid.map(|groups| groups.to_string()).join("x");
        let width = |of: &dyn Fn(&StepProfile) -> usize| self.steps.iter().map(of).max().unwrap_or(0).max(6);
        let (names, kernels, grids) =
            (width(&|s| s.step.len()), width(&|s| kernel(s).len()), width(&|s| grid(s).len()));
        writeln!(f, "{}: median of {} runs by {}", self.adapter, self.runs, self.method)?;
        let head = ["step", "kernel", "grid", "us", "GFLOP/s", "GB/s", "share"];
        let [step, name, groups, micros, gflops, gbytes, share] = head;
        writeln!(
            f,
            "{step:names$}  {name:kernels$}  {groups:>grids$}  {micros:>9}  {gflops:>8}  {gbytes:>7}  {share:>6}"
        )?;
        for s in &self.steps {
            writeln!(
                f,
                "{:names$}  {:kernels$}  {:>grids$}  {:9.1}  {:8.1}  {:7.1}  {:5.1}%",
                s.step,
                kernel(s),
                grid(s),
                s.micros,
                s.gflops(),
                s.gbytes(),
                if total > 0.0 { s.micros / total * 100.0 } else { 0.0 }
            )?;
        }
        let (gflops, gbytes, steps) = (rate(flops, total), rate(bytes, total), format!("{} steps", self.steps.len()));
        write!(
            f,
            "{:names$}  {steps:kernels$}  {:>grids$}  {total:9.1}  {gflops:8.1}  {gbytes:7.1}  100.0%",
            "total", ""
        )
    }
}

/// The middle of some values; the mean of the two middle ones of an even number.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.len(), values.len() % 2) {
        (0, _) => 0.0,
        (_, 1) => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

/// Shortest pass, in microseconds, that the host's clock measures well.
const CLOCKABLE: f64 = 2000.0;

/// Most repetitions of a step in a pass.
const MOST_REPEATS: f64 = 500.0;

impl GpuPlan {
    /// Measures every step over `runs` runs, after one that warms up: by timestamps, with a pass a step; by the host's
    /// clock where the device has none, as [`Profile::method`] then says.
    ///
    /// # Errors
    /// [`crate::Error::Input`] when the inputs are not the plan's; [`crate::Error::NoTimer`] where there is no clock at all;
    /// [`crate::Error::DeviceLost`] when the device is gone.
    pub async fn profile(&self, inputs: &[InputData<'_>], runs: usize) -> Result<Profile> {
        let runs = runs.max(1);
        let (method, micros) = self.by_any_clock(inputs, runs).await?;
        let plan = self.plan();
        let steps = plan.steps.iter().zip(&self.inner.dispatches).zip(micros).map(|((step, dispatch), micros)| {
            let work = plan.with_call(step, |call| step.kernel.work(call));
            StepProfile {
                step: step.name.clone(),
                kernel: step.kernel.name().to_owned(),
                variant: dispatch.source.label.to_owned(),
                grid: dispatch.grid,
                micros: median(micros),
                flops: work.flops,
                bytes: work.bytes,
            }
        });
        Ok(Profile { adapter: self.gpu().summary().to_string(), method, runs, steps: steps.collect() })
    }

    /// Seconds of each step: of runs that the device's clock tells of the fastest, for what comes between makes one longer and none shorter, but their
    /// mean in browsers, which round that clock; else the middle ones, for the host's clock tells of submissions too, whose time is taken off.
    pub(super) async fn seconds_alone(&self, inputs: &[InputData<'_>], runs: usize) -> Result<Vec<f64>> {
        let runs = runs.max(1);
        let (method, micros) = self.by_any_clock(inputs, runs).await?;
        let of = |micros: Vec<f64>| match method {
            ProfileMethod::WallClock => median(micros),
            ProfileMethod::Timestamps if cfg!(target_arch = "wasm32") => micros.iter().sum::<f64>() / runs as f64,
            ProfileMethod::Timestamps => micros.into_iter().fold(f64::INFINITY, f64::min),
        };
        Ok(micros.into_iter().map(|micros| of(micros) * 1e-6).collect())
    }

    /// Microseconds of each step in each run, and by which clock: the device's, or the host's where it has none.
    async fn by_any_clock(&self, inputs: &[InputData<'_>], runs: usize) -> Result<(ProfileMethod, Vec<Vec<f64>>)> {
        let micros = self.by_timestamps(inputs, runs).await?;
        // A device whose clock stands still has none.
        if micros.iter().flatten().all(|us| *us <= 0.0) {
            return Ok((ProfileMethod::WallClock, self.by_wall_clock(inputs, runs).await?));
        }
        Ok((ProfileMethod::Timestamps, micros))
    }

    /// Microseconds of each step in each run; empty without timestamps.
    async fn by_timestamps(&self, inputs: &[InputData<'_>], runs: usize) -> Result<Vec<Vec<f64>>> {
        let count = self.plan().steps.len();
        let mut micros = vec![Vec::with_capacity(runs); count];
        for run in 0..=runs {
            for first in (0..count).step_by(Timer::MOST_PASSES) {
                let steps = first..count.min(first + Timer::MOST_PASSES);
                let passes: Vec<Pass> = steps.clone().map(|at| Pass { steps: at..at + 1, repeats: 1 }).collect();
                let Some(timer) = Timer::new(self.gpu(), passes.len()).await? else { return Ok(Vec::new()) };
                let clocked = self.clocked(inputs, &passes, Some(&timer)).await?;
                if run > 0 {
                    steps.zip(clocked).for_each(|(at, us)| micros[at].push(us));
                }
            }
        }
        Ok(micros)
    }

    /// Microseconds of each step in each run by the host's clock. Steps run in order, so that each finds its inputs.
    async fn by_wall_clock(&self, inputs: &[InputData<'_>], runs: usize) -> Result<Vec<Vec<f64>>> {
        let once = async |pass: Pass| self.clocked(inputs, &[pass], None).await.map(|us| us.iter().sum::<f64>());
        let mut empty = Vec::new();
        for _ in 0..=runs.max(4) {
            empty.push(once(Pass { steps: 0..0, repeats: 0 }).await?);
        }
        let empty = median(empty);
        let mut micros = Vec::new();
        for at in 0..self.plan().steps.len() {
            let steps = at..at + 1;
            once(Pass { steps: steps.clone(), repeats: 1 }).await?;
            let single = (once(Pass { steps: steps.clone(), repeats: 1 }).await? - empty).max(1.0);
            let repeats = (CLOCKABLE.max(10.0 * empty) / single).clamp(1.0, MOST_REPEATS).ceil();
            let mut found = Vec::with_capacity(runs);
            for _ in 0..runs {
                let pass = Pass { steps: steps.clone(), repeats: repeats as u32 };
                found.push((once(pass).await? - empty).max(0.0) / repeats);
            }
            micros.push(found);
        }
        Ok(micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        let step = |name: &str, micros: f64, flops: f64| StepProfile {
            step: name.into(),
            kernel: "pointwise".into(),
            variant: "portable.f32".into(),
            grid: [3, 2, 1],
            micros,
            flops,
            bytes: 4000.0,
        };
        let steps = vec![step("first", 30.0, 9e6), step("second", 10.0, 1e6)];
        Profile { adapter: "some adapter".into(), method: ProfileMethod::Timestamps, runs: 5, steps }
    }

    #[test]
    fn the_table_has_rates_shares_and_totals() {
        let text = profile().to_string();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[2], ["first", "pointwise[portable.f32]", "3x2x1", "30.0", "300.0", "0.1", "75.0%"]);
        assert_eq!(rows[3], ["second", "pointwise[portable.f32]", "3x2x1", "10.0", "100.0", "0.4", "25.0%"]);
        assert_eq!(rows[4], ["total", "2", "steps", "40.0", "250.0", "0.2", "100.0%"]);
        let widths: Vec<usize> = text.lines().skip(1).map(str::len).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "columns are aligned:\n{text}");
    }

    #[test]
    fn the_trace_lays_the_steps_end_to_end() {
        let trace: serde_json::Value = serde_json::from_str(&profile().chrome_trace()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let steps: Vec<_> = events.iter().filter(|e| e["ph"] == "X").collect();
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0]["ts"].as_f64(), steps[0]["dur"].as_f64()), (Some(0.0), Some(30.0)));
        assert_eq!((steps[1]["ts"].as_f64(), steps[1]["dur"].as_f64()), (Some(30.0), Some(10.0)));
        assert_eq!(steps[1]["name"], "second");
        assert_eq!(events[0]["args"]["name"], "some adapter");
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
