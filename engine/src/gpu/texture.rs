//! Textures of the engine's own, for judging and measuring the kernels that read them on host tensors.

use super::{Gpu, GpuPlan, InputData};
use crate::{Error, Result};
use lampyris_shaders::{Format, HostTensor};

impl Gpu {
    /// A texture that holds the picture `tensor` (`[1, height, width]` of a texture format), as `rgba8unorm` or `rgba8unorm-srgb`.
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
            _ => wgpu::TextureFormat::Rgba8Unorm,
        };
        self.guarded("making a texture", |device| {
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
                bytes_per_row: Some(size.width * 4),
                rows_per_image: Some(size.height),
            };
            queue.write_texture(texture.as_image_copy(), bytemuck::cast_slice(&tensor.words), layout, size);
            texture.create_view(&wgpu::TextureViewDescriptor::default())
        })
        .await
    }
}

impl GpuPlan {
    /// As [`GpuPlan::run`], on tensors of the host: those in a texture format become textures.
    ///
    /// # Errors
    /// As [`GpuPlan::run`] and [`Gpu::texture`].
    pub async fn run_tensors(&self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>> {
        let textures = self.textures(inputs).await?;
        self.run(&data(inputs, &textures)).await
    }

    /// The textures among `inputs`, in their order.
    pub(super) async fn textures(&self, inputs: &[HostTensor]) -> Result<Vec<wgpu::TextureView>> {
        let mut textures = Vec::new();
        for tensor in inputs.iter().filter(|t| t.desc.format.is_texture()) {
            textures.push(self.gpu().texture(tensor).await?);
        }
        Ok(textures)
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
