//! What the jobs for texts share: what a model's files are for, and the text on which language models are compared.

use crate::failure::Failure;
use crate::output;
use lampyris::engine::weights::TensorFile;
use lampyris::engine::weights::gguf::Value as GgufValue;
use lampyris::models::decoder::{Products, SessionOptions};
use lampyris::models::encoder::EncoderConfig;
use lampyris::models::source::read_small;
use lampyris::text_model::TextModel;
use lampyris::{Error, Gpu};
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// The largest configuration that is looked into, in bytes.
const MOST_CONFIG: u64 = 16 << 20;

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
        // Its relatives, `nomic-bert` and others, are not read, but are no language models either.
        Some(GgufValue::String(name)) if name.contains("bert") => Kind::Encoder,
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
    let speaks = |map: &Value| {
        let itself = map.get("vocab_size").is_some() && map.get("hidden_size").is_some();
        // A model that sees pictures too has the part that continues texts below.
        itself || map.get("text_config").is_some_and(Value::is_object)
    };
    let Some(map) = config(path).filter(speaks) else { return Kind::Pictures };
    match map.get("model_type").and_then(Value::as_str) {
        Some(model) if EncoderConfig::KNOWN.contains(&model) => Kind::Encoder,
        _ => Kind::Language,
    }
}

/// The perplexity of `text`, which `path` holds, with `products`, shown while it is measured, and its tokens.
pub(crate) fn perplexity(
    gpu: &Gpu,
    model: &TextModel,
    (text, path): (&str, &Path),
    products: Products,
) -> Result<(f64, usize), Failure> {
    let ids = model.tokenizer().encode_document(text).map_err(Error::from)?;
    let progress = output::progress(ids.len(), "measuring");
    let found = gpu.block_on(model.decoder().perplexity(&ids, products, |tokens| progress.inc(tokens)));
    progress.finish_and_clear();
    match found {
        Err(Error::Short { tokens }) => Err(Failure::Short { path: path.display().to_string(), tokens }),
        found => Ok((found?, ids.len())),
    }
}

/// Says what of `products` the adapter or the model's weights do not give: for prompts, and with `answers` for what comes after them.
pub(crate) fn say_products(gpu: &Gpu, model: &TextModel, products: Products, answers: bool) -> Result<(), Failure> {
    if products != Products::Exact {
        let room = SessionOptions::LARGEST_CHUNK.min(model.decoder().config().context);
        let session = gpu.block_on(model.decoder().session(SessionOptions::from(room).products(products)))?;
        let [prompt, _] = session.multiplied();
        let said = session.multiplied_otherwise().filter(|_| answers || !prompt.any(products));
        said.into_iter().for_each(output::note);
    }
    Ok(())
}
