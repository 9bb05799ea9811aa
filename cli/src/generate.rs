//! `lampyris generate`: a text goes on, as it is written or as one line of JSON.

use crate::args::{self, DeviceArguments, Generate, TextArguments, products};
use crate::failure::Failure;
use crate::model::{Chosen, Loaded};
use crate::{device, output};
use lampyris::models::decoder::SessionOptions;
use lampyris::models::source::read_small;
use lampyris::text_model::TextSession;
use lampyris::{AnswerOptions, Error, Gpu, Sampling};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// The largest prompt that is read from a file, in bytes.
const MOST_PROMPT: u64 = 64 << 20;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    text: String,
    token_ids: Vec<u32>,
    prompt_tokens: usize,
    new_tokens: usize,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    first_token_ms: f64,
    adapter: String,
    model: String,
    /// Of an answer that was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
}

/// Opens a model and a session with it.
pub(crate) fn open(chosen: Chosen, text: &TextArguments, gpu: &Gpu) -> Result<Loaded<TextSession>, Failure> {
    let Loaded { model, name, note } = chosen.load_text(gpu)?;
    let options = SessionOptions::default();
    let options = text.context.map_or(options, |tokens| options.context(tokens)).cache(text.kv.into());
    let options = options.products(products(text.packed));
    let options = text.slide.map_or(options, |sinks| options.slide(sinks));
    Ok(Loaded { model: gpu.block_on(model.session(options))?, name, note })
}

/// What is asked of an answer.
pub(crate) fn options(text: &TextArguments, sampling: Sampling) -> AnswerOptions {
    let options = AnswerOptions::new(text.max_tokens).sampling(sampling);
    text.stop.iter().fold(options, |options, stop| options.stop(stop))
}

/// `amount` a second, to a tenth.
pub(crate) fn rate(amount: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { (amount as f64 / seconds * 10.0).round() / 10.0 } else { 0.0 }
}

/// Continues the prompt that `job` names and prints what comes.
pub(crate) fn run(job: &Generate, arguments: &DeviceArguments) -> Result<(), Failure> {
    let prompt = match (&job.prompt, &job.prompt_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => read(path)?,
        (None, None) => String::new(),
    };
    let chosen = Chosen::text(job.text.model.as_deref())?;
    let gpu = device::open(arguments)?;
    let Loaded { model: mut session, name, note } = open(chosen, &job.text, &gpu)?;
    let choice = &job.text.choice;
    let recommended = session.model().sampling().filter(|_| choice.draws());
    let sampling = choice.over(recommended.unwrap_or_default().seed(args::any_seed()));
    let options = options(&job.text, sampling);
    if job.json {
        // What a kernel's first run costs is no part of its speed.
        gpu.block_on(async {
            let mut first = options.clone();
            first.most = 1;
            session.generate(&prompt, first).await?.next().await?;
            session.reset();
            Ok::<(), Error>(())
        })?;
    }
    let start = Instant::now();
    let mut answer = gpu.block_on(session.generate(&prompt, options))?;
    if job.json {
        // The prompt's runs are submitted, which takes no time; they count until the device has done them.
        gpu.block_on(gpu.idle())?;
    }
    let fed = start.elapsed().as_secs_f64();
    device::say_kind(&gpu);
    note.into_iter().for_each(output::note);
    let (mut text, mut first) = (String::new(), None);
    while let Some(piece) = gpu.block_on(answer.next())? {
        first.get_or_insert_with(|| start.elapsed().as_secs_f64());
        if !job.json {
            output::print(&output::printable(&piece))?;
        }
        text += &piece;
    }
    let ids = answer.ids().to_vec();
    let total = start.elapsed().as_secs_f64();
    if !job.json {
        return output::print("\n");
    }
    let prompt_tokens = session.tokens().tokens().len() - ids.len();
    output::print(&output::json(&Report {
        text,
        prompt_tokens,
        new_tokens: ids.len(),
        prefill_tokens_per_s: rate(prompt_tokens.saturating_sub(1), fed),
        decode_tokens_per_s: rate(ids.len(), total - fed),
        first_token_ms: (first.unwrap_or(total) * 1e6).round() / 1e3,
        token_ids: ids,
        adapter: gpu.summary().name.clone(),
        model: name,
        seed: sampling.is_random().then_some(sampling.seed),
    })?)
}

fn read(path: &Path) -> Result<String, Failure> {
    let bytes = read_small(path, MOST_PROMPT)?;
    String::from_utf8(bytes).map_err(|_| Failure::NoText { path: path.display().to_string() })
}
