//! `lampyris eval`: how often a model is right, measured by this engine on files that anybody can have: pictures in folders named by
//! label, a text, and questions with their answers. The figures of the bundled models' cards come from here.

mod pictures;
mod questions;

use crate::args::{DeviceArguments, Eval};
use crate::failure::Failure;
use crate::model::{Chosen, Loaded};
use crate::{device, output, texts};
use lampyris::models::decoder::Products;
use lampyris::models::source::read_small;
use lampyris::text_model::TextModel;
use lampyris::{ClassifierOptions, Gpu};
use serde::Serialize;
use std::path::Path;

/// The largest text or list of questions that is read, in bytes.
const MOST_TEXT: u64 = 256 << 20;

/// What was measured.
#[derive(Debug, Default, Serialize)]
struct Report {
    model: String,
    adapter: String,
    /// How products were asked for, where not exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    products_asked: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<pictures::Score>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Perplexity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    questions: Option<questions::Score>,
}

/// How well the tokens of a text are foreseen.
#[derive(Debug, Serialize)]
struct Perplexity {
    file: String,
    tokens: usize,
    perplexity: f64,
}

/// Measures what `job` names and prints it.
pub(crate) fn run(job: &Eval, arguments: &DeviceArguments) -> Result<(), Failure> {
    let named = job.model.as_deref();
    let chosen = if job.images.is_some() { Chosen::classifier(named) } else { Chosen::text(named) }?;
    let gpu = device::open(arguments)?;
    let mut report = Report { adapter: gpu.summary().to_string(), ..Report::default() };
    let note = match &job.images {
        Some(folder) => {
            let Loaded { model, name, note } = chosen.load_classifier(&gpu, ClassifierOptions::default())?;
            report.images = Some(pictures::score(&model, folder)?);
            report.model = name;
            note
        }
        None => {
            let Loaded { model, name, note } = chosen.load_text(&gpu, |model, _| Ok(model))?;
            let products = job.products.products();
            texts::say_products(&gpu, &model, products, job.questions.is_some())?;
            report.text = job.text.as_deref().map(|path| perplexity(&gpu, &model, path, products)).transpose()?;
            let score = |path: &Path| questions::score(&gpu, &model, path, products);
            report.questions = job.questions.as_deref().map(score).transpose()?;
            report.products_asked = job.products.given().map(|_| products.label());
            report.model = name;
            note
        }
    };
    device::say_kind(&gpu);
    note.into_iter().for_each(output::note);
    output::print(&if job.json { output::json(&report)? } else { report.shown() })
}

fn perplexity(gpu: &Gpu, model: &TextModel, path: &Path, products: Products) -> Result<Perplexity, Failure> {
    let (perplexity, tokens) = texts::perplexity(gpu, model, (&read(path)?, path), products)?;
    Ok(Perplexity { file: path.display().to_string(), tokens, perplexity })
}

fn read(path: &Path) -> Result<String, Failure> {
    let bytes = read_small(path, MOST_TEXT)?;
    String::from_utf8(bytes).map_err(|_| Failure::NoText { path: path.display().to_string() })
}

/// `right` of `count` in percent.
fn percent(right: usize, count: usize) -> f64 {
    100.0 * right as f64 / count.max(1) as f64
}

impl Report {
    /// For people.
    fn shown(&self) -> String {
        let asked = self.products_asked.map(|asked| format!(", products asked for: {asked}")).unwrap_or_default();
        let mut text = format!("{} on {}{asked}\n", output::one_line(&self.model), self.adapter);
        text += &self.images.as_ref().map(pictures::Score::shown).unwrap_or_default();
        if let Some(it) = &self.text {
            text +=
                &format!("perplexity {:.4} of {} tokens in {}\n", it.perplexity, it.tokens, output::one_line(&it.file));
        }
        text + &self.questions.as_ref().map(questions::Score::shown).unwrap_or_default()
    }
}
