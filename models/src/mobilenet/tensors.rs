//! From a layer's tensors in the file to the storage its kernels read: batch norm folded, transposed, quantized or not.

use super::fold::{self, BatchNorm};
use super::network::stem_of;
use super::{BatchNormNames, ConvKind, ConvSpec, LinearSpec};
use crate::{Error, Result};
use lampyris_engine::kernels::{Desc, Format, HostTensor};
use lampyris_engine::plan::Maker;
use lampyris_engine::weights::Weights;
use std::sync::{Arc, Mutex, PoisonError};

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

/// A weight that is made in parts, as far as it is made.
struct Begun {
    /// What the batch norm makes of each output channel; none where there is none.
    affine: Option<Vec<(f64, f64)>>,
    tensor: HostTensor,
    /// Output channels that are in the tensor.
    outputs: usize,
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
        if self.kind == ConvKind::Pointwise && !self.quantized() {
            let begun = Mutex::new(None);
            let make = move || {
                let begun = &mut *begun.lock().unwrap_or_else(PoisonError::into_inner);
                layer.made_in_parts(&made, begun).map_err(|error| error.to_string())
            };
            return (desc, Arc::new(make));
        }
        let make = move || layer.made_weight(made.clone()).map_err(|error| error.to_string());
        (desc, Arc::new(make))
    }

    /// Description and maker of the bias, followed by the scales of quantized weights.
    pub(super) fn affine(&self) -> (Desc, Maker) {
        let desc = Desc::f32([if self.quantized() { 2 } else { 1 }, self.cout]);
        let (layer, made) = (self.clone(), desc.clone());
        let make = move || {
            let rows = layer.affine_rows().map_err(|error| error.to_string())?;
            Ok(HostTensor::from_values(made.clone(), &rows))
        };
        (desc, Arc::new(make))
    }

    /// The bias with the batch norm folded in, and the scales of quantized weights. The weights themselves are not read for it.
    fn affine_rows(&self) -> Result<Vec<f32>> {
        let affine = self.norm()?;
        let mut rows = self.folded_bias(affine.as_deref())?;
        if let Some(scale) = &self.scale {
            let mut scales = self.tensors.weights.f32(scale)?;
            if let Some(affine) = &affine {
                fold::scale_channels(stem_of(&self.weight), &mut scales, 0, affine)?;
            }
            rows.extend(scales);
        }
        Ok(rows)
    }

    fn made_weight(&self, desc: Desc) -> Result<HostTensor> {
        let values = match self.folded()?.0 {
            Values::Float(values) => self.transposed(&values)?,
            Values::Bytes(bytes, _) => self.transposed(&bytes)?.into_iter().map(f32::from).collect(),
        };
        self.check(&desc, &values, |at| at % self.cout.max(1))?;
        Ok(HostTensor::from_values(desc, &values))
    }

    /// A pointwise weight of which some bytes may not have been fetched: the outputs that are there are kept in `begun`, and the next attempt
    /// goes on from them, so that a large weight is made in as many tasks as its bytes come in.
    fn made_in_parts(&self, desc: &Desc, begun: &mut Option<Begun>) -> Result<HostTensor> {
        /// Outputs that are read at once: what a line of a processor's cache takes of f32.
        const OUTPUTS: usize = 16;
        let rows = self.rows_of_an_output()?;
        let mut part = match begun.take() {
            Some(part) => part,
            None => {
                // A file has the batch norm behind the weight: what is fetched for the first has the second where both are small.
                self.tensors.weights.f32_rows(&self.weight, 0..rows * self.cout.min(OUTPUTS))?;
                Begun { affine: self.norm()?, tensor: HostTensor::zeros(desc.clone()), outputs: 0 }
            }
        };
        while part.outputs < self.cout {
            let outputs = part.outputs..self.cout.min(part.outputs + OUTPUTS);
            let read = self.tensors.weights.f32_rows(&self.weight, outputs.start * rows..outputs.end * rows);
            let mut values = match read {
                Ok(values) => values,
                Err(error) => {
                    *begun = Some(part);
                    return Err(error.into());
                }
            };
            if let Some(affine) = &part.affine {
                fold::scale_channels(stem_of(&self.weight), &mut values, outputs.start, &affine[outputs.clone()])?;
            }
            self.check(desc, &values, |at| outputs.start + at / self.cin.max(1))?;
            part.tensor.put_columns(outputs.start, self.cin, &values);
            part.outputs = outputs.end;
        }
        Ok(part.tensor)
    }

    /// How many of the file's rows are one output of a pointwise weight: 1, or `cin` where extents of 1 are written behind it.
    fn rows_of_an_output(&self) -> Result<usize> {
        let shape = self.tensors.weights.get(&self.weight).map_or(&[][..], |info| &info.shape);
        let innermost = shape.last().copied().unwrap_or(1).max(1);
        let found = shape.iter().product();
        if !shape.is_empty() && (found != self.cout * self.cin || !self.cin.is_multiple_of(innermost)) {
            return Err(Error::Length { what: self.weight.clone(), shape: vec![self.cout, self.cin], found });
        }
        Ok(self.cin / innermost)
    }

    /// That all values can be stored; `channel` is the output channel of one.
    fn check(&self, desc: &Desc, values: &[f32], channel: impl Fn(usize) -> usize) -> Result<()> {
        if matches!(desc.format, Format::F16 | Format::MatrixF16)
            && let Some(at) = values.iter().position(|value| value.abs() > LARGEST_F16)
        {
            let problem = "too large for 16-bit floats; run the model in f32";
            return Err(Error::Value { tensor: self.weight.clone(), channel: channel(at), problem });
        }
        Ok(())
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
        let affine = self.norm()?;
        let bias = self.folded_bias(affine.as_deref())?;
        if let Some(affine) = affine {
            // Scaling the scales of a quantized weight is scaling the weight.
            let (Values::Float(scaled) | Values::Bytes(_, scaled)) = &mut values;
            fold::scale_channels(stem_of(&self.weight), scaled, 0, &affine)?;
        }
        Ok((values, bias))
    }

    /// What the batch norm makes of each output channel, if there is one.
    fn norm(&self) -> Result<Option<Vec<(f64, f64)>>> {
        let Some(names) = &self.batch_norm else { return Ok(None) };
        let weights = &self.tensors.weights;
        // In the order in which files have them, so that one fetch brings all.
        let beta = weights.f32(&names.bias)?;
        let mean = weights.f32(&names.running_mean)?;
        let variance = weights.f32(&names.running_var)?;
        let gamma = weights.f32(&names.weight)?;
        let norm = BatchNorm { gamma: &gamma, beta: &beta, mean: &mean, variance: &variance };
        let affine = norm.affine(stem_of(&self.weight), self.tensors.epsilon)?;
        if affine.len() != self.cout {
            let what = names.weight.clone();
            return Err(Error::Length { what, shape: vec![self.cout], found: affine.len() });
        }
        Ok(Some(affine))
    }

    /// The bias with the batch norm's `affine` folded in; zeros where there is neither.
    fn folded_bias(&self, affine: Option<&[(f64, f64)]>) -> Result<Vec<f32>> {
        let bias = self.bias.as_ref().map(|bias| self.tensors.weights.f32(bias)).transpose()?;
        match affine {
            None => Ok(bias.unwrap_or_else(|| vec![0.0; self.cout])),
            Some(affine) => fold::folded_bias(stem_of(&self.weight), bias.as_deref(), affine),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;
    use lampyris_engine::weights::{Dtype, Feed, NewTensor, TensorFile, write_safetensors};
    use std::collections::BTreeMap;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const COUT: usize = 700;
    const CIN: usize = 530;

    /// A tensor of a file.
    fn tensor(name: &str, shape: &[usize], values: &[f32]) -> NewTensor<'static> {
        NewTensor {
            name: name.to_owned(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into(),
        }
    }

    /// A safetensors file.
    fn written(tensors: &[NewTensor<'_>]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write_safetensors(&path, tensors, &BTreeMap::new()).unwrap();
        std::fs::read(path).unwrap()
    }

    /// A safetensors file with a matrix, a pointwise convolution of the same values and its batch norm.
    fn file(values: &[f32], norm: &BatchNorm<'_>) -> Vec<u8> {
        let channels = norm.gamma.len();
        let columns = values.len() / channels;
        written(&[
            tensor("w", &[channels, columns], values),
            tensor("c.0.weight", &[channels, columns, 1, 1], values),
            tensor("c.1.weight", &[channels], norm.gamma),
            tensor("c.1.bias", &[channels], norm.beta),
            tensor("c.1.running_mean", &[channels], norm.mean),
            tensor("c.1.running_var", &[channels], norm.variance),
        ])
    }

    /// The convolution of such a file.
    fn conv(cin: usize, cout: usize) -> ConvSpec {
        ConvSpec {
            weight: "c.0.weight".to_owned(),
            weight_scale: None,
            bias: None,
            batch_norm: Some(BatchNormNames {
                weight: "c.1.weight".to_owned(),
                bias: "c.1.bias".to_owned(),
                running_mean: "c.1.running_mean".to_owned(),
                running_var: "c.1.running_var".to_owned(),
            }),
            kind: ConvKind::Pointwise,
            kernel: 1,
            stride: 1,
            cin,
            cout,
            activation: crate::mobilenet::Activation::None,
        }
    }

    /// What `attempt` ends with once it has been given of the file what it asks for, and how often it asked.
    fn fed<T, E>(feed: &Feed, file: &[u8], attempt: impl Fn() -> Result<T, E>) -> (Result<T, E>, usize) {
        let (mut ending, mut asked) = (pin!(feed.until_there(attempt)), 0);
        loop {
            match ending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(ended) => return (ended, asked),
                Poll::Pending => {
                    let wanted = feed.take_wanted().unwrap();
                    asked += 1;
                    feed.supply(&wanted, file[wanted.range.start as usize..wanted.range.end as usize].to_vec());
                }
            }
        }
    }

    fn opened(feed: &Feed, file: &[u8]) -> Weights {
        let source = feed.file(file.len() as u64);
        let (opened, _) = fed(feed, file, || TensorFile::from_source("fed", source.clone()));
        let TensorFile::Safetensors(weights) = opened.unwrap() else { panic!("it is a safetensors file") };
        weights
    }

    #[test]
    fn a_small_weight_comes_with_its_norm() {
        let (values, column) = ([0.5; 6], [1.0, 2.0]);
        let file = file(&values, &BatchNorm { gamma: &column, beta: &column, mean: &column, variance: &column });
        let feed = Feed::new();
        let layer = Tensors::new(opened(&feed, &file), 1e-5).convolution(&conv(3, 2));
        let (_, make) = layer.weight(Format::F32);
        feed.forget();
        let (made, asked) = fed(&feed, &file, || make());
        assert_eq!((made.unwrap().values().len(), asked), (6, 1));
    }

    #[test]
    fn a_weight_that_is_no_float_is_refused_before_anything_is_fetched() {
        let column = [1.0; 20];
        for (dtype, bytes) in [(Dtype::I8, 400), (Dtype::F4, 200)] {
            let mut weight = tensor("c.0.weight", &[20, 20, 1, 1], &[]);
            (weight.dtype, weight.bytes) = (dtype, vec![0; bytes].into());
            let norm = ["weight", "bias", "running_mean", "running_var"]
                .map(|part| tensor(&format!("c.1.{part}"), &[20], &column));
            let file = written(&[vec![weight], norm.into()].concat());
            let feed = Feed::new();
            let layer = Tensors::new(opened(&feed, &file), 1e-5).convolution(&conv(20, 20));
            let (_, make) = layer.weight(Format::F32);
            feed.forget();
            let (made, asked) = fed(&feed, &file, || make());
            let (error, name) = (made.unwrap_err(), format!("{dtype:?}"));
            assert!(error.contains(&name) && error.contains("F32, F16, BF16 or F64"), "{error}");
            assert_eq!(asked, 0, "{dtype:?}");
        }
    }

    #[test]
    fn a_pointwise_weight_that_comes_in_parts_is_the_whole_folded_and_turned() {
        let values: Vec<f32> = (0..COUT * CIN).map(|at| (at % 8191) as f32 / 64.0).collect();
        let column = |factor: f32| (0..COUT).map(|at| (at % 97) as f32 * factor).collect::<Vec<f32>>();
        let (gamma, beta, mean, variance) = (column(0.01), column(-0.5), column(0.25), column(0.125));
        let norm = BatchNorm { gamma: &gamma, beta: &beta, mean: &mean, variance: &variance };
        let (file, epsilon) = (file(&values, &norm), 1e-5);

        let feed = Feed::new();
        let weights = opened(&feed, &file);
        let linear = LinearSpec {
            weight: "w".to_owned(),
            weight_scale: None,
            bias: "c.1.bias".to_owned(),
            cin: CIN,
            cout: COUT,
            activation: crate::mobilenet::Activation::None,
        };
        let mut folded = values.clone();
        let affine = norm.affine("c", epsilon).unwrap();
        fold::scale_channels("c", &mut folded, 0, &affine).unwrap();
        let bias = fold::folded_bias("c", None, &affine).unwrap();
        let (tensors, mut parts) = (Tensors::new(weights, epsilon), 0);
        for (layer, whole, bias) in
            [(tensors.linear(&linear), &values, &beta), (tensors.convolution(&conv(CIN, COUT)), &folded, &bias)]
        {
            let turned = fold::linear_rows("w", whole, COUT, CIN).unwrap();
            let weights =
                [Format::F32, Format::MatrixF32, Format::MatrixF16].map(|format| (layer.weight(format), &turned));
            for ((desc, make), expected) in weights.into_iter().chain([(layer.affine(), bias)]) {
                feed.forget();
                let (made, asked) = fed(&feed, &file, || make());
                let made = made.unwrap();
                parts += asked;
                assert_eq!(
                    made,
                    HostTensor::from_values(desc.clone(), expected),
                    "{} as {:?}",
                    layer.name(),
                    desc.format
                );
                let again = pin!(feed.until_there(|| make())).as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(
                    matches!(again, Poll::Ready(Ok(tensor)) if tensor == made),
                    "{}: made a second time",
                    layer.name()
                );
            }
        }
        // Three formats of two weights of 1.5 MB, which come in no more than 512 KiB at once.
        assert!(parts > 3 * 2 * 2, "they came in {parts} parts");
    }
}
