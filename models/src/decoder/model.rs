//! A decoder with its weights on a device, ready for sessions.

use super::network::{self, Head, PlanRequest};
use super::weights::Tensors;
use super::{DecoderConfig, Session};
use crate::{Error, Result};
use lampyris_engine::gpu::{ConstantStore, States};
use lampyris_engine::weights::TensorFile;
use lampyris_engine::{Executor, Gpu, Plan};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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
        let inner = Inner { gpu: gpu.clone(), tensors, store: ConstantStore::new(), plans: Mutex::default() };
        Ok(Decoder { inner: Arc::new(inner) })
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
        let plan = Arc::new(network::plan(&self.inner.tensors, request)?);
        plans().insert(request, plan.clone());
        Ok(plan)
    }

    /// A session with room for `context` tokens, empty.
    ///
    /// # Errors
    /// [`Error::Context`] when the model was not made for so many; [`Error::Engine`] when the device cannot hold it.
    pub async fn session(&self, context: usize) -> Result<Session> {
        if context == 0 || context > self.config().context {
            return Err(Error::Context { tokens: context, context: self.config().context });
        }
        let request = |tokens: usize, head: Head| self.plan(PlanRequest { context, tokens, head });
        let (prefill, decode) = (request(Decoder::CHUNK.min(context), Head::None)?, request(1, Head::Sample)?);
        let draw = request(1, Head::Draw)?;
        let states = States::new(&self.inner.gpu, &[&prefill, &decode, &draw]).await?;
        let prefill = self.executor(prefill, &states).await?;
        let decode = self.executor(decode, &states).await?;
        Ok(Session::new(self.clone(), context, prefill, decode, states))
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
