//! An encoder's tensors: which the file must have, and the constants that plans make of them.

use super::EncoderConfig;
use super::names::{Naming, Part, Table};
use crate::decoder::matrix::{Matrix, stored};
use crate::error::{Problem, Problems};
use crate::{Error, Result};
use lampyris_engine::kernels::text::{CURSOR_WORDS, Scheme};
use lampyris_engine::kernels::{Desc, Format, HostTensor};
use lampyris_engine::plan::{Maker, PlanBuilder, TensorId};
use lampyris_engine::weights::{Feed, TensorFile};
use std::sync::Arc;

/// The most tensors that a refusal counts.
const MOST_PROBLEMS: usize = 1000;

/// An encoder's weights and what they are.
#[derive(Debug, Clone)]
pub(super) struct Tensors {
    file: TensorFile,
    naming: Naming,
    config: EncoderConfig,
    half: bool,
}

impl Tensors {
    /// What fetches the file, if it is not here.
    pub(super) fn feed(&self) -> Option<Feed> {
        self.file.feed().cloned()
    }

    /// Joins the configuration with the weights it describes. With `half` matrices of 32-bit floats are held in 16 bits.
    ///
    /// # Errors
    /// [`Error::Incomplete`] with every tensor that is missing or mis-shaped.
    pub(super) fn new(file: TensorFile, config: EncoderConfig, half: bool) -> Result<Tensors> {
        let tensors = Tensors { naming: Naming::of(&file), file, config, half };
        let problems = tensors.problems();
        if !problems.is_empty() {
            let (file, model) = (tensors.file.file().to_owned(), tensors.config.model_type.clone());
            return Err(Error::Incomplete { file, model, problems: Problems(problems) });
        }
        Ok(tensors)
    }

    pub(super) fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// The path or name of the weights.
    pub(super) fn file(&self) -> &str {
        self.file.file()
    }

    /// Every tensor of the network with its shape. One after another: a configuration may speak of far more than a file holds.
    fn expected(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let c = &self.config;
        let tables =
            [(Table::Words, c.vocabulary), (Table::Places, c.first_position + c.context), (Table::Types, c.types)];
        let there = tables.into_iter().filter(|(_, rows)| *rows > 0);
        let tables = there.map(|(table, rows)| (self.naming.table(table), vec![rows, c.hidden]));
        let layers = (0..c.layers).flat_map(|layer| self.expected_in(layer));
        tables.chain(self.part(Part::FirstNorm, c.hidden, None)).chain(layers)
    }

    /// The tensors of a layer with their shapes.
    fn expected_in(&self, layer: usize) -> impl Iterator<Item = (String, Vec<usize>)> {
        let c = &self.config;
        let matrices = [Part::Queries(layer), Part::Keys(layer), Part::Values(layer), Part::Output(layer)];
        let matrices = matrices.map(|matrix| (matrix, c.hidden, Some(c.hidden)));
        let others = [
            (Part::AttentionNorm(layer), c.hidden, None),
            (Part::Units(layer), c.intermediate, Some(c.hidden)),
            (Part::Down(layer), c.hidden, Some(c.intermediate)),
            (Part::UnitsNorm(layer), c.hidden, None),
        ];
        let all = matrices.into_iter().chain(others);
        all.flat_map(|(part, rows, columns)| self.part(part, rows, columns))
    }

    /// The weight and the bias of a part with their shapes.
    fn part(&self, part: Part, rows: usize, columns: Option<usize>) -> [(String, Vec<usize>); 2] {
        let [weight, bias] = self.naming.of_part(part);
        [(weight, [rows].into_iter().chain(columns).collect()), (bias, vec![rows])]
    }

    /// What is wrong with the tensors, up to [`MOST_PROBLEMS`].
    fn problems(&self) -> Vec<Problem> {
        let problem = |(name, shape): (String, Vec<usize>)| {
            let expected = shape.iter().copied().map(Some).collect();
            match self.file.get(&name) {
                Some(tensor) if tensor.shape == shape || (tensor.shape.len() == 1 && shape == [1, tensor.shape[0]]) => {
                    None
                }
                Some(tensor) => Some(Problem::Shape { expected, found: tensor.shape.to_vec(), name }),
                None => Some(Problem::Missing { name, expected, or_batch_norm: None }),
            }
        };
        self.expected().filter_map(problem).take(MOST_PROBLEMS).collect()
    }

    /// The table of tokens in parts of consecutive rows, no tensor of which takes more than `limit` bytes.
    pub(super) fn words(&self, limit: u64) -> Vec<Matrix> {
        let table = (self.naming.table(Table::Words), self.config.vocabulary);
        let table = Matrix::stacked("words", vec![table], self.config.hidden);
        table.parts_in(self.scheme(&table), limit)
    }

    /// Parts in runs whose weights the file stores alike.
    pub(super) fn alike<'a>(&'a self, parts: &'a [Part]) -> impl Iterator<Item = &'a [Part]> {
        let scheme = |part: &Part| {
            let [weight, _] = self.naming.of_part(*part);
            stored(&self.file, &weight)
        };
        parts.chunk_by(move |a, b| scheme(a) == scheme(b))
    }

    /// A matrix and its bias, as constants of a plan; those of several parts are joined, their rows one after another.
    pub(super) fn matrix(&self, builder: &mut PlanBuilder, name: &str, parts: &[Part]) -> (Vec<TensorId>, TensorId) {
        let shapes = parts.iter().map(|part| match part {
            Part::Units(_) => (self.config.intermediate, self.config.hidden),
            Part::Down(_) => (self.config.hidden, self.config.intermediate),
            _ => (self.config.hidden, self.config.hidden),
        });
        let columns = shapes.clone().map(|(_, columns)| columns).max().unwrap_or_default();
        let weights = parts.iter().zip(shapes).map(|(part, (rows, _))| {
            let [weight, _] = self.naming.of_part(*part);
            (weight, rows)
        });
        let matrix = Matrix::stacked(name, weights.collect(), columns);
        let biases = parts.iter().map(|part| {
            let [_, bias] = self.naming.of_part(*part);
            bias
        });
        let bias = self.vector(builder, biases.collect(), matrix.height());
        (self.constants(builder, matrix), bias)
    }

    /// The gain and the bias of a norm, as constants of a plan.
    pub(super) fn norm(&self, builder: &mut PlanBuilder, part: Part) -> [TensorId; 2] {
        self.naming.of_part(part).map(|name| self.vector(builder, vec![name], self.config.hidden))
    }

    /// How a matrix is held.
    fn scheme(&self, matrix: &Matrix) -> Scheme {
        match matrix.scheme(&self.file) {
            Scheme::F32 if self.half => Scheme::F16,
            scheme => scheme,
        }
    }

    /// The tensors of a matrix, as constants of a plan.
    pub(super) fn constants(&self, builder: &mut PlanBuilder, matrix: Matrix) -> Vec<TensorId> {
        let scheme = self.scheme(&matrix);
        let constant = |desc: Desc| {
            let (file, matrix, made) = (self.file.clone(), matrix.clone(), desc.clone());
            let name = format!("{}.{}", matrix.name, desc.format.label());
            let make: Maker = Arc::new(move || {
                let tensor = matrix.tensor(&file, &made)?;
                if scheme == Scheme::F16 && tensor.values().iter().any(|value| !value.is_finite()) {
                    return Err("a weight is beyond the 65504 that 16 bits hold; store the weights in f32".to_owned());
                }
                Ok(tensor)
            });
            builder.constant(name, desc, make)
        };
        scheme.descs(matrix.height(), matrix.columns).into_iter().map(constant).collect()
    }

    /// Vectors of the file joined to one of `length` values.
    fn vector(&self, builder: &mut PlanBuilder, names: Vec<String>, length: usize) -> TensorId {
        let (file, desc) = (self.file.clone(), Desc::f32([length]));
        let (name, made) = (names.join("+"), desc.clone());
        let make: Maker = Arc::new(move || {
            let mut values = Vec::with_capacity(made.len());
            for name in &names {
                values.extend(file.f32(name).map_err(|error| error.to_string())?);
            }
            Ok(HostTensor::from_values(made.clone(), &values))
        });
        builder.constant(name, desc, make)
    }

    /// What is added to the embedding of a token at each place: that of the position and that of the first token type.
    pub(super) fn places(&self, builder: &mut PlanBuilder) -> TensorId {
        let (file, c) = (self.file.clone(), &self.config);
        let desc = Desc::f32([c.context, c.hidden]);
        let positions = c.first_position..c.first_position + c.context;
        let types = (c.types > 0).then(|| self.naming.table(Table::Types));
        let (places, made) = (self.naming.table(Table::Places), desc.clone());
        let make: Maker = Arc::new(move || {
            let rows = |name: &str, rows| file.f32_rows(name, rows).map_err(|error| error.to_string());
            let mut values = rows(&places, positions.clone())?;
            if let Some(types) = &types {
                let first = rows(types, 0..1)?;
                for row in values.chunks_exact_mut(first.len().max(1)) {
                    row.iter_mut().zip(&first).for_each(|(value, added)| *value += added);
                }
            }
            Ok(HostTensor::from_values(made.clone(), &values))
        });
        builder.constant("places", desc, make)
    }

    /// Where the tokens of a run begin among those it is given: at the first.
    pub(super) fn start(&self, builder: &mut PlanBuilder) -> TensorId {
        let desc = Desc::new(Format::Word, [CURSOR_WORDS]);
        let made = desc.clone();
        builder.constant("start", desc, Arc::new(move || Ok(HostTensor::zeros(made.clone()))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;
    use lampyris_engine::weights::Weights;

    #[test]
    fn a_configuration_of_millions_of_layers_is_refused_and_not_built() {
        let config = r#"{"model_type": "bert", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 16777216,
            "num_attention_heads": 2, "vocab_size": 97, "max_position_embeddings": 9}"#;
        let config = EncoderConfig::read("config.json", config.as_bytes()).unwrap();
        let empty = [&2_u64.to_le_bytes()[..], b"{}"].concat();
        let weights = TensorFile::from(Weights::from_bytes("empty", empty).unwrap());
        let error = Tensors::new(weights, config, false).unwrap_err();
        assert!(matches!(&error, Error::Incomplete { problems, .. } if problems.0.len() == MOST_PROBLEMS), "{error}");
    }
}
