//! Every kernel at the shapes of the models: each variant checked against its twin, then timed on the device, then held
//! against what the adapter could do at best.
//!
//! `cargo bench --bench kernels -- pointwise` measures one kernel, `-- qwen3` or `-- llama-3.2-1b.gate_up` the matrices of a language model; `LAMPYRIS_ADAPTER` chooses the adapter. A variant that does
//! not agree with its twin ends the bench, because a wrong kernel has no speed.

#[path = "support/language.rs"]
mod language;
mod support;

use criterion::{BenchmarkId, Criterion, Throughput};
use lampyris::Gpu;
use lampyris::engine::certify::Prepared;
use lampyris::engine::gpu::{GpuPlan, InputData, TextureView};
use lampyris::engine::kernels::{self, Call, Case, Format, Source, Tier, Work};
use lampyris::engine::measure::{Roofline, roofline};
use std::cell::{Cell, OnceCell};
use std::time::Duration;
use support::{Result, adapter, end};

/// Longest submission, in seconds: short enough for every driver's watchdog.
const SUBMISSION: f64 = 0.2;

fn main() {
    if let Err(error) = bench() {
        end(&error);
    }
}

fn bench() -> Result<()> {
    let gpu = adapter()?;
    let roofline = gpu.block_on(roofline(&gpu))?;
    println!("{roofline}\n");
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for entry in kernels::all() {
        let mut cases = (entry.cases)();
        if entry.name == "dense" {
            cases.extend(language::cases());
        }
        let mut cases = cases.iter().filter(|case| case.tier == Tier::Model).peekable();
        if cases.peek().is_none() {
            continue;
        }
        let mut group = criterion.benchmark_group(entry.name);
        for case in cases {
            let (inputs, outputs) = (case.descs(), case.outputs()?);
            let call = Call { inputs: &inputs, outputs: &outputs };
            let work = case.kernel.work(&call);
            group.throughput(match work.flops as u64 {
                0 => Throughput::Bytes(work.bytes as u64),
                flops => Throughput::Elements(flops),
            });
            for source in case.kernel.candidates(&call, gpu.caps()) {
                let timed = Timed { gpu: &gpu, case, source, loaded: OnceCell::new(), best: Cell::new(f64::INFINITY) };
                let id = BenchmarkId::new(&case.label, source.label);
                group.bench_function(id, |bencher| bencher.iter_custom(|iterations| timed.or_exit(iterations)));
                timed.report(&roofline, work);
            }
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

/// One variant on one case, loaded and checked when it is first timed, so that a filter spares the others.
struct Timed<'a> {
    gpu: &'a Gpu,
    case: &'a Case,
    source: &'static Source,
    loaded: OnceCell<Loaded>,
    /// Fewest seconds of a dispatch.
    best: Cell<f64>,
}

struct Loaded {
    plan: GpuPlan,
    /// One an input; absent for buffers, which hold their words from the check on.
    textures: Vec<Option<TextureView>>,
    /// Dispatches of a submission.
    most: u32,
}

impl Timed<'_> {
    fn or_exit(&self, iterations: u64) -> Duration {
        self.time(iterations).unwrap_or_else(|error| {
            end(&format!("{}[{}] {}: {error}", self.source.kernel, self.source.label, self.case.label))
        })
    }

    /// Time of `iterations` dispatches, repeated in as few passes as may be, so that submissions do not count.
    fn time(&self, iterations: u64) -> Result<Duration> {
        let loaded = match self.loaded.get() {
            Some(loaded) => loaded,
            None => {
                let loaded = self.load()?;
                self.loaded.get_or_init(|| loaded)
            }
        };
        let inputs: Vec<InputData<'_>> =
            loaded.textures.iter().map(|view| view.as_ref().map_or(InputData::Bound, InputData::Texture)).collect();
        let (mut left, mut seconds) = (iterations, 0.0);
        while left > 0 {
            let repeats = left.min(u64::from(loaded.most)) as u32;
            let passed = self.gpu.block_on(loaded.plan.time(&inputs, repeats))?;
            if repeats == loaded.most || left == iterations {
                self.best.set(self.best.get().min(passed / f64::from(repeats)));
            }
            seconds += passed;
            left -= u64::from(repeats);
        }
        Ok(Duration::from_secs_f64(seconds))
    }

    fn load(&self) -> Result<Loaded> {
        let prepared = Prepared::new(self.case)?;
        let verdict = self.gpu.block_on(prepared.check(self.gpu, self.source))?;
        if let Some(failure) = &verdict.failure {
            return Err(failure.clone().into());
        }
        if !verdict.passed() {
            let (error, tolerance) = (verdict.worst_error, verdict.tolerance);
            return Err(format!("does not agree with its twin: error {error:.1e}, allowed {tolerance:.1e}").into());
        }
        let plan = self.gpu.block_on(prepared.load(self.gpu, self.source))?;
        let given = prepared.inputs();
        self.gpu.block_on(plan.run_tensors(&given))?;
        let mut textures = Vec::new();
        for tensor in &given {
            let texture = tensor.desc.format.is_texture();
            textures.push(if texture { Some(self.gpu.block_on(self.gpu.texture(tensor))?) } else { None });
        }
        let mut loaded = Loaded { plan, textures, most: 1 };
        let inputs: Vec<InputData<'_>> =
            loaded.textures.iter().map(|view| view.as_ref().map_or(InputData::Bound, InputData::Texture)).collect();
        let one = self.gpu.block_on(loaded.plan.time(&inputs, 1))?;
        loaded.most = (SUBMISSION / one.max(1e-6)).clamp(1.0, 10_000.0) as u32;
        Ok(loaded)
    }

    /// Prints the best time as a share of what the adapter could do, if there was one.
    fn report(&self, roofline: &Roofline, work: Work) {
        let best = self.best.get();
        // What multiplies bytes is held against the rate of packed products.
        let of_bytes = self.case.inputs.first().is_some_and(|(desc, _)| desc.format == Format::BlockI8);
        let gflops = if of_bytes { roofline.gops } else { roofline.gflops };
        let roofline = Roofline { gflops, ..roofline.clone() };
        if best.is_finite() && best > 0.0 {
            println!(
                "{:24}best {:.1} us, {:.1} GFLOP/s, {:.1} GB/s, {:.0} % of the roofline",
                "",
                best * 1e6,
                work.flops / best / 1e9,
                work.bytes / best / 1e9,
                roofline.bound(work) / best * 100.0
            );
        }
    }
}
