//! Decoder transformers: one description for the whole family, its plans, and sessions that run them token by token.
//!
//! A [`Decoder`] is a model with its weights on a device; a [`Session`] is a conversation with it: the tokens so far and the keys
//! and values of every layer, which stay on the device. A new member of the family is a change of [`DecoderConfig`].

mod batch;
mod chunks;
mod config;
pub(crate) mod config_gguf;
mod config_rope;
#[cfg(not(target_arch = "wasm32"))]
mod convert;
mod driven;
#[cfg(not(target_arch = "wasm32"))]
mod expected;
mod keep;
pub(crate) mod matrix;
mod mixture;
mod model;
mod multiplied;
mod names;
mod needs;
mod network;
mod options;
mod perplexity;
mod plans;
mod replay;
mod rope;
mod sampling;
mod session;
mod step;
mod unpack;
mod weights;

pub use batch::Together;
pub use config::{DecoderConfig, Mixture};
#[cfg(not(target_arch = "wasm32"))]
pub use convert::{Conversion, Converted, Recipe};
pub use driven::DrivenSession;
#[cfg(feature = "tokens")]
pub(crate) use driven::Stand;
pub use model::{Decoder, DecoderFiles};
pub use multiplied::Multiplied;
pub use needs::Needs;
pub use network::{Head, PlanRequest};
pub use options::{CacheFormat, Products, SessionOptions};
pub use rope::Rope;
pub use sampling::Sampling;
pub use session::{Generation, Session};
pub use step::StepBuffers;
