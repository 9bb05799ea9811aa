//! Both passes of the antialiased resize in one dispatch, straight from a texture: what stands between a camera and a network.

use super::{Quarter, Turn, View, Yuv, beginning, every_byte, is_table, noise, textures, triangle, weighted};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
};
use crate::{fitting, traffic};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(crate) const SOURCES: &[Source] = crate::linked::RESIZE_TEXTURE;

/// Rows of the result that an invocation makes.
const ROWS: usize = 4;

/// What [`ResizeRows`](super::ResizeRows) and [`ResizeColumns`](super::ResizeColumns) give one after the other, to the bit:
/// `y[i, j] = byte(sum_t rows[i, t] * byte(sum_s columns[j, s] * x[first(i) + t, first(j) + s]))` with
/// `byte(v) = clamp((v + 2^21) >> 22, 0, 255)`, channel by channel, where `x` is the part of the source of `size` from a corner on, turned.
///
/// Inputs: a texture `[1, h, w]`, or the two planes of one, as `ResizeRows` has them, the [`table`](super::table)s of the columns and of
/// the rows, and the [`corner`](super::corner), which counts as the farthest that there is room for where it is beyond. Output: `[1, rows,
/// columns]` as [`Format::Rgba8`]. Whatever the tables say, no pixel outside that part is read: the last column
/// stands for those beyond it, and rows beyond the last do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeTexture {
    /// Width and height of the part of the source that is the picture.
    pub size: [u32; 2],
    /// How that part is turned; rows and columns of the tables are those of the turned picture.
    pub turn: Turn,
    /// How two planes are read; `None` for a source of red, green and blue.
    pub planes: Option<Yuv>,
}

impl ResizeTexture {
    fn view(self) -> View {
        View { kernel: "resize_texture", size: self.size, turn: self.turn, planes: self.planes }
    }

    /// Most pixels of the source that one invocation weighs with these tables of columns and of rows, all of which it does by itself.
    pub fn most_weighed(columns: &HostTensor, rows: &HostTensor) -> u64 {
        let entries = |table: &HostTensor| {
            let stride = table.desc.shape.get(1).copied().unwrap_or(1).max(2);
            table.words.chunks_exact(stride).map(|entry| [u64::from(entry[0]), u64::from(entry[1])]).collect::<Vec<_>>()
        };
        let along = entries(columns).into_iter().map(|[_, count]| count).max().unwrap_or(0);
        let of_some = |some: &[[u64; 2]]| {
            let counted = || some.iter().filter(|[_, count]| *count > 0);
            let end = counted().map(|[first, count]| first + count).max().unwrap_or(0);
            end - counted().map(|[first, _]| *first).min().unwrap_or(0)
        };
        let down = entries(rows).chunks(ROWS).map(of_some).max().unwrap_or(0);
        // A row is a turn of a loop as well.
        down * (along + 1)
    }
}

impl Kernel for ResizeTexture {
    fn name(&self) -> &'static str {
        "resize_texture"
    }

    fn summary(&self) -> String {
        self.view().summary()
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let Some((planes, tables @ [columns, rows], corner)) = self.view().split(inputs, 2) else {
            let expected = match self.planes {
                Some(_) => "luma, chroma, two tables and a corner",
                None => "a texture, two tables and a corner",
            };
            return Err(ShapeError::Count { kernel, expected, found: inputs.len() });
        };
        self.view().check(planes, &[Format::Texture, Format::TextureSrgb], (planes.len() + 2, corner))?;
        if let Some(at) = tables.iter().position(|table| !is_table(table)) {
            let (position, found) = (planes.len() + at, tables[at].clone());
            let expected = "a table [columns or rows, 2 + taps] of words".to_owned();
            return Err(ShapeError::Input { kernel, position, expected, found });
        }
        Ok(vec![Desc::new(Format::Rgba8, [1, rows.shape[0], columns.shape[0]])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let pixels = if self.planes.is_some() { "planes" } else { "texture" };
        fitting(SOURCES, &[("pixels", pixels)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let count = call.inputs.len();
        let [columns, rows] = [&call.inputs[count - 3].shape, &call.inputs[count - 2].shape];
        let [width, height] = self.view().turned_size();
        let mut params = self.view().origin(0, &call.inputs[0]).to_vec();
        params.extend([width - 1, height - 1]);
        params.extend([columns[0], rows[0], columns[1], rows[1]].map(|extent| extent as u32));
        params.extend(self.view().params(call.inputs[0].format));
        let grid = [columns[0].div_ceil(8), rows[0].div_ceil(8 * ROWS), 1].map(|groups| groups as u32);
        Launch::new(call, params, grid)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let Some((planes, [columns, rows], corner)) = self.view().split(inputs, 2) else { return Vec::new() };
        let last = self.view().turned_size()[1] as usize - 1;
        let entries =
            |table: &HostTensor| table.words.chunks_exact(table.desc.shape[1]).map(<[u32]>::to_vec).collect::<Vec<_>>();
        let (columns, rows) = (entries(columns), entries(rows));
        let mut out = Vec::with_capacity(outputs[0].words());
        for of_row in &rows {
            for of_column in &columns {
                let between = |row: usize| match row {
                    row if row <= last => {
                        weighted(of_column, |column| self.view().pixel(planes, corner, [column, row]))
                    }
                    _ => 0,
                };
                out.push(weighted(of_row, between));
            }
        }
        vec![HostTensor::from_words(outputs[0].clone(), out)]
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance::EXACT
    }

    /// Of each row that is needed, once: what an invocation weighs again for another's rows is not counted.
    fn work(&self, call: &Call<'_>) -> Work {
        let count = call.inputs.len();
        let [columns, rows] = [&call.inputs[count - 3].shape, &call.inputs[count - 2].shape];
        let [along, down] = [columns[1] - 2, rows[1] - 2];
        let height = (self.view().turned_size()[1] as usize).min(rows[0] * down);
        let weighed = columns[0] * (height * along + rows[0] * down);
        Work { flops: 8.0 * weighed as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Every kind of texture: up, down and far down, single pixels, parts, turns, results of every size about an invocation's and a workgroup's.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier,
                   (format, planes): (Format, Option<Yuv>),
                   size: [usize; 2],
                   (kernel, at): (ResizeTexture, [u32; 2]),
                   to: [[usize; 3]; 2]| {
        let [width, height] = kernel.view().turned_size();
        let [columns, rows] = [(width, to[0]), (height, to[1])]
            .map(|(from, [output, start, length])| triangle(from as usize, output, start, length));
        let mut inputs = noise(format, planes, size);
        if size == [16, 16] {
            inputs[0].1 = Fill::Words(every_byte());
        }
        inputs.extend([columns, rows].map(|table| (table.desc, Fill::Words(table.words))));
        inputs.push(beginning(at));
        let read = planes.map_or_else(String::new, Yuv::label);
        let to = to.map(|[output, start, length]| format!("{output}+{start}+{length}")).join(".");
        let what = kernel.view().summary();
        let label = format!("{}x{}.{}{read}.{what}+{}+{}.to{to}", size[0], size[1], format.label(), at[0], at[1]);
        cases.push(Case { label: label.replace(' ', "."), kernel: Arc::new(kernel), inputs, tier });
    };
    let kernel = |[height, width]: [usize; 2], planes: Option<Yuv>| {
        let turn = Turn::default();
        ResizeTexture { size: [width as u32, height as u32], turn, planes }
    };
    for (at, source) in textures().into_iter().enumerate() {
        let whole = |size: [usize; 2]| (kernel(size, source.1), [0, 0]);
        if source.1.is_none() {
            add(Tier::Short, source, [16, 16], whole([16, 16]), [[16, 0, 16]; 2]);
        }
        // Every turn, of a part of odd sides of a picture of odd sides.
        for (way, turn) in Turn::all().into_iter().enumerate() {
            let tier = if way == at || way == 7 - at { Tier::Short } else { Tier::Full };
            let part = ResizeTexture { turn, ..kernel([14, 27], source.1) };
            add(tier, source, [21, 35], (part, [6, 3]), [[11, 1, 9], [13, 2, 10]]);
        }
        add(Tier::Full, source, [1, 1], whole([1, 1]), [[5, 0, 5], [4, 0, 4]]);
        add(Tier::Full, source, [5, 1], whole([5, 1]), [[9, 2, 7], [2, 0, 2]]);
        add(Tier::Full, source, [1, 7], whole([1, 7]), [[3, 0, 3], [9, 1, 8]]);
        // A hundred rows and more count in each that is made, and a hundred columns.
        add(Tier::Full, source, [700, 6], whole([700, 6]), [[9, 1, 7], [13, 0, 13]]);
        add(Tier::Full, source, [6, 500], whole([6, 500]), [[9, 1, 7], [4, 0, 3]]);
    }
    let plain = textures()[0];
    for length in [1, 3, 4, 5, 7, 8, 9, 31, 32, 33] {
        add(Tier::Full, plain, [40, 24], (kernel([40, 24], None), [0, 0]), [[length, 0, length], [33, 0, length]]);
    }
    // A corner beyond the source's counts as the farthest that there is room for.
    add(Tier::Short, plain, [21, 35], (kernel([14, 27], None), [u32::MAX, 8]), [[11, 1, 9], [13, 2, 10]]);
    // A photo, a camera's frame of which the square in the middle is taken, and a phone's camera, held upright.
    let [photo, frame] = [kernel([375, 500], None), kernel([1080, 1080], None)];
    add(Tier::Model, plain, [375, 500], (photo, [0, 0]), [[341, 58, 224], [256, 16, 224]]);
    add(Tier::Model, plain, [1080, 1920], (frame, [420, 0]), [[256, 16, 224]; 2]);
    let (phone, turn) = (textures()[2], Turn::default().rotated(Quarter::Clockwise));
    let upright = ResizeTexture { turn, ..kernel([720, 1280], phone.1) };
    add(Tier::Model, phone, [720, 1280], (upright, [0, 0]), [[256, 16, 224], [455, 115, 224]]);
    cases
}

#[cfg(test)]
mod tests {
    use super::super::{ResizeColumns, ResizeRows, table};
    use super::*;

    /// What the two passes make of the inputs of a case.
    fn by_two_passes(kernel: ResizeTexture, inputs: &[HostTensor]) -> HostTensor {
        let (planes, others) = inputs.split_at(inputs.len() - 3);
        let ResizeTexture { size, turn, planes: yuv } = kernel;
        let rows = turn.size(size[0], size[1])[1];
        let first = ResizeRows { size, turn, first_row: 0, rows, planes: yuv };
        let given: Vec<&HostTensor> = planes.iter().chain([&others[0], &others[2]]).collect();
        let descs: Vec<Desc> = given.iter().map(|tensor| tensor.desc.clone()).collect();
        let between = first.reference(&given, &first.outputs(&descs).unwrap()).remove(0);
        let second = ResizeColumns { first_row: 0 };
        let outputs = second.outputs(&[between.desc.clone(), others[1].desc.clone()]).unwrap();
        second.reference(&[&between, &others[1]], &outputs).remove(0)
    }

    #[test]
    fn it_is_the_two_passes_to_the_bit() {
        let mut seen = 0;
        for case in cases().iter().filter(|case| case.tier != Tier::Model) {
            let inputs = case.tensors();
            let kernel = case.kernel.as_any().downcast_ref::<ResizeTexture>().unwrap();
            assert_eq!(case.expected(&inputs).unwrap()[0], by_two_passes(*kernel, &inputs), "{}", case.label);
            seen += 1;
        }
        assert!(seen > 80, "{seen} cases");
    }

    #[test]
    fn rows_that_are_not_there_do_not_count() {
        let picture = HostTensor::from_words(Desc::new(Format::Texture, [1, 2, 1]), vec![0xff00_0010, 0xff00_0020]);
        let unit = 1 << super::super::PRECISION_BITS;
        let (columns, rows) =
            (table(&[0], &[1], &[unit], 1), table(&[1, 0, 9], &[2, 0, 1], &[unit, unit, unit, 0, unit, 0], 2));
        let kernel = ResizeTexture { size: [1, 2], turn: Turn::default(), planes: None };
        let corner = super::super::corner(0, 0);
        let inputs = [&picture, &columns, &rows, &corner];
        let outputs = kernel.outputs(&inputs.map(|tensor| tensor.desc.clone())).unwrap();
        assert_eq!(kernel.reference(&inputs, &outputs)[0].words, [0xff00_0020, 0, 0]);
    }

    #[test]
    fn what_an_invocation_weighs_is_known() {
        let unit = 1 << super::super::PRECISION_BITS;
        let columns = table(&[0, 3], &[3, 2], &[unit; 6], 3);
        // Four rows together, of which one has none, and one alone.
        let rows = table(&[2, 4, 6, 900, 10], &[3, 3, 3, 0, 3], &[unit; 15], 3);
        assert_eq!(ResizeTexture::most_weighed(&columns, &rows), (9 - 2) * 4);
        assert_eq!(ResizeTexture::most_weighed(&triangle(1080, 256, 16, 224), &triangle(1080, 256, 16, 224)), 21 * 10);
    }
}
