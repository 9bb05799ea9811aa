//! Clocks: the device's own at both ends of each pass, where it has one, and the host's where there is one.

use super::allocate::Wanted;
use super::poll::Mailbox;
use super::run::INPUTS;
use super::scope::{Refusal, unmap};
use super::{Gpu, GpuPlan, InputData};
use crate::{Error, Result};
use std::ops::Range;

/// Timestamps of the passes of one submit.
#[derive(Debug)]
pub(super) struct Timer {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    passes: usize,
    /// Microseconds a tick.
    period: f64,
}

impl Timer {
    /// Most passes of one submit: a query set holds 4096 timestamps.
    pub(super) const MOST_PASSES: usize = 2048;

    /// A timer for `passes` passes; `None` when the device has no timestamps.
    pub(super) async fn new(gpu: &Gpu, passes: usize) -> Result<Option<Timer>> {
        let (true, Some(queue)) = (gpu.caps().timestamps, gpu.queue()) else { return Ok(None) };
        let period = f64::from(queue.get_timestamp_period()) / 1e3;
        let doing = "making timestamp queries";
        let timer = gpu.guarded(doing, |device| {
            let buffer = |label, usage| gpu.buffer(device, doing, Wanted { label, size: passes as u64 * 16, usage });
            let resolve = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let read = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            gpu.allocating(doing)?;
            Ok(Timer {
                queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("lampyris.timer"),
                    ty: wgpu::QueryType::Timestamp,
                    count: passes as u32 * 2,
                }),
                resolved: buffer("lampyris.timer.resolved", resolve)?,
                staging: buffer("lampyris.timer.read", read)?,
                passes,
                period,
            })
        });
        timer.await?.map(Some)
    }

    pub(super) fn writes(&self, pass: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(pass as u32 * 2),
            end_of_pass_write_index: Some(pass as u32 * 2 + 1),
        }
    }

    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..self.passes as u32 * 2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, self.staging.size());
    }

    /// Microseconds of each pass of the last submit.
    pub(super) async fn read(&self, gpu: &Gpu) -> Result<Vec<f64>> {
        let arrived = Mailbox::new();
        let signal = arrived.clone();
        self.staging.map_async(wgpu::MapMode::Read, .., move |result| signal.put(result.is_ok()));
        let mapped = arrived.receive(gpu).await.unwrap_or(false);
        let view = if mapped { self.staging.get_mapped_range(..).ok() } else { None };
        let Some(view) = view else {
            return Err(gpu.lost("timestamps could not be read back"));
        };
        let ticks: Vec<u64> = view
            .chunks_exact(8)
            .map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect();
        drop(view);
        unmap(gpu.device(), &self.staging);
        Ok(ticks.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 * self.period).collect())
    }
}

/// Some neighbouring steps of a plan, encoded in one pass, `repeats` times.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    pub(super) steps: Range<usize>,
    pub(super) repeats: u32,
}

impl GpuPlan {
    /// Seconds that `repeats` runs in one pass and one submit take: by the device's clock where it has one, else by the
    /// host's, one submission included. What a bench of a single kernel divides by `repeats`.
    ///
    /// # Errors
    /// [`Error::Input`] when the inputs are not the plan's; [`Error::NoTimer`] where there is no clock at all;
    /// [`Error::DeviceLost`] when the device is gone.
    pub async fn time(&self, inputs: &[InputData<'_>], repeats: u32) -> Result<f64> {
        let pass = [Pass { steps: 0..self.plan().steps.len(), repeats }];
        let timer = Timer::new(self.gpu(), 1).await?;
        let passes = self.clocked(inputs, &pass, timer.as_ref()).await?;
        let device = passes.iter().sum::<f64>() * 1e-6;
        match timer {
            // A clock that stands still is none.
            Some(_) if device <= 0.0 => Ok(self.clocked(inputs, &pass, None).await?.iter().sum::<f64>() * 1e-6),
            _ => Ok(device),
        }
    }

    /// Microseconds of each pass by `timer`, or of the whole submission by the host's clock.
    pub(super) async fn clocked(
        &self,
        inputs: &[InputData<'_>],
        passes: &[Pass],
        timer: Option<&Timer>,
    ) -> Result<Vec<f64>> {
        let work = self.submit_passes(inputs, passes, timer);
        match timer {
            Some(timer) => {
                work.await?;
                timer.read(self.gpu()).await
            }
            None => Ok(vec![wall(self.gpu(), work).await? * 1e6]),
        }
    }

    /// Submits `passes` and waits until the device has done them.
    async fn submit_passes(&self, inputs: &[InputData<'_>], passes: &[Pass], timer: Option<&Timer>) -> Result<()> {
        let gpu = self.gpu();
        gpu.check_alive()?;
        let (Some(device), Some(queue)) = (gpu.device(), gpu.queue()) else {
            return Err(Error::NoDevice { adapter: gpu.summary().name.clone(), reason: "no queue".to_owned() });
        };
        let encode = || {
            let bound = self.bind_textures(device, inputs)?;
            let mut encoder =
                device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("lampyris.timed") });
            self.copy_lent(&mut encoder, inputs);
            for (at, pass) in passes.iter().enumerate() {
                let mut encoded = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some("lampyris.timed"),
                    timestamp_writes: timer.map(|timer| timer.writes(at)),
                });
                for _ in 0..pass.repeats {
                    for step in pass.steps.clone() {
                        self.encode_step(&mut encoded, step, &bound);
                    }
                }
            }
            if let Some(timer) = timer {
                timer.resolve(&mut encoder);
            }
            queue.submit([encoder.finish()]);
            Ok(())
        };
        let refusal = {
            let _alone = gpu.submitting();
            let foreign = self.check_inputs(inputs)?;
            self.write_inputs(device, queue, inputs)?;
            match foreign {
                true => {
                    let (encoded, refusal) = gpu.hearing(device, INPUTS, || Ok(Refusal::of(device, encode)))?;
                    encoded.map(|()| Some(refusal))
                }
                false => encode().map(|()| None),
            }
        }?;
        if let Some(refusal) = refusal {
            self.check_lent_living(inputs, &refusal)?;
            gpu.check_refusal(&refusal).await?;
        }
        gpu.idle().await
    }
}

/// The host's clock.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch(std::time::Instant);

#[cfg(not(target_arch = "wasm32"))]
impl Stopwatch {
    /// Begins now.
    pub(super) fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    /// Seconds since then.
    pub(super) fn seconds(&self) -> Option<f64> {
        Some(self.0.elapsed().as_secs_f64())
    }
}

/// Where there is no clock of the host's.
#[cfg(target_arch = "wasm32")]
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch;

#[cfg(target_arch = "wasm32")]
impl Stopwatch {
    pub(super) fn start() -> Stopwatch {
        Stopwatch
    }

    pub(super) fn seconds(&self) -> Option<f64> {
        None
    }
}

/// Seconds by the host's clock until `work` is done.
#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn wall<T>(_gpu: &Gpu, work: impl Future<Output = Result<T>>) -> Result<f64> {
    let start = std::time::Instant::now();
    work.await?;
    Ok(start.elapsed().as_secs_f64())
}

/// Where there is no clock of the host's.
#[cfg(target_arch = "wasm32")]
pub(super) async fn wall<T>(gpu: &Gpu, _work: impl Future<Output = Result<T>>) -> Result<f64> {
    Err(Error::NoTimer { adapter: gpu.summary().name.clone() })
}
