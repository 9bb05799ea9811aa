//! What the json files beside a model's weights say, and what holds where they say nothing.
//!
//! Three kinds are read, whichever keys of them are there: the `config.json` of this library's own folders (`architecture`,
//! `image_size`, `mean`, `padding`, `bn_eps`, `label_offset`, ...), that of timm on a hub (`architecture`, `label_names`,
//! `pretrained_cfg`), and Hugging Face's (`id2label`, `tf_padding`, and a `preprocessor_config.json`).

use serde_json::Value;

use super::fold::Padding;
use super::spec::{Architecture, Naming, NetworkSpec};
use crate::error::{Error, Result};
use crate::image_prep::{Filter, MAX_TARGET_SIDE, Preprocess, Resize};
use crate::json::{self, Object};
use crate::labels::Labels;

/// What a model's json files say. Every field is `None` (or empty) where they say nothing.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The name of `config.json` as the caller gave it; empty without one.
    pub file: String,
    /// The network, if the name it is given is a MobileNet's.
    pub architecture: Option<Architecture>,
    /// That the network is one of timm's conversions from TensorFlow (`tf_...`): SAME padding and an epsilon of 1e-3.
    pub from_tensorflow: bool,
    /// The width multiplier. For display: the widths themselves come from the tensors.
    pub width_multiplier: Option<f64>,
    /// Outputs of the last layer.
    pub classes: Option<usize>,
    /// Outputs before the first label.
    pub label_offset: Option<usize>,
    /// The labels in order.
    pub labels: Option<Vec<String>>,
    /// How convolutions are padded.
    pub padding: Option<Padding>,
    /// What a batch norm adds to the variance.
    pub batch_norm_epsilon: Option<f64>,
    /// The side of the network's input.
    pub crop: Option<u32>,
    /// The resize before the crop.
    pub resize: Option<Resize>,
    /// The kernel of the resize.
    pub filter: Option<Filter>,
    /// The mean for red, green and blue of pixels from 0 to 1.
    pub mean: Option<[f64; 3]>,
    /// The deviation likewise.
    pub std: Option<[f64; 3]>,
}

/// Everything about a model besides its tensors, settled.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// How a picture becomes its input.
    pub preprocess: Preprocess,
    /// What its outputs are called. Where no file has labels they are numbered.
    pub labels: Labels,
    /// Outputs before the first class: 1 where output 0 is the background.
    pub label_offset: usize,
    /// How its convolutions are padded.
    pub padding: Padding,
    /// What its batch norms add to the variance.
    pub batch_norm_epsilon: f64,
    /// What was assumed because no file says it, in words for a user.
    pub assumed: Vec<&'static str>,
}

const SIZE: &str = "a whole number of pixels from 1 to 8192";
const CROP: &str = "a square whose side is a multiple of 32, at most 8192";
const COLOURS: &str = "three numbers of at most 1e6";
const DEVIATIONS: &str = "three numbers from 1e-6 to 1e6";

/// What can be subtracted from a pixel in f32 with something left.
fn mean(value: f64) -> bool {
    value.abs() <= 1e6
}

/// What a pixel can be divided by, or multiplied with, in f32.
fn deviation(value: f64) -> bool {
    (1e-6..=1e6).contains(&value)
}

impl ModelConfig {
    /// Reads `config.json` and `preprocessor_config.json`, each given as its name (for errors) and its bytes. What the latter says about
    /// the picture goes before the former.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::Config`] and [`Error::Unsupported`], each with the file and the key.
    pub fn read(config: Option<(&str, &[u8])>, preprocessor: Option<(&str, &[u8])>) -> Result<Self> {
        let mut said = Self::default();
        if let Some((file, bytes)) = config {
            let map = json::parse(file, bytes)?;
            said.file = file.to_owned();
            said.read_config(Object::top(file, &map))?;
        }
        if let Some((file, bytes)) = preprocessor {
            let map = json::parse(file, bytes)?;
            said.read_preprocessor(Object::top(file, &map))?;
        }
        Ok(said)
    }

    fn read_config(&mut self, top: Object<'_>) -> Result<()> {
        let name = match top.text("architecture")? {
            Some(name) => Some(name),
            None => top.text("model_type")?,
        };
        self.architecture = name.and_then(Architecture::from_name);
        self.from_tensorflow = name.is_some_and(|name| name.starts_with("tf_mobilenet"));
        self.width_multiplier = top.number("width_mult", |width| width > 0.0, "a number above 0")?;
        let classes =
            top.count("num_classes", |count| (1..=10_000_000).contains(&count), "the number of outputs, at least 1")?;
        self.classes = classes.map(|count| count as usize);
        let offset =
            top.count("label_offset", |offset| offset < 10_000_000, "the number of outputs before the first label")?;
        self.label_offset = offset.map(|offset| offset as usize);
        self.batch_norm_epsilon = epsilon(top, "bn_eps")?;
        if self.batch_norm_epsilon.is_none() {
            self.batch_norm_epsilon = epsilon(top, "layer_norm_eps")?;
        }
        self.padding = match top.text("padding")? {
            Some("symmetric") => Some(Padding::Symmetric),
            Some("tensorflow_same" | "same") => Some(Padding::TensorflowSame),
            Some(other) => {
                return Err(top.wrong("padding", &Value::from(other), "`symmetric` or `tensorflow_same`"));
            }
            None => top.flag("tf_padding")?.map(|same| if same { Padding::TensorflowSame } else { Padding::Symmetric }),
        };
        self.labels = labels(top)?;
        self.read_picture(top)?;
        match top.object("pretrained_cfg")? {
            Some(inner) => self.read_picture(inner),
            None => Ok(()),
        }
    }

    /// The keys about the picture, at the top level or in timm's `pretrained_cfg`.
    fn read_picture(&mut self, object: Object<'_>) -> Result<()> {
        for key in ["image_size", "input_size"] {
            if let Some(value) = object.get(key) {
                self.crop = Some(square(object, key, value)?);
            }
        }
        if let Some(size) = side(object, "resize")? {
            self.resize = Some(Resize::Shorter(size));
        }
        if let Some(share) =
            object.number("crop_pct", |share| share > 0.0 && share <= 1.0, "a number above 0, at most 1")?
        {
            let size = (f64::from(self.crop.unwrap_or(Preprocess::default().crop)) / share) as u32;
            // A share so small that the picture would be larger than can be is the fault of the share.
            if let Some(value) = object.get("crop_pct").filter(|_| size > MAX_TARGET_SIDE) {
                return Err(object.wrong("crop_pct", value, "a share of a picture of at most 8192 pixels"));
            }
            self.resize = Some(Resize::Shorter(size));
        }
        if let Some(mode) = object.get("crop_mode").filter(|mode| *mode != "center") {
            return Err(object.unsupported("crop_mode", mode, "only `center` is"));
        }
        if let Some(value) = object.get("interpolation") {
            self.filter = Some(match object.text("interpolation")? {
                Some("bilinear") => Filter::Bilinear,
                Some("bicubic") => Filter::Bicubic,
                _ => {
                    return Err(object.unsupported("interpolation", value, "`bilinear` and `bicubic` are"));
                }
            });
        }
        self.mean = object.colours("mean", mean, COLOURS)?.or(self.mean);
        self.std = object.colours("std", deviation, DEVIATIONS)?.or(self.std);
        Ok(())
    }

    /// Hugging Face's `preprocessor_config.json`.
    fn read_preprocessor(&mut self, top: Object<'_>) -> Result<()> {
        let resizes = top.flag("do_resize")?.unwrap_or(true);
        let crops = top.flag("do_center_crop")?;
        let mut exact = None;
        match top.get("size") {
            Some(Value::Object(_)) => {
                let size = top.object("size")?;
                let shorter = size.map(|size| side(size, "shortest_edge")).transpose()?.flatten();
                let height = size.map(|size| side(size, "height")).transpose()?.flatten();
                let width = size.map(|size| side(size, "width")).transpose()?.flatten();
                exact = width.zip(height);
                self.resize = match (shorter, exact) {
                    (Some(size), _) => Some(Resize::Shorter(size)),
                    (None, Some((width, height))) => Some(Resize::Exact { width, height }),
                    (None, None) => return Err(wrong_size(top)),
                };
            }
            Some(_) => self.resize = side(top, "size")?.map(Resize::Shorter),
            None => {}
        }
        if let Some(value) = top.get("crop_size").filter(|_| crops != Some(false)) {
            self.crop = Some(square(top, "crop_size", value)?);
        } else if let (Some((width, height)), Some(value)) = (exact, top.get("size")) {
            if width != height || width % 32 != 0 {
                return Err(top.wrong("size", value, CROP));
            }
            self.crop = Some(width);
        } else if let (Some(false), Some(value)) = (crops, top.get("do_center_crop")) {
            return Err(top.unsupported(
                "do_center_crop",
                value,
                "without a crop `size` must have a `height` and a `width`",
            ));
        }
        if !resizes {
            self.resize = Some(Resize::Keep);
        }
        if let Some(value) = top.get("resample") {
            self.filter = Some(match value.as_u64() {
                Some(2) => Filter::Bilinear,
                Some(3) => Filter::Bicubic,
                _ => {
                    return Err(top.unsupported("resample", value, "2 (bilinear) and 3 (bicubic) are"));
                }
            });
        }
        self.mean = top.colours("image_mean", mean, COLOURS)?.or(self.mean);
        self.std = top.colours("image_std", deviation, DEVIATIONS)?.or(self.std);
        if top.flag("do_normalize")? == Some(false) {
            (self.mean, self.std) = (Some([0.0; 3]), Some([1.0; 3]));
        }
        self.rescale(top)
    }

    /// Mean and deviation for pixels from 0 to 1, where the file means them for pixels from 0 to `255 * factor`.
    fn rescale(&mut self, top: Object<'_>) -> Result<()> {
        if let Some(value) = top.get("rescale_offset").filter(|value| **value != Value::Bool(false)) {
            return Err(top.unsupported("rescale_offset", value, "write the offset into `image_mean`"));
        }
        let factor = top.number("rescale_factor", deviation, "a number from 1e-6 to 1e6")?.unwrap_or(1.0 / 255.0);
        let range = if top.flag("do_rescale")? == Some(false) { 255.0 } else { 255.0 * factor };
        if (range - 1.0).abs() > 1e-6 {
            let default = Preprocess::default();
            self.mean = Some(self.mean.unwrap_or(default.mean.map(f64::from)).map(|mean| mean / range));
            self.std = Some(self.std.unwrap_or(default.std.map(f64::from)).map(|std| std / range));
        }
        Ok(())
    }
}

impl Settings {
    /// Settles what `said` leaves open for the network `spec`: 256 and 224 pixels, ImageNet's mean and deviation, symmetric padding, an
    /// epsilon of 1e-5 (1e-3 for torchvision's V3 and for `tf_` networks, which also have SAME padding), and a background class before
    /// the labels where there are 1001 outputs. A resize that no file states is in the usual proportion of 256 to 224, up to 8192 pixels.
    ///
    /// # Errors
    /// [`Error::ClassCount`], [`Error::LabelCount`] and, for `label_offset`, [`Error::Config`] if the configuration does not fit the
    /// last layer.
    pub fn new(said: &ModelConfig, spec: &NetworkSpec) -> Result<Self> {
        if let Some(classes) = said.classes.filter(|classes| *classes != spec.classes) {
            return Err(Error::ClassCount { file: said.file.clone(), said: classes, found: spec.classes });
        }
        if let Some(offset) = said.label_offset.filter(|offset| *offset >= spec.classes) {
            let (file, key) = (said.file.clone(), "label_offset".to_owned());
            let expected = "fewer than the last layer has outputs";
            return Err(Error::Config { file, key, found: offset.to_string(), expected });
        }
        let mut assumed = Vec::new();
        let mut note = |is_said: bool, words: &'static str| {
            if !is_said {
                assumed.push(words);
            }
        };
        let tensorflow = said.from_tensorflow;
        note(said.padding.is_some() || tensorflow, "symmetric padding");
        note(said.crop.is_some(), "an input of 224 x 224 pixels");
        note(said.mean.is_some() && said.std.is_some(), "ImageNet's mean and deviation");
        note(
            said.batch_norm_epsilon.is_some() || tensorflow || !spec.has_batch_norm(),
            "the usual epsilon of the batch norms",
        );
        let default = Preprocess::default();
        let crop = said.crop.unwrap_or(default.crop);
        let usual_resize = Resize::Shorter(((f64::from(crop) / 0.875) as u32).min(MAX_TARGET_SIDE));
        let preprocess = Preprocess {
            resize: said.resize.unwrap_or(usual_resize),
            crop,
            mean: said.mean.map_or(default.mean, |mean| mean.map(|value| value as f32)),
            std: said.std.map_or(default.std, |std| std.map(|value| value as f32)),
            filter: said.filter.unwrap_or_default(),
        };
        let usual_epsilon = match (spec.naming, spec.architecture) {
            _ if tensorflow => 1e-3,
            (Naming::Timm, _) | (Naming::Torchvision, Architecture::V2) => 1e-5,
            (Naming::Torchvision, _) => 1e-3,
        };
        let usual_padding = if tensorflow { Padding::TensorflowSame } else { Padding::Symmetric };
        let label_offset = said.label_offset.unwrap_or(usize::from(spec.classes == 1001));
        let labels = match &said.labels {
            Some(names) => Labels::fit(&said.file, names.clone(), spec.classes, label_offset)?,
            None => Labels::numbered(spec.classes, label_offset),
        };
        Ok(Self {
            preprocess,
            labels,
            label_offset,
            padding: said.padding.unwrap_or(usual_padding),
            batch_norm_epsilon: said.batch_norm_epsilon.unwrap_or(usual_epsilon),
            assumed,
        })
    }
}

fn epsilon(top: Object<'_>, key: &str) -> Result<Option<f64>> {
    top.number(key, |epsilon| epsilon > 0.0 && epsilon < 1.0, "a number between 0 and 1")
}

/// A number of pixels.
fn side(object: Object<'_>, key: &str) -> Result<Option<u32>> {
    Ok(object.count(key, |size| (1..=u64::from(MAX_TARGET_SIDE)).contains(&size), SIZE)?.map(|size| size as u32))
}

fn wrong_size(top: Object<'_>) -> Error {
    let value = top.get("size").cloned().unwrap_or_default();
    top.wrong("size", &value, "an object with `shortest_edge`, or with `height` and `width`")
}

/// The side of a square given as a number, `[side, side]`, `[3, side, side]` or `{"height": side, "width": side}`.
fn square(object: Object<'_>, key: &str, value: &Value) -> Result<u32> {
    let (height, width) = match value {
        Value::Array(sizes) => match sizes.as_slice() {
            [height, width] => (height, width),
            [channels, height, width] if channels == 3 => (height, width),
            _ => return Err(object.wrong(key, value, CROP)),
        },
        Value::Object(sizes) => match (sizes.get("height"), sizes.get("width")) {
            (Some(height), Some(width)) => (height, width),
            _ => return Err(object.wrong(key, value, CROP)),
        },
        side => (side, side),
    };
    let allowed = |size: u64| (1..=u64::from(MAX_TARGET_SIDE)).contains(&size) && size.is_multiple_of(32);
    let height = object.whole(key, height, allowed, CROP)?;
    if object.whole(key, width, allowed, CROP)? != height {
        return Err(object.wrong(key, value, CROP));
    }
    Ok(height as u32)
}

/// The labels of Hugging Face's `id2label` or of timm's `label_names`, with their `label_descriptions` where there are any.
fn labels(top: Object<'_>) -> Result<Option<Vec<String>>> {
    const NAMES: &str = "a list of texts";
    if let Some(value) = top.get("label_names") {
        let descriptions = top.object("label_descriptions")?;
        let names = value.as_array().ok_or_else(|| top.wrong("label_names", value, NAMES))?;
        let named = names.iter().map(|name| {
            let name = name.as_str().ok_or_else(|| top.wrong("label_names", value, NAMES))?;
            let description = descriptions.map(|texts| texts.text(name)).transpose()?.flatten();
            Ok(description.unwrap_or(name).to_owned())
        });
        return named.collect::<Result<_>>().map(Some);
    }
    let Some(ids) = top.object("id2label")? else {
        return Ok(None);
    };
    let count = ids.entries().count();
    let mut slots = vec![None; count];
    for (id, label) in ids.entries() {
        let slot = id.parse().ok().and_then(|position: usize| slots.get_mut(position));
        let slot =
            slot.ok_or_else(|| ids.wrong(id, label, "every number from 0 to one less than there are labels, once"))?;
        let text = label.as_str().ok_or_else(|| ids.wrong(id, label, "a text"))?;
        *slot = Some(text.to_owned());
    }
    let missing = || top.get("id2label").map(|value| top.wrong("id2label", value, "every number from 0 on, once"));
    match slots.into_iter().collect::<Option<Vec<String>>>() {
        Some(labels) => Ok(Some(labels)),
        None => missing().map_or(Ok(None), Err),
    }
}

#[cfg(test)]
mod tests;
