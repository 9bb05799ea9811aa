//! An encoder's files: the weights, and the small ones that say what to do with them.

#[cfg(not(target_arch = "wasm32"))]
use super::pooling::Modules;
#[cfg(not(target_arch = "wasm32"))]
use crate::source::read_small;
#[cfg(not(target_arch = "wasm32"))]
use crate::{Error, Result};
use lampyris_engine::weights::TensorFile;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

/// The files of a sentence encoder, as sentence-transformers lays them out; all but the weights and `config.json` may be absent. A
/// GGUF file holds everything itself.
#[derive(Debug, Clone)]
pub struct EncoderFiles {
    /// The weights.
    pub weights: TensorFile,
    /// `config.json`, which a GGUF file does without.
    pub config: Option<Vec<u8>>,
    /// `modules.json`: without it a text's embedding is the mean of its rows.
    pub modules: Option<Vec<u8>>,
    /// The `config.json` of the folder that `modules.json` names for the pooling.
    pub pooling: Option<Vec<u8>>,
    /// `sentence_bert_config.json`: the most tokens of a text.
    pub sentence: Option<Vec<u8>>,
    /// `config_sentence_transformers.json`: what is put before texts.
    pub prompts: Option<Vec<u8>>,
    /// `tokenizer.json`, which works on token ids do without.
    pub tokenizer: Option<Vec<u8>>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<Vec<u8>>,
}

impl EncoderFiles {
    /// Files that hold nothing but the network.
    pub fn new(weights: TensorFile, config: Option<Vec<u8>>) -> EncoderFiles {
        EncoderFiles {
            weights,
            config,
            modules: None,
            pooling: None,
            sentence: None,
            prompts: None,
            tokenizer: None,
            tokenizer_config: None,
        }
    }

    /// Opens a folder as sentence-transformers or transformers write it, or the `.safetensors` file in one, or a
    /// `.gguf` file.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Unreadable`] with the path; [`Error::Weights`]; what is wrong in `modules.json`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: impl AsRef<Path>) -> Result<EncoderFiles> {
        /// The largest tokenizer file that is read, in bytes.
        const MOST_TOKENIZER: u64 = 256 << 20;
        /// The largest of the other small files, in bytes.
        const MOST: u64 = 16 << 20;
        let path = path.as_ref();
        if !path.exists() {
            return Err(Error::Missing { path: path.display().to_string() });
        }
        let own = if path.is_dir() { None } else { Some(TensorFile::open(path)?) };
        if let Some(TensorFile::Gguf(gguf)) = own {
            return Ok(EncoderFiles::new(gguf.into(), None));
        }
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let beside = |folder: &Path, name: &str, limit: u64| {
            let file = folder.join(name);
            file.exists().then(|| read_small(&file, limit)).transpose()
        };
        let modules = beside(folder, "modules.json", MOST)?;
        let listed = modules.as_deref().map(|bytes| Modules::read("modules.json", bytes)).transpose()?;
        let pooling = match &listed {
            Some(modules) => Some(read_small(&folder.join(&modules.pooling).join("config.json"), MOST)?),
            None => None,
        };
        let network = match &listed {
            Some(modules) if path.is_dir() => folder.join(&modules.network),
            _ => folder.to_owned(),
        };
        let weights = own.map_or_else(|| TensorFile::open(&network), Ok)?;
        if matches!(weights, TensorFile::Gguf(_)) {
            return Ok(EncoderFiles::new(weights, None));
        }
        let mut sentence = None;
        for name in ["bert", "roberta", "xlm-roberta", "camembert"] {
            if sentence.is_none() {
                sentence = beside(&network, &format!("sentence_{name}_config.json"), MOST)?;
            }
        }
        Ok(EncoderFiles {
            weights,
            config: Some(read_small(&network.join("config.json"), MOST)?),
            modules,
            pooling,
            sentence,
            prompts: beside(folder, "config_sentence_transformers.json", MOST)?,
            tokenizer: beside(&network, "tokenizer.json", MOST_TOKENIZER)?,
            tokenizer_config: beside(&network, "tokenizer_config.json", MOST)?,
        })
    }
}
