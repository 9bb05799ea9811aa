//! How long the steps of a plan take: guessed from their work, measured alone, or learnt from runs.

use super::GpuPlan;
use super::disk::checksum;
use crate::plan::{Plan, Step};
use lampyris_shaders::{Call, Caps, Desc};
use std::collections::BTreeSet;
use std::ops::Range;

/// How long the steps of a plan take, as far as is known.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTimes {
    /// With all of the caches in use.
    seconds: Vec<f64>,
    /// What is left of that where less of the caches is, and all of it where this list has no entry.
    shares: Vec<f64>,
    measured: bool,
    /// Each step was measured alone, by nothing else's side.
    alone: bool,
    /// How many times as long as expected a submit may take: [`SPARE`] times what one took lately, at most.
    margin: f64,
}

/// How many times as long as what was learnt one submit among thousands takes on a machine that does nothing else, and a fifth more: the longest seen took
/// 1.7 times.
const SPARE: f64 = 2.0;

/// How many times as fast as guessed all steps may be taken for after a first measurement: it is of the first steps, which read and write, and
/// says little of matrices.
const FASTER: f64 = 32.0;

/// How much of what is new one flight teaches, as a power of the factor.
const LEARN: f64 = 0.25;

/// A step that takes less while less of its plan's caches is in use, with the descriptions that tell how much less.
#[derive(Debug)]
pub(super) struct Growing {
    step: usize,
    inputs: Vec<Desc>,
    outputs: Vec<Desc>,
}

impl Growing {
    /// The share of its time that it takes while only the first `positions` of the caches of `plan` are in use.
    fn share(&self, plan: &Plan, positions: usize) -> f64 {
        plan.steps[self.step].kernel.share(&Call { inputs: &self.inputs, outputs: &self.outputs }, positions)
    }
}

impl StepTimes {
    /// A guess from each step's work, at rates that nearly every adapter of the kind exceeds.
    pub fn guess(plan: &Plan, caps: &Caps) -> StepTimes {
        let [start, flops, bytes] = if caps.software { [2e-5, 1e10, 2e9] } else { [5e-6, 1e11, 2e10] };
        let of = |step| {
            let work = plan.with_call(step, |call| step.kernel.work(call));
            start + (work.flops / flops).max(work.bytes / bytes)
        };
        StepTimes {
            seconds: plan.steps.iter().map(of).collect(),
            shares: Vec::new(),
            measured: false,
            alone: false,
            margin: SPARE,
        }
    }

    /// What is known of a plan's steps on its device: what was measured of them alone or else learnt, by this process or an earlier one that
    /// left it in the cache of [`GpuOptions::cache`](super::GpuOptions::cache), or else a guess.
    pub fn known(plan: &GpuPlan) -> StepTimes {
        let found = |kind| {
            let text = plan.gpu().tuning()?.get(&key(plan, kind))?;
            let seconds: Vec<f64> = text.split(' ').filter_map(micros).collect();
            let times = StepTimes { alone: kind == ALONE, ..StepTimes::measured(seconds) };
            (times.len() == plan.plan().steps.len()).then_some(times)
        };
        let guess = || StepTimes::guess(plan.plan(), plan.gpu().caps());
        found(ALONE).or_else(|| found(LEARNT)).unwrap_or_else(guess)
    }

    /// What a clock has told of each step alone. A step of which it told nothing, because it is coarse or another's work got in between, is taken for
    /// as much longer or shorter than its guess as all others are: a step that seemed to take no time would be free in every budget for ever. Where it told
    /// of none the guess stays one.
    pub(super) fn told(seconds: Vec<f64>, guess: &StepTimes) -> StepTimes {
        let is_told = |told: f64| told > 0.0 && told.is_finite();
        let of_told = seconds.iter().zip(&guess.seconds).filter(|(told, _)| is_told(**told));
        let (told, guessed) = of_told.fold((0.0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        if guessed <= 0.0 {
            return guess.clone();
        }
        let rate = told / guessed;
        let of = |(told, guess): (f64, &f64)| if is_told(told) { told } else { guess * rate };
        StepTimes::measured(seconds.into_iter().zip(&guess.seconds).map(of).collect())
    }

    /// Lets other plans like `plan` on its device know, and, once they are saved, later processes.
    pub(super) fn remember(&self, plan: &GpuPlan) {
        if let Some(tuning) = plan.gpu().tuning().filter(|_| self.measured && !self.is_empty()) {
            let micros: Vec<String> = self.seconds.iter().map(|seconds| format!("{:.4}", seconds * 1e6)).collect();
            tuning.put(key(plan, if self.alone { ALONE } else { LEARNT }), &micros.join(" "));
        }
    }

    /// The opposite of [`StepTimes::cut`].
    pub(super) fn joined(&self, pieces: &[usize]) -> StepTimes {
        let mut at = 0;
        let sum = |pieces: &usize| {
            at += pieces;
            self.seconds.get(at - pieces..at).unwrap_or_default().iter().sum()
        };
        let seconds = pieces.iter().map(sum).collect();
        StepTimes { seconds, shares: Vec::new(), ..self.clone() }
    }

    /// The steps of `plan` that take less while less of its caches is in use.
    pub(super) fn growing(plan: &Plan) -> Vec<Growing> {
        let grows = |(at, step): (usize, &Step)| {
            let (inputs, outputs) = plan.descs(step);
            let growing = Growing { step: at, inputs, outputs };
            (growing.share(plan, 1) < 1.0).then_some(growing)
        };
        plan.steps.iter().enumerate().filter_map(grows).collect()
    }

    /// Expects of the steps of `plan`, cut into as many pieces as `pieces` says, what they take while only the first `positions` of the
    /// caches are in use; `growing` are those of which that is less.
    pub(super) fn fill(&mut self, plan: &Plan, growing: &[Growing], pieces: &[usize], positions: usize) {
        self.shares.clear();
        self.shares.resize(self.seconds.len(), 1.0);
        let (mut at, mut next) = (0, growing.iter().peekable());
        for (number, count) in pieces.iter().enumerate() {
            if let Some(growing) = next.next_if(|it| it.step == number) {
                let share = growing.share(plan, positions);
                self.shares.iter_mut().skip(at).take(*count).for_each(|it| *it = share);
            }
            at += count;
        }
    }

    /// Seconds that a step is expected to take.
    fn expected(&self, step: usize) -> f64 {
        let share = self.shares.get(step).copied().unwrap_or(1.0);
        self.seconds.get(step).map_or(0.0, |seconds| seconds * share)
    }

    /// Seconds that the longest step is expected to take.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn longest(&self) -> f64 {
        (0..self.len()).map(|step| self.expected(step)).fold(0.0, f64::max)
    }

    /// What was measured of each step alone, in seconds.
    pub fn measured(seconds: Vec<f64>) -> StepTimes {
        StepTimes { seconds, shares: Vec::new(), measured: true, alone: true, margin: SPARE }
    }

    /// The same for steps that are cut: each into as many even pieces as `pieces` says.
    #[must_use]
    pub fn cut(&self, pieces: &[usize]) -> StepTimes {
        let each = self.seconds.iter().zip(pieces);
        let seconds = each.flat_map(|(step, pieces)| std::iter::repeat_n(step / (*pieces).max(1) as f64, *pieces));
        StepTimes { seconds: seconds.collect(), shares: Vec::new(), ..self.clone() }
    }

    /// Seconds of each step, with all of the caches in use.
    pub fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// Whether each step was measured alone; else what is known of them was learnt from runs of many, or guessed.
    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether anything was measured; a guess otherwise.
    pub fn is_measured(&self) -> bool {
        self.measured
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
        (steps.start..steps.end.min(self.len())).map(|step| self.expected(step)).sum()
    }

    /// The steps from `begin` on that fit into `seconds`, with half of it to spare and as much as submits exceeded what was expected of
    /// them lately: at least one where there is one. As long as nothing was measured only an eighth of the time is given out.
    pub fn fitting(&self, begin: usize, seconds: f64) -> Range<usize> {
        let count = self.within(begin, if self.measured { seconds / self.margin } else { seconds / 8.0 });
        begin..(begin + count.max(1)).min(self.len()).max(begin)
    }

    /// How many of the steps from `begin` on fit into `seconds`; none where the first does not.
    pub(super) fn within(&self, begin: usize, seconds: f64) -> usize {
        let mut left = seconds;
        let more = |step: &usize| {
            left -= self.expected(*step);
            left >= 0.0
        };
        (begin..self.len()).take_while(more).count()
    }

    /// Learns that runs of several steps took `factor` times as long as expected, the first time of all steps.
    pub(super) fn scale(&mut self, steps: Range<usize>, factor: f64) {
        if factor.is_finite() && factor > 0.0 {
            let known = std::mem::replace(&mut self.measured, true);
            let told = if known { steps } else { 0..self.len() };
            let factor = factor.clamp(if known { 1e-3 } else { 1.0 / FASTER }, 4.0);
            self.seconds.iter_mut().take(told.end).skip(told.start).for_each(|step| *step *= factor);
        }
    }

    /// Learns a little from a flight that took `factor` times as long as expected. It is told of each of the `alike` runs in the flight that may
    /// have had these steps, so that all of them together teach as much as one alone.
    pub(super) fn follow(&mut self, steps: Range<usize>, factor: f64, alike: usize) {
        self.scale(steps, factor.powf(LEARN / alike.max(1) as f64));
    }

    /// Expects `factor` times as much of a step as before, but no less than `least` seconds, nor more than before; and as much as before where
    /// even the least would be more than the `left` seconds.
    pub(super) fn ease(&mut self, step: usize, factor: f64, least: f64, left: f64) {
        let expected = self.expected(step);
        if let Some(seconds) = self.seconds.get_mut(step).filter(|seconds| expected * least <= left * **seconds) {
            *seconds = (*seconds * factor).max(least.min(*seconds));
        }
    }

    /// Learns that `steps` took `seconds`. The first measurement tells of all steps. One that is much longer than expected counts
    /// for four times as long: it may have waited for the compiler, or for somebody else's work.
    pub fn learn(&mut self, steps: Range<usize>, seconds: f64) {
        let expected = self.of(steps.clone());
        if expected <= 0.0 || !seconds.is_finite() || seconds <= 0.0 {
            return;
        }
        if self.measured {
            // The clock of a busy or a warm machine changes from one submit to the next, and what was learnt is a mean.
            let lately = (seconds / expected).min(2.0) * SPARE;
            self.margin = lately.max(SPARE + 0.98 * (self.margin - SPARE));
        }
        self.scale(steps, seconds / expected);
    }
}

/// What was measured of steps alone, and what was learnt of them from runs, in a cache. The second is no better than what else the device
/// did meanwhile.
const ALONE: &str = "alone";
const LEARNT: &str = "learnt";

/// What times hold for: the steps of a plan, and the very text of the shaders that run them.
fn key(plan: &GpuPlan, kind: &str) -> String {
    let shaders = plan.sources().fold(0, |sum: u64, source| {
        sum.rotate_left(1) ^ checksum(source.label.as_bytes()) ^ u64::from(source.params_bytes)
    });
    let texts: BTreeSet<_> = plan.sources().map(|source| source.wgsl.text()).collect();
    let texts = texts.iter().fold(0, |sum, text| sum ^ checksum(text.as_bytes()));
    format!("{kind} {:016x} {shaders:016x} {texts:016x}", checksum(plan.plan().to_string().as_bytes()))
}

/// Seconds of a number of microseconds in a cache.
fn micros(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|micros| micros.is_finite() && *micros > 0.0).map(|micros| micros * 1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: &[f64], measured: bool) -> StepTimes {
        StepTimes { seconds: seconds.to_vec(), shares: Vec::new(), measured, alone: measured, margin: SPARE }
    }

    #[test]
    fn steps_are_taken_while_they_fit_and_one_at_least() {
        let times = times(&[1.0, 2.0, 3.0, 9.0, 1.0], true);
        assert_eq!(times.fitting(0, 6.0), 0..2);
        assert_eq!(times.fitting(0, 11.9), 0..2);
        assert_eq!(times.fitting(2, 6.0), 2..3);
        assert_eq!(times.fitting(3, 6.0), 3..4);
        assert_eq!(times.fitting(3, 100.0), 3..5);
        assert_eq!(times.fitting(5, 1.0), 5..5);
        // Nothing is known yet.
        let unknown = StepTimes { measured: false, ..times };
        assert_eq!(unknown.fitting(0, 24.0), 0..2);
    }

    #[test]
    fn pieces_of_steps_take_what_the_steps_take() {
        let times = times(&[1.0, 2.0, 3.0], true);
        let cut = times.cut(&[1, 4, 2]);
        assert_eq!(cut.seconds(), [1.0, 0.5, 0.5, 0.5, 0.5, 1.5, 1.5]);
        assert_eq!(cut.joined(&[1, 4, 2]), times);
        assert_eq!((micros("1.5"), micros("-1"), micros("x")), (Some(1.5e-6), None, None));
        assert_eq!(micros("0.00"), None);
    }

    #[test]
    fn what_a_clock_does_not_tell_is_taken_from_the_guess() {
        let guess = times(&[1.0, 2.0, 4.0, 8.0], false);
        // Three times what was guessed, where anything was told.
        let told = StepTimes::told(vec![3.0, 0.0, 12.0, 0.0], &guess);
        assert_eq!((told.seconds(), told.is_alone()), (&[3.0, 6.0, 12.0, 24.0][..], true));
        assert_eq!(StepTimes::told(vec![0.0; 4], &guess), guess);
    }

    #[test]
    fn submits_that_took_longer_than_expected_leave_room_for_a_while() {
        let mut times = times(&[1.0; 20], true);
        assert_eq!(times.fitting(0, 24.0).len(), 12);
        times.learn(0..1, 1.5);
        assert_eq!(times.fitting(1, 24.0).len(), 8);
        // What takes as long as it should, or less, does not make up for it at once.
        times.learn(1..2, 0.1);
        assert_eq!(times.fitting(2, 24.0).len(), 8);
        for _ in 0..400 {
            times.learn(2..3, 1.0);
        }
        assert_eq!(times.fitting(3, 24.0).len(), 11);
        // An accident counts for twice as long.
        times.learn(2..3, 50.0);
        assert_eq!(times.fitting(3, 24.0).len(), 6);
    }

    #[test]
    fn what_is_learnt_of_a_filled_cache_holds_for_a_fuller_one() {
        let mut times = times(&[1.0, 4.0, 1.0], true);
        times.shares = vec![1.0, 0.25, 1.0];
        assert_eq!((times.of(0..3), times.longest()), (3.0, 1.0));
        assert_eq!(times.fitting(0, 6.1).len(), 3);
        times.learn(1..2, 2.0);
        assert_eq!(times.seconds(), [1.0, 8.0, 1.0]);
        times.shares[1] = 0.5;
        assert_eq!((times.of(1..2), times.longest()), (4.0, 4.0));
        assert_eq!(times.cut(&[1, 2, 1]).joined(&[1, 2, 1]).seconds(), times.seconds());
    }

    #[test]
    fn what_a_device_takes_is_learnt_and_an_accident_forgotten() {
        let mut times = times(&[1.0; 6], false);
        times.learn(0..2, 0.2);
        assert!((times.of(0..6) - 0.6).abs() < 1e-9, "the first tells of all: {times:?}");
        assert!(times.is_measured() && !times.is_alone());
        times.learn(2..4, 0.3);
        assert!((times.of(2..4) - 0.3).abs() < 1e-9 && (times.of(4..6) - 0.2).abs() < 1e-9, "{times:?}");
        times.learn(4..6, 1e3);
        assert!((times.of(4..6) - 0.8).abs() < 1e-9, "{times:?}");
        times.learn(4..6, 0.2);
        assert!((times.of(4..6) - 0.2).abs() < 1e-9, "{times:?}");
        // What a large GPU does with an embedding does not make its matrices a thousand times as fast as guessed; they tell themselves.
        let mut fast = self::times(&[1.0; 6], false);
        fast.learn(0..1, 1e-3);
        assert_eq!(fast.of(0..6), 6.0 / FASTER, "{fast:?}");
        fast.learn(1..2, 1e-3);
        assert!((fast.of(1..2) - 1e-3).abs() < 1e-9, "{fast:?}");
        let before = times.clone();
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            times.learn(0..6, wrong);
        }
        assert_eq!(times, before);
    }

    #[test]
    fn many_runs_in_a_flight_teach_as_much_as_one() {
        for alike in [1, 4, 16, 32] {
            let mut found = times(&[1.0], true);
            for flight in 1..=40 {
                let (before, factor) = (found.of(0..1), 3.0 / found.of(0..1));
                (0..alike).for_each(|_| found.follow(0..1, factor, alike));
                assert!(
                    found.of(0..1) > before && found.of(0..1) < 3.0 + 1e-9,
                    "{alike} alike, flight {flight}: {found:?}"
                );
            }
            assert!((found.of(0..1) - 3.0).abs() < 0.01, "{alike} alike: {found:?}");
        }
    }

    #[test]
    fn a_step_that_nobody_begins_is_taken_to_need_less_but_not_less_than_it_ever_was() {
        let mut found = times(&[8.0, 8.0], true);
        // Less than it ever was would be needed to begin it: others have the rest.
        (0..10).for_each(|_| found.ease(1, 0.5, 3.0, 2.9));
        assert_eq!(found.seconds(), [8.0, 8.0]);
        (0..10).for_each(|_| found.ease(1, 0.5, 3.0, 3.0));
        assert_eq!(found.seconds(), [8.0, 3.0]);
        found.ease(1, 0.5, 100.0, 1e3);
        found.ease(7, 0.5, 1.0, 1e3);
        assert_eq!(found.seconds(), [8.0, 3.0]);
        // With a quarter of the caches in use it takes a quarter.
        found.shares = vec![0.25, 1.0];
        found.ease(0, 0.5, 4.0, 0.9);
        assert_eq!(found.seconds(), [8.0, 3.0]);
        found.ease(0, 0.5, 4.0, 1.0);
        assert_eq!(found.seconds(), [4.0, 3.0]);
    }
}
