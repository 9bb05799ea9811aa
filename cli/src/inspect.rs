//! `lampyris inspect`: what is in a model's files, the plan that is made of them, and the shaders that run it. Needs no device.

mod encoder;
mod kernels;
mod listing;
mod model;
mod text;

use crate::args::Inspect;
use crate::failure::Failure;
use crate::output;
use crate::texts::{self, Kind};
use serde::Serialize;
use std::path::Path;

/// Everything that was asked for.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    model: Option<Model>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<kernels::Kernel>,
}

/// A model of any kind.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Model {
    Pictures(model::Model),
    Texts(text::Model),
    Sentences(encoder::Model),
}

impl Model {
    fn open(path: &Path, job: &Inspect) -> Result<Model, Failure> {
        Ok(match texts::kind(path) {
            Kind::Language => Model::Texts(text::open(path, job)?),
            Kind::Encoder => Model::Sentences(encoder::open(path, job)?),
            Kind::Pictures => Model::Pictures(model::open(path, job)?),
        })
    }

    fn text(&self) -> String {
        match self {
            Model::Pictures(model) => model.text(),
            Model::Texts(model) => model.text(),
            Model::Sentences(model) => model.text(),
        }
    }
}

/// Prints the model's contents, its plan when asked for, and a kernel's variants.
pub(crate) fn run(job: &Inspect) -> Result<(), Failure> {
    let kernel = job.kernel.as_deref().map(|name| kernels::find(name, job.variant.as_deref())).transpose()?;
    let model = job.model.as_deref().map(|path| Model::open(path, job)).transpose()?;
    let text = match job.json {
        true => output::json(&Report { model, kernel })?,
        false => {
            let model = model.map(|model| model.text()).unwrap_or_default();
            format!("{model}{}", kernel.map(|kernel| kernel.text()).unwrap_or_default())
        }
    };
    output::print(&text)
}
