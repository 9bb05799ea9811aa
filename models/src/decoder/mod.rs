//! Decoder transformers: one description for the whole family, its plans, and sessions that run them token by token.
//!
//! A [`Decoder`] is a model with its weights on a device; a [`Session`] is a conversation with it: the tokens so far and the keys
//! and values of every layer, which stay on the device. A new member of the family is a change of [`DecoderConfig`].

mod config;
mod config_gguf;
#[cfg(not(target_arch = "wasm32"))]
mod convert;
mod keep;
mod matrix;
mod model;
mod names;
mod needs;
mod network;
mod options;
mod rope;
mod session;
mod unpack;
mod weights;

pub use config::DecoderConfig;
#[cfg(not(target_arch = "wasm32"))]
pub use convert::{Conversion, Converted};
pub use model::{Decoder, DecoderFiles};
pub use needs::Needs;
pub use network::{Head, PlanRequest};
pub use options::{CacheFormat, SessionOptions};
pub use rope::Rope;
pub use session::{Generation, Session};
