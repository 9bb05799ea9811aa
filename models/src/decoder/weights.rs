//! From a decoder's tensors in the file to the panels its kernels read: rows of several tensors joined, gates beside their units.

use super::DecoderConfig;
use crate::error::{Problem, Problems};
use crate::{Error, Result};
use lampyris_engine::kernels::text::{Dense, Scheme};
use lampyris_engine::kernels::{Desc, Format, HostTensor, panel};
use lampyris_engine::plan::{Maker, PlanBuilder, TensorId};
use lampyris_engine::weights::{Dtype, Weights};
use std::sync::Arc;

/// How the rows of a matrix come from tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// One tensor's after another's.
    Stacked,
    /// The first tensor's gate those of the second, in panels of 16 and 16.
    Gated,
}

/// A matrix of the network: some tensors `[rows, columns]` of the file.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    name: String,
    parts: Vec<(String, usize)>,
    columns: usize,
    rows: Rows,
}

/// The names of a decoder's tensors, as Hugging Face writes them.
#[derive(Debug, Clone)]
pub(super) struct Tensors {
    weights: Weights,
    config: DecoderConfig,
}

impl Tensors {
    /// Joins the configuration with the weights it describes.
    ///
    /// # Errors
    /// [`Error::Incomplete`] with every tensor that is missing or mis-shaped.
    pub(super) fn new(weights: Weights, config: DecoderConfig) -> Result<Tensors> {
        let tensors = Tensors { weights, config };
        let problems = tensors.problems();
        if !problems.is_empty() {
            let (file, model) = (tensors.weights.file().to_owned(), tensors.config.model_type.clone());
            return Err(Error::Incomplete { file, model, problems: Problems(problems) });
        }
        Ok(tensors)
    }

    pub(super) fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Every tensor of the network with its shape.
    fn expected(&self) -> Vec<(String, Vec<usize>)> {
        let c = &self.config;
        let mut all = vec![(EMBEDDING.to_owned(), vec![c.vocabulary, c.hidden]), (NORM.to_owned(), vec![c.hidden])];
        if !c.tied {
            all.push((HEAD.to_owned(), vec![c.vocabulary, c.hidden]));
        }
        let mut matrix = |matrix: Matrix, bias: Option<Vec<String>>| {
            for (at, (name, rows)) in matrix.parts.into_iter().enumerate() {
                all.push((name, vec![rows, matrix.columns]));
                if let Some(bias) = bias.as_ref().and_then(|names| names.get(at)) {
                    all.push((bias.clone(), vec![rows]));
                }
            }
        };
        for layer in 0..c.layers {
            matrix(self.qkv(layer), c.qkv_bias.then(|| qkv_biases(layer)));
            matrix(self.output(layer), c.output_bias.then(|| vec![output_bias(layer)]));
            matrix(self.gate_up(layer), None);
            matrix(self.down(layer), None);
        }
        for layer in 0..c.layers {
            all.push((attention_norm(layer), vec![c.hidden]));
            all.push((mlp_norm(layer), vec![c.hidden]));
        }
        all
    }

    fn problems(&self) -> Vec<Problem> {
        let problem = |(name, shape): (String, Vec<usize>)| {
            let expected = shape.iter().copied().map(Some).collect();
            match self.weights.get(&name) {
                Some(info) if info.shape == shape => None,
                Some(info) => Some(Problem::Shape { name, expected, found: info.shape.clone() }),
                None => Some(Problem::Missing { name, expected, or_batch_norm: None }),
            }
        };
        self.expected().into_iter().filter_map(problem).collect()
    }

    pub(super) fn embedding(&self) -> Matrix {
        self.matrix(EMBEDDING, vec![(EMBEDDING.to_owned(), self.config.vocabulary)], self.config.hidden, Rows::Stacked)
    }

    /// The matrix of the logits.
    pub(super) fn head(&self) -> Matrix {
        if self.config.tied {
            return self.embedding();
        }
        self.matrix(HEAD, vec![(HEAD.to_owned(), self.config.vocabulary)], self.config.hidden, Rows::Stacked)
    }

    pub(super) fn qkv(&self, layer: usize) -> Matrix {
        let c = &self.config;
        let rows = [c.query_heads, c.key_heads, c.key_heads].map(|heads| heads * c.head);
        let parts =
            QKV.iter().zip(rows).map(|(q, rows)| (format!("model.layers.{layer}.self_attn.{q}_proj.weight"), rows));
        self.matrix(&format!("layers.{layer}.qkv"), parts.collect(), c.hidden, Rows::Stacked)
    }

    pub(super) fn output(&self, layer: usize) -> Matrix {
        let c = &self.config;
        let parts = vec![(format!("model.layers.{layer}.self_attn.o_proj.weight"), c.hidden)];
        self.matrix(&format!("layers.{layer}.output"), parts, c.query_heads * c.head, Rows::Stacked)
    }

    pub(super) fn gate_up(&self, layer: usize) -> Matrix {
        let c = &self.config;
        let parts = ["gate", "up"].map(|part| (format!("model.layers.{layer}.mlp.{part}_proj.weight"), c.intermediate));
        self.matrix(&format!("layers.{layer}.gate_up"), parts.to_vec(), c.hidden, Rows::Gated)
    }

    pub(super) fn down(&self, layer: usize) -> Matrix {
        let c = &self.config;
        let parts = vec![(format!("model.layers.{layer}.mlp.down_proj.weight"), c.hidden)];
        self.matrix(&format!("layers.{layer}.down"), parts, c.intermediate, Rows::Stacked)
    }

    fn matrix(&self, name: &str, parts: Vec<(String, usize)>, columns: usize, rows: Rows) -> Matrix {
        Matrix { name: name.to_owned(), parts, columns, rows }
    }

    /// How the matrix is stored: as its tensors are if they agree, and else in f32, which holds all of them exactly.
    fn scheme(&self, matrix: &Matrix) -> Scheme {
        let scheme = |(name, _): &(String, usize)| match self.weights.get(name).map(|info| info.dtype) {
            Some(Dtype::F16) => Scheme::F16,
            Some(Dtype::BF16) => Scheme::Bf16,
            _ => Scheme::F32,
        };
        let mut schemes = matrix.parts.iter().map(scheme);
        let first = schemes.next().unwrap_or(Scheme::F32);
        if schemes.all(|other| other == first) { first } else { Scheme::F32 }
    }

    /// The tensors of a matrix, as constants of a plan.
    pub(super) fn constants(&self, builder: &mut PlanBuilder, matrix: &Matrix) -> Vec<TensorId> {
        let descs = self.scheme(matrix).descs(matrix.height(), matrix.columns);
        let constant = |desc: Desc| {
            let (weights, matrix, made) = (self.weights.clone(), matrix.clone(), desc.clone());
            let name = format!("{}.{}", matrix.name, desc.format.label());
            let make: Maker = Arc::new(move || matrix.tensor(&weights, &made));
            builder.constant(name, desc, make)
        };
        descs.into_iter().map(constant).collect()
    }

    /// A vector of the file, or several joined, as a constant of a plan.
    pub(super) fn vector(&self, builder: &mut PlanBuilder, names: &[String], len: usize) -> TensorId {
        let (weights, parts) = (self.weights.clone(), names.to_vec());
        let make: Maker = Arc::new(move || {
            let mut values = Vec::with_capacity(len);
            for name in &parts {
                values.extend(weights.f32(name).map_err(|error| error.to_string())?);
            }
            Ok(HostTensor::from_values(Desc::f32([values.len()]), &values))
        });
        builder.constant(names.join("+"), Desc::f32([len]), make)
    }
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const NORM: &str = "model.norm.weight";
const HEAD: &str = "lm_head.weight";
const QKV: [&str; 3] = ["q", "k", "v"];

/// The gain of the norm before the head.
pub(super) fn last_norm() -> String {
    NORM.to_owned()
}

/// The gain of the norm before a layer's attention.
pub(super) fn attention_norm(layer: usize) -> String {
    format!("model.layers.{layer}.input_layernorm.weight")
}

/// The gain of the norm before a layer's gated units.
pub(super) fn mlp_norm(layer: usize) -> String {
    format!("model.layers.{layer}.post_attention_layernorm.weight")
}

/// The biases of queries, keys and values.
pub(super) fn qkv_biases(layer: usize) -> Vec<String> {
    QKV.map(|part| format!("model.layers.{layer}.self_attn.{part}_proj.bias")).to_vec()
}

/// The bias of the attention's output.
pub(super) fn output_bias(layer: usize) -> String {
    format!("model.layers.{layer}.self_attn.o_proj.bias")
}

impl Matrix {
    /// Rows, those that pad a panel of gates included.
    fn height(&self) -> usize {
        match self.rows {
            Rows::Stacked => self.parts.iter().map(|(_, rows)| rows).sum(),
            Rows::Gated => Dense::gated_rows(self.parts[0].1),
        }
    }

    /// Where each row of part `part` goes.
    fn place(&self, part: usize, row: usize) -> usize {
        match self.rows {
            Rows::Stacked => self.parts[..part].iter().map(|(_, rows)| rows).sum::<usize>() + row,
            Rows::Gated => Dense::gate_row(row) + 16 * part,
        }
    }

    /// The panel that `desc` says, from the file.
    fn tensor(&self, weights: &Weights, desc: &Desc) -> Result<HostTensor, String> {
        let Format::Panel(code) = desc.format else { return Err(format!("{desc} is no panel")) };
        let mut tensor = HostTensor::zeros(desc.clone());
        for (part, (name, _)) in self.parts.iter().enumerate() {
            let values = weights.f32(name).map_err(|error| error.to_string())?;
            for (row, values) in values.chunks_exact(self.columns.max(1)).enumerate() {
                let to = self.place(part, row);
                for (column, value) in values.iter().enumerate() {
                    panel::put(code, &mut tensor.words, self.columns, (to, column), *value);
                }
            }
        }
        Ok(tensor)
    }
}
