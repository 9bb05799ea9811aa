//! The bar chart: the game's own shader over the classifier's own buffer, so that nothing is read back to be shown.

use crate::host::{Host, blended};
use lampyris::wgpu;
use std::num::NonZeroU64;

/// What the chart is drawn with.
#[derive(Debug)]
pub struct Bars {
    pipeline: wgpu::RenderPipeline,
    group: wgpu::BindGroup,
    chart: wgpu::Buffer,
    classes: u32,
}

impl Bars {
    /// For probabilities that lie in a piece of a buffer, given by its offset and its bytes.
    pub fn new(host: &Host, (buffer, offset, bytes): (&wgpu::Buffer, u64, u64)) -> Bars {
        let module = host.shader("game.bars", include_str!("bars.wgsl"));
        let pipeline = host.device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("game.bars"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: Some("corner"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                buffers: &[],
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
        let chart = host.buffer("game.chart", 32, wgpu::BufferUsages::UNIFORM);
        let piece = wgpu::BufferBinding { buffer, offset, size: NonZeroU64::new(bytes) };
        let group = host.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("game.bars"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: chart.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: wgpu::BindingResource::Buffer(piece) },
            ],
        });
        Bars { pipeline, group, chart, classes: (bytes / 4) as u32 }
    }

    /// Rows and columns in which the classes stand, the second column after the first.
    pub fn grid(&self) -> [u32; 2] {
        let columns = if self.classes <= 64 { 2 } else { self.classes.div_ceil(128) };
        [self.classes.div_ceil(columns).max(1), columns]
    }

    /// Draws the chart into a rectangle of the screen, in pixels.
    pub fn draw(&self, host: &Host, pass: &mut wgpu::RenderPass<'_>, place: [f32; 4], [width, height]: [u32; 2]) {
        let [rows, columns] = self.grid();
        let [left, top, wide, high] = place.map(f32::to_bits);
        let words = [left, top, wide, high, (width as f32).to_bits(), (height as f32).to_bits(), rows, columns];
        host.queue.write_buffer(&self.chart, 0, bytemuck::cast_slice(&words));
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.draw(0..4, 0..1);
    }
}
