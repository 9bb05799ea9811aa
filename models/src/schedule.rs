//! Several models in one frame: who comes first, and what everybody is sure of.

use lampyris_engine::gpu::Budget;
use std::time::Duration;

/// When somebody's turn is, and what they are sure of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Priority {
    rank: u8,
    share: f64,
}

impl Priority {
    /// First in every frame, such as a detector that has to be done in it.
    pub const FIRST: Priority = Priority { rank: 0, share: 0.0 };

    /// After those that are first, in what they leave, such as a character that talks; sure of a twentieth of the time.
    pub const AFTER: Priority = Priority { rank: 100, share: 0.05 };

    /// Last, such as loading; sure of a fiftieth of the time.
    pub const LAST: Priority = Priority { rank: 200, share: 0.02 };

    /// At this place: a lower rank comes earlier.
    #[must_use]
    pub fn rank(self, rank: u8) -> Priority {
        Priority { rank, ..self }
    }

    /// Sure of this share of the time, from 0 to 1, however much those before ask for: over some frames, for a single dispatch may take
    /// more than the share of one.
    #[must_use]
    pub fn share(self, share: f64) -> Priority {
        Priority { share: if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }, ..self }
    }
}

/// One of those who share.
#[derive(Debug, Clone)]
struct Member {
    priority: Priority,
    /// Seconds that it is sure of and has not had; less than nothing where it had more.
    credit: f64,
    /// It used what it was given the last time, so that it may want more.
    waiting: bool,
}

/// Shares the GPU time of each frame among several that are ticked. It holds none of them: it says whose turn it is, and for how long.
///
/// Members are numbered in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub struct Scheduler {
    members: Vec<Member>,
    /// The order of the turns.
    order: Vec<usize>,
}

impl Scheduler {
    /// Nobody.
    pub fn new() -> Scheduler {
        Scheduler::default()
    }

    /// Somebody more, and their number.
    pub fn add(&mut self, priority: Priority) -> usize {
        self.members.push(Member { priority, credit: 0.0, waiting: true });
        self.order = (0..self.members.len()).collect();
        self.order.sort_by_key(|at| self.members[*at].priority.rank);
        self.members.len() - 1
    }

    /// Gives everybody their turn in a frame: `turn` is told whose it is, and ticks it with the budget that it is given. Those who come
    /// later are left what they are sure of, as long as they use it; what is left of that goes on to whoever comes next.
    ///
    /// # Errors
    /// The first that `turn` gives; those that come later have no turn in this frame.
    pub fn frame<E>(
        &mut self,
        budget: &mut Budget,
        mut turn: impl FnMut(usize, &mut Budget) -> Result<(), E>,
    ) -> Result<(), E> {
        let whole = budget.whole().as_secs_f64();
        for member in &mut self.members {
            let sure = whole * member.priority.share;
            // What nobody wanted is not saved up, and no more than a frame of what was; a debt stays, whether a turn could be used or not.
            member.credit = (member.credit + sure).min(if member.waiting { whole } else { sure });
        }
        for place in 0..self.order.len() {
            let at = self.order[place];
            let later = self.order[place + 1..].iter().map(|at| &self.members[*at]);
            let kept: f64 = later.filter(|it| it.waiting).map(|it| it.credit.max(0.0)).sum();
            let left = budget.left().as_secs_f64();
            let member = &mut self.members[at];
            let credit = member.credit.max(0.0);
            let given = (left - kept).max(credit.min(left));
            let mut part = Budget::gpu(Duration::try_from_secs_f64(given).unwrap_or(Duration::MAX));
            // A step that takes longer than what is given is begun by those who are owed it, or where nobody has begun anything.
            if budget.is_strict() || credit <= 0.0 && !budget.is_fresh() {
                part = part.strict();
            }
            let done = turn(at, &mut part);
            let used = part.used().as_secs_f64();
            budget.take(part.used());
            member.waiting = used > 0.0;
            member.credit = if used > given {
                given.max(credit) - used
            } else {
                (member.credit - used).max(member.credit.min(0.0))
            };
            done?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lampyris_engine::kernels::Noise;

    /// Runs of steps of so many microseconds, for ever or until they are done.
    struct Work {
        steps: Vec<f64>,
        at: usize,
        left: usize,
        had: f64,
    }

    impl Work {
        fn of(steps: &[f64], left: usize) -> Work {
            Work { steps: steps.to_vec(), at: 0, left, had: 0.0 }
        }

        /// As a tick does it.
        fn tick(&mut self, budget: &mut Budget) {
            while self.left > 0 {
                let step = self.steps[self.at] * 1e-6;
                if step > budget.left().as_secs_f64() + 1e-12 && !budget.is_fresh() {
                    return;
                }
                budget.take(Duration::from_secs_f64(step));
                (self.at, self.left, self.had) = ((self.at + 1) % self.steps.len(), self.left - 1, self.had + step);
            }
        }
    }

    const FRAME: Duration = Duration::from_millis(2);

    #[test]
    fn those_who_are_first_are_done_in_every_frame_and_the_rest_is_used() {
        let mut scheduler = Scheduler::new();
        let (chat, eyes) = (scheduler.add(Priority::AFTER), scheduler.add(Priority::FIRST));
        let mut talk = Work::of(&[120.0, 30.0, 260.0, 75.0], usize::MAX);
        let (mut used, frames) = (0.0, 1000);
        for _ in 0..frames {
            let mut look = Work::of(&[50.0; 16], 16);
            let mut budget = Budget::gpu(FRAME);
            let turn = |who: usize, part: &mut Budget| -> Result<(), ()> {
                if who == eyes {
                    look.tick(part)
                } else {
                    talk.tick(part)
                };
                assert!(who == eyes || who == chat);
                Ok(())
            };
            scheduler.frame(&mut budget, turn).unwrap();
            assert_eq!(look.left, 0, "the detector is done in its frame");
            assert!(budget.used() <= FRAME, "{:?}", budget.used());
            used += budget.used().as_secs_f64();
        }
        let share = used / (FRAME.as_secs_f64() * f64::from(frames));
        assert!(share > 0.8, "{share}");
    }

    #[test]
    fn nobody_starves_and_no_frame_is_much_longer() {
        let mut noise = Noise::new(3);
        for _ in 0..20 {
            let mut scheduler = Scheduler::new();
            for priority in [Priority::FIRST, Priority::AFTER.share(0.1), Priority::LAST] {
                scheduler.add(priority);
            }
            let mut steps = || (0..7).map(|_| f64::from(noise.real(20.0, 900.0))).collect::<Vec<f64>>();
            let mut all = [0; 3].map(|_: usize| Work::of(&steps(), usize::MAX));
            let frames = 2000;
            for _ in 0..frames {
                let mut budget = Budget::gpu(FRAME);
                let turn = |who: usize, part: &mut Budget| -> Result<(), ()> {
                    all[who].tick(part);
                    Ok(())
                };
                scheduler.frame(&mut budget, turn).unwrap();
                // What is owed may be a single step too long, once for each who is owed.
                assert!(budget.used() <= FRAME + Duration::from_micros(1800), "{:?}", budget.used());
            }
            let whole = FRAME.as_secs_f64() * f64::from(frames);
            for (work, least) in all.iter().zip([0.5, 0.09, 0.018]) {
                assert!(work.had >= least * whole, "{} of {whole}", work.had);
            }
        }
    }

    #[test]
    fn what_the_first_do_not_want_goes_to_the_others() {
        let mut scheduler = Scheduler::new();
        for priority in [Priority::FIRST, Priority::LAST] {
            scheduler.add(priority);
        }
        let mut work = Work::of(&[100.0], usize::MAX);
        for _ in 0..10 {
            let mut budget = Budget::gpu(FRAME);
            let turn = |who: usize, part: &mut Budget| -> Result<(), ()> {
                if who == 1 {
                    work.tick(part);
                }
                Ok(())
            };
            scheduler.frame(&mut budget, turn).unwrap();
            assert!(budget.used() >= FRAME * 9 / 10, "{:?}", budget.used());
        }
    }
}
