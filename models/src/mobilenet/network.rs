//! A MobileNet as a plan: stem, inverted residual blocks, head, read from top to bottom as the papers draw them.
//!
//! MobileNetV2: Sandler et al. 2018. MobileNetV3: Howard et al. 2019. Reference implementation: torchvision.

use super::tensors::Tensors;
use super::{BlockSpec, ConvSpec, NetworkSpec, Settings, SqueezeExciteSpec};
use crate::{Error, Result};
use lampyris_engine::kernels::conv::{Depthwise, POOLED_ROWS, Padding, Pointwise, Stem};
use lampyris_engine::kernels::head::{GlobalPool, Linear, SoftmaxTopK, SqueezeExcite};
use lampyris_engine::kernels::{Activation, Desc, Format};
use lampyris_engine::plan::{FusionOptions, TensorId};
use lampyris_engine::weights::Weights;
use lampyris_engine::{Plan, PlanBuilder};

/// What the first layer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Pixels {
    /// 8-bit RGBA, normalized by the kernel.
    #[default]
    Rgba8,
    /// Reals that are normalized already, `[images, height, width, 3]`.
    Normalized,
}

/// How activations, and weights that are not quantized, are stored. Sums are always accumulated in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats, two a word: half the memory traffic. Layers with 8-bit weights stay in f32.
    F16,
}

/// Which plan to make of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanRequest {
    /// Images in one run.
    pub images: usize,
    /// Height and width in pixels.
    pub side: usize,
    /// What the first layer reads.
    pub pixels: Pixels,
    /// How activations are stored.
    pub precision: Precision,
    /// How many classes are listed.
    pub top: usize,
    /// Depthwise convolutions without squeeze-excite compute their outputs as the projection loads them: fewer
    /// dispatches, less memory traffic, more arithmetic.
    pub fuse_depthwise: bool,
}

/// A recognized network with its weights and settings; plans of any size and batch are made from it.
#[derive(Debug, Clone)]
pub struct Network {
    spec: NetworkSpec,
    settings: Settings,
    tensors: Tensors,
}

/// Names of a plan's outputs, in order.
pub const OUTPUTS: [&str; 5] = ["logits", "probabilities", "classes", "class_probabilities", "features"];

impl Network {
    /// Joins what was recognized with the weights.
    pub fn new(spec: NetworkSpec, settings: Settings, weights: Weights) -> Network {
        let tensors = Tensors::new(weights, settings.batch_norm_epsilon);
        Network { spec, settings, tensors }
    }

    /// The description.
    pub fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    /// Preprocessing, labels and padding.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The weights file.
    pub fn weights(&self) -> &Weights {
        self.tensors.weights()
    }

    /// The weights as layers.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// The plan of a run; its outputs are those of [`OUTPUTS`].
    ///
    /// # Errors
    /// [`Error::Engine`] when a kernel refuses a shape.
    pub fn plan(&self, request: PlanRequest) -> Result<Plan> {
        let mut graph = Graph { builder: PlanBuilder::new(), network: self, values: self.values(request.precision) };
        let (images, side) = (request.images, request.side);
        let input = match request.pixels {
            Pixels::Rgba8 => Desc::new(Format::Rgba8, [images, side, side]),
            Pixels::Normalized => Desc::f32([images, side, side, 3]),
        };
        let input = graph.builder.input("image", input);
        let mut x = graph.stem(&self.spec.stem, input)?;
        for block in &self.spec.blocks {
            x = graph.block(block, x)?;
        }
        x = graph.pointwise(&self.spec.last, x, None, None)?;
        let features = graph.builder.apply("pool", GlobalPool::default(), &[x])?;
        let mut logits = features;
        for layer in &self.spec.head {
            let activation = activation_of(layer.activation);
            let (w, affine) = graph.matrix(&self.tensors.linear(layer))?;
            logits = graph.builder.apply(stem_of(&layer.weight), Linear { activation }, &[logits, w, affine])?;
        }
        let k = request.top.clamp(1, SoftmaxTopK::MAX_K.min(self.spec.classes));
        let answer = graph.builder.apply_all("softmax", SoftmaxTopK { k }, &[logits])?;
        for (name, id) in OUTPUTS.into_iter().zip([logits].into_iter().chain(answer).chain([features])) {
            graph.builder.output(name, id);
        }
        let fusion = FusionOptions { depthwise_into_pointwise: request.fuse_depthwise, ..FusionOptions::default() };
        Ok(graph.builder.finish_with(fusion))
    }

    fn values(&self, precision: Precision) -> Format {
        match precision {
            Precision::F16 if !self.spec.is_quantized() => Format::F16,
            _ => Format::F32,
        }
    }
}

/// A plan in the making.
struct Graph<'a> {
    builder: PlanBuilder,
    network: &'a Network,
    /// How activations are stored.
    values: Format,
}

impl Graph<'_> {
    fn padding(&self, conv: &ConvSpec, x: TensorId) -> Padding {
        let shape = &self.builder.desc(x).shape;
        let sides = self.network.settings.padding.around(shape[1], shape[2], conv.kernel, conv.stride);
        let [top, left, bottom, right] = [sides.top, sides.left, sides.bottom, sides.right].map(|side| side as u32);
        Padding { top, left, bottom, right }
    }

    fn stem(&mut self, conv: &ConvSpec, image: TensorId) -> Result<TensorId> {
        let preprocess = &self.network.settings.preprocess;
        let kernel = Stem {
            kernel: conv.kernel as u32,
            stride: conv.stride as u32,
            padding: self.padding(conv, image),
            activation: activation_of(conv.activation),
            mean: preprocess.mean,
            std: preprocess.std,
            storage: self.values,
        };
        let (w, affine) = self.rows(conv)?;
        Ok(self.builder.apply(stem_of(&conv.weight), kernel, &[image, w, affine])?)
    }

    /// Expand, filter, squeeze and excite, project, add.
    fn block(&mut self, block: &BlockSpec, x: TensorId) -> Result<TensorId> {
        let wide = match &block.expand {
            Some(expand) => self.pointwise(expand, x, None, None)?,
            None => x,
        };
        let conv = &block.depthwise;
        let kernel = Depthwise {
            kernel: conv.kernel as u32,
            stride: conv.stride as u32,
            padding: self.padding(conv, wide),
            activation: activation_of(conv.activation),
            pool: block.squeeze_excite.is_some(),
        };
        let (w, affine) = self.rows(conv)?;
        let filtered = self.builder.apply_all(stem_of(&conv.weight), kernel, &[wide, w, affine])?;
        let gate = match (&block.squeeze_excite, filtered.get(1)) {
            (Some(spec), Some(sums)) => Some(self.squeeze_excite(&block.name, spec, filtered[0], *sums)?),
            _ => None,
        };
        self.pointwise(&block.project, filtered[0], block.residual.then_some(x), gate)
    }

    /// The gate of a block, from the sums that the depthwise convolution left.
    fn squeeze_excite(
        &mut self,
        block: &str,
        spec: &SqueezeExciteSpec,
        x: TensorId,
        sums: TensorId,
    ) -> Result<TensorId> {
        let shape = self.builder.desc(x).shape.clone();
        debug_assert_eq!(self.builder.desc(sums).shape[1], shape[1].div_ceil(POOLED_ROWS));
        let (w1, a1) = self.matrix(&self.network.tensors.linear(&spec.fc1))?;
        let (w2, a2) = self.matrix(&self.network.tensors.linear(&spec.fc2))?;
        let (inner, outer) = (Activation::Relu, Activation::HardSigmoid);
        if spec.channels <= SqueezeExcite::MAX_CHANNELS && spec.squeezed <= SqueezeExcite::MAX_HIDDEN {
            let kernel = SqueezeExcite { inner, outer, pixels: Some(shape[1] * shape[2]) };
            return Ok(self.builder.apply(format!("{block}.se"), kernel, &[sums, w1, a1, w2, a2])?);
        }
        let mean = self.builder.apply(format!("{block}.se.pool"), GlobalPool::default(), &[x])?;
        let hidden = self.builder.apply(format!("{block}.se.fc1"), Linear { activation: inner }, &[mean, w1, a1])?;
        Ok(self.builder.apply(format!("{block}.se.fc2"), Linear { activation: outer }, &[hidden, w2, a2])?)
    }

    fn pointwise(
        &mut self,
        conv: &ConvSpec,
        x: TensorId,
        residual: Option<TensorId>,
        gate: Option<TensorId>,
    ) -> Result<TensorId> {
        let kernel = Pointwise {
            activation: activation_of(conv.activation),
            residual: residual.is_some(),
            scaled: gate.is_some(),
        };
        let (w, affine) = self.matrix(&self.network.tensors.convolution(conv))?;
        let inputs: Vec<TensorId> = [x, w, affine].into_iter().chain(residual).chain(gate).collect();
        Ok(self.builder.apply(stem_of(&conv.weight), kernel, &inputs)?)
    }

    /// Weights in rows, and their affine, for the stem and depthwise kernels.
    fn rows(&mut self, conv: &ConvSpec) -> Result<(TensorId, TensorId)> {
        let layer = self.network.tensors.convolution(conv);
        let format = if layer.quantized() { Format::I8 } else { Format::F32 };
        self.constants(&layer, format)
    }

    /// Weights as a matrix, and their affine.
    fn matrix(&mut self, layer: &super::tensors::Layer) -> Result<(TensorId, TensorId)> {
        let format = match (layer.quantized(), self.values) {
            (true, _) => Format::MatrixI8,
            (false, Format::F16) => Format::MatrixF16,
            (false, _) => Format::MatrixF32,
        };
        self.constants(layer, format)
    }

    fn constants(&mut self, layer: &super::tensors::Layer, format: Format) -> Result<(TensorId, TensorId)> {
        let (desc, make) = layer.weight(format);
        let w = self.builder.constant(layer.name(), desc, make);
        let (desc, make) = layer.affine();
        let affine = self.builder.constant(format!("{}.affine", stem_of(layer.name())), desc, make);
        Ok((w, affine))
    }
}

fn activation_of(activation: super::Activation) -> Activation {
    match activation {
        super::Activation::None => Activation::None,
        super::Activation::Relu => Activation::Relu,
        super::Activation::Relu6 => Activation::Relu6,
        super::Activation::HardSwish => Activation::HardSwish,
    }
}

/// `features.0.0` of `features.0.0.weight`.
pub(super) fn stem_of(weight: &str) -> &str {
    weight.strip_suffix(".weight").unwrap_or(weight)
}

impl From<lampyris_engine::Error> for Error {
    fn from(error: lampyris_engine::Error) -> Error {
        Error::Engine(error)
    }
}
