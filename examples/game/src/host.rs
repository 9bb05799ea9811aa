//! The game's own device: opened by the game with what it needs, joined with what the models can use.

use crate::Result;
use lampyris::{Gpu, wgpu};

/// An opened device.
#[derive(Debug, Clone)]
pub struct Host {
    pub adapter: wgpu::Adapter,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// What the game draws into, and the eye's pictures too.
    pub format: wgpu::TextureFormat,
}

impl Host {
    /// Opens the adapter whose name contains `wanted`, or the best one that can draw on the surface.
    pub fn open(instance: &wgpu::Instance, surface: Option<&wgpu::Surface<'_>>, wanted: Option<&str>) -> Result<Host> {
        let adapter = match wanted {
            None => pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                compatible_surface: surface,
                ..Default::default()
            }))?,
            Some(name) => {
                let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
                let fits = |adapter: &wgpu::Adapter| {
                    adapter.get_info().name.to_lowercase().contains(&name.to_lowercase())
                        && surface.is_none_or(|surface| adapter.is_surface_supported(surface))
                };
                adapters.into_iter().find(fits).ok_or_else(|| format!("no adapter is called '{name}'"))?
            }
        };
        // A surface that has no such format of its own can be seen as one that has.
        let first = surface.and_then(|surface| surface.get_capabilities(&adapter).formats.first().copied());
        let format = first.map_or(wgpu::TextureFormat::Rgba8UnormSrgb, |format| format.add_srgb_suffix());
        Host::on(adapter, format)
    }

    /// Opens another device of the same adapter, as after a loss.
    pub fn again(&self) -> Result<Host> {
        Host::on(self.adapter.clone(), self.format)
    }

    fn on(adapter: wgpu::Adapter, format: wgpu::TextureFormat) -> Result<Host> {
        let useful = Gpu::requirements(&adapter);
        // For the game's own clock round the models' work.
        let clock = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("game"),
            required_features: useful.features | (adapter.features() & clock),
            required_limits: useful.limits,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
        Ok(Host { adapter, device, queue, format })
    }

    /// Passes the news on to the guest when this device is lost: wgpu has one callback for it, which is the game's.
    pub fn tell_losses_to(&self, gpu: &Gpu) {
        let guest = gpu.loss_notifier();
        self.device.set_device_lost_callback(move |_, reason| guest.notify_lost(&reason));
    }

    /// A texture that is drawn into, and read by `also`.
    pub fn target(
        &self,
        label: &str,
        [width, height]: [u32; 2],
        samples: u32,
        also: wgpu::TextureUsages,
    ) -> wgpu::Texture {
        self.texture(label, [width, height], samples, self.format, wgpu::TextureUsages::RENDER_ATTACHMENT | also)
    }

    /// A texture of two dimensions.
    pub fn texture(
        &self,
        label: &str,
        [width, height]: [u32; 2],
        sample_count: u32,
        format: wgpu::TextureFormat,
        usage: wgpu::TextureUsages,
    ) -> wgpu::Texture {
        self.device.create_texture(&wgpu::TextureDescriptor {
            label: Some(label),
            size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage,
            view_formats: &[],
        })
    }

    /// A buffer that the queue writes.
    pub fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let usage = usage | wgpu::BufferUsages::COPY_DST;
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// A buffer that holds these bytes.
    pub fn filled(&self, label: &str, bytes: &[u8], usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let buffer = self.buffer(label, (bytes.len() as u64).next_multiple_of(4).max(16), usage);
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// A shader of the game.
    pub fn shader(&self, label: &str, wgsl: &str) -> wgpu::ShaderModule {
        let source = wgpu::ShaderSource::Wgsl(wgsl.into());
        self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(label), source })
    }
}

/// The whole of a texture.
pub fn view(texture: &wgpu::Texture) -> wgpu::TextureView {
    texture.create_view(&wgpu::TextureViewDescriptor::default())
}

/// One colour attachment that is cleared or kept, and resolved where it has samples.
pub fn colour<'a>(
    view: &'a wgpu::TextureView,
    resolve_target: Option<&'a wgpu::TextureView>,
    load: wgpu::LoadOp<wgpu::Color>,
) -> Option<wgpu::RenderPassColorAttachment<'a>> {
    let store = if resolve_target.is_some() { wgpu::StoreOp::Discard } else { wgpu::StoreOp::Store };
    let ops = wgpu::Operations { load, store };
    Some(wgpu::RenderPassColorAttachment { view, depth_slice: None, resolve_target, ops })
}

/// What is drawn over what is there, by its alpha.
pub fn blended(format: wgpu::TextureFormat) -> wgpu::ColorTargetState {
    let blend = Some(wgpu::BlendState::ALPHA_BLENDING);
    wgpu::ColorTargetState { format, blend, write_mask: wgpu::ColorWrites::ALL }
}
