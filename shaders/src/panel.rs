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

/// Columns of a super-block, whose blocks' scales are small whole numbers under common 16-bit floats.
pub const SUPER: usize = 256;

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
    /// As [`Code::U4`]; each number is the place of a level in the table of the formats IQ4_NL and IQ4_XS.
    Level4,
    /// Unsigned 2-bit numbers; two words a block and row. Word `j` holds columns `16 j .. 16 j + 16`, column `4 g + i` of them in
    /// bits `8 i + 2 g` and the next.
    U2,
    /// Single bits: the highest bit of numbers of 3 and 5 bits. One word a block and row, bit `c` for column `c`.
    U1,
    /// `[n, blocks]`: the scale of each block as a 16-bit float; rows `r` and `r + 16` of a panel share a word.
    Scale,
    /// `[n, 2 blocks]`: the scale and the offset of each block as 16-bit floats, together a word.
    ScaleMin,
    /// `[n, blocks]`: exponents `e` of 8 bits, which stand for `2^(e - 128)`; rows `r`, `r + 8`, `r + 16` and `r + 24` of a panel
    /// share a word.
    Exponent,
    /// `[n, 34 super-blocks]`: of each super-block two 16-bit floats and 16 numbers of 6 bits, of which the lower four bits come
    /// first and the upper two bits after them; one vector of four words a row.
    Scales16x6,
    /// `[n, 18 super-blocks]`: of each super-block two 16-bit floats and 16 bytes; five words a row, each beside its neighbours'.
    Scales16x8,
    /// `[n, 17 super-blocks]`: of each super-block a 16-bit float and 8 numbers of 6 bits, split as in [`Code::Scales16x6`]; two
    /// words a row.
    Scales8x6,
}

/// What one column of a panel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A floating-point number.
    Real,
    /// A signed byte.
    Signed,
    /// A whole number of so many bits.
    Whole(u32),
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
            Code::Level4 => "panel-level4",
            Code::U2 => "panel-u2",
            Code::U1 => "panel-u1",
            Code::Scale => "panel-scale",
            Code::ScaleMin => "panel-scale-min",
            Code::Exponent => "panel-exponent",
            Code::Scales16x6 => "panel-scales-16x6",
            Code::Scales16x8 => "panel-scales-16x8",
            Code::Scales8x6 => "panel-scales-8x6",
        }
    }

    /// Columns that stand for `k` columns of weights.
    pub fn columns(self, k: usize) -> usize {
        match self {
            Code::Scale | Code::Exponent => k.div_ceil(BLOCK),
            Code::ScaleMin => 2 * k.div_ceil(BLOCK),
            _ => self.record().map_or(k, |(columns, _)| columns * k.div_ceil(SUPER)),
        }
    }

    /// Columns and words of a super-block, for codes that hold one thing after another of it.
    fn record(self) -> Option<(usize, usize)> {
        match self {
            Code::Scales16x6 => Some((34, 4)),
            Code::Scales16x8 => Some((18, 5)),
            Code::Scales8x6 => Some((17, 2)),
            _ => None,
        }
    }

    /// What a column holds.
    pub fn value(self, column: usize) -> Value {
        match (self, self.record().map_or(column, |(columns, _)| column % columns)) {
            (Code::F32 | Code::F16 | Code::Bf16 | Code::Scale | Code::ScaleMin, _)
            | (Code::Scales16x6 | Code::Scales16x8, 0 | 1)
            | (Code::Scales8x6, 0) => Value::Real,
            (Code::I8, _) => Value::Signed,
            (Code::Scales16x8 | Code::Exponent, _) => Value::Whole(8),
            (Code::U4 | Code::Level4, _) | (Code::Scales16x6, ..18) | (Code::Scales8x6, ..9) => Value::Whole(4),
            (Code::U2 | Code::Scales16x6 | Code::Scales8x6, _) => Value::Whole(2),
            (Code::U1, _) => Value::Whole(1),
        }
    }

    /// Bits of the value of a column.
    fn bits(self, column: usize) -> usize {
        match (self.value(column), self) {
            (Value::Real, Code::F32) => 32,
            (Value::Real, _) => 16,
            (Value::Signed, _) => 8,
            (Value::Whole(bits), _) => bits as usize,
        }
    }
}

/// Words of `rows` by `columns` values, padding included.
pub fn words(code: Code, rows: usize, columns: usize) -> usize {
    let rows = rows.div_ceil(ROWS) * ROWS;
    match (code, code.record()) {
        (_, Some((record, words))) => rows * columns.div_ceil(record) * words,
        (Code::Scale | Code::ScaleMin | Code::Exponent, _) => rows * columns * code.bits(0) / 32,
        _ => rows * columns.div_ceil(BLOCK) * BLOCK / 32 * code.bits(0),
    }
}

/// The word that holds a value, and how far up in it.
fn place(code: Code, columns: usize, (row, column): (usize, usize)) -> (usize, u32) {
    if let Some((record, words)) = code.record() {
        let (word, shift) = place_of_scale(code, column % record);
        let start = (row / ROWS * columns.div_ceil(record) + column / record) * words * ROWS;
        let row = row % ROWS;
        return (start + if code == Code::Scales16x8 { word * ROWS + row } else { row * words + word }, shift as u32);
    }
    let (panel, row) = (row / ROWS, row % ROWS);
    let block = panel * columns.div_ceil(BLOCK) + column / BLOCK;
    match code {
        Code::Scale => ((panel * columns + column) * 16 + row % 16, 16 * (row as u32 / 16)),
        Code::ScaleMin => ((panel * (columns / 2) + column / 2) * ROWS + row, 16 * (column as u32 % 2)),
        Code::Exponent => ((panel * columns + column) * 8 + row % 8, 8 * (row as u32 / 8)),
        Code::U1 => (block * ROWS + row, (column % BLOCK) as u32),
        Code::U2 => {
            let (word, at) = (column % BLOCK / 16, column as u32 % 16);
            ((block * ROWS + row) * 2 + word, 8 * (at % 4) + 2 * (at / 4))
        }
        _ => {
            let bits = code.bits(0);
            let per_word = 32 / bits;
            let per_vector = 4 * per_word;
            let (vector, at) = (column % BLOCK / per_vector, column % per_vector);
            let word = ((block * (BLOCK / per_vector) + vector) * ROWS + row) * 4 + at / per_word;
            let at = (at % per_word) as u32;
            (word, if bits == 4 { 8 * (at % 4) + 4 * (at / 4) } else { at * bits as u32 })
        }
    }
}

/// The word of a super-block that holds a column of its scales, and how far up in it.
fn place_of_scale(code: Code, column: usize) -> (usize, usize) {
    match (code, column) {
        (Code::Scales8x6, 0) => (0, 0),
        (Code::Scales8x6, ..9) => (1, 4 * (column - 1)),
        (Code::Scales8x6, _) => (0, 16 + 2 * (column - 9)),
        (_, ..2) => (0, 16 * column),
        (Code::Scales16x8, _) => (1 + (column - 2) / 4, 8 * ((column - 2) % 4)),
        (_, ..18) => (1 + (column - 2) / 8, 4 * ((column - 2) % 8)),
        _ => (3, 2 * (column - 18)),
    }
}

/// Where the values of a panel's rows lie, worked out once a panel: a division a value would be most of the work of moving it.
#[derive(Debug, Clone)]
pub struct Layout {
    code: Code,
    columns: usize,
    places: Vec<(usize, u32)>,
    /// Words from a unit of a row to the next one.
    stride: usize,
}

impl Layout {
    /// Of rows of `columns` columns.
    pub fn new(code: Code, columns: usize) -> Layout {
        let of_unit = if code.record().is_some() { SUPER } else { BLOCK };
        Layout::of_units(code, columns, code.columns(of_unit))
    }

    /// As [`new`](Self::new), by units of `unit` columns: those of one block, or of several whole ones, and at least one.
    pub fn of_units(code: Code, columns: usize, unit: usize) -> Layout {
        let place = |column| place(code, columns, (0, column));
        let (first, up) = place(0);
        let places = (0..unit).map(place).map(|(word, shift)| (word - first, shift - up)).collect();
        Layout { code, columns, places, stride: place(unit).0 - first }
    }

    /// Where unit `unit` of a row begins: its first word, and how far up in it.
    pub fn begins(&self, row: usize, unit: usize) -> (usize, u32) {
        let (first, up) = place(self.code, self.columns, (row, 0));
        (first + unit * self.stride, up)
    }

    /// For each column of a unit, the words from where it begins, and how far up from there.
    pub fn places(&self) -> &[(usize, u32)] {
        &self.places
    }

    /// Stores a row's values in words that hold zero there, rounding to nearest even.
    pub fn put(&self, words: &mut [u32], row: usize, values: &[f32]) {
        for (unit, values) in values.chunks(self.places.len()).enumerate() {
            let (first, up) = self.begins(row, unit);
            for (at, value) in values.iter().enumerate() {
                let (word, shift) = self.places[at];
                words[first + word] |= stored(self.code, at, *value) << (up + shift);
            }
        }
    }

    /// A row's values: floats as they are, codes as whole numbers.
    pub fn row(&self, words: &[u32], row: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.columns);
        let (mut first, up) = self.begins(row, 0);
        while values.len() < self.columns {
            for (at, (word, shift)) in self.places.iter().enumerate().take(self.columns - values.len()) {
                values.push(read(self.code, at, words[first + word] >> (up + shift)));
            }
            first += self.stride;
        }
        values
    }
}

/// Stores one value in words that hold zero there, rounding to nearest even.
pub fn put(code: Code, words: &mut [u32], columns: usize, at: (usize, usize), value: f32) {
    let (word, shift) = place(code, columns, at);
    words[word] |= stored(code, at.1, value) << shift;
}

/// One value: floats as they are, codes as whole numbers.
pub fn get(code: Code, words: &[u32], columns: usize, at: (usize, usize)) -> f32 {
    let (word, shift) = place(code, columns, at);
    read(code, at.1, words[word] >> shift)
}

/// The bits that stand for a value in a column.
fn stored(code: Code, column: usize, value: f32) -> u32 {
    match (code.value(column), code) {
        (Value::Real, Code::F32) => value.to_bits(),
        (Value::Real, Code::Bf16) => u32::from(bf16::from_f32(value).to_bits()),
        (Value::Real, _) => u32::from(f16::from_f32(value).to_bits()),
        (Value::Signed, _) => u32::from(value as i8 as u8),
        (Value::Whole(bits), _) => value as u32 & ((1 << bits) - 1),
    }
}

/// The value in a column whose bits are the lowest of `held`.
fn read(code: Code, column: usize, held: u32) -> f32 {
    match (code.value(column), code) {
        (Value::Real, Code::F32) => f32::from_bits(held),
        (Value::Real, Code::Bf16) => bf16::from_bits(held as u16).to_f32(),
        (Value::Real, _) => f16::from_bits(held as u16).to_f32(),
        (Value::Signed, _) => f32::from(held as u8 as i8),
        (Value::Whole(bits), _) => (held & ((1 << bits) - 1)) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Scheme;

    #[test]
    fn every_value_has_bits_of_its_own_inside_the_panel() {
        for code in Scheme::ALL.iter().flat_map(|scheme| scheme.codes()).copied() {
            let (rows, columns) = (64, code.columns(2 * SUPER));
            let mut taken = vec![0u32; words(code, rows, columns)];
            for at in (0..rows * columns).map(|i| (i / columns, i % columns)) {
                let (word, shift) = place(code, columns, at);
                let mask = ((1u64 << code.bits(at.1)) - 1) << shift;
                assert_eq!(u64::from(taken[word]) & mask, 0, "{code:?} {at:?}");
                taken[word] |= u32::try_from(mask).unwrap();
            }
            assert!(taken.iter().all(|bits| *bits == u32::MAX), "{code:?}");
        }
    }

    #[test]
    fn a_layout_has_every_value_where_its_place_is() {
        for code in Scheme::ALL.iter().flat_map(|scheme| scheme.codes()).copied() {
            for columns in [1, 31, 33, 70, 257, 600].map(|k| code.columns(k)) {
                let (layout, mut found) = (Layout::new(code, columns), vec![0; words(code, 64, columns)]);
                let mut expected = found.clone();
                for row in [0, 1, 31, 32, 63] {
                    let values: Vec<f32> = (0..columns).map(|column| ((row + 3 * column) % 2) as f32).collect();
                    layout.put(&mut found, row, &values);
                    for (column, value) in values.iter().enumerate() {
                        put(code, &mut expected, columns, (row, column), *value);
                    }
                    assert_eq!(layout.row(&found, row), values, "{code:?}, row {row} of {columns}");
                }
                assert_eq!(found, expected, "{code:?}, {columns} columns");
            }
        }
    }
}
