//! How weight rows lie on a device: panels of 32 rows by blocks of 32 columns, so that neighbouring lanes that own
//! neighbouring rows load neighbouring 16-byte vectors, whatever the adapter and whatever the number of bits.
//!
//! Vector `v` of a row's block lies at `((panel * blocks + block) * vectors + v) * 32 + row % 32`, counted in vectors of four
//! words. Rows and columns beyond the matrix are zeros.

use half::{bf16, f16};

/// Rows of a panel.
pub const ROWS: usize = 32;

/// Columns of a block, which share a scale where weights are quantized.
pub const BLOCK: usize = 32;

/// What a panel holds for each weight, or for each block of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Code {
    /// 32-bit floats; 8 vectors a block.
    F32,
    /// 16-bit floats, two a word; 4 vectors a block.
    F16,
    /// The upper halves of 32-bit floats, two a word; 4 vectors a block.
    Bf16,
    /// Signed bytes, four a word; 2 vectors a block.
    I8,
    /// Unsigned 4-bit numbers; one vector a block. Word `j` holds columns `8 j .. 8 j + 4` in the low halves of its bytes and
    /// the four after them in the high halves.
    U4,
    /// Single bits: the fifth bit of 5-bit numbers. One word a block and row, bit `c` for column `c`.
    U1,
    /// `[n, blocks]`: the scale of each block as a 16-bit float; rows `r` and `r + 16` of a panel share a word.
    Scale,
    /// `[n, 2 blocks]`: the scale and the offset of each block as 16-bit floats, together a word.
    ScaleMin,
}

impl Code {
    /// The name in plans and messages.
    pub fn label(self) -> &'static str {
        match self {
            Code::F32 => "panel-f32",
            Code::F16 => "panel-f16",
            Code::Bf16 => "panel-bf16",
            Code::I8 => "panel-i8",
            Code::U4 => "panel-u4",
            Code::U1 => "panel-u1",
            Code::Scale => "panel-scale",
            Code::ScaleMin => "panel-scale-min",
        }
    }

    /// Bits of one value.
    fn bits(self) -> usize {
        match self {
            Code::F32 => 32,
            Code::F16 | Code::Bf16 | Code::Scale | Code::ScaleMin => 16,
            Code::I8 => 8,
            Code::U4 => 4,
            Code::U1 => 1,
        }
    }
}

/// Words of `rows` by `columns` values, padding included.
pub fn words(code: Code, rows: usize, columns: usize) -> usize {
    let rows = rows.div_ceil(ROWS) * ROWS;
    match code {
        Code::Scale | Code::ScaleMin => rows * columns * code.bits() / 32,
        _ => rows * columns.div_ceil(BLOCK) * BLOCK / 32 * code.bits(),
    }
}

/// The word that holds a value, and how far up in it.
pub fn place(code: Code, columns: usize, (row, column): (usize, usize)) -> (usize, u32) {
    let (panel, row) = (row / ROWS, row % ROWS);
    match code {
        Code::Scale => ((panel * columns + column) * 16 + row % 16, 16 * (row as u32 / 16)),
        Code::ScaleMin => ((panel * (columns / 2) + column / 2) * ROWS + row, 16 * (column as u32 % 2)),
        Code::U1 => ((panel * columns.div_ceil(BLOCK) + column / BLOCK) * ROWS + row, (column % BLOCK) as u32),
        _ => {
            let per_word = 32 / code.bits();
            let per_vector = 4 * per_word;
            let block = panel * columns.div_ceil(BLOCK) + column / BLOCK;
            let (vector, at) = (column % BLOCK / per_vector, column % per_vector);
            let word = ((block * (BLOCK / per_vector) + vector) * ROWS + row) * 4 + at / per_word;
            let at = (at % per_word) as u32;
            (word, if code == Code::U4 { 8 * (at % 4) + 4 * (at / 4) } else { at * code.bits() as u32 })
        }
    }
}

/// Stores one value in words that hold zero there, rounding to nearest even.
pub fn put(code: Code, words: &mut [u32], columns: usize, at: (usize, usize), value: f32) {
    let (word, shift) = place(code, columns, at);
    words[word] |= match code {
        Code::F32 => value.to_bits(),
        Code::F16 | Code::Scale | Code::ScaleMin => u32::from(f16::from_f32(value).to_bits()) << shift,
        Code::Bf16 => u32::from(bf16::from_f32(value).to_bits()) << shift,
        Code::I8 => u32::from(value as i8 as u8) << shift,
        Code::U4 => (value as u32 & 15) << shift,
        Code::U1 => (value as u32 & 1) << shift,
    };
}

/// One value: floats as they are, codes as whole numbers.
pub fn get(code: Code, words: &[u32], columns: usize, at: (usize, usize)) -> f32 {
    let (word, shift) = place(code, columns, at);
    let bits = words[word] >> shift;
    match code {
        Code::F32 => f32::from_bits(bits),
        Code::F16 | Code::Scale | Code::ScaleMin => f16::from_bits(bits as u16).to_f32(),
        Code::Bf16 => bf16::from_bits(bits as u16).to_f32(),
        Code::I8 => f32::from(bits as u8 as i8),
        Code::U4 => (bits & 15) as f32,
        Code::U1 => (bits & 1) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_bits_of_its_own_inside_the_panel() {
        for code in [Code::F32, Code::F16, Code::Bf16, Code::I8, Code::U4, Code::U1, Code::Scale, Code::ScaleMin] {
            let (rows, columns) = (64, 64);
            let mut taken = vec![0u64; words(code, rows, columns)];
            for at in (0..rows * columns).map(|i| (i / columns, i % columns)) {
                let (word, shift) = place(code, columns, at);
                let mask = ((1u64 << code.bits()) - 1) << shift;
                assert_eq!(taken[word] & mask, 0, "{code:?} {at:?}");
                taken[word] |= mask;
            }
            assert!(taken.iter().all(|bits| *bits == 0xffff_ffff), "{code:?}");
        }
    }
}
