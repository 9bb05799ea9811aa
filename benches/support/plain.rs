//! A dispatch that takes a given time and does nothing else: what time given away costs a frame, whoever spends it.

use super::Result;
use lampyris::Gpu;
use lampyris::engine::gpu::wgpu;
use std::time::{Duration, Instant};

const SHADER: &str = "
    @group(0) @binding(0) var<storage, read_write> sums: array<f32>;
    @group(0) @binding(1) var<uniform> turns: vec4<u32>;
    @compute @workgroup_size(64) fn add(@builtin(global_invocation_id) at: vec3<u32>) {
        var sum = f32(at.x) * 0.001;
        for (var i = 0u; i < turns.x; i++) { sum = sum * sum * 0.3 + 0.5; }
        sums[at.x] = sum;
    }";

const WORKGROUPS: u32 = 64;

/// Turns of the loop that its time is measured by.
const MEASURED: u32 = 100_000;

/// Multiply-adds in 64 workgroups: more than a software adapter has cores, fewer than a large GPU.
pub(crate) struct Plain {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    turns: wgpu::Buffer,
    queue: wgpu::Queue,
    /// Seconds a turn.
    turn: f64,
}

impl Plain {
    /// Builds it and measures what a turn takes, the median of 49.
    pub(crate) fn new(gpu: &Gpu) -> Result<Plain> {
        let (Some(device), Some(queue)) = (gpu.device(), gpu.queue()) else {
            return Err("plain dispatches need an adapter".into());
        };
        let source = wgpu::ShaderSource::Wgsl(SHADER.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("plain"), source });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("plain"),
            layout: None,
            module: &module,
            entry_point: Some("add"),
            compilation_options: Default::default(),
            cache: None,
        });
        let buffer = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("plain"),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let sums = buffer(u64::from(WORKGROUPS) * 64 * 4, wgpu::BufferUsages::STORAGE);
        let turns = buffer(16, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("plain"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: sums.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: turns.as_entire_binding() },
            ],
        });
        let mut plain = Plain { pipeline, group, turns, queue: queue.clone(), turn: 1.0 / f64::from(MEASURED) };
        plain.lasts(Duration::from_secs(1));
        let mut took = Vec::new();
        for _ in 0..49 {
            let begun = Instant::now();
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("plain") });
            plain.record(&mut encoder);
            queue.submit([encoder.finish()]);
            gpu.block_on(gpu.idle())?;
            took.push(begun.elapsed().as_secs_f64());
        }
        took.sort_by(f64::total_cmp);
        plain.turn = took.get(took.len() / 2).copied().unwrap_or_default() / f64::from(MEASURED);
        Ok(plain)
    }

    /// How long the dispatches recorded from now on take.
    pub(crate) fn lasts(&self, time: Duration) {
        let turns = (time.as_secs_f64() / self.turn) as u32;
        self.queue.write_buffer(&self.turns, 0, &turns.to_le_bytes());
    }

    /// Records the dispatch.
    pub(crate) fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("plain"), timestamp_writes: None });
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(WORKGROUPS, 1, 1);
    }
}
