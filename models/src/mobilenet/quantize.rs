//! A network's weights as signed bytes with a scale for each output channel: a quarter of the size, and a figure for what it costs.
//!
//! Symmetric: a weight `w` of channel `c` is stored as `round(w / scale[c])`, with `scale[c]` the channel's largest magnitude
//! over 127. Batch norms are folded first, so that the scales see the weights that are really multiplied.

use super::network::stem_of;
use super::tensors::{Layer, Values};
use super::{ConvSpec, LinearSpec, Network};
use crate::{Error, Result};
use lampyris_engine::weights::{Dtype, NewTensor};

/// Largest magnitude of a stored byte; -128 has no positive counterpart.
const LARGEST: f32 = 127.0;

/// What storing one weight tensor as bytes did to it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TensorError {
    /// The tensor.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Largest difference, relative to the tensor's largest magnitude.
    pub worst: f64,
    /// Root of the mean squared difference, relative to that of the values.
    pub rms: f64,
}

/// A network's tensors with weights of 8 bits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Quantized {
    /// For each layer `NAME.weight` (I8), `NAME.weight_scale` (F32, one an output channel) and `NAME.bias` (F32).
    pub tensors: Vec<NewTensor<'static>>,
    /// The error of each weight tensor, in the order in which the network runs.
    pub errors: Vec<TensorError>,
}

impl Quantized {
    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.bytes.len()).sum()
    }
}

/// Stores the weights of every convolution and fully connected layer of `network` as bytes, and folds its batch norms away.
///
/// # Errors
/// [`Error::Unsupported`] when its weights are bytes already; [`Error::Weights`] and [`Error::Value`] for tensors that cannot be
/// read or folded.
pub fn quantize_int8(network: &Network) -> Result<Quantized> {
    if network.spec().is_quantized() {
        return Err(Error::Unsupported {
            file: network.weights().file().to_owned(),
            key: "weight_scale".to_owned(),
            found: "present: the weights have 8 bits already".to_owned(),
            instead: "quantize the model with its original weights",
        });
    }
    let convolutions = network.spec().convolutions().map(|conv: &ConvSpec| network.tensors().convolution(conv));
    let linears = network.spec().linears().map(|layer: &LinearSpec| network.tensors().linear(layer));
    let mut quantized = Quantized { tensors: Vec::new(), errors: Vec::new() };
    for layer in convolutions.chain(linears) {
        quantized.add(network, &layer)?;
    }
    Ok(quantized)
}

impl Quantized {
    fn add(&mut self, network: &Network, layer: &Layer) -> Result<()> {
        let (Values::Float(values), bias) = layer.folded()? else { return Ok(()) };
        let (stem, name) = (stem_of(layer.name()), layer.name().to_owned());
        let shape = network.weights().get(&name).map(|info| info.shape.clone()).unwrap_or_default();
        let (bytes, scales) = to_bytes(&values, bias.len());
        self.errors.push(error(&name, &shape, &values, &bytes, &scales));
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let vector = |name: String, values: &[f32]| NewTensor {
            name,
            dtype: Dtype::F32,
            shape: vec![values.len()],
            bytes: floats(values).into(),
        };
        self.tensors.push(vector(format!("{stem}.weight_scale"), &scales));
        self.tensors.push(vector(format!("{stem}.bias"), &bias));
        let bytes: Vec<u8> = bytes.into_iter().map(i8::cast_unsigned).collect();
        self.tensors.push(NewTensor { name, dtype: Dtype::I8, shape, bytes: bytes.into() });
        Ok(())
    }
}

/// The bytes of `values`, whose outermost axis has `channels` channels, and the scale of each channel.
fn to_bytes(values: &[f32], channels: usize) -> (Vec<i8>, Vec<f32>) {
    let row = (values.len() / channels.max(1)).max(1);
    let mut bytes = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(channels);
    for channel in values.chunks(row) {
        let scale = channel.iter().fold(0.0f32, |m, v| m.max(v.abs())) / LARGEST;
        // A channel of zeros has any scale.
        let scale = if scale.is_normal() { scale } else { 1.0 };
        bytes.extend(channel.iter().map(|v| (v / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8));
        scales.push(scale);
    }
    (bytes, scales)
}

fn error(name: &str, shape: &[usize], values: &[f32], bytes: &[i8], scales: &[f32]) -> TensorError {
    let row = (values.len() / scales.len().max(1)).max(1);
    let (mut largest, mut worst, mut squares, mut missed) = (0.0f64, 0.0f64, 0.0, 0.0);
    for (at, (value, byte)) in values.iter().zip(bytes).enumerate() {
        let value = f64::from(*value);
        let difference = value - f64::from(*byte) * f64::from(scales[at / row]);
        largest = largest.max(value.abs());
        worst = worst.max(difference.abs());
        squares += value * value;
        missed += difference * difference;
    }
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    TensorError {
        name: name.to_owned(),
        shape: shape.to_vec(),
        worst: share(worst, largest),
        rms: share(missed, squares).sqrt(),
    }
}

#[cfg(test)]
mod tests;
