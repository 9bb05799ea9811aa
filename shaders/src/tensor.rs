//! The vocabulary every crate shares: what a tensor's words mean, and tensors on the host.

use crate::panel::{self, Code};
use half::f16;
use std::fmt;

/// How the 32-bit words of a tensor hold its values.
///
/// Row formats pad the last axis to a multiple of four with zeros, so that a kernel always loads four
/// neighbouring values at once. Matrix formats are what the matrix kernels read: `[k, n]` with `k` padded
/// to a multiple of four and `n` to a multiple of four, so that one 16-byte load brings four columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Format {
    /// Rows of 32-bit floats.
    F32,
    /// Rows of 16-bit floats, two a word.
    F16,
    /// Rows of signed bytes, four a word.
    I8,
    /// Rows of signed bytes, four a word, each row after a word with the 32-bit float that they are multiples of.
    ScaledI8,
    /// Rows of signed bytes, in blocks of 32 columns of which each has a 32-bit float that they are multiples of; four rows side by side.
    /// Word `((row / 4 * blocks + block) * 9 + c) * 4 + row % 4` holds columns `4 c` to `4 c + 3` of the block, and with `c = 8` its float.
    BlockI8,
    /// 8-bit RGBA pixels, one a word, red in the lowest byte; the shape has no channel axis.
    Rgba8,
    /// Plain 32-bit words without padding: indices and tables.
    Word,
    /// A two-dimensional texture `[1, height, width]` of somebody else's, read by coordinates. On a device it is bound as
    /// a texture and is no buffer; on the host its texels are words as in [`Format::Rgba8`].
    Texture,
    /// A texture whose format decodes the sRGB curve when it is read; its words on the host are the bytes it stores.
    TextureSrgb,
    /// A texture of which the first channel is read, the luma of a picture in two planes; its words on the host have it in the lowest byte.
    TextureLuma,
    /// A texture of which two channels are read, the chroma of such a picture, blue and red; its words have them in the lowest bytes.
    TextureChroma,
    /// Matrix of 32-bit floats: word `k * n4 + n`.
    MatrixF32,
    /// Matrix of 16-bit floats: word `(k / 2) * n4 + n` holds rows `k` (low half) and `k + 1`.
    MatrixF16,
    /// Matrix of signed bytes: word `(k / 4) * n4 + n` holds rows `k` (lowest byte) to `k + 3`.
    MatrixI8,
    /// Rows of weights `[n, k]` in panels of 32 rows by 32 columns, as [`crate::panel`] lays them out.
    Panel(Code),
}

impl Format {
    /// Whether this is one of the packed matrix layouts.
    pub fn is_matrix(self) -> bool {
        matches!(self, Format::MatrixF32 | Format::MatrixF16 | Format::MatrixI8)
    }

    /// Whether a device binds it as a texture rather than as a buffer.
    pub fn is_texture(self) -> bool {
        self.channels() > 0
    }

    /// Channels of a texture that are read; 0 for what is no texture.
    pub fn channels(self) -> u8 {
        match self {
            Format::Texture | Format::TextureSrgb => 3,
            Format::TextureChroma => 2,
            Format::TextureLuma => 1,
            _ => 0,
        }
    }

    /// Whether values are whole 32-bit words that are compared as such: pixels, texels, indices and tables.
    pub fn is_word(self) -> bool {
        matches!(self, Format::Rgba8 | Format::Word) || self.is_texture()
    }

    /// The name in plans and messages.
    pub fn label(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
            Format::I8 => "i8",
            Format::ScaledI8 => "scaled-i8",
            Format::BlockI8 => "block-i8",
            Format::Rgba8 => "rgba8",
            Format::Word => "word",
            Format::Texture => "texture",
            Format::TextureSrgb => "texture-srgb",
            Format::TextureLuma => "texture-luma",
            Format::TextureChroma => "texture-chroma",
            Format::MatrixF32 => "matrix-f32",
            Format::MatrixF16 => "matrix-f16",
            Format::MatrixI8 => "matrix-i8",
            Format::Panel(code) => code.label(),
        }
    }
}

/// A tensor's logical shape and storage format; activations are `[batch, height, width, channels]`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Desc {
    /// Logical extents, outermost first.
    pub shape: Vec<usize>,
    /// Storage of the values.
    pub format: Format,
}

impl fmt::Debug for Desc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Desc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, extent) in self.shape.iter().enumerate() {
            write!(f, "{}{extent}", if i == 0 { "" } else { "x" })?;
        }
        write!(f, " {}", self.format.label())
    }
}

/// `extent` rounded up to a multiple of four.
pub fn pad4(extent: usize) -> usize {
    extent.div_ceil(4) * 4
}

impl Desc {
    /// A tensor of `shape` stored as `format`.
    pub fn new(format: Format, shape: impl Into<Vec<usize>>) -> Desc {
        Desc { shape: shape.into(), format }
    }

    /// Rows of 32-bit floats.
    pub fn f32(shape: impl Into<Vec<usize>>) -> Desc {
        Desc::new(Format::F32, shape)
    }

    /// The last extent; 1 for a scalar.
    pub fn last(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The product of all extents but the last.
    pub fn rows(&self) -> usize {
        let outer = self.shape.len().saturating_sub(1);
        self.shape[..outer].iter().product()
    }

    /// The number of logical values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether any extent is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of 32-bit words of storage, padding included.
    pub fn words(&self) -> usize {
        let (rows, last) = (self.rows(), self.last());
        match self.format {
            Format::F32 => rows * pad4(last),
            Format::F16 => rows * pad4(last) / 2,
            Format::I8 => rows * pad4(last) / 4,
            Format::ScaledI8 => rows * (1 + pad4(last) / 4),
            Format::BlockI8 => pad4(rows) * last.div_ceil(panel::BLOCK) * 9,
            Format::Rgba8
            | Format::Word
            | Format::Texture
            | Format::TextureSrgb
            | Format::TextureLuma
            | Format::TextureChroma => self.len(),
            Format::MatrixF32 => pad4(rows) * pad4(last),
            Format::MatrixF16 => pad4(rows) / 2 * pad4(last),
            Format::MatrixI8 => pad4(rows) / 4 * pad4(last),
            Format::Panel(code) => panel::words(code, rows, last),
        }
    }

    /// Bytes of storage, padding included; of more than there can be, as many as can be told.
    pub fn bytes(&self) -> u64 {
        (self.words() as u64).saturating_mul(4)
    }

    /// `(batch, height, width, channels)` of an activation, when the shape has four axes.
    pub fn nhwc(&self) -> Option<(usize, usize, usize, usize)> {
        match self.shape[..] {
            [n, h, w, c] => Some((n, h, w, c)),
            _ => None,
        }
    }
}

/// A 127th of the largest of `values`, and the multiples of it that are nearest to them, as signed bytes, four a word. Where a value is
/// not finite, bytes of zero and a scale that is no number, so that none of them is one.
fn bytes(values: &[f32]) -> (f32, Vec<u32>) {
    if values.iter().any(|value| !value.is_finite()) {
        return (f32::NAN, vec![0; values.len().div_ceil(4)]);
    }
    let peak = values.iter().fold(0.0f32, |peak, v| peak.max(v.abs()));
    let inverse = if peak > 0.0 { 127.0 / peak } else { 0.0 };
    let mut words = vec![0; values.len().div_ceil(4)];
    for (at, value) in values.iter().enumerate() {
        words[at / 4] |= u32::from((value * inverse).round_ties_even() as i8 as u8) << (8 * (at % 4));
    }
    (peak / 127.0, words)
}

/// A tensor in host memory, in the very words a GPU buffer would hold.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Shape and format.
    pub desc: Desc,
    /// Storage, `desc.words()` long.
    pub words: Vec<u32>,
}

impl HostTensor {
    /// All-zero storage.
    pub fn zeros(desc: Desc) -> HostTensor {
        let words = vec![0; desc.words()];
        HostTensor { desc, words }
    }

    /// Stores logical `values` (row-major, unpadded) in the format of `desc`, rounding to nearest even.
    /// Pixels and words take values that are whole numbers. The scale of a row of [`Format::ScaledI8`], or of a block of
    /// [`Format::BlockI8`], is a 127th of its largest value, and no number where one of its values is not finite.
    pub fn from_values(desc: Desc, values: &[f32]) -> HostTensor {
        debug_assert_eq!(values.len(), desc.len());
        let mut tensor = HostTensor::zeros(desc);
        let (last, format) = (tensor.desc.last().max(1), tensor.desc.format);
        if format == Format::ScaledI8 {
            values.chunks(last).enumerate().for_each(|(row, values)| tensor.set_scaled(row, values));
            return tensor;
        }
        if format == Format::BlockI8 {
            values.chunks(last).enumerate().for_each(|(row, values)| tensor.set_blocks(row, values));
            return tensor;
        }
        if matches!(format, Format::F32 | Format::MatrixF32) {
            let rows = tensor.words.chunks_mut(pad4(last));
            for (words, values) in rows.zip(values.chunks(last)) {
                words.iter_mut().zip(values).for_each(|(word, value)| *word = value.to_bits());
            }
            return tensor;
        }
        for (row, values) in values.chunks(last).enumerate() {
            values.iter().enumerate().for_each(|(column, value)| tensor.put((row, column), *value));
        }
        tensor
    }

    /// Stores some columns of a matrix of `rows` rows, from `first` on, in words that hold zero there, as [`from_values`](Self::from_values)
    /// would: `values` has one column after another, `[columns, rows]`. For formats without scales.
    ///
    /// # Panics
    /// If the matrix has no such columns or rows, or if there are fewer than `rows` values and rows to store them in.
    pub fn put_columns(&mut self, first: usize, rows: usize, values: &[f32]) {
        let (stride, columns) = (pad4(self.desc.last()), values.len() / rows.max(1));
        let plain = matches!(self.desc.format, Format::F32 | Format::MatrixF32);
        for row in 0..rows {
            let column = values[row..].iter().step_by(rows);
            if plain {
                let words = &mut self.words[row * stride + first..][..columns];
                words.iter_mut().zip(column).for_each(|(word, value)| *word = value.to_bits());
            } else {
                column.enumerate().for_each(|(column, value)| self.put((row, first + column), *value));
            }
        }
    }

    /// Stores one value, at its row and column, in words that hold zero there, as [`from_values`](Self::from_values) would. For formats without scales.
    pub fn put(&mut self, (row, column): (usize, usize), value: f32) {
        let last = self.desc.last();
        let stride = pad4(last);
        let at = row * stride + column;
        let half = || u32::from(f16::from_f32(value).to_bits());
        let byte = || u32::from(value as i8 as u8);
        match self.desc.format {
            Format::F32 | Format::MatrixF32 => self.words[at] = value.to_bits(),
            Format::F16 => self.words[at / 2] |= half() << (16 * (at % 2)),
            Format::I8 => self.words[at / 4] |= byte() << (8 * (at % 4)),
            Format::ScaledI8 | Format::BlockI8 => {}
            Format::Rgba8
            | Format::Word
            | Format::Texture
            | Format::TextureSrgb
            | Format::TextureLuma
            | Format::TextureChroma => self.words[row * last + column] = value as u32,
            Format::MatrixF16 => self.words[row / 2 * stride + column] |= half() << (16 * (row % 2)),
            Format::MatrixI8 => self.words[row / 4 * stride + column] |= byte() << (8 * (row % 4)),
            Format::Panel(code) => panel::put(code, &mut self.words, last, (row, column), value),
        }
    }

    /// Replaces row `row`, of as many values as the last extent, and leaves the words of the others as they are. For formats of rows.
    pub fn set_row(&mut self, row: usize, values: &[f32]) {
        let desc = Desc::new(self.desc.format, [1, self.desc.last()]);
        let words = HostTensor::from_values(desc, values).words;
        self.words[row * words.len()..][..words.len()].copy_from_slice(&words);
    }

    fn set_scaled(&mut self, row: usize, values: &[f32]) {
        let stride = 1 + pad4(values.len()) / 4;
        let (scale, words) = bytes(values);
        self.words[row * stride] = scale.to_bits();
        self.words[row * stride + 1..][..words.len()].copy_from_slice(&words);
    }

    fn set_blocks(&mut self, row: usize, values: &[f32]) {
        let blocks = values.len().div_ceil(panel::BLOCK);
        for (block, values) in values.chunks(panel::BLOCK).enumerate() {
            let start = (row / 4 * blocks + block) * 36 + row % 4;
            let (scale, words) = bytes(values);
            words.iter().enumerate().for_each(|(c, word)| self.words[start + 4 * c] = *word);
            self.words[start + 32] = scale.to_bits();
        }
    }

    /// Wraps storage that is already in the format of `desc`.
    pub fn from_words(desc: Desc, words: Vec<u32>) -> HostTensor {
        debug_assert_eq!(words.len(), desc.words());
        HostTensor { desc, words }
    }

    /// The logical values, row-major and without padding. Bytes come as whole numbers, pixels and words as
    /// their unsigned value.
    pub fn values(&self) -> Vec<f32> {
        let (last, format) = (self.desc.last().max(1), self.desc.format);
        let stride = pad4(last);
        let half = |word: u32, part: usize| f16::from_bits((word >> (16 * part)) as u16).to_f32();
        let byte = |word: u32, part: usize| f32::from((word >> (8 * part)) as u8 as i8);
        (0..self.desc.len())
            .map(|i| {
                let (row, column) = (i / last, i % last);
                let at = row * stride + column;
                match format {
                    Format::F32 | Format::MatrixF32 => f32::from_bits(self.words[at]),
                    Format::F16 => half(self.words[at / 2], at % 2),
                    Format::I8 => byte(self.words[at / 4], at % 4),
                    Format::ScaledI8 => {
                        let words = &self.words[row * (1 + stride / 4)..];
                        f32::from_bits(words[0]) * byte(words[1 + column / 4], column % 4)
                    }
                    Format::BlockI8 => {
                        let block = row / 4 * last.div_ceil(panel::BLOCK) + column / panel::BLOCK;
                        let (words, column) = (&self.words[block * 36 + row % 4..], column % panel::BLOCK);
                        f32::from_bits(words[32]) * byte(words[column / 4 * 4], column % 4)
                    }
                    Format::Rgba8
                    | Format::Word
                    | Format::Texture
                    | Format::TextureSrgb
                    | Format::TextureLuma
                    | Format::TextureChroma => self.words[i] as f32,
                    Format::MatrixF16 => half(self.words[row / 2 * stride + column], row % 2),
                    Format::MatrixI8 => byte(self.words[row / 4 * stride + column], row % 4),
                    Format::Panel(code) => panel::get(code, &self.words, last, (row, column)),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_gives_back_what_it_was_given() {
        use Format::{F16, F32, I8, MatrixF16, MatrixF32, MatrixI8, Panel, Word};
        let panels = [Code::F32, Code::F16, Code::Bf16, Code::I8, Code::Scale, Code::ScaleMin].map(Panel);
        for format in [F32, F16, I8, Word, MatrixF32, MatrixF16, MatrixI8].into_iter().chain(panels) {
            for shape in [[1, 1], [3, 5], [7, 4], [4, 7], [9, 13]] {
                let desc = Desc::new(format, shape);
                if format == Panel(Code::ScaleMin) && !desc.last().is_multiple_of(2) {
                    continue;
                }
                let low = if format == Word { 0.0 } else { -60.0 };
                let values: Vec<f32> = (0..desc.len()).map(|i| low + i as f32).collect();
                let tensor = HostTensor::from_values(desc.clone(), &values);
                assert_eq!(tensor.words.len(), desc.words());
                assert_eq!(tensor.values(), values, "{desc}");
                let [rows, columns] = shape;
                let mut by_columns = HostTensor::zeros(desc.clone());
                for (first, until) in [(0, columns / 2), (columns / 2, columns)] {
                    let column = |column| (0..rows).map(move |row| row * columns + column);
                    let part: Vec<f32> = (first..until).flat_map(column).map(|at| values[at]).collect();
                    by_columns.put_columns(first, rows, &part);
                }
                assert_eq!(by_columns, tensor, "{desc}");
            }
        }
    }

    #[test]
    fn scaled_bytes_are_within_half_a_step_and_a_row_is_replaced_alone() {
        let values = [0.3, -1.27, 0.004, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 127.0, -64.0, 1.4];
        let mut tensor = HostTensor::from_values(Desc::new(Format::ScaledI8, [3, 4]), &values);
        assert_eq!(tensor.words.len(), 6);
        let found = tensor.values();
        for (row, (found, given)) in found.chunks(4).zip(values.chunks(4)).enumerate() {
            let peak = given.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let off = found.iter().zip(given).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(off <= peak / 127.0 * 0.5001, "row {row}: {off}");
        }
        assert_eq!(found[8..], [5.0, 127.0, -64.0, 1.0]);
        tensor.set_row(1, &[1.0, 2.0, 3.0, 4.0]);
        let after = tensor.values();
        assert_eq!([&after[..4], &after[8..]], [&found[..4], &found[8..]]);
        assert_eq!(after[7], 4.0);
    }

    #[test]
    fn blocks_of_bytes_have_scales_of_their_own() {
        // Whole numbers whose largest is 127 times a power of two are kept; the factor differs from block to block.
        let value = |row: usize, column: usize| {
            let whole = if column.is_multiple_of(32) { 127 } else { (row * 31 + column * 7) as i32 % 127 - 63 };
            whole as f32 * [1.0, 0.25, 8.0][column / 32]
        };
        let values: Vec<f32> = (0..6 * 70).map(|i| value(i / 70, i % 70)).collect();
        let tensor = HostTensor::from_values(Desc::new(Format::BlockI8, [6, 70]), &values);
        assert_eq!(tensor.words.len(), 2 * 3 * 36);
        assert_eq!(tensor.values(), values);
        // The fifth row is the first of the second four; its second block starts after the first one's 36 words.
        assert_eq!(f32::from_bits(tensor.words[(3 + 1) * 36 + 32]), 0.25);
    }
}
