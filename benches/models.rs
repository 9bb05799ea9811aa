//! Whole networks: each checked step by step against the twins, then timed on the device and from pixels to answer; and what a
//! run costs the host.
//!
//! The trained models of the material folder if it is there (`tests/MATERIAL.md`), else the networks of noise of
//! `tests/fixtures`, which are small and measure mostly dispatches. `LAMPYRIS_ADAPTER` chooses the adapter.

mod support;

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use lampyris::engine::gpu::ConstantStore;
use lampyris::engine::gpu::{GpuPlan, InputData};
use lampyris::engine::kernels::{Desc, HostTensor, Noise};
use lampyris::engine::run::compare;
use lampyris::models::mobilenet::{Pixels, Precision};
use lampyris::{Classifier, ClassifierOptions, Gpu};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::{Counting, Result, adapter, end};

#[global_allocator]
static HEAP: Counting = Counting;

fn main() {
    if let Err(error) = bench() {
        end(&error);
    }
}

/// The folders of the models, and whether they are trained.
fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let material = std::env::var_os("LAMPYRIS_MATERIAL").map_or(root.join("../shared/material"), PathBuf::from);
    let trained = ["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large_minimalistic"];
    let noise = ["mobilenet_v2_w025", "mobilenet_v3_small_w025", "mobilenet_v3_large_w025"];
    let trained: Vec<PathBuf> = trained.iter().map(|name| material.join(name)).filter(|path| path.is_dir()).collect();
    match trained.is_empty() {
        true => noise.iter().map(|name| root.join("tests/fixtures/mobilenet").join(name)).collect(),
        false => trained,
    }
}

fn bench() -> Result<()> {
    let gpu = adapter()?;
    println!("{}\n", gpu.summary());
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let folders = folders();
    for folder in &folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        for precision in [Precision::F32, Precision::F16] {
            let loaded = OnceCell::new();
            let load = || loaded.get_or_init(|| Loaded::new(&gpu, folder, precision).unwrap_or_else(|e| end(&e)));
            time(&mut group, precision, load);
        }
        group.finish();
    }
    criterion.final_summary();
    if let Some(folder) = folders.first() {
        let loaded = Loaded::new(&gpu, folder, Precision::F32)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        println!("{name}: {}", host_costs(&gpu, &loaded.plan)?);
    }
    Ok(())
}

/// The network's own time by the device's clock, and the time from words given to answer read.
fn time<'a>(group: &mut BenchmarkGroup<'_, WallTime>, precision: Precision, load: impl Fn() -> &'a Loaded + Copy) {
    let label = format!("{precision:?}").to_lowercase();
    group.bench_function(BenchmarkId::new("device", &label), |bencher| {
        let Loaded { plan, .. } = load();
        bencher.iter_custom(|iterations| {
            let seconds = (0..iterations).map(|_| plan.gpu().block_on(plan.time(&[InputData::Bound], 1)));
            Duration::from_secs_f64(seconds.map(|found| found.unwrap_or_else(|e| end(&e))).sum())
        });
    });
    group.bench_function(BenchmarkId::new("answer", &label), |bencher| {
        let Loaded { plan, input } = load();
        let inputs = [InputData::Words(&input.words)];
        bencher.iter(|| plan.gpu().block_on(plan.run(&inputs)).unwrap_or_else(|e| end(&e)));
    });
}

/// A network for one image, which has just agreed with its twins.
struct Loaded {
    plan: GpuPlan,
    input: HostTensor,
}

impl Loaded {
    fn new(gpu: &Gpu, folder: &Path, precision: Precision) -> Result<Loaded> {
        let options = ClassifierOptions::default().precision(precision);
        let classifier = gpu.block_on(Classifier::load_with(gpu, folder, options, |_| ()))?;
        let executor = gpu.block_on(classifier.executor(1, Pixels::Normalized))?;
        let side = classifier.preprocess().crop as usize;
        let (desc, mut noise) = (Desc::f32([1, side, side, 3]), Noise::new(1));
        let values: Vec<f32> = (0..desc.len()).map(|_| noise.real(-1.0, 1.0)).collect();
        let input = HostTensor::from_values(desc, &values);
        let report =
            gpu.block_on(compare(gpu, executor.plan(), &ConstantStore::new(), std::slice::from_ref(&input)))?;
        if !report.agrees() {
            return Err(report.to_string().into());
        }
        let plan = executor.gpu_plan()?.clone();
        gpu.block_on(plan.run(&[InputData::Words(&input.words)]))?;
        Ok(Loaded { plan, input })
    }
}

/// What a run costs the host, beside the same commands given to wgpu by hand.
struct HostCosts {
    steps: usize,
    /// Microseconds to record a dispatch.
    encode: f64,
    encode_by_hand: f64,
    /// Allocations of a run, from submission to result.
    allocations: f64,
    allocations_by_hand: f64,
}

impl std::fmt::Display for HostCosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let HostCosts { steps, encode, encode_by_hand, allocations, allocations_by_hand } = self;
        write!(
            f,
            "{steps} dispatches; {encode:.2} us to encode one ({encode_by_hand:.2} by hand); {allocations:.0} heap allocations a \
             run, of which wgpu makes {allocations_by_hand:.0} for the same commands and the engine {:.0}",
            allocations - allocations_by_hand
        )
    }
}

/// Runs counted or timed.
const RUNS: usize = 40;

/// Further repetitions of the network in one pass, whose cost is that of encoding alone.
const FURTHER: usize = 8;

fn host_costs(gpu: &Gpu, plan: &GpuPlan) -> Result<HostCosts> {
    let steps = plan.plan().steps.len();
    let by_hand = by_hand::Commands::new(gpu, plan)?;
    let bound = [InputData::Bound];
    let engine = |times: usize| -> Result<Duration> {
        let before: Vec<(&GpuPlan, &[InputData<'_>])> = vec![(plan, &bound); times - 1];
        let start = Instant::now();
        let pending = plan.submit(&bound, &before)?;
        let spent = start.elapsed();
        gpu.block_on(pending.wait())?;
        Ok(spent)
    };
    let wgpu = |times: usize| by_hand.run(times);
    Ok(HostCosts {
        steps,
        encode: encoding(&engine, steps)?,
        encode_by_hand: encoding(&wgpu, steps)?,
        allocations: allocations(&engine)?,
        allocations_by_hand: allocations(&wgpu)?,
    })
}

/// Microseconds of one dispatch: what further ones add to a submission, least of all runs.
fn encoding(run: &dyn Fn(usize) -> Result<Duration>, steps: usize) -> Result<f64> {
    let fewest = |times: usize| -> Result<f64> {
        let spent = (0..RUNS).map(|_| run(times)).collect::<Result<Vec<_>>>()?;
        Ok(spent.into_iter().min().unwrap_or_default().as_secs_f64())
    };
    Ok((fewest(1 + FURTHER)? - fewest(1)?) * 1e6 / (FURTHER * steps) as f64)
}

/// Allocations of a run, once everything that is kept has been made.
fn allocations(run: &dyn Fn(usize) -> Result<Duration>) -> Result<f64> {
    for _ in 0..RUNS {
        run(1)?;
    }
    let before = Counting::taken();
    for _ in 0..RUNS {
        run(1)?;
    }
    Ok((Counting::taken() - before) as f64 / RUNS as f64)
}

/// The commands of a network's run given to wgpu without the engine: as many dispatches on as many buffers, and the same
/// results read.
mod by_hand {
    use super::{Duration, Gpu, GpuPlan, Instant, Result};
    use lampyris::engine::kernels::linked;
    use lampyris::wgpu;
    use wgpu::BufferUsages as Use;

    pub(super) struct Commands {
        gpu: Gpu,
        pipeline: wgpu::ComputePipeline,
        bind_groups: Vec<wgpu::BindGroup>,
        results: Vec<wgpu::Buffer>,
        staging: wgpu::Buffer,
    }

    impl Commands {
        pub(super) fn new(gpu: &Gpu, plan: &GpuPlan) -> Result<Commands> {
            let (device, queue) = gpu.device().zip(gpu.queue()).ok_or("no device")?;
            let plan = plan.plan();
            let buffer = |size: u64, usage: Use| {
                device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
            };
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: None,
                source: wgpu::ShaderSource::Wgsl(linked::COPY[0].wgsl.text()),
            });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            });
            let params = buffer(8, Use::UNIFORM | Use::COPY_DST);
            queue.write_buffer(&params, 0, &[1, 0, 0, 0, 64, 0, 0, 0]);
            let slots: Vec<wgpu::Buffer> = (0..plan.slots.len().max(2)).map(|_| buffer(16, Use::STORAGE)).collect();
            let layout = pipeline.get_bind_group_layout(0);
            let bind = |step: usize| {
                let entries = [&params, &slots[step % slots.len()], &slots[(step + 1) % slots.len()]];
                let entries: Vec<wgpu::BindGroupEntry<'_>> = (0u32..)
                    .zip(entries)
                    .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                    .collect();
                device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries })
            };
            let sizes: Vec<u64> = plan.outputs.iter().map(|(_, id)| plan.tensor(*id).desc.bytes()).collect();
            Ok(Commands {
                gpu: gpu.clone(),
                bind_groups: (0..plan.steps.len()).map(bind).collect(),
                results: sizes.iter().map(|size| buffer(*size, Use::COPY_SRC)).collect(),
                staging: buffer(sizes.iter().sum(), Use::MAP_READ | Use::COPY_DST),
                pipeline,
            })
        }

        /// Submits the dispatches `times` over, and reads the results; how long the submission took.
        pub(super) fn run(&self, times: usize) -> Result<Duration> {
            let (device, queue) = self.gpu.device().zip(self.gpu.queue()).ok_or("no device")?;
            let start = Instant::now();
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                for _ in 0..times {
                    for bind_group in &self.bind_groups {
                        pass.set_pipeline(&self.pipeline);
                        pass.set_bind_group(0, bind_group, &[]);
                        pass.dispatch_workgroups(1, 1, 1);
                    }
                }
            }
            let mut at = 0;
            for result in &self.results {
                encoder.copy_buffer_to_buffer(result, 0, &self.staging, at, result.size());
                at += result.size();
            }
            queue.submit([encoder.finish()]);
            self.staging.map_async(wgpu::MapMode::Read, .., |_| ());
            let spent = start.elapsed();
            device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(Duration::from_secs(10)) })?;
            drop(self.staging.get_mapped_range(..)?);
            self.staging.unmap();
            Ok(spent)
        }
    }
}
