//! Whole lives of models, from their files to what they give: what is done again and again with one thing going wrong.

#![allow(unreachable_pub, reason = "each test is a crate of its own")]
#![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

use crate::bert;
use crate::support::decoders::noise;
use crate::support::fixture;
use crate::support::host::Host;
use lampyris::models::Loading;
use lampyris::models::decoder::{Decoder, SessionOptions};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, TokenEncoder};
use lampyris::wgpu;
use lampyris::{Budget, Classifier, Gpu, Input, Result, Sampling, TextModel, Tick};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub const NETWORK: &str = "mobilenet_v3_small_w025";
pub const SIDE: u32 = 64;
pub const DECODER: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 61, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

pub fn picture(seed: u32) -> Vec<u8> {
    (0..SIDE * SIDE * 4).map(|i| (i * (5 + seed) + i / 300) as u8).collect()
}

/// The bits of what a whole life of some models gives.
pub type Life = fn(&Host, &Gpu) -> Result<Vec<u32>>;

pub fn bits(values: &[f32]) -> impl Iterator<Item = u32> {
    values.iter().map(|value| value.to_bits())
}

/// Loads a classifier; classifies one picture, two, a texture, and one in a host's frame.
pub fn classifying(host: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
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
pub fn writing(_: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
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
pub fn embedding(_: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
    let folder = tempfile::tempdir().unwrap();
    bert::write(folder.path());
    let files = EncoderFiles::open(folder.path())?;
    let encoder = TokenEncoder::new(gpu, files, EncoderOptions::default())?;
    gpu.block_on(encoder.load(|_, _| ()))?;
    let vectors = gpu.block_on(encoder.embed(&[vec![2, 7, 9, 3], (2..18).collect()]))?;
    Ok(vectors.iter().flat_map(|vector| bits(vector)).collect())
}

/// Ticks a session and a classifier, and records a token and a vector, in a host's frames.
pub fn as_guests(host: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
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

/// Saves a session, restores it, and goes on with it.
pub fn restoring(_: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
    let decoder = Decoder::new(gpu, noise(DECODER, &[], &[]))?;
    let mut session = gpu.block_on(decoder.session(SessionOptions::from(60)))?;
    gpu.block_on(session.feed(&[5, 9, 30, 7]))?;
    let saved = gpu.block_on(session.save())?;
    let mut restored = gpu.block_on(decoder.restore(&saved, 60))?;
    let mut generation = restored.generate(3)?;
    while gpu.block_on(generation.next())?.is_some() {}
    Ok(restored.tokens().to_vec())
}

/// Loads a classifier in the gaps between frames, and uses it.
pub fn loading_in_ticks(host: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
    let to = gpu.clone();
    let mut loading = Loading::new(async move { Classifier::load(&to, &fixture(NETWORK)).await });
    let classifier = loop {
        let loaded = loading.load(&mut Budget::gpu(Duration::from_micros(500)))?;
        host.queue.submit([]);
        gpu.pump();
        if let Tick::Done(classifier) = loaded {
            break classifier;
        }
    };
    Ok(bits(&gpu.block_on(classifier.classify(Input::rgba8(picture(2), SIDE, SIDE)))?.logits).collect())
}

/// Measures the steps of a session that nothing is known of, for no other has had as much room.
pub fn measuring(_: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
    static ROOM: AtomicUsize = AtomicUsize::new(130);
    let decoder = Decoder::new(gpu, noise(DECODER, &[], &[]))?;
    let session = gpu.block_on(decoder.session(ROOM.fetch_add(1, Ordering::Relaxed)))?;
    gpu.block_on(session.driven().measured(&Sampling::at(0.9)))?;
    Ok(Vec::new())
}

/// Sessions that go on together.
pub fn side_by_side(_: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
    let decoder = Decoder::new(gpu, noise(DECODER, &[], &[]))?;
    let mut sessions = Vec::new();
    for first in [5, 11, 40] {
        let mut session = gpu.block_on(decoder.session(60))?;
        gpu.block_on(session.feed(&[first, 9, 30]))?;
        sessions.push(session);
    }
    let mut together = decoder.together(&mut sessions, &Sampling::at(0.9).seed(3))?;
    for _ in 0..4 {
        gpu.block_on(together.next())?;
    }
    Ok(sessions.iter().flat_map(|session| session.tokens().to_vec()).collect())
}

/// Loads a model with its tokenizer; continues a text, then two side by side.
pub fn telling(_: &Host, gpu: &Gpu) -> Result<Vec<u32>> {
    let model = TextModel::bundled(gpu)?;
    let mut session = gpu.block_on(model.session(60))?;
    let mut told = String::new();
    {
        let mut answer = gpu.block_on(session.generate("Once upon a time", 4))?;
        while let Some(piece) = gpu.block_on(answer.next())? {
            told += &piece;
        }
    }
    for answer in gpu.block_on(model.generate_batch(["Once upon a time", "Mia"], 60, 4))? {
        told += &answer.text;
    }
    Ok(told.bytes().map(u32::from).collect())
}
