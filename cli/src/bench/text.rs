//! `lampyris bench` of a language model: how fast it reads and writes, and how near that is to what the adapter can read.

use super::report::FirstResult;
use crate::args::{Bench, DeviceArguments, Precision};
use crate::failure::Failure;
use crate::{device, output};
use lampyris::engine::kernels::Noise;
use lampyris::engine::measure::{Roofline, roofline};
use lampyris::models::Decoder;
use lampyris::models::decoder::{DecoderFiles, Products, Session, SessionOptions};
use lampyris::{AdapterChoice, Gpu, GpuOptions};
use serde::Serialize;
use std::time::Instant;

/// Runs that are timed on a device.
const RUNS: usize = 5;
/// The largest weights, in bytes, whose logits are compared with the CPU executor's before anything is timed.
const MOST_COMPARED: u64 = 32 << 20;
/// Tokens of that comparison.
const COMPARED: usize = 4;

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    adapter: String,
    /// Most tokens of the prompt that one run took.
    prompt_chunk: usize,
    /// How products were asked for: exact, packed in whole numbers, or in half the bits.
    products_asked: &'static str,
    /// How the matrices of prompts were multiplied, by the variants that ran; with their number where it was not all of them.
    products: String,
    /// The same of the tokens after a prompt.
    decode_products: String,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    /// From opening the device to the first token after the prompt.
    first_token_ms: FirstResult,
    dispatches_per_token: f64,
    submits_per_token: f64,
    /// The longest time that a submit of the prompt held the device; absent where nothing was measured.
    longest_prompt_submit_ms: Option<f64>,
    /// Weights, cache and work of one session; 0 on the CPU executor.
    gpu_bytes: u64,
    weight_bytes: u64,
    /// Weights read a second while tokens are generated, over what the adapter reads at best.
    read_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Rates>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roofline: Option<Roofline>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Rates {
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    #[serde(skip)]
    dispatches: f64,
    #[serde(skip)]
    submits: f64,
    #[serde(skip)]
    longest_submit: Option<f64>,
}

/// Measures the model that `job` names and prints what was found.
pub(super) fn run(job: &Bench, arguments: &DeviceArguments, options: GpuOptions) -> Result<(), Failure> {
    let Some(model) = &job.model else { return Ok(()) };
    let shown = model.display().to_string();
    let given = [("--batch", job.batch.is_some()), ("--precision", job.precision != Precision::F32)];
    if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
        return Err(Failure::OtherKind { option, kind: "networks for pictures and encoders", model: shown });
    }
    super::no_pictures(job, &shown, &options)?;
    let files = DecoderFiles::open(model)?;
    // The caches are measured, so the user's are left alone.
    let cache = tempfile::tempdir().map_err(Failure::Temporary)?;
    let measured = options.clone().cache(cache.path());
    let once = || -> Result<(Session, f64), Failure> {
        let start = Instant::now();
        let gpu = pollster::block_on(Gpu::with(measured.clone()))?;
        let mut session = session(job, &gpu, &files)?;
        let prompt = prompt(&session, job.prompt_tokens);
        gpu.block_on(session.feed(&prompt))?;
        let mut answer = session.generate(1)?;
        gpu.block_on(answer.next())?;
        Ok((session, start.elapsed().as_secs_f64() * 1e3))
    };
    let cold = once()?.1;
    let (mut session, warm) = once()?;
    let gpu = session.model().gpu().clone();
    let is_cpu = gpu.is_cpu_executor();
    if !is_cpu {
        agree(&gpu, &files, job.products.products())?;
    }
    let runs = job.runs.map_or(if is_cpu { 1 } else { RUNS }, usize::from);
    let rates = rates(job, &mut session, runs)?;
    let needs = session.model().needs(self::options(job))?;
    let [products, decode_products] = session.multiplied().map(|multiplied| multiplied.label());
    let best = match is_cpu {
        true => None,
        false => {
            let gpu = pollster::block_on(Gpu::with(options.clone()))?;
            Some(gpu.block_on(roofline(&gpu))?)
        }
    };
    let read = |best: &Roofline| needs.read_per_token as f64 * rates.decode_tokens_per_s / (best.read_gbytes * 1e9);
    let report = Report {
        model: shown,
        adapter: gpu.summary().to_string(),
        prompt_chunk: session.chunk(),
        products_asked: session.products().label(),
        products,
        decode_products,
        prefill_tokens_per_s: rates.prefill_tokens_per_s,
        decode_tokens_per_s: rates.decode_tokens_per_s,
        first_token_ms: FirstResult { cold, warm },
        dispatches_per_token: rates.dispatches,
        submits_per_token: rates.submits,
        longest_prompt_submit_ms: rates.longest_submit,
        gpu_bytes: if is_cpu { 0 } else { gpu.held_bytes() },
        weight_bytes: needs.weights,
        read_share: best.as_ref().map(read),
        cpu: if job.compare { Some(on_cpu(job, arguments, &files)?) } else { None },
        roofline: best.filter(|_| job.roofline),
    };
    device::say_kind(&gpu);
    session.multiplied_otherwise().into_iter().for_each(output::note);
    output::print(&if job.json { output::json(&report)? } else { report.text(job) })
}

fn options(job: &Bench) -> SessionOptions {
    // Room for the prompt's last token, which is fed beside those that are timed, is there already.
    let options = SessionOptions::default().context(job.prompt_tokens + job.new_tokens).cache(job.kv.into());
    let options = options.products(job.products.products());
    job.chunk.map_or(options, |tokens| options.chunk(tokens.into()))
}

fn session(job: &Bench, gpu: &Gpu, files: &DecoderFiles) -> Result<Session, Failure> {
    Ok(gpu.block_on(Decoder::new(gpu, files.clone())?.session(options(job)))?)
}

/// Tokens of noise.
fn prompt(session: &Session, tokens: usize) -> Vec<u32> {
    let vocabulary = session.model().config().vocabulary as u64;
    let mut noise = Noise::new(1);
    (0..tokens).map(|_| (noise.bits() % vocabulary) as u32).collect()
}

/// The median rates of some runs, after one that is not timed.
fn rates(job: &Bench, session: &mut Session, runs: usize) -> Result<Rates, Failure> {
    let gpu = session.model().gpu().clone();
    let prompt = prompt(session, job.prompt_tokens);
    let (mut fed, mut written) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
    let (mut each, mut longest_submit) = ((0.0, 0.0), None);
    let progress = output::progress(runs + 1, "running");
    for run in 0..=runs {
        session.rewind(0);
        let start = Instant::now();
        gpu.block_on(session.feed(&prompt))?;
        // A chunk gives nothing back, so that nobody has waited for it.
        gpu.block_on(gpu.idle())?;
        let feeding = start.elapsed().as_secs_f64();
        let longest = gpu.block_on(session.longest_submit())?.map(|longest| longest.as_secs_f64() * 1e3);
        let (before, start) = (gpu.counts(), Instant::now());
        let mut answer = session.generate(job.new_tokens)?;
        let mut tokens = 0_usize;
        while gpu.block_on(answer.next())?.is_some() {
            tokens += 1;
        }
        let (writing, after) = (start.elapsed().as_secs_f64(), gpu.counts());
        progress.inc(1);
        if run > 0 {
            // The prompt's last token is computed with the first new one.
            longest_submit = longest.into_iter().chain(longest_submit).reduce(f64::max);
            fed.push((prompt.len() - 1) as f64 / feeding);
            written.push(tokens as f64 / writing);
            let of = |count: u64| count as f64 / tokens as f64;
            each = (of(after.dispatches - before.dispatches), of(after.submits - before.submits));
        }
    }
    progress.finish_and_clear();
    let (dispatches, submits) = each;
    let (prefill_tokens_per_s, decode_tokens_per_s) = (median(fed), median(written));
    Ok(Rates { prefill_tokens_per_s, decode_tokens_per_s, dispatches, submits, longest_submit })
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.get((values.len().saturating_sub(1)) / 2).copied().unwrap_or_default();
    // To a tenth of a percent or finer: more digits than a clock has.
    (middle * 1e3).round() / 1e3
}

/// The rates of the CPU executor, in one run.
fn on_cpu(job: &Bench, arguments: &DeviceArguments, files: &DecoderFiles) -> Result<Rates, Failure> {
    let gpu = pollster::block_on(Gpu::with(device::options(arguments, AdapterChoice::Cpu)))?;
    rates(job, &mut session(job, &gpu, files)?, 1)
}

/// Refuses an adapter whose logits, with `products`, are not those that the CPU executor computes exactly, where finding out is cheap.
fn agree(gpu: &Gpu, files: &DecoderFiles, products: Products) -> Result<(), Failure> {
    let decoder = Decoder::new(gpu, files.clone())?;
    let room = COMPARED.min(decoder.config().context);
    let bytes = decoder.needs(room)?.weights;
    if bytes > MOST_COMPARED {
        let mebibytes = bytes >> 20;
        output::note(&format!(
            "logits were not compared with the CPU executor's, which would take long with {mebibytes} MiB of weights; `lampyris doctor` checks the kernels"
        ));
        return Ok(());
    }
    let logits = |gpu: &Gpu, products: Products| -> Result<Vec<f32>, Failure> {
        let options = SessionOptions::default().context(room).products(products);
        let mut session = gpu.block_on(Decoder::new(gpu, files.clone())?.session(options))?;
        let prompt = prompt(&session, room);
        gpu.block_on(session.feed(&prompt))?;
        Ok(gpu.block_on(session.logits())?)
    };
    let Some(allowed) = decoder.config().tolerance(products) else {
        output::note(&format!(
            "logits were not compared with the CPU executor's: with {} products the choice among a mixture's experts may turn",
            products.label()
        ));
        return Ok(());
    };
    let (found, expected) = (logits(gpu, products)?, logits(&Gpu::cpu_executor(), Products::Exact)?);
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    let each = found.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs()));
    // What is no number is infinitely wrong.
    let worst = each.fold(0.0, |most: f64, apart| if apart.is_nan() { f64::INFINITY } else { most.max(apart) });
    let apart = worst / f64::from(largest);
    let allowed = f64::from(allowed);
    if found.len() == expected.len() && apart <= allowed {
        return Ok(());
    }
    Err(Failure::Differs { adapter: gpu.summary().to_string(), apart, allowed })
}

impl Report {
    /// For people.
    fn text(&self, job: &Bench) -> String {
        let mut text = format!(
            "{} on {}\n  prefill       {:10.1} tokens/s, prompts of {} in runs of up to {}, {}\n  decode        {:10.1} tokens/s, {} of them, {}\n  \
             a token is    {:10.1} dispatches in {:.1} submit(s)\n  on the device {:10} bytes, {} of them weights\n  \
             first token   {:10.0} ms from opening the device with empty caches, {:.0} ms after\n",
            output::one_line(&self.model),
            self.adapter,
            self.prefill_tokens_per_s,
            job.prompt_tokens,
            self.prompt_chunk,
            self.products,
            self.decode_tokens_per_s,
            job.new_tokens,
            self.decode_products,
            self.dispatches_per_token,
            self.submits_per_token,
            self.gpu_bytes,
            self.weight_bytes,
            self.first_token_ms.cold,
            self.first_token_ms.warm,
        );
        if let Some(longest) = self.longest_prompt_submit_ms {
            text += &format!("  longest submit{longest:10.1} ms of a prompt\n");
        }
        if let Some(share) = self.read_share {
            text += &format!("  reads weights {:10.1} % of what the adapter reads at best\n", 100.0 * share);
        }
        if let Some(cpu) = &self.cpu {
            text += &format!(
                "  CPU executor  {:10.1} tokens/s prefill, {:.1} tokens/s decode\n",
                cpu.prefill_tokens_per_s, cpu.decode_tokens_per_s
            );
        }
        if let Some(roofline) = &self.roofline {
            text += &format!("\n{roofline}\n");
        }
        text
    }
}
