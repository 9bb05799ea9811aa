//! A device without memory, at each moment at which any is asked for: every allocation of loading, running, recording, forking and reading
//! fails once in turn. Each is a typed error; nothing stays behind, everything else goes on, and the next run is right.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

#[path = "support/bert.rs"]
mod bert;
mod support;

use lampyris::engine::Error as EngineError;
use lampyris::models::decoder::{Decoder, SessionOptions};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, TokenEncoder};
use lampyris::wgpu;
use lampyris::{Budget, Classifier, Error, Gpu, Input, Result, Sampling, Tick};
use std::time::Duration;
use support::decoders::noise;
use support::host::{Host, hosts};
use support::{fixture, full_tier};

const NETWORK: &str = "mobilenet_v3_small_w025";
const SIDE: u32 = 64;
const DECODER: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 61, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

fn picture(seed: u32) -> Vec<u8> {
    (0..SIDE * SIDE * 4).map(|i| (i * (5 + seed) + i / 300) as u8).collect()
}

/// The bits of what a whole life of some models gives.
type Life = fn(&Host, &Gpu) -> Result<Vec<u32>>;

fn bits(values: &[f32]) -> impl Iterator<Item = u32> {
    values.iter().map(|value| value.to_bits())
}

/// Loads a classifier; classifies one picture, two, a texture, and one in a host's frame.
fn classifying(host: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
    let classifier = gpu.block_on(Classifier::load(gpu, &fixture(NETWORK)))?;
    let [first, second] = [0, 1].map(picture);
    let of = |bytes: &[u8]| Input::rgba8(bytes.to_vec(), SIDE, SIDE);
    let mut all: Vec<u32> = bits(&gpu.block_on(classifier.classify(of(&first)))?.logits).collect();
    for answer in gpu.block_on(classifier.classify_batch(&[of(&second), of(&first)]))? {
        all.extend(bits(&answer.logits));
    }
    let view = host.texture(wgpu::TextureFormat::Rgba8Unorm, &first, [SIDE, SIDE]);
    all.extend(bits(&gpu.block_on(classifier.classify(&view))?.logits));
    let mut frame = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let recorded = classifier.record(&mut frame, of(&second));
    // The host's frame goes on whatever becomes of ours.
    host.queue.submit([frame.finish()]);
    all.extend(bits(&gpu.block_on(recorded?.wait())?.logits));
    Ok(all)
}

/// Loads a decoder; reads a prompt, writes in both ways, forks, looks at logits and saves.
fn writing(_: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
    let decoder = Decoder::new(gpu, noise(DECODER, &[], &[]))?;
    let mut session = gpu.block_on(decoder.session(SessionOptions::from(120)))?;
    gpu.block_on(session.feed(&(0..50).map(|i| i * i % 61).collect::<Vec<u32>>()))?;
    let mut fork = gpu.block_on(session.fork())?;
    for (session, sampling) in [(&mut session, Sampling::greedy()), (&mut fork, Sampling::at(0.9).seed(3))] {
        let mut generation = session.sample(6, &sampling)?;
        while gpu.block_on(generation.next())?.is_some() {}
    }
    let mut all = [session.tokens(), fork.tokens()].concat();
    all.extend(bits(&gpu.block_on(fork.logits_from(40))?));
    all.extend(gpu.block_on(session.save())?.iter().map(|byte| u32::from(*byte)).rev().take(1000));
    Ok(all)
}

/// Loads an encoder and makes vectors of two sizes of runs.
fn embedding(_: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
    let folder = tempfile::tempdir().unwrap();
    bert::write(folder.path());
    let files = EncoderFiles::open(folder.path())?;
    let encoder = TokenEncoder::new(gpu, files, EncoderOptions::default())?;
    gpu.block_on(encoder.load(|_, _| ()))?;
    let vectors = gpu.block_on(encoder.embed(&[vec![2, 7, 9, 3], (2..18).collect()]))?;
    Ok(vectors.iter().flat_map(|vector| bits(vector)).collect())
}

/// Ticks a session and a classifier, and records a token and a vector, in a host's frames.
fn as_guests(host: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
    let frame = || host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let decoder = Decoder::new(gpu, noise(DECODER, &[], &[]))?;
    let mut eyes = gpu.block_on(gpu.block_on(Classifier::load(gpu, &fixture(NETWORK)))?.driven())?;
    let view = host.texture(wgpu::TextureFormat::Rgba8Unorm, &picture(1), [SIDE, SIDE]);
    let session = gpu.block_on(decoder.session(SessionOptions::from(120)))?;
    // Every matrix in as many pieces as it has workgroups, whatever is known of their times.
    let mut driven = session.driven().finest(Duration::from_nanos(1));
    driven.generate(&(0..40).map(|i| i * i % 61).collect::<Vec<u32>>(), 4, &Sampling::at(0.9).seed(3));
    let mut first = frame();
    let looked = eyes.look(&mut first, &mut Budget::gpu(Duration::from_millis(1)), &view);
    host.queue.submit([first.finish()]);
    looked?;
    let (mut all, mut logits, mut told) = (Vec::new(), Vec::new(), false);
    for frames in 0.. {
        if told && !logits.is_empty() {
            break;
        }
        assert!(frames < 100_000, "no answer on {}", host.name);
        let (mut encoder, mut budget) = (frame(), Budget::gpu(Duration::from_millis(2)));
        let talked = driven.tick(&mut encoder, &mut budget);
        let looked = eyes.tick(&mut encoder, &mut budget);
        host.queue.submit([encoder.finish()]);
        gpu.block_on(gpu.idle())?;
        match talked? {
            Tick::Pieces(tokens) => all.extend(tokens),
            Tick::Done(_) => told = true,
            _ => {}
        }
        if let Tick::Done(answer) = looked? {
            logits.extend(bits(&answer.logits));
        }
    }
    all.extend(logits);
    let folder = tempfile::tempdir().unwrap();
    bert::write(folder.path());
    let encoder = TokenEncoder::new(gpu, EncoderFiles::open(folder.path())?, EncoderOptions::default())?;
    let mut session = gpu.block_on(decoder.session(SessionOptions::from(120)))?;
    gpu.block_on(session.feed(&[5, 9, 30, 7]))?;
    let mut commands = frame();
    let (vector, token) =
        (encoder.record(&mut commands, &[2, 7, 9, 3]), session.record_step(&mut commands, &Sampling::greedy()));
    host.queue.submit([commands.finish()]);
    all.extend(bits(&gpu.block_on(vector?.wait())?));
    token?;
    all.extend(gpu.block_on(session.step_token())?);
    Ok(all)
}

/// Bytes that the driver's allocator has given out, where wgpu keeps such a book.
fn allocated(host: &Host) -> Option<u64> {
    host.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    host.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
}

#[test]
fn every_allocation_in_turn() {
    for host in hosts() {
        let gpu = host.guest();
        let bystander = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let look = || gpu.block_on(bystander.classify(Input::rgba8(picture(7), SIDE, SIDE))).unwrap().logits;
        let seen = look();
        let lives: [(&str, Life); 4] =
            [("classifying", classifying), ("writing", writing), ("embedding", embedding), ("as guests", as_guests)];
        for (name, life) in lives {
            let what = format!("{name} on {}", host.name);
            // Once for what is compiled and stays.
            let expected = life(&host, &gpu).unwrap();
            let (held, taken, before) = (gpu.held_bytes(), allocated(&host), gpu.allocations());
            let objects = host.objects();
            assert!(life(&host, &gpu).unwrap() == expected, "{what}");
            let count = gpu.allocations() - before;
            assert!(count > 20, "{what}: only {count} allocations");
            let step = if full_tier() { 1 } else { 1 + count / 40 };
            let mut fewer = 0;
            for refused in (0..count).step_by(step as usize) {
                let began = gpu.allocations();
                gpu.refuse_allocation(refused);
                let found = life(&host, &gpu).map(|_| ());
                if gpu.allocations() - began <= refused {
                    // A step that took less time than before is cut in fewer pieces.
                    found.unwrap();
                    gpu.refuse_allocation(u64::MAX / 2);
                    fewer += 1;
                    continue;
                }
                let typed = matches!(found, Err(Error::Engine(EngineError::OutOfMemory { .. })));
                assert!(typed, "{what}: without allocation {refused} of {count}: {found:?}");
                // What was recorded beside it holds its places until the device is done.
                host.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
                assert_eq!(gpu.held_bytes(), held, "{what}: allocation {refused} of {count} leaves something behind");
                if refused % (8 * step) == 0 {
                    assert_eq!(look(), seen, "{what}: a model beside it, without allocation {refused}");
                }
            }
            assert!(10 * fewer <= count / step, "{what}: {fewer} of {count} were not asked for");
            assert!(life(&host, &gpu).unwrap() == expected, "{what}: the run after {count} refusals");
            assert_eq!(gpu.held_bytes(), held, "{what}");
            assert_eq!(allocated(&host), taken, "{what}: the driver's bytes");
            assert_eq!(host.objects(), objects, "{what}: objects of wgpu");
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// A session, an encoder and a classifier of which one call fails go on as if it had not been made.
#[test]
fn what_is_loaded_goes_on_after_a_refusal() {
    for host in hosts() {
        let gpu = host.guest();
        let decoder = Decoder::new(&gpu, noise(DECODER, &[], &[])).unwrap();
        let run = |refused: Option<u64>| -> (u64, Vec<u32>) {
            let mut session = gpu.block_on(decoder.session(SessionOptions::from(120))).unwrap();
            let before = gpu.allocations();
            if let Some(refused) = refused {
                gpu.refuse_allocation(refused);
            }
            let failed = gpu.block_on(session.feed(&(0..50).map(|i| i * i % 61).collect::<Vec<u32>>())).is_err();
            let mut generation = session.sample(12, &Sampling::at(0.9).seed(3)).unwrap();
            let (mut tokens, mut failures) = (Vec::new(), u32::from(failed));
            loop {
                match gpu.block_on(generation.next()) {
                    Ok(Some(token)) => tokens.push(token),
                    Ok(None) => break,
                    Err(Error::Engine(EngineError::OutOfMemory { .. })) => failures += 1,
                    Err(other) => panic!("{}: {other:?}", host.name),
                }
            }
            assert_eq!(failures, u32::from(refused.is_some()), "{}: {refused:?}", host.name);
            (gpu.allocations() - before, tokens)
        };
        let _ = run(None);
        let (count, expected) = run(None);
        assert!(count > 0, "{}: nothing is allocated", host.name);
        for refused in 0..count {
            assert_eq!(run(Some(refused)).1, expected, "{}: without allocation {refused} of {count}", host.name);
        }
    }
}
