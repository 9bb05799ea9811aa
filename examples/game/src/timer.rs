//! The game's own clock on the GPU: how long the models' work took, known some frames later and without waiting.

use crate::host::Host;
use lampyris::wgpu;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Marks of a frame: before the eye's work, between it and the talk's, and after that.
pub const MARKS: u32 = 3;
const BYTES: u64 = 8 * MARKS as u64;
const FREE: u8 = 0;
const UNDER_WAY: u8 = 1;
const ARRIVED: u8 = 2;
const FAILED: u8 = 3;

#[derive(Debug)]
struct Slot {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    state: Arc<AtomicU8>,
}

/// Marks of several frames under way.
#[derive(Debug)]
pub struct Timer {
    slots: Vec<Slot>,
    /// Milliseconds of a tick.
    tick: f64,
    /// The slot of the frame that is being recorded.
    current: Option<usize>,
}

impl Timer {
    /// Without slots where the device has no timestamps.
    pub fn new(host: &Host) -> Timer {
        let has = host.device.features().contains(wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS);
        let slot = |_| Slot {
            queries: host.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("game.clock"),
                ty: wgpu::QueryType::Timestamp,
                count: MARKS,
            }),
            resolved: host.buffer(
                "game.clock",
                BYTES,
                wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            ),
            staging: host.buffer("game.clock", BYTES, wgpu::BufferUsages::MAP_READ),
            state: Arc::new(AtomicU8::new(FREE)),
        };
        let slots = if has { (0..4).map(slot).collect() } else { Vec::new() };
        Timer { slots, tick: f64::from(host.queue.get_timestamp_period()) / 1e6, current: None }
    }

    /// Whether times are measured at all.
    pub fn measures(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Puts a mark between what was recorded and what will be; the first one begins a frame.
    pub fn mark(&mut self, encoder: &mut wgpu::CommandEncoder, number: u32) {
        if number == 0 {
            self.current = self.slots.iter().position(|slot| slot.state.load(Ordering::Acquire) == FREE);
        }
        let Some(slot) = self.current.and_then(|at| self.slots.get(at)) else { return };
        encoder.write_timestamp(&slot.queries, number);
        if number + 1 == MARKS {
            encoder.resolve_query_set(&slot.queries, 0..MARKS, &slot.resolved, 0);
            encoder.copy_buffer_to_buffer(&slot.resolved, 0, &slot.staging, 0, BYTES);
        }
    }

    /// Asks for the marks of the frame that was just submitted.
    pub fn submitted(&mut self) {
        let Some(slot) = self.current.take().and_then(|at| self.slots.get(at)) else { return };
        slot.state.store(UNDER_WAY, Ordering::Release);
        let state = slot.state.clone();
        slot.staging.map_async(wgpu::MapMode::Read, .., move |result| {
            state.store(if result.is_ok() { ARRIVED } else { FAILED }, Ordering::Release);
        });
    }

    /// Milliseconds between the marks of frames whose times have arrived.
    pub fn arrived(&mut self) -> Vec<[f32; 2]> {
        let mut times = Vec::new();
        for slot in &self.slots {
            match slot.state.load(Ordering::Acquire) {
                ARRIVED => {
                    if let Ok(bytes) = slot.staging.get_mapped_range(..) {
                        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
                        let between = |k: usize| (self.tick * ticks[k + 1].saturating_sub(ticks[k]) as f64) as f32;
                        times.push([between(0), between(1)]);
                    }
                    slot.staging.unmap();
                    slot.state.store(FREE, Ordering::Release);
                }
                FAILED => slot.state.store(FREE, Ordering::Release),
                _ => {}
            }
        }
        times
    }
}
