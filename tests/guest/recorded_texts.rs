//! Vectors and tokens in a host's frames: what is recorded is what is submitted, bit for bit, and what is dropped or lost moves nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::fixture;
use crate::support::host::{Host, hosts};
use lampyris::engine::Error as EngineError;
use lampyris::models::decoder::{Decoder, Session, StepBuffers};
use lampyris::models::encoder::Embedding;
use lampyris::wgpu::{self, CommandEncoderDescriptor};
use lampyris::{Classifier, Encoder, Error, Gpu, Input, Result, Sampling, TextModel};
use std::sync::atomic::{AtomicBool, Ordering};

const DECODER: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 61, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

fn frame(host: &Host) -> wgpu::CommandEncoder {
    host.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("the host's frame") })
}

fn expect<T: std::fmt::Debug>(host: &Host, result: Result<T>, wanted: fn(&EngineError) -> bool) {
    assert!(matches!(&result, Err(Error::Engine(error)) if wanted(error)), "{}: {result:?}", host.name);
}

#[test]
fn a_recorded_vector_is_the_submitted_one_and_may_stay_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    crate::bert::write(folder.path());
    for host in hosts() {
        let gpu = host.guest();
        let encoder = gpu.block_on(Encoder::load(&gpu, folder.path())).unwrap();
        let texts = ["a cat", "", "on the roof of the house"];
        let expected = gpu.block_on(encoder.embed(texts)).unwrap();
        let alone: Vec<Vec<f32>> =
            texts.iter().map(|text| gpu.block_on(encoder.embed([text])).unwrap().remove(0)).collect();
        let mut commands = frame(&host);
        let mut under_way: Vec<Embedding> =
            texts.iter().map(|text| encoder.record(&mut commands, text).unwrap()).collect();
        // The last one stays on the device as well: the host copies it behind the run.
        let (buffer, offset, bytes) = under_way[2].buffer().unwrap();
        let copy = host.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("the host's"),
            size: bytes,
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        commands.copy_buffer_to_buffer(&buffer, offset, &copy, 0, bytes);
        assert!(under_way[0].try_take().unwrap().is_none(), "nothing is submitted yet");
        host.queue.submit([commands.finish()]);
        for (embedding, expected) in under_way.into_iter().zip(&alone) {
            assert_eq!(&gpu.block_on(embedding.wait()).unwrap(), expected, "{}", host.name);
        }
        assert_eq!(alone.len(), expected.len());
        copy.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
        host.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let view = copy.get_mapped_range(..).unwrap();
        let values: Vec<f32> = view.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(values, alone[2], "{}", host.name);

        let mut dropped = frame(&host);
        let mut cancelled = encoder.record(&mut dropped, "a cat").unwrap();
        drop(dropped);
        expect(&host, cancelled.try_take(), |error| matches!(error, EngineError::Cancelled));
        let mut many = frame(&host);
        let under_way: Vec<Embedding> = (0..4).map(|_| encoder.record(&mut many, "a cat").unwrap()).collect();
        expect(&host, encoder.record(&mut many, "a cat"), |error| matches!(error, EngineError::Busy { runs: 4 }));
        host.queue.submit([many.finish()]);
        drop(under_way);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// Draws frames until the token is there.
fn step(host: &Host, gpu: &Gpu, session: &mut Session, sampling: &Sampling) -> Result<u32> {
    let mut commands = frame(host);
    session.record_step(&mut commands, sampling)?;
    assert!(session.try_step()?.is_none(), "nothing is submitted yet");
    host.queue.submit([commands.finish()]);
    for _ in 0..100_000 {
        host.queue.submit([frame(host).finish()]);
        gpu.pump();
        if let Some(token) = session.try_step()? {
            return Ok(token);
        }
    }
    panic!("no token in 100,000 frames on {}", host.name);
}

fn saved(gpu: &Gpu, session: &Session) -> Vec<u8> {
    let saved = gpu.block_on(session.save()).unwrap();
    let header = u64::from_le_bytes(saved[..8].try_into().unwrap()) as usize;
    saved[8 + header..].to_vec()
}

#[test]
fn recorded_tokens_are_the_submitted_ones_bit_for_bit() {
    let text: Vec<u32> = (0..50).map(|i| (i * i + 3 * i) % 61).collect();
    for mut host in hosts() {
        for sampling in [Sampling::greedy(), Sampling::at(0.9).top_k(20).repetition_penalty(1.1).seed(5)] {
            let mut gpu = host.guest();
            let decoder = Decoder::new(&gpu, noise(DECODER, &[], &[])).unwrap();
            let begin = |gpu: &Gpu| {
                let mut session = gpu.block_on(decoder.session(70)).unwrap();
                gpu.block_on(session.feed(&text)).unwrap();
                session
            };
            let mut alone = begin(&gpu);
            let mut generation = alone.sample(20, &sampling).unwrap();
            let expected: Vec<u32> = std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect();
            let bits = saved(&gpu, &alone);

            let mut session = begin(&gpu);
            gpu.block_on(session.ready_to_step(&sampling)).unwrap();
            let mut found: Vec<u32> = (0..5).map(|_| step(&host, &gpu, &mut session, &sampling).unwrap()).collect();
            // One at a time, and nothing else meanwhile.
            let mut commands = frame(&host);
            session.record_step(&mut commands, &sampling).unwrap();
            expect(&host, session.record_step(&mut commands, &sampling), |error| {
                matches!(error, EngineError::Busy { runs: 1 })
            });
            expect(&host, gpu.block_on(session.feed(&[])), |error| matches!(error, EngineError::Busy { runs: 1 }));
            // Commands that are dropped move nothing.
            drop(commands);
            expect(&host, session.try_step(), |error| matches!(error, EngineError::Cancelled));
            assert_eq!(session.tokens().len(), text.len() + 5, "{}", host.name);
            found.extend((0..3).map(|_| step(&host, &gpu, &mut session, &sampling).unwrap()));
            // A token that was submitted and never taken leaves nothing.
            let mut commands = frame(&host);
            session.record_step(&mut commands, &sampling).unwrap();
            host.queue.submit([commands.finish()]);
            gpu.block_on(gpu.idle()).unwrap();
            gpu.pump();
            let mut generation = session.sample(2, &sampling).unwrap();
            found.extend(std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()));
            // The device goes with a token under way.
            let mut commands = frame(&host);
            session.record_step(&mut commands, &sampling).unwrap();
            host.queue.submit([commands.finish()]);
            host.device.destroy();
            gpu.notify_lost("the host destroyed it");
            match session.try_step() {
                Ok(Some(token)) => found.push(token),
                other => expect(&host, other, |error| matches!(error, EngineError::DeviceLost { .. })),
            }
            expect(&host, session.record_step(&mut frame(&host), &sampling), |error| {
                matches!(error, EngineError::DeviceLost { .. })
            });
            host = host.another();
            gpu.replace_device(&host.adapter, &host.device, &host.queue).unwrap();
            assert!(gpu.block_on(session.recover()).unwrap(), "{}", host.name);
            while found.len() < expected.len() {
                found.push(step(&host, &gpu, &mut session, &sampling).unwrap());
            }
            assert_eq!(found, expected, "{}", host.name);
            assert!(saved(&gpu, &session) == bits, "{}: other keys and values", host.name);
            let full = session.record_step(&mut frame(&host), &sampling);
            assert!(matches!(full, Err(Error::Context { tokens: 71, context: 70 })), "{}: {full:?}", host.name);
            assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
        }
    }
}

/// A host's own shader, which reads the token that a step has chosen, and looks for the largest of its logits.
const LOOKS: &str = "
    @group(0) @binding(0) var<storage, read> token: array<u32>;
    @group(0) @binding(1) var<storage, read> logits: array<f32>;
    @group(0) @binding(2) var<storage, read_write> found: array<u32>;
    @compute @workgroup_size(1)
    fn main() {
        var best = 0u;
        for (var i = 1u; i < arrayLength(&logits); i++) {
            if logits[i] > logits[best] { best = i; }
        }
        found[0] = token[0];
        found[1] = best;
        found[2] = arrayLength(&logits);
    }";

/// A piece of a buffer, to be bound.
fn bound((buffer, offset, size): &(wgpu::Buffer, u64, u64)) -> wgpu::BindingResource<'_> {
    let size = std::num::NonZeroU64::new(*size);
    wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: *offset, size })
}

/// Records the host's shader behind a step, and a copy of what it finds and of the logits into the buffer that is given.
fn look(host: &Host, frame: &mut wgpu::CommandEncoder, step: &StepBuffers) -> wgpu::Buffer {
    let source = wgpu::ShaderSource::Wgsl(LOOKS.into());
    let module = host.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("looks"), source });
    let pipeline = host.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("looks"),
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let buffer = |size: u64, usage: wgpu::BufferUsages| {
        let label = Some("the host's");
        host.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
    };
    let found = buffer(12, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
    let (logits, from, length) = &step.logits;
    let read = buffer(12 + length, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let group = host.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("looks"),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: bound(&step.token) },
            wgpu::BindGroupEntry { binding: 1, resource: bound(&step.logits) },
            wgpu::BindGroupEntry { binding: 2, resource: found.as_entire_binding() },
        ],
    });
    {
        let mut pass = frame.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
    frame.copy_buffer_to_buffer(&found, 0, &read, 0, 12);
    frame.copy_buffer_to_buffer(logits, *from, &read, 12, *length);
    read
}

fn words(host: &Host, buffer: &wgpu::Buffer) -> Vec<u32> {
    buffer.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
    host.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let view = buffer.get_mapped_range(..).unwrap();
    view.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn a_token_and_its_logits_are_there_for_the_hosts_own_shaders() {
    for host in hosts() {
        let gpu = host.guest();
        let model = TextModel::bundled(&gpu).unwrap();
        let mut session = gpu.block_on(model.session(60)).unwrap();
        let prompt = model.tokenizer().encode_document("Once upon a time").unwrap();
        gpu.block_on(session.tokens_mut().feed(&prompt)).unwrap();
        let vocabulary = model.decoder().config().vocabulary;
        let drawn = Sampling::at(1.5).seed(3);
        gpu.block_on(session.tokens_mut().ready_to_step(&drawn)).unwrap();
        for sampling in [Sampling::greedy(), drawn, Sampling::greedy()] {
            let mut frame = frame(&host);
            let step = session.tokens_mut().record_step(&mut frame, &sampling).unwrap();
            let read = look(&host, &mut frame, &step);
            host.queue.submit([frame.finish()]);
            let read = words(&host, &read);
            let token = gpu.block_on(session.tokens_mut().step_token()).unwrap().unwrap();
            assert_eq!((read[0], read[2]), (token, vocabulary as u32), "{}", host.name);
            if sampling == Sampling::greedy() {
                assert_eq!(read[1], token, "{}: the largest logit is another's", host.name);
            }
            let logits: Vec<f32> = read[3..].iter().map(|bits| f32::from_bits(*bits)).collect();
            // The same, computed again as a prompt's, with other shapes of runs.
            let last = session.tokens().tokens().len() - 1;
            let again = gpu.block_on(session.tokens_mut().logits_from(last - 1)).unwrap();
            let apart = crate::support::relative(&logits, &again[..vocabulary]);
            assert!(apart < 1e-4, "{}: logits {apart:.1e} of the largest apart", host.name);
        }
        // The text goes on from there.
        let mut answer = gpu.block_on(session.resume(3)).unwrap();
        let mut text = String::new();
        while let Some(piece) = gpu.block_on(answer.next()).unwrap() {
            text += &piece;
        }
        assert!(!text.is_empty() && session.tokens().tokens().len() > prompt.len() + 5, "{}: {text:?}", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn there_are_no_recorded_tokens_and_vectors_without_a_device() {
    let cpu = Gpu::cpu_executor();
    let folder = tempfile::tempdir().unwrap();
    crate::bert::write(folder.path());
    let encoder = pollster::block_on(Encoder::load(&cpu, folder.path())).unwrap();
    let mut session = pollster::block_on(Decoder::new(&cpu, noise(DECODER, &[], &[])).unwrap().session(20)).unwrap();
    pollster::block_on(session.feed(&[3, 1, 4])).unwrap();
    for host in hosts() {
        let mut commands = frame(&host);
        expect(&host, encoder.record(&mut commands, "a"), |error| matches!(error, EngineError::NoCommands { .. }));
        let stepped = session.record_step(&mut commands, &Sampling::greedy());
        expect(&host, stepped, |error| matches!(error, EngineError::NoCommands { .. }));
        host.queue.submit([commands.finish()]);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// A host submits recorded pictures on one thread while another classifies others by the same plan.
#[test]
fn submitted_and_recorded_runs_of_one_plan_keep_their_own_inputs() {
    for host in hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let pictures =
            [3, 11].map(|seed| (0..64 * 64 * 4).map(|i: u32| (i * seed + i / 300) as u8).collect::<Vec<u8>>());
        let input = |at: usize| Input::rgba8(pictures[at].as_slice(), 64, 64);
        let expected = [0, 1].map(|at| gpu.block_on(classifier.classify(input(at))).unwrap().logits);
        assert_ne!(expected[0], expected[1]);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let mut commands = frame(&host);
                    let seen = classifier.record(&mut commands, input(0)).unwrap();
                    host.queue.submit([commands.finish()]);
                    assert_eq!(gpu.block_on(seen.wait()).unwrap().logits, expected[0], "{}: recorded", host.name);
                }
            });
            let mut wrong = 0;
            for _ in 0..60 {
                wrong += usize::from(gpu.block_on(classifier.classify(input(1))).unwrap().logits != expected[1]);
            }
            done.store(true, Ordering::Relaxed);
            assert_eq!(wrong, 0, "{}: submitted", host.name);
        });
    }
}
