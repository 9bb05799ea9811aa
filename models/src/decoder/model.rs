//! A decoder with its weights on a device, ready for sessions.

use super::network::{self, Head, PlanRequest};
use super::weights::Tensors;
use super::{CacheFormat, DecoderConfig, Session, SessionOptions};
use crate::{Error, Result};
use lampyris_engine::gpu::{ConstantStore, States};
use lampyris_engine::weights::TensorFile;
use lampyris_engine::{Executor, Gpu, Plan};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes of a constant where the file is not here but fetched by range.
const FED_BYTES: u64 = 16 << 20;

/// A decoder's files.
#[derive(Debug, Clone)]
pub struct DecoderFiles {
    /// The weights: Hugging Face's tensors, or a GGUF file.
    pub weights: TensorFile,
    /// `config.json`, which a GGUF file does without.
    pub config: Option<Vec<u8>>,
}

impl DecoderFiles {
    /// Opens a folder with `config.json` and the weights in one or several `.safetensors` files, or a `.gguf` file.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Unreadable`] with the path; [`Error::Weights`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<DecoderFiles> {
        let path = path.as_ref();
        if !path.exists() {
            return Err(Error::Missing { path: path.display().to_string() });
        }
        let weights = TensorFile::open(path)?;
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let config = match weights {
            TensorFile::Gguf(_) => None,
            _ => Some(crate::source::read_small(&folder.join("config.json"), 16 << 20)?),
        };
        Ok(DecoderFiles { weights, config })
    }
}

/// A model that continues a text token by token. Cheap to clone; clones share the weights.
#[derive(Debug, Clone)]
pub struct Decoder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    gpu: Gpu,
    tensors: Tensors,
    store: ConstantStore,
    plans: Mutex<HashMap<PlanRequest, Arc<Plan>>>,
}

impl Decoder {
    /// Most tokens of a prompt that one run takes.
    pub const CHUNK: usize = 32;

    /// Checks the files; the weights go to the device with the first session.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Unsupported`] for the configuration; [`Error::Incomplete`] for the weights.
    pub fn new(gpu: &Gpu, files: DecoderFiles) -> Result<Decoder> {
        let config = match &files.weights {
            TensorFile::Gguf(gguf) => DecoderConfig::of_gguf(gguf)?,
            _ => DecoderConfig::read("config.json", files.config.as_deref().unwrap_or_default())?,
        };
        let tensors = Tensors::new(files.weights, config)?;
        let store = ConstantStore::fed_by(tensors.feed());
        let inner = Inner { gpu: gpu.clone(), tensors, store, plans: Mutex::default() };
        Ok(Decoder { inner: Arc::new(inner) })
    }

    /// The same model on another device; the weights go there with the first session.
    #[must_use]
    pub fn on(&self, gpu: &Gpu) -> Decoder {
        let tensors = self.inner.tensors.clone();
        let store = ConstantStore::fed_by(tensors.feed());
        let inner = Inner { gpu: gpu.clone(), tensors, store, plans: Mutex::default() };
        Decoder { inner: Arc::new(inner) }
    }

    /// The description.
    pub fn config(&self) -> &DecoderConfig {
        self.inner.tensors.config()
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.inner.gpu
    }

    /// Bytes of weights on the device, once whatever the number of sessions.
    pub fn weight_bytes(&self) -> u64 {
        self.inner.store.bytes()
    }

    /// The plan of a run.
    ///
    /// # Errors
    /// [`Error::Engine`] when a kernel refuses a shape.
    pub fn plan(&self, request: PlanRequest) -> Result<Arc<Plan>> {
        let plans = || self.inner.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans().get(&request) {
            return Ok(plan.clone());
        }
        let caps = self.inner.gpu.caps();
        let limit = caps.max_binding_bytes.min(caps.max_buffer_bytes);
        // Where the file is fetched piece by piece, no more than a piece and its panel is in memory at once.
        let limit = if self.inner.tensors.feed().is_some() { limit.min(FED_BYTES) } else { limit };
        let plan = Arc::new(network::plan(&self.inner.tensors, request, limit)?);
        plans().insert(request, plan.clone());
        Ok(plan)
    }

    /// An empty session; a number alone is the tokens it has room for.
    ///
    /// # Errors
    /// [`Error::Context`] when the model was not made for so many; [`Error::Engine`] when the device cannot hold it, with the
    /// figures and before anything is allocated, or when the cache cannot be stored as `options` ask.
    pub async fn session(&self, options: impl Into<SessionOptions>) -> Result<Session> {
        let options = options.into();
        let context = self.room(&options)?;
        let [prefill, decode, draw] = self.plans(context, options.cache)?;
        let states = States::new(&self.inner.gpu, &[&prefill, &decode, &draw]).await?;
        self.session_on(SessionOptions { context: Some(context), ..options }, states).await
    }

    /// The tokens that a session with `options` has room for.
    pub(super) fn room(&self, options: &SessionOptions) -> Result<usize> {
        let most = self.config().context;
        let context = options.context.unwrap_or(most.min(SessionOptions::USUAL_CONTEXT));
        if context == 0 || context > most {
            return Err(Error::Context { tokens: context, context: most });
        }
        Ok(context)
    }

    /// The plans of a chunk of a prompt, and of a token that is the likeliest or drawn.
    pub(super) fn plans(&self, context: usize, cache: CacheFormat) -> Result<[Arc<Plan>; 3]> {
        let request = |tokens: usize, head: Head| self.plan(PlanRequest { context, cache, tokens, head });
        let chunk = request(Decoder::CHUNK.min(context), Head::None)?;
        Ok([chunk, request(1, Head::Sample)?, request(1, Head::Draw)?])
    }

    /// Name and words a token of each state that holds keys or values.
    pub(super) fn caches(&self, context: usize, cache: CacheFormat) -> Result<Vec<(String, usize)>> {
        let [_, decode, _] = self.plans(context, cache)?;
        let caches = decode.states.iter().filter(|state| state.desc.shape.len() == 3);
        Ok(caches.map(|state| (state.name.clone(), state.desc.words() / context)).collect())
    }

    /// The gain of the norm before the head, as the file has it.
    pub(super) fn last_gain(&self) -> Result<Vec<f32>> {
        self.inner.tensors.last_gain_values()
    }

    /// A session on states that are there.
    pub(super) async fn session_on(&self, options: SessionOptions, states: States) -> Result<Session> {
        let context = self.room(&options)?;
        let [prefill, decode, _] = self.plans(context, options.cache)?;
        let prefill = self.executor(prefill, &states).await?;
        let decode = self.executor(decode, &states).await?;
        Ok(Session::new(self.clone(), (context, options), prefill, decode, states))
    }

    /// A plan of this model ready to run on `states`.
    ///
    /// # Errors
    /// [`Error::Engine`] when the device cannot hold it.
    pub async fn executor(&self, plan: Arc<Plan>, states: &States) -> Result<Executor> {
        let (gpu, store) = (&self.inner.gpu, &self.inner.store);
        Ok(Executor::with_states(gpu, plan, store, states, |_| ()).await?)
    }
}
