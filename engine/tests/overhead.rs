//! What it costs a host to have a run recorded into its encoder: no more allocations than wgpu itself makes for the same commands.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![allow(unsafe_code, reason = "an allocator that counts is one")]

mod support;

use lampyris_engine::gpu::{
    Budget, ConstantStore, Course, Event, GpuPlan, InputData, Job, VariantChoice, Written, wgpu,
};
use lampyris_engine::kernels::Desc;
use lampyris_engine::kernels::elementwise::{Function, Unary};
use lampyris_engine::{Gpu, PlanBuilder};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::devices;

const DISPATCHES: usize = 40;
const WORDS: usize = 256;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system's, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = MADE.try_with(|made| made.set(made.get() + 1));
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's block and layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The least that `frame` allocates and takes in some frames, after a first that is not counted.
fn least(gpu: &Gpu, mut frame: impl FnMut(&mut wgpu::CommandEncoder), mut after: impl FnMut()) -> (usize, Duration) {
    let (device, queue) = (gpu.device().unwrap(), gpu.queue().unwrap());
    let (mut made, mut took) = (usize::MAX, Duration::MAX);
    for at in 0..50 {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("host") });
        let (before, begun) = (MADE.with(Cell::get), Instant::now());
        frame(&mut encoder);
        let (taken, after_frame) = (begun.elapsed(), MADE.with(Cell::get));
        if at > 0 {
            (made, took) = (made.min(after_frame - before), took.min(taken));
        }
        queue.submit([encoder.finish()]);
        gpu.block_on(gpu.idle()).unwrap();
        after();
    }
    (made, took)
}

/// The same commands by wgpu alone: what a host would write.
struct Bare {
    pipeline: wgpu::ComputePipeline,
    groups: [wgpu::BindGroup; 2],
    buffers: [wgpu::Buffer; 2],
    upload: wgpu::Buffer,
    result: wgpu::Buffer,
}

const SHADER: &str = "
    @group(0) @binding(0) var<uniform> count: vec4<u32>;
    @group(0) @binding(1) var<storage, read> x: array<f32>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) { if id.x < count.x { y[id.x] = abs(x[id.x]); } }";

impl Bare {
    fn new(device: &wgpu::Device) -> Bare {
        let source = wgpu::ShaderSource::Wgsl(SHADER.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("bare"), source });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("bare"),
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
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
                layout: &pipeline.get_bind_group_layout(0),
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: params.as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 1, resource: from.as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 2, resource: to.as_entire_binding() },
                ],
            })
        };
        let groups = [group(&buffers[0], &buffers[1]), group(&buffers[1], &buffers[0])];
        let upload = buffer(size + 4, wgpu::BufferUsages::COPY_SRC);
        let result = buffer(size + 4, wgpu::BufferUsages::MAP_READ);
        Bare { pipeline, groups, buffers, upload, result }
    }

    fn record(&self, queue: &wgpu::Queue, encoder: &mut wgpu::CommandEncoder, words: &[u32]) {
        let size = WORDS as u64 * 4;
        queue.write_buffer(&self.upload, 0, bytes(words));
        queue.write_buffer(&self.upload, size, &[1, 2, 3, 4]);
        encoder.copy_buffer_to_buffer(&self.upload, 0, &self.buffers[0], 0, size);
        {
            let mut pass = encoder
                .begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("bare"), timestamp_writes: None });
            for at in 0..DISPATCHES {
                pass.set_pipeline(&self.pipeline);
                pass.set_bind_group(0, &self.groups[at % 2], &[]);
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

#[test]
fn recording_allocates_what_wgpu_does() {
    for gpu in devices() {
        let name = gpu.summary().to_string();
        let (device, queue) = (gpu.device().unwrap(), gpu.queue().unwrap());
        let mut builder = PlanBuilder::new();
        let mut x = builder.input("x", Desc::f32([1, WORDS]));
        for at in 0..DISPATCHES {
            x = builder.apply(format!("abs{at}"), Unary { function: Function::Abs }, &[x]).unwrap();
        }
        builder.output("y", x);
        let plan = Arc::new(builder.finish());
        assert_eq!(plan.steps.len(), DISPATCHES);
        let store = ConstantStore::new();
        let plan = gpu.block_on(GpuPlan::new(&gpu, plan, &store, VariantChoice::Best)).unwrap();
        let words = vec![1.0f32.to_bits(); WORDS];

        let bare = Bare::new(device);
        let (wgpu_made, wgpu_took) = least(&gpu, |encoder| bare.record(queue, encoder, &words), || bare.result.unmap());
        let under_way = std::cell::RefCell::new(None);
        let (made, took) = least(
            &gpu,
            |encoder| {
                *under_way.borrow_mut() = Some(plan.record(encoder, &[InputData::Words(&words)], &[]).unwrap());
            },
            || {
                let mut recorded = under_way.borrow_mut().take().unwrap();
                assert!(recorded.try_take().unwrap().is_some());
            },
        );
        let mut course =
            gpu.block_on(Course::new(&gpu, std::slice::from_ref(&plan), Duration::from_secs(1), WORDS)).unwrap();
        let course = std::cell::RefCell::new(&mut course);
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
        eprintln!(
            "{name}: {wgpu_made} allocations and {wgpu_took:?} by wgpu alone, {made} and {took:?} recorded, {ticked} and {tick_took:?} ticked"
        );
        // The places of a recorded run are kept in a list that the encoder shares, and each plan of it has one of textures: three more than
        // wgpu's on lavapipe, five on SwiftShader. What a tick writes is in two lists of the caller's.
        assert!(made <= wgpu_made + 5 && ticked <= wgpu_made + 2, "{name}: {made} and {ticked} for {wgpu_made}");
    }
}
