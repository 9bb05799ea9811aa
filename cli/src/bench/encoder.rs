//! `lampyris bench` of a sentence encoder: how many texts and tokens a second become vectors.

use super::report::FirstResult;
use super::text::median;
use crate::args::{Bench, DeviceArguments, Precision};
use crate::failure::Failure;
use crate::{device, output};
use lampyris::engine::kernels::Noise;
use lampyris::engine::measure::{Roofline, roofline};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, TokenEncoder, cosine};
use lampyris::{AdapterChoice, Gpu, GpuOptions};
use serde::Serialize;
use std::time::Instant;

/// Texts that are handed over together.
const TEXTS: u16 = 8;
/// Times that all of them are embedded on a device.
const RUNS: usize = 10;
/// Tokens of the text whose vector is compared with the CPU executor's before anything is timed.
const COMPARED: usize = 4;
/// The largest weights, in bytes, with which that is done.
const MOST_COMPARED: u64 = 256 << 20;
/// The least cosine between the two.
const LEAST: f32 = 0.99999;

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    adapter: String,
    texts_per_s: f64,
    tokens_per_s: f64,
    /// Texts that are handed over together, and tokens of each.
    texts: usize,
    text_tokens: usize,
    /// From opening the device to the vectors of all texts.
    first_result_ms: FirstResult,
    /// Of all texts together.
    dispatches: f64,
    submits: f64,
    /// Weights, and the work of the plans that are kept; 0 on the CPU executor.
    gpu_bytes: u64,
    weight_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Rates>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roofline: Option<Roofline>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Rates {
    texts_per_s: f64,
    tokens_per_s: f64,
    #[serde(skip)]
    dispatches: f64,
    #[serde(skip)]
    submits: f64,
}

/// Measures the model that `job` names and prints what was found.
pub(super) fn run(job: &Bench, arguments: &DeviceArguments, options: GpuOptions) -> Result<(), Failure> {
    let Some(model) = &job.model else { return Ok(()) };
    let shown = model.display().to_string();
    super::no_language(job, &shown)?;
    super::no_pictures(job, &shown, &options)?;
    let files = EncoderFiles::open(model)?;
    // The caches are measured, so the user's are left alone.
    let cache = tempfile::tempdir().map_err(Failure::Temporary)?;
    let measured = options.clone().cache(cache.path());
    let once = || -> Result<(TokenEncoder, f64), Failure> {
        let start = Instant::now();
        let gpu = pollster::block_on(Gpu::with(measured.clone()))?;
        let encoder = encoder(job, &gpu, &files)?;
        gpu.block_on(encoder.embed(&texts(job, &encoder)))?;
        Ok((encoder, start.elapsed().as_secs_f64() * 1e3))
    };
    let cold = once()?.1;
    let (encoder, warm) = once()?;
    let gpu = encoder.gpu().clone();
    let is_cpu = gpu.is_cpu_executor();
    if !is_cpu {
        agree(job, &encoder, &files)?;
    }
    let runs = job.runs.map_or(if is_cpu { 1 } else { RUNS }, usize::from);
    let rates = rates(job, &encoder, runs)?;
    let texts = texts(job, &encoder);
    let report = Report {
        model: shown,
        adapter: gpu.summary().to_string(),
        texts_per_s: rates.texts_per_s,
        tokens_per_s: rates.tokens_per_s,
        texts: texts.len(),
        text_tokens: texts.first().map_or(0, Vec::len),
        first_result_ms: FirstResult { cold, warm },
        dispatches: rates.dispatches,
        submits: rates.submits,
        gpu_bytes: if is_cpu { 0 } else { gpu.held_bytes() },
        weight_bytes: encoder.weight_bytes(),
        cpu: if job.compare { Some(on_cpu(job, arguments, &files)?) } else { None },
        roofline: match job.roofline {
            true => Some(gpu.block_on(roofline(&gpu))?),
            false => None,
        },
    };
    device::say_kind(&gpu);
    output::print(&if job.json { output::json(&report)? } else { report.text() })
}

fn encoder(job: &Bench, gpu: &Gpu, files: &EncoderFiles) -> Result<TokenEncoder, Failure> {
    let options = EncoderOptions::default().half(job.precision == Precision::F16);
    Ok(TokenEncoder::new(gpu, files.clone(), options)?)
}

/// Texts of noise, each as long as is asked for or as the model takes.
fn texts(job: &Bench, encoder: &TokenEncoder) -> Vec<Vec<u32>> {
    let config = encoder.config();
    let tokens = job.prompt_tokens.min(config.context);
    let mut noise = Noise::new(1);
    let mut text = |_| (0..tokens).map(|_| (noise.bits() % config.vocabulary as u64) as u32).collect();
    (0..job.batch.unwrap_or(TEXTS)).map(&mut text).collect()
}

/// The median rates of some runs, after one that is not timed.
fn rates(job: &Bench, encoder: &TokenEncoder, runs: usize) -> Result<Rates, Failure> {
    let (gpu, texts) = (encoder.gpu(), texts(job, encoder));
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let mut seconds = Vec::with_capacity(runs);
    let mut each = (0.0, 0.0);
    let progress = output::progress(runs + 1, "running");
    for run in 0..=runs {
        let (before, start) = (gpu.counts(), Instant::now());
        gpu.block_on(encoder.embed(&texts))?;
        let after = gpu.counts();
        if run > 0 {
            seconds.push(start.elapsed().as_secs_f64());
            each = ((after.dispatches - before.dispatches) as f64, (after.submits - before.submits) as f64);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    let (dispatches, submits) = each;
    let rate = |amount: usize| median(seconds.iter().map(|seconds| amount as f64 / seconds).collect());
    Ok(Rates { texts_per_s: rate(texts.len()), tokens_per_s: rate(tokens), dispatches, submits })
}

/// The rates of the CPU executor, in one run.
fn on_cpu(job: &Bench, arguments: &DeviceArguments, files: &EncoderFiles) -> Result<Rates, Failure> {
    let gpu = pollster::block_on(Gpu::with(device::options(arguments, AdapterChoice::Cpu)))?;
    rates(job, &encoder(job, &gpu, files)?, 1)
}

/// Refuses an adapter whose vector of a short text is not the CPU executor's.
fn agree(job: &Bench, on_device: &TokenEncoder, files: &EncoderFiles) -> Result<(), Failure> {
    let bytes = on_device.weight_bytes();
    if bytes > MOST_COMPARED {
        let mebibytes = bytes >> 20;
        output::note(&format!(
            "vectors were not compared with the CPU executor's, which would take long with {mebibytes} MiB of weights; `lampyris doctor` checks the kernels"
        ));
        return Ok(());
    }
    let on_cpu = encoder(job, &Gpu::cpu_executor(), files)?;
    let text: Vec<u32> = texts(job, on_device).into_iter().next().unwrap_or_default();
    let text = text[..COMPARED.min(text.len())].to_vec();
    let vector = |encoder: &TokenEncoder| -> Result<Vec<f32>, Failure> {
        Ok(encoder.gpu().block_on(encoder.embed(std::slice::from_ref(&text)))?.concat())
    };
    let near = cosine(&vector(on_device)?, &vector(&on_cpu)?);
    if near >= LEAST {
        return Ok(());
    }
    Err(Failure::Apart { adapter: on_device.gpu().summary().to_string(), near })
}

impl Report {
    /// For people.
    fn text(&self) -> String {
        let mut text = format!(
            "{} on {}\n  embeds        {:10.1} texts/s, {} together with {} tokens each\n                {:10.1} tokens/s\n  \
             these are     {:10.0} dispatches in {:.0} submit(s)\n  on the device {:10} bytes, {} of them weights\n  \
             first vectors {:10.0} ms from opening the device with empty caches, {:.0} ms after\n",
            output::one_line(&self.model),
            self.adapter,
            self.texts_per_s,
            self.texts,
            self.text_tokens,
            self.tokens_per_s,
            self.dispatches,
            self.submits,
            self.gpu_bytes,
            self.weight_bytes,
            self.first_result_ms.cold,
            self.first_result_ms.warm,
        );
        if let Some(cpu) = &self.cpu {
            text += &format!("  CPU executor  {:10.1} texts/s, {:.1} tokens/s\n", cpu.texts_per_s, cpu.tokens_per_s);
        }
        if let Some(roofline) = &self.roofline {
            text += &format!("\n{roofline}\n");
        }
        text
    }
}
