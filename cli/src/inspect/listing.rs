//! What the files of a model for texts hold: the metadata of a GGUF file, and the tensors.

use crate::output;
use lampyris::engine::weights::gguf::Value;
use lampyris::engine::weights::{Stored, TensorFile};
use serde::Serialize;

/// Characters of a text of the metadata that are shown.
const LONGEST: usize = 96;
/// Elements of an array that are shown.
const ELEMENTS: usize = 4;

/// A model's files.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    /// What the files are.
    pub(super) files: String,
    pub(super) bytes: u64,
    /// Of a GGUF file: keys, and their values shortened.
    metadata: Vec<(String, String)>,
    pub(super) tensors: Vec<Tensor>,
}

#[derive(Debug, Serialize)]
pub(super) struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: u64,
}

impl Listing {
    pub(super) fn of(weights: &TensorFile) -> Listing {
        let stored = |it: Stored<'_>| Tensor {
            name: it.name.to_owned(),
            dtype: it.storage.to_string(),
            shape: it.shape.to_vec(),
            bytes: it.bytes,
        };
        let tensors: Vec<Tensor> = weights.tensors().map(stored).collect();
        let (files, metadata) = match weights {
            TensorFile::Gguf(gguf) => {
                let entries = gguf.metadata().map(|(key, value)| (output::one_line(key), shortened(value)));
                (format!("GGUF version {} in {} file(s)", gguf.version(), gguf.parts()), entries.collect())
            }
            _ => ("safetensors".to_owned(), Vec::new()),
        };
        Listing { files, bytes: tensors.iter().map(|tensor| tensor.bytes).sum(), metadata, tensors }
    }

    /// The line that a report begins with.
    pub(super) fn head(&self, model: &str, what: Option<&str>) -> String {
        let what = what.unwrap_or("not recognized");
        let (model, what) = (output::one_line(model), output::one_line(what));
        format!("{model}: {what}, {}, {} tensors, {} bytes\n", self.files, self.tensors.len(), self.bytes)
    }

    /// Metadata and tensors, for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.metadata {
            text += &format!("  {key} = {value}\n");
        }
        let width = self.tensors.iter().map(|t| t.name.chars().count()).max().unwrap_or(0).min(60);
        for t in &self.tensors {
            let name = output::one_line(&t.name);
            text += &format!("  {name:width$}  {:7}  {:>10}  {:?}\n", t.dtype, t.bytes, t.shape);
        }
        text
    }
}

/// Text of a file on one line, shortened and harmless.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(LONGEST).collect();
    let more = if start.len() < text.len() { format!("... ({} bytes)", text.len()) } else { String::new() };
    output::one_line(&start) + &more
}

/// A value of the metadata, with the first elements of an array.
fn shortened(value: Value<'_>) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", shown(text)),
        Value::Array(array) => {
            let first: Vec<String> = array.iter().take(ELEMENTS).map(shortened).collect();
            let more = if array.len() > ELEMENTS { ", ..." } else { "" };
            format!("{} of [{}{more}]", array.len(), first.join(", "))
        }
        Value::Bool(truth) => truth.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        other => other.integer().map(|number| number.to_string()).unwrap_or_default(),
    }
}
