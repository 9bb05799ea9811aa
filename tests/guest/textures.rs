//! A host's texture gives what its bytes give, without leaving the device, and the host's handlers stay the host's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::fixture;
use crate::support::host::{Host, descriptor, hosts};
use half::f16;
use lampyris::engine::Error as EngineError;
use lampyris::engine::kernels::image::{Area, Quarter, ResizeTexture, table};
use lampyris::models::image_prep::Passes;
use lampyris::models::mobilenet::Pixels;
use lampyris::wgpu::{
    CommandEncoder, CommandEncoderDescriptor, DownlevelFlags, Extent3d, TextureDescriptor, TextureDimension,
    TextureFormat, TextureUsages, TextureView, TextureViewDescriptor,
};
use lampyris::{
    AdapterChoice, Budget, Classifier, ClassifierOptions, Error, Gpu, GpuOptions, Input, Tick, Yuv, YuvMatrix, YuvRange,
};
use std::time::Duration;

const NETWORK: &str = "mobilenet_v3_small_w025";
/// The picture's width and height, and a part of it.
const WIDTH: u32 = 150;
const HEIGHT: u32 = 97;
const PART: Area = Area { x: 13, y: 5, width: 90, height: 80 };

/// A picture with every level of each colour and no smooth place, and alpha that must not matter.
fn picture() -> Vec<u8> {
    (0..WIDTH * HEIGHT).flat_map(|p| [p * 7, p * 13 + p / 150, p / 3, p * 29].map(|value| value as u8)).collect()
}

/// The picture's bytes as a texture of this format holds them.
fn texels(format: TextureFormat, bytes: &[u8]) -> Vec<u8> {
    match format {
        TextureFormat::Bgra8Unorm | TextureFormat::Bgra8UnormSrgb => {
            bytes.chunks_exact(4).flat_map(|p| [p[2], p[1], p[0], p[3]]).collect()
        }
        TextureFormat::Rgba16Float => {
            bytes.iter().flat_map(|b| f16::from_f32(f32::from(*b) / 255.0).to_le_bytes()).collect()
        }
        _ => bytes.to_vec(),
    }
}

fn load(host: &Host) -> (Gpu, Classifier) {
    let gpu = host.guest();
    let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
    (gpu, classifier)
}

/// The largest difference of two prepared pictures in a red, green or blue value, in levels.
fn levels(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!((a.len(), a.len() % 4), (b.len(), 0));
    let colour = |(at, _): &(usize, u8)| at % 4 != 3;
    let apart = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).enumerate().filter(colour);
    apart.map(|(_, levels)| levels).max().unwrap()
}

#[test]
fn textures_give_what_their_bytes_give() {
    // Hardware may decode -srgb texels with a little error, and 16-bit floats are rounded: one level at most, after the resize.
    // Software decodes exactly.
    let formats = [
        (TextureFormat::Rgba8Unorm, 0),
        (TextureFormat::Bgra8Unorm, 0),
        (TextureFormat::Rgba8UnormSrgb, 1),
        (TextureFormat::Bgra8UnormSrgb, 1),
        (TextureFormat::Rgba16Float, 1),
    ];
    let bytes = picture();
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let prepared = |input: Input<'_>| gpu.block_on(classifier.prepared_pixels(input)).unwrap();
        let logits = |input: Input<'_>| gpu.block_on(classifier.classify(input)).unwrap().logits;
        for (format, allowed) in formats {
            let view = host.texture(format, &texels(format, &bytes), [WIDTH, HEIGHT]);
            for area in [None, Some(PART)] {
                let inputs = || {
                    let both = [Input::texture(&view), Input::rgba8(bytes.as_slice(), WIDTH, HEIGHT)];
                    both.map(|input| match area {
                        Some(area) => input.crop(area),
                        None => input,
                    })
                };
                let [texture, plain] = inputs().map(prepared);
                let apart = levels(&texture, &plain);
                let allowed = if gpu.caps().software { 0 } else { allowed };
                assert!(apart <= allowed, "{format:?}, {area:?} on {}: {apart} levels apart", host.name);
                if apart == 0 {
                    let [texture, plain] = inputs().map(logits);
                    assert_eq!(texture, plain, "{format:?}, {area:?} on {}: other logits", host.name);
                }
            }
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// A frame of the host's with what `record` puts into it.
fn frame<T>(host: &Host, record: impl FnOnce(&mut CommandEncoder) -> T) -> T {
    let mut encoder = host.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("the host's frame") });
    let recorded = record(&mut encoder);
    host.queue.submit([encoder.finish()]);
    recorded
}

/// What follows a face through a camera's picture: a part that moves needs nothing in a frame that it did not need in the first.
#[test]
fn a_part_that_moves_is_looked_at_with_what_there_is() {
    let bytes = picture();
    let size = [WIDTH, HEIGHT];
    let corners = [[0, 0], [13, 5], [60, 17], [59, 17], [1, 9]];
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let mut eyes = gpu.block_on(classifier.driven()).unwrap();
        let view = host.texture(TextureFormat::Rgba8Unorm, &bytes, size);
        let luma: Vec<u8> = bytes.chunks_exact(4).map(|pixel| pixel[0]).collect();
        let luma = host.texture(TextureFormat::R8Unorm, &luma, size);
        let halves = size.map(|side| side.div_ceil(2));
        let chroma: Vec<u8> = (0..2 * halves[0] * halves[1]).map(|at| (at * 11) as u8).collect();
        let chroma = host.texture(TextureFormat::Rg8Unorm, &chroma, halves);
        let yuv = Yuv { matrix: YuvMatrix::Bt601, range: YuvRange::Full };
        let inputs = [
            ("a texture", Input::texture(&view).rotated(Quarter::Clockwise)),
            ("bytes", Input::rgba8(bytes.as_slice(), WIDTH, HEIGHT).mirrored()),
            ("two planes", Input::nv12(&luma, &chroma, yuv)),
        ];
        for (what, input) in inputs {
            let part = |[x, y]: [u32; 2]| input.clone().crop(Area { x, y, ..PART });
            // What each part holds by itself, where nothing was made for another.
            let alone = |at: [u32; 2]| {
                let of_its_own = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
                gpu.block_on(of_its_own.classify(part(at))).unwrap().logits
            };
            let expected = corners.map(alone);
            assert!((1..corners.len()).all(|at| expected[at] != expected[at - 1]), "{what}: all parts look alike");
            let mut first = None;
            for round in 0..2 {
                for (at, expected) in corners.into_iter().zip(&expected) {
                    let seen = frame(&host, |encoder| classifier.record(encoder, part(at)).unwrap());
                    assert_eq!(&gpu.block_on(seen.wait()).unwrap().logits, expected, "{what} at {at:?}, recorded");
                    let mut budget = Budget::gpu(Duration::MAX);
                    frame(&host, |encoder| eyes.look(encoder, &mut budget, part(at)).unwrap());
                    let mut ticks = (0..10_000).map(|_| {
                        gpu.block_on(gpu.idle()).unwrap();
                        frame(&host, |encoder| eyes.tick(encoder, &mut budget).unwrap())
                    });
                    let answer = ticks.find_map(|tick| if let Tick::Done(answer) = tick { Some(answer) } else { None });
                    assert_eq!(&answer.unwrap().logits, expected, "{what} at {at:?}, ticked");
                    gpu.block_on(gpu.idle()).unwrap();
                    let live = host.objects();
                    assert_eq!(*first.get_or_insert_with(|| live.clone()), live, "{what} at {at:?}, round {round}");
                }
            }
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// Runs that are under way at once have each their own part, whoever is submitted first.
#[test]
fn parts_of_runs_that_are_under_way_at_once_are_their_own() {
    let bytes = picture();
    let corners = [[0, 0], [13, 5], [60, 17], [29, 11]];
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let view = host.texture(TextureFormat::Rgba8Unorm, &bytes, [WIDTH, HEIGHT]);
        for input in [Input::texture(&view), Input::rgba8(bytes.as_slice(), WIDTH, HEIGHT)] {
            let part = |[x, y]: [u32; 2]| input.clone().crop(Area { x, y, ..PART });
            let alone = |at: [u32; 2]| gpu.block_on(classifier.classify(part(at))).unwrap().logits;
            let expected = corners.map(alone);
            let (recorded, between) = frame(&host, |encoder| {
                let recorded = [0, 1, 2].map(|at: usize| classifier.record(encoder, part(corners[at])).unwrap());
                (recorded, alone(corners[3]))
            });
            assert_eq!(between, expected[3], "{}: submitted before those that were recorded", host.name);
            for (seen, expected) in recorded.into_iter().zip(&expected) {
                assert_eq!(&gpu.block_on(seen.wait()).unwrap().logits, expected, "{}: recorded", host.name);
            }
            let batch = gpu.block_on(classifier.classify_batch(&corners.map(part))).unwrap();
            let farthest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            for (at, answer) in batch.iter().enumerate() {
                let apart = |other: usize| farthest(&answer.logits, &expected[other]);
                let nearest = (0..corners.len()).min_by(|a, b| apart(*a).total_cmp(&apart(*b)));
                assert_eq!(nearest, Some(at), "{}: another part of the batch", host.name);
                assert!(apart(at) < 1e-3, "{}: {} apart in a batch", host.name, apart(at));
            }
        }
    }
}

/// How many dispatches of the device `work` takes.
fn dispatches<T>(gpu: &Gpu, work: impl FnOnce() -> T) -> u64 {
    let before = gpu.counts().dispatches;
    work();
    gpu.counts().dispatches - before
}

/// From a texture to the network's input it is one dispatch, however it is asked for; bytes take two, for they are resized in two passes.
#[test]
fn a_texture_is_one_dispatch_from_the_first_layer() {
    let (bytes, turned) = (picture(), Quarter::Counterclockwise);
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let network = classifier.plan(1, Pixels::Rgba8).unwrap().steps.len() as u64;
        let plain = || Input::rgba8(bytes.as_slice(), WIDTH, HEIGHT);
        let submitted = |input: Input<'_>| dispatches(&gpu, || gpu.block_on(classifier.classify(input)).unwrap());
        assert_eq!(submitted(plain()), network + 2, "{}: bytes", host.name);
        let views = [
            TextureFormat::Rgba8Unorm,
            TextureFormat::Bgra8Unorm,
            TextureFormat::Rgba8UnormSrgb,
            TextureFormat::Bgra8UnormSrgb,
            TextureFormat::Rgba16Float,
        ];
        let views = views.map(|format| host.texture(format, &texels(format, &bytes), [WIDTH, HEIGHT]));
        let halves = [WIDTH, HEIGHT].map(|side| side.div_ceil(2));
        let luma = host.texture(TextureFormat::R8Unorm, &vec![90; (WIDTH * HEIGHT) as usize], [WIDTH, HEIGHT]);
        let chroma = host.texture(TextureFormat::Rg8Unorm, &vec![90; (halves[0] * halves[1] * 2) as usize], halves);
        let yuv = Yuv { matrix: YuvMatrix::Bt709, range: YuvRange::Limited };
        let mut inputs: Vec<Input<'_>> = views.iter().map(Input::texture).collect();
        inputs.extend([Input::texture(&views[4]).linear(), Input::nv12(&luma, &chroma, yuv)]);
        let cut: Vec<_> = inputs.iter().map(|it| it.clone().crop(PART).rotated(turned).mirrored()).collect();
        let mut eyes = gpu.block_on(classifier.driven()).unwrap();
        for input in inputs.into_iter().chain(cut) {
            assert_eq!(submitted(input.clone()), network + 1, "{}: submitted, {input:?}", host.name);
            let mut frame = host.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("the host's") });
            let recorded = dispatches(&gpu, || drop(classifier.record(&mut frame, input.clone()).unwrap()));
            // A strict budget of nothing pays for no step of the network.
            let mut nothing = Budget::gpu(Duration::ZERO).strict();
            let looked = dispatches(&gpu, || eyes.look(&mut frame, &mut nothing, input.clone()).unwrap());
            assert_eq!([recorded, looked], [network + 1, 1], "{}: recorded, {input:?}", host.name);
            host.queue.submit([frame.finish()]);
            eyes.cancel();
            gpu.block_on(gpu.idle()).unwrap();
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// A texture of which so much is one pixel that two dispatches share it: the other way to prepare a texture gives what its bytes give as well.
#[test]
fn a_texture_that_is_shrunk_very_much_gives_what_its_bytes_give() {
    const LARGE: u32 = 2200;
    // Blotches of many sizes, so that something is left of them.
    let texel = |p: u32| {
        let (x, y) = (p % LARGE, p / LARGE);
        [x * y / 3000, (x ^ y) / 9 + p % 7, x / 70 * 37 + y / 90 * 11, p].map(|value| value as u8)
    };
    let bytes: Vec<u8> = (0..LARGE * LARGE).flat_map(texel).collect();
    for host in hosts() {
        let gpu = host.guest();
        let options = ClassifierOptions::default().side(32);
        let loaded = Classifier::load_with(&gpu, fixture(NETWORK), options, |_| ());
        let classifier = gpu.block_on(loaded).unwrap();
        let passes = Passes::new(classifier.preprocess(), LARGE, LARGE).unwrap();
        let [columns, rows] = [&passes.horizontal, &passes.vertical]
            .map(|from| table(&from.first, &from.count, &from.coefficients, from.taps));
        let weighed = ResizeTexture::most_weighed(&columns, &rows);
        assert!(weighed > 30_000, "{weighed} pixels are few enough for one dispatch");
        let prepared = |input: Input<'_>| gpu.block_on(classifier.prepared_pixels(input)).unwrap();
        for (format, allowed) in [(TextureFormat::Rgba8Unorm, 0), (TextureFormat::Rgba8UnormSrgb, 1)] {
            let view = host.texture(format, &bytes, [LARGE, LARGE]);
            for turned in [false, true] {
                let way = |input: Input<'_>| {
                    if turned { prepared(input.rotated(Quarter::Clockwise)) } else { prepared(input) }
                };
                let [texture, plain] = [Input::texture(&view), Input::rgba8(bytes.as_slice(), LARGE, LARGE)].map(way);
                let apart = levels(&texture, &plain);
                let allowed = if gpu.caps().software { 0 } else { allowed };
                assert!(apart <= allowed, "{format:?}, turned {turned} on {}: {apart} levels apart", host.name);
                let (least, most) = (plain.iter().min().unwrap(), plain.iter().max().unwrap());
                assert!(most - least > 60, "from {least} to {most}: nothing is left to compare");
            }
            let submitted = gpu.block_on(classifier.classify(Input::texture(&view))).unwrap();
            let descriptor = lampyris::wgpu::CommandEncoderDescriptor { label: Some("the host's frame") };
            let mut frame = host.device.create_command_encoder(&descriptor);
            let mut seen = classifier.record(&mut frame, Input::texture(&view)).unwrap();
            host.queue.submit([frame.finish()]);
            gpu.block_on(gpu.idle()).unwrap();
            let recorded = seen.try_take().unwrap().unwrap();
            assert_eq!(recorded.logits, submitted.logits, "{format:?} on {}: recorded and submitted", host.name);
            assert_eq!(recorded.features, submitted.features, "{format:?} on {}: recorded and submitted", host.name);
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn middle_gray_stays_middle_gray() {
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let gray = vec![128; (WIDTH * HEIGHT * 4) as usize];
        for format in [TextureFormat::Rgba8UnormSrgb, TextureFormat::Bgra8UnormSrgb, TextureFormat::Rgba8Unorm] {
            let view = host.texture(format, &gray, [WIDTH, HEIGHT]);
            let found = gpu.block_on(classifier.prepared_pixels(&view)).unwrap();
            let apart = levels(&found, &vec![128; found.len()]);
            assert_eq!(apart, 0, "{format:?} on {}: gray is {apart} levels off", host.name);
        }
    }
}

#[test]
fn the_hosts_handlers_stay_the_hosts() {
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let view = host.texture(TextureFormat::Rgba8Unorm, &picture(), [WIDTH, HEIGHT]);
        gpu.block_on(classifier.classify(&view)).unwrap();
        // What the guest does wrong is the guest's to hear.
        let outside = Area { x: WIDTH, ..PART };
        gpu.block_on(classifier.classify(Input::texture(&view).crop(outside))).unwrap_err();
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
        // And the host's handlers are still in place.
        host.blunder();
        assert_eq!(host.told(), (1, 0), "the host's error handler on {} is gone", host.name);
        host.device.destroy();
        let _ = host.device.poll(lampyris::wgpu::PollType::Poll);
        assert_eq!(host.told(), (1, 1), "the host's lost callback on {} is gone", host.name);
        // A guest that was told of the loss leaves the device alone.
        gpu.notify_lost("the host destroyed it");
        expect_lost(&host, gpu.block_on(classifier.classify(&view)));
        expect_lost(&host, gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))));
        assert_eq!(host.told(), (1, 1), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn a_loss_that_nobody_told_of_is_noticed() {
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        host.device.destroy();
        expect_lost(&host, gpu.block_on(classifier.classify(Input::rgba8(picture(), WIDTH, HEIGHT))));
        // A second guest finds out while it loads.
        let gpu = host.guest();
        expect_lost(&host, gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))));
    }
}

fn expect_lost<T: std::fmt::Debug>(host: &Host, result: lampyris::Result<T>) {
    assert!(matches!(result, Err(Error::Engine(EngineError::DeviceLost { .. }))), "{}: {result:?}", host.name);
}

/// A refused texture, by what the message says of it.
fn expect_refused<T: std::fmt::Debug>(host: &Host, what: &str, result: lampyris::Result<T>) {
    match result {
        Err(Error::Engine(EngineError::Texture { found, .. })) if found.contains(what) => {}
        other => panic!("{}, {what}: {other:?}", host.name),
    }
}

#[test]
fn a_texture_that_cannot_be_read_is_refused_by_what_is_wrong() {
    let plain = || descriptor([WIDTH, HEIGHT]);
    let (sampled, drawn) = (TextureUsages::TEXTURE_BINDING, TextureUsages::RENDER_ATTACHMENT);
    let deep = Extent3d { width: WIDTH, height: HEIGHT, depth_or_array_layers: 2 };
    let wrong: [(&str, TextureDescriptor<'_>); 7] = [
        ("COPY_DST", TextureDescriptor { usage: TextureUsages::COPY_DST, ..plain() }),
        ("4 samples", TextureDescriptor { sample_count: 4, usage: sampled | drawn, ..plain() }),
        ("D3", TextureDescriptor { dimension: TextureDimension::D3, size: deep, ..plain() }),
        ("R32Uint", TextureDescriptor { format: TextureFormat::R32Uint, ..plain() }),
        ("Depth32Float", TextureDescriptor { format: TextureFormat::Depth32Float, usage: sampled, ..plain() }),
        ("R8Unorm", TextureDescriptor { format: TextureFormat::R8Unorm, ..plain() }),
        // A view of all layers, which only the driver can tell from one of a single layer.
        ("refused", TextureDescriptor { size: deep, ..plain() }),
    ];
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let classify = |input: Input<'_>| gpu.block_on(classifier.classify(input));
        for (what, descriptor) in &wrong {
            let texture = host.device.create_texture(descriptor);
            let view = texture.create_view(&TextureViewDescriptor::default());
            expect_refused(&host, what, classify(Input::texture(&view)));
        }
        let good = host.texture(TextureFormat::Rgba8Unorm, &picture(), [WIDTH, HEIGHT]);
        expect_refused(&host, "300x97", classify(Input::texture_as(&good, 2 * WIDTH, HEIGHT, false)));
        classify(Input::texture(&good)).unwrap();
        good.texture().destroy();
        expect_refused(&host, "refused", classify(Input::texture(&good)));
        gpu.check_alive().unwrap();
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn a_texture_of_another_device_is_refused_and_nobody_else_hears_of_it() {
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let stranger = host.another();
        let view = stranger.texture(TextureFormat::Rgba8Unorm, &picture(), [WIDTH, HEIGHT]);
        expect_refused(&host, "refused", gpu.block_on(classifier.classify(&view)));
        expect_refused(&host, "refused", gpu.block_on(classifier.prepared_pixels(&view)));
        let own = host.texture(TextureFormat::Rgba8Unorm, &picture(), [WIDTH, HEIGHT]);
        gpu.block_on(classifier.classify(&own)).unwrap();
        gpu.check_alive().unwrap();
        assert_eq!((host.told(), stranger.told()), ((0, 0), (0, 0)), "{}: somebody heard of it", host.name);
    }
}

#[test]
fn a_device_of_the_engines_own_survives_a_texture_of_another_instance() {
    for (index, host) in hosts().iter().enumerate() {
        let gpu = pollster::block_on(Gpu::with(GpuOptions::default().adapter(AdapterChoice::Index(index)))).unwrap();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let view = host.texture(TextureFormat::Rgba8Unorm, &picture(), [WIDTH, HEIGHT]);
        expect_refused(host, "refused", gpu.block_on(classifier.classify(&view)));
        gpu.block_on(classifier.classify(Input::rgba8(picture(), WIDTH, HEIGHT))).unwrap();
    }
}

/// That a view gives what the picture's bytes give.
fn expect_the_picture(host: &Host, gpu: &Gpu, classifier: &Classifier, view: &TextureView, srgb: bool) {
    let prepared = |input: Input<'_>| gpu.block_on(classifier.prepared_pixels(input)).unwrap();
    let found = prepared(Input::texture_as(view, WIDTH, HEIGHT, srgb));
    let apart = levels(&found, &prepared(Input::rgba8(picture(), WIDTH, HEIGHT)));
    let allowed = u8::from(srgb && !gpu.caps().software);
    assert!(apart <= allowed, "{}: {:?}, srgb {srgb}: {apart} levels apart", host.name, view.texture().format());
}

#[test]
fn a_view_in_another_format_or_of_a_mip_level_gives_what_its_bytes_give() {
    let (plain, curved) = (TextureFormat::Rgba8Unorm, TextureFormat::Rgba8UnormSrgb);
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let views = host.adapter.get_downlevel_capabilities().flags.contains(DownlevelFlags::VIEW_FORMATS);
        for (format, viewed) in [(plain, curved), (curved, plain)].into_iter().filter(|_| views) {
            let texture = host.device.create_texture(&TextureDescriptor {
                format,
                view_formats: &[viewed],
                ..descriptor([WIDTH, HEIGHT])
            });
            host.fill(&texture, 0, &picture());
            let view = texture.create_view(&TextureViewDescriptor { format: Some(viewed), ..Default::default() });
            expect_the_picture(&host, &gpu, &classifier, &view, viewed == curved);
        }
        let large = TextureDescriptor { mip_level_count: 2, ..descriptor([2 * WIDTH, 2 * HEIGHT + 1]) };
        let texture = host.device.create_texture(&large);
        host.fill(&texture, 1, &picture());
        let view = texture.create_view(&TextureViewDescriptor { base_mip_level: 1, ..Default::default() });
        expect_the_picture(&host, &gpu, &classifier, &view, false);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn a_texture_is_refused_where_there_is_no_device() {
    let gpu = Gpu::cpu_executor();
    let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
    for host in hosts() {
        let view = host.texture(TextureFormat::Rgba8Unorm, &picture(), [WIDTH, HEIGHT]);
        let refused = gpu.block_on(classifier.classify(&view));
        assert!(matches!(refused, Err(Error::Engine(EngineError::NoTexture { .. }))), "{refused:?}");
        gpu.block_on(classifier.classify(Input::rgba8(picture(), WIDTH, HEIGHT))).unwrap();
    }
}
