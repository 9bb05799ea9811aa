//! Architectures as code: what a model file holds, and what to do with a picture before a model sees it.
//!
//! - [`mobilenet`]: from tensor names, shapes and json files to a complete description of a MobileNet.
//! - [`image_prep`]: the arithmetic of the antialiased resize and centre crop.
//! - [`labels`]: what an output index is called.

pub mod error;
pub mod image_prep;
pub mod labels;
pub mod mobilenet;

#[cfg(test)]
mod test_material;

pub use error::{Error, Result};
