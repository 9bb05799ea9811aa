//! Frames beside a model: how many a render loop misses beside a long prompt and its answer, with a budget and without.
//!
//! The loop and the device are a host's own, and the engine is a guest: a pass that takes some milliseconds, at a rate set to what it reaches alone with 30 % to spare. What it
//! reaches is told in two ways, by nine frames of ten and by 99 of a hundred: a loop that is uneven of itself reaches the first, and misses
//! frames at it with nothing beside. Beside it run a prompt of 2000 tokens and an answer, ticked with a budget of a half, a quarter or an eighth of
//! what is to spare, or left to run as they like. Blocks of frames alone and with either budget take turns, so that what else the machine
//! does meets all, and every round begins with what the loop reaches now: a shared machine becomes half as fast within minutes, and a rate
//! of some minutes ago would be missed alone. A frame is missed when it ends after the next should have begun. Two more rows say what the
//! budget alone costs, whoever spends it: blocks beside one plain dispatch that takes as long, and how many of the frames alone would have
//! been missed had each taken that much longer. `LAMPYRIS_ADAPTER` chooses the adapter, `LAMPYRIS_FRAME_MS` how long the host's pass takes about.

#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "it is the tests', and a failed bench should stop at once"
)]
#[path = "../tests/support/decoders.rs"]
mod decoders;
#[path = "support/plain.rs"]
mod plain;
mod support;

use lampyris::engine::gpu::wgpu;
use lampyris::models::decoder::{Decoder, Sampling, Session, SessionOptions};
use lampyris::{Budget, Gpu, Tick};
use plain::Plain;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use support::{Result, end, guest};

/// A decoder of noise, of the size of a small storyteller.
const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6,
    "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 4096, "max_position_embeddings": 4096,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

const PROMPT: usize = 2000;
const ANSWER: usize = 64;

/// What shares of the time to spare are budgets.
const SHARES: [(&str, f64); 3] = [("a half", 0.5), ("a quarter", 0.25), ("an eighth", 0.125)];

/// What shares of the frames alone are within what the loop is said to reach.
const REACHED: [(&str, f64); 2] = [("nine of ten", 0.9), ("99 of a hundred", 0.99)];

/// What a loop keeps to spare, of what it reaches.
const SPARE: f64 = 0.3;

/// Frames alone, at the beginning of a round, that say what the loop reaches.
const CALIBRATION: usize = 200;

/// Frames of a block.
const BLOCK: usize = 50;

/// Most rounds of blocks.
const ROUNDS: usize = 60;

fn main() {
    if let Err(error) = bench() {
        end(&error);
    }
}

fn bench() -> Result<()> {
    let gpu = guest()?;
    println!("{}", gpu.summary());
    let asked = std::env::var("LAMPYRIS_FRAME_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(8.0);
    let scene = Scene::new(&gpu, asked)?;
    let model = Decoder::new(&gpu, decoders::noise(CONFIG, &[], &[]))?;
    let plain = Plain::new(&gpu)?;
    for (name, share) in REACHED {
        println!("\n{name} of the host's frames with three tenths to spare");
        beside(&gpu, &scene, &plain, &model, share)?;
    }
    Ok(())
}

/// The loop at a rate that leaves [`SPARE`] of what `share` of its frames reach, alone and beside the model.
fn beside(gpu: &Gpu, scene: &Scene<'_>, plain: &Plain, model: &Decoder, share: f64) -> Result<()> {
    let tokens: Vec<u32> = (0..PROMPT as u32).map(|i| (i * i + 3 * i) % 4001).collect();
    let session = || -> Result<Session> { Ok(gpu.block_on(model.session(SessionOptions::from(PROMPT + ANSWER)))?) };

    // With a budget.
    let greedy = Sampling::greedy();
    let (_, smallest) = SHARES[SHARES.len() - 1];
    let finest = Duration::from_secs_f64(smallest * SPARE * scene.reaches(share)? / 6.0);
    let mut npc = gpu.block_on(session()?.driven().finest(finest).measured(&greedy))?;
    npc.generate(&tokens, ANSWER, &greedy);
    let (mut with, mut plains, mut alone) =
        (<[Row; SHARES.len()]>::default(), <[Row; SHARES.len()]>::default(), Row::default());
    let mut ticks = [(0.0, 0.0); SHARES.len()];
    let mut going = true;
    for _ in 0..ROUNDS {
        let reached = scene.reaches(share)?;
        let period = Duration::from_secs_f64((1.0 + SPARE) * reached);
        let budgets = SHARES.map(|(_, share)| Duration::from_secs_f64(share * SPARE * reached));
        scene.block(period, &mut alone, |_| Ok(()))?;
        for (budget, row) in budgets.iter().zip(&mut plains) {
            plain.lasts(*budget);
            scene.block(period, row, |encoder| {
                plain.record(encoder);
                Ok(())
            })?;
        }
        for (budget, (with, ticks)) in budgets.iter().zip(with.iter_mut().zip(&mut ticks)) {
            scene.block(period, with, |encoder| {
                let mut given = Budget::gpu(*budget);
                going &= !matches!(npc.tick(encoder, &mut given)?, Tick::Done(_));
                if going && !given.is_fresh() {
                    *ticks = (ticks.0 + given.used().as_secs_f64(), ticks.1 + given.whole().as_secs_f64());
                }
                Ok(())
            })?;
        }
        if !going {
            break;
        }
    }
    let period = percentile(&alone.periods, 0.5);
    println!(
        "with budgets, {}; the period of half of the rounds is at most {:.2} ms, and of all between {:.2} and {:.2} ms:",
        if going { "not done" } else { "done" },
        period * 1e3,
        percentile(&alone.periods, 0.0) * 1e3,
        percentile(&alone.periods, 1.0) * 1e3
    );
    for (at, (name, share)) in SHARES.iter().enumerate() {
        let budget = share * spare_of(period);
        println!("  {name} of what is to spare, {:.2} ms: {}", budget * 1e3, with[at].beside(&alone));
        println!("    {:.0} % of the budgets was used", 100.0 * ticks[at].0 / ticks[at].1);
        println!("    a plain dispatch of that time: {}", plains[at].beside(&alone));
        println!(
            "    had the frames alone taken it longer, {:.1} % more would have been missed",
            alone.late(*share) - alone.late(0.0)
        );
    }

    // Without: the same session as a program without frames would run it, woken once a frame.
    let (mut without, mut alone) = (Row::default(), Row::default());
    let mut session = session()?;
    let mut talk = pin!(async {
        session.feed(&tokens).await?;
        let mut generation = session.generate(ANSWER)?;
        while generation.next().await?.is_some() {}
        Ok::<(), lampyris::Error>(())
    });
    let mut going = true;
    for _ in 0..ROUNDS {
        let period = Duration::from_secs_f64((1.0 + SPARE) * scene.reaches(share)?);
        scene.block(period, &mut alone, |_| Ok(()))?;
        scene.block(period, &mut without, |_| {
            if going && let Poll::Ready(done) = talk.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                done?;
                going = false;
            }
            Ok(())
        })?;
        if !going {
            break;
        }
        // The rounds alone begin with an idle device.
        gpu.block_on(gpu.idle())?;
    }
    println!("without, {}: {}", if going { "not done" } else { "done" }, without.beside(&alone));
    Ok(())
}

/// What a loop of that period (seconds) has to spare.
fn spare_of(period: f64) -> f64 {
    period * SPARE / (1.0 + SPARE)
}

/// Frames and those that were missed, how long they took, and how long each might have.
#[derive(Default)]
struct Row {
    frames: usize,
    missed: usize,
    seconds: Vec<f64>,
    periods: Vec<f64>,
}

impl Row {
    fn share(&self) -> f64 {
        100.0 * self.missed as f64 / self.frames.max(1) as f64
    }

    /// Percent of the frames that take longer than their period, had each taken `share` of what is to spare more.
    fn late(&self, share: f64) -> f64 {
        let frames = self.seconds.iter().zip(&self.periods);
        let late = frames.filter(|(seconds, period)| *seconds + share * spare_of(**period) > **period).count();
        100.0 * late as f64 / self.seconds.len().max(1) as f64
    }

    fn beside(&self, alone: &Row) -> String {
        format!(
            "{} frames, {:.1} % missed; alone {:.1} % of {}; so {:.1} % that it would not have missed; half of the frames within {:.2} ms, \
             99 % within {:.2} ms (alone {:.2} and {:.2})",
            self.frames,
            self.share(),
            alone.share(),
            alone.frames,
            (self.share() - alone.share()).max(0.0),
            percentile(&self.seconds, 0.5) * 1e3,
            percentile(&self.seconds, 0.99) * 1e3,
            percentile(&alone.seconds, 0.5) * 1e3,
            percentile(&alone.seconds, 0.99) * 1e3,
        )
    }
}

fn percentile(seconds: &[f64], share: f64) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// What the host draws: a triangle over a picture, with a shader that takes its time.
struct Scene<'a> {
    gpu: &'a Gpu,
    device: &'a wgpu::Device,
    queue: &'a wgpu::Queue,
    pipeline: wgpu::RenderPipeline,
    view: wgpu::TextureView,
    group: wgpu::BindGroup,
}

const SHADER: &str = "
    @group(0) @binding(0) var<uniform> turns: vec4<u32>;
    @vertex fn corner(@builtin(vertex_index) at: u32) -> @builtin(position) vec4<f32> {
        return vec4<f32>(f32(at % 2u) * 4.0 - 1.0, f32(at / 2u) * 4.0 - 1.0, 0.5, 1.0);
    }
    @fragment fn shade(@builtin(position) at: vec4<f32>) -> @location(0) vec4<f32> {
        var z = at.xy * 0.001;
        for (var i = 0u; i < turns.x; i++) { z = vec2<f32>(z.x * z.x - z.y * z.y, 2.0 * z.x * z.y) * 0.9 + at.xy * 0.0001; }
        return vec4<f32>(z, 0.0, 1.0);
    }";

impl<'a> Scene<'a> {
    /// A scene whose frame takes about so many milliseconds.
    fn new(gpu: &'a Gpu, milliseconds: f64) -> Result<Scene<'a>> {
        let (Some(device), Some(queue)) = (gpu.device(), gpu.queue()) else {
            return Err("frames need an adapter".into());
        };
        let source = wgpu::ShaderSource::Wgsl(SHADER.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("scene"), source });
        let format = wgpu::TextureFormat::Rgba8Unorm;
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("scene"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: Some("corner"),
                compilation_options: Default::default(),
                buffers: &[],
            },
            primitive: Default::default(),
            depth_stencil: None,
            multisample: Default::default(),
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: Some("shade"),
                compilation_options: Default::default(),
                targets: &[Some(format.into())],
            }),
            multiview_mask: None,
            cache: None,
        });
        let texture = device.create_texture(&wgpu::TextureDescriptor {
            label: Some("scene"),
            size: wgpu::Extent3d { width: 640, height: 360, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT,
            view_formats: &[],
        });
        let view = texture.create_view(&Default::default());
        let turns = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("scene"),
            size: 16,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("scene"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: turns.as_entire_binding() }],
        });
        let scene = Scene { gpu, device, queue, pipeline, view, group };
        let mut count = 16u32;
        while count < 1 << 24 {
            queue.write_buffer(&turns, 0, &count.to_le_bytes());
            let took: Vec<f64> = (0..9).map(|_| scene.frame(|_| Ok(()))).collect::<Result<_>>()?;
            let took = percentile(&took, 0.5) * 1e3;
            if took >= 0.9 * milliseconds {
                break;
            }
            count = (f64::from(count) * (milliseconds / took).clamp(1.1, 4.0)) as u32;
        }
        Ok(scene)
    }

    /// Draws a frame, with what `beside` records after it, and waits for it; the seconds that it took.
    fn frame(&self, beside: impl FnOnce(&mut wgpu::CommandEncoder) -> Result<()>) -> Result<f64> {
        let begun = Instant::now();
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("frame") });
        {
            let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
                label: Some("scene"),
                color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                    view: &self.view,
                    depth_slice: None,
                    resolve_target: None,
                    ops: wgpu::Operations::default(),
                })],
                depth_stencil_attachment: None,
                timestamp_writes: None,
                occlusion_query_set: None,
                multiview_mask: None,
            });
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.group, &[]);
            pass.draw(0..3, 0..1);
        }
        beside(&mut encoder)?;
        self.queue.submit([encoder.finish()]);
        self.gpu.block_on(self.gpu.idle())?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Within what time (seconds) that share of the frames is done, one after the other with nothing beside.
    fn reaches(&self, share: f64) -> Result<f64> {
        let took: Vec<f64> = (0..CALIBRATION).map(|_| self.frame(|_| Ok(()))).collect::<Result<_>>()?;
        Ok(percentile(&took, share))
    }

    /// Draws a block of frames, one a period.
    fn block(
        &self,
        period: Duration,
        row: &mut Row,
        mut beside: impl FnMut(&mut wgpu::CommandEncoder) -> Result<()>,
    ) -> Result<()> {
        let mut next = Instant::now();
        for _ in 0..BLOCK {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            let due = next + period;
            let begun = Instant::now();
            self.frame(&mut beside)?;
            let now = Instant::now();
            row.seconds.push((now - begun).as_secs_f64());
            row.periods.push(period.as_secs_f64());
            row.frames += 1;
            row.missed += usize::from(now > due);
            // A missed frame is shown at the next beat, and none is made up for.
            next = due;
            while next < now {
                next += period;
            }
        }
        Ok(())
    }
}
