//! How long the steps of a plan take: guessed from their work, measured alone, or learnt from runs.

use super::GpuPlan;
use crate::plan::Plan;
use lampyris_shaders::Caps;
use std::ops::Range;

/// How long the steps of a plan take, as far as is known.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTimes {
    seconds: Vec<f64>,
    measured: bool,
}

impl StepTimes {
    /// A guess from each step's work, at rates that nearly every adapter of the kind exceeds.
    pub fn guess(plan: &Plan, caps: &Caps) -> StepTimes {
        let [start, flops, bytes] = if caps.software { [2e-5, 1e10, 2e9] } else { [5e-6, 1e11, 2e10] };
        let of = |step| {
            let work = plan.with_call(step, |call| step.kernel.work(call));
            start + (work.flops / flops).max(work.bytes / bytes)
        };
        StepTimes { seconds: plan.steps.iter().map(of).collect(), measured: false }
    }

    /// What is known of a plan's steps on its device.
    pub fn known(plan: &GpuPlan) -> StepTimes {
        StepTimes::guess(plan.plan(), plan.gpu().caps())
    }

    /// What was measured of each step, in seconds.
    pub fn measured(seconds: Vec<f64>) -> StepTimes {
        StepTimes { seconds, measured: true }
    }

    /// The same for steps that are cut: each into as many even pieces as `pieces` says.
    #[must_use]
    pub fn cut(&self, pieces: &[usize]) -> StepTimes {
        let each = self.seconds.iter().zip(pieces);
        let seconds = each.flat_map(|(step, pieces)| std::iter::repeat_n(step / (*pieces).max(1) as f64, *pieces));
        StepTimes { seconds: seconds.collect(), measured: self.measured }
    }

    /// Seconds of each step.
    pub fn seconds(&self) -> &[f64] {
        &self.seconds
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
        let end = steps.end.min(self.len());
        self.seconds.get(steps.start..end).unwrap_or_default().iter().sum()
    }

    /// The steps from `begin` on that fit into `seconds`: at least one where there is one. As long as nothing was measured only an
    /// eighth of the time is given out.
    pub fn fitting(&self, begin: usize, seconds: f64) -> Range<usize> {
        let count = self.within(begin, if self.measured { seconds } else { seconds / 8.0 });
        begin..(begin + count.max(1)).min(self.len()).max(begin)
    }

    /// How many of the steps from `begin` on fit into `seconds`; none where the first does not.
    pub(super) fn within(&self, begin: usize, seconds: f64) -> usize {
        let mut left = seconds;
        let more = |step: &&f64| {
            left -= **step;
            left >= 0.0
        };
        self.seconds.iter().skip(begin).take_while(more).count()
    }

    /// Learns that runs of several steps took `factor` times as long as expected.
    pub(super) fn scale(&mut self, steps: Range<usize>, factor: f64) {
        if factor.is_finite() && factor > 0.0 {
            let known = std::mem::replace(&mut self.measured, true);
            let told = if known { steps } else { 0..self.len() };
            let factor = factor.clamp(1e-3, 4.0);
            self.seconds.iter_mut().take(told.end).skip(told.start).for_each(|step| *step *= factor);
        }
    }

    /// Learns that `steps` took `seconds`. The first measurement tells of all steps. One that is much longer than expected counts
    /// for four times as long: it may have waited for the compiler, or for somebody else's work.
    pub fn learn(&mut self, steps: Range<usize>, seconds: f64) {
        let expected = self.of(steps.clone());
        if expected <= 0.0 || !seconds.is_finite() || seconds <= 0.0 {
            return;
        }
        self.scale(steps, seconds / expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: &[f64], measured: bool) -> StepTimes {
        StepTimes { seconds: seconds.to_vec(), measured }
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
