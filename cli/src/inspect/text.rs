//! A language model's files: what they say of it, its tensors, and the plan of one token.

use super::listing::{Listing, shown};
use crate::args::Inspect;
use crate::failure::Failure;
use crate::output;
use lampyris::Gpu;
use lampyris::models::Decoder;
use lampyris::models::decoder::{DecoderConfig, DecoderFiles, SessionOptions};
use serde::Serialize;
use std::path::Path;

/// A language model's files.
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
    query_heads: usize,
    key_heads: usize,
    head: usize,
    vocabulary: usize,
    context: usize,
    tied: bool,
    /// Layers that see a window only, and the window.
    windowed_layers: usize,
    window: Option<u32>,
    rope: String,
}

#[derive(Debug, Serialize)]
struct Plan {
    context: usize,
    dispatches: usize,
    weight_bytes: u64,
    cache_bytes: u64,
    work_bytes: u64,
    total_bytes: u64,
    /// Weights that are read for a token.
    read_bytes: u64,
    text: String,
}

/// Opens the model at `path`. One that cannot be run is listed all the same, unless its plan is wanted.
pub(super) fn open(path: &Path, job: &Inspect) -> Result<Model, Failure> {
    let files = DecoderFiles::open(path)?;
    let decoder = Decoder::new(&Gpu::cpu_executor(), files.clone());
    let decoder = match (decoder, job.plan) {
        (Err(error), true) => return Err(error.into()),
        (decoder, _) => decoder,
    };
    let plan = match (&decoder, job.plan) {
        (Ok(decoder), true) => Some(plan(decoder, job)?),
        _ => None,
    };
    Ok(Model {
        model: path.display().to_string(),
        architecture: decoder.as_ref().ok().map(|decoder| decoder.config().model_type.clone()),
        unknown: decoder.as_ref().err().map(ToString::to_string),
        settings: decoder.as_ref().ok().map(|decoder| settings(decoder.config())),
        listing: Listing::of(&files.weights),
        plan,
    })
}

fn settings(config: &DecoderConfig) -> Settings {
    let rope = format!("{:?}", config.rope);
    Settings {
        layers: config.layers,
        hidden: config.hidden,
        intermediate: config.intermediate,
        query_heads: config.query_heads,
        key_heads: config.key_heads,
        head: config.head,
        vocabulary: config.vocabulary,
        context: config.context,
        tied: config.tied,
        windowed_layers: config.windows.iter().flatten().count(),
        window: config.windows.iter().flatten().next().copied(),
        rope: shown(&rope),
    }
}

fn plan(decoder: &Decoder, job: &Inspect) -> Result<Plan, Failure> {
    let options = SessionOptions::default();
    let needs = decoder.needs(job.context.map_or(options, |tokens| options.context(tokens)))?;
    Ok(Plan {
        context: needs.context,
        dispatches: needs.plan.steps.len(),
        weight_bytes: needs.weights,
        cache_bytes: needs.cache,
        work_bytes: needs.work,
        total_bytes: needs.total(),
        read_bytes: needs.read_per_token,
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
            let window =
                s.window.map_or("none".to_owned(), |window| format!("{window} in {} layers", s.windowed_layers));
            text += &format!(
                "  layers     {} of {} columns, {} units\n  heads      {} of queries, {} of keys, {} columns each\n  \
                 vocabulary {}{}\n  context    {}, window {window}\n  rope       {}\n",
                s.layers,
                s.hidden,
                s.intermediate,
                s.query_heads,
                s.key_heads,
                s.head,
                s.vocabulary,
                if s.tied { ", the head is its table" } else { "" },
                s.context,
                s.rope,
            );
        }
        text += &self.listing.text();
        if let Some(plan) = &self.plan {
            text += &format!(
                "\nthe plan of one token in a session of {}\n{} dispatches, {} bytes on the device: {} of weights, {} of cache, {} of \
                 work\n{} bytes of weights are read\n{}",
                plan.context,
                plan.dispatches,
                plan.total_bytes,
                plan.weight_bytes,
                plan.cache_bytes,
                plan.work_bytes,
                plan.read_bytes,
                plan.text
            );
        }
        text
    }
}
