//! Architectures as code: what a model file holds, and what to do with a picture before a model sees it.
//!
//! - [`decoder`]: decoder transformers of the Llama family, and sessions with them.
//! - [`encoder`]: sentence encoders of the BERT family, which make one vector of a text.
//! - [`mobilenet`]: from tensor names, shapes and json files to a complete description of a MobileNet.
//! - [`image_prep`]: the arithmetic of the antialiased resize and centre crop.
//! - `decode` (feature `image`): picture files to pixels, within limits.
//! - `text` (feature `text`): tokenizers and chat templates.
//! - `bundled` (feature `bundled`): two small models that are part of the crate.
//! - [`labels`]: what an output index is called.

#[cfg(feature = "bundled")]
pub mod bundled;
pub mod classifier;
#[cfg(feature = "image")]
pub mod decode;
pub mod decoder;
pub mod encoder;
pub mod error;
pub mod image_prep;
pub mod input;
mod json;
mod kept;
pub mod labels;
mod loading;
pub mod mobilenet;
mod prepare;
pub mod record;
pub mod source;
#[cfg(feature = "tokens")]
pub mod text;
#[cfg(feature = "tokens")]
mod text_answer;
#[cfg(feature = "tokens")]
pub mod text_model;

mod schedule;
pub mod tick;
mod watching;

#[cfg(test)]
mod test_material;

pub use classifier::{Answer, Classifier, ClassifierNeeds, ClassifierOptions, Prediction};
pub use decoder::Decoder;
#[cfg(feature = "tokens")]
pub use encoder::Encoder;
pub use error::{Error, Result};
pub use input::Input;
pub use loading::Loading;
pub use schedule::{Priority, Scheduler};
#[cfg(feature = "tokens")]
pub use source::FilesFrom;
pub use source::Source;
#[cfg(feature = "tokens")]
pub use text_model::TextModel;
pub use tick::{Driven, Progress, Summary, Tick};
pub use watching::Watching;
