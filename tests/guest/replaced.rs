//! What a host's new device takes over from a lost one: sessions with all that they know, encoders and classifiers, under any handle of
//! the device before; and what it does not take over, which is told lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::fixture;
use crate::support::host::{Host, hosts, quick_hosts};
use lampyris::engine::Error as EngineError;
use lampyris::engine::gpu::VariantSet;
use lampyris::models::decoder::{CacheFormat, Decoder, Session, SessionOptions};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, TokenEncoder};
use lampyris::wgpu::{self, CommandEncoderDescriptor};
use lampyris::{Classifier, Error, Gpu, GpuOptions, Input, Result, Sampling};

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 61, "max_position_embeddings": 512,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

fn text(tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (i * i + 3 * i) % 61).collect()
}

/// The host loses its device and hands over another; what it was told of errors and losses is given back.
fn lose(host: &mut Host, gpu: &mut Gpu) {
    host.device.destroy();
    gpu.notify_lost("the host destroyed it");
    *host = host.another();
    gpu.replace_device(&host.adapter, &host.device, &host.queue).unwrap();
}

fn saved(gpu: &Gpu, session: &Session) -> Vec<u8> {
    let saved = gpu.block_on(session.save()).unwrap();
    let header = u64::from_le_bytes(saved[..8].try_into().unwrap()) as usize;
    saved[8 + header..].to_vec()
}

fn take(gpu: &Gpu, session: &mut Session, count: usize, sampling: &Sampling) -> Vec<u32> {
    let mut generation = session.sample(count, sampling).unwrap();
    std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect()
}

/// A life with everything that leaves a trace in a session: two prompts, answers in two ways, a rewind into the middle of a chunk, a
/// slide, a look at logits. `between` comes after each part.
fn life(gpu: &Gpu, session: &mut Session, mut between: impl FnMut(&mut Session)) -> (Vec<u32>, Vec<u8>) {
    let drawn = Sampling::at(0.8).top_k(12).repetition_penalty(1.2).seed(3);
    gpu.block_on(session.feed(&text(50))).unwrap();
    between(session);
    let mut all = take(gpu, session, 9, &Sampling::greedy());
    between(session);
    session.rewind(41);
    gpu.block_on(session.feed(&text(7))).unwrap();
    between(session);
    all.extend(take(gpu, session, 5, &drawn));
    gpu.block_on(session.logits_from(45)).unwrap();
    between(session);
    all.extend(take(gpu, session, 40, &drawn));
    assert!(session.dropped() > 0, "the session must slide");
    between(session);
    all.extend(take(gpu, session, 3, &Sampling::greedy()));
    (all, saved(gpu, session))
}

#[test]
fn a_session_goes_on_with_the_same_keys_and_tokens_whatever_it_went_through() {
    for mut host in quick_hosts() {
        for cache in [CacheFormat::F32, CacheFormat::Q8] {
            let mut gpu = host.guest();
            let decoder = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
            let options = SessionOptions::from(80).cache(cache).slide(4);
            let mut alone = gpu.block_on(decoder.session(options)).unwrap();
            let expected = life(&gpu, &mut alone, |_| ());
            let mut session = gpu.block_on(decoder.session(options)).unwrap();
            let whole = gpu.clone();
            let found = life(&whole, &mut session, |_| lose(&mut host, &mut gpu));
            assert_eq!(found.0, expected.0, "{}, {cache:?}: other tokens", host.name);
            assert!(found.1 == expected.1, "{}, {cache:?}: other keys and values", host.name);
            assert!(!gpu.block_on(session.recover()).unwrap(), "{}: there is nothing left to do", host.name);
        }
    }
}

#[test]
fn what_is_forked_or_saved_after_a_loss_is_what_was_there() {
    for mut host in hosts() {
        let mut gpu = host.guest();
        let decoder = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let mut session = gpu.block_on(decoder.session(100)).unwrap();
        gpu.block_on(session.feed(&text(40))).unwrap();
        take(&gpu, &mut session, 5, &Sampling::greedy());
        let before = saved(&gpu, &session);
        lose(&mut host, &mut gpu);
        let mut fork = gpu.block_on(session.fork()).unwrap();
        assert!(saved(&gpu, &fork) == before && saved(&gpu, &session) == before, "{}", host.name);
        let [of_fork, of_session] =
            [&mut fork, &mut session].map(|session| take(&gpu, session, 7, &Sampling::greedy()));
        assert_eq!(of_fork, of_session, "{}", host.name);
        // What came from a file is computed again, chunk by chunk.
        let file = gpu.block_on(session.save()).unwrap();
        let mut restored = gpu.block_on(decoder.restore(&file, 100)).unwrap();
        lose(&mut host, &mut gpu);
        let [found, expected] =
            [&mut restored, &mut session].map(|session| take(&gpu, session, 7, &Sampling::greedy()));
        assert_eq!(found, expected, "{}", host.name);
        assert_eq!(restored.tokens(), session.tokens(), "{}", host.name);
    }
}

#[test]
fn sessions_that_go_on_together_go_on_after_a_loss() {
    for mut host in hosts() {
        let mut gpu = host.guest();
        let decoder = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let begin = |gpu: &Gpu| {
            [20, 33].map(|length| {
                let mut session = gpu.block_on(decoder.session(100)).unwrap();
                gpu.block_on(session.feed(&text(length))).unwrap();
                session
            })
        };
        let mut alone = begin(&gpu);
        let mut together = decoder.together(&mut alone, &Sampling::greedy()).unwrap();
        let expected: Vec<_> = (0..12).map(|_| gpu.block_on(together.next()).unwrap()).collect();
        let mut sessions = begin(&gpu);
        let mut together = decoder.together(&mut sessions, &Sampling::greedy()).unwrap();
        let mut found: Vec<_> = (0..5).map(|_| gpu.block_on(together.next()).unwrap()).collect();
        host.device.destroy();
        gpu.notify_lost("the host destroyed it");
        expect_lost(gpu.block_on(together.next()), &host);
        expect_lost(gpu.block_on(together.next()), &host);
        lose(&mut host, &mut gpu);
        found.extend((5..12).map(|_| gpu.block_on(together.next()).unwrap()));
        // Sums were taken in another order, and no token stood so near to the next.
        assert_eq!(found, expected, "{}", host.name);
    }
}

#[test]
fn an_encoder_and_a_classifier_answer_the_same_and_results_under_way_are_told_lost() {
    for mut host in hosts() {
        let mut gpu = host.guest();
        let stale = gpu.clone();
        let folder = tempfile::tempdir().unwrap();
        crate::bert::write(folder.path());
        let files = EncoderFiles::open(folder.path()).unwrap();
        let encoder = TokenEncoder::new(&gpu, files, EncoderOptions::default()).unwrap();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let pixels: Vec<u8> = (0..64 * 64 * 4).map(|i| (i * 5 + i / 300) as u8).collect();
        let input = || Input::rgba8(pixels.as_slice(), 64, 64);
        let sequences = [vec![2, 7, 9, 3], vec![2, 40, 3]];
        let look = |gpu: &Gpu| -> Result<_> {
            Ok((
                gpu.block_on(encoder.embed(&sequences))?,
                gpu.block_on(classifier.classify_batch(&[input(), input()]))?,
            ))
        };
        let (vectors, answers) = look(&gpu).unwrap();
        let weights = (encoder.weight_bytes(), classifier.weight_bytes());

        let mut frame = host.device.create_command_encoder(&CommandEncoderDescriptor::default());
        let mut submitted = classifier.record(&mut frame, input()).unwrap();
        let mut dropped = host.device.create_command_encoder(&CommandEncoderDescriptor::default());
        let mut recorded = classifier.record(&mut dropped, input()).unwrap();
        host.device.destroy();
        host.queue.submit([frame.finish()]);
        gpu.notify_lost("the host destroyed it");
        expect_lost(look(&gpu), &host);
        expect_lost(classifier.record(&mut dropped, input()), &host);
        lose(&mut host, &mut gpu);
        drop(dropped);
        stale.pump();
        expect_lost(submitted.try_take(), &host);
        expect_lost(recorded.try_take(), &host);

        // Under the old handle as well.
        for gpu in [&gpu, &stale] {
            let (found, seen) = look(gpu).unwrap();
            assert_eq!(found, vectors, "{}", host.name);
            assert_eq!(seen[1].logits, answers[1].logits, "{}", host.name);
        }
        assert_eq!((encoder.weight_bytes(), classifier.weight_bytes()), weights, "{}: each once", host.name);
        let mut frame = host.device.create_command_encoder(&CommandEncoderDescriptor::default());
        let seen = classifier.record(&mut frame, input()).unwrap();
        host.queue.submit([frame.finish()]);
        assert_eq!(gpu.block_on(seen.wait()).unwrap().logits, answers[0].logits, "{}", host.name);
        // A callback of the device before comes late.
        stale.notify_lost("it is the old one that is meant");
        assert!(gpu.check_alive().is_ok() && stale.check_alive().is_err(), "{}", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn a_device_that_can_do_less_takes_over_too() {
    for host in hosts() {
        let mut gpu = Gpu::from_device_with(
            &host.adapter,
            &host.device,
            &host.queue,
            GpuOptions::default().variants(VariantSet::RealGpu),
        )
        .unwrap();
        let decoder = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let mut session = gpu.block_on(decoder.session(100)).unwrap();
        gpu.block_on(session.feed(&text(40))).unwrap();
        let mut tokens = take(&gpu, &mut session, 4, &Sampling::greedy());
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("with what every device has"),
            required_limits: host.adapter.limits().or_worse_values_from(&wgpu::Limits::default()),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(host.adapter.request_device(&descriptor)).unwrap();
        gpu.replace_device(&host.adapter, &device, &queue).unwrap();
        assert!(!gpu.caps().f16 && gpu.caps().subgroup.is_none(), "{}", host.name);
        tokens.extend(take(&gpu, &mut session, 4, &Sampling::greedy()));
        let mut whole = gpu.block_on(decoder.session(100)).unwrap();
        gpu.block_on(whole.feed(&text(40))).unwrap();
        assert_eq!(take(&gpu, &mut whole, 8, &Sampling::greedy()), tokens, "{}", host.name);
    }
}

#[test]
fn what_is_not_lost_is_not_computed_again() {
    let gpu = Gpu::cpu_executor();
    let decoder = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
    let mut session = pollster::block_on(decoder.session(20)).unwrap();
    pollster::block_on(session.feed(&[3, 1, 4])).unwrap();
    assert!(!pollster::block_on(session.recover()).unwrap());
    assert!(pollster::block_on(gpu.alive()).unwrap().is_same_device(&gpu));
}

fn expect_lost<T>(result: Result<T>, host: &Host) {
    match result.map(|_| ()) {
        Err(Error::Engine(EngineError::DeviceLost { .. })) => {}
        other => panic!("{}: {other:?}", host.name),
    }
}
