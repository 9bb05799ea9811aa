//! A Rust program in a browser that lends its WebGPU device, as a game compiled for the web does; `guest.test.mjs` drives it. It is
//! no part of the package, whose pictures come as bytes.

mod frames;

use js_sys::Error;
use lampyris::engine::kernels::{Desc, Format, HostTensor};
use lampyris::engine::weights::Weights;
use lampyris::wgpu::{self, Features, TextureFormat, TextureView};
use lampyris::{Area, Classifier, Gpu, Input, Source, Yuv, YuvMatrix, YuvRange};
use std::fmt::Display;
use wasm_bindgen::prelude::*;

/// The program that was there first, with a classifier as its guest.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Host {
    device: wgpu::Device,
    queue: wgpu::Queue,
    classifier: Classifier,
}

#[wasm_bindgen]
impl Host {
    /// Opens a device with WebGPU's default limits and no features, and loads a MobileNet on it.
    pub async fn open(weights: Vec<u8>, config: Vec<u8>, preprocessor: Vec<u8>) -> Result<Host, Error> {
        let (adapter, device, queue) = device(Features::empty()).await?;
        let gpu = Gpu::from_device(&adapter, &device, &queue).map_err(told)?;
        let source = sketches(weights, config, preprocessor)?;
        let classifier = Classifier::load(&gpu, source).await.map_err(told)?;
        Ok(Host { device, queue, classifier })
    }

    /// The logits of a picture of RGBA bytes.
    pub async fn bytes(&self, pixels: Vec<u8>, width: u32, height: u32) -> Result<Vec<f32>, Error> {
        let answer = self.classifier.classify(Input::rgba8(pixels, width, height)).await;
        answer.map(|answer| answer.logits).map_err(told)
    }

    /// The logits of a picture of RGBA bytes in a texture of this format, which a frame of the program's own looks at.
    pub async fn texture(&self, mut pixels: Vec<u8>, size: Vec<u32>, format: &str) -> Result<Vec<f32>, Error> {
        let format = match format {
            "rgba8unorm" => TextureFormat::Rgba8Unorm,
            "rgba8unorm-srgb" => TextureFormat::Rgba8UnormSrgb,
            "bgra8unorm" => TextureFormat::Bgra8Unorm,
            "bgra8unorm-srgb" => TextureFormat::Bgra8UnormSrgb,
            "rgba16float" => TextureFormat::Rgba16Float,
            other => return Err(told(format!("{other} is not tried here"))),
        };
        match format {
            TextureFormat::Bgra8Unorm | TextureFormat::Bgra8UnormSrgb => {
                pixels.chunks_exact_mut(4).for_each(|texel| texel.swap(0, 2));
            }
            TextureFormat::Rgba16Float => {
                let values: Vec<f32> = pixels.iter().map(|byte| f32::from(*byte) / 255.0).collect();
                let halves = HostTensor::from_values(Desc::new(Format::F16, [values.len()]), &values);
                pixels = halves.words.iter().flat_map(|word| word.to_le_bytes()).collect();
            }
            _ => {}
        }
        let view = self.filled(format, &pixels, [size[0], size[1]]);
        self.frame(|| Input::texture(&view)).await
    }

    /// The logits of a gray picture in two planes as cameras give them, of which this is the luma.
    pub async fn planes(&self, luma: Vec<u8>, width: u32, height: u32) -> Result<Vec<f32>, Error> {
        let [columns, rows] = [width, height].map(|side| side.div_ceil(2));
        let gray = vec![128; (2 * columns * rows) as usize];
        let luma = self.filled(TextureFormat::R8Unorm, &luma, [width, height]);
        let chroma = self.filled(TextureFormat::Rg8Unorm, &gray, [columns, rows]);
        let yuv = Yuv { matrix: YuvMatrix::Bt601, range: YuvRange::Full };
        self.frame(|| Input::nv12(&luma, &chroma, yuv)).await
    }

    /// The logits of a part of a picture of RGBA bytes.
    pub async fn part_of_bytes(&self, pixels: Vec<u8>, size: Vec<u32>, part: Vec<u32>) -> Result<Vec<f32>, Error> {
        let input = Input::rgba8(pixels, size[0], size[1]).crop(area(&part));
        let answer = self.classifier.classify(input).await;
        answer.map(|answer| answer.logits).map_err(told)
    }

    /// The logits of a part of a texture that moves: each frame looks at the next place, and only the first was asked to be made ready for.
    pub async fn parts(&self, pixels: Vec<u8>, size: Vec<u32>, parts: Vec<u32>) -> Result<Vec<f32>, Error> {
        let view = self.filled(TextureFormat::Rgba8Unorm, &pixels, [size[0], size[1]]);
        let mut logits = Vec::new();
        for (at, part) in parts.chunks_exact(4).enumerate() {
            let input = || Input::texture(&view).crop(area(part));
            if at == 0 {
                self.classifier.ready(input()).await.map_err(told)?;
            }
            logits.extend(self.look(input()).await?);
        }
        Ok(logits)
    }

    /// The logits of an empty square texture of RGBA bytes.
    pub async fn blank(&self, side: u32) -> Result<Vec<f32>, Error> {
        let view = self.made(TextureFormat::Rgba8Unorm, [side; 2]).create_view(&wgpu::TextureViewDescriptor::default());
        self.frame(|| Input::texture(&view)).await
    }
}

impl Host {
    /// A frame that has nothing in it but the guest.
    async fn frame<'a>(&self, input: impl Fn() -> Input<'a>) -> Result<Vec<f32>, Error> {
        self.classifier.ready(input()).await.map_err(told)?;
        self.look(input()).await
    }

    /// The same of what the classifier is ready for.
    async fn look(&self, input: Input<'_>) -> Result<Vec<f32>, Error> {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let seen = self.classifier.record(&mut encoder, input).map_err(told)?;
        self.queue.submit([encoder.finish()]);
        seen.wait().await.map(|answer| answer.logits).map_err(told)
    }

    fn made(&self, format: TextureFormat, [width, height]: [u32; 2]) -> wgpu::Texture {
        self.device.create_texture(&wgpu::TextureDescriptor {
            label: Some("camera"),
            size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        })
    }

    fn filled(&self, format: TextureFormat, texels: &[u8], [width, height]: [u32; 2]) -> TextureView {
        let texture = self.made(format, [width, height]);
        let bytes_per_row = format.block_copy_size(None).map(|bytes| bytes * width);
        let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row, rows_per_image: None };
        let size = wgpu::Extent3d { width, height, depth_or_array_layers: 1 };
        self.queue.write_texture(texture.as_image_copy(), texels, layout, size);
        texture.create_view(&wgpu::TextureViewDescriptor::default())
    }
}

/// Left, top, width and height.
fn area(numbers: &[u32]) -> Area {
    Area { x: numbers[0], y: numbers[1], width: numbers[2], height: numbers[3] }
}

/// A device of the program's own, with WebGPU's default limits. Each is of an adapter of its own, as browsers ask for.
async fn device(required_features: Features) -> Result<(wgpu::Adapter, wgpu::Device, wgpu::Queue), Error> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await.map_err(told)?;
    let descriptor = wgpu::DeviceDescriptor { required_features, ..Default::default() };
    let (device, queue) = adapter.request_device(&descriptor).await.map_err(told)?;
    Ok((adapter, device, queue))
}

/// The files of a classifier.
fn sketches(weights: Vec<u8>, config: Vec<u8>, preprocessor: Vec<u8>) -> Result<Source, Error> {
    let weights = Weights::from_bytes("the page's network", weights).map_err(told)?;
    Ok(Source::Files { weights, config: Some(config), preprocessor: Some(preprocessor) })
}

fn told(error: impl Display) -> Error {
    Error::new(&error.to_string())
}
