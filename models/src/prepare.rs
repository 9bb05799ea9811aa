//! A picture becomes a network's input on the device, resized and cropped: by one dispatch from a texture, by two from bytes.

use crate::image_prep::{Passes, Preprocess, Resize};
use crate::input::Input;
use crate::{Classifier, Error, Result};
use lampyris_engine::gpu::{ConstantStore, GpuPlan, InputData, VariantChoice};
use lampyris_engine::kernels::image::{ResizeColumns, ResizeRows, ResizeTexture, Turn, Yuv, corner, table};
use lampyris_engine::kernels::{Desc, Format, HostTensor};
use lampyris_engine::plan::TensorId;
use lampyris_engine::{Plan, PlanBuilder};
use std::ops::Deref;
use std::sync::Arc;

/// Most pixels of a texture that one invocation weighs, beyond which two dispatches share the work among more: a texture that is shrunk
/// some fifty times. Mesa's software rasterizer ends the loops of a shader after 65535 turns of all together, and says nothing.
const MOST_WEIGHED: u64 = 30_000;

/// Which pictures a preparing plan is for. Where the part that counts begins in a picture is an input of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PictureKind {
    pub(crate) format: Format,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Width and height of the part that counts.
    pub(crate) part: [u32; 2],
    pub(crate) turn: Turn,
    /// How its two planes are read, if it has two.
    pub(crate) planes: Option<Yuv>,
    /// It has the size of the network's input because the CPU has resized it: nothing of it is resized or cut off once more.
    pub(crate) resized: bool,
}

impl PictureKind {
    /// All of a picture of one plane, as it is.
    pub(crate) fn whole(format: Format, [width, height]: [u32; 2]) -> PictureKind {
        PictureKind {
            format,
            width,
            height,
            part: [width, height],
            turn: Turn::default(),
            planes: None,
            resized: false,
        }
    }

    /// Refuses a part that does not lie within the picture where it begins at this column and row.
    pub(crate) fn check(&self, [x, y]: [u32; 2]) -> Result<()> {
        let [width, height] = self.part;
        let within = |start: u32, length: u32, whole: u32| {
            length > 0 && u64::from(start) + u64::from(length) <= u64::from(whole)
        };
        if within(x, width, self.width) && within(y, height, self.height) {
            return Ok(());
        }
        Err(Error::Crop { area: format!("{width}x{height}+{x}+{y}"), width: self.width, height: self.height })
    }

    /// The plan that turns such a picture into the pixels of the network's input.
    pub(crate) fn plan(&self, preprocess: &Preprocess) -> Result<Plan> {
        self.check([0, 0])?;
        let [width, height] = self.turn.size(self.part[0], self.part[1]);
        let resize = if self.resized { Resize::Keep } else { preprocess.resize };
        let passes = Passes::new(&Preprocess { resize, ..*preprocess }, width, height)?;
        let mut builder = PlanBuilder::new();
        let shape = [1, self.height as usize, self.width as usize];
        let mut given = vec![builder.input("picture", Desc::new(self.format, shape))];
        if self.planes.is_some() {
            let halves = shape.map(|extent| extent.div_ceil(2));
            given.push(builder.input("chroma", Desc::new(Format::TextureChroma, halves)));
        }
        let begins = builder.input("corner", corner(0, 0).desc);
        let [of_columns, of_rows] = [&passes.horizontal, &passes.vertical]
            .map(|from| table(&from.first, &from.count, &from.coefficients, from.taps));
        let PictureKind { part: size, turn, planes, .. } = *self;
        let at_once = self.format.is_texture() && ResizeTexture::most_weighed(&of_columns, &of_rows) <= MOST_WEIGHED;
        let [columns, rows] =
            [("resize.columns", of_columns), ("resize.rows", of_rows)].map(|named| constant(&mut builder, named));
        if at_once {
            given.extend([columns, rows, begins]);
            let output = builder.apply("resize", ResizeTexture { size, turn, planes }, &given)?;
            builder.output("pixels", output);
            return Ok(builder.finish());
        }
        let first = ResizeRows { size, turn, first_row: passes.first_row, rows: passes.rows, planes };
        given.extend([columns, begins]);
        let middle = builder.apply("resize.horizontal", first, &given)?;
        let second = ResizeColumns { first_row: passes.first_row };
        let output = builder.apply("resize.vertical", second, &[middle, rows])?;
        builder.output("pixels", output);
        Ok(builder.finish())
    }
}

fn constant(builder: &mut PlanBuilder, (name, tensor): (&str, HostTensor)) -> TensorId {
    builder.constant(name, tensor.desc.clone(), Arc::new(move || Ok(tensor.clone())))
}

impl Classifier {
    /// The pixels that the network is given for a picture: `side` rows of `side` RGBA pixels, after resize and crop and before
    /// normalization. Prepared as [`Classifier::classify`] prepares them and read back, to see what a network sees; each
    /// call sets up anew.
    ///
    /// # Errors
    /// As [`Classifier::classify`].
    pub async fn prepared_pixels<'a>(&self, input: impl Into<Input<'a>>) -> Result<Vec<u8>> {
        let input = input.into();
        let picture = self.picture(&input)?;
        if self.gpu().is_cpu_executor() {
            return picture.to_crop(self.preprocess(), self.gpu());
        }
        let (kind, bytes) = self.fitted(&picture)?;
        let plan = Arc::new(kind.plan(self.preprocess())?);
        let plan = GpuPlan::new(&self.gpu().alive().await?, plan, &ConstantStore::new(), VariantChoice::Best).await?;
        let outputs = plan.run(&picture.data(&kind, bytes.as_deref())).await?;
        Ok(outputs.iter().flat_map(|tensor| &tensor.words).flat_map(|word| word.to_le_bytes()).collect())
    }
}

/// The inputs of a preparing plan: a picture, or its two planes, and where what counts of it begins.
pub(crate) enum Given<'a> {
    Picture([InputData<'a>; 2]),
    Planes([InputData<'a>; 3]),
}

impl<'a> Deref for Given<'a> {
    type Target = [InputData<'a>];

    fn deref(&self) -> &[InputData<'a>] {
        match self {
            Given::Picture(given) => given,
            Given::Planes(given) => given,
        }
    }
}

/// RGBA bytes as storage words.
pub(crate) fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|p| u32::from_le_bytes([p[0], p[1], p[2], p[3]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lampyris_engine::kernels::image::{YuvMatrix, YuvRange};

    #[test]
    fn a_texture_takes_one_dispatch_unless_too_much_of_it_is_one_pixel() {
        let dispatches = |format: Format, [width, height]: [u32; 2], planes: Option<Yuv>| {
            let kind = PictureKind { planes, ..PictureKind::whole(format, [width, height]) };
            kind.plan(&Preprocess::default()).unwrap().steps.len()
        };
        let yuv = Some(Yuv { matrix: YuvMatrix::Bt601, range: YuvRange::Full });
        for size in [[1920, 1080], [64, 64], [8000, 6000]] {
            assert_eq!(dispatches(Format::Texture, size, None), 1);
            assert_eq!(dispatches(Format::TextureLuma, size, yuv), 1);
            assert_eq!(dispatches(Format::Rgba8, size, None), 2);
        }
        assert_eq!(dispatches(Format::Texture, [16_384; 2], None), 2);
    }
}
