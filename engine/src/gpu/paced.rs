//! A plan whose runs are cut into several submits, so that none of them holds the device for longer than a budget of time.
//!
//! A run is cut between steps, which changes no bit of what it gives. How long a step takes is guessed from its work, then learnt
//! from the device's clock, or the host's where the device has none. A single step is never cut: the longest of them is the floor.

use super::poll::Mailbox;
use super::timer::{Stopwatch, Timer};
use super::{GpuPlan, Pending};
use crate::Result;
use crate::plan::Plan;
use lampyris_shaders::Caps;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Most submits on their way at a time.
const MOST_IN_FLIGHT: usize = 16;

/// How long the steps of a plan take, as far as is known.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTimes {
    seconds: Vec<f64>,
    measured: bool,
    /// How many times as long as expected submits took lately, at most.
    margin: f64,
}

impl StepTimes {
    /// A guess from each step's work, at rates that nearly every adapter of the kind exceeds.
    pub fn guess(plan: &Plan, caps: &Caps) -> StepTimes {
        let [start, flops, bytes] = if caps.software { [2e-5, 1e10, 2e9] } else { [5e-6, 1e11, 2e10] };
        let of = |step| {
            let work = plan.with_call(step, |call| step.kernel.work(call));
            start + (work.flops / flops).max(work.bytes / bytes)
        };
        StepTimes { seconds: plan.steps.iter().map(of).collect(), measured: false, margin: 1.0 }
    }

    /// Steps of the plan.
    pub fn len(&self) -> usize {
        self.seconds.len()
    }

    /// Whether the plan has no step.
    pub fn is_empty(&self) -> bool {
        self.seconds.is_empty()
    }

    /// Seconds that `steps` are expected to take.
    pub fn of(&self, steps: Range<usize>) -> f64 {
        self.seconds.get(steps).unwrap_or_default().iter().sum()
    }

    /// The steps from `begin` on that fit into `seconds`, with as much to spare as submits exceeded what was expected of them lately: at least
    /// one where there is one. As long as nothing was measured only an eighth of the time is given out.
    pub fn fitting(&self, begin: usize, seconds: f64) -> Range<usize> {
        let mut left = if self.measured { seconds / self.margin } else { seconds / 8.0 };
        let more = |step: &&f64| {
            left -= **step;
            left >= 0.0
        };
        let count = self.seconds.iter().skip(begin).take_while(more).count();
        begin..(begin + count.max(1)).min(self.len()).max(begin)
    }

    /// Learns that `steps` took `seconds`. The first measurement tells of all steps. One that is much longer than expected counts
    /// for four times as long: it may have waited for the compiler, or for somebody else's work.
    pub fn learn(&mut self, steps: Range<usize>, seconds: f64) {
        let expected = self.of(steps.clone());
        if expected <= 0.0 || !seconds.is_finite() || seconds <= 0.0 {
            return;
        }
        let factor = (seconds / expected).clamp(1e-3, 4.0);
        let known = std::mem::replace(&mut self.measured, true);
        if known {
            // The clock of a busy or a warm machine changes from one submit to the next, and what was learnt is a mean.
            self.margin = factor.min(2.0).max(1.0 + 0.98 * (self.margin - 1.0));
        }
        let told = if known { steps } else { 0..self.len() };
        self.seconds.iter_mut().take(told.end).skip(told.start).for_each(|step| *step *= factor);
    }
}

/// A submit on its way.
#[derive(Debug)]
struct Flight {
    steps: Range<usize>,
    timer: Option<Timer>,
    since: Stopwatch,
    done: Mailbox<()>,
}

/// A plan without inputs whose runs are cut into submits of bounded time.
#[derive(Debug)]
pub struct Paced {
    plan: GpuPlan,
    budget: f64,
    times: StepTimes,
    flights: VecDeque<Flight>,
    /// Timers that no submit uses.
    timers: Vec<Timer>,
    /// Since when the device works on the oldest submit, where an earlier one was waited for.
    last: Option<Stopwatch>,
    longest: f64,
    submits: u64,
}

impl Paced {
    /// Cuts runs of `plan` so that each submit is expected to take at most `budget`, or one step.
    pub fn new(plan: &GpuPlan, budget: Duration) -> Paced {
        let times = StepTimes::guess(plan.plan(), plan.gpu().caps());
        let (flights, timers, last) = Default::default();
        let (plan, budget) = (plan.clone(), budget.as_secs_f64());
        Paced { plan, budget, times, flights, timers, last, longest: 0.0, submits: 0 }
    }

    /// Submits a run, and gives a handle to its result where the plan has outputs. Waits for earlier submits, without blocking a
    /// thread, while those on their way and the next one are expected to take more than twice the budget together. A run that is
    /// given up in the middle leaves the tensors that the plan keeps as far as it came.
    ///
    /// # Errors
    /// [`crate::Error::Input`] when the plan has inputs; [`crate::Error::DeviceLost`] when the device is gone.
    pub async fn run(&mut self) -> Result<Option<Pending>> {
        let (mut begin, count) = (0, self.times.len());
        loop {
            let steps = self.times.fitting(begin, self.budget);
            let on_their_way: f64 = self.flights.iter().map(|flight| self.times.of(flight.steps.clone())).sum();
            let full = on_their_way + self.times.of(steps.clone()) > 2.0 * self.budget || !self.times.measured;
            if !self.flights.is_empty() && (full || self.flights.len() >= MOST_IN_FLIGHT) {
                self.settle().await?;
                continue;
            }
            let timer = match self.timers.pop() {
                Some(timer) => Some(timer),
                None => Timer::new(self.plan.gpu(), 1).await?,
            };
            let (end, since) = (steps.end, Stopwatch::start());
            let (done, pending) = self.plan.submit_steps(steps.clone(), timer.as_ref())?;
            self.submits += 1;
            self.flights.push_back(Flight { steps, timer, since, done });
            begin = end;
            if begin >= count {
                return Ok(pending);
            }
        }
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
        let expected: f64 = settled.iter().map(|flight| self.times.of(flight.steps.clone())).sum();
        let since = |clock: &Stopwatch| clock.seconds().unwrap_or(f64::INFINITY);
        let began = settled.first().map_or(f64::INFINITY, |flight| since(&flight.since));
        let elapsed = self.last.as_ref().map_or(began, |last| since(last).min(began));
        self.last = Some(Stopwatch::start());
        for flight in settled {
            let share = elapsed * self.times.of(flight.steps.clone()) / expected;
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
            self.times.learn(flight.steps, seconds);
        }
        Ok(())
    }

    /// Waits until all that was submitted is done, and gives the longest that a submit took since this was last asked; `None` where
    /// nothing was measured.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`] when the device is gone.
    pub async fn longest(&mut self) -> Result<Option<Duration>> {
        while !self.flights.is_empty() {
            self.settle().await?;
        }
        let longest = std::mem::take(&mut self.longest);
        Ok(Some(longest).filter(|seconds| *seconds > 0.0).map(Duration::from_secs_f64))
    }

    /// Submits so far.
    pub fn submits(&self) -> u64 {
        self.submits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: &[f64], measured: bool) -> StepTimes {
        StepTimes { seconds: seconds.to_vec(), measured, margin: 1.0 }
    }

    #[test]
    fn steps_are_taken_while_they_fit_and_one_at_least() {
        let times = times(&[1.0, 2.0, 3.0, 9.0, 1.0], true);
        assert_eq!(times.fitting(0, 3.0), 0..2);
        assert_eq!(times.fitting(0, 5.9), 0..2);
        assert_eq!(times.fitting(2, 3.0), 2..3);
        assert_eq!(times.fitting(3, 3.0), 3..4);
        assert_eq!(times.fitting(3, 100.0), 3..5);
        assert_eq!(times.fitting(5, 1.0), 5..5);
        // Nothing is known yet.
        let unknown = StepTimes { measured: false, ..times };
        assert_eq!(unknown.fitting(0, 24.0), 0..2);
    }

    #[test]
    fn submits_that_took_longer_than_expected_leave_room_for_a_while() {
        let mut times = times(&[1.0; 20], true);
        assert_eq!(times.fitting(0, 12.0).len(), 12);
        times.learn(0..1, 1.5);
        assert_eq!(times.fitting(1, 12.0).len(), 8);
        // What takes as long as it should, or less, does not make up for it at once.
        times.learn(1..2, 0.1);
        assert_eq!(times.fitting(2, 12.0).len(), 8);
        for _ in 0..400 {
            times.learn(2..3, 1.0);
        }
        assert_eq!(times.fitting(3, 12.0).len(), 11);
        // An accident counts for twice as long.
        times.learn(2..3, 50.0);
        assert_eq!(times.fitting(3, 12.0).len(), 6);
    }

    #[test]
    fn what_a_device_takes_is_learnt_and_an_accident_forgotten() {
        let mut times = times(&[1.0; 6], false);
        times.learn(0..2, 0.2);
        assert!((times.of(0..6) - 0.6).abs() < 1e-9, "the first tells of all: {times:?}");
        times.learn(2..4, 0.3);
        assert!((times.of(2..4) - 0.3).abs() < 1e-9 && (times.of(4..6) - 0.2).abs() < 1e-9, "{times:?}");
        times.learn(4..6, 1e3);
        assert!((times.of(4..6) - 0.8).abs() < 1e-9, "{times:?}");
        times.learn(4..6, 0.2);
        assert!((times.of(4..6) - 0.2).abs() < 1e-9, "{times:?}");
        let before = times.clone();
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            times.learn(0..6, wrong);
        }
        assert_eq!(times, before);
    }
}
