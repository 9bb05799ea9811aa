//! Padding of windowed kernels, side by side because TensorFlow's SAME is not symmetric.

use crate::ShapeError;

/// Zeros round an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Padding {
    /// Rows above.
    pub top: u32,
    /// Columns to the left.
    pub left: u32,
    /// Rows below.
    pub bottom: u32,
    /// Columns to the right.
    pub right: u32,
}

impl Padding {
    /// The same number of pixels on all sides.
    pub const fn all(pixels: u32) -> Padding {
        Padding { top: pixels, left: pixels, bottom: pixels, right: pixels }
    }

    /// `p1` when all sides are equal, otherwise `p0,0,1,1` as top, left, bottom, right.
    pub(crate) fn label(self) -> String {
        let Padding { top, left, bottom, right } = self;
        if self == Padding::all(top) { format!("p{top}") } else { format!("p{top},{left},{bottom},{right}") }
    }
}

/// A window that slides over an image: `[vertical, horizontal]` extents, steps and distances between taps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [u32; 2],
    pub(crate) dilation: [u32; 2],
    pub(crate) padding: Padding,
}

impl Window {
    /// A square window without dilation.
    pub(crate) fn square(kernel: u32, stride: u32, padding: Padding) -> Window {
        Window { kernel: [kernel as usize; 2], stride: [stride; 2], dilation: [1; 2], padding }
    }

    /// How many positions it takes over an image of `[height, width]`, vertically and horizontally.
    pub(crate) fn positions(&self, name: &'static str, image: [usize; 2]) -> Result<[usize; 2], ShapeError> {
        let Padding { top, left, bottom, right } = self.padding;
        let around = [u64::from(top) + u64::from(bottom), u64::from(left) + u64::from(right)];
        let mut found = [0; 2];
        for axis in 0..2 {
            let (kernel, stride) = (self.kernel[axis] as u64, u64::from(self.stride[axis]));
            let dilation = u64::from(self.dilation[axis]);
            if kernel == 0 || stride == 0 || dilation == 0 {
                let reason = "kernel, stride and dilation must be at least 1".to_owned();
                return Err(ShapeError::Parameter { kernel: name, reason });
            }
            let reach = (kernel - 1).saturating_mul(dilation).saturating_add(1);
            let extent = image[axis] as u64 + around[axis];
            if extent < reach || extent > i32::MAX as u64 {
                let reason = format!("a window {reach} wide does not fit {extent} pixels, padding included");
                return Err(ShapeError::Parameter { kernel: name, reason });
            }
            found[axis] = ((extent - reach) / stride + 1) as usize;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_counted_as_the_frameworks_count_them() {
        let same = Padding { top: 0, left: 0, bottom: 1, right: 1 };
        for (window, image, expected) in [
            (Window::square(3, 2, Padding::all(1)), [224, 224], [112, 112]),
            (Window::square(3, 2, same), [224, 112], [112, 56]),
            (Window::square(5, 1, Padding::all(2)), [7, 13], [7, 13]),
            (Window::square(1, 3, Padding::default()), [7, 1], [3, 1]),
        ] {
            assert_eq!(window.positions("test", image).unwrap(), expected);
        }
        assert!(Window::square(5, 1, Padding::all(1)).positions("test", [2, 9]).is_err());
        assert!(Window::square(3, 0, Padding::all(1)).positions("test", [9, 9]).is_err());
    }
}
