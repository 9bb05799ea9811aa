//! Runs in a host's encoders: they give what submitted runs give, bit for bit, and leave the host its frame whatever becomes of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::fixture;
use crate::support::host::{Host, hosts};
use lampyris::engine::Error as EngineError;
use lampyris::models::record::Seen;
use lampyris::wgpu::{self, TextureFormat};
use lampyris::{Answer, Area, Budget, Classifier, Error, Gpu, Input, Tick};
use std::time::Duration;

const NETWORK: &str = "mobilenet_v3_small_w025";
const SIDE: u32 = 120;

/// A picture with no smooth place, another for each seed.
fn picture(seed: u32) -> Vec<u8> {
    (0..SIDE * SIDE)
        .flat_map(|p| [p * 7 + seed, p * (13 + seed), p / 3 + p * seed, 255].map(|value| value as u8))
        .collect()
}

fn load(host: &Host) -> (Gpu, Classifier) {
    let gpu = host.guest();
    let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
    (gpu, classifier)
}

fn encoder(host: &Host) -> wgpu::CommandEncoder {
    host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("the host's frame") })
}

/// Draws empty frames until the answer is there; `pump` alone makes it arrive.
fn frames(host: &Host, gpu: &Gpu, seen: &mut Seen) -> Result<Answer, Error> {
    for _ in 0..100_000 {
        host.queue.submit([encoder(host).finish()]);
        gpu.pump();
        if let Some(answer) = seen.try_take()? {
            return Ok(answer);
        }
    }
    panic!("no answer in 100,000 frames on {}", host.name);
}

fn same(found: &Answer, expected: &Answer) -> bool {
    found.logits == expected.logits
        && found.probabilities == expected.probabilities
        && found.features == expected.features
}

#[test]
fn recorded_runs_give_what_submitted_ones_give() {
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let pictures: Vec<Vec<u8>> = (0..3).map(picture).collect();
        let input = |at: usize| Input::rgba8(pictures[at].as_slice(), SIDE, SIDE);
        let expected: Vec<Answer> = (0..3).map(|at| gpu.block_on(classifier.classify(input(at))).unwrap()).collect();
        assert!(!same(&expected[0], &expected[1]), "the pictures must differ in what is seen");

        let submits = gpu.counts().submits;
        let mut first = encoder(&host);
        let mut one = classifier.record(&mut first, input(0)).unwrap();
        let mut two = classifier.record(&mut first, input(1)).unwrap();
        let mut second = encoder(&host);
        let mut three = classifier.record(&mut second, input(2)).unwrap();
        gpu.pump();
        assert!(one.try_take().unwrap().is_none(), "nothing is submitted yet");
        // In another order than they were recorded in.
        host.queue.submit([second.finish(), first.finish()]);
        assert_eq!(gpu.counts().submits, submits, "the host alone submits");
        for (seen, expected) in [&mut one, &mut two, &mut three].into_iter().zip(&expected) {
            let found = frames(&host, &gpu, seen).unwrap();
            assert!(same(&found, expected), "another answer on {}", host.name);
            let taken = seen.try_take().unwrap_err();
            assert!(matches!(taken, Error::Engine(EngineError::Taken)), "{taken:?}");
        }

        let view = host.texture(TextureFormat::Rgba8Unorm, &pictures[1], [SIDE, SIDE]);
        let mut frame = encoder(&host);
        let mut seen = classifier.record(&mut frame, Input::texture(&view)).unwrap();
        host.queue.submit([frame.finish()]);
        assert!(same(&frames(&host, &gpu, &mut seen).unwrap(), &expected[1]), "another answer on {}", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn a_dropped_encoder_cancels_and_a_full_ring_is_busy() {
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let pixels = picture(5);
        let input = || Input::rgba8(pixels.as_slice(), SIDE, SIDE);
        let expected = gpu.block_on(classifier.classify(input())).unwrap();

        let mut dropped = encoder(&host);
        let mut cancelled = classifier.record(&mut dropped, input()).unwrap();
        drop(dropped);
        let error = cancelled.try_take().unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::Cancelled)), "{error:?}");

        let mut finished = encoder(&host);
        let mut cancelled = classifier.record(&mut finished, input()).unwrap();
        drop(finished.finish());
        assert!(matches!(cancelled.try_take(), Err(Error::Engine(EngineError::Cancelled))));

        let mut frame = encoder(&host);
        let mut under_way: Vec<Seen> = (0..4).map(|_| classifier.record(&mut frame, input()).unwrap()).collect();
        let error = classifier.record(&mut frame, input()).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::Busy { runs: 4 })), "{error:?}");
        // The refusal has recorded nothing that could spoil the frame.
        host.queue.submit([frame.finish()]);
        for seen in &mut under_way {
            assert!(same(&frames(&host, &gpu, seen).unwrap(), &expected), "another answer on {}", host.name);
        }
        // Places are free again, also those whose results nobody wanted.
        for _ in 0..3 {
            let mut frame = encoder(&host);
            let unwanted: Vec<Seen> = (0..4).map(|_| classifier.record(&mut frame, input()).unwrap()).collect();
            host.queue.submit([frame.finish()]);
            drop(unwanted);
            gpu.block_on(gpu.idle()).unwrap();
            gpu.pump();
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn a_submit_that_is_refused_cancels() {
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let pixels = picture(9);
        let mut frame = encoder(&host);
        let mut seen = classifier.record(&mut frame, Input::rgba8(pixels.as_slice(), SIDE, SIDE)).unwrap();
        host.spoil(&mut frame);
        host.queue.submit([frame.finish()]);
        assert_eq!(host.told().0, 1, "the host of {} hears of its own mistake", host.name);
        let error = frames(&host, &gpu, &mut seen).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::Cancelled)), "{error:?}");
        let answer = gpu.block_on(classifier.classify(Input::rgba8(pixels.as_slice(), SIDE, SIDE))).unwrap();
        assert!(answer.logits.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn probabilities_stay_on_the_device_for_a_hosts_own_shader() {
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let pixels = picture(2);
        let mut frame = encoder(&host);
        let mut seen = classifier.record(&mut frame, Input::rgba8(pixels.as_slice(), SIDE, SIDE)).unwrap();
        let (buffer, offset, size) = classifier.probabilities_buffer().unwrap();
        let doubled = double(&host, &mut frame, (&buffer, offset, size));
        host.queue.submit([frame.finish()]);
        let answer = frames(&host, &gpu, &mut seen).unwrap();
        let found = read(&host, &doubled);
        let expected: Vec<f32> = answer.probabilities.iter().map(|p| 2.0 * p).collect();
        assert_eq!(found[..expected.len()], expected, "on {}", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn nothing_is_recorded_on_the_cpu_executor_nor_for_what_is_wrong() {
    let cpu = Gpu::cpu_executor();
    let without = pollster::block_on(Classifier::load(&cpu, &fixture(NETWORK))).unwrap();
    for host in hosts() {
        let (_, classifier) = load(&host);
        let pixels = picture(1);
        let mut frame = encoder(&host);
        let error = without.record(&mut frame, Input::rgba8(pixels.as_slice(), SIDE, SIDE)).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::NoCommands { .. })), "{error:?}");
        classifier.record(&mut frame, Input::rgba8(pixels.as_slice(), SIDE, SIDE + 1)).map(|_| ()).unwrap_err();
        let foreign = host.another().texture(TextureFormat::Rgba8Unorm, &pixels, [SIDE, SIDE]);
        let error = classifier.record(&mut frame, Input::texture(&foreign)).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::Texture { .. })), "{error:?}");
        host.queue.submit([frame.finish()]);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// A buffer of the host's with these bytes from byte `at` on.
fn buffer(host: &Host, bytes: &[u8], at: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    let buffer = host.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("the host's picture"),
        size: at + bytes.len() as u64,
        usage: usage | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    host.queue.write_buffer(&buffer, at, bytes);
    buffer
}

#[test]
fn a_picture_in_a_buffer_of_the_host_is_the_picture_in_bytes() {
    let copied = wgpu::BufferUsages::COPY_SRC;
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let [first, second] = [picture(0), picture(1)];
        let bytes = |pixels: &[u8]| {
            let answer = gpu.block_on(classifier.classify(Input::rgba8(pixels.to_vec(), SIDE, SIDE)));
            answer.unwrap()
        };
        let expected = [bytes(&first), bytes(&second)];
        // The picture, and bytes of the host's before and behind it.
        let around = |pixels: &[u8]| {
            let other = |at: usize| (at * 7 + 3) as u8;
            (0..52).map(other).chain(pixels.iter().copied()).chain((52..1000).map(other)).collect::<Vec<u8>>()
        };
        let lent = buffer(&host, &around(&first), 0, copied);
        let other = buffer(&host, &second, 0, copied);
        let input = || Input::rgba8_buffer(&lent, 52, SIDE, SIDE);
        assert!(same(&gpu.block_on(classifier.classify(input())).unwrap(), &expected[0]), "{}: submitted", host.name);
        assert!(host.read((&lent, 0, lent.size())) == around(&first), "{}: a submitted run has written it", host.name);

        // Recorded, what counts is what the host's commands have put there by then.
        let mut frame = encoder(&host);
        let mut before = classifier.record(&mut frame, input()).unwrap();
        frame.copy_buffer_to_buffer(&other, 0, &lent, 52, other.size());
        let mut after = classifier.record(&mut frame, input()).unwrap();
        host.queue.submit([frame.finish()]);
        for (seen, expected) in [&mut before, &mut after].into_iter().zip(&expected) {
            assert!(same(&frames(&host, &gpu, seen).unwrap(), expected), "{}: recorded", host.name);
        }
        assert!(host.read((&lent, 0, lent.size())) == around(&second), "{}: a recorded run has written it", host.name);
        // In pieces, and again as bytes.
        let mut eyes = gpu.block_on(classifier.driven()).unwrap();
        let mut frame = encoder(&host);
        let mut budget = Budget::gpu(Duration::from_secs(1000));
        eyes.look(&mut frame, &mut budget, input()).unwrap();
        host.queue.submit([frame.finish()]);
        gpu.block_on(gpu.idle()).unwrap();
        let Tick::Done(answer) = eyes.tick(&mut encoder(&host), &mut budget).unwrap() else {
            panic!("{}: no answer", host.name)
        };
        assert!(same(&answer, &expected[1]) && same(&bytes(&first), &expected[0]), "{}: driven", host.name);
        assert!(host.read((&lent, 0, lent.size())) == around(&second), "{}: a driven run has written it", host.name);
        assert!(host.read((&other, 0, other.size())) == second, "{}: somebody has written the other one", host.name);

        // What cannot be copied from is refused before the first command.
        let gone = buffer(&host, &first, 0, copied);
        gone.destroy();
        let plain = buffer(&host, &first, 0, wgpu::BufferUsages::STORAGE);
        let foreign = buffer(&host.another(), &first, 0, copied);
        let mut frame = encoder(&host);
        for (buffer, at, why) in [
            (&plain, 0, "COPY_SRC"),
            (&lent, 50, "multiple of four"),
            (&lent, 1004, "bytes of a buffer"),
            (&lent, 1 << 40, "bytes of a buffer"),
            (&foreign, 0, "refused"),
            (&gone, 0, "destroyed"),
        ] {
            let input = || Input::rgba8_buffer(buffer, at, SIDE, SIDE);
            let submitted = gpu.block_on(classifier.classify(input())).map(|_| ());
            // wgpu tells that a buffer was destroyed when its copy is submitted, which is the host's to do here.
            let recorded = (why != "destroyed").then(|| classifier.record(&mut frame, input()).map(|_| ()));
            for result in [Some(submitted), recorded].into_iter().flatten() {
                let error = result.expect_err(why);
                let right = matches!(error, Error::Engine(EngineError::Input { .. }));
                assert!(right && error.to_string().contains(why), "{}: {error}", host.name);
            }
        }
        // Nor is a part of a picture whose bytes nobody could count.
        let part = Area { x: 0, y: 0, width: SIDE, height: SIDE };
        let endless = || Input::rgba8_buffer(&lent, 0, 1 << 31, 1 << 31).crop(part);
        let submitted = gpu.block_on(classifier.classify(endless())).map(|_| ());
        for result in [submitted, classifier.record(&mut frame, endless()).map(|_| ())] {
            assert!(matches!(result, Err(Error::PixelBytes { .. })), "{}: {result:?}", host.name);
        }
        let cpu = Gpu::cpu_executor();
        let without = cpu.block_on(Classifier::load(&cpu, &fixture(NETWORK))).unwrap();
        let error = cpu.block_on(without.classify(input())).unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::NoTexture { .. })), "{error:?}");
        host.queue.submit([frame.finish()]);
        assert!(host.read((&lent, 0, lent.size())) == around(&second), "{}: a refused run has written it", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// A host's own shader, which doubles what it reads.
const DOUBLE: &str = "
    @group(0) @binding(0) var<storage, read> given: array<f32>;
    @group(0) @binding(1) var<storage, read_write> doubled: array<f32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < arrayLength(&doubled) { doubled[id.x] = 2.0 * given[id.x]; }
    }";

/// Records the host's shader over a piece of a buffer, and gives the buffer that it writes.
fn double(
    host: &Host,
    frame: &mut wgpu::CommandEncoder,
    (buffer, offset, size): (&wgpu::Buffer, u64, u64),
) -> wgpu::Buffer {
    let source = wgpu::ShaderSource::Wgsl(DOUBLE.into());
    let module = host.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("double"), source });
    let pipeline = host.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("double"),
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let into = host.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("doubled"),
        size,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let from = wgpu::BufferBinding { buffer, offset, size: std::num::NonZeroU64::new(size) };
    let group = host.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("double"),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(from) },
            wgpu::BindGroupEntry { binding: 1, resource: into.as_entire_binding() },
        ],
    });
    let mut pass = frame.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups((size as u32 / 4).div_ceil(64), 1, 1);
    drop(pass);
    into
}

/// What a buffer of floats holds.
fn read(host: &Host, buffer: &wgpu::Buffer) -> Vec<f32> {
    let bytes = host.read((buffer, 0, buffer.size()));
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}
