//! Classifiers as JavaScript uses them: pictures in, classes and their probabilities out.

use crate::device::Device;
use crate::failure::{self, Outcome};
use crate::files::Files;
use js_sys::Function;
use lampyris::{Answer, Classifier, ClassifierOptions, Input};
use serde_json::json;
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

/// A classifier, loaded again by itself after its device was lost.
#[wasm_bindgen]
pub struct Vision {
    device: Device,
    files: Files,
    loaded: RefCell<(u32, Classifier)>,
}

#[wasm_bindgen]
impl Vision {
    /// Loads a MobileNet; `progress` is called with the share of the weights that has arrived, from 0 to 1.
    pub async fn load(device: &Device, files: &Files, progress: Function) -> Outcome<Vision> {
        let (device, files) = (device.clone(), files.clone());
        let loaded = load(&device, &files, Some(progress)).await?;
        Ok(Vision { device, files, loaded: RefCell::new(loaded) })
    }

    /// What is in rows of 8-bit RGBA pixels, as JSON: the `top` likeliest classes, likeliest first.
    pub async fn classify(&self, pixels: Vec<u8>, width: u32, height: u32, top: usize) -> Outcome<String> {
        let answer = self.answer(&pixels, width, height).await?;
        let predictions = answer.top(top).into_iter().map(|prediction| {
            json!({ "index": prediction.index, "label": prediction.label, "probability": prediction.probability })
        });
        Ok(serde_json::Value::Array(predictions.collect()).to_string())
    }

    /// The network's outputs before the softmax, one a class.
    pub async fn logits(&self, pixels: Vec<u8>, width: u32, height: u32) -> Outcome<Vec<f32>> {
        Ok(self.answer(&pixels, width, height).await?.logits)
    }

    /// Names the classes.
    #[wasm_bindgen(js_name = setLabels)]
    pub fn set_labels(&self, labels: Vec<String>) -> Outcome<()> {
        let classifier = self.loaded.borrow().1.clone();
        classifier.set_labels("the labels given", labels).map_err(|error| failure::model(&error))
    }
}

impl Vision {
    /// An answer, on another device if this one is lost.
    async fn answer(&self, pixels: &[u8], width: u32, height: u32) -> Outcome<Answer> {
        let mut tries = 0;
        loop {
            let (_, times) = self.device.alive().await?;
            let (loaded_for, mut classifier) = self.loaded.borrow().clone();
            if loaded_for != times {
                let again = load(&self.device, &self.files, None).await?;
                classifier = again.1.clone();
                self.loaded.replace(again);
            }
            match self.files.fed(classifier.classify(Input::rgba8(pixels, width, height))).await? {
                Err(error) if failure::is_lost(&error) && tries < 2 => tries += 1,
                answer => return answer.map_err(|error| failure::model(&error)),
            }
        }
    }
}

async fn load(device: &Device, files: &Files, progress: Option<Function>) -> Outcome<(u32, Classifier)> {
    let progress = |share: f64| {
        // What a page's own function throws is the page's business.
        let _ = progress.as_ref().map(|progress| progress.call1(&JsValue::NULL, &JsValue::from(share)));
    };
    let (gpu, times) = device.alive().await?;
    let source = files.vision()?;
    let classifier = files.fed(Classifier::load_with(&gpu, source, ClassifierOptions::default(), progress)).await?;
    files.forget();
    Ok((times, classifier.map_err(|error| failure::model(&error))?))
}
