//! A guest in somebody else's program: the host opens its own `wgpu` device, keeps its picture in a texture and draws its
//! frames; the network runs on that device between them, and nothing ever waits.
//!
//! `cargo run --release --example own_device MODEL PICTURE`

use lampyris::{Answer, Classifier, Gpu, Input, wgpu};
use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, picture] = &arguments[..] else { return Err("usage: own_device MODEL PICTURE".into()) };
    let (answer, frames) = run(model, picture)?;
    for p in answer.top(5) {
        println!("{:5.1} %  {}", 100.0 * p.probability, p.label);
    }
    println!("the host drew {frames} frames meanwhile");
    Ok(())
}

/// The program that was there first.
struct Host {
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    frames: u32,
}

impl Host {
    /// Opens a device with what the host needs, and what Lampyris can use besides.
    async fn open() -> Result<Host, Box<dyn Error>> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
        let useful = Gpu::requirements(&adapter);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("host"),
            required_features: useful.features,
            required_limits: useful.limits,
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await?;
        Ok(Host { adapter, device, queue, frames: 0 })
    }

    /// A picture as the host would have it: a texture that it can draw, and that shaders may read.
    fn texture(&self, picture: &image::RgbaImage) -> wgpu::TextureView {
        let (width, height) = picture.dimensions();
        let size = wgpu::Extent3d { width, height, depth_or_array_layers: 1 };
        let texture = self.device.create_texture(&wgpu::TextureDescriptor {
            label: Some("host.picture"),
            size,
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::Rgba8UnormSrgb,
            usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        });
        let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(width * 4), rows_per_image: None };
        self.queue.write_texture(texture.as_image_copy(), picture, layout, size);
        texture.create_view(&wgpu::TextureViewDescriptor::default())
    }

    /// One frame: here only an empty submit, where a game would draw.
    fn draw(&mut self) {
        let encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.queue.submit([encoder.finish()]);
        self.frames += 1;
    }

    /// Draws frames until the guest's work is done, and asks after it once a frame.
    fn draw_until<T>(&mut self, gpu: &Gpu, work: impl Future<Output = T>) -> T {
        let (mut work, mut context) = (pin!(work), Context::from_waker(Waker::noop()));
        loop {
            self.draw();
            gpu.pump();
            if let Poll::Ready(done) = Pin::as_mut(&mut work).poll(&mut context) {
                return done;
            }
        }
    }
}

/// What the network says of the picture, and how many frames the host drew meanwhile.
pub(crate) fn run(model: &str, picture: &str) -> Result<(Answer, u32), Box<dyn Error>> {
    let picture = image::open(picture)?.to_rgba8();
    let mut host = pollster::block_on(Host::open())?;
    let gpu = Gpu::from_device(&host.adapter, &host.device, &host.queue)?;
    // wgpu has one place for this callback and it is the host's, so the host passes the news on.
    let guest = gpu.loss_notifier();
    host.device.set_device_lost_callback(move |_, reason| guest.notify_lost(&reason));

    let classifier = host.draw_until(&gpu, Classifier::load(&gpu, model))?;
    let view = host.texture(&picture);
    let answer = host.draw_until(&gpu, classifier.classify(Input::texture(&view)))?;
    Ok((answer, host.frames))
}
