//! What the jobs for texts share: what a model's files are for, and the text on which language models are compared.

use crate::failure::Failure;
use lampyris::engine::weights::TensorFile;
use lampyris::engine::weights::gguf::Value as GgufValue;
use lampyris::models::Decoder;
use lampyris::models::decoder::Session;
use lampyris::models::encoder::EncoderConfig;
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

/// What a model's files are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It says what is in pictures, as far as one can tell.
    Pictures,
    /// It continues texts.
    Language,
    /// It makes vectors of texts.
    Encoder,
}

/// What the files at `path` are for, by their configuration or a GGUF file's architecture. Files that cannot be read are told by the
/// reader that is then chosen.
pub(crate) fn kind(path: &Path) -> Kind {
    let has = |name: &str| path.join(name).exists();
    let gguf = |path: &Path| path.extension().is_some_and(|ending| ending == "gguf");
    let any = || std::fs::read_dir(path).is_ok_and(|all| all.flatten().any(|entry| gguf(&entry.path())));
    if !path.is_dir() {
        return match is_gguf(path) {
            true => kind_of_gguf(path),
            false => path.parent().map_or(Kind::Pictures, |folder| kind_of(&folder.join("config.json"))),
        };
    }
    match kind_of(&path.join("config.json")) {
        // A folder of sentence-transformers may have the network below it.
        Kind::Pictures if has("modules.json") => Kind::Encoder,
        Kind::Pictures if !has("model.safetensors") && !has("model.safetensors.index.json") && any() => {
            kind_of_gguf(path)
        }
        kind => kind,
    }
}

fn is_gguf(path: &Path) -> bool {
    // A pipe would wait for its writer.
    let file = path.is_file().then(|| std::fs::File::open(path).ok()).flatten();
    let mut magic = [0; 4];
    file.is_some_and(|mut file| file.read_exact(&mut magic).is_ok()) && magic == *b"GGUF"
}

fn kind_of_gguf(path: &Path) -> Kind {
    let file = TensorFile::open(path).ok();
    let architecture = file.as_ref().and_then(|file| match file {
        TensorFile::Gguf(gguf) => gguf.value("general.architecture"),
        _ => None,
    });
    match architecture {
        Some(GgufValue::String("bert")) => Kind::Encoder,
        _ => Kind::Language,
    }
}

/// A configuration that can be read.
fn config(path: &Path) -> Option<Value> {
    let read = path.is_file().then(|| read_small(path, MOST_CONFIG).ok()).flatten();
    read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).filter(Value::is_object)
}

/// Refuses a model that is plainly for something else than continuing texts, by what it is.
pub(crate) fn language(path: &Path) -> Result<(), Failure> {
    let model = path.display().to_string();
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    match kind(path) {
        Kind::Encoder => Err(Failure::IsEncoder { model }),
        Kind::Pictures if folder.is_some_and(|folder| config(&folder.join("config.json")).is_some()) => {
            Err(Failure::NoLanguage { model })
        }
        Kind::Language | Kind::Pictures => Ok(()),
    }
}

/// What a config.json speaks of: an encoder by its name, a language model by its vocabulary and its columns.
fn kind_of(path: &Path) -> Kind {
    let speaks = |map: &Value| map.get("vocab_size").is_some() && map.get("hidden_size").is_some();
    let Some(map) = config(path).filter(speaks) else { return Kind::Pictures };
    match map.get("model_type").and_then(Value::as_str) {
        Some(model) if EncoderConfig::KNOWN.contains(&model) => Kind::Encoder,
        _ => Kind::Language,
    }
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
