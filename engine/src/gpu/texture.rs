//! Textures of the engine's own, for certifying the kernels that read them.

use super::Gpu;
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
