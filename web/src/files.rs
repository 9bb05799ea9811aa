//! A model's files as JavaScript hands them over: the small ones whole, and the weights by range, whenever a piece of them is wanted.

use crate::failure::{self, Outcome};
use js_sys::{Promise, Uint8Array};
use lampyris::Source;
use lampyris::engine::weights::gguf::Gguf;
use lampyris::engine::weights::{FedFile, Feed, TensorFile, Wanted, Weights, WeightsError};
use lampyris::models::decoder::DecoderFiles;
use lampyris::models::encoder::EncoderFiles;
use lampyris::text_model::TextFiles;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    /// A file of the page's, wherever its bytes are.
    pub type RangedFile;

    #[wasm_bindgen(method, getter)]
    fn name(this: &RangedFile) -> String;

    #[wasm_bindgen(method, getter)]
    fn size(this: &RangedFile) -> f64;

    /// Promises a `Uint8Array` of the bytes from `start` to `end`, in a task of its own.
    #[wasm_bindgen(method, catch)]
    fn read(this: &RangedFile, start: f64, end: f64) -> Result<Promise, JsValue>;
}

/// Bytes that are taken over at once, each time in a task of its own; where a piece begins, a window of the page's begins or goes on.
const PIECE: u64 = 512 << 10;

/// The files of one model.
#[wasm_bindgen]
#[derive(Clone)]
pub struct Files {
    held: Rc<Held>,
}

struct Held {
    feed: Feed,
    files: Vec<RangedFile>,
    small: RefCell<BTreeMap<String, Vec<u8>>>,
    weights: RefCell<Option<TensorFile>>,
}

#[wasm_bindgen]
impl Files {
    /// Opens a safetensors or GGUF file, all parts of a GGUF file in their order, or the shards of an `index`. Only headers are read now.
    pub async fn open(files: Vec<RangedFile>, index: Option<Vec<u8>>) -> Outcome<Files> {
        let feed = Feed::new();
        let parts: Vec<_> = files.iter().map(|file| (file.name(), feed.file(file.size() as u64))).collect();
        let held = Held { feed: feed.clone(), files, small: RefCell::default(), weights: RefCell::default() };
        let files = Files { held: Rc::new(held) };
        let weights = files.fed(feed.until_there(|| join(&parts, index.as_deref()))).await?;
        let weights = weights.map_err(|error| failure::model(&error.into()))?;
        files.held.weights.replace(Some(weights));
        Ok(files)
    }

    /// Adds a small file, such as `config.json`.
    pub fn put(&self, name: String, bytes: Vec<u8>) {
        self.held.small.borrow_mut().insert(name, bytes);
    }
}

/// One model of its files.
fn join(parts: &[(String, FedFile)], index: Option<&[u8]>) -> Result<TensorFile, WeightsError> {
    let shard = |wanted: &str| match parts.iter().find(|(name, _)| name == wanted) {
        Some((name, file)) => Ok((name.clone(), Box::new(file.clone()) as _)),
        None => Err(WeightsError::NotFound { file: wanted.to_owned() }),
    };
    match (parts, index) {
        (_, Some(index)) => Weights::from_shards("model.safetensors.index.json", index, shard).map(TensorFile::from),
        ([(name, file)], None) => TensorFile::from_source(name, file.clone()),
        (parts, None) => {
            let sources = parts.iter().map(|(name, file)| (name.clone(), Box::new(file.clone()) as _));
            Gguf::from_parts(sources.collect()).map(TensorFile::from)
        }
    }
}

impl Files {
    /// Drives work that reads these files, fetching what it lacks. A failure to fetch is the result, whatever the work makes of it.
    pub(crate) async fn fed<T>(&self, work: impl Future<Output = T>) -> Outcome<T> {
        let feed = &self.held.feed;
        feed.reset();
        let mut work = pin!(work);
        let (mut fetching, mut cause) = (None, None);
        let done = std::future::poll_fn(|context| {
            loop {
                if let Poll::Ready(done) = work.as_mut().poll(context) {
                    return Poll::Ready(done);
                }
                if fetching.is_none() {
                    let Some(wanted) = feed.take_wanted() else { return Poll::Pending };
                    fetching = Some((wanted.clone(), Box::pin(self.fetch(wanted))));
                }
                let Some((wanted, bytes)) = &mut fetching else { return Poll::Pending };
                match bytes.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(bytes)) => feed.supply(wanted, bytes),
                    Poll::Ready(Err(thrown)) => {
                        feed.fail("the page could not fetch it".to_owned());
                        cause = Some(thrown);
                    }
                }
                fetching = None;
            }
        })
        .await;
        match cause {
            None => Ok(done),
            Some(thrown) => Err(thrown),
        }
    }

    async fn fetch(&self, wanted: Wanted) -> Outcome<Vec<u8>> {
        // The feed numbers files in the order in which they were handed over.
        let file = &self.held.files[wanted.file];
        let Range { start, end } = wanted.range;
        let mut bytes = Vec::with_capacity((end - start) as usize);
        let mut at = start;
        while at < end {
            let until = (at - at % PIECE + PIECE).min(end);
            let piece = JsFuture::from(file.read(at as f64, until as f64)?).await?.dyn_into::<Uint8Array>()?;
            let before = bytes.len();
            bytes.resize(before + piece.length() as usize, 0);
            piece.copy_to(&mut bytes[before..]);
            at = until;
        }
        Ok(bytes)
    }

    /// Lets go of what was read ahead.
    pub(crate) fn forget(&self) {
        self.held.feed.forget();
    }

    fn small(&self, name: &str) -> Option<Vec<u8>> {
        self.held.small.borrow().get(name).cloned()
    }

    pub(crate) fn weights(&self) -> Outcome<TensorFile> {
        let weights = self.held.weights.borrow().clone();
        weights.ok_or_else(|| failure::error("bad-file", "the weights were not opened"))
    }

    /// As a classifier takes them.
    pub(crate) fn vision(&self) -> Outcome<Source> {
        let weights: Weights = match self.weights()? {
            TensorFile::Safetensors(weights) => weights,
            other => {
                let message = format!("{} is no safetensors file, which a classifier's weights are", other.file());
                return Err(failure::error("bad-file", &message));
            }
        };
        let [config, preprocessor] = ["config.json", "preprocessor_config.json"].map(|name| self.small(name));
        Ok(Source::Files { weights, config, preprocessor })
    }

    /// As a language model takes them; the small ones are needed once.
    pub(crate) fn text(&self) -> Outcome<TextFiles> {
        let mut small = std::mem::take(&mut *self.held.small.borrow_mut());
        Ok(TextFiles {
            decoder: DecoderFiles { weights: self.weights()?, config: small.remove("config.json") },
            tokenizer: small.remove("tokenizer.json"),
            tokenizer_config: small.remove("tokenizer_config.json"),
            generation: small.remove("generation_config.json"),
        })
    }

    /// As a sentence encoder takes them.
    pub(crate) fn encoder(&self) -> Outcome<EncoderFiles> {
        let mut files = EncoderFiles::new(self.weights()?, self.small("config.json"));
        files.modules = self.small("modules.json");
        files.pooling = self.small("1_Pooling/config.json");
        files.sentence = self.small("sentence_bert_config.json");
        files.prompts = self.small("config_sentence_transformers.json");
        files.tokenizer = self.small("tokenizer.json");
        files.tokenizer_config = self.small("tokenizer_config.json");
        Ok(files)
    }
}
