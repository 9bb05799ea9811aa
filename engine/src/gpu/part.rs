//! A plan of a course: how it is cut, how long its pieces are taken to need, and where what a run brings is written to.

use super::job::Written;
use super::pieces::Pieces;
use super::step_times::Growing;
use super::{GpuPlan, StepTimes};
use crate::plan::Place;
use crate::{Error, Result};
use std::ops::Range;

/// What is left of the time that a piece is taken to need after a tick that has begun nothing for want of it.
const EASED: f64 = 0.95;

/// A plan of a course.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) plan: GpuPlan,
    pub(super) pieces: Pieces,
    pub(super) times: StepTimes,
    /// The least seconds that each piece was taken to need since something was measured.
    least: Vec<f64>,
    /// The steps that take longer the more of the caches is in use.
    growing: Vec<Growing>,
    /// The positions that the times are for; all where none is told.
    positions: Option<usize>,
    /// Whether anything had been measured before the flight that is being learnt from.
    pub(super) known: bool,
}

impl Part {
    /// A plan in these pieces; `times` are those of its steps.
    pub(super) fn new(plan: &GpuPlan, pieces: Pieces, times: &StepTimes) -> Part {
        let times = times.cut(pieces.counts());
        let (least, growing) = (times.seconds().to_vec(), StepTimes::growing(plan.plan()));
        Part { plan: plan.clone(), pieces, times, least, growing, positions: None, known: false }
    }

    /// Replaces what its pieces are taken to need.
    pub(super) fn expect(&mut self, times: StepTimes) {
        self.least = times.seconds().to_vec();
        (self.times, self.positions) = (times, None);
    }

    /// Expects what it takes while only the first `positions` of the caches are in use.
    pub(super) fn fill(&mut self, positions: usize) {
        if self.positions.replace(positions) != Some(positions) {
            self.times.fill(self.plan.plan(), &self.growing, self.pieces.counts(), positions);
        }
    }

    /// Learns that these pieces took `factor` times as long as expected: of one flight a little, in which there are `alike` runs of the
    /// part, unless it is the first that tells of it.
    pub(super) fn learn(&mut self, pieces: Range<usize>, factor: f64, alike: usize) {
        match (self.known, self.times.is_measured()) {
            (true, _) => self.times.follow(pieces.clone(), factor, alike),
            (false, false) => {
                self.times.scale(pieces.clone(), factor);
                self.least.copy_from_slice(self.times.seconds());
            }
            // An earlier run of the same flight has told of all.
            (false, true) => {}
        }
        let told = self.least.iter_mut().zip(self.times.seconds()).take(pieces.end).skip(pieces.start);
        told.for_each(|(least, seconds)| *least = least.min(*seconds));
    }

    /// A tick has begun nothing because this piece is taken to need more than the `left` seconds. As nothing more would ever be learnt of it, it is
    /// taken to need a little less from now on, but never less than the least that it was taken to need before. Where that would not do either,
    /// because others had nearly all of the frame, what was learnt of it stays.
    pub(super) fn ease(&mut self, piece: usize, left: f64) {
        if let Some(least) = self.least.get(piece) {
            self.times.ease(piece, EASED, *least, left);
        }
    }

    /// Where words go that lie at byte `from`.
    pub(super) fn copied(&self, written: &Written, segment: usize, from: u64) -> Result<Copied> {
        let (plan, bytes) = (&self.plan.inner.plan, written.words.len() as u64 * 4);
        let named = plan.tensors.iter().position(|tensor| {
            tensor.name == written.name && matches!(tensor.place, Place::State(_) | Place::Input(_))
        });
        let region = named.and_then(|at| self.plan.inner.regions[at].as_ref());
        let at = written.at as u64 * 4;
        match region.filter(|region| at + bytes <= region.bytes) {
            Some(region) => Ok(Copied { segment, from, to: region.buffer.clone(), offset: region.offset + at, bytes }),
            None => Err(Error::Input {
                name: written.name.to_owned(),
                expected: region.map_or("a state or an input".to_owned(), |it| format!("at most {} bytes", it.bytes)),
                found: format!("{bytes} bytes at word {}", written.at),
            }),
        }
    }
}

/// Words on their way from a flight's buffer to a state or an input.
#[derive(Debug)]
pub(super) struct Copied {
    /// The segment that they are written before.
    pub(super) segment: usize,
    pub(super) from: u64,
    pub(super) to: wgpu::Buffer,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}
