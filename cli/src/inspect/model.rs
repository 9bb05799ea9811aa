//! A model's tensors, what it was recognized as, and its plan.

use crate::args::Inspect;
use crate::failure::Failure;
use crate::output;
use lampyris::Source;
use lampyris::engine::weights::Weights;
use lampyris::models::classifier::open_network;
use lampyris::models::mobilenet::{Network, Pixels, PlanRequest};
use serde::Serialize;
use std::path::Path;

/// A model's files.
#[derive(Debug, Serialize)]
pub(super) struct Model {
    model: String,
    architecture: Option<String>,
    /// Why it was not recognized.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
    settings: Option<Settings>,
    bytes: u64,
    tensors: Vec<Tensor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct Settings {
    naming: String,
    classes: usize,
    label_offset: usize,
    feature_size: usize,
    quantized: bool,
    input_side: u32,
    resize: String,
    filter: String,
    mean: [f32; 3],
    std: [f32; 3],
    padding: String,
    /// What no file says and was taken as usual.
    assumed: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Plan {
    images: usize,
    side: usize,
    /// Whether depthwise convolutions are computed where their projections load.
    fused: bool,
    dispatches: usize,
    weight_bytes: u64,
    activation_bytes: u64,
    parameter_bytes: u64,
    total_bytes: u64,
    text: String,
}

/// Opens the model at `path`. One that is not recognized is listed all the same, unless its plan is wanted.
pub(super) fn open(path: &Path, job: &Inspect) -> Result<Model, Failure> {
    let source = Source::from(path);
    let (weights, _) = source.open()?;
    let network = open_network(&source);
    let network = match (network, job.plan) {
        (Err(error), true) => return Err(error.into()),
        (network, _) => network,
    };
    let plan = match (&network, job.plan) {
        (Ok(network), true) => Some(plan(network, job)?),
        _ => None,
    };
    Ok(Model {
        model: path.display().to_string(),
        architecture: network.as_ref().ok().map(|network| network.spec().architecture.to_string()),
        unknown: network.as_ref().err().map(ToString::to_string),
        settings: network.as_ref().ok().map(settings),
        bytes: weights.total_bytes() as u64,
        tensors: tensors(&weights),
        plan,
    })
}

fn tensors(weights: &Weights) -> Vec<Tensor> {
    let listed = weights.tensors().iter().map(|info| Tensor {
        name: info.name.clone(),
        dtype: info.dtype.name(),
        shape: info.shape.clone(),
        bytes: info.range.len(),
    });
    listed.collect()
}

fn settings(network: &Network) -> Settings {
    let (spec, settings) = (network.spec(), network.settings());
    let preprocess = &settings.preprocess;
    Settings {
        naming: spec.naming.to_string(),
        classes: spec.classes,
        label_offset: settings.label_offset,
        feature_size: spec.feature_size,
        quantized: spec.is_quantized(),
        input_side: preprocess.crop,
        resize: format!("{:?}", preprocess.resize),
        filter: format!("{:?}", preprocess.filter),
        mean: preprocess.mean,
        std: preprocess.std,
        padding: format!("{:?}", settings.padding),
        assumed: settings.assumed.clone(),
    }
}

fn plan(network: &Network, job: &Inspect) -> Result<Plan, Failure> {
    let images = usize::from(job.batch);
    let side = job.side.unwrap_or(network.settings().preprocess.crop) as usize;
    let (precision, fuse_depthwise) = (job.precision.into(), job.fused);
    let plan = network.plan(PlanRequest { images, side, pixels: Pixels::Rgba8, precision, top: 5, fuse_depthwise })?;
    let bytes = plan.bytes();
    Ok(Plan {
        images,
        side,
        fused: job.fused,
        dispatches: plan.steps.len(),
        weight_bytes: bytes.weights,
        activation_bytes: bytes.activations,
        parameter_bytes: bytes.params,
        total_bytes: bytes.total(),
        text: plan.to_string(),
    })
}

impl Model {
    /// For people.
    pub(super) fn text(&self) -> String {
        let what = self.architecture.as_deref().unwrap_or("not recognized");
        let mut text = format!(
            "{}: {what}, {} tensors, {} bytes\n",
            output::one_line(&self.model),
            self.tensors.len(),
            self.bytes
        );
        if let Some(reason) = &self.unknown {
            text += &format!("  {}\n", output::one_line(reason));
        }
        if let Some(s) = &self.settings {
            let assumed = if s.assumed.is_empty() { "nothing".to_owned() } else { s.assumed.join("; ") };
            text += &format!(
                "  names      {}\n  classes    {}, label offset {}\n  features   {}\n  input      {} x {}, resize {}, {}\n  \
                 normalize  mean {:?}, std {:?}\n  padding    {}\n  assumed    {assumed}\n",
                s.naming,
                s.classes,
                s.label_offset,
                s.feature_size,
                s.input_side,
                s.input_side,
                s.resize,
                s.filter,
                s.mean,
                s.std,
                s.padding,
            );
        }
        let width = self.tensors.iter().map(|t| t.name.chars().count()).max().unwrap_or(0).min(60);
        for t in &self.tensors {
            let name = output::one_line(&t.name);
            text += &format!("  {name:width$}  {:4}  {:>10}  {:?}\n", t.dtype, t.bytes, t.shape);
        }
        if let Some(plan) = &self.plan {
            let form = match plan.fused {
                true => "depthwise convolutions in their projections: timed on a GPU, where it runs if it is faster",
                false => "depthwise convolutions apart: what runs, unless a GPU is faster with the form of --fused",
            };
            text += &format!(
                "\n{form}\n{} dispatches, {} bytes on the device for {} images of {} x {} pixels in a run\n{}",
                plan.dispatches, plan.total_bytes, plan.images, plan.side, plan.side, plan.text
            );
        }
        text
    }
}
