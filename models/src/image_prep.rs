//! The arithmetic between a picture and a network's input: shorter side to a size, centre crop, normalization.
//!
//! The resize is that of the Pillow library with antialiasing, on which torchvision and timm build, down to its fixed-point
//! rounding, so that the same picture gives the same bytes as the reference in every executor. Two passes, first along the rows and
//! then along the columns; each output byte is
//! `clamp((2^21 + sum(coefficient * byte)) >> 22, 0, 255)`, and the bytes between the passes are rounded too.
//! [`ResizeTable`] holds the coefficients; whoever runs the passes needs nothing else.

use crate::error::{Error, Result};

/// Fractional bits of a coefficient.
pub const PRECISION_BITS: u32 = 22;

/// The longest side of a picture, in pixels, that is resized.
pub const MAX_IMAGE_SIDE: u32 = 65_535;

/// The largest size, in pixels, to resize or crop to.
pub const MAX_TARGET_SIDE: u32 = 8_192;

/// The most coefficients of one pass. A crop of [`MAX_TARGET_SIDE`] from any picture needs fewer, unless it is many times larger than
/// the resized picture.
const MAX_COEFFICIENTS: f64 = 4_194_304.0;

/// The kernel of a resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Filter {
    /// A triangle of width 2.
    #[default]
    Bilinear,
    /// Cubic convolution (Keys, 1981) with `a = -0.5`, width 4.
    Bicubic,
}

impl Filter {
    /// How far the kernel reaches to either side when it is not stretched.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bilinear | Self::Bicubic => 0.0,
        }
    }
}

/// To which size a picture is brought before the crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resize {
    /// The shorter side to this many pixels, the longer one in proportion (rounded down).
    Shorter(u32),
    /// To exactly this size, whatever the proportions.
    Exact {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// Not at all.
    Keep,
}

/// How a picture becomes a network's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preprocess {
    /// The resize before the crop.
    pub resize: Resize,
    /// The side of the square cut from the centre, and of the network's input; a multiple of 32.
    /// Where the resized picture is smaller, black surrounds it.
    pub crop: u32,
    /// Subtracted from red, green and blue after these are divided by 255.
    pub mean: [f32; 3],
    /// What the difference is divided by.
    pub std: [f32; 3],
    /// The kernel of the resize.
    pub filter: Filter,
}

impl Default for Preprocess {
    /// What torchvision's classifiers were trained with: 256, 224, the mean and deviation of ImageNet.
    fn default() -> Self {
        Self {
            resize: Resize::Shorter(256),
            crop: 224,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            filter: Filter::Bilinear,
        }
    }
}

/// A resized picture and the square within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Pixels in a row of the whole resized picture (which is never computed whole).
    pub width: u32,
    /// Its rows.
    pub height: u32,
    /// The column of the resized picture at which the crop starts; negative where the picture is narrower than the crop.
    pub left: i64,
    /// The row at which the crop starts; negative likewise.
    pub top: i64,
}

impl Preprocess {
    /// The factor and the summand for each colour, such that `byte * factor + summand` is the normalized value.
    pub fn scale_and_bias(&self) -> ([f32; 3], [f32; 3]) {
        let scale = self.std.map(|std| (1.0 / (255.0 * f64::from(std))) as f32);
        let mut bias = [0.0; 3];
        for ((bias, mean), std) in bias.iter_mut().zip(self.mean).zip(self.std) {
            *bias = (-f64::from(mean) / f64::from(std)) as f32;
        }
        (scale, bias)
    }

    /// Where the pixels of a `width` x `height` picture end up.
    ///
    /// The longer side is `int(size * long / short)` and the crop starts at half the difference, rounded to even, as in torchvision.
    ///
    /// # Errors
    /// [`Error::ImageSize`] for an empty picture or one with a side over [`MAX_IMAGE_SIDE`], a size to resize to or a crop of 0 or over
    /// [`MAX_TARGET_SIDE`], and a crop that is no multiple of 32.
    pub fn geometry(&self, width: u32, height: u32) -> Result<Geometry> {
        if !(1..=MAX_IMAGE_SIDE).contains(&width) || !(1..=MAX_IMAGE_SIDE).contains(&height) {
            return Err(size_error("the picture", width, height, "each side must have 1 to 65535"));
        }
        if !(1..=MAX_TARGET_SIDE).contains(&self.crop) || !self.crop.is_multiple_of(32) {
            return Err(size_error(
                "the crop",
                self.crop,
                self.crop,
                "its side must be a multiple of 32, at most 8192",
            ));
        }
        let (new_width, new_height) = match self.resize {
            Resize::Keep => (width, height),
            Resize::Exact { width, height } => (width, height),
            Resize::Shorter(size) => {
                let (short, long) = (width.min(height), width.max(height));
                // In range: at most 8192 * 65535.
                let scaled =
                    ((u64::from(size.min(MAX_TARGET_SIDE)) * u64::from(long)) as f64 / f64::from(short)) as u32;
                if width <= height { (size, scaled) } else { (scaled, size) }
            }
        };
        let (short, long) = (new_width.min(new_height), new_width.max(new_height));
        let too_large = match self.resize {
            Resize::Keep => false,
            Resize::Exact { .. } => long > MAX_TARGET_SIDE,
            Resize::Shorter(_) => short > MAX_TARGET_SIDE,
        };
        if short == 0 || too_large {
            return Err(size_error(
                "the size to resize to",
                new_width,
                new_height,
                "1 to 8192 pixels a side are possible",
            ));
        }
        Ok(Geometry {
            width: new_width,
            height: new_height,
            left: centre(new_width, self.crop),
            top: centre(new_height, self.crop),
        })
    }
}

fn size_error(what: &'static str, width: u32, height: u32, allowed: &'static str) -> Error {
    Error::ImageSize { what, width: u64::from(width), height: u64::from(height), allowed }
}

/// Where a crop starts: for a picture that is large enough half the difference, rounded to even; for one that is padded first, minus the
/// padding before it, half the missing pixels rounded down.
fn centre(size: u32, crop: u32) -> i64 {
    let rest = i64::from(size) - i64::from(crop);
    if rest < 0 {
        return rest / 2;
    }
    let half = rest / 2;
    if rest % 2 == 0 { half } else { half + half % 2 }
}

/// One pass of a resize: for each output position, which inputs count how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizeTable {
    /// The first input of each output position.
    pub first: Vec<u32>,
    /// How many inputs each output position sums; 0 for a position outside of the picture, whose sum is therefore black.
    pub count: Vec<u32>,
    /// `taps` for each output position, in units of `2^-22`; 0 from `count` on.
    pub coefficients: Vec<i32>,
    /// The largest `count`, at least 1.
    pub taps: usize,
}

impl ResizeTable {
    /// The coefficients that bring `input` pixels to `output` pixels, for the output positions from `start` to `start + length`.
    ///
    /// # Errors
    /// [`Error::ImageSize`] if `input` is 0 or over [`MAX_IMAGE_SIDE`], `output` is 0, `length` is over [`MAX_TARGET_SIDE`], or there would
    /// be more than four million coefficients.
    pub fn new(filter: Filter, input: u32, output: u32, start: i64, length: u32) -> Result<Self> {
        if !(1..=MAX_IMAGE_SIDE).contains(&input) || output == 0 || length > MAX_TARGET_SIDE {
            return Err(size_error(
                "the resize from and to this many pixels",
                input,
                output,
                "1 to 65535 pixels can be brought to 1 or more",
            ));
        }
        let scale = f64::from(input) / f64::from(output);
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        if (2.0 * support + 1.0).min(f64::from(input)) * f64::from(length) > MAX_COEFFICIENTS {
            return Err(size_error(
                "the resize from and to this many pixels",
                input,
                output,
                "the crop is too large for so small a picture",
            ));
        }
        let mut rows = Vec::new();
        let mut first = Vec::new();
        for position in (start..).take(length as usize) {
            if position < 0 || position >= i64::from(output) {
                first.push(0);
                rows.push(Vec::new());
                continue;
            }
            let centre = (position as f64 + 0.5) * scale;
            // Casts to unsigned saturate at 0, which is the clamp that is wanted.
            let from = (centre - support + 0.5) as u32;
            let to = ((centre + support + 0.5) as u32).min(input);
            let weights = (from..to).map(|x| filter.weight((f64::from(x) - centre + 0.5) * (1.0 / stretch)));
            first.push(from);
            rows.push(fixed_point(weights.collect()));
        }
        let taps = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let count = rows.iter().map(|row| row.len() as u32).collect();
        let mut coefficients = Vec::with_capacity(taps * rows.len());
        for mut row in rows {
            row.resize(taps, 0);
            coefficients.extend(row);
        }
        Ok(Self { first, count, coefficients, taps })
    }

    /// How many output positions the table has.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The inputs that any output position sums: the first one, and how many from there on.
    pub fn inputs(&self) -> (u32, u32) {
        let used = || self.first.iter().zip(&self.count).filter(|&(_, &count)| count > 0);
        let from = used().map(|(&first, _)| first).min().unwrap_or(0);
        let to = used().map(|(&first, &count)| first + count).max().unwrap_or(0);
        (from, to - from)
    }

    /// First input and coefficients of each output position.
    fn rows(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let counted = self.first.iter().zip(&self.count);
        counted
            .zip(self.coefficients.chunks(self.taps))
            .map(|((&first, &count), row)| (first as usize, row.get(..count as usize).unwrap_or(row)))
    }
}

/// Weights that sum to 1, rounded to 22 fractional bits, halves away from zero.
fn fixed_point(weights: Vec<f64>) -> Vec<i32> {
    let sum: f64 = weights.iter().sum();
    let one = f64::from(1_u32 << PRECISION_BITS);
    let round = |weight: f64| {
        let weight = if sum == 0.0 { weight } else { weight / sum };
        if weight < 0.0 { (weight * one - 0.5) as i32 } else { (weight * one + 0.5) as i32 }
    };
    weights.into_iter().map(round).collect()
}

/// Both passes for pictures of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passes {
    /// Along the rows: the crop's columns from the picture's columns.
    pub horizontal: ResizeTable,
    /// Along the columns: the crop's rows from the picture's rows (counted from the picture's first).
    pub vertical: ResizeTable,
    /// The first row of the picture that the horizontal pass has to work on.
    pub first_row: u32,
    /// How many rows from there on.
    pub rows: u32,
}

impl Passes {
    /// The passes that bring a `width` x `height` picture to the network's input size.
    ///
    /// # Errors
    /// As [`Preprocess::geometry`].
    pub fn new(preprocess: &Preprocess, width: u32, height: u32) -> Result<Self> {
        let to = preprocess.geometry(width, height)?;
        let horizontal = ResizeTable::new(preprocess.filter, width, to.width, to.left, preprocess.crop)?;
        let vertical = ResizeTable::new(preprocess.filter, height, to.height, to.top, preprocess.crop)?;
        let (first_row, rows) = vertical.inputs();
        Ok(Self { horizontal, vertical, first_row, rows })
    }
}

/// Resizes and crops a picture on the CPU: RGBA bytes in, RGBA bytes of `crop` x `crop` pixels out.
///
/// Rows follow one another from the top, without gaps. Alpha is dropped, not blended, and is 255 in the result, padding included.
///
/// # Errors
/// [`Error::Length`] if `rgba` does not hold `width * height * 4` bytes, and those of [`Preprocess::geometry`].
pub fn resize_crop_u8(rgba: &[u8], width: u32, height: u32, preprocess: &Preprocess) -> Result<Vec<u8>> {
    let passes = Passes::new(preprocess, width, height)?;
    let shape = [height as usize, width as usize, 4];
    let row_bytes = shape[1] * 4;
    if row_bytes.checked_mul(shape[0]) != Some(rgba.len()) {
        return Err(Error::Length { what: "rgba".to_owned(), shape: shape.to_vec(), found: rgba.len() });
    }
    let first_row = passes.first_row as usize;
    let mut between = Vec::with_capacity(passes.rows as usize * passes.horizontal.len());
    for row in rgba.chunks_exact(row_bytes).skip(first_row).take(passes.rows as usize) {
        let (pixels, _) = row.as_chunks::<4>();
        between.extend(
            passes.horizontal.rows().map(|(first, coefficients)| weigh(pixels.iter().skip(first), coefficients)),
        );
    }
    let columns = passes.horizontal.len();
    let mut out = Vec::with_capacity(columns * passes.vertical.len() * 4);
    for (first, coefficients) in passes.vertical.rows() {
        let from = first.saturating_sub(first_row) * columns;
        for column in 0..columns {
            out.extend(weigh(between.iter().skip(from + column).step_by(columns), coefficients));
        }
    }
    Ok(out)
}

/// The weighted sum of pixels, rounded to bytes, with full alpha.
fn weigh<'a>(pixels: impl Iterator<Item = &'a [u8; 4]>, coefficients: &[i32]) -> [u8; 4] {
    let mut sums = [1_i32 << (PRECISION_BITS - 1); 3];
    for (pixel, &coefficient) in pixels.zip(coefficients) {
        for (sum, &byte) in sums.iter_mut().zip(pixel) {
            *sum += coefficient * i32::from(byte);
        }
    }
    let [red, green, blue] = sums.map(|sum| (sum >> PRECISION_BITS).clamp(0, 255) as u8);
    [red, green, blue, 255]
}

#[cfg(test)]
mod tests;
