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
    /// The first half of them all are gates of the second, in panels of 16 and 16.
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
        let mut all: Vec<(String, Vec<usize>)> = Vec::new();
        let mut matrix = |matrix: Matrix, bias: bool| {
            for (name, rows) in matrix.parts {
                if bias {
                    all.push((bias_of(&name), vec![rows]));
                }
                all.push((name, vec![rows, matrix.columns]));
            }
        };
        matrix(self.embedding(), false);
        matrix(self.head(), false);
        for layer in 0..c.layers {
            matrix(self.qkv(layer), c.qkv_bias);
            matrix(self.output(layer), c.output_bias);
            matrix(self.gate_up(layer), c.mlp_bias);
            matrix(self.down(layer), c.mlp_bias);
        }
        for layer in 0..c.layers {
            let norms = [Norm::Attention, Norm::Mlp].into_iter();
            let post = [Norm::AfterAttention, Norm::AfterMlp].into_iter().filter(|_| c.post_norm);
            all.extend(norms.chain(post).map(|norm| (self.norm(layer, norm), vec![c.hidden])));
            if c.head_norm {
                all.extend(head_norms(layer).map(|name| (name, vec![c.head])));
            }
        }
        all.push((LAST_NORM.to_owned(), vec![c.hidden]));
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
        let tensor = |part: &str| format!("model.layers.{layer}.self_attn.{part}_proj.weight");
        let parts = match c.fused {
            true => vec![(tensor("qkv"), rows.iter().sum())],
            false => ["q", "k", "v"].map(tensor).into_iter().zip(rows).collect(),
        };
        self.matrix(&format!("layers.{layer}.qkv"), parts, c.hidden, Rows::Stacked)
    }

    pub(super) fn output(&self, layer: usize) -> Matrix {
        let c = &self.config;
        let parts = vec![(format!("model.layers.{layer}.self_attn.o_proj.weight"), c.hidden)];
        self.matrix(&format!("layers.{layer}.output"), parts, c.query_heads * c.head, Rows::Stacked)
    }

    pub(super) fn gate_up(&self, layer: usize) -> Matrix {
        let c = &self.config;
        let tensor = |part: &str| format!("model.layers.{layer}.mlp.{part}_proj.weight");
        let parts = match c.fused {
            true => vec![(tensor("gate_up"), 2 * c.intermediate)],
            false => vec![(tensor("gate"), c.intermediate), (tensor("up"), c.intermediate)],
        };
        self.matrix(&format!("layers.{layer}.gate_up"), parts, c.hidden, Rows::Gated)
    }

    pub(super) fn down(&self, layer: usize) -> Matrix {
        let c = &self.config;
        let parts = vec![(format!("model.layers.{layer}.mlp.down_proj.weight"), c.hidden)];
        self.matrix(&format!("layers.{layer}.down"), parts, c.intermediate, Rows::Stacked)
    }

    /// The name of a layer's norm.
    fn norm(&self, layer: usize, norm: Norm) -> String {
        let name = match (norm, self.config.post_norm) {
            (Norm::Attention, _) => "input_layernorm",
            (Norm::AfterAttention, _) | (Norm::Mlp, false) => "post_attention_layernorm",
            (Norm::Mlp, true) => "pre_feedforward_layernorm",
            (Norm::AfterMlp, _) => "post_feedforward_layernorm",
        };
        format!("model.layers.{layer}.{name}.weight")
    }

    /// The gain of a layer's norm, as a constant of a plan.
    pub(super) fn gain(&self, builder: &mut PlanBuilder, layer: usize, norm: Norm) -> TensorId {
        self.vector(builder, vec![self.norm(layer, norm)], vec![self.config.hidden], self.config.gain_offset)
    }

    /// The gain of the norm before the head.
    pub(super) fn last_gain(&self, builder: &mut PlanBuilder) -> TensorId {
        self.vector(builder, vec![LAST_NORM.to_owned()], vec![self.config.hidden], self.config.gain_offset)
    }

    /// The gains of the heads of queries, and of keys.
    pub(super) fn head_gains(&self, builder: &mut PlanBuilder, layer: usize) -> TensorId {
        self.vector(builder, head_norms(layer).to_vec(), vec![2, self.config.head], self.config.gain_offset)
    }

    /// The bias of a matrix, its values in the order of the matrix's rows.
    pub(super) fn bias(&self, builder: &mut PlanBuilder, matrix: &Matrix) -> TensorId {
        let (weights, of, desc) = (self.weights.clone(), matrix.clone(), Desc::f32([matrix.height()]));
        let made = desc.clone();
        let make: Maker = Arc::new(move || {
            let mut values = vec![0.0; of.height()];
            for (part, (name, _)) in of.parts.iter().enumerate() {
                for (row, value) in
                    weights.f32(&bias_of(name)).map_err(|error| error.to_string())?.into_iter().enumerate()
                {
                    values[of.place(part, row)] = value;
                }
            }
            Ok(HostTensor::from_values(made.clone(), &values))
        });
        builder.constant(format!("{}.bias", matrix.name), desc, make)
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

    /// Vectors of the file joined, with `offset` added to each value, as a constant of a plan.
    fn vector(&self, builder: &mut PlanBuilder, names: Vec<String>, shape: Vec<usize>, offset: f32) -> TensorId {
        let (weights, desc) = (self.weights.clone(), Desc::f32(shape));
        let (name, made) = (names.join("+"), desc.clone());
        let make: Maker = Arc::new(move || {
            let mut values = Vec::with_capacity(made.len());
            for name in &names {
                values.extend(weights.f32(name).map_err(|error| error.to_string())?.into_iter().map(|v| v + offset));
            }
            Ok(HostTensor::from_values(made.clone(), &values))
        });
        builder.constant(name, desc, make)
    }
}

/// Where in a layer a norm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Norm {
    /// Before the attention.
    Attention,
    /// After the attention, before it is added.
    AfterAttention,
    /// Before the gated units.
    Mlp,
    /// After the gated units' projection, before it is added.
    AfterMlp,
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const LAST_NORM: &str = "model.norm.weight";
const HEAD: &str = "lm_head.weight";

/// The gains of the norms of query heads and key heads.
fn head_norms(layer: usize) -> [String; 2] {
    ["q", "k"].map(|part| format!("model.layers.{layer}.self_attn.{part}_norm.weight"))
}

/// The bias beside a weight.
fn bias_of(weight: &str) -> String {
    weight.strip_suffix("weight").unwrap_or(weight).to_owned() + "bias"
}

impl Matrix {
    /// Its name in plans.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Rows, those that pad a panel of gates included.
    fn height(&self) -> usize {
        match self.rows {
            Rows::Stacked => self.parts.iter().map(|(_, rows)| rows).sum(),
            Rows::Gated => Dense::gated_rows(self.parts.iter().map(|(_, rows)| rows).sum::<usize>() / 2),
        }
    }

    /// Where each row of part `part` goes.
    fn place(&self, part: usize, row: usize) -> usize {
        let row = self.parts[..part].iter().map(|(_, rows)| rows).sum::<usize>() + row;
        let width = self.parts.iter().map(|(_, rows)| rows).sum::<usize>() / 2;
        match self.rows {
            Rows::Stacked => row,
            Rows::Gated if row < width => Dense::gate_row(row),
            Rows::Gated => Dense::gate_row(row - width) + 16,
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
