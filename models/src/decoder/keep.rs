//! Sessions that are copied on the device, and sessions that outlive their program.

use super::options::{CacheFormat, SessionOptions};
use super::replay::Log;
use super::session::Session;
use super::{Decoder, network};
use crate::{Error, Result};
use lampyris_engine::weights::Weights;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;

/// The version of what [`Session::save`] writes.
const VERSION: &str = "2";

/// The metadata that says what the file is, how its cache is stored, how many tokens are in it, how many the session had room for, and which
/// weights computed it.
const KEYS: [&str; 5] =
    ["lampyris.session", "lampyris.cache", "lampyris.cached", "lampyris.context", "lampyris.weights"];

fn refused(reason: impl Into<String>) -> Error {
    Error::Saved { reason: reason.into() }
}

impl Session {
    /// A session of its own with the same tokens, their keys and values copied on the device; it takes [`Session::bytes`] more for
    /// them, and what its runs need beside, as any session of the model does. Where a budget or the device has no room for runs as
    /// large as this session's, its prompts go in runs of [`Decoder::CHUNK`] tokens; [`Session::chunk`] says which.
    ///
    /// # Errors
    /// [`Error::Engine`] when the device cannot hold it.
    pub async fn fork(&self) -> Result<Session> {
        let mut copy = match self.copied().await {
            Err(error) if self.is_elsewhere(&error) => self.remade().await,
            copy => copy,
        }?;
        copy.dropped = self.dropped;
        Ok(copy)
    }

    async fn copied(&self) -> Result<Session> {
        let options = self.model().settled_beside(self.states().gpu(), self.options())?;
        let states = self.states().fork().await?;
        let mut copy = self.model().session_within(options, states).await?;
        copy.set(self.tokens().to_vec(), self.cached(), self.log.clone());
        Ok(copy)
    }

    /// The tokens with their keys and values as a safetensors file, for [`Decoder::restore`].
    ///
    /// # Errors
    /// [`Error::Engine`] from the device.
    pub async fn save(&self) -> Result<Vec<u8>> {
        match self.saved().await {
            Err(error) if self.is_elsewhere(&error) => self.remade().await?.saved().await,
            saved => saved,
        }
    }

    async fn saved(&self) -> Result<Vec<u8>> {
        let little = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let weights = self.model().fingerprint().await?.to_owned();
        let mut tensors = vec![(network::TOKENS.to_owned(), vec![self.tokens().len()], little(self.tokens()))];
        for (name, row) in self.model().caches(self.context(), self.cache())? {
            let words = self.states().read(&name).await?.words;
            tensors.push((name, vec![self.cached(), row], little(&words[..self.cached() * row])));
        }
        let views: Vec<(String, TensorView<'_>)> = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name.clone(), TensorView::new(Dtype::U32, shape.clone(), bytes)?)))
            .collect::<Result<_, safetensors::SafeTensorError>>()
            .map_err(|error| refused(error.to_string()))?;
        let [cached, context] = [self.cached(), self.context()].map(|count| count.to_string());
        let said = [VERSION.to_owned(), self.cache().label().to_owned(), cached, context, weights];
        let metadata: HashMap<String, String> = KEYS.iter().map(|key| (*key).to_owned()).zip(said).collect();
        safetensors::serialize(views, Some(metadata)).map_err(|error| refused(error.to_string()))
    }
}

impl Decoder {
    /// A session as it was saved, of this model, with the room of `options`; its keys and values are stored as they were, whatever
    /// `options` say. They are computed anew where the model turns positions otherwise in so much room, as
    /// [`Rope::Long`](super::Rope::Long) does.
    ///
    /// # Errors
    /// [`Error::Saved`] for a file that is damaged or of another model, and [`Error::Context`] when the tokens do not fit, both
    /// before anything is allocated; as [`Decoder::session`].
    pub async fn restore(&self, saved: &[u8], options: impl Into<SessionOptions>) -> Result<Session> {
        let file =
            Weights::from_bytes("a saved session", saved.to_vec()).map_err(|error| refused(error.to_string()))?;
        let said = KEYS.map(|key| file.metadata().get(key).map(String::as_str));
        let [Some(VERSION), Some(cache), Some(cached), Some(made), Some(weights)] = said else {
            return Err(refused(match said[0] {
                Some("1") => "an earlier version of Lampyris saved it, which did not say with which weights",
                _ => "it is no session, or of another version",
            }));
        };
        let cache =
            CacheFormat::of_label(cache).ok_or_else(|| refused("its cache is stored in no way that is known"))?;
        let mut cached: usize = cached.parse().map_err(|_| refused("its count of tokens is no number"))?;
        let made = made.parse().map_err(|_| refused("the room it had is no number"))?;
        let words = |name: &str, shape: &[usize]| -> Result<Vec<u32>> {
            let found = file.get(name).ok_or_else(|| refused(format!("`{name}` is missing")))?;
            if found.shape != shape || found.dtype.name() != "U32" {
                return Err(refused(format!(
                    "`{name}` is {:?} {}, not {shape:?} U32",
                    found.shape,
                    found.dtype.name()
                )));
            }
            let bytes = file.bytes(name).map_err(|error| refused(error.to_string()))?;
            Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        };
        let count = file.get(network::TOKENS).and_then(|tensor| tensor.shape.first().copied()).unwrap_or_default();
        let tokens = words(network::TOKENS, &[count])?;
        let vocabulary = self.config().vocabulary;
        if let Some(token) = tokens.iter().copied().find(|token| *token as usize >= vocabulary) {
            return Err(Error::Token { token, vocabulary });
        }
        if cached > count {
            return Err(refused(format!("it has keys of {cached} tokens and only {count} tokens")));
        }
        if weights != self.fingerprint().await? {
            return Err(refused("it is of another model, or of this one with other weights"));
        }
        let options = SessionOptions { cache, ..options.into() };
        let context = self.room(&options)?;
        if count > context {
            return Err(Error::Context { tokens: count, context });
        }
        let mut caches = Vec::new();
        for (name, row) in self.caches(context, cache)? {
            let words = words(&name, &[cached, row])?;
            caches.push((name, words));
        }
        if !self.turns_alike(made, context) {
            cached = 0;
            caches.clear();
        }
        let mut session = self.session(options).await?;
        for (name, words) in caches {
            session.states().write(&name, 0, &words)?;
        }
        let log = Log::of_prompt(cached, session.sizes());
        session.set(tokens, cached, log);
        session.complete().await?;
        Ok(session)
    }

    /// Whether positions turn in a session with room for `context` as they do in one with room for `made`.
    fn turns_alike(&self, made: usize, context: usize) -> bool {
        let config = self.config();
        let speeds = |room: usize| [&config.rope, &config.local_rope].map(|rope| rope.speeds(config.turned, room));
        speeds(made) == speeds(context)
    }

    /// What tells the model's weights from others; they are read for it once.
    async fn fingerprint(&self) -> Result<&str> {
        let (tensors, known) = (self.tensors(), self.known_fingerprint());
        if let Some(known) = known.get() {
            return Ok(known);
        }
        let made = match tensors.feed() {
            Some(feed) => feed.until_there(|| tensors.fingerprint()).await?,
            None => tensors.fingerprint()?,
        };
        Ok(known.get_or_init(|| made))
    }
}
