//! First pass of the antialiased resize: every row of a picture, from bytes or straight from a texture.

use super::{Area, Quarter, Turn, View, Yuv, beginning, every_byte, is_table, noise, textures, triangle, weighted};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
};
use crate::{fitting, traffic};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(crate) const SOURCES: &[Source] = crate::linked::RESIZE_ROWS;

/// `y[r, i] = clamp((sum_t table[i, t] * x[first_row + r, first(i) + t] + 2^21) >> 22, 0, 255)`, channel by channel, where
/// `x` is the part of the source of `size` from a corner on, turned.
///
/// Inputs: `source [1, h, w]`, either [`Format::Rgba8`] or a texture, the [`table`](super::table) of the columns, and the
/// [`corner`](super::corner), which counts as the farthest that there is room for where it is beyond. With `planes` two
/// textures instead of one: luma `[1, h, w]` ([`Format::TextureLuma`]) and chroma `[1, (h + 1) / 2, (w + 1) / 2]`
/// ([`Format::TextureChroma`]), whose texels stand for four pixels each; [`Yuv::rgba`] says which colours they are.
/// Output: `[1, rows, columns]` as [`Format::Rgba8`]. A texture is rounded to bytes as it is read; one that decodes sRGB
/// ([`Format::TextureSrgb`]) is encoded again first, so that it gives what its bytes give. Whatever the table says, no
/// pixel outside that part is read: the last one stands for those beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeRows {
    /// Width and height of the part of the source that is the picture.
    pub size: [u32; 2],
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
    pub fn new(size: [u32; 2], first_row: u32, rows: u32) -> ResizeRows {
        ResizeRows { size, turn: Turn::default(), first_row, rows, planes: None }
    }

    fn view(self) -> View {
        View { kernel: "resize_rows", size: self.size, turn: self.turn, planes: self.planes }
    }
}

impl Kernel for ResizeRows {
    fn name(&self) -> &'static str {
        "resize_rows"
    }

    fn summary(&self) -> String {
        let last = u64::from(self.first_row) + u64::from(self.rows);
        format!("{} rows {}..{last}", self.view().summary(), self.first_row)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let Some((planes, [table], corner)) = self.view().split(inputs, 1) else {
            let expected = if self.planes.is_some() {
                "luma, chroma, a table and a corner"
            } else {
                "a source, a table and a corner"
            };
            return Err(ShapeError::Count { kernel, expected, found: inputs.len() });
        };
        let known = [Format::Rgba8, Format::Texture, Format::TextureSrgb];
        self.view().check(planes, &known, (planes.len() + 1, corner))?;
        if !is_table(table) {
            let (position, expected) = (planes.len(), "a table [columns, 2 + taps] of words".to_owned());
            return Err(ShapeError::Input { kernel, position, expected, found: table.clone() });
        }
        let [_, height] = self.view().turned_size();
        if self.rows == 0 || u64::from(self.first_row) + u64::from(self.rows) > u64::from(height) {
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
        let (source, table) = (&call.inputs[0], &call.inputs[call.inputs.len() - 2]);
        let columns = table.shape[0] as u32;
        let mut params = self.view().origin(self.first_row, source).to_vec();
        let last = self.view().turned_size()[0] - 1;
        params.extend([last, source.shape[2] as u32, columns, self.rows, table.shape[1] as u32]);
        params.extend(self.view().params(source.format));
        Launch::new(call, params, [columns.div_ceil(8), self.rows.div_ceil(32), 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let Some((planes, [table], corner)) = self.view().split(inputs, 1) else { return Vec::new() };
        let (columns, stride) = (outputs[0].shape[2], table.desc.shape[1]);
        let mut out = Vec::with_capacity(outputs[0].words());
        for row in 0..self.rows as usize {
            for entry in table.words.chunks_exact(stride).take(columns) {
                let pixel = |column: usize| self.view().pixel(planes, corner, [column, self.first_row as usize + row]);
                out.push(weighted(entry, pixel));
            }
        }
        vec![HostTensor::from_words(outputs[0].clone(), out)]
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance::EXACT
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let taps = call.inputs[call.inputs.len() - 2].shape[1] - 2;
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
            let kernel = ResizeRows::new([area.width, area.height], rows[0], rows[1]);
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
            let inputs = vec![(source, fill), (table.desc, Fill::Words(table.words)), beginning([area.x, area.y])];
            cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
        };
    let whole = |height: usize, width: usize| Area { x: 0, y: 0, width: width as u32, height: height as u32 };
    for format in [Format::Rgba8, Format::Texture, Format::TextureSrgb] {
        add(Tier::Short, format, [16, 16], whole(16, 16), [0, 16], [16, 0, 16]);
        add(Tier::Short, format, [37, 61], Area { x: 7, y: 5, width: 41, height: 29 }, [3, 17], [23, 4, 13]);
        // A corner beyond the source's counts as the farthest that there is room for.
        add(Tier::Short, format, [37, 61], Area { x: u32::MAX, y: 9, width: 41, height: 29 }, [3, 17], [23, 4, 13]);
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
    let (area, [height, width]) = (Area { x: 6, y: 3, width: 27, height: 14 }, [21, 35]);
    let sources = [(Format::Rgba8, None)].into_iter().chain(textures()).collect::<Vec<_>>();
    let case =
        |tier: Tier, (format, planes): (Format, Option<Yuv>), turn: Turn, area: Area, [height, width]: [usize; 2]| {
            let [columns, rows] = turn.size(area.width, area.height);
            let table = triangle(columns as usize, 11, 1, 9);
            let first_row = 2.min(rows - 1);
            let kernel =
                ResizeRows { size: [area.width, area.height], turn, first_row, rows: rows - first_row, planes };
            let mut inputs = noise(format, planes, [height, width]);
            inputs.extend([(table.desc, Fill::Words(table.words)), beginning([area.x, area.y])]);
            let read = planes.map_or_else(String::new, Yuv::label);
            let label = format!("{height}x{width}.{}{read}.turned{}", format.label(), turn.label());
            Case { label, kernel: Arc::new(kernel), inputs, tier }
        };
    let mut cases = Vec::new();
    for (at, source) in sources.iter().copied().enumerate() {
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
