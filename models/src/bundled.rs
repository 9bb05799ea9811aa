//! The models that are part of this crate, so that a first answer needs no file and no connection.
//!
//! Both were trained by the scripts in `models/training` on data that those scripts make; the cards beside the files say how well
//! they do. They are small on purpose: one names drawings, the other tells short stories, and neither knows anything else.

use crate::{Classifier, Result, Source};
use lampyris_engine::Gpu;
use lampyris_engine::weights::Weights;

#[cfg(feature = "tokens")]
use crate::text_model::{TextFiles, TextModel};
#[cfg(feature = "tokens")]
use lampyris_engine::weights::TensorFile;

/// What the classifier of drawings is called, in errors and reports.
pub const SKETCHES: &str = "bundled sketches";
/// What the teller of stories is called, in errors and reports.
pub const STORYTELLER: &str = "bundled storyteller";

static SKETCHES_WEIGHTS: &[u8] = include_bytes!("../bundled/sketches/model.safetensors");
static SKETCHES_CONFIG: &[u8] = include_bytes!("../bundled/sketches/config.json");
static SKETCHES_PREPROCESSOR: &[u8] = include_bytes!("../bundled/sketches/preprocessor_config.json");
#[cfg(feature = "tokens")]
static STORYTELLER_GGUF: &[u8] = include_bytes!("../bundled/storyteller/storyteller.gguf");

/// A drawing that the classifier was not trained on, as a PNG file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// What it shows: one of the classifier's labels.
    pub label: &'static str,
    /// The file.
    pub png: &'static [u8],
}

/// Three drawings for a first try.
pub static SAMPLES: [Sample; 3] = [
    Sample { label: "fish", png: include_bytes!("../bundled/sketches/samples/fish.png") },
    Sample { label: "house", png: include_bytes!("../bundled/sketches/samples/house.png") },
    Sample { label: "7", png: include_bytes!("../bundled/sketches/samples/7.png") },
];

/// The files of the classifier of drawings; [`Classifier::bundled`] loads them.
///
/// # Errors
/// None that a test does not rule out: those of a damaged file.
pub fn sketches() -> Result<Source> {
    Ok(Source::Files {
        weights: Weights::from_bytes(SKETCHES, SKETCHES_WEIGHTS)?,
        config: Some(SKETCHES_CONFIG.to_vec()),
        preprocessor: Some(SKETCHES_PREPROCESSOR.to_vec()),
    })
}

/// The files of the teller of stories; [`TextModel::bundled`] loads them.
///
/// # Errors
/// As [`sketches`].
#[cfg(feature = "tokens")]
pub fn storyteller() -> Result<TextFiles> {
    Ok(TextFiles::new(TensorFile::from_bytes(STORYTELLER, STORYTELLER_GGUF)?, None))
}

impl Classifier {
    /// Loads the classifier of drawings that is part of this crate. Whatever a picture shows, it names one of its drawn things.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine) when the device cannot take it.
    pub async fn bundled(gpu: &Gpu) -> Result<Classifier> {
        Classifier::load(gpu, sketches()?).await
    }
}

#[cfg(feature = "tokens")]
impl TextModel {
    /// Loads the teller of stories that is part of this crate; its weights go to the device with the first session.
    ///
    /// # Errors
    /// As [`TextModel::new`].
    pub fn bundled(gpu: &Gpu) -> Result<TextModel> {
        TextModel::new(gpu, storyteller()?)
    }
}
