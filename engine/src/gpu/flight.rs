//! What one tick has put into a host's encoder, until it is known what became of it.
//!
//! Each flight proves two things by what the device writes: that its commands ran, and that nothing but the flight before it ran
//! last. So a host that drops an encoder, submits two in another order, or spoils a submit is noticed, whatever it tells.

use super::Gpu;
use super::allocate::Wanted;
use super::arrival::Arrival;
use super::memory::Held;
use super::poll::Mailbox;
use super::record::Lease;
use super::scope::Refusal;
use crate::Result;
use crate::plan::PlanBytes;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

/// Ticks that may be under way together.
pub(super) const SLOTS: usize = 4;

/// Bytes before the results: the number of the flight that ran before, this one's, and two timestamps.
pub(super) const HEADER: u64 = 32;

/// Bytes of a flight's words before what it writes: its number.
pub(super) const STAMP: u64 = 4;

/// Where the timestamps lie in a result.
const CLOCK: u64 = 8;

/// The buffers of one flight.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its number, and the words that it writes.
    pub(super) upload: wgpu::Buffer,
    pub(super) result: wgpu::Buffer,
    clock: Option<(wgpu::QuerySet, wgpu::Buffer)>,
    _held: Held,
}

/// Bytes of the two buffers of a flight with room for so many bytes of words to write and of results.
fn sizes(upload: u64, result: u64) -> [u64; 2] {
    [(STAMP + upload).next_multiple_of(4), (HEADER + result).next_multiple_of(4)]
}

impl Slot {
    /// What [`Slot::all`] takes of the account.
    pub(super) fn all_bytes(upload: u64, result: u64) -> u64 {
        SLOTS as u64 * sizes(upload, result).iter().sum::<u64>()
    }

    /// The slots of a course with room for so many bytes of words to write and of results, and the buffer that holds the number of
    /// the flight that ran last.
    pub(super) async fn all(gpu: &Gpu, upload: u64, result: u64) -> Result<(Vec<Slot>, wgpu::Buffer)> {
        let [upload, result] = sizes(upload, result);
        let mut held = Vec::with_capacity(SLOTS);
        for _ in 0..SLOTS {
            let activations = upload + result;
            held.push(gpu.account().take(PlanBytes { weights: 0, activations, states: 0, params: 0 })?);
        }
        let doing = "making room for a driven run";
        gpu.guarded(doing, |device| {
            let buffer = |label: &str, size: u64, usage: wgpu::BufferUsages| {
                gpu.buffer(device, doing, Wanted { label, size, usage: usage | wgpu::BufferUsages::COPY_DST })
            };
            let clock = || {
                gpu.allocating(doing)?;
                let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("lampyris.tick.clock"),
                    ty: wgpu::QueryType::Timestamp,
                    count: 2,
                });
                let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
                Ok((queries, buffer("lampyris.tick.resolved", 16, usage)?))
            };
            let slot = |held| -> Result<Slot> {
                Ok(Slot {
                    upload: buffer("lampyris.tick.words", upload, wgpu::BufferUsages::COPY_SRC)?,
                    result: buffer("lampyris.tick.result", result, wgpu::BufferUsages::MAP_READ)?,
                    clock: gpu.caps().timestamps.then(clock).transpose()?,
                    _held: held,
                })
            };
            let last = buffer("lampyris.tick.last", 4, wgpu::BufferUsages::COPY_SRC)?;
            Ok((held.into_iter().map(slot).collect::<Result<_>>()?, last))
        })
        .await?
    }

    /// Where the passes of a flight write when they begin and end.
    pub(super) fn writes(&self, first: bool, last: bool) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let (queries, _) = self.clock.as_ref().filter(|_| first || last)?;
        Some(wgpu::ComputePassTimestampWrites {
            query_set: queries,
            beginning_of_pass_write_index: first.then_some(0),
            end_of_pass_write_index: last.then_some(1),
        })
    }

    /// Encodes what proves that the flight ran, and after which.
    pub(super) fn encode_stamps(&self, encoder: &mut wgpu::CommandEncoder, last: &wgpu::Buffer) {
        encoder.copy_buffer_to_buffer(last, 0, &self.result, 0, 4);
        encoder.copy_buffer_to_buffer(&self.upload, 0, last, 0, 4);
        encoder.copy_buffer_to_buffer(&self.upload, 0, &self.result, 4, 4);
    }

    /// Encodes the copy of the timestamps.
    pub(super) fn encode_clock(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Some((queries, resolved)) = &self.clock {
            encoder.resolve_query_set(queries, 0..2, resolved, 0);
            encoder.copy_buffer_to_buffer(resolved, 0, &self.result, CLOCK, 16);
        }
    }
}

/// A number that no other flight of the process has, whose course may have left it where this one's will lie; never 0, which new memory holds.
pub(super) fn next_number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    match LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1) {
        0 => next_number(),
        number => number,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Pieces of one run that a flight has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    /// The plan, by its place in the course.
    pub(super) part: usize,
    pub(super) pieces: Range<usize>,
    /// Positions of the caches that are in use after the run.
    pub(super) positions: usize,
    /// What the caller calls the run, and where its outputs lie in the result, when they do; present when the run ends here.
    pub(super) ends: Option<(u64, Option<u64>)>,
}

/// A tick under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) number: u32,
    /// The flight that has to have run last before it; `None` where none before it matters to it.
    pub(super) after: Option<u32>,
    pub(super) slot: Slot,
    pub(super) arrived: Mailbox<Arrival>,
    pub(super) segments: Vec<Segment>,
    /// Where the inputs lie of what ran before.
    pub(super) _before: Option<Lease>,
    /// What the driver says of a texture, where it says it late.
    pub(super) refusal: Option<Refusal>,
}

impl Flight {
    /// Whether the driver has refused a texture of it, as far as is known.
    pub(super) fn is_refused(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.refusal.as_ref().is_some_and(|it| matches!(it.poll(&mut context), Poll::Ready(Some(_))))
    }

    /// Whether the bytes of the result are those of this flight's commands.
    pub(super) fn has_run(&self, bytes: &[u8]) -> bool {
        word(bytes, 4) == Some(self.number)
    }

    /// Whether its commands have run, and no others came between.
    pub(super) fn is_sound(&self, bytes: &[u8]) -> bool {
        self.has_run(bytes) && self.after.is_none_or(|after| word(bytes, 0) == Some(after))
    }

    /// How many times as long as the `expected` seconds its steps took by the timestamps, whose ticks are `period` seconds; `None` where no
    /// clock tells.
    pub(super) fn factor(&self, bytes: &[u8], period: f64, expected: f64) -> Option<f64> {
        let tick = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let (began, ended) = (tick(CLOCK as usize)?, tick(CLOCK as usize + 8)?);
        let seconds = ended.saturating_sub(began) as f64 * period;
        // A clock that stands still is none.
        (self.slot.clock.is_some() && seconds > 0.0 && expected > 0.0).then(|| seconds / expected)
    }
}
