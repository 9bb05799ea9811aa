//! Writes a decoder as a GGUF file with its matrices in a block format, tensor by tensor: no model is in memory as a whole.

mod recipe;
mod settings;

pub use recipe::Recipe;

use super::DecoderConfig;
use super::matrix::of_halves;
use super::model::DecoderFiles;
use super::weights::Tensors;
use crate::{Error, Result};
use lampyris_engine::weights::blocks::BlockFormat;
use lampyris_engine::weights::gguf::{BlocksLayout, Gguf, MetadataValue, TensorSink, write_gguf_with};
use lampyris_engine::weights::{Storage, TensorFile, WeightsError};
use std::path::Path;

/// Numbers that are encoded at once: a mebibyte of them in f32.
const CHUNK: usize = 1 << 18;

/// Where a tensor's numbers come from.
#[derive(Debug, Clone, PartialEq)]
enum Origin {
    /// A tensor of the file, or several one after another; `head` is the size of heads whose halves are to be interleaved row by row, and
    /// `offset` is added.
    Stored { names: Vec<String>, head: Option<usize>, offset: f32 },
    /// The configuration.
    Made(Vec<f32>),
}

/// A tensor of the file that is written.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Converted {
    /// Its name in a GGUF file.
    pub name: String,
    /// Its shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// How it was stored, and in how many bytes.
    pub before: (Storage, u64),
    /// How it is stored.
    pub after: BlockFormat,
    /// Whether it takes another format than was asked for because its rows are no whole blocks of that one.
    pub divided: bool,
    origin: Origin,
}

impl Converted {
    /// Bytes it takes in the file that is written.
    pub fn bytes(&self) -> u64 {
        let elements: usize = if self.shape.contains(&0) { 0 } else { self.shape.iter().product() };
        (elements / self.after.block_elements()) as u64 * self.after.block_bytes() as u64
    }
}

/// What a GGUF file of a decoder will hold, known before anything is written.
///
/// Matrices take the format that the recipe says, or, where their rows are no whole blocks of it, the next that they are whole
/// blocks of: Q5_0 for Q4_K, Q5_1 for Q5_K, Q8_0 for Q6_K, IQ4_NL for the others with blocks of 256, and at last F16. Norms, biases
/// and a router's matrix stay in F32, and so does whatever else has one dimension only.
#[derive(Debug, Clone)]
pub struct Conversion {
    file: TensorFile,
    metadata: Vec<(String, MetadataValue)>,
    tensors: Vec<Converted>,
}

impl Conversion {
    /// Plans the file: of a GGUF file the metadata is copied, of a folder it is made of `config.json`. `more` is added to it, or
    /// takes the place of what is there: of a folder, its name and its vocabulary. A [`BlockFormat`] alone is the format of all matrices.
    ///
    /// # Errors
    /// As [`Decoder::new`](super::Decoder::new) for the files; [`Error::NotGguf`] for what a GGUF file cannot say;
    /// [`WeightsError::Blocks`] for a format that is not encoded.
    pub fn new(
        files: &DecoderFiles,
        recipe: impl Into<Recipe>,
        more: Vec<(String, MetadataValue)>,
    ) -> Result<Conversion> {
        let (recipe, file) = (recipe.into(), files.weights.clone());
        let (mut metadata, tensors) = match &file {
            TensorFile::Gguf(gguf) => (copied(gguf), copies(gguf, recipe)?),
            _ => settings::of_folder(files, recipe)?,
        };
        let facts = [
            ("general.file_type", MetadataValue::U32(recipe.file_type())),
            ("general.quantization_version", MetadataValue::U32(2)),
        ];
        for (key, value) in facts.map(|(key, value)| (key.to_owned(), value)).into_iter().chain(more) {
            match metadata.iter_mut().find(|(there, _)| *there == key) {
                Some(entry) => entry.1 = value,
                None => metadata.push((key, value)),
            }
        }
        if !Recipe::known().any(|known| known == recipe) {
            let known: Vec<&str> = Recipe::known().map(Recipe::name).collect();
            let reason = format!("{recipe} is not encoded here; choose one of {}", known.join(", "));
            return Err(Error::NotGguf { file: file.file().to_owned(), reason });
        }
        Ok(Conversion { file, metadata, tensors })
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> &[Converted] {
        &self.tensors
    }

    /// Bytes of all tensors as they were stored, and as they will be.
    pub fn bytes(&self) -> (u64, u64) {
        (self.tensors.iter().map(|it| it.before.1).sum(), self.tensors.iter().map(Converted::bytes).sum())
    }

    /// Writes the file to `path`, whole or not at all, replacing what was there; `done` is told the bytes of each tensor as it is
    /// written. The error of each tensor: the root of the sum of squared differences over that of the squared values.
    ///
    /// # Errors
    /// [`Error::Weights`] for numbers that are not finite or do not fit the format, and when the disk refuses.
    pub fn write(&self, path: &Path, mut done: impl FnMut(u64)) -> Result<Vec<f64>> {
        let layout = |it| {
            let Converted { name, shape, after, .. }: &Converted = it;
            BlocksLayout { name, format: *after, shape }
        };
        let layouts: Vec<BlocksLayout<'_>> = self.tensors.iter().map(layout).collect();
        let mut errors = vec![0.0; self.tensors.len()];
        write_gguf_with(path, &self.metadata, &layouts, |number, sink| -> Result<()> {
            if let (Some(tensor), Some(error)) = (self.tensors.get(number), errors.get_mut(number)) {
                *error = self.put(tensor, sink)?;
                done(tensor.bytes());
            }
            Ok(())
        })?;
        Ok(errors)
    }

    /// Writes one tensor; its error.
    fn put(&self, tensor: &Converted, sink: &mut TensorSink<'_>) -> Result<f64> {
        let mut sums = (0.0, 0.0);
        let (names, head, offset) = match &tensor.origin {
            Origin::Made(values) => return self.encode(tensor, values, &mut sums, sink).map(|()| relative(sums)),
            Origin::Stored { names, head, offset } => (names, *head, *offset),
        };
        let columns = tensor.shape.last().copied().unwrap_or(1);
        let rows =
            tensor.shape.split_last().map_or(1, |(_, outer)| outer.iter().product::<usize>()) / names.len().max(1);
        // What is one row is as many numbers as heads have rows; what is a matrix comes in whole heads.
        let (unit, width) = if tensor.shape.len() < 2 { (rows, 1) } else { (head.unwrap_or(1), columns) };
        let step = (CHUNK / columns.max(1) / unit.max(1)).max(1) * unit.max(1);
        let kept = |name: &String| self.file.get(name).is_some_and(|it| it.storage == Storage::of(tensor.after));
        let same = head.is_none() && offset == 0.0 && names.iter().all(kept);
        let parts = names.iter().flat_map(|name| (0..rows).step_by(step).map(move |first| (name, first)));
        for (name, first) in parts {
            let range = first..(first + step).min(rows);
            if same {
                sink.put(&self.file.rows(name, range)?)?;
                continue;
            }
            let mut values = self.file.f32_rows(name, range)?;
            if let Some(head) = head {
                values = interleaved(&values, head, width);
            }
            values.iter_mut().for_each(|value| *value += offset);
            self.encode(tensor, &values, &mut sums, sink)?;
        }
        Ok(relative(sums))
    }

    /// Encodes some rows and adds the squares of what is lost, and of what there was, to `sums`.
    fn encode(
        &self,
        tensor: &Converted,
        values: &[f32],
        sums: &mut (f64, f64),
        sink: &mut TensorSink<'_>,
    ) -> Result<()> {
        let (file, name) = (self.file.file().to_owned(), tensor.name.clone());
        let blocks = |source| WeightsError::Blocks { file, tensor: name, source };
        let encoded = tensor.after.quantize(values).map_err(blocks)?;
        let whole: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        sums.0 += encoded.relative_error.powi(2) * whole;
        sums.1 += whole;
        Ok(sink.put(&encoded.bytes)?)
    }
}

fn relative((apart, whole): (f64, f64)) -> f64 {
    if whole > 0.0 { (apart / whole).sqrt() } else { 0.0 }
}

/// Rows of `width` numbers in heads of `head` rows: row `i` of a head's first half comes before row `i` of its second.
fn interleaved(values: &[f32], head: usize, width: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = values.chunks(width.max(1)).collect();
    (0..rows.len()).filter_map(|row| rows.get(of_halves(row, head))).flat_map(|row| row.iter().copied()).collect()
}

/// The metadata of a file, without what holds of that file alone.
fn copied(gguf: &Gguf) -> Vec<(String, MetadataValue)> {
    let own = |key: &str| key == "general.alignment" || key.starts_with("split.");
    let entries = gguf.metadata().filter(|(key, _)| !own(key));
    entries.map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// The tensors of a GGUF file, in its order.
fn copies(gguf: &Gguf, recipe: Recipe) -> Result<Vec<Converted>> {
    let config = DecoderConfig::of_gguf(gguf)?;
    let (layers, tied) = (config.layers, config.tied);
    Tensors::new(gguf.clone().into(), config)?;
    let mut order: Vec<_> = gguf.tensors().iter().collect();
    order.sort_by_key(|tensor| (tensor.part, tensor.range.start));
    let convert = |tensor: &&lampyris_engine::weights::gguf::GgufTensor| {
        let before = (Storage::of(tensor.format), tensor.range.end - tensor.range.start);
        let origin = Origin::Stored { names: vec![tensor.name.clone()], head: None, offset: 0.0 };
        let format = recipe.format(&tensor.name, layers, tied);
        converted(tensor.name.clone(), tensor.shape.clone(), before, format, origin)
    };
    Ok(order.iter().map(convert).collect())
}

/// A tensor in the format that it takes when `format` is asked for.
fn converted(
    name: String,
    shape: Vec<usize>,
    before: (Storage, u64),
    format: BlockFormat,
    origin: Origin,
) -> Converted {
    let columns = shape.last().copied().unwrap_or(1);
    let (after, divided) = if shape.len() < 2 || name.ends_with("ffn_gate_inp.weight") {
        (BlockFormat::F32, false)
    } else if format.divides(columns) {
        (format, false)
    } else {
        let smaller = match format {
            BlockFormat::Q4K => BlockFormat::Q5_0,
            BlockFormat::Q5K => BlockFormat::Q5_1,
            BlockFormat::Q6K => BlockFormat::Q8_0,
            _ => BlockFormat::IQ4NL,
        };
        let whole = format.block_elements() > smaller.block_elements() && smaller.divides(columns);
        (if whole { smaller } else { BlockFormat::F16 }, true)
    };
    Converted { name, shape, before, after, divided, origin }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_heads_are_interleaved_head_by_head() {
        let rows: Vec<f32> = (0..8).flat_map(|row| [row as f32, 10.0 + row as f32]).collect();
        let found = interleaved(&rows, 4, 2);
        let first: Vec<f32> = found.chunks(2).map(|row| row[0]).collect();
        assert_eq!(first, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(interleaved(&[0.0, 1.0, 2.0, 3.0], 4, 1), [0.0, 2.0, 1.0, 3.0]);
    }
}
