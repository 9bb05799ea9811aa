//! Architectures as code: what a model file holds, and what to do with a picture before a model sees it.
//!
//! - [`mobilenet`]: from tensor names, shapes and json files to a complete description of a MobileNet.
//! - [`image_prep`]: the arithmetic of the antialiased resize and centre crop.
//! - `decode` (feature `image`): picture files to pixels, within limits.
//! - [`labels`]: what an output index is called.

pub mod classifier;
#[cfg(feature = "image")]
pub mod decode;
pub mod error;
pub mod image_prep;
pub mod input;
mod kept;
pub mod labels;
pub mod mobilenet;
mod prepare;
pub mod source;

#[cfg(test)]
mod test_material;

pub use classifier::{Answer, Classifier, ClassifierOptions, Prediction};
pub use error::{Error, Result};
pub use input::Input;
pub use source::Source;
