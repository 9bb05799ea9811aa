//! A decoder's tensors: which the file must have, and the constants that plans make of them.

use super::DecoderConfig;
use super::matrix::{Matrix, Piece, Rows};
use super::names::{Naming, Part, bias_of};
use crate::error::{Problem, Problems};
use crate::{Error, Result};
use lampyris_engine::kernels::{Desc, HostTensor};
use lampyris_engine::plan::{Maker, PlanBuilder, TensorId};
use lampyris_engine::weights::TensorFile;
use std::sync::Arc;

/// A decoder's weights and what they are.
#[derive(Debug, Clone)]
pub(super) struct Tensors {
    file: TensorFile,
    naming: Naming,
    config: DecoderConfig,
}

impl Tensors {
    /// Joins the configuration with the weights it describes.
    ///
    /// # Errors
    /// [`Error::Incomplete`] with every tensor that is missing or mis-shaped.
    pub(super) fn new(file: TensorFile, config: DecoderConfig) -> Result<Tensors> {
        let naming = match file {
            TensorFile::Gguf(_) => Naming::Gguf,
            _ => Naming::HuggingFace { post_norm: config.post_norm },
        };
        let tensors = Tensors { file, naming, config };
        let problems = tensors.problems();
        if !problems.is_empty() {
            let (file, model) = (tensors.file.file().to_owned(), tensors.config.model_type.clone());
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
            for piece in matrix.pieces {
                all.extend(bias.then(|| (bias_of(&piece.tensor), vec![piece.rows])));
                all.push((piece.tensor, vec![piece.rows, matrix.columns]));
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
            let post = [Part::AfterAttention, Part::AfterUnits].into_iter().filter(|_| c.post_norm);
            let norms = [Part::AttentionNorm, Part::UnitsNorm].into_iter().chain(post);
            all.extend(norms.map(|norm| (self.naming.of(layer, norm), vec![c.hidden])));
            let heads = [Part::QueryNorm, Part::KeyNorm].into_iter().filter(|_| c.head_norm);
            all.extend(heads.map(|norm| (self.naming.of(layer, norm), vec![c.head])));
        }
        all.push((self.naming.last_norm().to_owned(), vec![c.hidden]));
        all
    }

    /// Every tensor of the network once: its name in the file, its name in a GGUF file, and its shape.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn names_for_gguf(&self) -> Vec<(String, String, Vec<usize>)> {
        let gguf = Tensors { naming: Naming::Gguf, ..self.clone() };
        let both = self.expected().into_iter().zip(gguf.expected());
        let mut all: Vec<_> = both.map(|((name, shape), (gguf, _))| (name, gguf, shape)).collect();
        // A tied head is the table of embeddings.
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|(_, gguf, _)| seen.insert(gguf.clone()));
        all
    }

    fn problems(&self) -> Vec<Problem> {
        let problem = |(name, shape): (String, Vec<usize>)| {
            let expected = shape.iter().copied().map(Some).collect();
            match self.file.get(&name) {
                Some(tensor) if tensor.shape == shape => None,
                Some(tensor) => Some(Problem::Shape { expected, found: tensor.shape.to_vec(), name }),
                None => Some(Problem::Missing { name, expected, or_batch_norm: None }),
            }
        };
        self.expected().into_iter().filter_map(problem).collect()
    }

    /// The table of embeddings.
    pub(super) fn embedding(&self) -> Matrix {
        self.whole("embedding", self.naming.embedding().to_owned(), self.config.vocabulary, self.config.hidden)
    }

    /// The matrix of the logits.
    pub(super) fn head(&self) -> Matrix {
        if self.config.tied {
            return self.embedding();
        }
        self.whole("head", self.naming.head().to_owned(), self.config.vocabulary, self.config.hidden)
    }

    /// Queries, keys and values of a layer.
    pub(super) fn qkv(&self, layer: usize) -> Matrix {
        let c = &self.config;
        let heads = [(Part::Queries, c.query_heads), (Part::Keys, c.key_heads), (Part::Values, c.key_heads)];
        let interleaved = |part: Part| (c.interleaved && part != Part::Values).then_some(c.head);
        let piece = |(part, heads): (Part, usize)| Piece {
            tensor: self.naming.of(layer, part),
            rows: heads * c.head,
            interleaved: interleaved(part),
        };
        let pieces = match c.fused {
            true => vec![Piece {
                tensor: self.naming.of(layer, Part::FusedAttention),
                rows: (c.query_heads + 2 * c.key_heads) * c.head,
                interleaved: None,
            }],
            false => heads.map(piece).to_vec(),
        };
        Matrix { name: format!("layers.{layer}.qkv"), pieces, columns: c.hidden, rows: Rows::Stacked }
    }

    /// [`Tensors::qkv`] in parts that the file stores alike: all of it, or queries with keys and the values apart.
    pub(super) fn qkv_parts(&self, layer: usize) -> Vec<Matrix> {
        let whole = self.qkv(layer);
        let [queries, keys, values] = &whole.pieces[..] else { return vec![whole] };
        let part = |name: &str, pieces: Vec<Piece>| Matrix {
            name: format!("layers.{layer}.{name}"),
            pieces,
            columns: whole.columns,
            rows: Rows::Stacked,
        };
        let parts = [part("qk", vec![queries.clone(), keys.clone()]), part("v", vec![values.clone()])];
        let bytes = |matrices: &[Matrix]| -> u64 {
            let descs = |m: &Matrix| m.scheme(&self.file).descs(m.height(), m.columns);
            matrices.iter().flat_map(descs).map(|desc| desc.bytes()).sum()
        };
        let whole = [whole.clone()];
        if bytes(&parts) < bytes(&whole) { parts.into() } else { whole.into() }
    }

    /// The projection of a layer's attention.
    pub(super) fn output(&self, layer: usize) -> Matrix {
        let c = &self.config;
        self.whole(
            &format!("layers.{layer}.output"),
            self.naming.of(layer, Part::Output),
            c.hidden,
            c.query_heads * c.head,
        )
    }

    /// Gates and units of a layer.
    pub(super) fn gate_up(&self, layer: usize) -> Matrix {
        let c = &self.config;
        let piece = |part: Part, rows: usize| Piece { tensor: self.naming.of(layer, part), rows, interleaved: None };
        let pieces = match c.fused {
            true => vec![piece(Part::FusedUnits, 2 * c.intermediate)],
            false => vec![piece(Part::Gate, c.intermediate), piece(Part::Up, c.intermediate)],
        };
        Matrix { name: format!("layers.{layer}.gate_up"), pieces, columns: c.hidden, rows: Rows::Gated }
    }

    /// The projection of a layer's units.
    pub(super) fn down(&self, layer: usize) -> Matrix {
        let c = &self.config;
        self.whole(&format!("layers.{layer}.down"), self.naming.of(layer, Part::Down), c.hidden, c.intermediate)
    }

    fn whole(&self, name: &str, tensor: String, rows: usize, columns: usize) -> Matrix {
        let pieces = vec![Piece { tensor, rows, interleaved: None }];
        Matrix { name: name.to_owned(), pieces, columns, rows: Rows::Stacked }
    }

    /// The tensors of a matrix, as constants of a plan.
    pub(super) fn constants(&self, builder: &mut PlanBuilder, matrix: &Matrix) -> Vec<TensorId> {
        let descs = matrix.scheme(&self.file).descs(matrix.height(), matrix.columns);
        let constant = |desc: Desc| {
            let (file, matrix, made) = (self.file.clone(), matrix.clone(), desc.clone());
            let name = format!("{}.{}", matrix.name, desc.format.label());
            let make: Maker = Arc::new(move || matrix.tensor(&file, &made));
            builder.constant(name, desc, make)
        };
        descs.into_iter().map(constant).collect()
    }

    /// The bias of a matrix, its values in the order of the matrix's rows, as a constant of a plan.
    pub(super) fn bias(&self, builder: &mut PlanBuilder, matrix: &Matrix) -> TensorId {
        let (file, of, desc) = (self.file.clone(), matrix.clone(), Desc::f32([matrix.height()]));
        let made = desc.clone();
        let make: Maker = Arc::new(move || {
            let mut values = vec![0.0; of.height()];
            for (at, piece) in of.pieces.iter().enumerate() {
                let bias = file.f32(&bias_of(&piece.tensor)).map_err(|error| error.to_string())?;
                bias.into_iter().enumerate().for_each(|(row, value)| values[of.place(at, row)] = value);
            }
            Ok(HostTensor::from_values(made.clone(), &values))
        });
        builder.constant(format!("{}.bias", matrix.name), desc, make)
    }

    /// The gain of a layer's norm, as a constant of a plan.
    pub(super) fn gain(&self, builder: &mut PlanBuilder, layer: usize, norm: Part) -> TensorId {
        self.gains(builder, vec![self.naming.of(layer, norm)], vec![self.config.hidden])
    }

    /// The gain of the norm before the head, as a constant of a plan.
    pub(super) fn last_gain(&self, builder: &mut PlanBuilder) -> TensorId {
        self.gains(builder, vec![self.naming.last_norm().to_owned()], vec![self.config.hidden])
    }

    /// The gain of the norm before the head, as the file has it.
    pub(super) fn last_gain_values(&self) -> Result<Vec<f32>> {
        Ok(self.file.f32(self.naming.last_norm())?)
    }

    /// The gains of the heads of queries, and of keys, as a constant of a plan.
    pub(super) fn head_gains(&self, builder: &mut PlanBuilder, layer: usize) -> TensorId {
        let names = [Part::QueryNorm, Part::KeyNorm].map(|norm| self.naming.of(layer, norm));
        self.gains(builder, names.to_vec(), vec![2, self.config.head])
    }

    /// Gains of the file joined, each with what the model adds to it.
    fn gains(&self, builder: &mut PlanBuilder, names: Vec<String>, shape: Vec<usize>) -> TensorId {
        let (file, offset, desc) = (self.file.clone(), self.config.gain_offset, Desc::f32(shape));
        let (name, made) = (names.join("+"), desc.clone());
        let make: Maker = Arc::new(move || {
            let mut values = Vec::with_capacity(made.len());
            for name in &names {
                values.extend(file.f32(name).map_err(|error| error.to_string())?.into_iter().map(|v| v + offset));
            }
            Ok(HostTensor::from_values(made.clone(), &values))
        });
        builder.constant(name, desc, make)
    }
}
