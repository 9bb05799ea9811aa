//! Where a picture comes from: bytes in memory, or a texture or a buffer that never leaves the GPU.

use crate::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use lampyris_engine::gpu::Buffer;
use lampyris_engine::gpu::TextureView;
use lampyris_engine::kernels::Format;
use lampyris_engine::kernels::image::Turn;
use std::borrow::Cow;

pub use lampyris_engine::kernels::image::{Area, Quarter, Yuv, YuvMatrix, YuvRange};

/// A picture for a classifier.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    pub(crate) pixels: Pixels<'a>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) area: Option<Area>,
    pub(crate) turn: Turn,
}

/// The pixels themselves.
#[derive(Debug, Clone)]
pub(crate) enum Pixels<'a> {
    Rgba8(Cow<'a, [u8]>),
    /// The same in a buffer, from a byte on.
    #[cfg(not(target_arch = "wasm32"))]
    Buffer(&'a Buffer, u64),
    Texture(&'a TextureView, Format),
    /// Luma and chroma.
    Planes([&'a TextureView; 2], Yuv),
}

impl<'a> Input<'a> {
    /// Rows of 8-bit RGBA pixels from the top, without gaps; alpha is ignored.
    pub fn rgba8(bytes: impl Into<Cow<'a, [u8]>>, width: u32, height: u32) -> Input<'a> {
        Input::of(Pixels::Rgba8(bytes.into()), width, height)
    }

    /// As [`Input::rgba8`], of bytes that lie in a buffer of the classifier's own device, from byte `offset` on, a multiple of four: what a host's
    /// own compute shader has made, say. The buffer needs `COPY_SRC` usage; it is copied from where the run's commands stand, and never
    /// written. One that is destroyed before a recorded run is submitted makes the host's own submit fail, for wgpu tells of it only there.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn rgba8_buffer(buffer: &'a Buffer, offset: u64, width: u32, height: u32) -> Input<'a> {
        Input::of(Pixels::Buffer(buffer, offset), width, height)
    }

    /// A view of the whole of a texture of the classifier's own device, in the texture's own format: any of red, green and blue
    /// that is read as floats in `0..=1`, with `TEXTURE_BINDING` usage. An `-srgb` texture gives what its bytes give. It is
    /// read once, and never written. For a view in another format, or of a mip level, see [`Input::texture_as`].
    pub fn texture(view: &'a TextureView) -> Input<'a> {
        let texture = view.texture();
        Input::texture_as(view, texture.width(), texture.height(), texture.format().is_srgb())
    }

    /// As [`Input::texture`], for a view whose format or size is not its texture's, for wgpu tells neither: `width` and
    /// `height` are those of the view's mip level in texels, and `srgb` says whether the format *of the view* is an `-srgb` one,
    /// so that reading it decodes the curve. A size that no level of the texture has is refused when the picture is used.
    pub fn texture_as(view: &'a TextureView, width: u32, height: u32, srgb: bool) -> Input<'a> {
        let format = if srgb { Format::TextureSrgb } else { Format::Texture };
        Input::of(Pixels::Texture(view, format), width, height)
    }

    /// The two planes of an NV12 picture, as cameras and video decoders give them: views of a texture of luma, whose size is the
    /// picture's, and of one of chroma, blue and red, with half the rows and columns (rounded up), each of whose texels stands for four pixels.
    /// Both are read as floats, as `r8unorm` and `rg8unorm` are; `yuv` says which colours are meant. Where wgpu has both planes as one texture
    /// (`TextureFormat::NV12`, on native targets), the views are those of its aspects `Plane0` and `Plane1`, in this order: a view does not
    /// tell which plane it shows, so with the order changed the picture has the wrong colours.
    pub fn nv12(luma: &'a TextureView, chroma: &'a TextureView, yuv: Yuv) -> Input<'a> {
        let (width, height) = (luma.texture().width(), luma.texture().height());
        Input::of(Pixels::Planes([luma, chroma], yuv), width, height)
    }

    fn of(pixels: Pixels<'a>, width: u32, height: u32) -> Input<'a> {
        Input { pixels, width, height, area: None, turn: Turn::default() }
    }

    /// What is read from the texture is linear light, as a renderer's `rgba16float` target often holds it, and gets the sRGB curve before
    /// the network sees it. Without this, what is read is taken as encoded already, but for `-srgb` formats. Bytes and planes are never linear.
    pub fn linear(mut self) -> Input<'a> {
        if let Pixels::Texture(_, format) = &mut self.pixels {
            *format = Format::TextureSrgb;
        }
        self
    }

    /// Only this part of the picture, in its own rows and columns, however it is turned.
    pub fn crop(mut self, area: Area) -> Input<'a> {
        self.area = Some(area);
        self
    }

    /// The picture, or the part of it, rotated; a camera that is held sideways needs it. Turns and mirrors add up in the order of the calls.
    pub fn rotated(mut self, quarter: Quarter) -> Input<'a> {
        self.turn = self.turn.rotated(quarter);
        self
    }

    /// The picture, or the part of it, mirrored, left for right, as a camera that looks at its user shows it.
    pub fn mirrored(mut self) -> Input<'a> {
        self.turn = self.turn.mirrored();
        self
    }

    /// Refuses so many bytes where `enough` does not take them for those of its pixels.
    pub(crate) fn check_bytes(&self, found: u64, enough: impl FnOnce(u64, u64) -> bool) -> Result<()> {
        let (width, height) = (self.width, self.height);
        let expected = (u64::from(width) * u64::from(height)).saturating_mul(4);
        if enough(found, expected) {
            return Ok(());
        }
        Err(Error::PixelBytes { width, height, expected, found })
    }

    /// The part of the picture that counts.
    pub(crate) fn area(&self) -> Area {
        self.area.unwrap_or(Area { x: 0, y: 0, width: self.width, height: self.height })
    }
}

impl<'a> From<&'a TextureView> for Input<'a> {
    fn from(view: &'a TextureView) -> Input<'a> {
        Input::texture(view)
    }
}

#[cfg(feature = "image")]
impl<'a> From<&'a crate::decode::Rgba8Image> for Input<'a> {
    fn from(image: &'a crate::decode::Rgba8Image) -> Input<'a> {
        Input::rgba8(image.pixels.as_slice(), image.width, image.height)
    }
}

#[cfg(feature = "image")]
impl From<&image::DynamicImage> for Input<'static> {
    fn from(image: &image::DynamicImage) -> Input<'static> {
        let rgba = image.to_rgba8();
        let (width, height) = rgba.dimensions();
        Input::rgba8(rgba.into_raw(), width, height)
    }
}
