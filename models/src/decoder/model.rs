//! A decoder with its weights on a device, ready for sessions.

use super::network::{self, Head, PlanRequest};
use super::plans::{SessionPlans, is_memory};
use super::weights::Tensors;
use super::{CacheFormat, DecoderConfig, Products, Session, SessionOptions, batch};
use crate::{Error, Result};
use lampyris_engine::gpu::{ConstantStore, States, WarmJob};
use lampyris_engine::kernels::Caps;
use lampyris_engine::plan::Constant;
use lampyris_engine::weights::TensorFile;
use lampyris_engine::{Executor, Gpu, Plan};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
    plans: Mutex<Plans>,
    /// What tells the weights from others, once somebody has asked.
    fingerprint: OnceLock<String>,
}

/// The plans made so far, for devices that can do this.
#[derive(Debug, Default)]
struct Plans {
    caps: Option<Caps>,
    made: HashMap<PlanRequest, Arc<Plan>>,
}

impl Decoder {
    /// Most tokens of a prompt that a small run takes, as the rest of one; larger ones take up to [`SessionOptions::chunk`].
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
        let inner = Inner { gpu: gpu.clone(), tensors, store, plans: Mutex::default(), fingerprint: OnceLock::new() };
        Ok(Decoder { inner: Arc::new(inner) })
    }

    /// The same model on another device; the weights go there with the first session.
    #[must_use]
    pub fn on(&self, gpu: &Gpu) -> Decoder {
        let tensors = self.inner.tensors.clone();
        let store = ConstantStore::fed_by(tensors.feed());
        let inner = Inner { gpu: gpu.clone(), tensors, store, plans: Mutex::default(), fingerprint: OnceLock::new() };
        Decoder { inner: Arc::new(inner) }
    }

    /// The description.
    pub fn config(&self) -> &DecoderConfig {
        self.inner.tensors.config()
    }

    /// The device that it was made for; [`Gpu::current`] of it is the one that has taken its place, if one has.
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
        let gpu = self.inner.gpu.current();
        let plans = || {
            let mut plans = self.inner.plans.lock().unwrap_or_else(PoisonError::into_inner);
            if plans.caps.as_ref() != Some(gpu.caps()) {
                *plans = Plans { caps: Some(gpu.caps().clone()), made: HashMap::new() };
            }
            plans
        };
        if let Some(plan) = plans().made.get(&request) {
            return Ok(plan.clone());
        }
        let plan = Arc::new(network::plan(&self.inner.tensors, request, self.limit(), gpu.caps())?);
        plans().made.insert(request, plan.clone());
        Ok(plan)
    }

    /// The plan of one token for each of so many sessions with room for `context` and such a cache, on their states as [`States::joined`]
    /// calls them, those of the first `0`; [`Decoder::together`] runs it. The outputs of `head` are those of the first session, then the next.
    ///
    /// # Errors
    /// [`Error::Engine`] when a kernel refuses a shape.
    pub fn plan_together(&self, sequences: usize, context: usize, cache: CacheFormat, head: Head) -> Result<Plan> {
        let gpu = self.inner.gpu.current();
        batch::plan((&self.inner.tensors, gpu.caps()), sequences, (context, cache), head, self.limit())
    }

    /// [`Tensors::limit`] of the device.
    fn limit(&self) -> u64 {
        self.inner.tensors.limit(self.inner.gpu.current().caps())
    }

    /// Whether both share their weights.
    pub(super) fn is(&self, other: &Decoder) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Brings the weights to the device; `progress` is told the bytes that have arrived, and all of them. Without it they go there with
    /// the first session.
    ///
    /// # Errors
    /// [`Error::Engine`] when the device cannot take them, before anything is allocated where that is known.
    pub async fn load(&self, mut progress: impl FnMut(u64, u64)) -> Result<()> {
        match self.load_there(&mut progress).await {
            Err(error) if error.is_device_lost() && self.inner.gpu.reopens() => self.load_there(&mut progress).await,
            loaded => loaded,
        }
    }

    async fn load_there(&self, mut progress: impl FnMut(u64, u64)) -> Result<()> {
        let gpu = self.inner.gpu.alive().await?;
        let options = SessionOptions::default();
        let decode = self.plan_of(self.room(&options)?, &options, 1, Head::Sample)?;
        // How positions turn is a table for each context, and belongs to a session.
        let weights = decode.constants.iter().filter(|it| !it.name.starts_with(network::TURNS)).cloned();
        let weights: Vec<Constant> = weights.collect();
        let (total, mut arrived) = (weights.iter().map(|it| it.desc.bytes()).sum(), 0);
        let told = |bytes: u64| {
            arrived += bytes;
            progress(arrived, total);
        };
        Ok(self.inner.store.load(&gpu, &weights, told).await?)
    }

    /// What compiles the kernels of sessions with `options`, one variant each, for threads of the host's own.
    ///
    /// # Errors
    /// As [`Decoder::needs`].
    pub fn warm_jobs(&self, options: impl Into<SessionOptions>) -> Result<Vec<WarmJob>> {
        let gpu = self.gpu().current();
        let (_, plans) = self.settled(&gpu, options.into(), (1, 0))?;
        Ok(gpu.warm_jobs(plans.all()))
    }

    /// What of `constants` is not on the device yet, in bytes.
    pub(super) fn missing(&self, gpu: &Gpu, constants: &[Constant]) -> u64 {
        self.inner.store.missing(gpu, constants)
    }

    /// An empty session; a number alone is the tokens it has room for. Where the device has no memory for larger runs of a prompt and none
    /// were asked for, they have [`Decoder::CHUNK`] tokens.
    ///
    /// # Errors
    /// [`Error::Room`] when the model was not made for so many, or too few to slide; [`Error::Engine`] when the device cannot hold it, with the
    /// figures and before anything is allocated, or when the cache cannot be stored as `options` ask.
    pub async fn session(&self, options: impl Into<SessionOptions>) -> Result<Session> {
        self.session_among(options.into(), (1, 0)).await
    }

    /// One of so many sessions with these options, which share what larger runs of a prompt may compute, and so many of which are there.
    pub(crate) async fn session_among(&self, options: SessionOptions, among: (u64, u64)) -> Result<Session> {
        match self.session_there(options, among).await {
            Err(error) if error.is_device_lost() && self.inner.gpu.reopens() => {
                self.session_there(options, among).await
            }
            session => session,
        }
    }

    async fn session_there(&self, asked: SessionOptions, among: (u64, u64)) -> Result<Session> {
        let gpu = self.inner.gpu.alive().await?;
        let (options, plans) = self.settled(&gpu, asked, among)?;
        self.check_budget(&gpu, &plans)?;
        let states = States::new(&gpu, &plans.all().collect::<Vec<_>>()).await?;
        match asked.chunk {
            None => self.session_within(options, states).await,
            Some(_) => self.session_on(options, states).await,
        }
    }

    /// [`Decoder::session_on`], with the smallest runs of a prompt where the device has no memory for larger ones.
    pub(super) async fn session_within(&self, options: SessionOptions, states: States) -> Result<Session> {
        match self.session_on(options, states.clone()).await {
            Err(error) if is_memory(&error) && options.chunk.is_some_and(|chunk| chunk > Decoder::CHUNK) => {
                self.session_on(options.chunk(Decoder::CHUNK), states).await
            }
            session => session,
        }
    }

    /// The tokens that a session with `options` has room for.
    pub(crate) fn room(&self, options: &SessionOptions) -> Result<usize> {
        let most = self.config().context;
        let context = options.context.unwrap_or(most.min(SessionOptions::USUAL_CONTEXT));
        let least = if options.slide.is_some() { 2 } else { 1 };
        if context < least || context > most {
            return Err(Error::Room { asked: context, least, most });
        }
        Ok(context)
    }

    /// The products of a run of `tokens` in a session that asks for `products`: one token is multiplied in whole numbers only where an adapter
    /// is fast at it, because what rounding it costs is gained nowhere else.
    pub(super) fn products(&self, tokens: usize, products: Products) -> Products {
        match products {
            Products::Packed if tokens == 1 && !products.on(self.gpu().current().caps())[1] => Products::Exact,
            products => products,
        }
    }

    /// Name and words a token of each state that holds keys or values.
    pub(super) fn caches(&self, context: usize, cache: CacheFormat) -> Result<Vec<(String, usize)>> {
        let decode = self.plan_of(context, &SessionOptions::default().cache(cache), 1, Head::Sample)?;
        let caches = decode.states.iter().filter(|state| state.desc.shape.len() == 3);
        Ok(caches.map(|state| (state.name.clone(), state.desc.words() / context)).collect())
    }

    /// The weights.
    pub(super) fn known_fingerprint(&self) -> &OnceLock<String> {
        &self.inner.fingerprint
    }

    pub(super) fn tensors(&self) -> &Tensors {
        &self.inner.tensors
    }

    /// A session on states that are there.
    pub(super) async fn session_on(&self, options: SessionOptions, states: States) -> Result<Session> {
        let context = self.room(&options)?;
        let SessionPlans { prompts, decode, .. } = self.plans(context, &options)?;
        let mut prefill = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            prefill.push(self.executor(prompt, &states).await?);
        }
        let decode = self.executor(decode, &states).await?;
        Ok(Session::new(self.clone(), (context, options), prefill, decode, states))
    }

    /// A plan of this model ready to run on `states`.
    ///
    /// # Errors
    /// [`Error::Engine`] when the device cannot hold it.
    pub async fn executor(&self, plan: Arc<Plan>, states: &States) -> Result<Executor> {
        let (gpu, store) = (states.gpu(), &self.inner.store);
        Ok(Executor::with_states(gpu, plan, store, states, |_| ()).await?)
    }
}
