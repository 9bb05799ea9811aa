//! A language model as a person meets it: text in, text out piece by piece, conversations.

mod batch;
#[cfg(feature = "text")]
mod chat;
mod choose;
mod driven;
mod files;

pub use batch::BatchAnswer;
pub use choose::Choice;
pub use driven::DrivenText;

#[cfg(not(target_arch = "wasm32"))]
use crate::decoder::DecoderConfig;
use crate::decoder::{Decoder, DecoderFiles, Sampling, Session, SessionOptions};
use crate::source::FilesFrom;
use crate::text::{GgufVocabulary, Tokenizer};
use crate::text_answer::Writing;
use crate::{Error, Result};
use lampyris_engine::Gpu;
use lampyris_engine::weights::TensorFile;
use std::sync::Arc;

pub use crate::text_answer::{AnswerOptions, Ending, TextGeneration, TextPieces};

/// A model's files.
#[derive(Debug, Clone)]
pub struct TextFiles {
    /// Weights and configuration.
    pub decoder: DecoderFiles,
    /// `tokenizer.json`, which a GGUF file does without.
    pub tokenizer: Option<Vec<u8>>,
    /// `tokenizer_config.json`, where there is one.
    pub tokenizer_config: Option<Vec<u8>>,
    /// `generation_config.json`, where there is one.
    pub generation: Option<Vec<u8>>,
}

impl TextFiles {
    /// The largest tokenizer file that is read, in bytes.
    #[cfg(not(target_arch = "wasm32"))]
    const MOST_TOKENIZER: u64 = 256 << 20;

    /// Opens a folder of Hugging Face's files, or a `.gguf` file.
    ///
    /// # Errors
    /// As [`DecoderFiles::open`]; [`Error::Unreadable`] for a file beside the weights.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<TextFiles> {
        let path = path.as_ref();
        let decoder = DecoderFiles::open(path)?;
        if matches!(decoder.weights, TensorFile::Gguf(_)) {
            return Ok(TextFiles::new(decoder.weights, None));
        }
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let beside = |name: &str| {
            let file = folder.join(name);
            file.exists().then(|| crate::source::read_small(&file, TextFiles::MOST_TOKENIZER)).transpose()
        };
        let json = folder.join("tokenizer.json");
        let tokenizer = match json.exists() {
            true => crate::source::read_small(&json, TextFiles::MOST_TOKENIZER),
            false => {
                let reason = "it is missing, and a tokenizer.model or a vocab.json alone is not read; save the tokenizer with transformers";
                Err(Error::Unreadable { path: json.display().to_string(), reason: reason.to_owned() })
            }
        };
        if tokenizer.is_err() {
            // A folder of another kind of model is better told so than that it has no tokenizer.
            DecoderConfig::read("config.json", decoder.config.as_deref().unwrap_or_default())?;
        }
        let files = TextFiles {
            decoder,
            tokenizer: Some(tokenizer?),
            tokenizer_config: beside("tokenizer_config.json")?,
            generation: beside("generation_config.json")?,
        };
        match beside(TextFiles::TEMPLATE)? {
            Some(template) => files.chat_template(template),
            None => Ok(files),
        }
    }
}

impl TextFiles {
    /// Weights and configuration, without the files beside them: all of a GGUF file, which does without a configuration too.
    pub fn new(weights: TensorFile, config: Option<Vec<u8>>) -> TextFiles {
        let decoder = DecoderFiles { weights, config };
        TextFiles { decoder, tokenizer: None, tokenizer_config: None, generation: None }
    }

    /// The vocabulary of a GGUF file, of which [`GgufTokenizer`](crate::text::GgufTokenizer) makes the tokenizer in steps; of other files none.
    ///
    /// # Errors
    /// [`Error::Text`] for a vocabulary that cannot be read.
    pub fn vocabulary(&self) -> Result<Option<GgufVocabulary>> {
        match &self.decoder.weights {
            TensorFile::Gguf(gguf) => Ok(Some(GgufVocabulary::read(gguf)?)),
            _ => Ok(None),
        }
    }

    /// The tokenizer, and the tokens that end an answer, as far as the files say.
    ///
    /// # Errors
    /// [`Error::Text`] for the tokenizer; as [`TextFiles::ends`].
    pub fn read_tokenizer(&self) -> Result<(Tokenizer, Vec<u32>)> {
        if let Some(vocabulary) = self.vocabulary()? {
            let ends = vocabulary.ends();
            return Ok((Tokenizer::from_gguf(vocabulary)?, ends));
        }
        let (json, beside) = (self.tokenizer.as_deref().unwrap_or_default(), self.tokenizer_config.as_deref());
        Ok((Tokenizer::from_json(json, beside)?, self.ends()?))
    }
}

/// A language model with its tokenizer and its chat template. Cheap to clone; clones share the weights.
#[derive(Debug, Clone)]
pub struct TextModel {
    decoder: Decoder,
    tokenizer: Tokenizer,
    #[cfg(feature = "text")]
    template: Arc<Result<crate::text::ChatTemplate, crate::text::TextError>>,
    stops: Arc<Vec<u32>>,
    /// What a turn begins with, before which an answer in a conversation ends, where no token ends one.
    #[cfg(feature = "text")]
    turn: Option<&'static str>,
    sampling: Option<Sampling>,
}

impl TextModel {
    /// Loads a folder of Hugging Face's files or a `.gguf` file, by its path or from memory: the weights go to the device.
    ///
    /// ```no_run
    /// # async fn load(gpu: &lampyris_engine::Gpu, bytes: Vec<u8>) -> lampyris_models::Result<()> {
    /// use lampyris_engine::weights::gguf::Gguf;
    /// use lampyris_models::TextModel;
    /// let here = TextModel::load(gpu, "Qwen3-0.6B-Q4_K_M.gguf").await?;
    /// let there = TextModel::load(gpu, Gguf::from_bytes("npc.gguf", bytes)?).await?; // or `TextFiles` with a folder's files
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Whatever is wrong with the files, with the file, tensor or key; [`Error::Engine`] when the device cannot take the weights.
    pub async fn load(gpu: &Gpu, source: impl Into<FilesFrom<TextFiles>>) -> Result<TextModel> {
        let files = match source.into() {
            #[cfg(not(target_arch = "wasm32"))]
            FilesFrom::Path(path) => TextFiles::open(path)?,
            FilesFrom::Memory(files) => files,
        };
        TextModel::load_with(gpu, files, |_, _| ()).await
    }

    /// As [`TextModel::load`], from files in hand, telling `progress` the bytes of weights that have arrived, and all of them.
    ///
    /// # Errors
    /// As [`TextModel::load`].
    pub async fn load_with(gpu: &Gpu, files: TextFiles, progress: impl FnMut(u64, u64)) -> Result<TextModel> {
        let model = TextModel::new(gpu, files)?;
        model.decoder.load(progress).await?;
        Ok(model)
    }

    /// Checks the files; the weights go to the device with the first session.
    ///
    /// # Errors
    /// As [`Decoder::new`]; [`Error::Text`] for the tokenizer, and when it has more tokens than the model has embeddings.
    pub fn new(gpu: &Gpu, files: TextFiles) -> Result<TextModel> {
        let read = files.read_tokenizer()?;
        TextModel::with_tokenizer(gpu, files, read)
    }

    /// As [`TextModel::new`], with what [`TextFiles::read_tokenizer`], or [`GgufTokenizer`](crate::text::GgufTokenizer) step by step, gave: whoever must not be kept long does other things between.
    ///
    /// # Errors
    /// As [`TextModel::new`].
    pub fn with_tokenizer(gpu: &Gpu, files: TextFiles, (tokenizer, stops): (Tokenizer, Vec<u32>)) -> Result<TextModel> {
        let sampling = match (&files.decoder.weights, files.generation.as_deref()) {
            (TensorFile::Gguf(gguf), _) => Sampling::of_gguf(gguf)?,
            (_, Some(bytes)) => Sampling::of_generation_config(bytes)?,
            (_, None) => None,
        };
        let decoder = Decoder::new(gpu, files.decoder)?;
        let tokenizer = tokenizer.within(decoder.config().vocabulary)?;
        #[cfg(feature = "text")]
        let template = crate::text::ChatTemplate::of(&tokenizer);
        let written = tokenizer.template_source(None);
        // Without one ChatML may stand in, and ends turns as it does.
        #[cfg(feature = "text")]
        let written = written.or(template.is_ok().then_some(crate::text::ChatFormat::ChatMl.source()));
        Ok(TextModel {
            decoder,
            #[cfg(feature = "text")]
            template: Arc::new(template),
            stops: Arc::new(tokenizer.with_ends(stops, written)),
            tokenizer,
            #[cfg(feature = "text")]
            turn: None,
            sampling,
        })
    }

    /// The same model on another device, such as the one that is opened after a loss; the tokenizer is shared, and the weights go there
    /// with the first session.
    #[must_use]
    pub fn on(&self, gpu: &Gpu) -> TextModel {
        TextModel { decoder: self.decoder.on(gpu), ..self.clone() }
    }

    /// The network.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens that end an answer.
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// How the model's files recommend to choose tokens: `generation_config.json`, or a GGUF file's `general.sampling.*`. `None` where
    /// they say nothing of it.
    pub fn sampling(&self) -> Option<Sampling> {
        self.sampling
    }

    /// A session; a number alone is the tokens it has room for.
    ///
    /// # Errors
    /// As [`Decoder::session`].
    pub async fn session(&self, options: impl Into<SessionOptions>) -> Result<TextSession> {
        Ok(TextSession { model: self.clone(), session: self.decoder.session(options).await? })
    }

    /// A session as it was saved, with the room of `options`.
    ///
    /// # Errors
    /// As [`Decoder::restore`].
    pub async fn restore(&self, saved: &[u8], options: impl Into<SessionOptions>) -> Result<TextSession> {
        Ok(TextSession { model: self.clone(), session: self.decoder.restore(saved, options).await? })
    }
}

/// A text or a conversation under way.
#[derive(Debug)]
pub struct TextSession {
    model: TextModel,
    session: Session,
}

impl TextSession {
    /// The model.
    pub fn model(&self) -> &TextModel {
        &self.model
    }

    /// The tokens so far and what they take.
    pub fn tokens(&self) -> &Session {
        &self.session
    }

    /// The same, to be changed: to feed tokens, or to have one of them recorded into a host's frame ([`Session::record_step`]). What text
    /// comes next goes on from whatever tokens there are.
    pub fn tokens_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// A session of its own that holds the same, copied on the device; it takes [`Session::bytes`] more.
    ///
    /// # Errors
    /// As [`Session::fork`].
    pub async fn fork(&self) -> Result<TextSession> {
        Ok(TextSession { model: self.model.clone(), session: self.session.fork().await? })
    }

    /// What [`TextModel::restore`] goes on from, in this program or a later one.
    ///
    /// # Errors
    /// As [`Session::save`].
    pub async fn save(&self) -> Result<Vec<u8>> {
        self.session.save().await
    }

    /// Forgets the tokens so far, and with them what was computed of them.
    pub fn reset(&mut self) {
        self.session.rewind(0);
    }

    /// Takes tokens away from the end, down to `tokens` of them: with a length that [`TextSession::tokens`] had before an answer, that
    /// answer and what was asked. What is kept need not be computed again.
    pub fn rewind(&mut self, tokens: usize) {
        self.session.rewind(tokens);
    }

    /// Goes on from the tokens so far, without a new prompt: with an answer that was cut short, or as far as [`TextSession::rewind`] left.
    /// By the likeliest tokens unless `options` say otherwise.
    ///
    /// # Errors
    /// [`Error::Context`] when there is no token to go on from; as [`TextSession::generate`].
    pub async fn resume(&mut self, options: impl Into<AnswerOptions>) -> Result<TextGeneration<'_>> {
        let ids = self.session.tokens().to_vec();
        self.continue_from(&ids, options.into(), Sampling::greedy(), false).await
    }

    /// Begins anew with `prompt` and continues it, by the likeliest tokens unless `options` say otherwise. The prompt is a document:
    /// the tokens that the model wants at its beginning are added, and what looks like a special token in it is plain text.
    ///
    /// # Errors
    /// [`Error::Sampling`] for an option without meaning; [`Error::Text`] from the tokenizer; as [`Session::feed`].
    pub async fn generate(&mut self, prompt: &str, options: impl Into<AnswerOptions>) -> Result<TextGeneration<'_>> {
        let ids = self.model.tokenizer.encode_prompt(prompt)?;
        self.continue_from(&ids, options.into(), Sampling::greedy(), false).await
    }

    async fn continue_from(
        &mut self,
        ids: &[u32],
        options: AnswerOptions,
        otherwise: Sampling,
        opens_thought: bool,
    ) -> Result<TextGeneration<'_>> {
        options.check()?;
        let context = self.session.context();
        if ids.len() > context && self.session.slides().is_none() {
            return Err(Error::Context { tokens: ids.len(), context });
        }
        let shared = self.session.tokens().iter().zip(ids).take_while(|(a, b)| a == b).count();
        self.session.rewind(shared);
        self.session.feed(&ids[shared..]).await?;
        let stream = self.model.tokenizer.stream_continuing();
        let writing = Writing::new(stream, self.model.stops.clone(), options.stops);
        let tokens = self.session.sample(options.most, &options.sampling.unwrap_or(otherwise))?;
        Ok(TextGeneration { tokens, writing, ids: Vec::new(), opens_thought })
    }
}
