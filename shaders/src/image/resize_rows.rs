//! First pass of the antialiased resize: every row of a picture, from bytes or straight from a texture.

use super::{Area, Quarter, Turn, Yuv, YuvMatrix, YuvRange, is_table, triangle, weighted};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
};
use crate::{fitting, traffic};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(crate) const SOURCES: &[Source] = crate::linked::RESIZE_ROWS;

/// `y[r, i] = clamp((sum_t table[i, t] * x[first_row + r, first(i) + t] + 2^21) >> 22, 0, 255)`, channel by channel, where
/// `x` is the part of the source that `area` cuts out, turned.
///
/// Inputs: `source [1, h, w]`, either [`Format::Rgba8`] or a texture, and the [`table`](super::table) of the columns. With `planes` two
/// textures instead of one: luma `[1, h, w]` ([`Format::TextureLuma`]) and chroma `[1, (h + 1) / 2, (w + 1) / 2]`
/// ([`Format::TextureChroma`]), whose texels stand for four pixels each; [`Yuv::rgba`] says which colours they are.
/// Output: `[1, rows, columns]` as [`Format::Rgba8`]. A texture is rounded to bytes as it is read; one that decodes sRGB
/// ([`Format::TextureSrgb`]) is encoded again first, so that it gives what its bytes give. Whatever the table says, no
/// pixel outside `area` is read: the last one stands for those beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeRows {
    /// The part of the source that is the picture.
    pub area: Area,
    /// How that part is turned; rows and columns below are those of the turned picture.
    pub turn: Turn,
    /// The first row of the picture that the second pass needs.
    pub first_row: u32,
    /// How many rows it needs.
    pub rows: u32,
    /// How two planes are read; `None` for a source of red, green and blue.
    pub planes: Option<Yuv>,
}

impl ResizeRows {
    /// Rows of a picture of red, green and blue as it lies.
    pub fn new(area: Area, first_row: u32, rows: u32) -> ResizeRows {
        ResizeRows { area, turn: Turn::default(), first_row, rows, planes: None }
    }

    /// The source's planes and the table, if there are as many as there should be.
    fn split<T>(self, inputs: &[T]) -> Option<(&[T], &T)> {
        let count = if self.planes.is_some() { 2 } else { 1 };
        inputs.split_last().filter(|(_, planes)| planes.len() == count).map(|(table, planes)| (planes, table))
    }
}

impl Kernel for ResizeRows {
    fn name(&self) -> &'static str {
        "resize_rows"
    }

    fn summary(&self) -> String {
        let Area { x, y, width, height } = self.area;
        let turned =
            if self.turn == Turn::default() { String::new() } else { format!(" turned {}", self.turn.label()) };
        let last = u64::from(self.first_row) + u64::from(self.rows);
        format!("{width}x{height}+{x}+{y}{turned} rows {}..{last}", self.first_row)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let Some((planes, table)) = self.split(inputs) else {
            let expected = if self.planes.is_some() { "luma, chroma and a table" } else { "a source and a table" };
            return Err(ShapeError::Count { kernel, expected, found: inputs.len() });
        };
        let refuse = |position: usize, expected: &str| {
            Err(ShapeError::Input { kernel, position, expected: expected.to_owned(), found: inputs[position].clone() })
        };
        let format = planes[0].format;
        let known = match self.planes {
            Some(_) => format == Format::TextureLuma,
            None => matches!(format, Format::Rgba8 | Format::Texture | Format::TextureSrgb),
        };
        let (&[1, height, width], true) = (&planes[0].shape[..], known) else {
            return refuse(
                0,
                "one picture [1, height, width] of rgba8 or a texture, or of luma where it has two planes",
            );
        };
        let halves = Desc::new(Format::TextureChroma, [1, height.div_ceil(2), width.div_ceil(2)]);
        if planes.get(1).is_some_and(|chroma| *chroma != halves) {
            return refuse(1, "chroma of half the luma's rows and columns, rounded up");
        }
        if !is_table(table) {
            return refuse(inputs.len() - 1, "a table [columns, 2 + taps] of words");
        }
        let within = |start: u32, length: u32, whole: usize| length > 0 && start as usize + length as usize <= whole;
        if !within(self.area.x, self.area.width, width) || !within(self.area.y, self.area.height, height) {
            let reason =
                format!("the area {:?} is empty or not within the source's {width}x{height} pixels", self.area);
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let [_, height] = self.turn.size(self.area.width, self.area.height);
        if !within(self.first_row, self.rows, height as usize) {
            let reason = format!("{} rows from {} on are none or not within {height}", self.rows, self.first_row);
            return Err(ShapeError::Parameter { kernel, reason });
        }
        Ok(vec![Desc::new(Format::Rgba8, [1, self.rows as usize, table.shape[0]])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let pixels = match (self.planes, call.inputs[0].format) {
            (Some(_), _) => "planes",
            (None, Format::Rgba8) => "bytes",
            _ => "texture",
        };
        fitting(SOURCES, &[("pixels", pixels)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (source, table) = (&call.inputs[0], &call.inputs[call.inputs.len() - 1]);
        let columns = table.shape[0] as u32;
        let Area { x, y, width, height } = self.area;
        let (origin, across, down) = self.turn.steps(width, height);
        let first = [0, 1].map(|axis| origin[axis] + self.first_row as i32 * down[axis]);
        let mut params = vec![
            (x as i32 + first[0]) as u32,
            (y as i32 + first[1]) as u32,
            self.turn.size(width, height)[0] - 1,
            source.shape[2] as u32,
            columns,
            self.rows,
            table.shape[1] as u32,
            u32::from(source.format == Format::TextureSrgb),
        ];
        params.extend([across, down].concat().into_iter().map(|step| step as u32));
        params.extend(self.planes.map_or([0; 6], Yuv::factors).map(|factor| factor as u32));
        Launch::new(call, params, [columns.div_ceil(8), self.rows.div_ceil(32), 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let Some((planes, table)) = self.split(inputs) else { return Vec::new() };
        let (width, columns, stride) = (planes[0].desc.shape[2], outputs[0].shape[2], table.desc.shape[1]);
        let Area { x, y, width: across, height: down } = self.area;
        let last = self.turn.size(across, down)[0] as usize - 1;
        let pixel = |column: usize, row: usize| {
            let from = self.turn.source([column.min(last) as u32, row as u32], [across, down]);
            let (x, y) = ((x + from[0]) as usize, (y + from[1]) as usize);
            let word = planes[0].words[y * width + x];
            match (self.planes, planes.get(1)) {
                (Some(yuv), Some(chroma)) => {
                    let [blue, red, ..] = chroma.words[y / 2 * chroma.desc.shape[2] + x / 2].to_le_bytes();
                    yuv.rgba(word as u8, [blue, red])
                }
                _ => word,
            }
        };
        let mut out = Vec::with_capacity(outputs[0].words());
        for row in 0..self.rows as usize {
            for entry in table.words.chunks_exact(stride).take(columns) {
                out.push(weighted(entry, |column| pixel(column, self.first_row as usize + row)));
            }
        }
        vec![HostTensor::from_words(outputs[0].clone(), out)]
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance::EXACT
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let taps = call.inputs[call.inputs.len() - 1].shape[1] - 2;
        Work { flops: 8.0 * (call.outputs[0].len() * taps) as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Up, down and far down, single pixels, parts of a picture, and every byte through a texture that decodes sRGB.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add =
        |tier: Tier, format: Format, [height, width]: [usize; 2], area: Area, rows: [u32; 2], columns: [usize; 3]| {
            let [output, start, length] = columns;
            let table = triangle(area.width as usize, output, start, length);
            let kernel = ResizeRows::new(area, rows[0], rows[1]);
            let source = Desc::new(format, [1, height, width]);
            let fill = if height * width == 256 { Fill::Words(every_byte()) } else { Fill::Noise };
            let label = format!(
                "{height}x{width}.{}.{}x{}+{}+{}.rows{}+{}.to{output}+{start}+{length}",
                format.label(),
                area.width,
                area.height,
                area.x,
                area.y,
                rows[0],
                rows[1]
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
        add(
            Tier::Model,
            format,
            [1080, 1920],
            Area { x: 420, y: 0, width: 1080, height: 1080 },
            [67, 946],
            [256, 16, 224],
        );
    }
    cases.extend(turned());
    cases
}

/// Every turn of every kind of source, a part of odd sides of a picture of odd sides, and every way to read two planes.
fn turned() -> Vec<Case> {
    let yuv = |matrix, range| Some(Yuv { matrix, range });
    let (area, [height, width]) = (Area { x: 6, y: 3, width: 27, height: 14 }, [21, 35]);
    let sources = [
        (Format::Rgba8, None),
        (Format::Texture, None),
        (Format::TextureSrgb, None),
        (Format::TextureLuma, yuv(YuvMatrix::Bt601, YuvRange::Limited)),
        (Format::TextureLuma, yuv(YuvMatrix::Bt601, YuvRange::Full)),
        (Format::TextureLuma, yuv(YuvMatrix::Bt709, YuvRange::Limited)),
        (Format::TextureLuma, yuv(YuvMatrix::Bt709, YuvRange::Full)),
    ];
    let case = |tier: Tier,
                (format, planes): (Format, Option<Yuv>),
                turn: Turn,
                area: Area,
                [height, width]: [usize; 2]| {
        let [columns, rows] = turn.size(area.width, area.height);
        let table = triangle(columns as usize, 11, 1, 9);
        let first_row = 2.min(rows - 1);
        let kernel = ResizeRows { area, turn, first_row, rows: rows - first_row, planes };
        let mut inputs = vec![(Desc::new(format, [1, height, width]), Fill::Noise)];
        inputs.extend(
            planes.map(|_| (Desc::new(Format::TextureChroma, [1, height.div_ceil(2), width.div_ceil(2)]), Fill::Noise)),
        );
        inputs.push((table.desc, Fill::Words(table.words)));
        let read = planes.map_or_else(String::new, |yuv| format!(".{:?}.{:?}", yuv.matrix, yuv.range).to_lowercase());
        let label = format!("{height}x{width}.{}{read}.turned{}", format.label(), turn.label());
        Case { label, kernel: Arc::new(kernel), inputs, tier }
    };
    let mut cases = Vec::new();
    for (at, source) in sources.into_iter().enumerate() {
        for (way, turn) in Turn::all().into_iter().enumerate() {
            if source.1.is_none() && turn == Turn::default() {
                continue;
            }
            let tier = if way == at || way == 7 - at { Tier::Short } else { Tier::Full };
            cases.push(case(tier, source, turn, area, [height, width]));
        }
    }
    // A phone's camera, held upright.
    let frame = Area { x: 0, y: 0, width: 1280, height: 720 };
    cases.push(case(Tier::Model, sources[3], Turn::default().rotated(Quarter::Clockwise), frame, [720, 1280]));
    cases
}

/// 256 pixels that have every byte once in each channel.
fn every_byte() -> Vec<u32> {
    (0..256u32).map(|i| u32::from_le_bytes([i, i ^ 0x55, 255 - i, i ^ 0xAA].map(|byte| byte as u8))).collect()
}
