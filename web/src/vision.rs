//! Classifiers as JavaScript uses them: pictures in, classes and their probabilities out.

use crate::breath::breathe;
use crate::device::Device;
use crate::failure::{self, Outcome};
use crate::files::Files;
use js_sys::Function;
use lampyris::models::classifier::open_network;
use lampyris::{Answer, Classifier, ClassifierOptions, Input};
use serde_json::json;
use wasm_bindgen::prelude::*;

/// A classifier, which goes on on another device after its own was lost.
#[wasm_bindgen]
pub struct Vision {
    files: Files,
    classifier: Classifier,
}

#[wasm_bindgen]
impl Vision {
    /// Loads a MobileNet. `breath` is called between pieces of work and promises to be back when the page has had its turn.
    pub async fn load(device: &Device, files: &Files, breath: Function) -> Outcome<Vision> {
        let (gpu, source) = (device.alive().await?, files.vision()?);
        breathe(&breath).await?;
        let network = open_network(&source).map_err(|error| failure::model(&error))?;
        breathe(&breath).await?;
        let work = Classifier::with_network(&gpu, network, ClassifierOptions::default(), |_| ());
        let classifier = files.fed(work).await?;
        files.forget();
        Ok(Vision { files: files.clone(), classifier: classifier.map_err(|error| failure::model(&error))? })
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
        self.classifier.set_labels("the labels given", labels).map_err(|error| failure::model(&error))
    }
}

impl Vision {
    async fn answer(&self, pixels: &[u8], width: u32, height: u32) -> Outcome<Answer> {
        let answer = self.files.fed(self.classifier.classify(Input::rgba8(pixels, width, height))).await?;
        // What a lost device made it read again.
        self.files.forget();
        answer.map_err(|error| failure::model(&error))
    }
}
