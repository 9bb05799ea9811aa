//! A sentence encoder as a person meets it: texts in, vectors out.

use super::{Embedding, EncoderFiles, EncoderOptions, TokenEncoder};
use crate::json::{self, Object};
use crate::source::FilesFrom;
use crate::text::{GgufVocabulary, Tokenizer};
use crate::{Error, Result};
use lampyris_engine::Gpu;
use lampyris_engine::gpu::CommandEncoder;
use lampyris_engine::weights::TensorFile;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A model that makes of each text one vector. Cheap to clone; clones share the weights.
///
/// ```no_run
/// # async fn near(gpu: &lampyris_engine::Gpu) -> lampyris_models::Result<()> {
/// use lampyris_models::encoder::{Encoder, cosine};
/// let encoder = Encoder::load(gpu, "all-MiniLM-L6-v2/").await?;
/// let vectors = encoder.embed(["a cat on the roof", "a feline above the house"]).await?;
/// println!("{:.2}", cosine(&vectors[0], &vectors[1]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Encoder {
    inner: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    network: TokenEncoder,
    tokenizer: Tokenizer,
    settings: Settings,
    /// Tokens of a text at most, those around it included.
    most: usize,
}

/// What the files say of texts.
#[derive(Debug, Default, PartialEq)]
struct Settings {
    most: Option<usize>,
    lower: bool,
    prompts: BTreeMap<String, String>,
    usual_prompt: Option<String>,
}

impl Settings {
    /// Reads `sentence_bert_config.json`, `config_sentence_transformers.json` and the length that `tokenizer_config.json` names.
    fn read(files: &EncoderFiles) -> Result<Settings> {
        let mut settings = Settings::default();
        if let Some(bytes) = &files.tokenizer_config {
            let map = json::parse("tokenizer_config.json", bytes)?;
            // A model without a limit has 1e30 here.
            let most = map.get("model_max_length").and_then(serde_json::Value::as_f64);
            settings.most = most.filter(|most| (1.0..1e9).contains(most)).map(|most| most as usize);
        }
        if let Some(bytes) = &files.sentence {
            let file = "sentence_bert_config.json";
            let map = json::parse(file, bytes)?;
            let top = Object::top(file, &map);
            let most =
                top.count("max_seq_length", |v| (1..=1 << 24).contains(&v), "a whole number from 1 to 16777216")?;
            settings.most = most.map(|most| most as usize).or(settings.most);
            settings.lower = top.flag("do_lower_case")?.unwrap_or(false);
        }
        if let Some(bytes) = &files.prompts {
            let file = "config_sentence_transformers.json";
            let map = json::parse(file, bytes)?;
            let top = Object::top(file, &map);
            for (name, value) in top.object("prompts")?.into_iter().flat_map(Object::entries) {
                let Some(prompt) = value.as_str() else {
                    return Err(top.wrong("prompts", value, "a text for each name"));
                };
                settings.prompts.insert(name.to_owned(), prompt.to_owned());
            }
            if let Some(name) = top.text("default_prompt_name")? {
                let Some(prompt) = settings.prompts.get(name) else {
                    return Err(top.wrong("default_prompt_name", &name.into(), "the name of one of its prompts"));
                };
                settings.usual_prompt = Some(prompt.clone());
            }
        }
        Ok(settings)
    }
}

impl Encoder {
    /// Loads a folder as sentence-transformers or transformers write it, or a `.gguf` file, by its path or from memory
    /// ([`EncoderFiles`], [`Gguf`](lampyris_engine::weights::gguf::Gguf)): the weights go to the device, and the kernels are compiled.
    ///
    /// # Errors
    /// Whatever is wrong with the files, with the file, tensor or key; [`Error::Engine`] when the device cannot take it.
    pub async fn load(gpu: &Gpu, source: impl Into<FilesFrom<EncoderFiles>>) -> Result<Encoder> {
        let files = match source.into() {
            #[cfg(not(target_arch = "wasm32"))]
            FilesFrom::Path(path) => EncoderFiles::open(path)?,
            FilesFrom::Memory(files) => files,
        };
        Encoder::load_with(gpu, files, EncoderOptions::default(), |_, _| ()).await
    }

    /// As [`Encoder::load`], from files in hand, with options, telling `progress` the bytes of weights that have arrived, and all of
    /// them.
    ///
    /// # Errors
    /// As [`Encoder::load`].
    pub async fn load_with(
        gpu: &Gpu,
        files: EncoderFiles,
        options: EncoderOptions,
        progress: impl FnMut(u64, u64),
    ) -> Result<Encoder> {
        let encoder = Encoder::new(gpu, files, options)?;
        encoder.inner.network.load(progress).await?;
        Ok(encoder)
    }

    /// Checks the files; the weights go to the device with the first texts.
    ///
    /// # Errors
    /// As [`TokenEncoder::new`]; [`Error::NoTokenizer`]; [`Error::Text`] when it cannot be used, or has more
    /// tokens than the network has embeddings.
    pub fn new(gpu: &Gpu, files: EncoderFiles, options: EncoderOptions) -> Result<Encoder> {
        let tokenizer = match (&files.weights, &files.tokenizer) {
            (TensorFile::Gguf(gguf), _) => Tokenizer::from_gguf(GgufVocabulary::read(gguf)?)?,
            (_, Some(tokenizer)) => Tokenizer::from_json(tokenizer, files.tokenizer_config.as_deref())?,
            (weights, None) => return Err(Error::NoTokenizer { model: weights.file().to_owned() }),
        };
        let settings = Settings::read(&files)?;
        let network = TokenEncoder::new(gpu, files, options)?;
        let tokenizer = tokenizer.within(network.config().vocabulary)?;
        let context = network.config().context;
        let most = settings.most.map_or(context, |most| most.min(context));
        let (before, after) = tokenizer.affixes();
        if before.len() + after.len() > most {
            return Err(Error::Context { tokens: before.len() + after.len(), context: most });
        }
        Ok(Encoder { inner: Arc::new(Parts { network, tokenizer, settings, most }) })
    }

    /// The embedding of each text, with the prompt that the model's files put before every text if they name one. Texts of any
    /// number share runs of bounded size; what a text has beyond [`Encoder::max_tokens`] does not count.
    ///
    /// # Errors
    /// [`Error::Text`] from the tokenizer; [`Error::NotFinite`] when an embedding has values that are no numbers; [`Error::Engine`] from
    /// the device.
    pub async fn embed<T: AsRef<str>>(&self, texts: impl IntoIterator<Item = T>) -> Result<Vec<Vec<f32>>> {
        self.embed_after(self.inner.settings.usual_prompt.as_deref().unwrap_or_default(), texts).await
    }

    /// As [`Encoder::embed`], with the prompt of this name from the model's files before each text.
    ///
    /// # Errors
    /// As [`Encoder::embed`]; [`Error::Prompt`] when there is none of this name.
    pub async fn embed_as<T: AsRef<str>>(
        &self,
        prompt: &str,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Vec<f32>>> {
        let prompts = &self.inner.settings.prompts;
        let Some(before) = prompts.get(prompt) else {
            let known = prompts.keys().map(|name| crate::error::shown(name)).collect();
            return Err(Error::Prompt { name: prompt.to_owned(), known });
        };
        self.embed_after(before, texts).await
    }

    async fn embed_after<T: AsRef<str>>(
        &self,
        prompt: &str,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Vec<f32>>> {
        let ids = |text: T| match prompt {
            "" => self.ids(text.as_ref()),
            prompt => self.ids(&format!("{prompt}{}", text.as_ref())),
        };
        let ids = texts.into_iter().map(ids).collect::<Result<Vec<_>>>()?;
        self.inner.network.embed(&ids).await
    }

    /// Records the embedding of a text into a host's encoder, with the prompt that the model's files put before every text if they name
    /// one; see [`TokenEncoder::record`].
    ///
    /// # Errors
    /// [`Error::Text`] from the tokenizer; as [`TokenEncoder::record`].
    pub fn record(&self, encoder: &mut CommandEncoder, text: &str) -> Result<Embedding> {
        let ids = match self.inner.settings.usual_prompt.as_deref() {
            None | Some("") => self.ids(text)?,
            Some(prompt) => self.ids(&format!("{prompt}{text}"))?,
        };
        self.inner.network.record(encoder, &ids)
    }

    /// The tokens of a text with those that belong around it, cut to [`Encoder::max_tokens`]. Special tokens that are spelled out in
    /// a text are recognized, as where such models were trained.
    ///
    /// # Errors
    /// [`Error::Text`] when the vocabulary cannot spell the text.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = &self.inner.tokenizer;
        let (before, after) = tokenizer.affixes();
        let mut ids = if self.inner.settings.lower {
            tokenizer.encode(&text.to_lowercase(), true)?
        } else {
            tokenizer.encode(text, true)?
        };
        ids.truncate(self.inner.most - before.len() - after.len());
        Ok([before, &ids, after].concat())
    }

    /// Values of an embedding.
    pub fn dimension(&self) -> usize {
        self.inner.network.dimension()
    }

    /// Tokens of a text that count, those around it included.
    pub fn max_tokens(&self) -> usize {
        self.inner.most
    }

    /// What the model's files put before texts, by its name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        &self.inner.settings.prompts
    }

    /// The network.
    pub fn network(&self) -> &TokenEncoder {
        &self.inner.network
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }
}
