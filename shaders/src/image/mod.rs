//! Pictures before a network sees them: the antialiased resize in 8-bit fixed point, exact to the bit.
//!
//! A resize is two passes, first [`ResizeRows`] along the rows, then [`ResizeColumns`] along the columns, and between
//! them the picture is bytes again. [`ResizeTexture`] does both at once, to the same bytes, where the picture is a texture. Which pixels count how much comes as a [`table`] from the host, so that the
//! filter and its rounding are decided in one place; here are only whole numbers. Where in its source the picture lies is an input as well, its
//! [`corner`], so that one that moves from run to run needs nothing new.

mod camera;

pub use camera::{Area, Quarter, Turn, Yuv, YuvMatrix, YuvRange};

use crate::{Desc, Fill, Format, HostTensor, ShapeError};

crate::kernels! {
    resize_rows, resize_columns, resize_texture,
}

/// Bits after the point of a coefficient: 1 is `1 << 22`.
pub const PRECISION_BITS: u32 = 22;

/// The table of one pass as the kernels read it, `[outputs, 2 + taps]` words: for each output position the first input,
/// how many inputs from there on, and their coefficients in units of `2^-22` (two's complement).
///
/// `first` and `count` have one value for each output position, `coefficients` has `taps` for each. The magnitudes of one
/// position's coefficients must not sum to more than 2, for which 32 bits are enough.
pub fn table(first: &[u32], count: &[u32], coefficients: &[i32], taps: usize) -> HostTensor {
    let mut words = Vec::with_capacity(first.len() * (2 + taps));
    for ((first, count), row) in first.iter().zip(count).zip(coefficients.chunks(taps.max(1))) {
        words.extend([*first, *count]);
        words.extend(row.iter().map(|coefficient| *coefficient as u32));
    }
    HostTensor::from_words(Desc::new(Format::Word, [first.len(), 2 + taps]), words)
}

/// Where the picture begins in its source as the kernels read it, `[2]` words: its leftmost column and its topmost row there.
pub fn corner(x: u32, y: u32) -> HostTensor {
    HostTensor::from_words(Desc::new(Format::Word, [2]), vec![x, y])
}

/// `sum_t coefficient[t] * pixel(first + t)` of one output position, channel by channel, rounded and clamped to bytes.
fn weighted(entry: &[u32], pixel: impl Fn(usize) -> u32) -> u32 {
    let count = (entry[1] as usize).min(entry.len() - 2);
    let mut sums = [1i64 << (PRECISION_BITS - 1); 4];
    for (tap, coefficient) in entry[2..2 + count].iter().enumerate() {
        let bytes = pixel(entry[0] as usize + tap).to_le_bytes();
        for (sum, byte) in sums.iter_mut().zip(bytes) {
            *sum += i64::from(*coefficient as i32) * i64::from(byte);
        }
    }
    u32::from_le_bytes(sums.map(|sum| (sum >> PRECISION_BITS).clamp(0, 255) as u8))
}

/// What a kernel reads of its source: a part of it, turned, from bytes, one texture, or two planes.
#[derive(Debug, Clone, Copy)]
struct View {
    kernel: &'static str,
    size: [u32; 2],
    turn: Turn,
    planes: Option<Yuv>,
}

impl View {
    /// The source's planes, the `tables` behind them and the corner, if there are as many as there should be.
    fn split<T>(self, inputs: &[T], tables: usize) -> Option<(&[T], &[T], &T)> {
        let count = if self.planes.is_some() { 2 } else { 1 };
        let (corner, before) = inputs.split_last()?;
        let (planes, rest) = before.split_at_checked(count)?;
        (rest.len() == tables).then_some((planes, rest, corner))
    }

    fn summary(self) -> String {
        let [width, height] = self.size;
        let turned =
            if self.turn == Turn::default() { String::new() } else { format!(" turned {}", self.turn.label()) };
        format!("{width}x{height}{turned}")
    }

    /// Width and height of what is read, as it is turned.
    fn turned_size(self) -> [u32; 2] {
        self.turn.size(self.size[0], self.size[1])
    }

    /// Refuses a source of none of the formats `known`, one whose planes do not belong together, one that is smaller than the picture, and a corner
    /// that is none.
    fn check(self, planes: &[Desc], known: &[Format], (position, corner): (usize, &Desc)) -> Result<(), ShapeError> {
        let kernel = self.kernel;
        let refuse = |position: usize, expected: &str| {
            Err(ShapeError::Input { kernel, position, expected: expected.to_owned(), found: planes[position].clone() })
        };
        let known = match self.planes {
            Some(_) => planes[0].format == Format::TextureLuma,
            None => known.contains(&planes[0].format),
        };
        let (&[1, height, width], true) = (&planes[0].shape[..], known) else {
            return refuse(
                0,
                "one picture [1, height, width] of bytes or a texture, as it takes, or of luma where it has two planes",
            );
        };
        let halves = Desc::new(Format::TextureChroma, [1, height.div_ceil(2), width.div_ceil(2)]);
        if planes.get(1).is_some_and(|chroma| *chroma != halves) {
            return refuse(1, "chroma of half the luma's rows and columns, rounded up");
        }
        let within = |length: u32, whole: usize| length > 0 && length as usize <= whole;
        if !within(self.size[0], width) || !within(self.size[1], height) {
            let [wide, high] = self.size;
            let reason = format!("{wide}x{high} pixels are none or more than the source's {width}x{height}");
            return Err(ShapeError::Parameter { kernel, reason });
        }
        if (corner.format, &corner.shape[..]) != (Format::Word, &[2]) {
            let expected = "a corner [2] of words".to_owned();
            return Err(ShapeError::Input { kernel, position, expected, found: corner.clone() });
        }
        Ok(())
    }

    /// What a shader is told of it first: where pixel 0 of row `first_row` lies from the corner, and the farthest corner of a source.
    fn origin(self, first_row: u32, source: &Desc) -> [u32; 4] {
        let (origin, _, down) = self.turn.steps(self.size[0], self.size[1]);
        let [x, y] = [0, 1].map(|axis| (origin[axis] + first_row as i32 * down[axis]) as u32);
        let [right, bottom] = self.farthest(source);
        [x, y, right, bottom]
    }

    /// The last column and row at which the picture can begin.
    fn farthest(self, source: &Desc) -> [u32; 2] {
        [source.shape[2] as u32 - self.size[0], source.shape[1] as u32 - self.size[1]]
    }

    /// What a shader is told of it last: whether texels decode the sRGB curve, the steps from a pixel to the next and to the one below, and
    /// how two planes are read.
    fn params(self, format: Format) -> Vec<u32> {
        let (_, across, down) = self.turn.steps(self.size[0], self.size[1]);
        let mut params = vec![u32::from(format == Format::TextureSrgb)];
        params.extend([across, down].concat().into_iter().map(|step| step as u32));
        params.extend(self.planes.map_or([0; 6], Yuv::factors).map(|factor| factor as u32));
        params
    }

    /// The pixel at a column and a row of what is read; the last column stands for those beyond it.
    fn pixel(self, planes: &[&HostTensor], corner: &HostTensor, [column, row]: [usize; 2]) -> u32 {
        let last = self.turned_size()[0] as usize - 1;
        let from = self.turn.source([column.min(last) as u32, row as u32], self.size);
        let farthest = self.farthest(&planes[0].desc);
        let [x, y] = [0, 1].map(|axis| (corner.words[axis].min(farthest[axis]) + from[axis]) as usize);
        let word = planes[0].words[y * planes[0].desc.shape[2] + x];
        match (self.planes, planes.get(1)) {
            (Some(yuv), Some(chroma)) => {
                let [blue, red, ..] = chroma.words[y / 2 * chroma.desc.shape[2] + x / 2].to_le_bytes();
                yuv.rgba(word as u8, [blue, red])
            }
            _ => word,
        }
    }
}

/// Whether `desc` is a [`table`] with at least one position and one coefficient.
fn is_table(desc: &Desc) -> bool {
    desc.format == Format::Word && matches!(desc.shape[..], [outputs, words] if outputs > 0 && words > 2)
}

/// The table of a triangle filter from `input` to `output` pixels, of which the `length` from `start` on are made; for cases.
fn triangle(input: usize, output: usize, start: usize, length: usize) -> HostTensor {
    let step = input as f64 / output as f64;
    let reach = step.max(1.0);
    let taps = (2.0 * reach).ceil() as usize + 1;
    let (mut first, mut count, mut coefficients) = (Vec::new(), Vec::new(), Vec::new());
    for position in start..start + length {
        let centre = (position as f64 + 0.5) * step;
        let from = (centre - reach + 0.5).max(0.0) as usize;
        let to = ((centre + reach + 0.5) as usize).min(input);
        let weights: Vec<f64> =
            (from..to).map(|i| (1.0 - ((i as f64 + 0.5 - centre) / reach).abs()).max(0.0)).collect();
        let total: f64 = weights.iter().sum();
        let unit = f64::from(1u32 << PRECISION_BITS);
        first.push(from as u32);
        count.push(weights.len() as u32);
        coefficients.extend(weights.iter().map(|w| (w / total * unit + 0.5) as i32));
        coefficients.resize(first.len() * taps, 0);
    }
    table(&first, &count, &coefficients, taps)
}

/// Every kind of texture, for cases: of colours, plain and with a curve, and every way to read two planes.
fn textures() -> Vec<(Format, Option<Yuv>)> {
    let planes = [YuvMatrix::Bt601, YuvMatrix::Bt709].into_iter().flat_map(|matrix| {
        [YuvRange::Limited, YuvRange::Full].map(|range| (Format::TextureLuma, Some(Yuv { matrix, range })))
    });
    [(Format::Texture, None), (Format::TextureSrgb, None)].into_iter().chain(planes).collect()
}

/// A source of noise, for cases.
fn noise(format: Format, planes: Option<Yuv>, [height, width]: [usize; 2]) -> Vec<(Desc, Fill)> {
    let halves = [1, height.div_ceil(2), width.div_ceil(2)];
    let first = [(Desc::new(format, [1, height, width]), Fill::Noise)];
    first.into_iter().chain(planes.map(|_| (Desc::new(Format::TextureChroma, halves), Fill::Noise))).collect()
}

/// The input that says where the picture begins, for cases.
fn beginning([x, y]: [u32; 2]) -> (Desc, Fill) {
    let corner = corner(x, y);
    (corner.desc, Fill::Words(corner.words))
}

/// 256 pixels that have every byte once in each channel, for cases.
fn every_byte() -> Vec<u32> {
    (0..256u32).map(|i| u32::from_le_bytes([i, i ^ 0x55, 255 - i, i ^ 0xAA].map(|byte| byte as u8))).collect()
}

#[cfg(test)]
mod tests;
