//! Pooling over windows of an image.

use super::layout::{filled, grid, require_f32};
use crate::{
    Call, Caps, Case, Desc, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting, parallel,
    traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::POOL2D;

/// What is kept of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The mean of the pixels.
    Average {
        /// Whether padding counts as pixels of value zero.
        padding_counts: bool,
    },
    /// The largest value.
    Max,
}

/// `y[image, oy, ox, c] = mean or max of x[image, oy * sh - top + ky * dh, ox * sw - left + kx * dw, c]` over the window
///
/// Input: `[images, h, w, c]` in F32. Output: `[images, oh, ow, c]`, where along each axis
/// `o = floor or ceil((extent + padding - (k - 1) d - 1) / s) + 1`; with `ceil`, a last window that would begin beyond the image and its
/// leading padding is left out. Pairs are of height, then width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool2d {
    /// What is kept of a window.
    pub window: Window,
    /// Extent of the window.
    pub kernel: [usize; 2],
    /// Step from one window to the next.
    pub stride: [usize; 2],
    /// Step from one pixel of a window to the next.
    pub dilation: [usize; 2],
    /// Padding at top, left, bottom and right, smaller than the window's reach.
    pub padding: [usize; 4],
    /// Whether a last window that is only partly there counts.
    pub ceil: bool,
}

impl Pool2d {
    /// A window that moves by one pixel, without padding or dilation.
    pub fn new(window: Window, kernel: [usize; 2]) -> Pool2d {
        Pool2d { window, kernel, stride: [1, 1], dilation: [1, 1], padding: [0; 4], ceil: false }
    }

    /// The output's extent along `axis` (0 height, 1 width) of an input's `extent`; `None` when no window fits.
    fn extent(&self, axis: usize, extent: usize) -> Option<usize> {
        let (before, after) = (self.padding[axis], self.padding[axis + 2]);
        let reach = self.kernel[axis].checked_sub(1)? * self.dilation[axis] + 1;
        let room = (extent + before + after).checked_sub(reach)?;
        let stride = self.stride[axis];
        if stride == 0 || self.dilation[axis] == 0 || before.max(after) >= reach {
            return None;
        }
        let windows = if self.ceil { room.div_ceil(stride) } else { room / stride } + 1;
        Some(if self.ceil && (windows - 1) * stride >= extent + before { windows - 1 } else { windows })
    }
}

impl Kernel for Pool2d {
    fn name(&self) -> &'static str {
        "pool2d"
    }

    fn summary(&self) -> String {
        let window = match self.window {
            Window::Max => "max",
            Window::Average { padding_counts: false } => "average",
            Window::Average { padding_counts: true } => "average_padded",
        };
        let ([kh, kw], [sh, sw], [dh, dw], p) = (self.kernel, self.stride, self.dilation, self.padding);
        format!("{window} k{kh}x{kw} s{sh}x{sw} d{dh}x{dw} p{},{},{},{}{}", p[0], p[1], p[2], p[3], if self.ceil { " ceil" } else { "" })
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "one activation", found: inputs.len() });
        };
        require_f32(kernel, inputs)?;
        let Some((images, h, w, c)) = x.nhwc() else {
            let expected = "an activation [images, height, width, channels]".to_owned();
            return Err(ShapeError::Input { kernel, position: 0, expected, found: x.clone() });
        };
        match (self.extent(0, h), self.extent(1, w)) {
            (Some(oh), Some(ow)) if oh > 0 && ow > 0 => Ok(vec![Desc::f32([images, oh, ow, c])]),
            _ => Err(ShapeError::Parameter { kernel, reason: format!("{} does not fit an input {x}", self.summary()) }),
        }
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let op = if self.window == Window::Max { "max" } else { "average" };
        fitting(SOURCES, &[("op", op)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (x, y) = (&call.inputs[0].shape, &call.outputs[0].shape);
        let c4 = x[3].div_ceil(4);
        let count = y[0] * y[1] * y[2] * c4;
        let (grid, width) = grid(count.div_ceil(64), source);
        let mut numbers = vec![count, width as usize, c4, x[1], x[2], y[1], y[2]];
        for pair in [self.kernel, self.stride, self.dilation] {
            numbers.extend(pair);
        }
        numbers.extend(self.padding);
        numbers.push(usize::from(self.window == Window::Average { padding_counts: true }));
        filled(Launch::new(call, numbers.iter().map(|n| *n as u32).collect(), grid), source)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, shape) = (inputs[0].values(), &inputs[0].desc.shape);
        let (h, w, c) = (shape[1], shape[2], shape[3]);
        let (oh, ow) = (outputs[0].shape[1], outputs[0].shape[2]);
        // Place of a window's pixel along one axis: in the image, in the padding, or beyond both.
        let place = |axis: usize, window: usize, pixel: usize, extent: usize| {
            let at = window * self.stride[axis] + pixel * self.dilation[axis];
            let image = at.checked_sub(self.padding[axis]).filter(|at| *at < extent);
            (image, at < self.padding[axis] + extent + self.padding[axis + 2])
        };
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, c, |pixel, values| {
            let (image, oy, ox) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
            let mut seen = Vec::new();
            let mut padded = 0usize;
            for ky in 0..self.kernel[0] {
                let (row, row_padded) = place(0, oy, ky, h);
                for kx in 0..self.kernel[1] {
                    let (column, column_padded) = place(1, ox, kx, w);
                    match (row, column) {
                        (Some(row), Some(column)) => seen.push((image * h + row) * w + column),
                        _ => padded += usize::from(row_padded && column_padded),
                    }
                }
            }
            for (channel, value) in values.iter_mut().enumerate() {
                let window = seen.iter().map(|at| f64::from(x[at * c + channel]));
                *value = match self.window {
                    Window::Max => window.fold(f64::NEG_INFINITY, f64::max),
                    Window::Average { padding_counts } => {
                        let count = seen.len() + if padding_counts { padded } else { 0 };
                        window.sum::<f64>() / count.max(1) as f64
                    }
                } as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        match self.window {
            Window::Max => Tolerance::EXACT,
            Window::Average { .. } => Tolerance::of_sum(self.kernel[0] * self.kernel[1], Format::F32),
        }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let window = (self.kernel[0] * self.kernel[1]) as f64;
        Work { flops: call.outputs[0].len() as f64 * window, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Every option of the windows, alone and together, on channels that are and are not multiples of four.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for window in [Window::Max, Window::Average { padding_counts: false }, Window::Average { padding_counts: true }] {
        let plain = Pool2d::new(window, [3, 3]);
        for (tier, kernel, shape) in [
            (Tier::Short, Pool2d { stride: [2, 2], padding: [1, 1, 1, 1], ..plain }, [2, 7, 9, 5]),
            (Tier::Short, Pool2d { stride: [2, 2], ceil: true, ..plain }, [1, 8, 8, 4]),
            (Tier::Full, plain, [1, 3, 3, 1]),
            (Tier::Full, Pool2d { kernel: [1, 4], stride: [1, 3], padding: [0, 2, 0, 1], ..plain }, [1, 5, 11, 8]),
            (Tier::Full, Pool2d { dilation: [2, 3], padding: [2, 0, 1, 3], ..plain }, [1, 9, 10, 6]),
            (Tier::Full, Pool2d { stride: [3, 3], padding: [1, 1, 1, 1], ceil: true, ..plain }, [1, 2, 2, 3]),
            (Tier::Full, Pool2d { stride: [2, 2], padding: [1, 1, 1, 1], ..plain }, [1, 112, 112, 64]),
        ] {
            let size = shape.map(|extent: usize| extent.to_string()).join("x");
            let label = format!("{size}.{}", kernel.summary().replace(' ', "_"));
            cases.push(Case::noise(label, tier, kernel, vec![Desc::f32(shape)]));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kernel: Pool2d) -> (Vec<usize>, Vec<f32>) {
        let values: Vec<f32> = (1..=9u8).map(f32::from).collect();
        let x = HostTensor::from_values(Desc::f32([1, 3, 3, 1]), &values);
        let y = kernel.reference(&[&x], &kernel.outputs(std::slice::from_ref(&x.desc)).unwrap()).remove(0);
        (y.desc.shape.clone(), y.values())
    }

    #[test]
    fn pools_a_hand_computed_image() {
        let average = |padding_counts| Pool2d::new(Window::Average { padding_counts }, [2, 2]);
        assert_eq!(run(average(false)), (vec![1, 2, 2, 1], vec![3.0, 4.0, 6.0, 7.0]));
        assert_eq!(run(Pool2d::new(Window::Max, [2, 2])).1, [5.0, 6.0, 8.0, 9.0]);
        let strided = |window| Pool2d { stride: [2, 2], padding: [1, 1, 0, 0], ..Pool2d::new(window, [2, 2]) };
        assert_eq!(run(strided(Window::Average { padding_counts: false })).1, [1.0, 2.5, 5.5, 7.0]);
        assert_eq!(run(strided(Window::Average { padding_counts: true })).1, [0.25, 1.25, 2.75, 7.0]);
        let ceil = |kernel: Pool2d| Pool2d { stride: [2, 2], ceil: true, ..kernel };
        assert_eq!(run(ceil(average(true))).1, [3.0, 4.5, 7.5, 9.0]);
        let dilated = Pool2d { dilation: [2, 2], ..Pool2d::new(Window::Max, [2, 2]) };
        assert_eq!(run(dilated), (vec![1, 1, 1, 1], vec![9.0]));
    }

    #[test]
    fn a_last_window_that_begins_in_padding_is_left_out() {
        let kernel = Pool2d { stride: [3, 3], padding: [1; 4], ceil: true, ..Pool2d::new(Window::Max, [3, 3]) };
        assert_eq!(kernel.outputs(&[Desc::f32([1, 2, 2, 1])]).unwrap()[0].shape, [1, 1, 1, 1]);
    }

    #[test]
    fn refuses_windows_that_do_not_fit() {
        let x = Desc::f32([1, 3, 3, 1]);
        let plain = Pool2d::new(Window::Max, [3, 3]);
        for kernel in [
            Pool2d { kernel: [4, 1], ..plain },
            Pool2d { kernel: [0, 1], ..plain },
            Pool2d { stride: [0, 1], ..plain },
            Pool2d { padding: [3, 0, 0, 0], ..plain },
        ] {
            assert!(kernel.outputs(std::slice::from_ref(&x)).is_err(), "{}", kernel.summary());
        }
    }
}
