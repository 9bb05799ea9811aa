//! Ten thousand frames with a camera, a character and textures of changing size: nothing grows, neither memory nor objects of the GPU.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![allow(unsafe_code, reason = "an allocator that counts is one")]

mod support;

use lampyris::models::decoder::{Decoder, Sampling, SessionOptions};
use lampyris::wgpu::{self, TextureFormat};
use lampyris::{Budget, Classifier, Error, Input, Priority, Scheduler, Tick};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::decoders::noise;
use support::host::hosts;
use support::{fixture, full_tier};

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

/// Counts the bytes that this program holds.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system's, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's block and layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn nothing_grows_with_the_frames() {
    let (warm, frames) = if full_tier() { (1000, 10_000) } else { (200, 500) };
    for host in hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let mut eyes = gpu.block_on(classifier.driven()).unwrap();
        let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let session = gpu.block_on(model.session(SessionOptions::from(96))).unwrap();
        let prompt: Vec<u32> = (0..40).map(|i| i % 61).collect();
        let mut npc = session.driven_generate(&prompt, 40, &Sampling::greedy());
        let mut scheduler = Scheduler::new();
        for priority in [Priority::FIRST, Priority::AFTER] {
            scheduler.add(priority);
        }
        let texels: Vec<u8> = (0..64 * 80 * 4).map(|p| (p % 251) as u8).collect();
        let (mut answers, mut tokens, mut before) = (0, 0, None::<(_, [usize; 3])>);
        for frame in 0.. {
            assert!(frame < 50 * (warm + frames), "{}: {answers} answers, {tokens} tokens", host.name);
            // As when a window is dragged: no texture twice.
            let size = [64, 60 + frame as u32 % 8];
            let view = host.texture(TextureFormat::Rgba8Unorm, &texels[..(size[0] * size[1] * 4) as usize], size);
            let mut encoder =
                host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("the host's frame") });
            let turn = |who: usize, part: &mut Budget| -> Result<(), Error> {
                if who == 0 {
                    match eyes.tick(&mut encoder, part)? {
                        Tick::Done(_) => answers += 1,
                        Tick::Idle => eyes.look(&mut encoder, part, Input::texture(&view))?,
                        _ => {}
                    }
                    return Ok(());
                }
                match npc.tick(&mut encoder, part)? {
                    Tick::Pieces(more) => tokens += more.len(),
                    Tick::Idle | Tick::Done(_) => npc.generate(&prompt, 40, &Sampling::greedy()),
                    _ => {}
                }
                Ok(())
            };
            scheduler.frame(&mut Budget::gpu(Duration::from_micros(500)), turn).unwrap();
            host.queue.submit([encoder.finish()]);
            gpu.pump();
            if frame % 10 == 0 {
                // A host that is held up by its display; without, frames pile up in the driver.
                gpu.block_on(gpu.idle()).unwrap();
            }
            // However many frames a busy machine draws meanwhile: what is kept for the sizes seen last is there, and both have answered since.
            match &before {
                None if frame >= warm && answers > 10 && tokens > 10 => {
                    let made = (LIVE.load(Ordering::Relaxed), host.objects(), gpu.held_bytes());
                    before = Some((made, [frame + frames, answers + 10, tokens + 10]));
                }
                Some((_, [frames, more, longer])) if frame >= *frames && answers > *more && tokens > *longer => break,
                _ => {}
            }
        }
        gpu.block_on(gpu.idle()).unwrap();
        let ((live, made, held), _) = before.unwrap();
        let now = LIVE.load(Ordering::Relaxed);
        let grown = now.saturating_sub(live);
        eprintln!("{}: {answers} answers, {tokens} tokens, {live} bytes, {grown} more", host.name);
        // What prepares the sizes of pictures that were seen last takes more or less.
        assert!(gpu.held_bytes() < held + (16 << 10), "{}: {held} bytes, and now {}", host.name, gpu.held_bytes());
        for ((what, before), (_, after)) in made.into_iter().zip(host.objects()) {
            assert!(after <= before + 2, "{}: {before} {what}, and now {after}", host.name);
        }
        assert!(grown < 64 << 10, "{}: {grown} bytes more after {frames} frames", host.name);
    }
}
