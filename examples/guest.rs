//! A bare wgpu program that lends its device: in every frame a picture of its own is looked at and a character says a few words more, which takes
//! two milliseconds of it, in the program's own commands; and both go on when the device is lost. Runs without a window:
//! `cargo run --release --example guest`

use lampyris::text::{Conversation, Message};
use lampyris::{Budget, Classifier, DrivenText, Gpu, Input, Sampling, Seen, TextModel, Tick, wgpu};
use std::error::Error;
use std::time::Duration;

/// Opens the program's device.
async fn open(adapter: &wgpu::Adapter) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let wanted = Gpu::requirements(adapter); // join with what your program needs
    let descriptor = wgpu::DeviceDescriptor {
        required_features: wanted.features,
        required_limits: wanted.limits,
        ..Default::default()
    };
    adapter.request_device(&descriptor).await
}

/// What the program keeps from frame to frame.
struct Guests {
    gpu: Gpu,
    eyes: Classifier,
    look: Option<Seen>, // a picture whose answer has not arrived
    npc: DrivenText,
}

/// wgpu has one place for the callback of a lost device and it is yours: pass the news on.
fn tell_of_a_loss(device: &wgpu::Device, gpu: &Gpu) {
    let guest = gpu.loss_notifier();
    device.set_device_lost_callback(move |_, reason| guest.notify_lost(&reason));
}

impl Guests {
    /// Before the first frame, or on a thread while frames go on.
    async fn load(adapter: &wgpu::Adapter, device: &wgpu::Device, queue: &wgpu::Queue) -> lampyris::Result<Guests> {
        let gpu = Gpu::from_device(adapter, device, queue)?; // installs no handler, starts no thread, never waits
        tell_of_a_loss(device, &gpu);
        let eyes = Classifier::bundled(&gpu).await?; // or `load` of a MobileNet of yours
        let session = TextModel::bundled(&gpu)?.session(400).await?;
        let npc = session.driven().measured(&Sampling::usual()).await?; // runs when ticked; knows how long steps take
        Ok(Guests { gpu, eyes, look: None, npc })
    }

    /// A frame: what the camera sees by name, where that has arrived, and what the character has to say.
    fn frame(
        &mut self,
        (device, queue): (&wgpu::Device, &wgpu::Queue),
        camera: &wgpu::TextureView,
    ) -> lampyris::Result<(Option<String>, Tick)> {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        // ... your own passes, some of which draw what the camera sees ...
        let name = self.see(&mut encoder, camera);
        let mut budget = Budget::gpu(Duration::from_millis(2)); // of GPU time in this frame, for the character
        let tick = self.npc.tick(&mut encoder, &mut budget);
        queue.submit([encoder.finish()]); // whatever the two say, the frame is yours
        self.gpu.pump(); // delivers what has arrived
        // A frame that was dropped, or a lost device, is no error of a program: the next frame looks again.
        let name = name.or_else(|error| if error.is_transient() { Ok(None) } else { Err(error) })?;
        Ok((name, tick?))
    }

    /// Records a look, or takes the name that an earlier one has brought.
    fn see(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        camera: &wgpu::TextureView,
    ) -> lampyris::Result<Option<String>> {
        let Some(mut look) = self.look.take() else {
            self.look = Some(self.eyes.record(encoder, Input::texture(camera))?);
            return Ok(None); // the answer comes some frames later
        };
        let answer = look.try_take()?;
        self.look = answer.is_none().then_some(look);
        Ok(answer.map(|answer| answer.top(1)[0].label.clone()))
    }
}

/// Frames of the program, until what the camera sees is named and the character has said at most `most` tokens. Before the frame of that number
/// the device is `lost`, as drivers lose theirs; both answers are those that they would have been.
async fn play(
    adapter: &wgpu::Adapter,
    camera: impl Fn(&wgpu::Device, &wgpu::Queue) -> wgpu::TextureView,
    (most, lost): (usize, Option<usize>),
) -> Result<(String, String), Box<dyn Error>> {
    let (mut device, mut queue) = open(adapter).await?;
    let mut view = camera(&device, &queue);
    let mut guests = Guests::load(adapter, &device, &queue).await?;
    guests.npc.chat(&Conversation::new([Message::user("Tell me a story about a fox.")]), most);
    let (mut named, mut said, mut over) = (None, String::new(), false);
    for frame in 0.. {
        if lost == Some(frame) {
            device.destroy();
        }
        let (name, tick) = guests.frame((&device, &queue), &view)?;
        named = name.or(named);
        match tick {
            Tick::Pieces(text) => said += &text, // your speech bubble
            Tick::Done(_) => over = true,
            _ => {}
        }
        if guests.gpu.check_alive().is_err() {
            (device, queue) = open(adapter).await?; // and all that is yours on it
            view = camera(&device, &queue);
            guests.gpu.replace_device(adapter, &device, &queue)?; // the character goes there by its ticks
            tell_of_a_loss(&device, &guests.gpu);
            match guests.eyes.ready(Input::texture(&view)).await {
                Err(error) if error.is_transient() => {} // lost meanwhile: the next frame finds that out
                ready => ready?,
            }
        }
        if over && named.is_some() {
            break;
        }
    }
    Ok((named.unwrap_or_default(), said))
}

/// A program without a window.
pub(crate) async fn run(most: usize, lost: Option<usize>) -> Result<(String, String), Box<dyn Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
    play(&adapter, camera, (most, lost)).await
}

/// What its camera sees: a ring of ink on paper.
fn camera(device: &wgpu::Device, queue: &wgpu::Queue) -> wgpu::TextureView {
    let size = wgpu::Extent3d { width: 64, height: 64, depth_or_array_layers: 1 };
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
    let from_ring = |at: usize| ((at % 64) as f32 - 31.5).hypot((at / 64) as f32 - 31.5) - 22.0;
    let texel = |at: usize| if from_ring(at).abs() < 2.0 { [20, 24, 40, 255] } else { [245, 242, 230, 255] };
    let texels: Vec<u8> = (0..64 * 64).flat_map(texel).collect();
    let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(4 * 64), rows_per_image: None };
    queue.write_texture(texture.as_image_copy(), &texels, layout, size);
    texture.create_view(&wgpu::TextureViewDescriptor::default())
}

fn main() -> Result<(), Box<dyn Error>> {
    let (named, said) = pollster::block_on(run(40, None))?;
    println!("named: {named}\nsaid: {said}");
    Ok(())
}
