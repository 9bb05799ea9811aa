//! What a host may do to whatever is ticked, and what it must not notice of it: dropped, refused and exchanged encoders, several models
//! in one frame, textures of every size, loading. Needs no file but the fixtures.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::host::{Host, hosts};
use crate::support::{fixture, full_tier};
use crate::ticks::{cache_of, encoder, settled, text, uncut};
use lampyris::engine::Error as EngineError;
use lampyris::engine::kernels::Noise;
use lampyris::models::decoder::{Decoder, DrivenSession, Sampling};
use lampyris::wgpu::{self, TextureFormat};
use lampyris::{
    Answer, Area, Budget, Classifier, Encoder, Error, Gpu, Input, Loading, Priority, Scheduler, Tick, Watching,
};
use std::time::{Duration, Instant};

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

const NETWORK: &str = "mobilenet_v3_small_w025";
const SIDE: u32 = 120;
const MOST_FRAMES: usize = 100_000;
/// What a tick that loads counts for the piece that an untouched budget always pays for, and a nanosecond of rounding.
const PIECE: Duration = Duration::from_nanos(65_537);

fn picture(seed: u32, side: u32) -> Vec<u8> {
    (0..side * side)
        .flat_map(|p| [p * 7 + seed, p * (13 + seed), p / 3 + p * seed, 255].map(|value| value as u8))
        .collect()
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
        let tick = eyes.tick(&mut frame, &mut Budget::gpu(time));
        // Whatever it says, the frame is the host's to submit.
        host.queue.submit([frame.finish()]);
        gpu.pump();
        match tick? {
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
            for number in 0..MOST_FRAMES {
                let mut frame = encoder(&host);
                let time = Duration::from_secs_f64(10f64.powf(-4.5 + f64::from(noise.real(-1.0, 1.5))));
                let tick = npc.tick(&mut frame, &mut Budget::gpu(time)).unwrap();
                // On a slow device a run takes more frames than come in a row without one that is lost, so later on those are rare, and what was held
                // back is let go.
                let most = if number < 300 { 30.0 } else { 3000.0 };
                if number == 300 {
                    host.queue.submit(held.drain(..));
                }
                match (noise.real(0.0, 1.0) * most) as u32 {
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
                host.spoil(&mut frame);
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
            host.queue.submit([frame.finish()]);
            // The classifier itself is used meanwhile, with another picture.
            let other = picture(99, side);
            gpu.block_on(classifier.classify(Input::rgba8(other.as_slice(), side, side))).unwrap();
            let found = watched(&host, &gpu, &mut eyes, time).unwrap();
            assert!(same(&found, &expected), "another answer on {} in pieces of {time:?}", host.name);
        }
        let pixels = picture(3, SIDE);
        let input = || Input::rgba8(pixels.as_slice(), SIDE, SIDE);
        let expected = gpu.block_on(classifier.classify(input())).unwrap();
        // In finer pieces it is that, too. A budget of nothing pays for one at a time, for those that run together are one dispatch.
        let dispatched = |eyes: &mut Watching| {
            let before = gpu.counts().dispatches;
            let mut frame = encoder(&host);
            eyes.look(&mut frame, &mut Budget::gpu(Duration::ZERO), input()).unwrap();
            host.queue.submit([frame.finish()]);
            let found = watched(&host, &gpu, eyes, Duration::ZERO).unwrap();
            assert!(same(&found, &expected), "another answer on {}", host.name);
            gpu.counts().dispatches - before
        };
        let coarse = dispatched(&mut eyes);
        let mut eyes = gpu.block_on(eyes.finest(Duration::from_nanos(1))).unwrap();
        let fine = dispatched(&mut eyes);
        assert!(fine > coarse, "{fine} pieces of a nanosecond and {coarse} of 200 on {}", host.name);
        // An encoder that is dropped in the middle is an error of this picture, and of no other.
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
        let greedy = Sampling::greedy();
        let expected = prompts.each_ref().map(|prompt| uncut(&gpu, &model, 200.into(), (prompt, 20, &greedy)));
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
            // Frames that follow one another at once outrun a software adapter on a busy machine.
            std::thread::sleep(Duration::from_micros(300));
            if over == [true; 2] && answers > 3 {
                break;
            }
        }
        assert_eq!(over, [true; 2], "{}: somebody starves", host.name);
        assert!(answers > 3, "{}: {answers} pictures", host.name);
        for ((told, npc), (tokens, cache)) in told.iter().zip(npcs).zip(&expected) {
            assert_eq!(told, tokens, "{}", host.name);
            let session = settled(&host, &gpu, npc);
            assert!(cache_of(&gpu.block_on(session.save()).unwrap()) == *cache, "{}: another cache", host.name);
        }
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
        host.queue.submit([frame.finish()]);
        let npc = npc.into_session().map(|_| ()).unwrap_err();
        let mut npc = *npc;
        npc.generate(&other, 8, &Sampling::greedy());
        host.queue.submit(kept);
        gpu.block_on(gpu.idle()).unwrap();
        assert_eq!(told(&host, &gpu, &mut npc), expected, "{}", host.name);
        npc.generate(&[1000], 8, &Sampling::greedy());
        let mut frames = [encoder(&host), encoder(&host)];
        let [error, idle] = frames.each_mut().map(|it| npc.tick(it, &mut Budget::gpu(Duration::from_millis(2))));
        assert!(matches!(error, Err(Error::Token { token: 1000, .. })), "{error:?}");
        assert_eq!(idle.unwrap(), Tick::Idle);
        host.queue.submit(frames.map(wgpu::CommandEncoder::finish));
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// What `loading` loads by ticks of twenty microseconds, and how many they are. None compiles more than one pipeline or uploads more than a piece.
fn in_the_gaps<T>(host: &Host, gpu: &Gpu, mut loading: Loading<T>) -> (T, usize) {
    let pipelines = || host.objects().into_iter().find(|(what, _)| *what == "pipelines").unwrap().1;
    let (mut ticks, mut compiled, [mut told_of, mut all]) = (0, 0, [Duration::ZERO; 2]);
    loop {
        let (there, mut budget, began) = (pipelines(), Budget::gpu(Duration::from_micros(20)), Instant::now());
        let tick = loading.load(&mut budget).unwrap();
        let (took, new) = (began.elapsed(), pipelines() - there);
        assert!(new <= 1, "{}: {new} pipelines in tick {ticks}", host.name);
        assert!(budget.used() <= PIECE, "{}: {:?} in tick {ticks}", host.name, budget.used());
        assert!(budget.loading() <= took, "{}: {:?} of {took:?}", host.name, budget.loading());
        (told_of, all) = (told_of + budget.loading(), all + took);
        host.queue.submit([]);
        gpu.pump();
        (ticks, compiled) = (ticks + 1, compiled + new);
        match tick {
            Tick::Done(loaded) => {
                assert!(compiled > 5 && ticks > compiled, "{}: {compiled} pipelines in {ticks} ticks", host.name);
                assert!(2 * told_of > all, "{}: told of {told_of:?} of the {all:?} that loading took", host.name);
                eprintln!("{}: {compiled} pipelines in {ticks} ticks", host.name);
                return (loaded, ticks);
            }
            _ => assert!(ticks < MOST_FRAMES, "{}", host.name),
        }
    }
}

#[test]
fn models_are_loaded_in_the_gaps() {
    let texts = tempfile::tempdir().unwrap();
    crate::bert::write(texts.path());
    for host in hosts() {
        let (gpu, other) = (host.guest(), host.guest());
        let expected = expected(&other, &model(&other), &text(20), 5);
        let to = gpu.clone();
        let loading = Loading::new(async move {
            let model = model(&to);
            model.load(|_, _| ()).await?;
            let session = model.session(200).await?;
            Ok((model, session))
        });
        let ((model, _session), _) = in_the_gaps(&host, &gpu, loading);
        let mut npc = driven(&gpu, &model, &text(20), 5);
        assert_eq!(told(&host, &gpu, &mut npc), expected, "{}", host.name);

        // A classifier with what one kind of pictures needs, and a sentence encoder, each on a handle that has compiled nothing.
        let pixels = picture(4, SIDE);
        let classifier = other.block_on(Classifier::load(&other, &fixture(NETWORK))).unwrap();
        let seen = other.block_on(classifier.classify(Input::rgba8(pixels.as_slice(), SIDE, SIDE))).unwrap();
        let (gpu, view) = (host.guest(), host.texture(TextureFormat::Rgba8Unorm, &pixels, [SIDE, SIDE]));
        let (to, like) = (gpu.clone(), view.clone());
        let loading = Loading::new(async move {
            let mut eyes = Classifier::load(&to, fixture(NETWORK)).await?.driven().await?;
            eyes.ready(Input::texture(&like)).await?;
            Ok(eyes)
        });
        let (mut eyes, _) = in_the_gaps(&host, &gpu, loading);
        let mut frame = encoder(&host);
        eyes.look(&mut frame, &mut Budget::gpu(Duration::from_micros(20)), Input::texture(&view)).unwrap();
        host.queue.submit([frame.finish()]);
        let found = watched(&host, &gpu, &mut eyes, Duration::from_millis(1)).unwrap();
        assert!(same(&found, &seen), "another answer on {}", host.name);

        let vector = other.block_on(Encoder::load(&other, texts.path())).unwrap();
        let vector = other.block_on(vector.embed(["a cat"])).unwrap();
        let (gpu, folder) = (host.guest(), texts.path().to_owned());
        let to = gpu.clone();
        let loading = Loading::new(async move {
            let lore = Encoder::load(&to, folder).await?;
            lore.network().ready(8).await?;
            Ok(lore)
        });
        let (lore, _) = in_the_gaps(&host, &gpu, loading);
        assert_eq!(gpu.block_on(lore.embed(["a cat"])).unwrap(), vector, "{}", host.name);

        let third = host.guest();
        let jobs = self::model(&third).warm_jobs(200).unwrap();
        assert!(jobs.len() > 5, "{}: {jobs:?}", host.name);
        std::thread::scope(|scope| jobs.into_iter().for_each(|job| drop(scope.spawn(|| job.run()))));
        let left = self::model(&third).warm_jobs(200).unwrap();
        assert!(left.is_empty(), "{}: {left:?}", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// Pictures and prompts that are refused, in a frame with commands of the host's own and a picture that is not.
#[test]
fn what_is_refused_does_not_spoil_the_frame() {
    let (plain, small) = (wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST, Duration::from_micros(60));
    for host in hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let mut eyes = gpu.block_on(classifier.driven()).unwrap();
        let pixels = picture(4, SIDE);
        let expected = gpu.block_on(classifier.classify(Input::rgba8(pixels.as_slice(), SIDE, SIDE))).unwrap();
        let buffer = |host: &Host, usage| {
            let (label, size) = (Some("the host's picture"), pixels.len() as u64);
            host.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
        };
        let (copied, stranger) = (plain | wgpu::BufferUsages::COPY_SRC, host.another());
        let [closed, open, foreign] = [buffer(&host, plain), buffer(&host, copied), buffer(&stranger, copied)];
        let own = host.texture(TextureFormat::Rgba8Unorm, &pixels, [SIDE, SIDE]);
        let [gone, strange] = [&host, &stranger].map(|it| it.texture(TextureFormat::Rgba8Unorm, &pixels, [SIDE, SIDE]));
        gone.texture().destroy();
        let numbers = host.texture(TextureFormat::Rgba8Uint, &pixels, [SIDE, SIDE]);
        let wrong: [(&str, Input<'_>); 9] = [
            ("too few bytes", Input::rgba8(&pixels[4..], SIDE, SIDE)),
            ("a part outside", Input::texture(&own).crop(Area { x: SIDE, y: 0, width: 1, height: 1 })),
            ("a texture of whole numbers", Input::texture(&numbers)),
            ("a texture of another device", Input::texture(&strange)),
            ("a texture that was destroyed", Input::texture(&gone)),
            ("a buffer of another device", Input::rgba8_buffer(&foreign, 0, SIDE, SIDE)),
            ("a buffer that cannot be copied", Input::rgba8_buffer(&closed, 0, SIDE, SIDE)),
            ("a buffer that ends too early", Input::rgba8_buffer(&open, 4, SIDE, SIDE)),
            ("a place that is not even", Input::rgba8_buffer(&open, 2, SIDE, SIDE)),
        ];
        let model = model(&gpu);
        let mut npc = gpu.block_on(model.session(30)).unwrap().driven();
        let asked: [(&str, Vec<u32>, Sampling); 3] = [
            ("an unknown token", vec![3, 1000], Sampling::greedy()),
            ("more than the context", text(40), Sampling::greedy()),
            ("a temperature below nothing", text(4), Sampling::at(-1.0)),
        ];
        // Everything in one frame, and each in a frame of its own.
        let budget = || Budget::gpu(small);
        let submit = |mut frame: wgpu::CommandEncoder, what: &str| {
            frame.copy_buffer_to_buffer(&open, 0, &closed, 0, 64);
            host.queue.submit([frame.finish()]);
            gpu.block_on(gpu.idle()).unwrap();
            assert_eq!(host.told(), (0, 0), "{}: the host heard of {what}", host.name);
        };
        let mut together = encoder(&host);
        for (what, input) in wrong {
            let mut alone = encoder(&host);
            for frame in [&mut alone, &mut together] {
                frame.clear_buffer(&closed, 0, None);
                let refused = eyes.look(frame, &mut budget(), input.clone());
                assert!(refused.is_err(), "{}: {what} is looked at", host.name);
            }
            submit(alone, what);
        }
        for (what, tokens, how) in asked {
            let mut alone = encoder(&host);
            for frame in [&mut alone, &mut together] {
                npc.generate(&tokens, 4, &how);
                let refused = npc.tick(frame, &mut budget());
                assert!(refused.is_err(), "{}: {what} is answered: {refused:?}", host.name);
            }
            submit(alone, what);
        }
        eyes.look(&mut together, &mut budget(), Input::texture(&own)).unwrap();
        let busy = eyes.look(&mut together, &mut budget(), Input::texture(&own)).unwrap_err();
        assert!(matches!(busy, Error::Engine(EngineError::Busy { .. })), "{busy:?}");
        submit(together, "all of them");
        let found = watched(&host, &gpu, &mut eyes, Duration::from_millis(1)).unwrap();
        assert!(same(&found, &expected), "another answer on {}", host.name);
        npc.generate(&text(20), 4, &Sampling::greedy());
        assert_eq!(told(&host, &gpu, &mut npc), self::expected(&gpu, &model, &text(20), 4), "{}", host.name);
        assert_eq!((host.told(), stranger.told()), ((0, 0), (0, 0)), "{}: somebody heard of it", host.name);
    }
}
