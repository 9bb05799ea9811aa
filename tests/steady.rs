//! Ten thousand frames with a camera, characters, recorded runs and textures of changing size: nothing grows, neither memory nor objects of the
//! GPU nor open descriptors.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![allow(unsafe_code, reason = "an allocator that counts is one")]

#[path = "support/bert.rs"]
mod bert;
mod support;

use lampyris::engine::Error as EngineError;
use lampyris::models::decoder::{Decoder, Sampling, Session, SessionOptions};
use lampyris::models::encoder::Embedding;
use lampyris::models::record::Seen;
use lampyris::wgpu::{self, TextureFormat};
use lampyris::{Budget, Classifier, Encoder, Error, Input, Priority, Scheduler, TextModel, Tick};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::decoders::noise;
use support::host::hosts;
use support::{fixture, full_tier};

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

/// Resident bytes that may come with the frames: drivers keep some of what they were given.
const RESIDENT: usize = 8 << 20;

/// Bytes of the heap that may come with the frames.
const GROWN: usize = 64 << 10;

/// Bytes that came with the last of these rounds.
fn grown(live: &[usize]) -> usize {
    let [.., before, now] = live else { return 0 };
    now.saturating_sub(*before)
}

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

/// Open descriptors of this program, and its resident bytes. Nothing where the system does not tell as Linux does.
fn system() -> [usize; 2] {
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    [descriptors, resident.unwrap_or(0) << 10]
}

/// What was given in the frames so far: pictures and tokens that were ticked, pieces of a text, and pictures, tokens and vectors that were recorded.
type Given = [usize; 6];

/// Runs that are recorded whole, one in every fourth frame.
struct Recorded {
    classifier: Classifier,
    lore: Encoder,
    session: Session,
    looks: Vec<Seen>,
    vectors: Vec<Embedding>,
}

impl Recorded {
    fn frame(
        &mut self,
        frame: usize,
        encoder: &mut wgpu::CommandEncoder,
        dragged: impl Fn(usize) -> wgpu::TextureView,
        given: &mut Given,
    ) {
        self.looks.retain_mut(|it| it.try_take().unwrap().map(|_| given[3] += 1).is_none());
        self.vectors.retain_mut(|it| it.try_take().unwrap().map(|_| given[5] += 1).is_none());
        given[4] += usize::from(self.session.try_step().unwrap().is_some());
        match frame % 16 {
            0 if self.looks.len() < 4 => {
                let view = dragged(given[3] + self.looks.len());
                self.looks.push(self.classifier.record(encoder, Input::texture(&view)).unwrap());
            }
            4 if self.vectors.len() < 4 => {
                // Of two lengths.
                let text = ["a cat", "the house on the roof"][frame / 16 % 2];
                self.vectors.push(self.lore.record(encoder, text).unwrap());
            }
            8 => {
                if self.session.tokens().len() + 1 >= self.session.context() {
                    self.session.rewind(5);
                }
                match self.session.record_step(encoder, &Sampling::greedy()) {
                    Ok(_) | Err(Error::Engine(EngineError::Busy { .. })) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            _ => {}
        }
    }
}

#[test]
fn nothing_grows_with_the_frames() {
    let (warm, frames) = if full_tier() { (1000, 10_000) } else { (200, 500) };
    let texts = tempfile::tempdir().unwrap();
    bert::write(texts.path());
    for host in hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let mut eyes = gpu.block_on(classifier.driven()).unwrap();
        let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let session = gpu.block_on(model.session(SessionOptions::from(96))).unwrap();
        let prompt: Vec<u32> = (0..40).map(|i| i % 61).collect();
        let mut npc = session.driven_generate(&prompt, 40, &Sampling::greedy());
        let teller = gpu.block_on(TextModel::bundled(&gpu).unwrap().session(60)).unwrap();
        let mut teller = teller.driven_generate("Once upon a time", 20);
        let lore = gpu.block_on(Encoder::load(&gpu, texts.path())).unwrap();
        let mut session = gpu.block_on(model.session(SessionOptions::from(60))).unwrap();
        gpu.block_on(session.feed(&prompt)).unwrap();
        gpu.block_on(session.ready_to_step(&Sampling::greedy())).unwrap();
        let (looks, vectors) = Default::default();
        let mut recorded = Recorded { classifier, lore, session, looks, vectors };
        let mut scheduler = Scheduler::new();
        for priority in [Priority::FIRST, Priority::AFTER, Priority::AFTER] {
            scheduler.add(priority);
        }
        let texels: Vec<u8> = (0..64 * 80 * 4).map(|p| (p % 251) as u8).collect();
        // As when a window is dragged: no texture twice, and no picture of the size of the one before it.
        let dragged = |picture: usize| {
            let size = [64, 60 + picture as u32 % 8];
            host.texture(TextureFormat::Rgba8Unorm, &texels[..(size[0] * size[1] * 4) as usize], size)
        };
        let (mut given, mut before): (Given, _) = ([0; 6], None::<(_, usize, Given)>);
        // Heap bytes at the beginning of the frames and after each round of them.
        let mut live = Vec::with_capacity(3);
        for frame in 0.. {
            assert!(frame < 50 * (warm + 2 * frames), "{}: {given:?}", host.name);
            let mut encoder =
                host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("the host's frame") });
            let turn = |who: usize, part: &mut Budget| -> Result<(), Error> {
                match who {
                    0 => match eyes.tick(&mut encoder, part)? {
                        Tick::Done(_) => given[0] += 1,
                        Tick::Idle => eyes.look(&mut encoder, part, Input::texture(&dragged(given[0])))?,
                        _ => {}
                    },
                    1 => match npc.tick(&mut encoder, part)? {
                        Tick::Pieces(more) => given[1] += more.len(),
                        Tick::Idle | Tick::Done(_) => npc.generate(&prompt, 40, &Sampling::greedy()),
                        _ => {}
                    },
                    _ => match teller.tick(&mut encoder, part)? {
                        Tick::Pieces(_) => given[2] += 1,
                        Tick::Idle | Tick::Done(_) => teller.generate("Once upon a time", 20),
                        _ => {}
                    },
                }
                Ok(())
            };
            scheduler.frame(&mut Budget::gpu(Duration::from_micros(500)), turn).unwrap();
            recorded.frame(frame, &mut encoder, dragged, &mut given);
            host.queue.submit([encoder.finish()]);
            gpu.pump();
            if frame % 10 == 0 {
                // A host that is held up by its display; without, frames pile up in the driver.
                gpu.block_on(gpu.idle()).unwrap();
            }
            // However many frames a busy machine draws meanwhile: what is kept for the sizes seen last is there, and all have answered since.
            let all = |least: &Given| given.iter().zip(least).all(|(found, least)| found > least);
            match &mut before {
                None if frame >= warm && all(&[10; 6]) => {
                    gpu.block_on(gpu.idle()).unwrap();
                    let made = (host.objects(), gpu.held_bytes(), system());
                    live.push(LIVE.load(Ordering::Relaxed));
                    before = Some((made, frame + frames, given.map(|count| count + 10)));
                }
                Some((_, last, least)) if frame >= *last && all(least) => {
                    gpu.block_on(gpu.idle()).unwrap();
                    live.push(LIVE.load(Ordering::Relaxed));
                    // A table of the driver's allocator that has doubled does so once; what grows does in the second round too.
                    if live.len() == 3 || grown(&live) < GROWN {
                        break;
                    }
                    (*last, *least) = (frame + frames, given.map(|count| count + 10));
                }
                _ => {}
            }
        }
        let ((made, held, [files, resident]), ..) = before.unwrap();
        let [files_now, resident_now] = system();
        let more = resident_now.saturating_sub(resident);
        eprintln!("{}: {given:?}, {live:?} bytes, {files} descriptors, {more} resident bytes more", host.name);
        // What prepares a size of pictures that was seen last takes more or less than that of another.
        assert!(gpu.held_bytes() < held + (16 << 10), "{}: {held} bytes, and now {}", host.name, gpu.held_bytes());
        for ((what, before), (_, after)) in made.into_iter().zip(host.objects()) {
            assert!(after <= before + 2, "{}: {before} {what}, and now {after}", host.name);
        }
        assert!(grown(&live) < GROWN, "{}: {live:?} bytes, {frames} frames between each", host.name);
        let all = live.last().unwrap().saturating_sub(live[0]);
        assert!(all < 3 * GROWN, "{}: {all} bytes more, which is more than a table that doubles", host.name);
        assert!(files_now <= files, "{}: {files} descriptors, and now {files_now}", host.name);
        assert!(more < RESIDENT, "{}: {more} resident bytes more after {frames} frames", host.name);
    }
}
