//! First pass of the antialiased resize: every row of a picture, from bytes or straight from a texture.

use super::{is_table, triangle, weighted};
use crate::{Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work};
use crate::{fitting, traffic};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(crate) const SOURCES: &[Source] = crate::linked::RESIZE_ROWS;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Area {
    /// The leftmost column.
    pub x: u32,
    /// The topmost row.
    pub y: u32,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// `y[r, i] = clamp((sum_t table[i, t] * x[first_row + r, first(i) + t] + 2^21) >> 22, 0, 255)`, channel by channel, where
/// `x` is the part of the source that `area` cuts out.
///
/// Inputs: `source [1, h, w]`, either [`Format::Rgba8`] or a texture, and the [`table`](super::table) of the columns.
/// Output: `[1, rows, columns]` as [`Format::Rgba8`]. A texture is rounded to bytes as it is read; one that decodes sRGB
/// ([`Format::TextureSrgb`]) is encoded again first, so that it gives what its bytes give. Whatever the table says, no
/// pixel outside `area` is read: the last one stands for those beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeRows {
    /// The part of the source that is the picture.
    pub area: Area,
    /// The first row of `area` that the second pass needs.
    pub first_row: u32,
    /// How many rows it needs.
    pub rows: u32,
}

impl Kernel for ResizeRows {
    fn name(&self) -> &'static str {
        "resize_rows"
    }

    fn summary(&self) -> String {
        let Area { x, y, width, height } = self.area;
        format!("{width}x{height}+{x}+{y} rows {}..{}", self.first_row, u64::from(self.first_row) + u64::from(self.rows))
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [source, table] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "a source and a table", found: inputs.len() });
        };
        let refuse = |position: usize, expected: &str| {
            Err(ShapeError::Input { kernel, position, expected: expected.to_owned(), found: inputs[position].clone() })
        };
        let (&[1, height, width], true) = (&source.shape[..], source.format == Format::Rgba8 || source.format.is_texture())
        else {
            return refuse(0, "one picture [1, height, width] of rgba8 or a texture");
        };
        if !is_table(table) {
            return refuse(1, "a table [columns, 2 + taps] of words");
        }
        let within = |start: u32, length: u32, whole: usize| length > 0 && start as usize + length as usize <= whole;
        if !within(self.area.x, self.area.width, width) || !within(self.area.y, self.area.height, height) {
            let reason = format!("the area {:?} is empty or not within the source's {width}x{height} pixels", self.area);
            return Err(ShapeError::Parameter { kernel, reason });
        }
        if !within(self.first_row, self.rows, self.area.height as usize) {
            let reason = format!("{} rows from {} on are none or not within {}", self.rows, self.first_row, self.area.height);
            return Err(ShapeError::Parameter { kernel, reason });
        }
        Ok(vec![Desc::new(Format::Rgba8, [1, self.rows as usize, table.shape[0]])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let pixels = if call.inputs[0].format.is_texture() { "texture" } else { "bytes" };
        fitting(SOURCES, &[("pixels", pixels)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let [source, table] = [&call.inputs[0], &call.inputs[1]];
        let columns = table.shape[0] as u32;
        let params = vec![
            self.area.x,
            self.area.y + self.first_row,
            self.area.width - 1,
            source.shape[2] as u32,
            columns,
            self.rows,
            table.shape[1] as u32,
            u32::from(source.format == Format::TextureSrgb),
        ];
        Launch::new(call, params, [columns.div_ceil(8), self.rows.div_ceil(32), 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (width, columns, stride) = (inputs[0].desc.shape[2], outputs[0].shape[2], inputs[1].desc.shape[1]);
        let mut y = Vec::with_capacity(outputs[0].words());
        for row in 0..self.rows as usize {
            let from = (self.area.y + self.first_row) as usize + row;
            let line = &inputs[0].words[from * width + self.area.x as usize..][..self.area.width as usize];
            for entry in inputs[1].words.chunks_exact(stride).take(columns) {
                y.push(weighted(entry, |i| line[i.min(line.len() - 1)]));
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

/// Up, down and far down, single pixels, parts of a picture, and every byte through a texture that decodes sRGB.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, format: Format, [height, width]: [usize; 2], area: Area, rows: [u32; 2], columns: [usize; 3]| {
        let [output, start, length] = columns;
        let table = triangle(area.width as usize, output, start, length);
        let kernel = ResizeRows { area, first_row: rows[0], rows: rows[1] };
        let source = Desc::new(format, [1, height, width]);
        let fill = if height * width == 256 { Fill::Words(every_byte()) } else { Fill::Noise };
        let label = format!(
            "{height}x{width}.{}.{}x{}+{}+{}.rows{}+{}.to{output}+{start}+{length}",
            format.label(), area.width, area.height, area.x, area.y, rows[0], rows[1]
        );
        let inputs = vec![(source, fill), (table.desc, Fill::Words(table.words))];
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    let whole = |height: usize, width: usize| Area { x: 0, y: 0, width: width as u32, height: height as u32 };
    for format in [Format::Rgba8, Format::Texture, Format::TextureSrgb] {
        add(Tier::Short, format, [16, 16], whole(16, 16), [0, 16], [16, 0, 16]);
        add(Tier::Short, format, [37, 61], Area { x: 7, y: 5, width: 41, height: 29 }, [3, 17], [23, 4, 13]);
        add(Tier::Full, format, [1, 1], whole(1, 1), [0, 1], [5, 0, 5]);
        add(Tier::Full, format, [5, 1], whole(5, 1), [1, 3], [9, 2, 7]);
        add(Tier::Full, format, [1, 7], whole(1, 7), [0, 1], [1, 0, 1]);
        for columns in [1, 7, 8, 9, 17] {
            add(Tier::Full, format, [11, 24], whole(11, 24), [2, 9], [columns, 0, columns]);
        }
        for rows in [1, 3, 4, 5, 31, 32, 33, 40] {
            add(Tier::Full, format, [40, 12], whole(40, 12), [40 - rows, rows], [19, 0, 19]);
        }
        // 100 and more pixels count in each that is made.
        add(Tier::Full, format, [6, 500], whole(6, 500), [0, 6], [9, 1, 7]);
        // The sides of a photo to 256, its middle 224 columns; a camera's frame, of which the square in the middle is taken.
        add(Tier::Model, format, [375, 500], whole(375, 500), [23, 329], [341, 58, 224]);
        add(Tier::Model, format, [1080, 1920], Area { x: 420, y: 0, width: 1080, height: 1080 }, [67, 946], [256, 16, 224]);
    }
    cases
}

/// 256 pixels that have every byte once in each channel.
fn every_byte() -> Vec<u32> {
    (0..256u32).map(|i| u32::from_le_bytes([i, i ^ 0x55, 255 - i, i ^ 0xAA].map(|byte| byte as u8))).collect()
}
