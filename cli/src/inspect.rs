//! `lampyris inspect`: what is in a model's files, the plan that is made of them, and the shaders that run it. Needs no device.

mod encoder;
mod kernels;
mod listing;
mod model;
mod text;

use crate::args::{Inspect, Precision};
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
        let kind = texts::kind(path);
        refuse_others(kind, job, path)?;
        Ok(match kind {
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

/// The options that are for other kinds of models, refused for the one at `path`.
fn refuse_others(own: Kind, job: &Inspect, path: &Path) -> Result<(), Failure> {
    let [pictures, texts] = [own == Kind::Pictures, own != Kind::Pictures];
    let given = [
        ("--side", "networks for pictures", texts && job.side.is_some()),
        ("--fused", "networks for pictures", texts && job.fused),
        ("--batch", "networks for pictures", texts && job.batch != 1),
        ("--precision", "networks for pictures and encoders", own == Kind::Language && job.precision != Precision::F32),
        ("--context", "language models and encoders", pictures && job.context.is_some()),
    ];
    match given.into_iter().find(|(.., given)| *given) {
        Some((option, kind, _)) => Err(Failure::OtherKind { option, kind, model: path.display().to_string() }),
        None => Ok(()),
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
