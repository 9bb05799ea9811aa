//! From a layer's tensors in the file to the storage its kernels read: batch norm folded, transposed, quantized or not.

use super::fold::{self, BatchNorm};
use super::{BatchNormNames, ConvKind, ConvSpec, LinearSpec};
use crate::Result;
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
    /// A matrix of rows, with nothing to fold into it.
    matrix: bool,
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
            matrix: false,
            kernel: conv.kernel,
            cin: conv.cin,
            cout: conv.cout,
        }
    }

    pub(super) fn linear(&self, layer: &LinearSpec) -> Layer {
        let shape = self.weights.get(&layer.weight).map(|info| &info.shape[..]);
        Layer {
            tensors: self.clone(),
            weight: layer.weight.clone(),
            scale: layer.weight_scale.clone(),
            bias: Some(layer.bias.clone()),
            batch_norm: None,
            kind: ConvKind::Pointwise,
            matrix: layer.weight_scale.is_none() && shape == Some(&[layer.cout, layer.cin]),
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
        if self.matrix {
            let begun = Mutex::new(None);
            let make = move || {
                let begun = &mut *begun.lock().unwrap_or_else(PoisonError::into_inner);
                layer.made_matrix(&made, begun).map_err(|error| error.to_string())
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
        self.check(&desc, &values, |at| at % self.cout.max(1))?;
        Ok(HostTensor::from_values(desc, &values))
    }

    /// A weight of which some rows may not have been fetched: those that are there are kept in `begun`, and the next attempt goes on from
    /// them, so that the largest weight of a network is made in as many tasks as its bytes come in.
    fn made_matrix(&self, desc: &Desc, begun: &mut Option<(HostTensor, usize)>) -> Result<HostTensor> {
        /// Rows that are read at once: what a line of a processor's cache takes of f32.
        const ROWS: usize = 16;
        let (tensor, row) = begun.get_or_insert_with(|| (HostTensor::zeros(desc.clone()), 0));
        while *row < self.cout {
            let until = self.cout.min(*row + ROWS);
            let values = self.tensors.weights.f32_rows(&self.weight, *row..until)?;
            self.check(desc, &values, |at| *row + at / self.cin.max(1))?;
            for input in 0..self.cin {
                (*row..until)
                    .for_each(|output| tensor.put((input, output), values[(output - *row) * self.cin + input]));
            }
            *row = until;
        }
        Ok(begun.take().map_or_else(|| HostTensor::zeros(desc.clone()), |(tensor, _)| tensor))
    }

    /// That all values can be stored; `channel` is the output channel of one.
    fn check(&self, desc: &Desc, values: &[f32], channel: impl Fn(usize) -> usize) -> Result<()> {
        if matches!(desc.format, Format::F16 | Format::MatrixF16)
            && let Some(at) = values.iter().position(|value| value.abs() > LARGEST_F16)
        {
            let problem = "too large for 16-bit floats; run the model in f32";
            return Err(crate::Error::Value { tensor: self.weight.clone(), channel: channel(at), problem });
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;
    use lampyris_engine::weights::{Dtype, Feed, NewTensor, TensorFile, write_safetensors};
    use std::collections::BTreeMap;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn a_matrix_that_comes_in_parts_is_the_whole_turned() {
        let (cout, cin) = (700, 530);
        let values: Vec<f32> = (0..cout * cin).map(|at| (at % 8191) as f32 / 64.0).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let new = NewTensor { name: "w".to_owned(), dtype: Dtype::F32, shape: vec![cout, cin], bytes: bytes.into() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write_safetensors(&path, &[new], &BTreeMap::new()).unwrap();
        let file = std::fs::read(path).unwrap();

        let feed = Feed::new();
        let fed = feed.file(file.len() as u64);
        let mut parts = 0;
        let mut serve = |feed: &Feed| {
            let wanted = feed.take_wanted().unwrap();
            parts += 1;
            feed.supply(&wanted, file[wanted.range.start as usize..wanted.range.end as usize].to_vec());
        };
        let mut opening = pin!(feed.until_there(|| TensorFile::from_source("fed", fed.clone())));
        let opened = loop {
            match opening.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(opened) => break opened.unwrap(),
                Poll::Pending => serve(&feed),
            }
        };
        let TensorFile::Safetensors(weights) = opened else { panic!("it is a safetensors file") };
        let spec = LinearSpec {
            weight: "w".to_owned(),
            weight_scale: None,
            bias: "b".to_owned(),
            cin,
            cout,
            activation: crate::mobilenet::Activation::None,
        };
        for format in [Format::F32, Format::MatrixF32, Format::MatrixF16] {
            feed.forget();
            let (desc, make) = Tensors::new(weights.clone(), 1e-5).linear(&spec).weight(format);
            let mut making = pin!(feed.until_there(|| make()));
            let made = loop {
                match making.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(made) => break made.unwrap(),
                    Poll::Pending => serve(&feed),
                }
            };
            let turned = fold::linear_rows("w", &values, cout, cin).unwrap();
            assert_eq!(made, HostTensor::from_values(desc, &turned), "{format:?}");
            let again = pin!(feed.until_there(|| make())).as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(again, Poll::Ready(Ok(tensor)) if tensor == made), "{format:?}: made a second time");
        }
        assert!(parts > 7, "the file of 1.5 MB came in {parts} parts");
    }
}
