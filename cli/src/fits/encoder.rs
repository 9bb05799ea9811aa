//! `lampyris fits` of a sentence encoder: what its weights and a run of texts will take.

use super::room::Room;
use super::{Tensor, UNKNOWN};
use crate::args::{DeviceArguments, Fits};
use crate::failure::Failure;
use crate::{device, output};
use lampyris::Gpu;
use lampyris::models::encoder::{EncoderFiles, EncoderNeeds, EncoderOptions, TokenEncoder};
use serde::Serialize;
use std::path::Path;

/// Tokens of a run unless asked otherwise: as many as texts share one.
const TOKENS: usize = 512;

/// What an encoder takes, and what there is.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    adapter: String,
    /// Not known where nothing stands in the way and nobody says how much memory there is.
    fits: Option<bool>,
    /// Tokens and texts that a run has room for.
    tokens: usize,
    texts: usize,
    weight_bytes: u64,
    /// What a run computes.
    work_bytes: u64,
    total_bytes: u64,
    largest_tensor: Tensor,
    /// The largest tensor that the adapter can bind; a table that is larger is cut.
    binding_limit: u64,
    #[serde(flatten)]
    room: Room,
    /// What stands in the way.
    reasons: Vec<String>,
    /// The precision with which it fits, where it does not.
    instead: Option<Instead>,
}

#[derive(Debug, Serialize)]
struct Instead {
    precision: &'static str,
    total_bytes: u64,
}

/// Says what the model will take.
pub(super) fn run(path: &Path, job: &Fits, arguments: &DeviceArguments) -> Result<(), Failure> {
    let files = EncoderFiles::open(path)?;
    let gpu = device::open(arguments)?;
    let needs = |half: bool| -> Result<EncoderNeeds, Failure> {
        let encoder = TokenEncoder::new(&gpu, files.clone(), EncoderOptions::default().half(half))?;
        Ok(encoder.needs(job.context.unwrap_or(TOKENS))?)
    };
    let (whole, room) = (needs(false)?, Room::of(&gpu));
    let reasons = reasons(&gpu, room, &whole);
    let half = if reasons.is_empty() { None } else { Some(needs(true)?) };
    let half = half.filter(|half| half.total() < whole.total() && self::reasons(&gpu, room, half).is_empty());
    let report = Report {
        model: job.model.display().to_string(),
        adapter: gpu.summary().to_string(),
        fits: room.verdict(&reasons),
        tokens: whole.rows,
        texts: whole.sequences,
        weight_bytes: whole.weights,
        work_bytes: whole.work,
        total_bytes: whole.total(),
        largest_tensor: Tensor { name: whole.largest.0.clone(), bytes: whole.largest.1 },
        binding_limit: limit(&gpu),
        room,
        reasons,
        instead: half.map(|half| Instead { precision: "f16", total_bytes: half.total() }),
    };
    device::say_kind(&gpu);
    output::print(&if job.json { output::json(&report)? } else { report.text() })
}

fn limit(gpu: &Gpu) -> u64 {
    gpu.caps().max_binding_bytes.min(gpu.caps().max_buffer_bytes)
}

/// What keeps an encoder from running.
fn reasons(gpu: &Gpu, room: Room, needs: &EncoderNeeds) -> Vec<String> {
    let (name, bytes) = &needs.largest;
    let bound = (*bytes > limit(gpu)).then(|| {
        format!("{} takes {bytes} bytes, and the adapter binds at most {}", output::one_line(name), limit(gpu))
    });
    bound.into_iter().chain(room.reasons(needs.total())).collect()
}

impl Report {
    /// For people.
    fn text(&self) -> String {
        let mut text = format!(
            "{} on {}\n  weights   {:>14} bytes\n  work      {:>14} bytes, runs of {} tokens and at most {} texts\n  \
             together  {:>14} bytes\n  largest   {:>14} bytes, {}; the adapter binds {}\n",
            output::one_line(&self.model),
            self.adapter,
            self.weight_bytes,
            self.work_bytes,
            self.tokens,
            self.texts,
            self.total_bytes,
            self.largest_tensor.bytes,
            output::one_line(&self.largest_tensor.name),
            self.binding_limit,
        );
        text += &self.room.lines();
        for reason in &self.reasons {
            text += &format!("  {reason}\n");
        }
        text += match (self.fits, &self.instead) {
            (Some(true), _) => "it fits\n",
            (None, _) => UNKNOWN,
            (Some(false), None) => "it does not fit; take a smaller model\n",
            (Some(false), Some(_)) => "it does not fit\n",
        };
        if let Some(instead) = &self.instead {
            let promise = self.room.promise();
            text +=
                &format!("with `--precision {}` {promise}, with {} bytes\n", instead.precision, instead.total_bytes);
        }
        text
    }
}
