//! Textures: what is refused of a host's, and those of the engine's own, for judging the kernels that read them.

use super::{Gpu, GpuPlan, InputData};
use crate::{Error, Result};
use lampyris_shaders::{Format, HostTensor};

impl Gpu {
    /// Refuses a view that no kernel can read as a picture of `width` times `height` texels: by its texture's usage,
    /// dimension, samples, format and size. What only the driver knows, such as whose it is, is an error of the run.
    ///
    /// # Errors
    /// [`Error::NoTexture`] on the CPU executor; [`Error::Texture`] with what it is and what it should be.
    pub fn check_texture(&self, view: &wgpu::TextureView, width: u32, height: u32) -> Result<()> {
        self.check_plane(view, width, height, 3)
    }

    /// As [`Gpu::check_texture`], for a plane of which the first `channels` are read: one of luma, or two of chroma. Of a texture that has both
    /// planes itself, `NV12`, the view is taken as one of the plane with so many channels, for wgpu does not tell which one it shows.
    ///
    /// # Errors
    /// As [`Gpu::check_texture`].
    pub fn check_plane(&self, view: &wgpu::TextureView, width: u32, height: u32, channels: u8) -> Result<()> {
        let (adapter, texture) = (|| self.summary().name.clone(), view.texture());
        if self.device().is_none() {
            return Err(Error::NoTexture { adapter: adapter() });
        }
        let refuse =
            |found: String, wanted: &str| Err(Error::Texture { adapter: adapter(), found, wanted: wanted.to_owned() });
        if !texture.usage().contains(wgpu::TextureUsages::TEXTURE_BINDING) {
            return refuse(format!("of usage {:?}", texture.usage()), "one with TEXTURE_BINDING among its usages");
        }
        if texture.dimension() != wgpu::TextureDimension::D2 {
            return refuse(format!("of dimension {:?}", texture.dimension()), "a view of a D2 texture");
        }
        if texture.sample_count() != 1 {
            return refuse(
                format!("of {} samples a texel", texture.sample_count()),
                "one that is resolved to one sample",
            );
        }
        let (format, halved) = shown(texture.format(), channels);
        let floats = matches!(format.sample_type(None, None), Some(wgpu::TextureSampleType::Float { .. }));
        if !floats || format.components() < channels {
            let wanted = match channels {
                _ if texture.format() == wgpu::TextureFormat::NV12 => "views of its planes 0 and 1, as an NV12 picture",
                1 => "a format that is read as floats, such as R8Unorm",
                2 => "a format with two channels that are read as floats, such as Rg8Unorm",
                _ => "a colour format that is read as floats, such as Rgba8Unorm or Rgba16Float",
            };
            return refuse(format!("of format {:?}", texture.format()), wanted);
        }
        let level = |level: u32| [texture.width(), texture.height()].map(|extent| ((extent >> level) >> halved).max(1));
        if !(0..texture.mip_level_count()).any(|at| level(at) == [width, height]) {
            let [w, h] = level(0);
            let levels = texture.mip_level_count();
            let wanted = "the width and height of the view's mip level";
            return refuse(format!("of {w}x{h} texels in {levels} mip levels, and not {width}x{height}"), wanted);
        }
        Ok(())
    }

    /// A texture that holds the picture `tensor` (`[1, height, width]` of a texture format), as `rgba8unorm` or `rgba8unorm-srgb`, or a plane
    /// of one as `r8unorm` or `rg8unorm`.
    ///
    /// # Errors
    /// [`Error::NoTexture`] on the CPU executor; [`Error::Driver`] or [`Error::OutOfMemory`] from the driver.
    pub async fn texture(&self, tensor: &HostTensor) -> Result<wgpu::TextureView> {
        let (Some(queue), &[_, height, width]) = (self.queue(), &tensor.desc.shape[..]) else {
            return Err(Error::NoTexture { adapter: self.summary().name.clone() });
        };
        let size = wgpu::Extent3d { width: width as u32, height: height as u32, depth_or_array_layers: 1 };
        let format = match tensor.desc.format {
            Format::TextureSrgb => wgpu::TextureFormat::Rgba8UnormSrgb,
            Format::TextureChroma => wgpu::TextureFormat::Rg8Unorm,
            Format::TextureLuma => wgpu::TextureFormat::R8Unorm,
            _ => wgpu::TextureFormat::Rgba8Unorm,
        };
        let channels = u32::from(format.components());
        let texels: Vec<u8> =
            tensor.words.iter().flat_map(|word| word.to_le_bytes().into_iter().take(channels as usize)).collect();
        self.guarded("making a texture", |device| {
            self.allocating("making a texture")?;
            let texture = device.create_texture(&wgpu::TextureDescriptor {
                label: Some("lampyris.texture"),
                size,
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format,
                usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            });
            let layout = wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(size.width * channels),
                rows_per_image: Some(size.height),
            };
            self.allocating("filling a texture")?;
            queue.write_texture(texture.as_image_copy(), &texels, layout, size);
            let descriptor = wgpu::TextureViewDescriptor { label: Some("lampyris.picture"), ..Default::default() };
            Ok(texture.create_view(&descriptor))
        })
        .await?
    }

    /// The textures among `inputs`, in their order.
    pub(super) async fn textures(&self, inputs: &[HostTensor]) -> Result<Vec<wgpu::TextureView>> {
        let mut textures = Vec::new();
        for tensor in inputs.iter().filter(|t| t.desc.format.is_texture()) {
            textures.push(self.texture(tensor).await?);
        }
        Ok(textures)
    }
}

impl GpuPlan {
    /// As [`GpuPlan::run`], on tensors of the host: those in a texture format become textures.
    ///
    /// # Errors
    /// As [`GpuPlan::run`] and [`Gpu::texture`].
    pub async fn run_tensors(&self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>> {
        let textures = self.gpu().textures(inputs).await?;
        self.run(&data(inputs, &textures)).await
    }
}

/// The format of what a view of a texture shows as a plane of so many channels, and by how many halvings it is smaller than the texture. There
/// are no textures of two planes in browsers.
fn shown(format: wgpu::TextureFormat, channels: u8) -> (wgpu::TextureFormat, u32) {
    match (format, channels) {
        (wgpu::TextureFormat::NV12, 1) if cfg!(not(target_arch = "wasm32")) => (wgpu::TextureFormat::R8Unorm, 0),
        // Such a texture has even sides.
        (wgpu::TextureFormat::NV12, 2) if cfg!(not(target_arch = "wasm32")) => (wgpu::TextureFormat::Rg8Unorm, 1),
        _ => (format, 0),
    }
}

/// Host tensors as the inputs of a run, with the textures made of them.
pub(super) fn data<'a>(inputs: &'a [HostTensor], textures: &'a [wgpu::TextureView]) -> Vec<InputData<'a>> {
    let mut views = textures.iter();
    let data = inputs.iter().map(|tensor| match tensor.desc.format.is_texture() {
        true => views.next().map(InputData::Texture),
        false => Some(InputData::Words(&tensor.words)),
    });
    data.flatten().collect()
}
