//! What it costs a host to have a run recorded into its encoder: no more allocations than wgpu itself makes for the same commands.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![allow(unsafe_code, reason = "words are shown as bytes")]

#[path = "support/counting.rs"]
mod counting;
mod support;

use counting::{least, without_backtraces};
use lampyris_engine::gpu::{
    Budget, ConstantStore, Course, Event, GpuPlan, InputData, Job, Recorded, VariantChoice, Written, wgpu,
};
use lampyris_engine::kernels::elementwise::{Function, Unary};
use lampyris_engine::kernels::image::{Area, PRECISION_BITS, ResizeTexture, Turn, table};
use lampyris_engine::kernels::{Desc, Format, HostTensor};
use lampyris_engine::{Gpu, PlanBuilder};
use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::devices;

const DISPATCHES: usize = 40;
const WORDS: usize = 256;
/// A side of the picture that has as many pixels.
const SIDE: usize = 16;

/// The same commands by wgpu alone: what a host would write.
struct Bare {
    pipeline: wgpu::ComputePipeline,
    /// One a dispatch, as networks have them, whose dispatches have parameters and weights of their own.
    groups: Vec<wgpu::BindGroup>,
    buffers: [wgpu::Buffer; 2],
    upload: wgpu::Buffer,
    result: wgpu::Buffer,
    picture: Picture,
}

/// What reads a texture before them: a pipeline with its layout, its parameters and two tables.
struct Picture {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    params: wgpu::Buffer,
    tables: [wgpu::Buffer; 2],
}

const SHADER: &str = "
    @group(0) @binding(0) var<uniform> count: vec4<u32>;
    @group(0) @binding(1) var<storage, read> x: array<f32>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) { if id.x < count.x { y[id.x] = abs(x[id.x]); } }";

const OF_TEXTURE: &str = "
    @group(0) @binding(0) var<uniform> count: vec4<u32>;
    @group(0) @binding(1) var x: texture_2d<f32>;
    @group(0) @binding(2) var<storage, read> columns: array<u32>;
    @group(0) @binding(3) var<storage, read> rows: array<u32>;
    @group(0) @binding(4) var<storage, read_write> y: array<u32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        let red = u32(textureLoad(x, vec2<u32>(0u), 0).r);
        if id.x < count.x { y[id.x] = red + columns[0] + rows[0]; }
    }";

/// A layout as the engine has them, whose storage buffers may be of any size.
fn layout_of(device: &wgpu::Device, texture: bool) -> wgpu::BindGroupLayout {
    let buffer = |ty, min_binding_size| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size };
    let storage = |read_only| buffer(wgpu::BufferBindingType::Storage { read_only }, None);
    let mut kinds = vec![buffer(wgpu::BufferBindingType::Uniform, std::num::NonZeroU64::new(16))];
    if texture {
        kinds.push(wgpu::BindingType::Texture {
            sample_type: wgpu::TextureSampleType::Float { filterable: false },
            view_dimension: wgpu::TextureViewDimension::D2,
            multisampled: false,
        });
        kinds.push(storage(true));
    }
    kinds.extend([storage(true), storage(false)]);
    let entry = |(binding, ty): (u32, wgpu::BindingType)| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty,
        count: None,
    };
    let entries: Vec<_> = (0..).zip(kinds).map(entry).collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some("bare"), entries: &entries })
}

fn pipeline(device: &wgpu::Device, wgsl: &str, layout: &wgpu::BindGroupLayout) -> wgpu::ComputePipeline {
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some("bare"),
        bind_group_layouts: &[Some(layout)],
        immediate_size: 0,
    });
    let source = wgpu::ShaderSource::Wgsl(wgsl.into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("bare"), source });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("bare"),
        layout: Some(&layout),
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    })
}

impl Bare {
    fn new(device: &wgpu::Device) -> Bare {
        let layouts = [false, true].map(|texture| layout_of(device, texture));
        let pipeline_of_buffers = pipeline(device, SHADER, &layouts[0]);
        let buffer = |size: u64, usage: wgpu::BufferUsages| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("bare"),
                size,
                usage: usage | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let (size, storage) = (WORDS as u64 * 4, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
        let buffers = [buffer(size, storage), buffer(size, storage)];
        let params = buffer(16, wgpu::BufferUsages::UNIFORM);
        let group = |from: &wgpu::Buffer, to: &wgpu::Buffer| {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("bare"),
                layout: &layouts[0],
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: params.as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 1, resource: from.as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 2, resource: to.as_entire_binding() },
                ],
            })
        };
        let groups = (0..DISPATCHES).map(|at| group(&buffers[at % 2], &buffers[(at + 1) % 2])).collect();
        let upload = buffer(size + 4, wgpu::BufferUsages::COPY_SRC);
        let result = buffer(size + 4, wgpu::BufferUsages::MAP_READ);
        let picture = Picture {
            pipeline: pipeline(device, OF_TEXTURE, &layouts[1]),
            layout: layouts[1].clone(),
            params: buffer(16, wgpu::BufferUsages::UNIFORM),
            tables: [buffer(64, storage), buffer(64, storage)],
        };
        Bare { pipeline: pipeline_of_buffers, groups, buffers, upload, result, picture }
    }

    fn record(&self, queue: &wgpu::Queue, encoder: &mut wgpu::CommandEncoder, words: &[u32]) {
        let size = WORDS as u64 * 4;
        queue.write_buffer(&self.upload, 0, bytes(words));
        queue.write_buffer(&self.upload, size, &[1, 2, 3, 4]);
        encoder.copy_buffer_to_buffer(&self.upload, 0, &self.buffers[0], 0, size);
        self.run(encoder, None);
    }

    /// A texture instead of words, bound for this frame alone. In a scope, as whoever wants to hear of a texture that is none has to.
    fn record_texture(
        &self,
        (device, queue): (&wgpu::Device, &wgpu::Queue),
        encoder: &mut wgpu::CommandEncoder,
        view: &wgpu::TextureView,
        scoped: bool,
    ) {
        let bind = || {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("bare"),
                layout: &self.picture.layout,
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: self.picture.params.as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 1, resource: wgpu::BindingResource::TextureView(view) },
                    wgpu::BindGroupEntry { binding: 2, resource: self.picture.tables[0].as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 3, resource: self.picture.tables[1].as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 4, resource: self.buffers[0].as_entire_binding() },
                ],
            })
        };
        let group = if scoped {
            let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
            let group = bind();
            let refused = pin!(scope.pop()).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(refused, Poll::Ready(None)));
            group
        } else {
            bind()
        };
        queue.write_buffer(&self.upload, WORDS as u64 * 4, &[1, 2, 3, 4]);
        self.run(encoder, Some(&group));
    }

    fn run(&self, encoder: &mut wgpu::CommandEncoder, picture: Option<&wgpu::BindGroup>) {
        let size = WORDS as u64 * 4;
        {
            let mut pass = encoder
                .begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("bare"), timestamp_writes: None });
            if let Some(group) = picture {
                pass.set_pipeline(&self.picture.pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(4, 1, 1);
            }
            for at in 0..DISPATCHES {
                pass.set_pipeline(&self.pipeline);
                pass.set_bind_group(0, &self.groups[at], &[]);
                pass.dispatch_workgroups(4, 1, 1);
            }
        }
        encoder.copy_buffer_to_buffer(&self.buffers[0], 0, &self.result, 0, size);
        encoder.copy_buffer_to_buffer(&self.upload, size, &self.result, size, 4);
        // As a host would hear of it.
        let arrived = Arc::new(AtomicBool::new(false));
        let told = arrived.clone();
        encoder.map_buffer_on_submit(&self.result, wgpu::MapMode::Read, .., move |mapped| {
            told.store(mapped.is_ok(), Ordering::Release);
        });
    }
}

fn bytes(words: &[u32]) -> &[u8] {
    // SAFETY: words are bytes, four each.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 4) }
}

/// Forty dispatches, one after another.
fn plan(gpu: &Gpu) -> GpuPlan {
    let mut builder = PlanBuilder::new();
    let mut x = builder.input("x", Desc::f32([1, WORDS]));
    for at in 0..DISPATCHES {
        x = builder.apply(format!("abs{at}"), Unary { function: Function::Abs }, &[x]).unwrap();
    }
    builder.output("y", x);
    let plan = Arc::new(builder.finish());
    assert_eq!(plan.steps.len(), DISPATCHES);
    gpu.block_on(GpuPlan::new(gpu, plan, &ConstantStore::new(), VariantChoice::Best)).unwrap()
}

/// What puts a texture's pixels, one to one, where `target` finds its input.
fn reading(gpu: &Gpu, target: &GpuPlan) -> GpuPlan {
    let mut builder = PlanBuilder::new();
    let first: Vec<u32> = (0..SIDE as u32).collect();
    let same = table(&first, &[1; SIDE], &[1 << PRECISION_BITS; SIDE], 1);
    let picture = builder.input("picture", Desc::new(Format::Texture, [1, SIDE, SIDE]));
    let tables = ["columns", "rows"].map(|name| {
        let tensor = same.clone();
        builder.constant(name, same.desc.clone(), Arc::new(move || Ok(tensor.clone())))
    });
    let area = Area { x: 0, y: 0, width: SIDE as u32, height: SIDE as u32 };
    let kernel = ResizeTexture { area, turn: Turn::default(), planes: None };
    let pixels = builder.apply("resize", kernel, &[picture, tables[0], tables[1]]).unwrap();
    builder.output("pixels", pixels);
    gpu.block_on(GpuPlan::feeding(gpu, Arc::new(builder.finish()), target, 0)).unwrap()
}

/// What recording costs whose result arrives each time.
fn recorded(gpu: &Gpu, mut record: impl FnMut(&mut wgpu::CommandEncoder) -> Recorded) -> (usize, Duration) {
    let under_way = RefCell::new(None);
    least(
        gpu,
        |encoder| *under_way.borrow_mut() = Some(record(encoder)),
        || {
            let mut recorded: Recorded = under_way.borrow_mut().take().unwrap();
            assert!(recorded.try_take().unwrap().is_some());
        },
    )
}

#[test]
fn recording_allocates_what_wgpu_does() {
    without_backtraces();
    for gpu in devices() {
        let name = gpu.summary().to_string();
        let (device, queue) = (gpu.device().unwrap(), gpu.queue().unwrap());
        let plan = plan(&gpu);
        let words = vec![1.0f32.to_bits(); WORDS];

        let (made, took) = recorded(&gpu, |encoder| plan.record(encoder, &[InputData::Words(&words)], &[]).unwrap());
        let mut course =
            gpu.block_on(Course::new(&gpu, std::slice::from_ref(&plan), Duration::from_secs(1), WORDS)).unwrap();
        let course = RefCell::new(&mut course);
        let (ticked, tick_took) = least(
            &gpu,
            |encoder| {
                let begin = vec![Written { name: "x", at: 0, words: words.clone() }];
                let job = Job { part: 0, tag: 1, begin, again: Vec::new(), outputs: true, positions: 0 };
                let (mut budget, mut next) = (Budget::gpu(Duration::from_secs(60)), Some(job));
                let steps = course.borrow_mut().record(encoder, &mut budget, &mut || next.take()).unwrap();
                assert_eq!(steps, DISPATCHES);
            },
            || {
                let event = course.borrow_mut().event().unwrap();
                assert!(matches!(event, Some(Event::Ran { tag: 1, .. })), "{event:?}");
            },
        );
        // wgpu keeps lists as long as the highest number of a buffer: those of its own are made last here and further down.
        let bare = Bare::new(device);
        let (wgpu_made, wgpu_took) = least(&gpu, |encoder| bare.record(queue, encoder, &words), || bare.result.unmap());
        eprintln!(
            "{name}: {wgpu_made} allocations and {wgpu_took:?} by wgpu alone, {made} and {took:?} recorded, {ticked} and {tick_took:?} ticked"
        );
        // What a tick writes is in two lists of the caller's.
        assert!(made <= wgpu_made && ticked <= wgpu_made + 2, "{name}: {made} and {ticked} for {wgpu_made}");

        let reading = reading(&gpu, &plan);
        let texels = HostTensor::zeros(Desc::new(Format::Texture, [1, SIDE, SIDE]));
        let view = gpu.block_on(gpu.texture(&texels)).unwrap();
        let (made, took) = recorded(&gpu, |encoder| {
            let before = [InputData::Texture(&view)];
            plan.record(encoder, &[InputData::Bound], &[(&reading, &before)]).unwrap()
        });
        let bare = Bare::new(device);
        let [(wgpu_made, wgpu_took), (unscoped, _)] = [true, false].map(|scoped| {
            let frame = |encoder: &mut wgpu::CommandEncoder| {
                bare.record_texture((device, queue), encoder, &view, scoped);
            };
            least(&gpu, frame, || bare.result.unmap())
        });
        eprintln!(
            "{name}: of a texture {wgpu_made} allocations and {wgpu_took:?} by wgpu alone ({unscoped} without an error scope), {made} and \
             {took:?} recorded"
        );
        assert!(made <= wgpu_made, "{name}: of a texture {made} for {wgpu_made}");
    }
}
