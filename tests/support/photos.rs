//! The photos of the material with what the reference said of them, decoded once for all devices of a test.

use super::Tensors;
use lampyris::Input;
use lampyris::models::decode::{Limits, Rgba8Image, decode_file};
use serde_json::Value;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The network's input, in pixels.
pub const SIDE: usize = 224;
/// Outputs of the ImageNet networks here, the background included.
pub const CLASSES: usize = 1001;
/// The ImageNet networks of the material.
pub const MODELS: [&str; 3] = ["mobilenet_v3_small", "mobilenet_v2", "mobilenet_v3_large_minimalistic"];

/// A JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The strings under `key` of each object of a list.
pub fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
}

/// Decodes files of a folder, on all cores.
pub fn decode(folder: &Path, files: &[String]) -> Vec<Rgba8Image> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Rgba8Image>>> = Mutex::new(vec![None; files.len()]);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let picture = decode_file(&folder.join(file), &Limits::default()).unwrap();
                    let at = files.iter().position(|other| other == file).unwrap();
                    done.lock().unwrap()[at] = Some(picture);
                }
            });
        }
    });
    done.into_inner().unwrap().into_iter().map(Option::unwrap).collect()
}

/// A decoded picture as a classifier takes it.
pub fn input(picture: &Rgba8Image) -> Input<'_> {
    Input::rgba8(&picture.pixels, picture.width, picture.height)
}

/// What the reference said of the photos, for one network.
pub struct Reference {
    /// Output with the largest logit, a photo.
    pub top: Vec<usize>,
    /// How far it lies above the second.
    pub margin: Vec<f64>,
    /// Logits of the odd files.
    pub odd: Vec<Vec<f32>>,
}

impl Reference {
    /// Reads the references of one network.
    pub fn open(folder: &Path) -> Reference {
        let said = json(&folder.join("reference.json"));
        let images = said["images"].as_array().unwrap();
        let logit = |image: &Value, rank: usize| image["top5"][rank]["logit"].as_f64().unwrap();
        let tensors = Tensors::open(&folder.join("reference.safetensors"));
        Reference {
            top: images.iter().map(|image| image["top5"][0]["index"].as_u64().unwrap() as usize).collect(),
            margin: images.iter().map(|image| logit(image, 0) - logit(image, 1)).collect(),
            odd: tensors.f32("odd_logits").chunks(CLASSES).map(<[f32]>::to_vec).collect(),
        }
    }
}
