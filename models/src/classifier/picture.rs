//! A picture that was found fit to be classified, and the bytes or textures of it that a plan reads.

use crate::image_prep::{Preprocess, resize_crop_u8};
use crate::input::{self, Input};
use crate::prepare::{Given, PictureKind};
use crate::{Error, Result};
use lampyris_engine::gpu::{Gpu, InputData};
use lampyris_engine::kernels::image::Turn;

/// A checked input.
pub(crate) struct Picture<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) kind: PictureKind,
    /// The column and the row at which what counts begins.
    pub(super) corner: [u32; 2],
}

impl Picture<'_> {
    /// What the preparing plan of a kind reads: the texture, or `Classifier::fitted`'s bytes.
    pub(crate) fn data<'a>(&'a self, kind: &PictureKind, bytes: Option<&'a [u8]>) -> Given<'a> {
        // What the CPU has resized it has cut out as well.
        let corner = InputData::Words(if kind.resized { &[0, 0] } else { &self.corner });
        let picture = match (&self.input.pixels, bytes) {
            (_, Some(bytes)) => InputData::Bytes(bytes),
            (input::Pixels::Texture(view, _), None) => InputData::Texture(view),
            (input::Pixels::Planes([luma, chroma], _), None) => {
                return Given::Planes([InputData::Texture(luma), InputData::Texture(chroma), corner]);
            }
            (input::Pixels::Rgba8(bytes), None) => InputData::Bytes(bytes),
            #[cfg(not(target_arch = "wasm32"))]
            (input::Pixels::Buffer(buffer, at), None) => InputData::Buffer(buffer, *at),
        };
        Given::Picture([picture, corner])
    }

    /// The network's pixels, computed on the CPU.
    pub(crate) fn to_crop(&self, preprocess: &Preprocess, gpu: &Gpu) -> Result<Vec<u8>> {
        let input::Pixels::Rgba8(bytes) = &self.input.pixels else {
            let adapter = gpu.summary().name.clone();
            return Err(Error::Engine(lampyris_engine::Error::NoTexture { adapter }));
        };
        let ([width, height], [x, y], turn) = (self.kind.part, self.corner, self.kind.turn);
        if (width, height) == (self.kind.width, self.kind.height) && turn == Turn::default() {
            return resize_crop_u8(bytes, width, height, preprocess);
        }
        let [columns, rows] = turn.size(width, height);
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| [column, row]));
        let of = |place: [u32; 2]| {
            let [column, row] = turn.source(place, [width, height]);
            let at = ((y + row) as usize * self.kind.width as usize + (x + column) as usize) * 4;
            &bytes[at..at + 4]
        };
        let cut: Vec<u8> = places.flat_map(of).copied().collect();
        resize_crop_u8(&cut, columns, rows, preprocess)
    }
}
