//! A picture that was found fit to be classified, and the bytes or textures of it that a plan reads.

use crate::image_prep::{Preprocess, resize_crop_u8};
use crate::input::{self, Input};
use crate::prepare::{Given, PictureKind};
use crate::{Error, Result};
use lampyris_engine::gpu::{Gpu, InputData};
use lampyris_engine::kernels::image::{Area, Turn};

/// A checked input.
pub(crate) struct Picture<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) kind: PictureKind,
}

impl Picture<'_> {
    /// What the preparing plan reads: the texture, or `Classifier::fitted`'s bytes.
    pub(crate) fn data<'a>(&'a self, bytes: Option<&'a [u8]>) -> Given<'a> {
        match (&self.input.pixels, bytes) {
            (_, Some(bytes)) => Given::One([InputData::Bytes(bytes)]),
            (input::Pixels::Texture(view, _), None) => Given::One([InputData::Texture(view)]),
            (input::Pixels::Planes(planes, _), None) => Given::Two(planes.map(InputData::Texture)),
            (input::Pixels::Rgba8(bytes), None) => Given::One([InputData::Bytes(bytes)]),
            #[cfg(not(target_arch = "wasm32"))]
            (input::Pixels::Buffer(buffer, at), None) => Given::One([InputData::Buffer(buffer, *at)]),
        }
    }

    /// The network's pixels, computed on the CPU.
    pub(crate) fn to_crop(&self, preprocess: &Preprocess, gpu: &Gpu) -> Result<Vec<u8>> {
        let input::Pixels::Rgba8(bytes) = &self.input.pixels else {
            let adapter = gpu.summary().name.clone();
            return Err(Error::Engine(lampyris_engine::Error::NoTexture { adapter }));
        };
        let (Area { x, y, width, height }, turn) = (self.kind.area, self.kind.turn);
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
