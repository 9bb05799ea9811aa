//! Runs of a session's plans, recorded piece by piece into a host's encoders, as many pieces in each as a budget pays for.
//!
//! A run is cut between its dispatches only, so nothing that comes out changes. What is recorded may never be submitted, or in another
//! order: then everything that was recorded since is given up, and the caller records it again from what had arrived before. Until the
//! last of these commands is known to be gone nothing new is recorded, so that it cannot spoil what comes after. A run that is lost for
//! the second time goes on one tick after another, each once the one before has arrived: then what is dropped or refused is repeated alone, and a
//! host that loses frames for ever gets to the end of runs that take more frames than it keeps in a row.

use super::arrival::{Arrival, Signal};
use super::flight::{Flight, HEADER, SLOTS, STAMP, Segment, Slot, next_number};
use super::job::{Event, Job};
use super::part::{Copied, Part};
use super::pieces::Pieces;
use super::poll::Mailbox;
use super::record::Lease;
use super::run::{Bound, INPUTS, read_outputs};
use super::scope::{Refusal, unmap};
use super::ticked::kept_results;
use super::{Budget, Gpu, GpuPlan, InputData, StepTimes};
use crate::{Error, Result};
use lampyris_shaders::HostTensor;
use std::collections::VecDeque;
use std::time::Duration;

/// Most runs whose outputs one tick gives, and whose memory is kept for the next ones.
pub(super) const MOST_RESULTS: usize = 32;

/// Losses since the last run that came to its end, from which on ticks go one after another.
const PATIENCE: u32 = 2;

/// Plans that work on one set of states, in the order in which their runs are given. Nobody else may run one of them, or write
/// to their states, as long as it is not idle.
#[derive(Debug)]
pub struct Course {
    gpu: Gpu,
    parts: Vec<Part>,
    /// Holds the number of the flight that the device ran last.
    last: wgpu::Buffer,
    free: Vec<Slot>,
    flights: VecDeque<Flight>,
    room: u64,
    /// The flight that the next one has to find as the last; `None` where none before it matters.
    after: Option<u32>,
    /// What was recorded is given up, but not gone.
    broken: bool,
    /// The run that goes on, and its next piece.
    current: Option<(Job, usize)>,
    /// How often something was given up since a run came to its end.
    losses: u32,
    /// Where the only flight under way began, if it can be repeated alone.
    repeats: Option<(Job, usize)>,
    events: VecDeque<Event>,
    /// Words of the flight that is being recorded, and where they go.
    words: Vec<u32>,
    writes: Vec<Copied>,
    /// The lists of flights that have arrived, and outputs that were taken back, whose memory is used again.
    lists: Vec<Vec<Segment>>,
    outputs: Vec<Vec<HostTensor>>,
    /// Seconds that no dispatch should exceed.
    finest: f64,
}

impl Course {
    /// A course of `plans`, whose dispatches take no longer than `finest` each where that can be had, with room for `words` words that
    /// one tick may write.
    ///
    /// # Errors
    /// [`Error::Budget`], [`Error::OutOfMemory`] when there is no room for results; [`Error::DeviceLost`] when the device is gone.
    pub async fn new(gpu: &Gpu, plans: &[GpuPlan], finest: Duration, words: usize) -> Result<Course> {
        let mut parts = Vec::with_capacity(plans.len());
        for plan in plans {
            let times = StepTimes::known(plan);
            let pieces = Pieces::new(gpu, plan, &times, finest.as_secs_f64()).await?;
            parts.push(Part::new(plan, pieces, &times));
        }
        let result = plans.iter().map(|plan| plan.inner.result_bytes).max().unwrap_or(0);
        let (room, most) = (words as u64 * 4, kept_results(result));
        let (free, last) = Slot::all(gpu, room, result * most).await?;
        Ok(Course {
            gpu: gpu.clone(),
            parts,
            last,
            free,
            flights: VecDeque::with_capacity(SLOTS),
            room,
            after: None,
            broken: false,
            current: None,
            losses: 0,
            repeats: None,
            events: VecDeque::new(),
            words: Vec::new(),
            writes: Vec::new(),
            lists: Vec::new(),
            outputs: Vec::new(),
            finest: finest.as_secs_f64(),
        })
    }

    /// Whether nothing that was recorded is under way, and no run is in the middle.
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.current.is_none() && self.events.is_empty()
    }

    /// Gives up all that is recorded, as if it had been dropped: an [`Event::Broken`] comes once it is gone.
    pub fn give_up(&mut self) {
        self.settle();
        self.events.clear();
        (self.current, self.repeats) = (None, None);
        self.broken = true;
    }

    /// Takes back the outputs of an [`Event::Ran`] that nobody needs any more, so that those of the next runs need no memory of their own.
    pub fn take_back(&mut self, outputs: Vec<HostTensor>) {
        if self.outputs.len() < MOST_RESULTS && !outputs.is_empty() {
            self.outputs.push(outputs);
        }
    }

    /// How long the dispatches of a plan are expected to take.
    pub fn times(&self, part: usize) -> Option<&StepTimes> {
        self.parts.get(part).map(|part| &part.times)
    }

    /// Replaces what is known of how long the dispatches of a plan take.
    pub fn set_times(&mut self, part: usize, times: StepTimes) {
        if let Some(part) = self.parts.get_mut(part).filter(|part| part.pieces.len() == times.len()) {
            part.expect(times);
        }
    }

    /// Measures each step of a plan alone, with `inputs`, unless it is known, and cuts the plan anew by what was found: by the device's
    /// timestamps, or the host's clock where it has none; in a browser where the device has none either, guesses stand. It submits runs of its
    /// own, so it is for the time of loading; what the plan keeps is written over. The states should say that its caches are full, for so long is
    /// what takes longer with fuller ones then expected to take at most. What was measured goes to the cache of [`GpuOptions::cache`](super::GpuOptions::cache).
    ///
    /// # Errors
    /// [`Error::Busy`] unless the course is idle; as [`GpuPlan::profile`], but for [`Error::NoTimer`], and [`Course::new`].
    pub async fn measure_part(&mut self, part: usize, inputs: &[InputData<'_>], runs: usize) -> Result<()> {
        if !self.is_idle() {
            return Err(Error::Busy { runs: self.flights.len() });
        }
        let Some(part) = self.parts.get_mut(part) else { return Ok(()) };
        let mut times = StepTimes::known(&part.plan);
        if !times.is_alone() {
            let guess = StepTimes::guess(part.plan.plan(), self.gpu.caps());
            times = match part.plan.seconds_alone(inputs, runs).await {
                Ok(seconds) => StepTimes::told(seconds, &guess),
                Err(Error::NoTimer { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            times.remember(&part.plan);
            self.gpu.save_measurements();
            part.pieces = Pieces::new(&self.gpu, &part.plan, &times, self.finest).await?;
        }
        part.expect(times.cut(part.pieces.counts()));
        Ok(())
    }

    /// Lets courses that are made from now on know what this one has learnt of its plans, as it does when it is dropped.
    pub fn remember(&self) {
        // What was measured alone says more than what was learnt beside a host's own work.
        for part in self.parts.iter().filter(|part| !part.times.is_alone()) {
            part.times.joined(part.pieces.counts()).remember(&part.plan);
        }
    }

    /// What has become of what was recorded, in its order. Never waits; [`Gpu::pump`] makes progress.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is gone.
    pub fn event(&mut self) -> Result<Option<Event>> {
        self.gpu.check_alive()?;
        if self.events.is_empty() {
            self.settle();
        }
        Ok(self.events.pop_front())
    }

    /// Records pieces of runs, those of the one that is under way first and then of those that `next` gives, as long as `budget` pays
    /// for them; of a budget that is untouched at least one piece. Gives how many pieces: steps, and parts of those that are cut, of which
    /// neighbours are one dispatch. Everything is checked before the first command.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is gone; [`Error::Input`] when a run is of a plan that the course does not have, or writes to what
    /// its plan does not have; [`Error::OutOfMemory`] when there is none for the words that it writes. Of the last two all that is recorded is
    /// given up, as by [`Course::give_up`].
    pub fn record(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        budget: &mut Budget,
        next: &mut dyn FnMut() -> Option<Job>,
    ) -> Result<usize> {
        self.record_after(encoder, budget, None, next)
    }

    /// As [`Course::record`], with a whole run of another plan before it, whatever the budget: what puts a picture where the run finds
    /// it. Of the budget it takes what its [`StepTimes`] say. A texture is read by these commands only.
    ///
    /// # Errors
    /// As [`Course::record`]; [`Error::Busy`] when as many ticks are under way as may be; as [`GpuPlan::record`] of the plan before.
    pub fn record_after(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        budget: &mut Budget,
        before: Option<(&GpuPlan, &StepTimes, &[InputData<'_>])>,
        next: &mut dyn FnMut() -> Option<Job>,
    ) -> Result<usize> {
        self.gpu.check_alive()?;
        self.settle();
        // What arrived may have told of a loss.
        self.gpu.check_alive()?;
        let (Some(device), Some(queue)) = (self.gpu.device().cloned(), self.gpu.queue().cloned()) else {
            return Err(Error::NoCommands { adapter: self.gpu.summary().name.clone() });
        };
        let untold = self.events.iter().any(|event| matches!(event, Event::Broken));
        let waits = before.is_none() && self.is_careful() && !self.flights.is_empty();
        if self.broken || untold || waits || self.free.is_empty() {
            return if before.is_some() { Err(Error::Busy { runs: SLOTS }) } else { Ok(0) };
        }
        let unspent = budget.clone();
        let gpu = self.gpu.clone();
        let memory = gpu.listening(&device, INPUTS);
        let mut before = match before {
            Some((plan, times, inputs)) => {
                let checked = Before::check(&device, plan, inputs)?;
                budget.spend(times.of(0..times.len()));
                Some(checked)
            }
            None => None,
        };
        let mut segments = self.lists.pop().unwrap_or_default();
        let number = next_number();
        let chosen = self.choose(number, budget, next, &mut segments);
        // What was recorded before the run would be dropped with it.
        self.repeats = self.repeats.take().filter(|_| before.is_none());
        let slot = self.free.last().filter(|_| !segments.is_empty() || before.is_some());
        let handed = chosen.and_then(|()| match slot {
            Some(slot) => {
                before.as_ref().map_or(Ok(()), |it| it.plan.stage(&queue, it.inputs, &it.lease))?;
                self.gpu.write(&queue, INPUTS, (&slot.upload, 0), bytemuck::cast_slice(&self.words))
            }
            None => Ok(()),
        });
        if let Err(error) = memory.heard(handed) {
            // Runs that `next` has given cannot be had again, so the caller begins anew from what it knows of.
            *budget = unspent;
            self.give_up();
            return Err(error);
        }
        let idle = segments.is_empty() && before.is_none();
        let Some(slot) = (!idle).then(|| self.free.pop()).flatten() else {
            self.lists.push(segments);
            return Ok(0);
        };
        slot.encode_stamps(encoder, &self.last);
        if let Some(before) = &before {
            before.encode(encoder)?;
        }
        let mut writes = self.writes.iter().peekable();
        for (at, segment) in segments.iter().enumerate() {
            while let Some(write) = writes.next_if(|write| write.segment == at) {
                encoder.copy_buffer_to_buffer(&slot.upload, write.from, &write.to, write.offset, write.bytes);
            }
            let part = &self.parts[segment.part];
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some("lampyris.tick"),
                    timestamp_writes: slot.writes(at == 0, at + 1 == segments.len()),
                });
                part.pieces.encode(&part.plan, &mut pass, segment.pieces.clone());
            }
            if let Some((_, Some(to))) = segment.ends {
                part.plan.encode_result_at(encoder, &slot.result, to);
            }
        }
        if !segments.is_empty() {
            slot.encode_clock(encoder);
        }
        let arrived = Mailbox::new();
        let signal = Signal::new(arrived.clone());
        encoder.map_buffer_on_submit(&slot.result, wgpu::MapMode::Read, .., move |mapped| {
            signal.tell(mapped.is_ok());
        });
        let pieces = segments.iter().map(|segment| segment.pieces.len()).sum();
        let after = self.after.replace(number);
        let refusal = before.as_mut().and_then(|before| before.refusal.take());
        let lease = before.map(|before| before.lease);
        self.flights.push_back(Flight { number, after, slot, arrived, segments, _before: lease, refusal });
        Ok(pieces)
    }

    /// Chooses the pieces that the budget pays for, and what is written before them.
    fn choose(
        &mut self,
        number: u32,
        budget: &mut Budget,
        next: &mut dyn FnMut() -> Option<Job>,
        segments: &mut Vec<Segment>,
    ) -> Result<()> {
        self.words.clear();
        self.writes.clear();
        self.words.push(number);
        let mut results = HEADER;
        let careful = self.is_careful();
        loop {
            let (job, begin) = match self.current.take() {
                Some(current) => current,
                None => match next() {
                    Some(job) => (job, 0),
                    None => break,
                },
            };
            let plans = self.parts.len();
            let Some(part) = self.parts.get_mut(job.part) else {
                let (name, found) = ("a run's plan".to_owned(), format!("plan {}", job.part));
                return Err(Error::Input { name, expected: format!("one of {plans} plans, counted from 0"), found });
            };
            part.fill(job.positions);
            let wanted = if job.outputs { part.plan.inner.result_bytes } else { 0 };
            let whole = budget.left_seconds();
            // Of what was only guessed little is given out, where it will be known soon: one piece, if no more is to be had, of which that is learnt.
            let left = if part.times.is_measured() || !self.gpu.caps().timestamps { whole } else { whole / 8.0 };
            let begins = budget.is_fresh() || part.times.within(begin, whole) > 0;
            let at_least = usize::from(segments.is_empty() && begins);
            let fits = part.times.within(begin, left).max(at_least);
            let end = (begin + fits).min(part.pieces.len());
            let room = self.free.last().map_or(0, |slot| slot.result.size());
            let words: usize = job.begin.iter().chain(job.again.iter()).map(|it| it.words.len()).sum();
            if words as u64 * 4 > self.room {
                let (name, found) = ("a run's words".to_owned(), format!("{words} words"));
                return Err(Error::Input { name, expected: format!("at most {}", self.room / 4), found });
            }
            let full = results + wanted > room || (self.words.len() + words) as u64 * 4 > STAMP + self.room;
            if end == begin && begin < part.pieces.len() || full {
                if !full {
                    budget.fall_short();
                }
                if !full && segments.is_empty() {
                    part.ease(begin, left);
                }
                self.current = Some((job, begin));
                break;
            }
            let begun = if begin == 0 { &job.begin[..] } else { &[] };
            for written in begun.iter().chain(job.again.iter()) {
                let copied = part.copied(written, segments.len(), self.words.len() as u64 * 4)?;
                self.words.extend_from_slice(&written.words);
                self.writes.push(copied);
            }
            budget.spend(part.times.of(begin..end));
            self.repeats = careful.then(|| (job.clone(), begin));
            let done = end == part.pieces.len();
            let ends = done.then(|| (job.tag, job.outputs.then_some(results)));
            results += if done { wanted } else { 0 };
            segments.push(Segment { part: job.part, pieces: begin..end, positions: job.positions, ends });
            if !done {
                budget.fall_short();
                self.current = Some((job, end));
                break;
            }
            if careful {
                break;
            }
        }
        Ok(())
    }

    /// Whether ticks wait for those before them.
    fn is_careful(&self) -> bool {
        self.losses >= PATIENCE
    }

    /// Looks at what has arrived.
    fn settle(&mut self) {
        while let Some(arrival) = self.flights.front().and_then(|flight| flight.arrived.take()) {
            let Some(flight) = self.flights.pop_front() else { break };
            let repeated = self.repeats.take().filter(|_| !self.broken && self.is_undone(&flight, arrival));
            let sound = repeated.is_none() && arrival == Arrival::Mapped && !flight.is_refused() && self.read(&flight);
            // Whatever is told: a callback that is dropped in another one's panic leaves its buffer mapped.
            unmap(self.gpu.device(), &flight.slot.result);
            if let Some(repeated) = repeated {
                // Nothing was recorded behind it. The next comes after the same flight, and would not be sound had this one run after all.
                self.gpu.note_if_lost();
                (self.current, self.after) = (Some(repeated), flight.after);
            } else if !sound {
                // Also where it was mapped: a device that goes takes what is mapped along.
                self.gpu.note_if_lost();
                self.losses = self.losses.saturating_add(u32::from(!self.broken));
                self.broken = true;
                self.current = None;
            }
            let Flight { slot, mut segments, .. } = flight;
            segments.clear();
            self.lists.push(segments);
            self.free.push(slot);
        }
        if self.broken && self.flights.is_empty() {
            (self.broken, self.after) = (false, None);
            self.events.push_back(Event::Broken);
        }
    }

    /// Whether nothing of a flight has run: it was dropped, or its result is that of another.
    fn is_undone(&self, flight: &Flight, arrival: Arrival) -> bool {
        match arrival {
            Arrival::Dropped => true,
            Arrival::Mapped => {
                !flight.is_refused()
                    && flight.slot.result.get_mapped_range(..).is_ok_and(|bytes| !flight.has_run(&bytes))
            }
            Arrival::Failed => false,
        }
    }

    /// Reads the result of a flight, and says whether it is one.
    fn read(&mut self, flight: &Flight) -> bool {
        if self.broken {
            return false;
        }
        let Ok(bytes) = flight.slot.result.get_mapped_range(..) else { return false };
        if !flight.is_sound(&bytes) {
            return false;
        }
        let period = self.gpu.queue().map_or(0.0, |queue| f64::from(queue.get_timestamp_period()) * 1e-9);
        let mut expected = 0.0;
        for segment in &flight.segments {
            let part = &mut self.parts[segment.part];
            part.fill(segment.positions);
            expected += part.times.of(segment.pieces.clone());
        }
        if let Some(factor) = flight.factor(&bytes, period, expected) {
            self.learn(&flight.segments, factor);
        }
        for segment in &flight.segments {
            let Some((tag, at)) = segment.ends else { continue };
            let mut outputs = Vec::new();
            if let Some(bytes) = at.and_then(|at| bytes.get(at as usize..)) {
                outputs = self.outputs.pop().unwrap_or_default();
                if read_outputs(self.parts[segment.part].plan.plan(), bytes, &mut outputs).is_none() {
                    return false;
                }
            }
            self.events.push_back(Event::Ran { tag, outputs });
            self.losses = 0;
        }
        true
    }

    /// Learns that these pieces took `factor` times as long as expected; of one flight a little, unless it is the first that tells of a part.
    fn learn(&mut self, segments: &[Segment], factor: f64) {
        self.parts.iter_mut().for_each(|part| part.known = part.times.is_measured());
        for segment in segments {
            // Tokens of one flight tell of the same pieces, all of them together a little.
            let alike = segments.iter().filter(|it| it.part == segment.part).count();
            self.parts[segment.part].learn(segment.pieces.clone(), factor, alike);
        }
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        self.remember();
    }
}

/// A run of another plan that comes before, checked.
struct Before<'a> {
    plan: &'a GpuPlan,
    inputs: &'a [InputData<'a>],
    bound: Bound,
    lease: Lease,
    refusal: Option<Refusal>,
}

impl<'a> Before<'a> {
    fn check(device: &wgpu::Device, plan: &'a GpuPlan, inputs: &'a [InputData<'a>]) -> Result<Before<'a>> {
        let foreign = plan.check_inputs(inputs)?;
        let (bound, refusal) = plan.inner.gpu.binding(device, foreign, || plan.bind_textures(device, inputs))?;
        let lease = plan.lease(device)?;
        Ok(Before { plan, inputs, bound, lease, refusal })
    }

    fn encode(&self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.plan.copy_inputs(encoder, self.inputs, &self.lease)?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("lampyris.tick.before"),
            timestamp_writes: None,
        });
        for at in 0..self.plan.inner.dispatches.len() {
            self.plan.encode_step(&mut pass, at, &self.bound);
        }
        Ok(())
    }
}
