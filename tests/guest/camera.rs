//! Pictures as cameras and renderers give them: turned, mirrored, in two planes, in linear light. A texture gives what its bytes give, and
//! nothing of the host's is written.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::fixture;
use crate::support::host::{Host, descriptor, hosts};
use half::f16;
use lampyris::engine::Error as EngineError;
use lampyris::wgpu::{
    self, TextureAspect, TextureDescriptor, TextureFormat, TextureUsages, TextureView, TextureViewDescriptor,
};
use lampyris::{Area, Classifier, Error, Gpu, Input, Quarter, Yuv, YuvMatrix, YuvRange};

const NETWORK: &str = "mobilenet_v3_small_w025";
/// Odd sides, so that chroma has texels that stand for fewer than four pixels.
const WIDTH: u32 = 151;
const HEIGHT: u32 = 97;
const PART: Area = Area { x: 13, y: 6, width: 91, height: 80 };

fn load(host: &Host) -> (Gpu, Classifier) {
    let gpu = host.guest();
    let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
    (gpu, classifier)
}

fn picture() -> Vec<u8> {
    (0..WIDTH * HEIGHT).flat_map(|p| [p * 7, p * 13 + p / 150, p / 3, p * 29].map(|value| value as u8)).collect()
}

/// The largest difference of two prepared pictures in a red, green or blue value, in levels.
fn levels(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!((a.len(), a.len() % 4), (b.len(), 0));
    let colours = a.iter().zip(b).enumerate().filter(|(at, _)| at % 4 != 3);
    colours.map(|(_, (a, b))| a.abs_diff(*b)).max().unwrap()
}

/// Rows of pixels.
#[derive(Clone)]
struct Rows(Vec<Vec<[u8; 4]>>);

impl Rows {
    fn of(bytes: &[u8], width: u32) -> Rows {
        Rows(bytes.chunks(width as usize * 4).map(|row| row.as_chunks::<4>().0.to_vec()).collect())
    }

    fn cut(&self, area: Area) -> Rows {
        let rows = self.0.iter().skip(area.y as usize).take(area.height as usize);
        Rows(rows.map(|row| row[area.x as usize..(area.x + area.width) as usize].to_vec()).collect())
    }

    /// What was the first column, from below, is the first row.
    fn clockwise(&self) -> Rows {
        let columns = 0..self.0[0].len();
        Rows(columns.map(|column| self.0.iter().rev().map(|row| row[column]).collect()).collect())
    }

    fn mirrored(&self) -> Rows {
        Rows(self.0.iter().map(|row| row.iter().rev().copied().collect()).collect())
    }

    fn input(&self) -> Input<'static> {
        Input::rgba8(self.0.concat().concat(), self.0[0].len() as u32, self.0.len() as u32)
    }
}

/// Ways to turn an input, each with what it makes of rows.
type Way = (&'static str, fn(Input<'_>) -> Input<'_>, fn(Rows) -> Rows);

fn ways() -> [Way; 5] {
    [
        ("clockwise", |it| it.rotated(Quarter::Clockwise), |it| it.clockwise()),
        ("half", |it| it.rotated(Quarter::Half), |it| it.clockwise().clockwise()),
        ("counterclockwise", |it| it.rotated(Quarter::Counterclockwise), |it| it.clockwise().clockwise().clockwise()),
        ("mirrored, then clockwise", |it| it.mirrored().rotated(Quarter::Clockwise), |it| it.mirrored().clockwise()),
        ("clockwise, then mirrored", |it| it.rotated(Quarter::Clockwise).mirrored(), |it| it.clockwise().mirrored()),
    ]
}

/// A texture that can be read back.
fn texture(host: &Host, format: TextureFormat, texels: &[u8], size: [u32; 2]) -> TextureView {
    let usage = TextureUsages::TEXTURE_BINDING | TextureUsages::COPY_DST | TextureUsages::COPY_SRC;
    let texture = host.device.create_texture(&TextureDescriptor { format, usage, ..descriptor(size) });
    host.fill(&texture, 0, texels);
    texture.create_view(&TextureViewDescriptor::default())
}

/// The bytes of a texture's first rows, `row` bytes each.
fn texels(host: &Host, view: &TextureView, row: u32) -> Vec<u8> {
    let (texture, pitch) = (view.texture(), row.next_multiple_of(256));
    let staging = host.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("the host's copy"),
        size: u64::from(pitch * texture.height()),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(pitch), rows_per_image: None };
    let into = wgpu::TexelCopyBufferInfo { buffer: &staging, layout };
    encoder.copy_texture_to_buffer(texture.as_image_copy(), into, texture.size());
    host.queue.submit([encoder.finish()]);
    staging.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
    host.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let view = staging.get_mapped_range(..).unwrap();
    view.chunks(pitch as usize).flat_map(|line| line[..row as usize].to_vec()).collect()
}

#[test]
fn turned_textures_and_bytes_give_what_turned_rows_give() {
    let (bytes, cpu) = (picture(), Gpu::cpu_executor());
    let by_twins = pollster::block_on(Classifier::load(&cpu, &fixture(NETWORK))).unwrap();
    let half: Vec<u8> = bytes.iter().flat_map(|b| f16::from_f32(f32::from(*b) / 255.0).to_le_bytes()).collect();
    let swapped: Vec<u8> = bytes.chunks_exact(4).flat_map(|p| [p[2], p[1], p[0], p[3]]).collect();
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let prepared = |input: Input<'_>| gpu.block_on(classifier.prepared_pixels(input)).unwrap();
        let textures = [
            (TextureFormat::Rgba8Unorm, &bytes, 0),
            (TextureFormat::Rgba8UnormSrgb, &bytes, 1),
            (TextureFormat::Bgra8Unorm, &swapped, 0),
            (TextureFormat::Bgra8UnormSrgb, &swapped, 1),
            (TextureFormat::Rgba16Float, &half, 1),
        ];
        let textures =
            textures.map(|(format, texels, allowed)| (texture(&host, format, texels, [WIDTH, HEIGHT]), allowed));
        for (name, turn, rows) in ways() {
            let expected = rows(Rows::of(&bytes, WIDTH).cut(PART)).input();
            let of_rows = prepared(expected.clone());
            let of_bytes = || turn(Input::rgba8(bytes.as_slice(), WIDTH, HEIGHT).crop(PART));
            assert!(prepared(of_bytes()) == of_rows, "{name} on {}: bytes", host.name);
            let by_twins = pollster::block_on(by_twins.prepared_pixels(of_bytes())).unwrap();
            assert_eq!(levels(&by_twins, &of_rows), 0, "{name}: the twins");
            for (view, allowed) in &textures {
                let apart = levels(&prepared(turn(Input::texture(view).crop(PART))), &of_rows);
                let format = view.texture().format();
                let allowed = if gpu.caps().software { 0 } else { *allowed };
                assert!(apart <= allowed, "{name}, {format:?} on {}: {apart} levels apart", host.name);
            }
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// Two planes of noise, and the picture that they are by the standards' formula in floats.
fn planes(yuv: Yuv) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let [columns, lines] = [WIDTH, HEIGHT].map(|side| side.div_ceil(2));
    let luma: Vec<u8> = (0..WIDTH * HEIGHT).map(|p| (p * 37 + p / 7) as u8).collect();
    let chroma: Vec<u8> = (0..columns * lines * 2).map(|p| (p * 53 + p / 11) as u8).collect();
    let [red, blue] = if yuv.matrix == YuvMatrix::Bt601 { [0.299, 0.114] } else { [0.2126, 0.0722] };
    let [low, luma_levels, chroma_levels] =
        if yuv.range == YuvRange::Limited { [16.0, 219.0, 224.0] } else { [0.0, 255.0, 255.0] };
    let pixel = |x: u32, y: u32| {
        let at = ((y / 2 * columns + x / 2) * 2) as usize;
        let bright = (f64::from(luma[(y * WIDTH + x) as usize]) - low) / luma_levels;
        let [u, v] = [at, at + 1].map(|at| (f64::from(chroma[at]) - 128.0) / chroma_levels);
        let (r, b) = (bright + 2.0 * (1.0 - red) * v, bright + 2.0 * (1.0 - blue) * u);
        let g = (bright - red * r - blue * b) / (1.0 - red - blue);
        [r, g, b, 1.0].map(|value: f64| (value * 255.0).round().clamp(0.0, 255.0) as u8)
    };
    let rgba = (0..HEIGHT).flat_map(|y| (0..WIDTH).flat_map(move |x| [(x, y)])).flat_map(|(x, y)| pixel(x, y));
    (luma.clone(), chroma.clone(), rgba.collect())
}

#[test]
fn two_planes_give_their_picture_also_in_a_hosts_frame() {
    let halves = [WIDTH, HEIGHT].map(|side| side.div_ceil(2));
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let prepared = |input: Input<'_>| gpu.block_on(classifier.prepared_pixels(input)).unwrap();
        for matrix in [YuvMatrix::Bt601, YuvMatrix::Bt709] {
            for range in [YuvRange::Limited, YuvRange::Full] {
                let yuv = Yuv { matrix, range };
                let (luma, chroma, rgba) = planes(yuv);
                let first = texture(&host, TextureFormat::R8Unorm, &luma, [WIDTH, HEIGHT]);
                let second = texture(&host, TextureFormat::Rg8Unorm, &chroma, halves);
                let input = || Input::nv12(&first, &second, yuv);
                for (name, turn, rows) in ways() {
                    let expected = prepared(rows(Rows::of(&rgba, WIDTH).cut(PART)).input());
                    let apart = levels(&prepared(turn(input().crop(PART))), &expected);
                    assert!(apart <= 1, "{yuv:?}, {name} on {}: {apart} levels apart", host.name);
                }
                let apart = levels(&prepared(input()), &prepared(Input::rgba8(rgba.as_slice(), WIDTH, HEIGHT)));
                assert!(apart <= 1, "{yuv:?} on {}: {apart} levels apart", host.name);
                let expected = gpu.block_on(classifier.classify(input())).unwrap();
                let mut frame = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                let seen = classifier.record(&mut frame, input()).unwrap();
                host.queue.submit([frame.finish()]);
                let seen = gpu.block_on(seen.wait()).unwrap();
                assert_eq!(seen.logits, expected.logits, "{yuv:?} on {}", host.name);
                assert!(texels(&host, &first, WIDTH) == luma && texels(&host, &second, 2 * halves[0]) == chroma);
            }
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// Video decoders of native targets give both planes as one texture, where the host has asked its device for such ones.
#[test]
fn one_texture_of_two_planes_gives_what_its_planes_give() {
    let yuv = Yuv { matrix: YuvMatrix::Bt709, range: YuvRange::Limited };
    let [width, height] = [WIDTH + 1, HEIGHT + 1];
    let noise = |count: u32, step: u32| (0..count).map(|p| (p * step + p / 7) as u8).collect::<Vec<u8>>();
    let (luma, chroma) = (noise(width * height, 37), noise(width * height / 2, 53));
    for host in hosts() {
        let Some(host) = host.with(wgpu::Features::TEXTURE_FORMAT_NV12) else {
            eprintln!("skipped: {} has no textures of two planes", host.name);
            continue;
        };
        let (gpu, classifier) = load(&host);
        let first = texture(&host, TextureFormat::R8Unorm, &luma, [width, height]);
        let second = texture(&host, TextureFormat::Rg8Unorm, &chroma, [width / 2, height / 2]);
        let both = host
            .device
            .create_texture(&TextureDescriptor { format: TextureFormat::NV12, ..descriptor([width, height]) });
        let plane = |aspect: TextureAspect, bytes: &[u8], size: [u32; 2]| {
            let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(width), rows_per_image: None };
            let into = wgpu::TexelCopyTextureInfo { aspect, ..both.as_image_copy() };
            let size = wgpu::Extent3d { width: size[0], height: size[1], depth_or_array_layers: 1 };
            host.queue.write_texture(into, bytes, layout, size);
            both.create_view(&TextureViewDescriptor { aspect, ..Default::default() })
        };
        let of_both = [
            plane(TextureAspect::Plane0, &luma, [width, height]),
            plane(TextureAspect::Plane1, &chroma, [width / 2, height / 2]),
        ];
        let apart = Input::nv12(&first, &second, yuv);
        let together = || Input::nv12(&of_both[0], &of_both[1], yuv);
        for (name, turn, _) in ways() {
            let of = |input: Input<'_>| gpu.block_on(classifier.prepared_pixels(turn(input.crop(PART)))).unwrap();
            assert!(of(together()) == of(apart.clone()), "{name} on {}", host.name);
        }
        let expected = gpu.block_on(classifier.classify(apart)).unwrap();
        let mut frame = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let seen = classifier.record(&mut frame, together()).unwrap();
        // A plane is no picture.
        let refused = classifier.record(&mut frame, Input::texture(&of_both[0])).map(|_| ());
        let told = refused.as_ref().map_or_else(ToString::to_string, |()| String::new());
        assert!(matches!(refused, Err(Error::Engine(EngineError::Texture { .. }))), "{}: {refused:?}", host.name);
        assert!(told.contains("planes 0 and 1"), "{told}");
        host.queue.submit([frame.finish()]);
        assert_eq!(gpu.block_on(seen.wait()).unwrap().logits, expected.logits, "{}", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

#[test]
fn linear_light_gets_its_curve() {
    let linear = |byte: &u8| {
        let value = f32::from(*byte) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    let bytes = picture();
    let half: Vec<u8> = bytes.iter().flat_map(|byte| f16::from_f32(linear(byte)).to_le_bytes()).collect();
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let view = texture(&host, TextureFormat::Rgba16Float, &half, [WIDTH, HEIGHT]);
        let prepared = |input: Input<'_>| gpu.block_on(classifier.prepared_pixels(input)).unwrap();
        let expected = prepared(Input::rgba8(bytes.as_slice(), WIDTH, HEIGHT));
        let apart = levels(&prepared(Input::texture(&view).linear()), &expected);
        assert!(apart <= 1, "{}: {apart} levels apart", host.name);
        assert!(
            levels(&prepared(Input::texture(&view)), &expected) > 20,
            "{}: the curve makes a difference",
            host.name
        );
        assert!(texels(&host, &view, 8 * WIDTH) == half, "{}: the host's texture was written", host.name);
    }
}

#[test]
fn planes_that_do_not_belong_together_are_refused_before_any_command() {
    let yuv = Yuv { matrix: YuvMatrix::Bt709, range: YuvRange::Limited };
    let halves = [WIDTH, HEIGHT].map(|side| side.div_ceil(2));
    for host in hosts() {
        let (gpu, classifier) = load(&host);
        let plane = |format: TextureFormat, [width, height]: [u32; 2]| {
            let bytes = format.block_copy_size(None).unwrap();
            texture(&host, format, &vec![90; (width * height * bytes) as usize], [width, height])
        };
        let luma = plane(TextureFormat::R8Unorm, [WIDTH, HEIGHT]);
        let chroma = plane(TextureFormat::Rg8Unorm, halves);
        let whole = plane(TextureFormat::Rg8Unorm, [WIDTH, HEIGHT]);
        let single = plane(TextureFormat::R8Unorm, halves);
        let numbers = plane(TextureFormat::Rg8Uint, halves);
        let stranger =
            texture(&host.another(), TextureFormat::Rg8Unorm, &vec![9; (halves[0] * halves[1] * 2) as usize], halves);
        let mut frame = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (what, luma, chroma) in [
            ("chroma as large as luma", &luma, &whole),
            ("one channel of chroma", &luma, &single),
            ("chroma of whole numbers", &luma, &numbers),
            ("the planes in the wrong order", &chroma, &luma),
            ("a plane of another device", &luma, &stranger),
        ] {
            let refused = classifier.record(&mut frame, Input::nv12(luma, chroma, yuv)).map(|_| ());
            assert!(
                matches!(refused, Err(Error::Engine(EngineError::Texture { .. }))),
                "{}, {what}: {refused:?}",
                host.name
            );
        }
        let refused = classifier.record(&mut frame, Input::texture(&luma)).map(|_| ());
        assert!(matches!(refused, Err(Error::Engine(EngineError::Texture { .. }))), "{}: {refused:?}", host.name);
        let seen = classifier.record(&mut frame, Input::nv12(&luma, &chroma, yuv)).unwrap();
        host.queue.submit([frame.finish()]);
        gpu.block_on(seen.wait()).unwrap();
        gpu.check_alive().unwrap();
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}
