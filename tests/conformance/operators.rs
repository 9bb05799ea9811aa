//! Arithmetic: functions, products, reductions.

use crate::express::{Failure, axis};
use crate::network::{Network, Reading, Sketch};
use crate::quantized;
use crate::vector::{Tensor, Vector};
use lampyris_engine::kernels::elementwise::{Binary, Function, Matmul, Operation, Reduce, Reduction, Softmax, Unary};
use lampyris_engine::kernels::head::{Linear, SoftmaxTopK};
use lampyris_engine::kernels::text::Norm;
use lampyris_engine::kernels::{Activation, Desc, Format};

type Networks = Result<Vec<Network>, Failure>;

pub(crate) fn binary(vector: &Vector) -> Networks {
    let operation = match vector.op.as_str() {
        "Add" => Operation::Add,
        "Sub" => Operation::Sub,
        "Mul" => Operation::Mul,
        "Div" => Operation::Div,
        _ => Operation::Pow,
    };
    let mut sketch = Sketch::default();
    let [a, b] = [vector.given(0)?, vector.given(1)?].map(|t| sketch.input(&t.shape, &t.values()));
    let mut y = sketch.apply(Binary { operation }, &[a, b])?;
    if vector.op == "Pow" && vector.outputs()[0].is_whole() {
        y = quantized::rounded(&mut sketch, y)?;
    }
    Ok(vec![sketch.finish(&[y])])
}

pub(crate) fn unary(vector: &Vector) -> Networks {
    let bound = |position: usize| vector.optional(position).map(|tensor| tensor.values()[0]);
    let function = match vector.op.as_str() {
        "Clip" => Function::Clip { low: bound(1).unwrap_or(f32::MIN), high: bound(2).unwrap_or(f32::MAX) },
        "Erf" => Function::Erf,
        "Gelu" if vector.text("approximate") == Some("tanh") => Function::GeluTanh,
        "Gelu" => Function::Gelu,
        "HardSigmoid" => Function::HardSigmoid {
            alpha: vector.real("alpha").unwrap_or(0.2),
            beta: vector.real("beta").unwrap_or(0.5),
        },
        "HardSwish" => Function::Activation(Activation::HardSwish),
        "LeakyRelu" => Function::LeakyRelu { alpha: vector.real("alpha").unwrap_or(0.01) },
        "Sigmoid" => Function::Sigmoid,
        "Sqrt" => Function::Sqrt,
        _ => Function::Tanh,
    };
    let mut sketch = Sketch::default();
    let x = vector.given(0)?;
    let x = sketch.input(&x.shape, &x.values());
    let y = sketch.apply(Unary { function }, &[x])?;
    Ok(vec![sketch.finish(&[y])])
}

/// A vector is a matrix of one row on the left and of one column on the right; that axis then goes again.
pub(crate) fn matmul(vector: &Vector) -> Networks {
    let [a, b] = [vector.given(0)?, vector.given(1)?];
    let (mut left, mut right, result) = (a.shape.clone(), b.shape.clone(), &vector.outputs()[0].shape);
    if left.len() == 1 {
        left.insert(0, 1);
    }
    if right.len() == 1 {
        right.push(1);
    }
    let mut sketch = Sketch::default();
    let (x, w) = (sketch.input(&left, &a.values()), sketch.input(&right, &b.values()));
    let mut y = sketch.apply(Matmul::default(), &[x, w])?;
    if sketch.shape(y) != *result {
        y = sketch.reshape(y, result)?;
    }
    let mut networks = vec![sketch.finish(&[y])];
    if let [k, n] = right[..]
        && b.shape.len() == 2
    {
        // The same with the right side as weights.
        let mut sketch = Sketch::default();
        let x = sketch.input(&left, &a.values());
        let w = sketch.constant(Desc::new(Format::MatrixF32, [k, n]), &b.values());
        let bias = sketch.constant(Desc::f32([1, n]), &vec![0.0; n]);
        let y = sketch.apply(Linear::default(), &[x, w, bias])?;
        networks.push(sketch.finish(&[y]));
    }
    Ok(networks)
}

pub(crate) fn gemm(vector: &Vector) -> Networks {
    let flag = |name: &str| vector.integer(name).unwrap_or(0) != 0;
    let [alpha, beta] = ["alpha", "beta"].map(|name| vector.real(name).unwrap_or(1.0));
    let (transpose_a, transpose_b) = (flag("transA"), flag("transB"));
    let [a, b] = [vector.given(0)?, vector.given(1)?];
    let c = vector.optional(2);
    let mut sketch = Sketch::default();
    let tensors = [Some(a), Some(b), c].into_iter().flatten();
    let inputs: Vec<_> = tensors.map(|t| sketch.input(&t.shape, &t.values())).collect();
    let y = sketch.apply(Matmul { transpose_a, transpose_b, alpha, beta, added: c.is_some() }, &inputs)?;
    let mut networks = vec![sketch.finish(&[y])];
    let n = vector.outputs()[0].shape[1];
    let row = |c: &&Tensor| c.shape[..] == [1, n];
    if !transpose_a && !transpose_b && c.is_none_or(|c| row(&c)) {
        // The same as a layer, with the factors folded into its weights.
        let scaled = |values: Vec<f32>, factor: f32| values.iter().map(|v| v * factor).collect::<Vec<_>>();
        let bias = c.map_or(vec![0.0; n], |c| scaled(c.values(), beta));
        let mut sketch = Sketch::default();
        let x = sketch.input(&a.shape, &a.values());
        let w = sketch.constant(Desc::new(Format::MatrixF32, b.shape.clone()), &scaled(b.values(), alpha));
        let bias = sketch.constant(Desc::f32([1, n]), &bias);
        let y = sketch.apply(Linear::default(), &[x, w, bias])?;
        networks.push(sketch.finish(&[y]));
    }
    Ok(networks)
}

/// Axes in the order that puts `last` last; its own inverse.
fn with_last(axes: usize, last: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..axes).collect();
    order.swap(last, axes - 1);
    order
}

pub(crate) fn softmax(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let logarithm = vector.op == "LogSoftmax";
    let along = axis(vector.integer("axis").unwrap_or(-1), x.shape.len());
    let order = with_last(x.shape.len(), along);
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let turned = sketch.transpose(given, &order)?;
    let y = sketch.apply(Softmax { logarithm }, &[turned])?;
    let y = sketch.transpose(y, &order)?;
    let mut networks = vec![sketch.finish(&[y])];
    if let ([rows, classes], 1, false) = (&x.shape[..], along, logarithm) {
        let mut sketch = Sketch::default();
        let logits = sketch.input(&[*rows, 1, 1, *classes], &x.values());
        let y = sketch.apply(SoftmaxTopK { k: 1 }, &[logits])?;
        let y = sketch.reshape(y, &x.shape)?;
        networks.push(sketch.finish(&[y]));
    }
    Ok(networks)
}

/// The one best class of each row.
pub(crate) fn arg_max(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let along = axis(vector.integer("axis").unwrap_or(0), x.shape.len());
    // The other axes keep their order, so that the rows come out as the result wants them.
    let order: Vec<usize> = (0..x.shape.len()).filter(|axis| *axis != along).chain([along]).collect();
    let classes = x.shape[along];
    let rows = x.shape.iter().product::<usize>() / classes;
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let mut turned = sketch.transpose(given, &order)?;
    // Among equals the first is chosen, which is the last one where classes come in the other direction.
    let last = vector.integer("select_last_index") == Some(1);
    if last {
        turned = sketch.reverse(turned, x.shape.len() - 1)?;
    }
    let logits = sketch.reshape(turned, &[rows, 1, 1, classes])?;
    let best = sketch.apply_all(SoftmaxTopK { k: 1 }, &[logits])?[1];
    let reading = if last { Reading::FromTheEnd(classes) } else { Reading::Plain };
    Ok(vec![sketch.finish(&[best]).read(reading)])
}

/// A list of the best classes in order, among equals the first; the values are the logits of these classes. The smallest are the largest of what
/// is multiplied by -1.
pub(crate) fn top_k(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    if axis(vector.integer("axis").unwrap_or(-1), x.shape.len()) != x.shape.len() - 1 {
        return Err("classes along another axis than the last".into());
    }
    let [classes, k] = [x.shape[x.shape.len() - 1], vector.given(1)?.integers()[0] as usize];
    let rows = x.shape.iter().product::<usize>() / classes;
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let values = sketch.reshape(given, &[rows, 1, 1, classes])?;
    let mut logits = values;
    if vector.integer("largest") == Some(0) {
        let minus = sketch.number(-1.0);
        logits = sketch.binary(Operation::Mul, values, minus)?;
    }
    let best = sketch.apply_all(SoftmaxTopK { k }, &[logits])?[1];
    Ok(vec![sketch.finish(&[values, best]).read(Reading::ValuesAtPlaces)])
}

/// With recorded statistics it is a product and a sum, whose factors are known when the model is loaded.
pub(crate) fn batch_normalization(vector: &Vector) -> Networks {
    let epsilon = f64::from(vector.real("epsilon").unwrap_or(1e-5));
    let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|position| vector.given(position).map(Tensor::numbers));
    let (scale, bias, mean, variance) = (scale?, bias?, mean?, variance?);
    let factor: Vec<f64> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let added: Vec<f32> = (0..bias.len()).map(|c| (bias[c] - mean[c] * factor[c]) as f32).collect();
    let factor: Vec<f32> = factor.iter().map(|f| *f as f32).collect();
    let x = vector.given(0)?;
    let channels = Desc::f32([x.shape[1], 1, 1]);
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let (factor, added) = (sketch.constant(channels.clone(), &factor), sketch.constant(channels, &added));
    let product = sketch.apply(Binary { operation: Operation::Mul }, &[given, factor])?;
    let y = sketch.apply(Binary { operation: Operation::Add }, &[product, added])?;
    Ok(vec![sketch.finish(&[y])])
}

/// Rows are all that lies from the axis on. The mean and the inverse deviation that a layer's norm gives beside its result are said
/// in plain arithmetic.
pub(crate) fn normalization(vector: &Vector) -> Networks {
    let centered = vector.op == "LayerNormalization";
    let (x, gain, bias) = (vector.given(0)?, vector.given(1)?, vector.optional(2));
    let at = axis(vector.integer("axis").unwrap_or(-1), x.shape.len());
    let (rows, k) = (x.shape[..at].iter().product(), x.shape[at..].iter().product());
    let epsilon = vector.real("epsilon").unwrap_or(1e-5);
    let mut sketch = Sketch::default();
    let given = sketch.input(&[rows, k], &x.values());
    let mut inputs = vec![given, sketch.constant(Desc::f32([k]), &gain.values())];
    inputs.extend(bias.map(|bias| sketch.constant(Desc::f32([k]), &bias.values())));
    let y = sketch.apply(Norm { epsilon, centered, bias: bias.is_some(), residual: false }, &inputs)?;
    let mut outputs = vec![sketch.reshape(y, &x.shape)?];
    if let Some(statistics) = vector.outputs().get(1).map(|tensor| tensor.shape.clone()) {
        let mean = |sketch: &mut Sketch, of| {
            sketch.apply(Reduce { reduction: Reduction::Mean, axes: vec![1], keep: true }, &[of])
        };
        let binary = |sketch: &mut Sketch, operation, of: [_; 2]| sketch.apply(Binary { operation }, &of);
        let middle = mean(&mut sketch, given)?;
        let apart = binary(&mut sketch, Operation::Sub, [given, middle])?;
        let squares = binary(&mut sketch, Operation::Mul, [apart, apart])?;
        let variance = mean(&mut sketch, squares)?;
        let [least, one] = [epsilon, 1.0].map(|value| sketch.constant(Desc::f32([1, 1]), &[value]));
        let variance = binary(&mut sketch, Operation::Add, [variance, least])?;
        let deviation = sketch.apply(Unary { function: Function::Sqrt }, &[variance])?;
        let inverse = binary(&mut sketch, Operation::Div, [one, deviation])?;
        for tensor in [middle, inverse] {
            outputs.push(sketch.reshape(tensor, &statistics)?);
        }
    }
    Ok(vec![sketch.finish(&outputs)])
}

/// A layer's norm over the channels of a group and their pixels, then a factor and a summand for every channel.
pub(crate) fn group_normalization(vector: &Vector) -> Networks {
    let (x, gain, bias) = (vector.given(0)?, vector.given(1)?, vector.given(2)?);
    let groups = vector.integer("num_groups").ok_or("no num_groups")? as usize;
    let rows = x.shape[0] * groups;
    let k = x.shape.iter().product::<usize>() / rows;
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let given = sketch.reshape(given, &[rows, k])?;
    let ones = sketch.constant(Desc::f32([k]), &vec![1.0; k]);
    let epsilon = vector.real("epsilon").unwrap_or(1e-5);
    let y = sketch.apply(Norm { epsilon, centered: true, bias: false, residual: false }, &[given, ones])?;
    let y = sketch.reshape(y, &x.shape)?;
    let mut channels = vec![1; x.shape.len() - 1];
    channels[0] = x.shape[1];
    let [gain, bias] = [gain, bias].map(|tensor| sketch.constant(Desc::f32(channels.clone()), &tensor.values()));
    let y = sketch.binary(Operation::Mul, y, gain)?;
    let y = sketch.binary(Operation::Add, y, bias)?;
    Ok(vec![sketch.finish(&[y])])
}

pub(crate) fn reduce(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let reduction = match vector.op.as_str() {
        "ReduceMax" => Reduction::Max,
        "ReduceMean" => Reduction::Mean,
        _ => Reduction::Sum,
    };
    let listed = vector.optional(1).map(Tensor::integers).unwrap_or_default();
    let axes = if listed.is_empty() && vector.integer("noop_with_empty_axes") != Some(1) {
        (0..x.shape.len()).collect()
    } else {
        listed.iter().map(|number| axis(*number, x.shape.len())).collect()
    };
    let keep = vector.integer("keepdims").unwrap_or(1) != 0;
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let y = sketch.apply(Reduce { reduction, axes, keep }, &[given])?;
    Ok(vec![sketch.finish(&[y])])
}
