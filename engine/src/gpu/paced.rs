//! A plan whose runs are cut into several submits, so that none of them holds the device for longer than a budget of time.
//!
//! A run is cut between steps, and a step that alone takes much of the budget between its workgroups where its kernel can be cut; neither
//! changes a bit of what it gives. How long a step takes is guessed from its work, then learnt from the device's clock, or the host's
//! where the device has none. What cannot be cut is the floor.

use super::pieces::Pieces;
use super::poll::Mailbox;
use super::step_times::Growing;
use super::timer::{Stopwatch, Timer};
use super::{GpuPlan, Pending, StepTimes};
#[cfg(not(target_arch = "wasm32"))]
use crate::Error;
use crate::Result;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Most submits on their way at a time.
const MOST_IN_FLIGHT: usize = 16;

/// The share of a budget that a step may take before it is cut, and that its pieces take then: half as long again, as a submit now and then
/// takes, they leave room for others.
#[cfg(not(target_arch = "wasm32"))]
const LONG: f64 = 0.4;
#[cfg(not(target_arch = "wasm32"))]
const PIECE: f64 = 0.2;
/// Seconds that a piece takes at least: shorter ones cost more than they are good for.
#[cfg(not(target_arch = "wasm32"))]
const SHORTEST: f64 = 1e-3;

/// A submit on its way.
#[derive(Debug)]
struct Flight {
    steps: Range<usize>,
    /// Seconds that were expected of it.
    expected: f64,
    timer: Option<Timer>,
    since: Stopwatch,
    done: Mailbox<()>,
}

/// A plan without inputs whose runs are cut into submits of bounded time.
#[derive(Debug)]
pub struct Paced {
    plan: GpuPlan,
    budget: f64,
    pieces: Pieces,
    /// Of the pieces.
    times: StepTimes,
    /// The steps that take longer the more of the caches is in use.
    growing: Vec<Growing>,
    /// What the longest piece took when it could not be cut further.
    #[cfg(not(target_arch = "wasm32"))]
    floor: f64,
    flights: VecDeque<Flight>,
    /// Timers that no submit uses.
    timers: Vec<Timer>,
    /// Since when the device works on the oldest submit, where an earlier one was waited for.
    last: Option<Stopwatch>,
    longest: f64,
    submits: u64,
}

impl Paced {
    /// Cuts runs of `plan` so that each submit is expected to take at most `budget`, or as long as a step that cannot be cut.
    pub fn new(plan: &GpuPlan, budget: Duration) -> Paced {
        let (times, growing) = (StepTimes::guess(plan.plan(), plan.gpu().caps()), StepTimes::growing(plan.plan()));
        let (flights, timers, last) = Default::default();
        let (plan, budget, pieces) = (plan.clone(), budget.as_secs_f64(), Pieces::whole(plan));
        Paced {
            plan,
            budget,
            pieces,
            times,
            growing,
            #[cfg(not(target_arch = "wasm32"))]
            floor: 0.0,
            flights,
            timers,
            last,
            longest: 0.0,
            submits: 0,
        }
    }

    /// Bounds the submits from now on by another time.
    pub fn bound(&mut self, budget: Duration) {
        self.budget = budget.as_secs_f64();
    }

    /// Submits a run after which the first `positions` of the plan's caches are in use, and gives a handle to its result where the plan has
    /// outputs. Waits for earlier submits, without blocking a thread, while those on their way and the next one are expected to take more
    /// than twice the budget together. A run that is given up in the middle leaves the tensors that the plan keeps as far as it came.
    ///
    /// # Errors
    /// [`crate::Error::Input`] when the plan has inputs; [`crate::Error::DeviceLost`] when the device is gone.
    pub async fn run(&mut self, positions: usize) -> Result<Option<Pending>> {
        self.times.fill(self.plan.plan(), &self.growing, self.pieces.counts(), positions);
        #[cfg(not(target_arch = "wasm32"))]
        self.cut(positions).await?;
        let (mut begin, count) = (0, self.times.len());
        loop {
            let steps = self.times.fitting(begin, self.budget);
            let on_their_way: f64 = self.flights.iter().map(|flight| flight.expected).sum();
            let expected = self.times.of(steps.clone());
            let full = on_their_way + expected > 2.0 * self.budget || !self.times.is_measured();
            if !self.flights.is_empty() && (full || self.flights.len() >= MOST_IN_FLIGHT) {
                self.settle().await?;
                continue;
            }
            let timer = match self.timers.pop() {
                Some(timer) => Some(timer),
                None => Timer::new(self.plan.gpu(), 1).await?,
            };
            let (end, since) = (steps.end, Stopwatch::start());
            let (done, pending) = self.plan.submit_pieces((&self.pieces, steps.clone()), timer.as_ref())?;
            self.submits += 1;
            self.flights.push_back(Flight { steps, expected, timer, since, done });
            begin = end;
            if begin >= count {
                return Ok(pending);
            }
        }
    }

    /// Cuts steps that are expected to take a large part of the budget, where they can be cut and there is room for what that takes. Not in a
    /// browser's module, where what it takes of the download is dearer.
    #[cfg(not(target_arch = "wasm32"))]
    async fn cut(&mut self, positions: usize) -> Result<()> {
        let longest = self.times.longest();
        if longest <= (LONG * self.budget).max(2.0 * SHORTEST) || longest <= 1.5 * self.floor {
            return Ok(());
        }
        // What is on its way is told by the pieces that there are.
        while !self.flights.is_empty() {
            self.settle().await?;
        }
        let mut steps = self.times.joined(self.pieces.counts());
        steps.fill(self.plan.plan(), &self.growing, &vec![1; steps.len()], positions);
        let gpu = self.plan.gpu().clone();
        match Pieces::new(&gpu, &self.plan, &steps, (PIECE * self.budget).max(SHORTEST)).await {
            Ok(pieces) => self.pieces = pieces,
            Err(Error::Budget { .. }) => {}
            Err(error) => return Err(error),
        }
        self.times = steps.cut(self.pieces.counts());
        self.times.fill(self.plan.plan(), &self.growing, self.pieces.counts(), positions);
        self.floor = self.times.longest();
        Ok(())
    }

    /// Waits for the oldest submit, and learns from it and those that are done as well.
    async fn settle(&mut self) -> Result<()> {
        let gpu = self.plan.gpu().clone();
        let Some(oldest) = self.flights.front() else { return Ok(()) };
        let done = oldest.done.clone();
        if done.receive(&gpu).await.is_none() {
            return gpu.check_alive();
        }
        let mut settled: Vec<Flight> = self.flights.pop_front().into_iter().collect();
        while self.flights.front().is_some_and(|flight| flight.done.take().is_some()) {
            settled.extend(self.flights.pop_front());
        }
        // By the host's clock the device went from one submit to the next, or began when the first was submitted.
        let expected: f64 = settled.iter().map(|flight| flight.expected).sum();
        let since = |clock: &Stopwatch| clock.seconds().unwrap_or(f64::INFINITY);
        let began = settled.first().map_or(f64::INFINITY, |flight| since(&flight.since));
        let elapsed = self.last.as_ref().map_or(began, |last| since(last).min(began));
        self.last = Some(Stopwatch::start());
        for flight in settled {
            let share = elapsed * flight.expected / expected;
            let seconds = match flight.timer {
                Some(timer) => {
                    let by_device = timer.read(&gpu).await?.iter().sum::<f64>() * 1e-6;
                    self.timers.push(timer);
                    // A clock that stands still is none.
                    if by_device > 0.0 { by_device } else { share }
                }
                None => share,
            };
            if seconds.is_finite() {
                self.longest = self.longest.max(seconds);
            }
            // What was expected of it belongs to the positions of its own run.
            let now = self.times.of(flight.steps.clone());
            self.times.learn(flight.steps, seconds * now / flight.expected);
        }
        Ok(())
    }

    /// Waits until all that was submitted is done, without blocking a thread.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`] when the device is gone.
    pub async fn settled(&mut self) -> Result<()> {
        while !self.flights.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }

    /// Waits until all that was submitted is done, and gives the longest that a submit took since this was last asked; `None` where
    /// nothing was measured.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`] when the device is gone.
    pub async fn longest(&mut self) -> Result<Option<Duration>> {
        self.settled().await?;
        let longest = std::mem::take(&mut self.longest);
        Ok(Some(longest).filter(|seconds| *seconds > 0.0).map(Duration::from_secs_f64))
    }

    /// The plan.
    pub fn plan(&self) -> &GpuPlan {
        &self.plan
    }

    /// Submits so far.
    pub fn submits(&self) -> u64 {
        self.submits
    }
}
