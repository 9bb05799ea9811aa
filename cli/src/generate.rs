//! `lampyris generate`: a text goes on, as it is written or as one line of JSON.

use crate::args::{self, DeviceArguments, Generate, TextArguments};
use crate::failure::Failure;
use crate::model::{Chosen, Loaded};
use crate::silence::Ended;
use crate::{device, output};
use lampyris::models::decoder::SessionOptions;
use lampyris::models::source::read_small;
use lampyris::text_model::{Ending, TextModel, TextSession};
use lampyris::{AnswerOptions, Gpu, Sampling};
use serde::Serialize;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

/// Most tokens that a text goes on for unless asked otherwise.
const MOST: usize = 256;
/// The largest prompt that is read from a file or the input, in bytes.
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

/// Opens a model, of which `changed` may make another by its files and its name or which it may refuse, and a session with it.
pub(crate) fn open(
    chosen: Chosen,
    text: &TextArguments,
    gpu: &Gpu,
    changed: impl FnOnce(TextModel, &str) -> Result<TextModel, Failure>,
) -> Result<Loaded<TextSession>, Failure> {
    let Loaded { model, name, note } = chosen.load_text(gpu, changed)?;
    let options = SessionOptions::default();
    let options = text.context.map_or(options, |tokens| options.context(tokens)).cache(text.kv.into());
    let options = options.products(text.products.products());
    let options = text.slide.map_or(options, |sinks| options.slide(sinks));
    Ok(Loaded { model: gpu.block_on(model.session(options))?, name, note })
}

/// What is asked of an answer.
pub(crate) fn options(text: &TextArguments, most: usize, sampling: Sampling) -> AnswerOptions {
    let options = AnswerOptions::new(most).sampling(sampling);
    text.stop.iter().fold(options, |options, stop| options.stop(stop))
}

/// `amount` a second, to a tenth.
pub(crate) fn rate(amount: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { (amount as f64 / seconds * 10.0).round() / 10.0 } else { 0.0 }
}

/// Continues the prompt that `job` names and prints what comes.
pub(crate) fn run(job: &Generate, arguments: &DeviceArguments) -> Result<(), Failure> {
    let choice = &job.text.choice;
    choice.over(Sampling::greedy()).check()?;
    let prompt = match (&job.prompt, &job.prompt_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => read(path)?,
        (None, None) => String::new(),
    };
    let chosen = Chosen::text(job.text.model.as_deref())?;
    let gpu = device::open(arguments)?;
    let Loaded { model: mut session, name, note } = open(chosen, &job.text, &gpu, |model, _| Ok(model))?;
    let recommended = session.model().sampling().filter(|_| choice.draws());
    let sampling = choice.over(recommended.unwrap_or_default().seed(args::any_seed()));
    let most = job.text.max_tokens.unwrap_or(MOST);
    let options = options(&job.text, most, sampling);
    let only = |tokens: usize| {
        let mut options = options.clone();
        options.most = tokens.min(most);
        options
    };
    let start = Instant::now();
    // The prompt alone, so that it can be told from what the answer does to the session.
    gpu.block_on(session.generate(&prompt, only(0)))?;
    if job.json {
        // The prompt's runs are submitted, which takes no time; they count until the device has done them.
        gpu.block_on(gpu.idle())?;
    }
    let fed = start.elapsed().as_secs_f64();
    let (fits, context) = (session.tokens().tokens().len(), session.tokens().context());
    let dropped = session.tokens().dropped();
    device::say_kind(&gpu);
    session.tokens().multiplied_otherwise().into_iter().for_each(output::note);
    note.into_iter().for_each(output::note);
    if dropped > 0 {
        output::note(&format!(
            "the prompt was too long for a context of {context} tokens, so {dropped} of its {} tokens were dropped",
            fits + dropped
        ));
    }
    let mut first = None;
    // A piece of text may take several tokens, so the first is taken apart, and computed again with the others. It cannot be where
    // it makes the session slide.
    if job.json && fits < context {
        gpu.block_on(async { session.resume(only(1)).await?.next().await })?;
        first = Some(start.elapsed().as_secs_f64());
        session.rewind(fits);
    }
    let begun = Instant::now();
    let mut text = String::new();
    let mut answer = gpu.block_on(session.resume(options))?;
    while let Some(piece) = gpu.block_on(answer.next())? {
        first.get_or_insert_with(|| start.elapsed().as_secs_f64());
        if !job.json {
            output::print(&output::printable(&piece))?;
        }
        text += &piece;
    }
    let (ids, why) = (answer.ids().to_vec(), answer.ending());
    let written = begun.elapsed().as_secs_f64();
    if !job.json {
        output::print("\n")?;
    }
    let ended = Ended { model: session.model(), ids: &ids, text: &text, most, why };
    if why == Some(Ending::Full) {
        output::note(&format!(
            "the context of {context} tokens is full, so the text ends here; --context makes more room"
        ));
    } else if let Some(why) = ended.of_text() {
        output::note(&why);
    }
    if !job.json {
        return Ok(());
    }
    output::print(&output::json(&Report {
        text,
        prompt_tokens: fits + dropped,
        new_tokens: ids.len(),
        prefill_tokens_per_s: rate(fits.saturating_sub(1), fed),
        decode_tokens_per_s: rate(ids.len(), written),
        first_token_ms: (first.unwrap_or(fed) * 1e6).round() / 1e3,
        token_ids: ids,
        adapter: gpu.summary().name.clone(),
        model: name,
        seed: sampling.is_random().then_some(sampling.seed),
    })?)
}

/// The text of a file, or of the input where `-` is named, without a line break at its end, which editors put there.
fn read(path: &Path) -> Result<String, Failure> {
    let (bytes, shown) = match path == Path::new("-") {
        true => (input()?, "the input".to_owned()),
        false => (read_small(path, MOST_PROMPT)?, path.display().to_string()),
    };
    let mut text = String::from_utf8(bytes).map_err(|_| Failure::NoPrompt { path: shown })?;
    if text.ends_with('\n') {
        text.pop();
        text.truncate(text.strip_suffix('\r').unwrap_or(&text).len());
    }
    Ok(text)
}

/// All of the input.
fn input() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MOST_PROMPT + 1).read_to_end(&mut bytes).map_err(Failure::Input)?;
    match bytes.len() as u64 > MOST_PROMPT {
        true => Err(Failure::Input(std::io::Error::other(format!("it has more than {MOST_PROMPT} bytes")))),
        false => Ok(bytes),
    }
}
