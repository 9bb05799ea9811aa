//! Draws the scene twice a frame: through the robot's eye for the classifier, and for whoever plays.

use crate::host::{Host, colour, view};
use crate::mesh::{ATTRIBUTES, Mesh, Vertex};
use crate::scene::{Camera, Moment, Scene, sun};
use glam::{Mat4, Vec4};
use lampyris::wgpu;

const DEPTH: wgpu::TextureFormat = wgpu::TextureFormat::Depth24PlusStencil8;
/// Points of each pixel that are looked at.
const SAMPLES: u32 = 4;
/// Pixels of a side of what the eye sees.
pub const EYE: u32 = 256;

/// Where one camera's picture is made.
#[derive(Debug)]
struct Canvas {
    size: [u32; 2],
    samples: wgpu::TextureView,
    depth: wgpu::TextureView,
    uniform: wgpu::Buffer,
    group: wgpu::BindGroup,
}

/// Everything on the device that the scene is drawn with.
#[derive(Debug)]
pub struct Stage {
    layout: wgpu::BindGroupLayout,
    solid: wgpu::RenderPipeline,
    shadow: wgpu::RenderPipeline,
    sky: wgpu::RenderPipeline,
    ground: (wgpu::Buffer, u32),
    things: (wgpu::Buffer, u32),
    robot: (wgpu::Buffer, u32),
    /// Places: the world, its shadow, the robot's, its shadow.
    places: wgpu::Buffer,
    eye: Canvas,
    seen: wgpu::TextureView,
    main: Canvas,
}

impl Stage {
    pub fn new(host: &Host, scene: &Scene, size: [u32; 2]) -> Stage {
        let layout = host.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("game.view"),
            entries: &[wgpu::BindGroupLayoutEntry {
                binding: 0,
                visibility: wgpu::ShaderStages::VERTEX_FRAGMENT,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            }],
        });
        let shape = |label: &str, mesh: &Mesh| {
            let bytes = bytemuck::cast_slice(&mesh.vertices);
            (host.filled(label, bytes, wgpu::BufferUsages::VERTEX), mesh.vertices.len() as u32)
        };
        let [solid, shadow, sky] = [Kind::Solid, Kind::Shadow, Kind::Sky].map(|kind| pipeline(host, &layout, kind));
        Stage {
            solid,
            shadow,
            sky,
            ground: shape("game.ground", &scene.ground),
            things: shape("game.things", &scene.things),
            robot: shape("game.robot", &scene.robot),
            places: host.buffer("game.places", 4 * 64, wgpu::BufferUsages::VERTEX),
            eye: Canvas::new(host, &layout, [EYE, EYE]),
            seen: view(&host.target("game.seen", [EYE, EYE], 1, wgpu::TextureUsages::TEXTURE_BINDING)),
            main: Canvas::new(host, &layout, size),
            layout,
        }
    }

    /// Makes the picture for whoever plays as large as the window.
    pub fn resize(&mut self, host: &Host, size: [u32; 2]) {
        if self.main.size != size {
            self.main = Canvas::new(host, &self.layout, size);
        }
    }

    /// What the robot sees.
    pub fn eye(&self) -> &wgpu::TextureView {
        &self.seen
    }

    /// Says where everything is in the frame that comes.
    pub fn place(&self, host: &Host, moment: &Moment) {
        let flat = flattened();
        let places = [Mat4::IDENTITY, flat, moment.robot, flat * moment.robot];
        host.queue.write_buffer(&self.places, 0, bytemuck::cast_slice(&places));
        self.eye.look(host, &moment.eye);
        self.main.look(host, &moment.view);
    }

    /// Draws what the robot sees; it does not see itself.
    pub fn draw_eye(&self, encoder: &mut wgpu::CommandEncoder) {
        self.draw(encoder, &self.eye, &self.seen, false);
    }

    /// Draws what whoever plays sees onto a target of the size that was said.
    pub fn draw_main(&self, encoder: &mut wgpu::CommandEncoder, onto: &wgpu::TextureView) {
        self.draw(encoder, &self.main, onto, true);
    }

    fn draw(&self, encoder: &mut wgpu::CommandEncoder, canvas: &Canvas, onto: &wgpu::TextureView, robot: bool) {
        let clear = wgpu::LoadOp::Clear(wgpu::Color::BLACK);
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("game.scene"),
            color_attachments: &[colour(&canvas.samples, Some(onto), clear)],
            depth_stencil_attachment: Some(wgpu::RenderPassDepthStencilAttachment {
                view: &canvas.depth,
                depth_ops: Some(wgpu::Operations { load: wgpu::LoadOp::Clear(1.0), store: wgpu::StoreOp::Discard }),
                stencil_ops: Some(wgpu::Operations { load: wgpu::LoadOp::Clear(0), store: wgpu::StoreOp::Discard }),
            }),
            timestamp_writes: None,
            occlusion_query_set: None,
            multiview_mask: None,
        });
        let shapes = [(&self.things, 0), (&self.robot, 2)];
        let shapes = if robot { &shapes[..] } else { &shapes[..1] };
        pass.set_bind_group(0, &canvas.group, &[]);
        pass.set_vertex_buffer(1, self.places.slice(..));
        pass.set_pipeline(&self.solid);
        for ((buffer, count), place) in std::iter::once(&(&self.ground, 0)).chain(shapes) {
            pass.set_vertex_buffer(0, buffer.slice(..));
            pass.draw(0..*count, *place..place + 1);
        }
        pass.set_pipeline(&self.shadow);
        for ((buffer, count), place) in shapes {
            pass.set_vertex_buffer(0, buffer.slice(..));
            pass.draw(0..*count, place + 1..place + 2);
        }
        pass.set_pipeline(&self.sky);
        pass.draw(0..3, 0..1);
    }
}

impl Canvas {
    fn new(host: &Host, layout: &wgpu::BindGroupLayout, size: [u32; 2]) -> Canvas {
        let (none, drawn) = (wgpu::TextureUsages::empty(), wgpu::TextureUsages::RENDER_ATTACHMENT);
        let samples = host.target("game.samples", size, SAMPLES, none);
        let depth = host.texture("game.depth", size, SAMPLES, DEPTH, drawn);
        let uniform = host.buffer("game.view", 160, wgpu::BufferUsages::UNIFORM);
        let group = host.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("game.view"),
            layout,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: uniform.as_entire_binding() }],
        });
        Canvas { size, samples: view(&samples), depth: view(&depth), uniform, group }
    }

    fn look(&self, host: &Host, camera: &Camera) {
        let to_screen = camera.matrix(self.size[0] as f32 / self.size[1] as f32);
        let lights = [camera.from.extend(0.0), sun().extend(0.0)];
        let mut columns: Vec<Vec4> = [to_screen, to_screen.inverse()].iter().flat_map(columns).collect();
        columns.extend(lights);
        host.queue.write_buffer(&self.uniform, 0, bytemuck::cast_slice(&columns));
    }
}

fn columns(matrix: &Mat4) -> [Vec4; 4] {
    [matrix.x_axis, matrix.y_axis, matrix.z_axis, matrix.w_axis]
}

/// Lays everything flat on the ground, away from the sun.
fn flattened() -> Mat4 {
    let (sun, height) = (sun(), 0.02);
    let (x, z) = (sun.x / sun.y, sun.z / sun.y);
    Mat4::from_cols(Vec4::X, Vec4::new(-x, 0.0, -z, 0.0), Vec4::Z, Vec4::new(x * height, height, z * height, 1.0))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Solid,
    /// Darkens each pixel once, however many shapes lie over it.
    Shadow,
    Sky,
}

fn pipeline(host: &Host, layout: &wgpu::BindGroupLayout, kind: Kind) -> wgpu::RenderPipeline {
    let module = host.shader("game.scene", include_str!("scene.wgsl"));
    let layout = host.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some("game.scene"),
        bind_group_layouts: &[Some(layout)],
        immediate_size: 0,
    });
    let place = wgpu::vertex_attr_array![3 => Float32x4, 4 => Float32x4, 5 => Float32x4, 6 => Float32x4];
    let corners = wgpu::VertexBufferLayout {
        array_stride: size_of::<Vertex>() as u64,
        step_mode: wgpu::VertexStepMode::Vertex,
        attributes: &ATTRIBUTES,
    };
    let places =
        wgpu::VertexBufferLayout { array_stride: 64, step_mode: wgpu::VertexStepMode::Instance, attributes: &place };
    let buffers = [Some(corners), Some(places)];
    let (vertex, fragment) = match kind {
        Kind::Solid => ("corner", "lit"),
        Kind::Shadow => ("corner", "shadow"),
        Kind::Sky => ("everywhere", "sky"),
    };
    let once = wgpu::StencilFaceState {
        compare: wgpu::CompareFunction::Equal,
        pass_op: wgpu::StencilOperation::IncrementClamp,
        ..wgpu::StencilFaceState::IGNORE
    };
    let stencil = wgpu::StencilState { front: once, back: once, read_mask: 255, write_mask: 255 };
    let blend = (kind == Kind::Shadow).then_some(wgpu::BlendState::ALPHA_BLENDING);
    host.device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some("game.scene"),
        layout: Some(&layout),
        vertex: wgpu::VertexState {
            module: &module,
            entry_point: Some(vertex),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            buffers: if kind == Kind::Sky { &[] } else { &buffers },
        },
        primitive: wgpu::PrimitiveState::default(),
        depth_stencil: Some(wgpu::DepthStencilState {
            format: DEPTH,
            depth_write_enabled: Some(kind == Kind::Solid),
            depth_compare: Some(wgpu::CompareFunction::LessEqual),
            stencil: if kind == Kind::Shadow { stencil } else { wgpu::StencilState::default() },
            bias: wgpu::DepthBiasState::default(),
        }),
        multisample: wgpu::MultisampleState { count: SAMPLES, ..Default::default() },
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: Some(fragment),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            targets: &[Some(wgpu::ColorTargetState { format: host.format, blend, write_mask: wgpu::ColorWrites::ALL })],
        }),
        multiview_mask: None,
        cache: None,
    })
}
