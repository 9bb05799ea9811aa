//! What a host may do to whatever is ticked, and what it must not notice of it: dropped, refused and exchanged encoders, several models
//! in one frame, textures of every size, loading. Needs no file but the fixtures.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::engine::Error as EngineError;
use lampyris::engine::kernels::Noise;
use lampyris::models::decoder::{Decoder, DrivenSession, Sampling};
use lampyris::wgpu::{self, TextureFormat};
use lampyris::{Answer, Budget, Classifier, Error, Gpu, Input, Loading, Priority, Scheduler, Tick, Watching};
use std::time::{Duration, Instant};
use support::decoders::noise;
use support::host::{Host, hosts};
use support::{fixture, full_tier};

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

const NETWORK: &str = "mobilenet_v3_small_w025";
const SIDE: u32 = 120;
const MOST_FRAMES: usize = 100_000;

fn text(tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (i * i + 3 * i) % 61).collect()
}

fn picture(seed: u32, side: u32) -> Vec<u8> {
    (0..side * side)
        .flat_map(|p| [p * 7 + seed, p * (13 + seed), p / 3 + p * seed, 255].map(|value| value as u8))
        .collect()
}

fn encoder(host: &Host) -> wgpu::CommandEncoder {
    host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("the host's frame") })
}

fn model(gpu: &Gpu) -> Decoder {
    Decoder::new(gpu, noise(CONFIG, &[], &[])).unwrap()
}

fn expected(gpu: &Gpu, model: &Decoder, prompt: &[u32], most: usize) -> Vec<u32> {
    let mut session = gpu.block_on(model.session(200)).unwrap();
    gpu.block_on(session.feed(prompt)).unwrap();
    let mut generation = session.generate(most).unwrap();
    std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect()
}

fn driven(gpu: &Gpu, model: &Decoder, prompt: &[u32], most: usize) -> DrivenSession {
    let session = gpu.block_on(model.session(200)).unwrap();
    session.driven_generate(prompt, most, &Sampling::greedy())
}

fn same(found: &Answer, expected: &Answer) -> bool {
    found.logits == expected.logits
        && found.probabilities == expected.probabilities
        && found.features == expected.features
}

/// The tokens of an answer, in frames of two milliseconds.
fn told(host: &Host, gpu: &Gpu, npc: &mut DrivenSession) -> Vec<u32> {
    let mut tokens = Vec::new();
    for _ in 0..MOST_FRAMES {
        let mut frame = encoder(host);
        let tick = npc.tick(&mut frame, &mut Budget::gpu(Duration::from_millis(2))).unwrap();
        host.queue.submit([frame.finish()]);
        gpu.pump();
        match tick {
            Tick::Pieces(more) => tokens.extend(more),
            Tick::Done(_) => return tokens,
            Tick::Working(progress) if progress.steps == 0 => std::thread::sleep(Duration::from_micros(300)),
            Tick::Working(_) => {}
            other => panic!("{other:?} on {}", host.name),
        }
    }
    panic!("no answer in {MOST_FRAMES} frames on {}", host.name);
}

/// Frames until an answer is there.
fn watched(host: &Host, gpu: &Gpu, eyes: &mut Watching, time: Duration) -> Result<Answer, Error> {
    for _ in 0..MOST_FRAMES {
        let mut frame = encoder(host);
        let tick = eyes.tick(&mut frame, &mut Budget::gpu(time))?;
        host.queue.submit([frame.finish()]);
        gpu.pump();
        match tick {
            Tick::Done(answer) => return Ok(answer),
            // Nothing can be recorded until something arrives, for which a busy machine takes its time.
            Tick::Working(progress) if progress.steps == 0 => std::thread::sleep(Duration::from_micros(300)),
            Tick::Working(_) => {}
            other => panic!("{other:?} on {}", host.name),
        }
    }
    panic!("no answer in {MOST_FRAMES} frames on {}", host.name);
}

#[test]
fn whatever_becomes_of_encoders_the_answer_is_the_same() {
    for host in hosts() {
        let gpu = host.guest();
        let (model, prompt) = (model(&gpu), text(75));
        let expected = expected(&gpu, &model, &prompt, 25);
        let (mut noise, mut lost) = (Noise::new(23), 0);
        for round in 0..if full_tier() { 10 } else { 2 } {
            let mut npc = driven(&gpu, &model, &prompt, 25);
            let (mut tokens, mut held) = (Vec::new(), Vec::<wgpu::CommandBuffer>::new());
            let mut done = false;
            for _ in 0..MOST_FRAMES {
                let mut frame = encoder(&host);
                let time = Duration::from_secs_f64(10f64.powf(-4.5 + f64::from(noise.real(-1.0, 1.5))));
                let tick = npc.tick(&mut frame, &mut Budget::gpu(time)).unwrap();
                match (noise.real(0.0, 1.0) * 30.0) as u32 {
                    // Never finished, or finished and forgotten.
                    0 => drop(frame),
                    1 => drop(frame.finish()),
                    // Two frames in the wrong order, or one much later.
                    2 | 3 => held.push(frame.finish()),
                    4 => {
                        host.queue.submit([frame.finish()]);
                        host.queue.submit(held.drain(..));
                    }
                    _ => {
                        host.queue.submit([frame.finish()]);
                        lost -= 1;
                    }
                }
                lost += 1;
                if held.len() > 2 {
                    host.queue.submit(held.drain(..).rev());
                }
                // A host that is held up by its display.
                gpu.block_on(gpu.idle()).unwrap();
                match tick {
                    Tick::Pieces(more) => tokens.extend(more),
                    // Nothing can be recorded until something arrives, for which a busy machine takes its time.
                    Tick::Working(progress) if progress.steps == 0 => std::thread::sleep(Duration::from_micros(300)),
                    Tick::Working(_) => {}
                    Tick::Done(_) => {
                        done = true;
                        break;
                    }
                    other => panic!("{other:?} on {}", host.name),
                }
            }
            assert!(done, "{}: no answer, and {lost} frames were lost", host.name);
            assert_eq!(tokens, expected, "{}: round {round}", host.name);
        }
        assert!(lost > 5, "{}: only {lost} frames were lost", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn a_refused_submit_is_made_good() {
    for host in hosts() {
        let gpu = host.guest();
        let (model, prompt) = (model(&gpu), text(75));
        let expected = expected(&gpu, &model, &prompt, 10);
        let mut npc = driven(&gpu, &model, &prompt, 10);
        let (mut tokens, mut frames) = (Vec::new(), 0);
        loop {
            let mut frame = encoder(&host);
            let tick = npc.tick(&mut frame, &mut Budget::gpu(Duration::from_micros(300))).unwrap();
            frames += 1;
            if frames == 5 {
                // The host spoils its own frame: a buffer that it writes is gone at the submit.
                let gone = host.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("gone"),
                    size: 16,
                    usage: wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                });
                frame.clear_buffer(&gone, 0, None);
                gone.destroy();
            }
            host.queue.submit([frame.finish()]);
            gpu.pump();
            match tick {
                Tick::Pieces(more) => tokens.extend(more),
                Tick::Working(_) => {
                    assert!(frames < MOST_FRAMES);
                    std::thread::sleep(Duration::from_micros(100));
                }
                Tick::Done(_) => break,
                other => panic!("{other:?} on {}", host.name),
            }
        }
        assert_eq!((tokens, host.told()), (expected, (1, 0)), "{}", host.name);
    }
}

#[test]
fn a_picture_in_pieces_is_the_picture_at_once() {
    for host in hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let mut eyes = gpu.block_on(classifier.driven()).unwrap();
        for (at, micros) in [1, 60, 400, 20_000, 1].into_iter().enumerate() {
            let time = Duration::from_micros(micros);
            // Another size each time, as when a window is dragged.
            let side = SIDE + 8 * at as u32;
            let pixels = picture(at as u32, side);
            let expected = gpu.block_on(classifier.classify(Input::rgba8(pixels.as_slice(), side, side))).unwrap();
            let view = host.texture(TextureFormat::Rgba8Unorm, &pixels, [side, side]);
            let mut frame = encoder(&host);
            let input = if at % 2 == 0 { Input::texture(&view) } else { Input::rgba8(pixels.as_slice(), side, side) };
            eyes.look(&mut frame, &mut Budget::gpu(time), input).unwrap();
            host.queue.submit([frame.finish()]);
            drop(view);
            let mut frame = encoder(&host);
            let again = eyes.look(&mut frame, &mut Budget::gpu(time), Input::rgba8(pixels.as_slice(), side, side));
            assert!(matches!(again, Err(Error::Engine(EngineError::Busy { .. }))), "{again:?}");
            // The classifier itself is used meanwhile, with another picture.
            let other = picture(99, side);
            gpu.block_on(classifier.classify(Input::rgba8(other.as_slice(), side, side))).unwrap();
            let found = watched(&host, &gpu, &mut eyes, time).unwrap();
            assert!(same(&found, &expected), "another answer on {} in pieces of {time:?}", host.name);
        }
        // An encoder that is dropped in the middle is an error of this picture, and of no other.
        let pixels = picture(3, SIDE);
        let input = || Input::rgba8(pixels.as_slice(), SIDE, SIDE);
        let expected = gpu.block_on(classifier.classify(input())).unwrap();
        let mut frame = encoder(&host);
        eyes.look(&mut frame, &mut Budget::gpu(Duration::from_micros(1)), input()).unwrap();
        drop(frame);
        let error = watched(&host, &gpu, &mut eyes, Duration::from_micros(1)).unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::Cancelled)), "{error:?}");
        let mut frame = encoder(&host);
        eyes.look(&mut frame, &mut Budget::gpu(Duration::from_micros(1)), input()).unwrap();
        host.queue.submit([frame.finish()]);
        let found = watched(&host, &gpu, &mut eyes, Duration::from_millis(1)).unwrap();
        assert!(same(&found, &expected), "another answer on {}", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn two_characters_and_a_camera_in_one_frame_are_each_as_alone() {
    for host in hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let mut eyes = gpu.block_on(classifier.driven()).unwrap();
        let model = model(&gpu);
        let prompts = [text(75), text(40).into_iter().rev().collect()];
        let expected = prompts.each_ref().map(|prompt| expected(&gpu, &model, prompt, 20));
        let pixels = picture(4, SIDE);
        let input = || Input::rgba8(pixels.as_slice(), SIDE, SIDE);
        let seen = gpu.block_on(classifier.classify(input())).unwrap();

        let mut npcs = prompts.each_ref().map(|prompt| driven(&gpu, &model, prompt, 20));
        let (mut told, mut over, mut answers) = ([Vec::new(), Vec::new()], [false; 2], 0);
        let mut scheduler = Scheduler::new();
        for priority in [Priority::FIRST, Priority::AFTER, Priority::AFTER] {
            scheduler.add(priority);
        }
        for _ in 0..MOST_FRAMES {
            let mut frame = encoder(&host);
            let turn = |who: usize, part: &mut Budget| -> Result<(), Error> {
                if who == 0 {
                    match eyes.tick(&mut frame, part)? {
                        Tick::Done(answer) => {
                            assert!(same(&answer, &seen), "another answer on {}", host.name);
                            answers += 1;
                        }
                        Tick::Idle => eyes.look(&mut frame, part, input())?,
                        _ => {}
                    }
                    return Ok(());
                }
                match npcs[who - 1].tick(&mut frame, part)? {
                    Tick::Pieces(more) => told[who - 1].extend(more),
                    Tick::Done(_) => over[who - 1] = true,
                    _ => {}
                }
                Ok(())
            };
            scheduler.frame(&mut Budget::gpu(Duration::from_millis(1)), turn).unwrap();
            host.queue.submit([frame.finish()]);
            gpu.pump();
            if over == [true; 2] && answers > 3 {
                break;
            }
        }
        assert_eq!(over, [true; 2], "{}: somebody starves", host.name);
        assert!(told == expected && answers > 3, "{}: {told:?} for {expected:?}", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn what_is_asked_meanwhile_takes_the_place_of_what_was() {
    for host in hosts() {
        let gpu = host.guest();
        let (model, prompt) = (model(&gpu), text(60));
        let other: Vec<u32> = prompt[..30].iter().copied().chain([5, 4, 3, 2, 1]).collect();
        let expected = expected(&gpu, &model, &other, 8);
        let mut npc = driven(&gpu, &model, &prompt, 8);
        let mut kept = Vec::new();
        for _ in 0..4 {
            let mut frame = encoder(&host);
            let tick = npc.tick(&mut frame, &mut Budget::gpu(Duration::from_micros(200))).unwrap();
            assert!(matches!(tick, Tick::Working(_)), "{tick:?}");
            // Submitted after the other question was asked, or never.
            kept.push(frame.finish());
        }
        npc.generate(&other, 8, &Sampling::greedy());
        let mut frame = encoder(&host);
        let tick = npc.tick(&mut frame, &mut Budget::gpu(Duration::from_millis(2))).unwrap();
        assert!(matches!(tick, Tick::Working(progress) if progress.steps == 0), "{tick:?}: it could still come");
        let npc = npc.into_session().map(|_| ()).unwrap_err();
        let mut npc = *npc;
        npc.generate(&other, 8, &Sampling::greedy());
        host.queue.submit(kept);
        gpu.block_on(gpu.idle()).unwrap();
        assert_eq!(told(&host, &gpu, &mut npc), expected, "{}", host.name);
        let error = {
            npc.generate(&[1000], 8, &Sampling::greedy());
            npc.tick(&mut encoder(&host), &mut Budget::gpu(Duration::from_millis(2))).unwrap_err()
        };
        assert!(matches!(error, Error::Token { token: 1000, .. }), "{error:?}");
        let idle = npc.tick(&mut encoder(&host), &mut Budget::gpu(Duration::from_millis(2))).unwrap();
        assert_eq!(idle, Tick::Idle);
    }
}

#[test]
fn a_model_is_loaded_in_the_gaps() {
    for host in hosts() {
        let (gpu, other) = (host.guest(), host.guest());
        let expected = expected(&other, &model(&other), &text(20), 5);
        let to = gpu.clone();
        let mut loading = Loading::new(&gpu, async move {
            let model = model(&to);
            model.load(|_, _| ()).await?;
            let session = model.session(200).await?;
            Ok((model, session))
        });
        let (mut ticks, mut most, [mut told_of, mut all]) = (0, Duration::ZERO, [Duration::ZERO; 2]);
        let (model, _session) = loop {
            let (mut budget, began) = (Budget::gpu(Duration::from_micros(20)), Instant::now());
            let tick = loading.load(&mut budget).unwrap();
            let took = began.elapsed();
            assert!(budget.loading() <= took, "{}: {:?} of {took:?}", host.name, budget.loading());
            (told_of, all) = (told_of + budget.loading(), all + took);
            host.queue.submit([]);
            gpu.pump();
            (ticks, most) = (ticks + 1, most.max(budget.used()));
            match tick {
                Tick::Done(loaded) => break loaded,
                _ => assert!(ticks < MOST_FRAMES, "{}", host.name),
            }
        };
        // A pipeline a tick at most, and no upload beyond a piece.
        assert!(ticks > 8 && most < Duration::from_micros(120), "{}: {ticks} ticks, {most:?}", host.name);
        assert!(2 * told_of > all, "{}: told of {told_of:?} of the {all:?} that loading took", host.name);
        let mut npc = driven(&gpu, &model, &text(20), 5);
        assert_eq!(told(&host, &gpu, &mut npc), expected, "{}", host.name);

        let third = host.guest();
        let jobs = self::model(&third).warm_jobs(200).unwrap();
        assert!(jobs.len() > 5, "{}: {jobs:?}", host.name);
        std::thread::scope(|scope| jobs.into_iter().for_each(|job| drop(scope.spawn(|| job.run()))));
        let left = self::model(&third).warm_jobs(200).unwrap();
        assert!(left.is_empty(), "{}: {left:?}", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}
