//! `lampyris fits`: what a model for texts will take on this machine, said before anything of it is loaded.

mod encoder;
mod room;

use crate::args::{DeviceArguments, Fits, Kv};
use crate::failure::Failure;
#[cfg(feature = "pull")]
use crate::hub::{self, Hub, HubError, HubName};
use crate::texts::{self, Kind};
use crate::{device, model, output};
use lampyris::Gpu;
use lampyris::engine::measure::{Costs, costs};
use lampyris::engine::plan::{Place, PlanTensor};
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::models::Decoder;
use lampyris::models::decoder::{Conversion, DecoderFiles, SessionOptions};
use room::Room;
use serde::Serialize;
use std::path::PathBuf;
#[cfg(feature = "pull")]
use std::sync::Arc;
use tempfile::TempDir;

/// Formats that are suggested, the most exact first.
const SUGGESTED: [BlockFormat; 5] =
    [BlockFormat::Q8_0, BlockFormat::Q6K, BlockFormat::Q5K, BlockFormat::Q4K, BlockFormat::Q4_0];
/// How much more than in a file blocks take on a device, at most.
const REPACKED: f64 = 1.05;

/// Said where nothing stands in the way and nobody says how much memory there is.
const UNKNOWN: &str = "nothing is known to stand in the way; --budget BYTES says whether it fits so much memory\n";

/// What a model takes, and what there is.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    model: String,
    adapter: String,
    /// Not known where nothing stands in the way and nobody says how much memory there is.
    pub(crate) fits: Option<bool>,
    context: usize,
    kv: &'static str,
    weight_bytes: u64,
    cache_bytes: u64,
    /// What runs compute.
    work_bytes: u64,
    total_bytes: u64,
    largest_tensor: Tensor,
    /// The largest tensor that the adapter can bind.
    binding_limit: u64,
    #[serde(flatten)]
    room: Room,
    /// What the adapter usually reads, in 10^9 bytes a second; not known of the CPU executor.
    read_gbytes: Option<f64>,
    /// Tokens a second to expect, by the time of each step; not known where the adapter cannot bind a tensor.
    tokens_per_s_expected: Option<f64>,
    /// Tokens a second that reading alone allows: that rate over the weights that a token reads.
    tokens_per_s_at_most: Option<f64>,
    /// What stands in the way.
    reasons: Vec<String>,
    /// The most exact format with which it fits, where it does not.
    instead: Option<Instead>,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    bytes: u64,
}

/// The model in another format, estimated from its file's bytes.
#[derive(Debug, Serialize)]
struct Instead {
    format: &'static str,
    weight_bytes: u64,
    total_bytes: u64,
}

/// Says what the model will take.
pub(crate) fn run(job: &Fits, arguments: &DeviceArguments) -> Result<(), Failure> {
    let found = model::find(&job.model);
    if let Ok(path) = &found
        && texts::kind(path) == Kind::Encoder
    {
        if job.kv != Kv::F32 {
            let (option, kind) = ("--kv", "language models");
            return Err(Failure::OtherKind { option, kind, model: job.model.display().to_string() });
        }
        return encoder::run(path, job, arguments);
    }
    // Headers of a model that is not on disk lie in a temporary folder until it is described.
    let (files, _folder) = open(job, found)?;
    let gpu = device::open(arguments)?;
    let options = SessionOptions::default().cache(job.kv.into());
    let options = job.context.map_or(options, |tokens| options.context(tokens));
    let speed = match gpu.is_cpu_executor() {
        true => None,
        false => {
            // The budget is for the model, and may be too small to measure with.
            let mut options = device::options(arguments, device::choice(arguments));
            options.budget = None;
            let gpu = pollster::block_on(Gpu::with(options))?;
            let costs = gpu.block_on(costs(&gpu))?;
            Some((gpu, costs))
        }
    };
    let report = report(&job.model.display().to_string(), options, &gpu, &files, speed)?;
    device::say_kind(&gpu);
    output::print(&if job.json { output::json(&report)? } else { report.text() })
}

/// The model's files; of a model on a hub that is not on disk, their headers.
fn open(job: &Fits, found: Result<PathBuf, Failure>) -> Result<(DecoderFiles, Option<TempDir>), Failure> {
    let none = || Failure::NoTexts { model: job.model.display().to_string() };
    match found {
        #[cfg(feature = "pull")]
        Err(Failure::Hub(HubError::NotPulled { .. })) => {
            let name = job.model.to_str().and_then(HubName::parse).ok_or_else(none)?;
            let hub = Arc::new(Hub::of_environment(None)?);
            let listing = hub.listing_at_once(&name)?;
            let files = hub::select(&name, &listing, &[])?;
            let total: u64 = files.iter().map(|file| file.size).sum();
            output::note(&format!("read from {}: headers only, of {} in files", hub.endpoint(), hub::bytes(total)));
            let folder = tempfile::tempdir().map_err(Failure::Temporary)?;
            let files = hub::headers(&hub, &name, &listing.commit, &files, folder.path())?.ok_or_else(none)?;
            Ok((files, Some(folder)))
        }
        found => {
            let path = found?;
            if path.exists() && texts::kind(&path) != Kind::Language {
                return Err(none());
            }
            Ok((DecoderFiles::open(path)?, None))
        }
    }
}

/// What a session with `options` takes on this device, and whether that is there.
pub(crate) fn report(
    shown: &str,
    options: SessionOptions,
    gpu: &Gpu,
    files: &DecoderFiles,
    speed: Option<(Gpu, Costs)>,
) -> Result<Report, Failure> {
    let needs = Decoder::new(gpu, files.clone())?.needs(options)?;
    let limit = gpu.caps().max_binding_bytes.min(gpu.caps().max_buffer_bytes);
    let room = Room::of(gpu);
    let mut reasons = Vec::new();
    if needs.largest.1 > limit {
        let (name, bytes) = &needs.largest;
        reasons.push(format!("{} takes {bytes} bytes, and the adapter binds at most {limit}", output::one_line(name)));
    }
    reasons.extend(room.reasons(needs.total()));
    // Smaller weights help neither a cache nor what a run computes; matrices are cut by rows, so they need fit no binding whole.
    let plan = &needs.plan;
    let of_runs = |it: &PlanTensor| !matches!(it.place, Place::Constant(_));
    let bound_by_runs = plan.tensors.iter().any(|it| of_runs(it) && it.desc.bytes() > limit);
    let instead = SUGGESTED.into_iter().filter(|_| !reasons.is_empty() && !bound_by_runs).find_map(|format| {
        let conversion = Conversion::new(files, format, Vec::new()).ok()?;
        let (before, after) = conversion.bytes();
        let about = |bytes: u64| (bytes as f64 * REPACKED) as u64;
        let weight_bytes = about(after) + needs.angles;
        let total_bytes = weight_bytes + needs.cache + needs.work;
        let fits = after < before && room.holds(total_bytes);
        fits.then_some(Instead { format: format.name(), weight_bytes, total_bytes })
    });
    let tenths = |rate: f64| (rate * 10.0).round() / 10.0;
    let at_most = |costs: &Costs| tenths(costs.read_gbytes * 1e9 / needs.read_per_token.max(1) as f64);
    // What does not fit is not timed: its steps may take as much memory as was just said to be missing.
    let timed = speed.as_ref().filter(|_| reasons.is_empty());
    let timed = timed.map(|(gpu, costs)| gpu.block_on(needs.tokens_per_second(gpu, costs))).transpose();
    let expected = timed.unwrap_or_else(|error| {
        output::note(&format!("its steps could not be timed, so no speed is expected: {error}"));
        None
    });
    Ok(Report {
        model: shown.to_owned(),
        adapter: gpu.summary().to_string(),
        fits: room.verdict(&reasons),
        context: needs.context,
        kv: options.cache.label(),
        weight_bytes: needs.weights,
        cache_bytes: needs.cache,
        work_bytes: needs.work,
        total_bytes: needs.total(),
        largest_tensor: Tensor { name: needs.largest.0.clone(), bytes: needs.largest.1 },
        binding_limit: limit,
        room,
        read_gbytes: speed.as_ref().map(|(_, costs)| costs.read_gbytes),
        tokens_per_s_expected: expected.map(tenths),
        tokens_per_s_at_most: speed.as_ref().map(|(_, costs)| at_most(costs)),
        reasons,
        instead,
    })
}

impl Report {
    /// For people who are about to fetch it.
    #[cfg(feature = "pull")]
    pub(crate) fn summary(&self) -> String {
        let verdict = match self.reasons.is_empty() {
            true => self.room.summary(),
            false => format!("it does not fit: {}", self.reasons.join("; ")),
        };
        let promise = self.room.promise();
        let instead = self.instead.as_ref().map(|it| format!(", and as {} {promise}", it.format)).unwrap_or_default();
        format!(
            "here it will take {} with room for {} tokens on {}: {verdict}{instead}\n",
            hub::bytes(self.total_bytes),
            self.context,
            output::one_line(&self.adapter)
        )
    }

    /// For people.
    fn text(&self) -> String {
        let mut text = format!(
            "{} on {}\n  weights   {:>14} bytes\n  cache     {:>14} bytes, {} tokens in {}\n  work      {:>14} bytes\n  \
             together  {:>14} bytes\n  largest   {:>14} bytes, {}; the adapter binds {}\n",
            output::one_line(&self.model),
            self.adapter,
            self.weight_bytes,
            self.cache_bytes,
            self.context,
            self.kv,
            self.work_bytes,
            self.total_bytes,
            self.largest_tensor.bytes,
            output::one_line(&self.largest_tensor.name),
            self.binding_limit,
        );
        text += &self.room.lines();
        if let Some(tokens) = self.tokens_per_s_expected {
            text += &format!("  speed     {tokens:>14.1} tokens/s expected, by the time of each step alone\n");
        }
        if let (Some(rate), Some(tokens)) = (self.read_gbytes, self.tokens_per_s_at_most) {
            text += &format!("  reading   {tokens:>14.1} tokens/s would be allowed by its {rate:.1} GB/s alone\n");
        }
        for reason in &self.reasons {
            text += &format!("  {reason}\n");
        }
        text += match (self.fits, &self.instead) {
            (Some(true), _) => "it fits\n",
            (None, _) => UNKNOWN,
            (Some(false), None) => {
                "it does not fit, nor would it in a smaller format; take a shorter --context, a smaller --kv or a smaller model\n"
            }
            (Some(false), Some(_)) => "it does not fit\n",
        };
        if let Some(instead) = &self.instead {
            text += &format!(
                "as {} {}, with about {} bytes: `lampyris quantize` writes that\n",
                instead.format,
                self.room.promise(),
                instead.total_bytes
            );
        }
        text
    }
}
