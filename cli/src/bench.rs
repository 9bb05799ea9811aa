//! `lampyris bench`: how fast a model is on an adapter, where its time goes, and how far that is from the adapter's limits.

mod encoder;
mod report;
mod text;

use crate::args::{Bench, DeviceArguments, Kv, loading};
use crate::failure::Failure;
use crate::texts::{self, Kind};
use crate::{device, output};
use lampyris::engine::gpu::InputData;
use lampyris::engine::kernels::Noise;
use lampyris::engine::measure::{Profile, roofline};
use lampyris::models::mobilenet::Pixels;
use lampyris::{Classifier, Gpu, GpuOptions, Input};
use report::{FirstResult, Latency, Report, Speed};
use std::path::Path;
use std::time::Instant;

/// The picture that is classified, of noise: as large as a camera's frame.
const PICTURE: (u32, u32) = (640, 480);
/// Runs that are timed on a device.
const RUNS: usize = 50;
/// Runs that are timed on the CPU executor, which takes a hundred times as long.
const RUNS_ON_CPU: usize = 3;

/// Measures what was asked for and prints it.
pub(crate) fn run(job: &Bench, arguments: &DeviceArguments) -> Result<(), Failure> {
    let options = device::options(arguments, device::choice(arguments));
    if let (None, Some(option)) = (&job.model, of_language(job)) {
        return Err(Failure::NoModel { option });
    }
    match job.model.as_deref().map(texts::kind) {
        Some(Kind::Language) => return text::run(job, arguments, options),
        Some(Kind::Encoder) => return encoder::run(job, arguments, options),
        Some(Kind::Pictures) | None => {}
    }
    if job.profile || job.trace.is_some() || job.roofline {
        on_device("--profile, --trace and --roofline", &options)?;
    }
    if let Some(model) = &job.model {
        let model = model.display().to_string();
        if job.compare {
            return Err(Failure::OtherKind { option: "--compare", kind: "language models and encoders", model });
        }
        no_language(job, &model)?;
    }
    let (mut report, mut opened) = (Report::default(), None);
    if let Some(model) = &job.model {
        // The caches are measured, so the user's are left alone.
        let cache = tempfile::tempdir().map_err(Failure::Temporary)?;
        let (classifier, first) = first_results(job, model, options.clone().cache(cache.path()))?;
        report.speed = Some(speed(job, model, &classifier, first)?);
        if job.profile || job.trace.is_some() || job.roofline {
            report.profile = Some(profile(job, &classifier)?);
        }
        opened = Some(classifier.gpu().clone());
    }
    if job.roofline {
        let gpu = pollster::block_on(Gpu::with(options))?;
        report.roofline = Some(gpu.block_on(roofline(&gpu))?);
        opened.get_or_insert(gpu);
    }
    if let (Some(path), Some(profile)) = (&job.trace, &report.profile) {
        let unwritable = |source| Failure::Unwritable { path: path.display().to_string(), source };
        std::fs::write(path, profile.chrome_trace()).map_err(unwritable)?;
    }
    opened.iter().for_each(device::say_kind);
    output::print(&if job.json { output::json(&report)? } else { report.text() })
}

/// Pictures in one run.
fn images(job: &Bench) -> usize {
    usize::from(job.batch.unwrap_or(1))
}

/// Refuses the CPU executor, for `what` is nothing on it.
fn on_device(what: &'static str, options: &GpuOptions) -> Result<(), Failure> {
    match pollster::block_on(Gpu::with(options.clone()))?.is_cpu_executor() {
        true => Err(Failure::NeedsDevice { what }),
        false => Ok(()),
    }
}

/// An option that only language models have, where one is given.
fn of_language(job: &Bench) -> Option<&'static str> {
    job.products.given().or(job.chunk.map(|_| "--chunk")).or((job.kv != Kv::F32).then_some("--kv"))
}

/// The options that only language models have, refused for `model`.
fn no_language(job: &Bench, model: &str) -> Result<(), Failure> {
    let kind = "language models";
    of_language(job).map_or(Ok(()), |option| Err(Failure::OtherKind { option, kind, model: model.to_owned() }))
}

/// The options that only networks for pictures have, refused for `model`, which is none, and what is nothing on the CPU executor.
fn no_pictures(job: &Bench, model: &str, options: &GpuOptions) -> Result<(), Failure> {
    let given = [("--profile", job.profile), ("--trace", job.trace.is_some()), ("--side", job.side.is_some())];
    match given.into_iter().find(|(_, given)| *given) {
        Some((option, _)) => {
            let kind = "networks for pictures";
            Err(Failure::OtherKind { option, kind, model: model.to_owned() })
        }
        None if job.compare || job.roofline => on_device("--compare and --roofline", options),
        None => Ok(()),
    }
}

/// Opens, loads and classifies twice: with an empty cache folder, and with what that left in it.
fn first_results(job: &Bench, model: &Path, options: GpuOptions) -> Result<(Classifier, FirstResult), Failure> {
    let once = || -> Result<(Classifier, f64), Failure> {
        let start = Instant::now();
        let gpu = pollster::block_on(Gpu::with(options.clone()))?;
        let loading = loading(job.precision, job.side);
        let classifier = gpu.block_on(Classifier::load_with(&gpu, model, loading, |_| ()))?;
        gpu.block_on(classifier.classify(picture(&noise())))?;
        Ok((classifier, start.elapsed().as_secs_f64() * 1e3))
    };
    let cold = once()?.1;
    let (classifier, warm) = once()?;
    Ok((classifier, FirstResult { cold, warm }))
}

fn noise() -> Vec<u8> {
    let mut noise = Noise::new(1);
    (0..PICTURE.0 * PICTURE.1).flat_map(|_| (noise.bits() as u32).to_le_bytes()).collect()
}

fn picture(pixels: &[u8]) -> Input<'_> {
    Input::rgba8(pixels, PICTURE.0, PICTURE.1)
}

fn speed(job: &Bench, model: &Path, classifier: &Classifier, first: FirstResult) -> Result<Speed, Failure> {
    let gpu = classifier.gpu();
    let images = images(job);
    let default = if gpu.is_cpu_executor() { RUNS_ON_CPU } else { RUNS };
    let runs = job.runs.map_or(default, usize::from);
    let pixels = noise();
    let inputs: Vec<Input<'_>> = (0..images).map(|_| picture(&pixels)).collect();
    gpu.block_on(classifier.classify_batch(&inputs))?;
    let before = gpu.counts();
    let mut times = Vec::with_capacity(runs);
    let progress = output::progress(runs, "running");
    for _ in 0..runs {
        let start = Instant::now();
        gpu.block_on(classifier.classify_batch(&inputs))?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let after = gpu.counts();
    let seconds = times.iter().sum::<f64>() / 1e3;
    let bytes = gpu.block_on(classifier.executor(images, Pixels::Rgba8))?.plan().bytes().total();
    Ok(Speed {
        model: model.display().to_string(),
        adapter: gpu.summary().to_string(),
        latency_ms: Latency::of(times),
        images_per_s: (images * runs) as f64 / seconds,
        dispatches: (after.dispatches - before.dispatches) / runs as u64,
        submits: (after.submits - before.submits) / runs as u64,
        gpu_bytes: if gpu.is_cpu_executor() { 0 } else { bytes },
        first_result_ms: first,
        images,
        runs,
    })
}

fn profile(job: &Bench, classifier: &Classifier) -> Result<Profile, Failure> {
    let gpu = classifier.gpu();
    let executor = gpu.block_on(classifier.executor(images(job), Pixels::Rgba8))?;
    let plan = executor.gpu_plan()?;
    let words: usize = plan.plan().inputs.iter().map(|id| plan.plan().tensor(*id).desc.words()).sum();
    let mut noise = Noise::new(2);
    let words: Vec<u32> = (0..words).map(|_| noise.bits() as u32).collect();
    let runs = job.runs.map_or(RUNS, usize::from);
    Ok(gpu.block_on(plan.profile(&[InputData::Words(&words)], runs))?)
}
