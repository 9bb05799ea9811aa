//! Language models for JavaScript: text in, pieces of text out, one promise at a time.

use crate::breath::breathe;
use crate::device::Device;
use crate::failure::{self, Outcome};
use crate::files::Files;
use js_sys::{Function, Promise};
use lampyris::Sampling;
use lampyris::models::decoder::SessionOptions;
use lampyris::models::text::{GgufTokenizer, Tokenizer};
use lampyris::text_model::{AnswerOptions, TextFiles, TextModel, TextSession};
use serde_json::{Value, json};
use std::cell::RefCell;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// A language model, which goes on on another device after its own was lost.
#[wasm_bindgen]
pub struct Text {
    files: Files,
    context: Option<usize>,
    model: TextModel,
    /// What the last generation left, whose keys and values may serve the next one.
    idle: RefCell<Option<TextSession>>,
}

#[wasm_bindgen]
impl Text {
    /// Loads a decoder with its tokenizer, and makes room for `context` tokens, or for as many as the model usually gets. `breath` is
    /// called between pieces of work and promises to be back when the page has had its turn.
    pub async fn load(device: &Device, files: &Files, context: Option<usize>, breath: Function) -> Outcome<Text> {
        let gpu = device.alive().await?;
        let of = files.text()?;
        breathe(&breath).await?;
        let read = tokenizer(&of, &breath).await?;
        breathe(&breath).await?;
        let model = TextModel::with_tokenizer(&gpu, of, read).map_err(|error| failure::model(&error))?;
        breathe(&breath).await?;
        let text = Text { files: files.clone(), context, model, idle: RefCell::new(None) };
        let session = text.session().await?;
        text.idle.replace(Some(session));
        Ok(text)
    }

    /// What the model is, as JSON.
    pub fn summary(&self) -> String {
        let model = &self.model;
        let config = model.decoder().config();
        json!({
            "type": config.model_type,
            "vocabulary": config.vocabulary,
            "context": self.context.unwrap_or(config.context),
            "weightBytes": model.decoder().weight_bytes(),
        })
        .to_string()
    }

    /// The ids of a text that goes on, as [`Text::generate`] feeds it: what the model wants at its beginning is put there.
    pub fn encode(&self, text: &str) -> Outcome<Vec<u32>> {
        self.model.tokenizer().encode_prompt(text).map_err(|error| failure::model(&error.into()))
    }

    /// Continues `prompt` as the JSON of `options` says and hands each piece of text to `emit`, which answers (or promises) whether
    /// to go on. Gives the tokens.
    ///
    /// When the device is lost meanwhile, it goes on on another one, step for step as before, so with the same tokens.
    pub async fn generate(&self, prompt: String, options: &str, emit: Function) -> Outcome<Vec<u32>> {
        let options = read(options)?;
        let mut session = self.session().await?;
        let run = self.files.fed(self.run(&mut session, &prompt, options, &emit)).await;
        // What a lost device made it read again.
        self.files.forget();
        match run? {
            Err(Stop::Model(error)) => Err(failure::model(&error)),
            Err(Stop::Page(thrown)) => Err(thrown),
            Ok(ids) => {
                self.idle.replace(Some(session));
                Ok(ids)
            }
        }
    }
}

/// Why a generation ended early.
enum Stop {
    /// The model or the device.
    Model(lampyris::Error),
    /// What the page's own function threw.
    Page(JsValue),
}

impl Text {
    /// The last session, or a new one.
    async fn session(&self) -> Outcome<TextSession> {
        if let Some(session) = self.idle.take() {
            return Ok(session);
        }
        let mut options = SessionOptions::default();
        if let Some(context) = self.context {
            options = options.context(context);
        }
        let session = self.files.fed(self.model.session(options)).await?;
        self.files.forget();
        session.map_err(|error| failure::model(&error))
    }

    async fn run(
        &self,
        session: &mut TextSession,
        prompt: &str,
        options: AnswerOptions,
        emit: &Function,
    ) -> Result<Vec<u32>, Stop> {
        let mut generation = session.generate(prompt, options).await.map_err(Stop::Model)?;
        while let Some(piece) = generation.next().await.map_err(Stop::Model)? {
            let answer: JsValue = emit.call1(&JsValue::NULL, &JsValue::from(piece)).map_err(Stop::Page)?;
            let go_on: JsValue = JsFuture::from(Promise::resolve(&answer)).await.map_err(Stop::Page)?;
            if !go_on.is_truthy() {
                break;
            }
        }
        Ok(generation.ids().to_vec())
    }
}

/// The tokenizer, and the tokens that end an answer; that of a GGUF file in steps.
async fn tokenizer(of: &TextFiles, breath: &Function) -> Outcome<(Tokenizer, Vec<u32>)> {
    let wrong = |error: lampyris::models::text::TextError| failure::model(&error.into());
    let Some(vocabulary) = of.vocabulary().map_err(|error| failure::model(&error))? else {
        return of.read_tokenizer().map_err(|error| failure::model(&error));
    };
    breathe(breath).await?;
    let ends = vocabulary.ends();
    let begun = GgufTokenizer::new(vocabulary).map_err(wrong)?;
    breathe(breath).await?;
    Ok((begun.finish().map_err(wrong)?, ends))
}

/// The options of a generation: what is absent is as the library has it.
fn read(options: &str) -> Outcome<AnswerOptions> {
    let refused = |what: &str| failure::error("bad-input", &format!("the option {what} makes no sense here"));
    let options: Value = serde_json::from_str(options).map_err(|_| refused("object"))?;
    let number = |name: &str| match options.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| refused(name)),
    };
    let mut answer = AnswerOptions::new(number("maxTokens")?.unwrap_or(128.0) as usize);
    let mut sampling = Sampling::greedy();
    let mut chosen = false;
    let mut set = |name: &str, put: fn(&mut Sampling, f64)| -> Outcome<()> {
        if let Some(value) = number(name)? {
            put(&mut sampling, value);
            chosen = true;
        }
        Ok(())
    };
    set("temperature", |sampling, value| sampling.temperature = value as f32)?;
    set("topK", |sampling, value| sampling.top_k = value as u32)?;
    set("topP", |sampling, value| sampling.top_p = value as f32)?;
    set("minP", |sampling, value| sampling.min_p = value as f32)?;
    set("repetitionPenalty", |sampling, value| sampling.repetition_penalty = value as f32)?;
    set("seed", |sampling, value| sampling.seed = value as u64)?;
    if chosen {
        answer = answer.sampling(sampling);
    }
    for stop in options.get("stop").and_then(Value::as_array).into_iter().flatten() {
        answer = answer.stop(stop.as_str().ok_or_else(|| refused("stop"))?);
    }
    Ok(answer)
}
