//! What it costs a host to have a run recorded into its encoder: no more allocations than wgpu itself makes for the same commands, and little
//! time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![allow(unsafe_code, reason = "words are shown as bytes")]

#[path = "support/counting.rs"]
mod counting;
mod support;

use counting::{steady, without_backtraces};
use lampyris_engine::gpu::{
    Budget, ConstantStore, Course, Event, Few, GpuPlan, InputData, Job, Recorded, StepTimes, VariantChoice, Written,
    wgpu,
};
use lampyris_engine::kernels::elementwise::{Function, Unary};
use lampyris_engine::kernels::image::{PRECISION_BITS, ResizeTexture, Turn, corner, table};
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
/// The most of the CPU's time that recording them may take: the least of many frames, which a busy machine does not change, in a build that is
/// optimized little.
const MOST: Duration = Duration::from_micros(200);
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
    ticks: Ticks,
}

/// What ticks have beside that: the number of the one that ran last, and two timestamps.
struct Ticks {
    last: wgpu::Buffer,
    result: wgpu::Buffer,
    clock: Option<(wgpu::QuerySet, wgpu::Buffer)>,
}

/// Bytes before the result of a tick.
const TICK_HEADER: u64 = 32;

/// What reads a texture before them: a pipeline with its layout, its parameters, two tables, and where the picture begins in the texture, which
/// comes with each frame.
struct Picture {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    params: wgpu::Buffer,
    tables: [wgpu::Buffer; 3],
    corner: wgpu::Buffer,
}

/// Where the picture begins.
const CORNER: [u8; 8] = [0; 8];

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
    @group(0) @binding(4) var<storage, read> corner: array<u32>;
    @group(0) @binding(5) var<storage, read_write> y: array<u32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        let red = u32(textureLoad(x, vec2<u32>(0u), 0).r);
        if id.x < count.x { y[id.x] = red + columns[0] + rows[0] + corner[0]; }
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
        kinds.extend([storage(true), storage(true)]);
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
    fn new(gpu: &Gpu) -> Bare {
        let device = gpu.device().unwrap();
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
            tables: [buffer(64, storage), buffer(64, storage), buffer(8, storage)],
            corner: buffer(8, wgpu::BufferUsages::COPY_SRC),
        };
        let clock = || {
            let count = 2;
            let descriptor = wgpu::QuerySetDescriptor { label: Some("bare"), ty: wgpu::QueryType::Timestamp, count };
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            (device.create_query_set(&descriptor), buffer(16, usage))
        };
        let ticks = Ticks {
            last: buffer(4, wgpu::BufferUsages::COPY_SRC),
            result: buffer(TICK_HEADER + size, wgpu::BufferUsages::MAP_READ),
            clock: gpu.caps().timestamps.then(clock),
        };
        Bare { pipeline: pipeline_of_buffers, groups, buffers, upload, result, picture, ticks }
    }

    fn record(&self, host: Host<'_>, encoder: &mut wgpu::CommandEncoder, (words, scoped): (&[u32], bool)) {
        let size = WORDS as u64 * 4;
        self.write(host, &[(&self.upload, 0, bytes(words)), (&self.upload, size, &[1, 2, 3, 4])], scoped);
        encoder.copy_buffer_to_buffer(&self.upload, 0, &self.buffers[0], 0, size);
        self.run(encoder, None);
    }

    /// Words for the commands: in a scope, as whoever wants to hear that there is no memory in which they could wait has to, or without.
    fn write(&self, (device, queue): Host<'_>, all: &[Words<'_>], scoped: bool) {
        let write = || all.iter().for_each(|(to, at, bytes)| queue.write_buffer(to, *at, bytes));
        if scoped { in_scope(device, wgpu::ErrorFilter::OutOfMemory, write) } else { write() }
    }

    /// A texture instead of words, bound for this frame alone.
    fn record_texture(&self, host: Host<'_>, encoder: &mut wgpu::CommandEncoder, view: Seen<'_>) {
        let group = self.bind(host.0, view);
        let stamp: Words<'_> = (&self.upload, WORDS as u64 * 4, &[1, 2, 3, 4]);
        self.write(host, &[(&self.picture.corner, 0, &CORNER), stamp], view.1);
        encoder.copy_buffer_to_buffer(&self.picture.corner, 0, &self.picture.tables[2], 0, 8);
        self.run(encoder, Some(&group));
    }

    /// In a scope, as whoever wants to hear of a texture that is none has to, or without.
    fn bind(&self, device: &wgpu::Device, (view, scoped): Seen<'_>) -> wgpu::BindGroup {
        let bind = || {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("bare"),
                layout: &self.picture.layout,
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: self.picture.params.as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 1, resource: wgpu::BindingResource::TextureView(view) },
                    wgpu::BindGroupEntry { binding: 2, resource: self.picture.tables[0].as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 3, resource: self.picture.tables[1].as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 4, resource: self.picture.tables[2].as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 5, resource: self.buffers[0].as_entire_binding() },
                ],
            })
        };
        if scoped { in_scope(device, wgpu::ErrorFilter::Validation, bind) } else { bind() }
    }

    fn run(&self, encoder: &mut wgpu::CommandEncoder, picture: Option<&wgpu::BindGroup>) {
        let size = WORDS as u64 * 4;
        {
            let mut pass = encoder
                .begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("bare"), timestamp_writes: None });
            if let Some(group) = picture {
                self.encode_picture(&mut pass, group);
            }
            self.encode_forty(&mut pass);
        }
        encoder.copy_buffer_to_buffer(&self.buffers[0], 0, &self.result, 0, size);
        encoder.copy_buffer_to_buffer(&self.upload, size, &self.result, size, 4);
        hear(encoder, &self.result);
    }

    fn encode_picture(&self, pass: &mut wgpu::ComputePass<'_>, group: &wgpu::BindGroup) {
        pass.set_pipeline(&self.picture.pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.dispatch_workgroups(4, 1, 1);
    }

    fn encode_forty(&self, pass: &mut wgpu::ComputePass<'_>) {
        for group in &self.groups {
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(4, 1, 1);
        }
    }

    /// The commands of a tick: with what tells that they ran and after which, the dispatches timed where the device has a clock. A texture
    /// comes in a pass of its own before, instead of words; these are behind the tick's number.
    fn tick(
        &self,
        host: Host<'_>,
        encoder: &mut wgpu::CommandEncoder,
        (words, scoped): (&[u32], bool),
        picture: Option<&wgpu::TextureView>,
    ) {
        let Ticks { last, result, clock } = &self.ticks;
        let group = picture.map(|view| self.bind(host.0, (view, scoped)));
        let all: [Words<'_>; 2] = [(&self.upload, 0, bytes(words)), (&self.picture.corner, 0, &CORNER)];
        self.write(host, &all[..if picture.is_some() { 2 } else { 1 }], scoped);
        encoder.copy_buffer_to_buffer(last, 0, result, 0, 4);
        encoder.copy_buffer_to_buffer(&self.upload, 0, last, 0, 4);
        encoder.copy_buffer_to_buffer(&self.upload, 0, result, 4, 4);
        if let Some(group) = &group {
            encoder.copy_buffer_to_buffer(&self.picture.corner, 0, &self.picture.tables[2], 0, 8);
            let descriptor = wgpu::ComputePassDescriptor { label: Some("bare"), timestamp_writes: None };
            self.encode_picture(&mut encoder.begin_compute_pass(&descriptor), group);
        } else {
            encoder.copy_buffer_to_buffer(&self.upload, 4, &self.buffers[0], 0, WORDS as u64 * 4);
        }
        {
            let timestamp_writes = clock.as_ref().map(|(query_set, _)| wgpu::ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: Some("bare"), timestamp_writes };
            self.encode_forty(&mut encoder.begin_compute_pass(&descriptor));
        }
        encoder.copy_buffer_to_buffer(&self.buffers[0], 0, result, TICK_HEADER, WORDS as u64 * 4);
        if let Some((queries, resolved)) = clock {
            encoder.resolve_query_set(queries, 0..2, resolved, 0);
            encoder.copy_buffer_to_buffer(resolved, 0, result, 8, 16);
        }
        hear(encoder, result);
    }

    /// Reads what a tick has brought, and unmaps it: in a scope, as a guest has to whose host may destroy the device, or without.
    fn take_tick(&self, device: &wgpu::Device, scoped: bool) -> u8 {
        let result = &self.ticks.result;
        let view = result.get_mapped_range(..).unwrap();
        let number = view[4];
        drop(view);
        if scoped {
            in_scope(device, wgpu::ErrorFilter::Validation, || result.unmap());
        } else {
            result.unmap();
        }
        number
    }
}

/// Where words go, from which byte on, and they themselves.
type Words<'a> = (&'a wgpu::Buffer, u64, &'a [u8]);

/// A texture, and whether the driver's refusal of it is to be heard.
type Seen<'a> = (&'a wgpu::TextureView, bool);

type Host<'a> = (&'a wgpu::Device, &'a wgpu::Queue);

/// Has the host told of what arrives.
fn hear(encoder: &mut wgpu::CommandEncoder, result: &wgpu::Buffer) {
    let arrived = Arc::new(AtomicBool::new(false));
    let told = arrived.clone();
    encoder.map_buffer_on_submit(result, wgpu::MapMode::Read, .., move |mapped| {
        told.store(mapped.is_ok(), Ordering::Release);
    });
}

fn in_scope<T>(device: &wgpu::Device, filter: wgpu::ErrorFilter, calls: impl FnOnce() -> T) -> T {
    let scope = device.push_error_scope(filter);
    let made = calls();
    let refused = pin!(scope.pop()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(refused, Poll::Ready(None)));
    made
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
    let begins = builder.input("corner", corner(0, 0).desc);
    let [columns, rows] = ["columns", "rows"].map(|name| {
        let tensor = same.clone();
        builder.constant(name, same.desc.clone(), Arc::new(move || Ok(tensor.clone())))
    });
    let kernel = ResizeTexture { size: [SIDE as u32; 2], turn: Turn::default(), planes: None };
    let pixels = builder.apply("resize", kernel, &[picture, columns, rows, begins]).unwrap();
    builder.output("pixels", pixels);
    gpu.block_on(GpuPlan::feeding(gpu, Arc::new(builder.finish()), target, 0)).unwrap()
}

/// What recording costs whose result arrives each time.
fn recorded(gpu: &Gpu, mut record: impl FnMut(&mut wgpu::CommandEncoder) -> Recorded) -> (usize, Duration) {
    let under_way = RefCell::new(None);
    steady(
        gpu,
        |encoder| *under_way.borrow_mut() = Some(record(encoder)),
        || {
            let mut recorded: Recorded = under_way.borrow_mut().take().unwrap();
            assert!(recorded.try_take().unwrap().is_some());
        },
    )
}

/// What ticks of forty dispatches cost, with a picture's before them or words: what the last one brought is taken, then they are recorded.
fn ticked(gpu: &Gpu, plan: &GpuPlan, before: Option<(&GpuPlan, &wgpu::TextureView)>) -> (usize, Duration) {
    let mut course = gpu.block_on(Course::new(gpu, std::slice::from_ref(plan), Duration::from_secs(1), WORDS)).unwrap();
    let words = |name| Written { name, at: 0, words: vec![1.0f32.to_bits(); WORDS].into() };
    let begin = || if before.is_none() { Few::One([words("x")]) } else { Few::None };
    let job = || Some(Job { part: 0, tag: 1, begin: begin(), again: Few::None, outputs: true, positions: 0 });
    let times = before.map(|(reading, _)| StepTimes::known(reading));
    // The words of a run are the caller's, who brings them.
    let next = RefCell::new(job());
    steady(
        gpu,
        |encoder| {
            if let Some(event) = course.event().unwrap() {
                let Event::Ran { tag: 1, outputs } = event else { panic!("{event:?}") };
                assert_eq!(outputs.len(), 1);
                course.take_back(outputs);
            }
            let (mut budget, mut next) = (Budget::gpu(Duration::from_secs(60)), next.borrow_mut());
            let seen = before.map(|(_, view)| [InputData::Texture(view), InputData::Bytes(&CORNER)]);
            let before = before.zip(times.as_ref()).zip(seen.as_ref());
            let before = before.map(|(((reading, _), times), seen)| (reading, times, &seen[..]));
            let steps = course.record_after(encoder, &mut budget, before, &mut || next.take()).unwrap();
            assert_eq!(steps, DISPATCHES);
        },
        || *next.borrow_mut() = job(),
    )
}

/// What the same commands cost by wgpu alone, and how many allocations of it are those of error scopes.
fn bare_ticks(gpu: &Gpu, picture: Option<&wgpu::TextureView>) -> (usize, Duration, usize) {
    let host = (gpu.device().unwrap(), gpu.queue().unwrap());
    let bare = Bare::new(gpu);
    let words = vec![1; if picture.is_some() { 1 } else { WORDS + 1 }];
    let [(made, took), (unscoped, _)] = [true, false].map(|scoped| {
        let mut first = true;
        let frame = |encoder: &mut wgpu::CommandEncoder| {
            if !std::mem::take(&mut first) {
                assert_eq!(bare.take_tick(host.0, scoped), 1);
            }
            bare.tick(host, encoder, (&words, scoped), picture);
        };
        let found = steady(gpu, frame, || ());
        bare.take_tick(host.0, scoped);
        found
    });
    (made, took, made - unscoped)
}

#[test]
fn recording_allocates_what_wgpu_does() {
    without_backtraces();
    for gpu in devices() {
        let name = gpu.summary().to_string();
        let host = (gpu.device().unwrap(), gpu.queue().unwrap());
        let plan = plan(&gpu);
        let words = vec![1.0f32.to_bits(); WORDS];

        let (made, took) = recorded(&gpu, |encoder| plan.record(encoder, &[InputData::Words(&words)], &[]).unwrap());
        // wgpu keeps lists as long as the highest number of a buffer: those of its own are made last here and further down.
        let bare = Bare::new(&gpu);
        let [(wgpu_made, wgpu_took), (unscoped, _)] = [true, false]
            .map(|scoped| steady(&gpu, |encoder| bare.record(host, encoder, (&words, scoped)), || bare.result.unmap()));
        eprintln!(
            "{name}: {wgpu_made} allocations and {wgpu_took:?} by wgpu alone ({unscoped} without an error scope), {made} and {took:?} recorded"
        );
        assert!(made <= wgpu_made, "{name}: {made} for {wgpu_made}");
        assert!(took <= MOST, "{name}: recording takes {took:?}");

        let reading = reading(&gpu, &plan);
        let texels = HostTensor::zeros(Desc::new(Format::Texture, [1, SIDE, SIDE]));
        let view = gpu.block_on(gpu.texture(&texels)).unwrap();
        let (made, took) = recorded(&gpu, |encoder| {
            let before = [InputData::Texture(&view), InputData::Bytes(&CORNER)];
            plan.record(encoder, &[InputData::Bound], &[(&reading, &before)]).unwrap()
        });
        let bare = Bare::new(&gpu);
        let [(wgpu_made, wgpu_took), (unscoped, _)] = [true, false].map(|scoped| {
            let frame = |encoder: &mut wgpu::CommandEncoder| {
                bare.record_texture(host, encoder, (&view, scoped));
            };
            steady(&gpu, frame, || bare.result.unmap())
        });
        eprintln!(
            "{name}: of a texture {wgpu_made} allocations and {wgpu_took:?} by wgpu alone ({unscoped} without error scopes), {made} and \
             {took:?} recorded"
        );
        assert!(made <= wgpu_made, "{name}: of a texture {made} for {wgpu_made}");
        assert!(took <= MOST, "{name}: recording a texture's takes {took:?}");

        for (what, before) in [("words", None), ("a texture", Some((&reading, &view)))] {
            let (made, took) = ticked(&gpu, &plan, before);
            let (wgpu_made, wgpu_took, scopes) = bare_ticks(&gpu, before.map(|(_, view)| view));
            eprintln!(
                "{name}: of {what} {wgpu_made} allocations and {wgpu_took:?} by wgpu alone, {scopes} of them of error scopes, {made} and \
                 {took:?} ticked"
            );
            assert!(made <= wgpu_made, "{name}: a tick of {what} {made} for {wgpu_made}");
            assert!(took <= MOST, "{name}: a tick of {what} takes {took:?}");
        }
    }
}
