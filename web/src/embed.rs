//! Sentence encoders for JavaScript.

use crate::device::Device;
use crate::failure::{self, Outcome};
use crate::files::Files;
use js_sys::Function;
use lampyris::Encoder;
use lampyris::models::encoder::EncoderOptions;
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

/// A sentence encoder, loaded again by itself after its device was lost.
#[wasm_bindgen]
pub struct Embedder {
    device: Device,
    files: Files,
    loaded: RefCell<(u32, Encoder)>,
}

#[wasm_bindgen]
impl Embedder {
    /// Loads a BERT-class encoder; `progress` is called with the share of the weights that has arrived, from 0 to 1.
    pub async fn load(device: &Device, files: &Files, progress: Function) -> Outcome<Embedder> {
        let (device, files) = (device.clone(), files.clone());
        let loaded = load(&device, &files, Some(progress)).await?;
        Ok(Embedder { device, files, loaded: RefCell::new(loaded) })
    }

    /// Values of a vector.
    pub fn dimension(&self) -> usize {
        self.loaded.borrow().1.dimension()
    }

    /// A vector for each text, one after another.
    pub async fn embed(&self, texts: Vec<String>) -> Outcome<Vec<f32>> {
        let mut tries = 0;
        loop {
            let (_, times) = self.device.alive().await?;
            let (loaded_for, mut encoder) = self.loaded.borrow().clone();
            if loaded_for != times {
                let again = load(&self.device, &self.files, None).await?;
                encoder = again.1.clone();
                self.loaded.replace(again);
            }
            match self.files.fed(encoder.embed(&texts)).await? {
                Err(error) if failure::is_lost(&error) && tries < 2 => tries += 1,
                Err(error) => return Err(failure::model(&error)),
                Ok(vectors) => return Ok(vectors.concat()),
            }
        }
    }
}

async fn load(device: &Device, files: &Files, progress: Option<Function>) -> Outcome<(u32, Encoder)> {
    let (gpu, times) = device.alive().await?;
    let told = |arrived: u64, all: u64| {
        let share = arrived as f64 / all.max(1) as f64;
        // What a page's own function throws is the page's business.
        let _ = progress.as_ref().map(|progress| progress.call1(&JsValue::NULL, &JsValue::from(share)));
    };
    let work = Encoder::load_with(&gpu, files.encoder()?, EncoderOptions::default(), told);
    let encoder = files.fed(work).await?;
    files.forget();
    Ok((times, encoder.map_err(|error| failure::model(&error))?))
}
