//! Sentence encoders: networks of the BERT family that make of each text one vector, so that texts of like meaning lie close together.
//!
//! A [`TokenEncoder`] is the network with its weights on a device and works on token ids; an `Encoder` (feature `text`) adds the
//! tokenizer and all that the files of sentence-transformers say of texts. Sequences of different lengths share a run: their rows
//! lie one after another, and nothing is computed for padding between them.

mod config;
mod config_gguf;
mod files;
mod model;
mod names;
mod needs;
mod network;
mod pooling;
mod record;
#[cfg(feature = "tokens")]
mod sentences;
mod weights;

pub use config::EncoderConfig;
pub use files::EncoderFiles;
pub use model::{EncoderOptions, TokenEncoder};
pub use needs::EncoderNeeds;
pub use network::EncoderPlan;
pub use pooling::Pooled;
pub use record::Embedding;
#[cfg(feature = "tokens")]
pub use sentences::Encoder;

/// The cosine of the angle between two vectors of one length: 1 for the same direction, 0 when one has no length.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { (dot(a, b) / lengths) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::cosine;

    #[test]
    fn cosines_of_known_angles() {
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 3.0]), 0.0);
        assert!((cosine(&[1.0, 0.0], &[2.0, 2.0]) - 0.5f32.sqrt()).abs() < 1e-6);
        assert_eq!(cosine(&[2.0, 1.0], &[-4.0, -2.0]), -1.0);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 1.0]), 0.0);
    }
}
