//! Operators on whole numbers of a few bits. As reals they are exact: sums and products stay below 2^24, where every whole number
//! is one of f32.

use crate::express::{Failure, axis};
use crate::network::{Network, Sketch};
use crate::vector::{Tensor, Vector};
use crate::windows;
use lampyris_engine::Result;
use lampyris_engine::kernels::conv::{Conv, Padding};
use lampyris_engine::kernels::elementwise::{Function, Matmul, Operation, Rearrange, Reduce, Reduction, Unary};
use lampyris_engine::plan::TensorId;
use lampyris_engine::weights::Dtype;

type Networks = std::result::Result<Vec<Network>, Failure>;

/// From here to twice as far the numbers of f32 are the whole ones.
const WHOLE: f32 = 12_582_912.0;

/// The nearest whole number, the even one of two: what is left of the value after the sum with a number so large that there are no
/// fractions. Exact up to 2^22.
pub(crate) fn rounded(sketch: &mut Sketch, x: TensorId) -> Result<TensorId> {
    let large = sketch.number(WHOLE);
    let sum = sketch.binary(Operation::Add, x, large)?;
    sketch.binary(Operation::Sub, sum, large)
}

/// The least and the largest number of a type.
fn range(dtype: Dtype) -> std::result::Result<[f32; 2], Failure> {
    match dtype {
        Dtype::U8 => Ok([0.0, 255.0]),
        Dtype::I8 => Ok([-128.0, 127.0]),
        Dtype::I16 => Ok([-32768.0, 32767.0]),
        other => Err(format!("quantized to {other:?}").into()),
    }
}

/// `clip(round(x / scale) + zero)`
fn quantized(sketch: &mut Sketch, [x, scale, zero]: [TensorId; 3], [low, high]: [f32; 2]) -> Result<TensorId> {
    let x = sketch.binary(Operation::Div, x, scale)?;
    let x = rounded(sketch, x)?;
    let x = sketch.binary(Operation::Add, x, zero)?;
    sketch.apply(Unary { function: Function::Clip { low, high } }, &[x])
}

/// A scale or a zero of `x`: one number, one for each place of an axis, or one for each block of it.
fn parameter(sketch: &mut Sketch, vector: &Vector, tensor: &Tensor) -> std::result::Result<TensorId, Failure> {
    let shape = &vector.given(0)?.shape;
    let values = sketch.input(&tensor.shape, &tensor.values());
    let along = axis(vector.integer("axis").unwrap_or(1), shape.len().max(2));
    Ok(match (tensor.shape.len(), vector.integer("block_size")) {
        (0, _) => values,
        (1, _) => {
            let mut stretched = vec![1; shape.len()];
            stretched[along] = tensor.shape[0];
            sketch.reshape(values, &stretched)?
        }
        (_, size) => {
            let mut blocks = tensor.shape.clone();
            blocks.insert(along + 1, 1);
            let values = sketch.reshape(values, &blocks)?;
            let single = blocks.clone();
            blocks[along + 1] = size.ok_or("no block_size")? as usize;
            let values = sketch.apply(Rearrange::expand(&single, &blocks)?, &[values])?;
            sketch.reshape(values, shape)?
        }
    })
}

pub(crate) fn quantize(vector: &Vector) -> Networks {
    let mut sketch = Sketch::default();
    let x = vector.given(0)?;
    let x = sketch.input(&x.shape, &x.values());
    let scale = parameter(&mut sketch, vector, vector.given(1)?)?;
    let zero = parameter(&mut sketch, vector, vector.given(2)?)?;
    let y = quantized(&mut sketch, [x, scale, zero], range(vector.outputs()[0].dtype)?)?;
    Ok(vec![sketch.finish(&[y])])
}

pub(crate) fn dequantize(vector: &Vector) -> Networks {
    let mut sketch = Sketch::default();
    let x = vector.given(0)?;
    let x = sketch.input(&x.shape, &x.values());
    let scale = parameter(&mut sketch, vector, vector.given(1)?)?;
    let zero = parameter(&mut sketch, vector, vector.given(2)?)?;
    let y = sketch.binary(Operation::Sub, x, zero)?;
    let y = sketch.binary(Operation::Mul, y, scale)?;
    Ok(vec![sketch.finish(&[y])])
}

/// The scale and the zero come from the values, which zero is always among.
pub(crate) fn quantize_dynamically(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let [none, levels] = [0.0, 255.0].map(|number| sketch.number(number));
    let all: Vec<usize> = (0..x.shape.len()).collect();
    let mut bound = |reduction, operation| {
        let found = sketch.apply(Reduce { reduction, axes: all.clone(), keep: false }, &[given])?;
        sketch.binary(operation, found, none)
    };
    let [low, high] = [bound(Reduction::Min, Operation::Min)?, bound(Reduction::Max, Operation::Max)?];
    let span = sketch.binary(Operation::Sub, high, low)?;
    let scale = sketch.binary(Operation::Div, span, levels)?;
    let below = sketch.binary(Operation::Sub, none, low)?;
    let zero = quantized(&mut sketch, [below, scale, none], [0.0, 255.0])?;
    let y = quantized(&mut sketch, [given, scale, zero], [0.0, 255.0])?;
    let [scale, zero] = [sketch.reshape(scale, &[])?, sketch.reshape(zero, &[])?];
    Ok(vec![sketch.finish(&[y, scale, zero])])
}

/// A tensor with its zero taken away, where there is one.
fn centered(sketch: &mut Sketch, x: &Tensor, zero: Option<&Tensor>) -> std::result::Result<TensorId, Failure> {
    let given = sketch.input(&x.shape, &x.values());
    let Some(zero) = zero else { return Ok(given) };
    let zero = sketch.input(&zero.shape, &zero.values());
    Ok(sketch.binary(Operation::Sub, given, zero)?)
}

pub(crate) fn matmul_integer(vector: &Vector) -> Networks {
    let mut sketch = Sketch::default();
    let a = centered(&mut sketch, vector.given(0)?, vector.optional(2))?;
    let b = centered(&mut sketch, vector.given(1)?, vector.optional(3))?;
    let y = sketch.apply(Matmul::default(), &[a, b])?;
    Ok(vec![sketch.finish(&[y])])
}

/// A filter is weights, whose zero is taken away when they are loaded; padding is zero where the image's zero is gone.
fn filtered(
    sketch: &mut Sketch,
    vector: &Vector,
    x: TensorId,
    at: [usize; 2],
) -> std::result::Result<TensorId, Failure> {
    let (w, zero) = (vector.given(at[0])?, vector.optional(at[1]).map(Tensor::values));
    if ["strides", "dilations", "group"]
        .iter()
        .any(|name| vector.integer(name).or(vector.list(name).map(|_| 0)).is_some())
    {
        return Err("a filter with strides, dilations or groups".into());
    }
    let each = w.shape[1..].iter().product::<usize>();
    let zero = |channel: usize| zero.as_ref().map_or(0.0, |zeros| zeros[if zeros.len() == 1 { 0 } else { channel }]);
    let weights: Vec<f32> = w.values().iter().enumerate().map(|(i, value)| value - zero(i / each)).collect();
    let pads = vector.list("pads").unwrap_or_else(|| vec![0; 4]);
    let [top, left, bottom, right] = [0, 1, 2, 3].map(|at| pads[at] as u32);
    let kernel = Conv { padding: Padding { top, left, bottom, right }, ..Conv::default() };
    windows::convolve(sketch, kernel, x, &w.shape, &weights, &vec![0.0; w.shape[0]])
}

pub(crate) fn convolution_integer(vector: &Vector) -> Networks {
    let mut sketch = Sketch::default();
    let x = centered(&mut sketch, vector.given(0)?, vector.optional(2))?;
    let y = filtered(&mut sketch, vector, x, [1, 3])?;
    Ok(vec![sketch.finish(&[y])])
}

/// Products of quantized matrices or of a quantized filter, quantized again.
pub(crate) fn quantized_product(vector: &Vector) -> Networks {
    let mut sketch = Sketch::default();
    let a = centered(&mut sketch, vector.given(0)?, vector.optional(2))?;
    let product = if vector.op == "QLinearConv" {
        filtered(&mut sketch, vector, a, [3, 5])?
    } else {
        let b = centered(&mut sketch, vector.given(3)?, vector.optional(5))?;
        sketch.apply(Matmul::default(), &[a, b])?
    };
    let mut number = |position: usize| {
        let tensor = vector.given(position)?;
        Ok::<_, String>(sketch.input(&[1], &tensor.values()))
    };
    let (a, b, scale, zero) = (number(1)?, number(4)?, number(6)?, number(7)?);
    let factor = sketch.binary(Operation::Mul, a, b)?;
    let real = sketch.binary(Operation::Mul, product, factor)?;
    let y = quantized(&mut sketch, [real, scale, zero], range(vector.outputs()[0].dtype)?)?;
    Ok(vec![sketch.finish(&[y])])
}
