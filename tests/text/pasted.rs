//! The lines that the first page of this library promises to whoever has a game, in a program that had nothing of it before: they compile as they
//! stand here, and on every adapter an answer comes of them. The host is one that has asked for nothing in particular.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::fixture;
use crate::support::host::hosts;
use lampyris::models::text::{Conversation, Message};
use lampyris::wgpu::{self, TextureFormat};
use lampyris::{Area, Budget, Input, Prediction, Tick};
use std::path::PathBuf;
use std::time::Duration;

const SIDE: u32 = 64;
const MOST_FRAMES: usize = 1_000_000;

/// What the game shows over its scene.
#[derive(Default)]
struct Hud(Vec<Prediction>);

impl Hud {
    fn show(&mut self, predictions: Vec<Prediction>) {
        self.0 = predictions;
    }
}

/// A game that had a device, and pastes.
async fn game(adapter: &wgpu::Adapter, path: PathBuf) -> lampyris::Result<(Hud, String)> {
    // What it had.
    let descriptor = wgpu::DeviceDescriptor {
        required_limits: adapter.limits().or_worse_values_from(&wgpu::Limits::default()),
        ..Default::default()
    };
    let (device, queue) = adapter.request_device(&descriptor).await.unwrap();
    let camera = device.create_texture(&wgpu::TextureDescriptor {
        usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::RENDER_ATTACHMENT,
        format: TextureFormat::Bgra8UnormSrgb,
        ..crate::support::host::descriptor([SIDE, SIDE])
    });
    let (camera, centre) =
        (camera.create_view(&wgpu::TextureViewDescriptor::default()), Area { x: 8, y: 8, width: 48, height: 48 });
    let (mut hud, mut bubble) = (Hud::default(), String::new());

    // What it pastes.
    let wanted = lampyris::Gpu::requirements(adapter); // features and limits: join with yours
    let gpu = lampyris::Gpu::from_device(adapter, &device, &queue)?; // installs no handler, starts no thread, never waits
    let eyes = lampyris::Classifier::load(&gpu, path).await?;
    let session = lampyris::TextModel::bundled(&gpu)?.session(200).await?;
    let mut npc = session.driven_chat(&Conversation::new([Message::user("Tell me a story about a fox.")]), 6);

    // It asked for nothing of what would make them faster, and has a device all the same.
    assert!(device.features().is_empty() && adapter.features().contains(wanted.features));
    let mut looks = None;
    for _ in 0..MOST_FRAMES {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        draw(&mut encoder, &camera);
        if looks.is_none() && hud.0.is_empty() {
            looks = Some(eyes.record(&mut encoder, Input::texture(&camera).crop(centre))?); // the answer comes some frames later
        }
        let mut budget = Budget::gpu(Duration::from_millis(2)); // of GPU work, for everybody together
        let over = match npc.tick(&mut encoder, &mut budget)? {
            Tick::Pieces(text) => {
                bubble.push_str(&text);
                false
            }
            Tick::Done(_) => true,
            Tick::Working(_) | Tick::Idle | Tick::Lost => false,
        };
        queue.submit([encoder.finish()]);
        gpu.pump(); // never waits; delivers what has arrived
        if let Some(seen) = &mut looks
            && let Some(answer) = seen.try_take()?
        {
            hud.show(answer.top(1));
            looks = None;
        }
        if over && !hud.0.is_empty() {
            break;
        }
    }
    Ok((hud, bubble))
}

/// The game's own pass: what the camera sees is one colour.
fn draw(encoder: &mut wgpu::CommandEncoder, camera: &wgpu::TextureView) {
    let clear = wgpu::Operations {
        load: wgpu::LoadOp::Clear(wgpu::Color { r: 0.2, g: 0.5, b: 0.7, a: 1.0 }),
        store: wgpu::StoreOp::Store,
    };
    let attachment =
        wgpu::RenderPassColorAttachment { view: camera, depth_slice: None, resolve_target: None, ops: clear };
    drop(encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
        label: Some("the game's scene"),
        color_attachments: &[Some(attachment)],
        ..Default::default()
    }));
}

#[test]
fn a_game_that_pastes_them_sees_answers() {
    let path = fixture("mobilenet_v3_small_w025");
    for host in hosts() {
        let (hud, bubble) = pollster::block_on(game(&host.adapter, path.clone())).unwrap();
        assert_eq!(hud.0.len(), 1, "{}", host.name);
        assert!(hud.0[0].probability > 0.0 && !bubble.trim().is_empty(), "{}: '{bubble}'", host.name);
    }
}
