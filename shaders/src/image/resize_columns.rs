//! Second pass of the antialiased resize: every column of what the first pass made.

use super::{is_table, triangle, weighted};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
};
use crate::{fitting, traffic};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(crate) const SOURCES: &[Source] = crate::linked::RESIZE_COLUMNS;

/// `y[i, c] = clamp((sum_t table[i, t] * x[first(i) - first_row + t, c] + 2^21) >> 22, 0, 255)`, channel by channel.
///
/// Inputs: `x [1, source rows, columns]` as [`Format::Rgba8`], and the [`table`](super::table) of the rows, which counts
/// from the picture's first row. Output: `[1, rows, columns]` as [`Format::Rgba8`]. Whatever the table says, no row that
/// `x` lacks is read: its first or last one stands for those beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResizeColumns {
    /// Which row of the picture the first row of `x` is.
    pub first_row: u32,
}

impl Kernel for ResizeColumns {
    fn name(&self) -> &'static str {
        "resize_columns"
    }

    fn summary(&self) -> String {
        format!("from row {}", self.first_row)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [source, table] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "a source and a table", found: inputs.len() });
        };
        let refuse = |position: usize, expected: &str| {
            Err(ShapeError::Input { kernel, position, expected: expected.to_owned(), found: inputs[position].clone() })
        };
        let (&[1, height, width], Format::Rgba8) = (&source.shape[..], source.format) else {
            return refuse(0, "one picture [1, height, width] of rgba8");
        };
        if height == 0 || width == 0 {
            return refuse(0, "a picture of at least one pixel");
        }
        if !is_table(table) {
            return refuse(1, "a table [rows, 2 + taps] of words");
        }
        Ok(vec![Desc::new(Format::Rgba8, [1, table.shape[0], width])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let [source, table] = [&call.inputs[0], &call.inputs[1]];
        let [source_rows, columns, rows] =
            [source.shape[1], source.shape[2], table.shape[0]].map(|extent| extent as u32);
        let params = vec![source_rows, self.first_row, columns, rows, table.shape[1] as u32];
        Launch::new(call, params, [columns.div_ceil(32), rows.div_ceil(8), 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (source_rows, columns) = (inputs[0].desc.shape[1], inputs[0].desc.shape[2]);
        let mut y = Vec::with_capacity(outputs[0].words());
        for entry in inputs[1].words.chunks_exact(inputs[1].desc.shape[1]) {
            let first = entry[0].max(self.first_row) - self.first_row;
            let entry: Vec<u32> = [first].into_iter().chain(entry[1..].iter().copied()).collect();
            for column in 0..columns {
                y.push(weighted(&entry, |row| inputs[0].words[row.min(source_rows - 1) * columns + column]));
            }
        }
        vec![HostTensor::from_words(outputs[0].clone(), y)]
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance::EXACT
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let taps = call.inputs[1].shape[1] - 2;
        Work { flops: 8.0 * (call.outputs[0].len() * taps) as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Up, down and far down, single pixels, and pictures of which the first pass left some rows out.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, picture: usize, rows: [u32; 2], columns: usize, [output, start, length]: [usize; 3]| {
        let table = triangle(picture, output, start, length);
        let source = Desc::new(Format::Rgba8, [1, rows[1] as usize, columns]);
        let label = format!("{picture}x{columns}.rows{}+{}.to{output}+{start}+{length}", rows[0], rows[1]);
        let inputs = vec![(source, Fill::Noise), (table.desc, Fill::Words(table.words))];
        cases.push(Case { label, kernel: Arc::new(ResizeColumns { first_row: rows[0] }), inputs, tier });
    };
    add(Tier::Short, 29, [3, 20], 37, [11, 2, 7]);
    add(Tier::Short, 9, [0, 9], 33, [21, 0, 21]);
    add(Tier::Full, 1, [0, 1], 1, [1, 0, 1]);
    add(Tier::Full, 1, [0, 1], 5, [6, 1, 4]);
    for columns in [1, 3, 4, 5, 31, 32, 33, 65] {
        add(Tier::Full, 23, [0, 23], columns, [13, 0, 13]);
    }
    for rows in [1, 7, 8, 9, 16, 17] {
        add(Tier::Full, 12, [0, 12], 10, [rows, 0, rows]);
    }
    // 100 and more rows count in each that is made.
    add(Tier::Full, 700, [0, 700], 6, [13, 0, 13]);
    add(Tier::Model, 375, [23, 329], 224, [256, 16, 224]);
    add(Tier::Model, 1080, [67, 946], 224, [256, 16, 224]);
    cases
}
