//! Windows over images: convolution and pooling, turned from ONNX's order of axes and back.

use crate::express::Failure;
use crate::network::{Network, Sketch};
use crate::vector::Vector;
use lampyris_engine::kernels::Desc;
use lampyris_engine::kernels::conv::{Conv, Padding};
use lampyris_engine::kernels::elementwise::{Pool2d, Window};
use lampyris_engine::kernels::head::{GlobalPool, Pooling};

type Networks = Result<Vec<Network>, Failure>;

/// Channels last, and channels second again.
pub(crate) const LAST: [usize; 4] = [0, 2, 3, 1];
pub(crate) const SECOND: [usize; 4] = [0, 3, 1, 2];

/// What a window does along each axis of the image.
struct Geometry {
    kernel: Vec<usize>,
    stride: Vec<usize>,
    dilation: Vec<usize>,
    before: Vec<usize>,
    after: Vec<usize>,
}

impl Geometry {
    /// From a node's attributes, over an image of `extents`.
    fn of(vector: &Vector, extents: &[usize]) -> Result<Geometry, Failure> {
        let axes = extents.len();
        let kernel = vector.list("kernel_shape").ok_or("no kernel_shape")?;
        let stride = vector.list("strides").unwrap_or_else(|| vec![1; axes]);
        let dilation = vector.list("dilations").unwrap_or_else(|| vec![1; axes]);
        let (before, after) = match vector.text("auto_pad") {
            Some(auto @ ("SAME_UPPER" | "SAME_LOWER")) => {
                let total = |a: usize| {
                    let reach = (kernel[a] - 1) * dilation[a] + 1;
                    ((extents[a].div_ceil(stride[a]) - 1) * stride[a] + reach).saturating_sub(extents[a])
                };
                let smaller: Vec<usize> = (0..axes).map(|a| total(a) / 2).collect();
                let larger: Vec<usize> = (0..axes).map(|a| total(a) - total(a) / 2).collect();
                if auto == "SAME_UPPER" { (smaller, larger) } else { (larger, smaller) }
            }
            _ => {
                let pads = vector.list("pads").unwrap_or_else(|| vec![0; 2 * axes]);
                (pads[..axes].to_vec(), pads[axes..].to_vec())
            }
        };
        Ok(Geometry { kernel, stride, dilation, before, after })
    }
}

pub(crate) fn convolution(vector: &Vector) -> Networks {
    let [x, w] = [vector.given(0)?, vector.given(1)?];
    let geometry = Geometry::of(vector, &x.shape[2..])?;
    let number = |values: &[usize], axis: usize| values[axis] as u32;
    let pair = |values: &[usize]| [number(values, 0), number(values, 1)];
    let kernel = Conv {
        stride: pair(&geometry.stride),
        dilation: pair(&geometry.dilation),
        padding: Padding {
            top: number(&geometry.before, 0),
            left: number(&geometry.before, 1),
            bottom: number(&geometry.after, 0),
            right: number(&geometry.after, 1),
        },
        groups: vector.integer("group").unwrap_or(1) as u32,
        ..Conv::default()
    };
    let bias = vector.optional(2).map_or(vec![0.0; w.shape[0]], |bias| bias.values());
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let y = convolve(&mut sketch, kernel, given, &w.shape, &w.values(), &bias)?;
    Ok(vec![sketch.finish(&[y])])
}

/// Convolves `x [images, channels, h, w]` with weights `[out, in / groups, kh, kw]`.
pub(crate) fn convolve(
    sketch: &mut Sketch,
    kernel: Conv,
    x: lampyris_engine::plan::TensorId,
    shape: &[usize],
    weights: &[f32],
    bias: &[f32],
) -> Result<lampyris_engine::plan::TensorId, Failure> {
    let &[out, depth, kh, kw] = shape else { return Err("weights of four axes".into()) };
    let mut turned = Vec::with_capacity(weights.len());
    for place in 0..kh * kw {
        for channel in 0..depth {
            turned.extend((0..out).map(|o| weights[(o * depth + channel) * kh * kw + place]));
        }
    }
    let w = sketch.constant(Desc::f32([kh, kw, depth, out]), &turned);
    let affine = sketch.constant(Desc::f32([1, out]), bias);
    let x = sketch.transpose(x, &LAST)?;
    let y = sketch.apply(kernel, &[x, w, affine])?;
    Ok(sketch.transpose(y, &SECOND)?)
}

/// Images of one and two axes as they are; of three, over height and width of every layer, then over the layers: a maximum of
/// maxima, or a mean of means, whose windows count the same number of pixels in every layer they cover.
pub(crate) fn pool(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let (images, channels, extents) = (x.shape[0], x.shape[1], &x.shape[2..]);
    let geometry = Geometry::of(vector, extents)?;
    let padding_counts = vector.integer("count_include_pad") == Some(1);
    let window = if vector.op == "MaxPool" { Window::Max } else { Window::Average { padding_counts } };
    let ceil = vector.integer("ceil_mode") == Some(1);
    // `None` is an axis that the window does not move along.
    let over = |axes: [Option<usize>; 2]| {
        let of = |values: &[usize], rest: usize| axes.map(|axis| axis.map_or(rest, |axis| values[axis]));
        let ([top, left], [bottom, right]) = (of(&geometry.before, 0), of(&geometry.after, 0));
        let (kernel, stride, dilation) = (of(&geometry.kernel, 1), of(&geometry.stride, 1), of(&geometry.dilation, 1));
        Pool2d { window, kernel, stride, dilation, padding: [top, left, bottom, right], ceil }
    };
    let mut sketch = Sketch::default();
    let y = match *extents {
        [width] => {
            let given = sketch.input(&[images, channels, 1, width], &x.values());
            let turned = sketch.transpose(given, &LAST)?;
            let y = sketch.apply(over([None, Some(0)]), &[turned])?;
            let y = sketch.transpose(y, &SECOND)?;
            let shape = sketch.shape(y);
            sketch.reshape(y, &[shape[0], shape[1], shape[3]])?
        }
        [_, _] => {
            let given = sketch.input(&x.shape, &x.values());
            let turned = sketch.transpose(given, &LAST)?;
            let y = sketch.apply(over([Some(0), Some(1)]), &[turned])?;
            sketch.transpose(y, &SECOND)?
        }
        [layers, height, width] => {
            let given = sketch.input(&x.shape, &x.values());
            let turned = sketch.transpose(given, &[0, 2, 3, 4, 1])?;
            let flat = sketch.reshape(turned, &[images * layers, height, width, channels])?;
            let flat = sketch.apply(over([Some(1), Some(2)]), &[flat])?;
            let [_, height, width, _] = sketch.shape(flat)[..] else { return Err("pooling gives four axes".into()) };
            let deep = sketch.reshape(flat, &[images, layers, height * width, channels])?;
            let deep = sketch.apply(over([Some(0), None]), &[deep])?;
            let layers = sketch.shape(deep)[1];
            let y = sketch.reshape(deep, &[images, layers, height, width, channels])?;
            sketch.transpose(y, &[0, 4, 1, 2, 3])?
        }
        _ => return Err(format!("an image of {} axes", extents.len()).into()),
    };
    Ok(vec![sketch.finish(&[y])])
}

pub(crate) fn global_pool(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let pooling = if vector.op == "GlobalMaxPool" { Pooling::Max } else { Pooling::Mean };
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let turned = sketch.transpose(given, &LAST)?;
    let y = sketch.apply(GlobalPool { pooling, pixels: None }, &[turned])?;
    let y = sketch.transpose(y, &SECOND)?;
    Ok(vec![sketch.finish(&[y])])
}
