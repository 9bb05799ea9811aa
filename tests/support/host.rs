//! A program that has its own wgpu device and its own opinion on errors, into which the engine is invited as a guest.

use super::adapters::demand;
use super::without_slow_compilers;
use lampyris::{Gpu, wgpu};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A host's device, with handlers that count.
pub struct Host {
    pub name: String,
    pub instance: wgpu::Instance,
    pub adapter: wgpu::Adapter,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    errors: Arc<AtomicUsize>,
    losses: Arc<AtomicUsize>,
    blunders: AtomicUsize,
}

/// A host on every adapter that computes.
pub fn hosts() -> Vec<Host> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let computes = |adapter: &wgpu::Adapter| {
        adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
    };
    let found: Vec<wgpu::Adapter> = adapters.into_iter().filter(computes).collect();
    let infos = found.iter().map(wgpu::Adapter::get_info);
    demand(infos.map(|info| (info.name, info.backend.to_string())));
    found.into_iter().map(|adapter| Host::new(instance.clone(), adapter, |_| ())).collect()
}

/// Those of `hosts` that compile quickly, and of each backend one at least; all in the full tier. For what depends on the engine more than on the adapter.
pub fn quick_hosts() -> Vec<Host> {
    without_slow_compilers(hosts(), |host| (host.name.clone(), host.adapter.get_info().backend.to_string()))
}

impl Host {
    /// With all that the engine can use, changed as the program wishes.
    fn new(
        instance: wgpu::Instance,
        adapter: wgpu::Adapter,
        wish: impl FnOnce(&mut wgpu::DeviceDescriptor<'_>),
    ) -> Host {
        let wanted = Gpu::requirements(&adapter);
        let mut descriptor = wgpu::DeviceDescriptor {
            label: Some("the host's"),
            required_features: wanted.features,
            required_limits: wanted.limits,
            ..Default::default()
        };
        wish(&mut descriptor);
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let (errors, losses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (on_error, on_loss) = (errors.clone(), losses.clone());
        device.on_uncaptured_error(Arc::new(move |_| {
            on_error.fetch_add(1, Ordering::SeqCst);
        }));
        device.set_device_lost_callback(move |_, _| {
            on_loss.fetch_add(1, Ordering::SeqCst);
        });
        let info = adapter.get_info();
        let name = format!("{} ({})", info.name, info.backend);
        Host { name, instance, adapter, device, queue, errors, losses, blunders: AtomicUsize::new(0) }
    }

    /// The engine on this device.
    pub fn guest(&self) -> Gpu {
        Gpu::from_device(&self.adapter, &self.device, &self.queue).unwrap()
    }

    /// How often the host was told of an error and of a loss.
    pub fn told(&self) -> (usize, usize) {
        (self.errors.load(Ordering::SeqCst), self.losses.load(Ordering::SeqCst))
    }

    /// Makes an error that only the host can hear of.
    pub fn blunder(&self) {
        self.blunders.fetch_add(1, Ordering::SeqCst);
        let _ = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("no buffer can be both"),
            size: 16,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE,
            mapped_at_creation: false,
        });
    }

    /// Has the submit of `encoder` refused for a mistake of the host's own: it writes a buffer that is gone by then.
    pub fn spoil(&self, encoder: &mut wgpu::CommandEncoder) {
        let gone = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("gone"),
            size: 16,
            usage: wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        encoder.clear_buffer(&gone, 0, None);
        gone.destroy();
    }

    /// How many errors by [`Host::blunder`] it has made.
    pub fn blunders(&self) -> usize {
        self.blunders.load(Ordering::SeqCst)
    }

    /// Objects of wgpu that are alive, by kind, whichever device of the instance has them.
    pub fn objects(&self) -> Vec<(&'static str, usize)> {
        let report = self.instance.generate_report().unwrap();
        let hub = report.hub_report();
        let of = |it: &wgpu::wgc::registry::RegistryReport| it.num_allocated;
        vec![
            ("devices", of(&hub.devices)),
            ("buffers", of(&hub.buffers)),
            ("bind groups", of(&hub.bind_groups)),
            ("bind group layouts", of(&hub.bind_group_layouts)),
            ("pipeline layouts", of(&hub.pipeline_layouts)),
            ("pipelines", of(&hub.compute_pipelines)),
            ("shader modules", of(&hub.shader_modules)),
            ("query sets", of(&hub.query_sets)),
            ("textures", of(&hub.textures)),
            ("texture views", of(&hub.texture_views)),
            ("command encoders", of(&hub.command_encoders)),
            ("command buffers", of(&hub.command_buffers)),
        ]
    }

    /// Another device of the same adapter and instance, with handlers of its own.
    pub fn another(&self) -> Host {
        self.without(wgpu::Features::empty())
    }

    /// As [`Host::another`], of a program that has asked for these features too, where the adapter has them.
    pub fn with(&self, own: wgpu::Features) -> Option<Host> {
        let adapter = self.adapter.clone();
        let has = adapter.features().contains(own);
        has.then(|| Host::new(self.instance.clone(), adapter, |wanted| wanted.required_features.insert(own)))
    }

    /// As [`Host::another`], of a program that has not asked for these features.
    pub fn without(&self, features: wgpu::Features) -> Host {
        Host::new(self.instance.clone(), self.adapter.clone(), |wanted| wanted.required_features.remove(features))
    }

    /// As [`Host::another`], of a program whose shaders may see so many bytes of a buffer at a time.
    pub fn binding(&self, bytes: u64) -> Host {
        let wish =
            |wanted: &mut wgpu::DeviceDescriptor<'_>| wanted.required_limits.max_storage_buffer_binding_size = bytes;
        Host::new(self.instance.clone(), self.adapter.clone(), wish)
    }

    /// What lies in a piece of a buffer once all that was submitted is done, given by its offset and its bytes.
    pub fn read(&self, (buffer, offset, size): (&wgpu::Buffer, u64, u64)) -> Vec<u8> {
        let (usage, label) = (wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST, Some("what the host reads"));
        let staging =
            self.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false });
        let mut copy = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        copy.copy_buffer_to_buffer(buffer, offset, &staging, 0, size);
        self.queue.submit([copy.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., Result::unwrap);
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        staging.get_mapped_range(..).unwrap().to_vec()
    }

    /// A texture with these rows of texels.
    pub fn texture(&self, format: wgpu::TextureFormat, texels: &[u8], size: [u32; 2]) -> wgpu::TextureView {
        let descriptor = wgpu::TextureDescriptor { format, ..descriptor(size) };
        let texture = self.device.create_texture(&descriptor);
        self.fill(&texture, 0, texels);
        texture.create_view(&wgpu::TextureViewDescriptor::default())
    }

    /// Writes rows of texels into a mip level of a texture.
    pub fn fill(&self, texture: &wgpu::Texture, mip_level: u32, texels: &[u8]) {
        let (width, height) = ((texture.width() >> mip_level).max(1), (texture.height() >> mip_level).max(1));
        let layout = wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(texels.len() as u32 / height),
            rows_per_image: Some(height),
        };
        let size = wgpu::Extent3d { width, height, depth_or_array_layers: 1 };
        self.queue.write_texture(
            wgpu::TexelCopyTextureInfo { mip_level, ..texture.as_image_copy() },
            texels,
            layout,
            size,
        );
    }
}

/// A plain texture that can be sampled and written.
pub fn descriptor([width, height]: [u32; 2]) -> wgpu::TextureDescriptor<'static> {
    wgpu::TextureDescriptor {
        label: Some("the host's picture"),
        size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba8Unorm,
        usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
        view_formats: &[],
    }
}
