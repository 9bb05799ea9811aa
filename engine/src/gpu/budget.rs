//! The GPU time that a host gives away in one frame, and what is left of it.

use std::time::Duration;

/// GPU time of one frame, for everything that is ticked in it. Made anew each frame.
///
/// What is counted against it is what steps are *expected* to take: nothing is waited for. A budget that nobody has used yet always
/// pays for one step, whatever that takes, so that there is progress with the smallest of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    whole: f64,
    used: f64,
    /// Nothing is begun that it cannot pay for.
    strict: bool,
    /// Something could not be begun.
    short: bool,
    /// Seconds of the CPU that loading took.
    loading: f64,
}

impl Budget {
    /// So much GPU time.
    pub fn gpu(time: Duration) -> Budget {
        Budget { whole: time.as_secs_f64(), used: 0.0, strict: false, short: false, loading: 0.0 }
    }

    /// The same, but of nothing that takes longer: then a step that is longer than the whole budget is never begun with it.
    #[must_use]
    pub fn strict(self) -> Budget {
        Budget { strict: true, ..self }
    }

    /// All of it.
    pub fn whole(&self) -> Duration {
        seconds(self.whole)
    }

    /// What was used; a step that takes longer than the whole budget makes it more than that.
    pub fn used(&self) -> Duration {
        seconds(self.used)
    }

    /// What is left.
    pub fn left(&self) -> Duration {
        seconds(self.left_seconds())
    }

    /// Takes time that the host, or somebody else, uses.
    pub fn take(&mut self, time: Duration) {
        self.spend(time.as_secs_f64());
    }

    /// Whether it pays for a step whatever that takes, because nothing was used yet.
    pub fn is_fresh(&self) -> bool {
        self.used <= 0.0 && !self.strict
    }

    /// Whether nothing is begun that it cannot pay for.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Notes that something was not begun because it does not pay for it: who shares a frame out knows then that more is wanted. Whatever
    /// is ticked here does so itself.
    pub fn fall_short(&mut self) {
        self.short = true;
    }

    /// Whether something was not begun for lack of it.
    pub fn fell_short(&self) -> bool {
        self.short
    }

    /// Time of the threads that ticked with it which loading took: for compiling pipelines and packing weights, which no budget cuts and which is
    /// not counted against it. None in browsers, where there is no clock for it.
    pub fn loading(&self) -> Duration {
        seconds(self.loading)
    }

    /// Notes such time, as whoever ticks with a part of a budget does for the whole.
    pub fn took_loading(&mut self, time: Duration) {
        self.loading += time.as_secs_f64();
    }

    pub(super) fn left_seconds(&self) -> f64 {
        (self.whole - self.used).max(0.0)
    }

    pub(super) fn spend(&mut self, seconds: f64) {
        self.used += seconds.max(0.0);
    }
}

/// A number of seconds, which rounding may have made more than the longest duration.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_not_left() {
        let mut budget = Budget::gpu(Duration::from_millis(2));
        assert!(budget.is_fresh());
        budget.take(Duration::from_micros(500));
        assert!(!budget.is_fresh());
        assert!(!Budget::gpu(Duration::from_millis(2)).strict().is_fresh());
        assert_eq!((budget.left(), budget.used()), (Duration::from_micros(1500), Duration::from_micros(500)));
        budget.take(Duration::from_millis(5));
        assert_eq!((budget.left(), budget.used()), (Duration::ZERO, Duration::from_micros(5500)));
        assert_eq!(budget.whole(), Duration::from_millis(2));
        assert!(!budget.fell_short());
        budget.fall_short();
        assert!(budget.fell_short());
        assert_eq!(budget.loading(), Duration::ZERO);
        let (used, more) = (budget.used(), Duration::from_millis(3));
        (0..2).for_each(|_| budget.took_loading(more));
        assert_eq!((budget.loading(), budget.used()), (2 * more, used));
    }

    #[test]
    fn all_the_time_there_is_is_a_budget() {
        let mut budget = Budget::gpu(Duration::MAX);
        assert_eq!((budget.whole(), budget.left()), (Duration::MAX, Duration::MAX));
        budget.take(Duration::MAX);
        assert_eq!((budget.used(), budget.left()), (Duration::MAX, Duration::ZERO));
    }
}
