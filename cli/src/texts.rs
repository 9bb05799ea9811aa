//! What the jobs for language models share: which models are some, and the text on which they are compared.

use crate::failure::Failure;
use lampyris::models::Decoder;
use lampyris::models::decoder::Session;
use lampyris::models::source::read_small;
use lampyris::{Error, Gpu};
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// The largest configuration that is looked into, in bytes.
const MOST_CONFIG: u64 = 16 << 20;
/// Tokens of a window of a text: each begins anew.
const WINDOW: usize = 512;
/// Logits that are held at once.
const MOST_LOGITS: usize = 8 << 20;

/// Whether the files at `path` are a language model's: GGUF, or a config.json that speaks of a vocabulary and of layers.
pub(crate) fn is_text(path: &Path) -> bool {
    if !path.is_dir() {
        let beside = path.parent().map(|folder| folder.join("config.json"));
        return is_gguf(path) || beside.is_some_and(|config| speaks_of_texts(&config));
    }
    let has = |name: &str| path.join(name).exists();
    let gguf = |path: &Path| path.extension().is_some_and(|ending| ending == "gguf");
    let any = || std::fs::read_dir(path).is_ok_and(|all| all.flatten().any(|entry| gguf(&entry.path())));
    speaks_of_texts(&path.join("config.json"))
        || !has("model.safetensors") && !has("model.safetensors.index.json") && any()
}

fn is_gguf(path: &Path) -> bool {
    // A pipe would wait for its writer.
    let file = path.is_file().then(|| std::fs::File::open(path).ok()).flatten();
    let mut magic = [0; 4];
    file.is_some_and(|mut file| file.read_exact(&mut magic).is_ok()) && magic == *b"GGUF"
}

fn speaks_of_texts(config: &Path) -> bool {
    let read = config.is_file().then(|| read_small(config, MOST_CONFIG).ok()).flatten();
    let map: Option<Value> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    map.is_some_and(|map| map.get("vocab_size").is_some() && map.get("hidden_size").is_some())
}

/// A text that a model is measured on: every token but the first of each window is guessed from those before it.
pub(crate) fn perplexity(gpu: &Gpu, decoder: &Decoder, ids: &[u32], done: impl Fn(u64)) -> Result<f64, Failure> {
    let vocabulary = decoder.config().vocabulary;
    let window = WINDOW.min(decoder.config().context).min(ids.len()).max(2);
    let step = (MOST_LOGITS / vocabulary).clamp(1, window);
    let mut session = gpu.block_on(decoder.session(window))?;
    let (mut loss, mut count) = (0.0, 0_usize);
    for text in ids.chunks(window).filter(|text| text.len() > 1) {
        session.rewind(0);
        let mut at = 0;
        for part in text.chunks(step) {
            loss += losses(gpu, &mut session, (part, at), &text[1..])?;
            at += part.len();
            done(part.len() as u64);
        }
        count += text.len() - 1;
    }
    Ok((loss / count as f64).exp())
}

/// Feeds some tokens of a window, the first of them number `at`, and sums what the tokens after each cost.
fn losses(gpu: &Gpu, session: &mut Session, (part, at): (&[u32], usize), next: &[u32]) -> Result<f64, Failure> {
    let vocabulary = session.model().config().vocabulary;
    gpu.block_on(session.feed(part))?;
    let logits = gpu.block_on(session.logits_from(at))?;
    let loss = |(row, next): (&[f32], &u32)| {
        let top = f64::from(row.iter().fold(f32::MIN, |most, value| most.max(*value)));
        let total: f64 = row.iter().map(|value| (f64::from(*value) - top).exp()).sum();
        top + total.ln() - f64::from(row.get(*next as usize).copied().unwrap_or(f32::NAN))
    };
    let loss: f64 = logits.chunks(vocabulary).zip(next.get(at..).unwrap_or_default()).map(loss).sum();
    match loss.is_finite() {
        true => Ok(loss),
        false => Err(Error::NotFinite { network: session.model().config().model_type.clone() }.into()),
    }
}
