//! A sentence encoder's files: what they say of it, its tensors, and the plan of a run.

use super::listing::Listing;
use crate::args::Inspect;
use crate::failure::Failure;
use crate::output;
use lampyris::Gpu;
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, Pooled, TokenEncoder};
use serde::Serialize;
use std::path::Path;

/// Tokens of the run whose plan is shown unless asked otherwise.
const TOKENS: usize = 128;

/// A sentence encoder's files.
#[derive(Debug, Serialize)]
pub(super) struct Model {
    model: String,
    architecture: Option<String>,
    /// Why it cannot be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
    settings: Option<Settings>,
    #[serde(flatten)]
    listing: Listing,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
}

#[derive(Debug, Serialize)]
struct Settings {
    layers: usize,
    hidden: usize,
    intermediate: usize,
    heads: usize,
    head: usize,
    vocabulary: usize,
    context: usize,
    unit: String,
    pooling: String,
    normalize: bool,
}

#[derive(Debug, Serialize)]
struct Plan {
    /// Tokens and sequences that a run has room for.
    tokens: usize,
    sequences: usize,
    dispatches: usize,
    weight_bytes: u64,
    work_bytes: u64,
    total_bytes: u64,
    /// Weights that are read for a run.
    read_bytes: u64,
    text: String,
}

/// Opens the model at `path`. One that cannot be run is listed all the same, unless its plan is wanted.
pub(super) fn open(path: &Path, job: &Inspect) -> Result<Model, Failure> {
    let files = EncoderFiles::open(path)?;
    let listing = Listing::of(&files.weights);
    let options = EncoderOptions::default().half(job.precision == crate::args::Precision::F16);
    let encoder = match (TokenEncoder::new(&Gpu::cpu_executor(), files, options), job.plan) {
        (Err(error), true) => return Err(error.into()),
        (encoder, _) => encoder,
    };
    let plan = match (&encoder, job.plan) {
        (Ok(encoder), true) => Some(plan(encoder, job.context.unwrap_or(TOKENS))?),
        _ => None,
    };
    Ok(Model {
        model: path.display().to_string(),
        architecture: encoder.as_ref().ok().map(|encoder| encoder.config().model_type.clone()),
        unknown: encoder.as_ref().err().map(ToString::to_string),
        settings: encoder.as_ref().ok().map(settings),
        listing,
        plan,
    })
}

fn settings(encoder: &TokenEncoder) -> Settings {
    let (config, Pooled { pooling, normalize, .. }) = (encoder.config(), encoder.pooled());
    Settings {
        layers: config.layers,
        hidden: config.hidden,
        intermediate: config.intermediate,
        heads: config.heads,
        head: config.head(),
        vocabulary: config.vocabulary,
        context: config.context,
        unit: format!("{:?}", config.unit).to_lowercase(),
        pooling: format!("{pooling:?}").to_lowercase(),
        normalize,
    }
}

fn plan(encoder: &TokenEncoder, tokens: usize) -> Result<Plan, Failure> {
    let needs = encoder.needs(tokens)?;
    Ok(Plan {
        tokens: needs.rows,
        sequences: needs.sequences,
        dispatches: needs.plan.steps.len(),
        weight_bytes: needs.weights,
        work_bytes: needs.work,
        total_bytes: needs.total(),
        read_bytes: needs.read_per_run,
        text: needs.plan.to_string(),
    })
}

impl Model {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = self.listing.head(&self.model, self.architecture.as_deref());
        if let Some(reason) = &self.unknown {
            text += &format!("  {}\n", output::one_line(reason));
        }
        if let Some(s) = &self.settings {
            text += &format!(
                "  layers     {} of {} columns, {} units ({})\n  heads      {}, {} columns each\n  vocabulary {}\n  context    {}\n  \
                 embedding  {} of a text's rows{}\n",
                s.layers,
                s.hidden,
                s.intermediate,
                s.unit,
                s.heads,
                s.head,
                s.vocabulary,
                s.context,
                s.pooling,
                if s.normalize { ", to length 1" } else { "" },
            );
        }
        text += &self.listing.text();
        if let Some(plan) = &self.plan {
            text += &format!(
                "\nthe plan of a run with room for {} tokens of {} texts\n{} dispatches, {} bytes on the device: {} of weights, {} of \
                 work\n{} bytes of weights are read\n{}",
                plan.tokens,
                plan.sequences,
                plan.dispatches,
                plan.total_bytes,
                plan.weight_bytes,
                plan.work_bytes,
                plan.read_bytes,
                plan.text
            );
        }
        text
    }
}
