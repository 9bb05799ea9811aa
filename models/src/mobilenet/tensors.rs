//! From a layer's tensors in the file to the storage its kernels read: batch norm folded, transposed, quantized or not.

use super::fold::{self, BatchNorm};
use super::{BatchNormNames, ConvKind, ConvSpec, LinearSpec};
use crate::Result;
use lampyris_engine::kernels::{Desc, Format, HostTensor};
use lampyris_engine::plan::Maker;
use lampyris_engine::weights::Weights;
use std::sync::Arc;

/// Largest magnitude of a 16-bit float.
const LARGEST_F16: f32 = 65_504.0;

/// The tensors of a file, as layers.
#[derive(Debug, Clone)]
pub(super) struct Tensors {
    weights: Weights,
    epsilon: f64,
}

/// One layer's weight and bias in the file.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    tensors: Tensors,
    weight: String,
    scale: Option<String>,
    bias: Option<String>,
    batch_norm: Option<BatchNormNames>,
    kind: ConvKind,
    kernel: usize,
    cin: usize,
    cout: usize,
}

/// A weight in the file's order, its values in f32 or its bytes with the scale of each output channel.
pub(super) enum Values {
    Float(Vec<f32>),
    Bytes(Vec<i8>, Vec<f32>),
}

impl Tensors {
    pub(super) fn new(weights: Weights, epsilon: f64) -> Tensors {
        Tensors { weights, epsilon }
    }

    pub(super) fn weights(&self) -> &Weights {
        &self.weights
    }

    pub(super) fn convolution(&self, conv: &ConvSpec) -> Layer {
        Layer {
            tensors: self.clone(),
            weight: conv.weight.clone(),
            scale: conv.weight_scale.clone(),
            bias: conv.bias.clone(),
            batch_norm: conv.batch_norm.clone(),
            kind: conv.kind,
            kernel: conv.kernel,
            cin: conv.cin,
            cout: conv.cout,
        }
    }

    pub(super) fn linear(&self, layer: &LinearSpec) -> Layer {
        Layer {
            tensors: self.clone(),
            weight: layer.weight.clone(),
            scale: layer.weight_scale.clone(),
            bias: Some(layer.bias.clone()),
            batch_norm: None,
            kind: ConvKind::Pointwise,
            kernel: 1,
            cin: layer.cin,
            cout: layer.cout,
        }
    }
}

impl Layer {
    pub(super) fn name(&self) -> &str {
        &self.weight
    }

    pub(super) fn quantized(&self) -> bool {
        self.scale.is_some()
    }

    /// Description and maker of the weight, stored as `format`.
    pub(super) fn weight(&self, format: Format) -> (Desc, Maker) {
        let rows = match self.kind {
            ConvKind::Dense => self.kernel * self.kernel * self.cin,
            ConvKind::Pointwise => self.cin,
            ConvKind::Depthwise => self.kernel * self.kernel,
        };
        let desc = Desc::new(format, [rows, self.cout]);
        let (layer, made) = (self.clone(), desc.clone());
        let make = move || layer.made_weight(made.clone()).map_err(|error| error.to_string());
        (desc, Arc::new(make))
    }

    /// Description and maker of the bias, followed by the scales of quantized weights.
    pub(super) fn affine(&self) -> (Desc, Maker) {
        let desc = Desc::f32([if self.quantized() { 2 } else { 1 }, self.cout]);
        let (layer, made) = (self.clone(), desc.clone());
        let make = move || {
            let (values, mut rows) = layer.folded().map_err(|error| error.to_string())?;
            if let Values::Bytes(_, scales) = values {
                rows.extend(scales);
            }
            Ok(HostTensor::from_values(made.clone(), &rows))
        };
        (desc, Arc::new(make))
    }

    fn made_weight(&self, desc: Desc) -> Result<HostTensor> {
        let values = match self.folded()?.0 {
            Values::Float(values) => self.transposed(&values)?,
            Values::Bytes(bytes, _) => self.transposed(&bytes)?.into_iter().map(f32::from).collect(),
        };
        if matches!(desc.format, Format::F16 | Format::MatrixF16)
            && let Some(at) = values.iter().position(|v| v.abs() > LARGEST_F16)
        {
            return Err(crate::Error::Value {
                tensor: self.weight.clone(),
                channel: at % self.cout.max(1),
                problem: "too large for 16-bit floats; run the model in f32",
            });
        }
        Ok(HostTensor::from_values(desc, &values))
    }

    fn transposed<T: Copy + Default>(&self, values: &[T]) -> Result<Vec<T>> {
        match self.kind {
            ConvKind::Dense => fold::conv_rows(&self.weight, values, self.cout, self.cin, self.kernel, self.kernel),
            ConvKind::Pointwise => fold::linear_rows(&self.weight, values, self.cout, self.cin),
            ConvKind::Depthwise => fold::depthwise_rows(&self.weight, values, self.cout, self.kernel),
        }
    }

    /// Weight and bias with the batch norm folded in.
    pub(super) fn folded(&self) -> Result<(Values, Vec<f32>)> {
        let weights = &self.tensors.weights;
        let mut values = match &self.scale {
            Some(scale) => Values::Bytes(weights.i8(&self.weight)?, weights.f32(scale)?),
            None => Values::Float(weights.f32(&self.weight)?),
        };
        let bias = self.bias.as_ref().map(|bias| weights.f32(bias)).transpose()?;
        let bias = match &self.batch_norm {
            None => bias.unwrap_or_else(|| vec![0.0; self.cout]),
            Some(names) => {
                let [gamma, beta, mean, variance] = [
                    weights.f32(&names.weight)?,
                    weights.f32(&names.bias)?,
                    weights.f32(&names.running_mean)?,
                    weights.f32(&names.running_var)?,
                ];
                let norm = BatchNorm { gamma: &gamma, beta: &beta, mean: &mean, variance: &variance };
                // Scaling the scales of a quantized weight is scaling the weight.
                let scaled = match &mut values {
                    Values::Float(values) => values,
                    Values::Bytes(_, scales) => scales,
                };
                let name = self.weight.strip_suffix(".weight").unwrap_or(&self.weight);
                fold::fold_batch_norm(name, scaled, bias.as_deref(), &norm, self.tensors.epsilon)?
            }
        };
        Ok((values, bias))
    }
}
