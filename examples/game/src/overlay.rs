//! The flat layer over the scene: boxes, letters and one picture, all in one draw.

use crate::host::{Host, blended, view};
use crate::mesh::linear;
use bytemuck::{Pod, Zeroable};
use lampyris::wgpu;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// The letters that can be shown; others show as a question mark.
const LETTERS: std::ops::RangeInclusive<char> = ' '..='~';
const ATLAS_WIDTH: u32 = 2048;
/// Rectangles of a frame.
const MOST: usize = 4096;

/// How letters look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Font {
    Small,
    SmallBold,
    Large,
}

impl Font {
    const ALL: [Font; 3] = [Font::Small, Font::SmallBold, Font::Large];

    fn face(self) -> (FontWeight, RasterHeight) {
        match self {
            Font::Small => (FontWeight::Regular, RasterHeight::Size16),
            Font::SmallBold => (FontWeight::Bold, RasterHeight::Size16),
            Font::Large => (FontWeight::Bold, RasterHeight::Size24),
        }
    }

    /// Pixels from one letter to the next.
    pub fn advance(self) -> f32 {
        let (weight, height) = self.face();
        get_raster_width(weight, height) as f32
    }

    /// Pixels of a letter's height.
    pub fn height(self) -> f32 {
        self.face().1.val() as f32
    }

    /// Where its letters begin in the atlas.
    fn row(self) -> f32 {
        Font::ALL.iter().take_while(|font| **font != self).map(|font| font.height()).sum()
    }
}

/// One rectangle, as the shader reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Quad {
    place: [f32; 4],
    from: [f32; 4],
    colour: [f32; 4],
    shape: [f32; 2],
}

/// What is to be drawn in this frame, from back to front. Places are in pixels from the left upper corner.
#[derive(Debug, Default)]
pub struct Sheet {
    quads: Vec<Quad>,
}

impl Sheet {
    fn add(&mut self, place: [f32; 4], from: [f32; 4], (hex, alpha): (u32, f32), shape: [f32; 2]) {
        let [r, g, b] = linear(hex);
        self.quads.push(Quad { place, from, colour: [r, g, b, alpha], shape });
    }

    /// A box with round corners.
    pub fn panel(&mut self, place: [f32; 4], paint: (u32, f32), radius: f32) {
        self.add(place, [0.0; 4], paint, [0.0, radius]);
    }

    /// What the eye sees.
    pub fn picture(&mut self, place: [f32; 4], radius: f32) {
        self.add(place, [0.0, 0.0, 1.0, 1.0], (0, 1.0), [2.0, radius]);
    }

    /// A triangle that points downwards.
    pub fn tail(&mut self, place: [f32; 4], paint: (u32, f32)) {
        self.add(place, [0.0; 4], paint, [3.0, 0.0]);
    }

    /// A line of text from its left upper corner; gives where it ends.
    pub fn text(&mut self, [mut x, y]: [f32; 2], font: Font, hex: u32, text: &str) -> f32 {
        let (wide, high) = (font.advance(), font.height());
        // Whole pixels, since letters are not scaled.
        let y = y.round();
        for letter in text.chars() {
            let letter = if LETTERS.contains(&letter) { letter } else { '?' };
            let column = (letter as u32 - *LETTERS.start() as u32) as f32;
            if letter != ' ' {
                let place = [x.round(), y, wide, high];
                self.add(place, [column * wide, font.row(), wide, high], (hex, 1.0), [1.0, 0.0]);
            }
            x += wide;
        }
        x
    }
}

/// Lines of at most so many letters, broken between words.
pub fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.split('\n').filter(|paragraph| !paragraph.trim().is_empty()) {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let room = line.chars().count() + 1 + word.chars().count() <= most;
            if !line.is_empty() && !room {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// What sheets are drawn with.
#[derive(Debug)]
pub struct Overlay {
    pipeline: wgpu::RenderPipeline,
    group: wgpu::BindGroup,
    screen: wgpu::Buffer,
    quads: wgpu::Buffer,
}

impl Overlay {
    /// For sheets that may show `seen`.
    pub fn new(host: &Host, seen: &wgpu::TextureView) -> Overlay {
        let device = &host.device;
        let module = host.shader("game.overlay", include_str!("overlay.wgsl"));
        let attributes = wgpu::vertex_attr_array![0 => Float32x4, 1 => Float32x4, 2 => Float32x4, 3 => Float32x2];
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("game.overlay"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: Some("corner"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                buffers: &[Some(wgpu::VertexBufferLayout {
                    array_stride: size_of::<Quad>() as u64,
                    step_mode: wgpu::VertexStepMode::Instance,
                    attributes: &attributes,
                })],
            },
            primitive: wgpu::PrimitiveState { topology: wgpu::PrimitiveTopology::TriangleStrip, ..Default::default() },
            depth_stencil: None,
            multisample: wgpu::MultisampleState::default(),
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: Some("painted"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                targets: &[Some(blended(host.format))],
            }),
            multiview_mask: None,
            cache: None,
        });
        let screen = host.buffer("game.screen", 16, wgpu::BufferUsages::UNIFORM);
        let quads = host.buffer("game.quads", (MOST * size_of::<Quad>()) as u64, wgpu::BufferUsages::VERTEX);
        let linear = wgpu::FilterMode::Linear;
        let sampler = device.create_sampler(&wgpu::SamplerDescriptor {
            mag_filter: linear,
            min_filter: linear,
            ..Default::default()
        });
        let atlas = view(&atlas(host));
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("game.overlay"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: screen.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: wgpu::BindingResource::TextureView(&atlas) },
                wgpu::BindGroupEntry { binding: 2, resource: wgpu::BindingResource::TextureView(seen) },
                wgpu::BindGroupEntry { binding: 3, resource: wgpu::BindingResource::Sampler(&sampler) },
            ],
        });
        Overlay { pipeline, group, screen, quads }
    }

    /// Draws a sheet over what is there.
    pub fn draw(&self, host: &Host, pass: &mut wgpu::RenderPass<'_>, sheet: &Sheet, [width, height]: [u32; 2]) {
        let count = sheet.quads.len().min(MOST);
        let screen = [width as f32, height as f32, 0.0, 0.0];
        host.queue.write_buffer(&self.screen, 0, bytemuck::cast_slice(&screen));
        host.queue.write_buffer(&self.quads, 0, bytemuck::cast_slice(&sheet.quads[..count]));
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.set_vertex_buffer(0, self.quads.slice(..));
        pass.draw(0..4, 0..count as u32);
    }
}

/// All letters of all fonts, a row for each font.
fn atlas(host: &Host) -> wgpu::Texture {
    let height = Font::ALL.iter().map(|font| font.height() as u32).sum();
    let mut texels = vec![0; (ATLAS_WIDTH * height) as usize];
    for font in Font::ALL {
        let (weight, size) = font.face();
        for (k, letter) in LETTERS.enumerate() {
            let Some(raster) = get_raster(letter, weight, size) else { continue };
            for (y, row) in raster.raster().iter().enumerate() {
                let from = (font.row() as usize + y) * ATLAS_WIDTH as usize + k * raster.width();
                texels[from..from + row.len()].copy_from_slice(row);
            }
        }
    }
    let usage = wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST;
    let texture = host.texture("game.letters", [ATLAS_WIDTH, height], 1, wgpu::TextureFormat::R8Unorm, usage);
    let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(ATLAS_WIDTH), rows_per_image: None };
    host.queue.write_texture(texture.as_image_copy(), &texels, layout, texture.size());
    texture
}
