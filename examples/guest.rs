//! A bare wgpu program that lends its device: in every frame a picture of its own is named and a character says a few words more,
//! in the program's own commands and within two milliseconds. Runs without a window: `cargo run --release --example guest`

use lampyris::models::text::{Conversation, Message};
use lampyris::models::{TextModel, bundled::SAMPLES};
use lampyris::{Budget, Classifier, Gpu, Input, Tick, wgpu};
use std::error::Error;
use std::time::Duration;

/// Frames after which it gives up: a software adapter may need thousands for a minute's compiling.
const MOST_FRAMES: usize = 1_000_000;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) named: String,
    pub(crate) said: String,
    pub(crate) frames: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let outcome = pollster::block_on(run(40))?;
    println!("named: {}\nsaid: {}\nin {} frames", outcome.named, outcome.said, outcome.frames);
    Ok(())
}

/// Draws frames until the character has said at most so many tokens.
pub(crate) async fn run(most: usize) -> Result<Outcome, Box<dyn Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
    let wanted = Gpu::requirements(&adapter); // join with what your program needs
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            required_features: wanted.features,
            required_limits: wanted.limits,
            ..Default::default()
        })
        .await?;

    let gpu = Gpu::from_device(&adapter, &device, &queue)?; // installs no handler, starts no thread, never waits
    let eyes = Classifier::bundled(&gpu).await?; // or `load` of a MobileNet of yours
    let session = TextModel::bundled(&gpu)?.session(400).await?;
    let question = Conversation::new([Message::user("Tell me a story about a fox.")]);
    let mut npc = session.driven_chat(&question, most); // runs only when it is ticked

    // wgpu has one place for this callback and it is yours, so you pass the news on; a clone of `gpu` there would keep the device for ever.
    let guest = gpu.loss_notifier();
    device.set_device_lost_callback(move |_, reason| guest.notify_lost(&reason));

    let camera = camera(&device, &queue)?;
    let (mut looks, mut named, mut bubble) = (Vec::new(), String::new(), String::new());
    for frame in 0..MOST_FRAMES {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        // ... your own passes, some of which draw what the camera sees ...
        if looks.is_empty() {
            looks.push(eyes.record(&mut encoder, Input::texture(&camera))?); // the answer comes some frames later
        }
        let mut budget = Budget::gpu(Duration::from_millis(2)); // of GPU time in this frame
        let tick = npc.tick(&mut encoder, &mut budget)?;
        queue.submit([encoder.finish()]);
        gpu.pump(); // delivers what has arrived

        if let Some(answer) = looks[0].try_take()? {
            named = answer.top(1)[0].label.clone();
            looks.clear();
        }
        match tick {
            Tick::Pieces(text) => bubble += &text,
            Tick::Done(_) if !named.is_empty() => {
                return Ok(Outcome { named, said: bubble, frames: frame + 1 });
            }
            _ => {}
        }
    }
    Err(format!("nothing came in {MOST_FRAMES} frames").into())
}

/// What a camera in the program sees: here a drawing of a fish that the bundled classifier was not trained on.
fn camera(device: &wgpu::Device, queue: &wgpu::Queue) -> Result<wgpu::TextureView, Box<dyn Error>> {
    let picture = image::load_from_memory(SAMPLES[0].png)?.to_rgba8();
    let (width, height) = picture.dimensions();
    let size = wgpu::Extent3d { width, height, depth_or_array_layers: 1 };
    let texture = device.create_texture(&wgpu::TextureDescriptor {
        label: Some("camera"),
        size,
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba8UnormSrgb,
        usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
        view_formats: &[],
    });
    let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(width * 4), rows_per_image: None };
    queue.write_texture(texture.as_image_copy(), &picture, layout, size);
    Ok(texture.create_view(&wgpu::TextureViewDescriptor::default()))
}
