//! Sentence encoders for JavaScript.

use crate::device::Device;
use crate::failure::{self, Outcome};
use crate::files::Files;
use js_sys::Function;
use lampyris::Encoder;
use lampyris::models::encoder::EncoderOptions;
use wasm_bindgen::prelude::*;

/// A sentence encoder, which goes on on another device after its own was lost.
#[wasm_bindgen]
pub struct Embedder {
    files: Files,
    encoder: Encoder,
}

#[wasm_bindgen]
impl Embedder {
    /// Loads a BERT-class encoder; `progress` is called with the share of the weights that has arrived, from 0 to 1.
    pub async fn load(device: &Device, files: &Files, progress: Function) -> Outcome<Embedder> {
        let gpu = device.alive().await?;
        let told = |arrived: u64, all: u64| {
            // What a page's own function throws is the page's business.
            let share = arrived as f64 / all.max(1) as f64;
            let _ = progress.call1(&JsValue::NULL, &JsValue::from(share));
        };
        let work = Encoder::load_with(&gpu, files.encoder()?, EncoderOptions::default(), told);
        let encoder = files.fed(work).await?;
        files.forget();
        Ok(Embedder { files: files.clone(), encoder: encoder.map_err(|error| failure::model(&error))? })
    }

    /// Values of a vector.
    pub fn dimension(&self) -> usize {
        self.encoder.dimension()
    }

    /// A vector for each text, one after another.
    pub async fn embed(&self, texts: Vec<String>) -> Outcome<Vec<f32>> {
        let vectors = self.files.fed(self.encoder.embed(&texts)).await?;
        // What a lost device made it read again.
        self.files.forget();
        vectors.map(|vectors| vectors.concat()).map_err(|error| failure::model(&error))
    }
}
