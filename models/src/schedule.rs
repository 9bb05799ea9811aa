//! Several models in one frame: who comes first, and what everybody is sure of.

use lampyris_engine::gpu::Budget;
use std::time::Duration;

/// What everybody is sure of, whatever was said of them: nobody starves.
const LEAST_SHARE: f64 = 0.01;

/// Whole budgets that somebody may have had beyond their share: longer steps are forgiven, so that who takes them is not shut out for ever.
const MOST_DEBT: f64 = 4.0;

/// When somebody's turn is, and what they are sure of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Priority {
    rank: u8,
    share: f64,
}

impl Priority {
    /// First in every frame, such as a detector that has to be done in it. Several that are first share what the others are not sure of.
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

    /// Sure of this share of the time, from 0 to 1 and at least a hundredth, however much those before ask for: over some frames, for a single
    /// dispatch may take more than the share of one. The time is what is left of the budget when a frame begins.
    #[must_use]
    pub fn share(self, share: f64) -> Priority {
        Priority { share: if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }, ..self }
    }
}

/// One of those who share.
#[derive(Debug, Clone)]
struct Member {
    priority: Priority,
    /// The share of the time that it is sure of.
    share: f64,
    /// Seconds that it is sure of and has not had; less than nothing where it had more.
    credit: f64,
    /// It wanted more than it was given the last time.
    waiting: bool,
}

/// Shares the GPU time of each frame among several that are ticked. It holds none of them: it says whose turn it is, and for how long.
///
/// Members are numbered in the order in which they were added, and stay. One that has nothing to do need not be ticked in its turn, and the
/// others have its time.
#[derive(Debug, Clone, Default)]
pub struct Scheduler {
    members: Vec<Member>,
    /// The order of the turns.
    order: Vec<usize>,
    /// Seconds that frames took beyond their budgets.
    over: f64,
    /// Who has begun a step of a budget of nothing last.
    last: Option<usize>,
}

impl Scheduler {
    /// Nobody.
    pub fn new() -> Scheduler {
        Scheduler::default()
    }

    /// Somebody more, and their number.
    pub fn add(&mut self, priority: Priority) -> usize {
        self.members.push(Member { priority, share: 0.0, credit: 0.0, waiting: true });
        self.share_out();
        self.members.len() - 1
    }

    /// Gives one of the members another priority from the next frame on, such as a character that somebody talks to now. What it had beyond its
    /// share, or has not had of it, stays. Says whether there is one of this number.
    pub fn set_priority(&mut self, who: usize, priority: Priority) -> bool {
        let Some(member) = self.members.get_mut(who) else { return false };
        member.priority = priority;
        self.share_out();
        true
    }

    /// Says in which order they have their turns, and what share of the time each is sure of: those of the first rank have what the others are
    /// not sure of as well, in equal parts. Shares that are more than the whole together are parts of it.
    fn share_out(&mut self) {
        self.order = (0..self.members.len()).collect();
        self.order.sort_by_key(|at| self.members[*at].priority.rank);
        let all: f64 = self.members.iter().map(|member| member.priority.share.max(LEAST_SHARE)).sum();
        let said = |member: &Member| member.priority.share.max(LEAST_SHARE) / all.max(1.0);
        let rest = (1.0 - all).max(0.0);
        let first = self.members.iter().map(|member| member.priority.rank).min();
        let equals = self.members.iter().filter(|member| Some(member.priority.rank) == first).count().max(1);
        for member in &mut self.members {
            let more = if Some(member.priority.rank) == first { rest / equals as f64 } else { 0.0 };
            member.share = said(member) + more;
        }
    }

    /// Gives everybody their turn in a frame: `turn` is told whose it is, and ticks it with the budget that it is given. Those who come
    /// later are left what they are sure of, as long as they use it; what is left of that goes on to whoever comes next.
    ///
    /// A step that takes longer than what is left is begun all the same by those who are owed it, and by the first of a budget that nobody has
    /// used yet where nobody else is owed anything. The frames that follow make up for it. A budget of nothing has no shares, and changes nothing of
    /// what anybody has had: unless it is strict or not untouched it pays for one step, and each begins one in turn, whatever their priorities.
    ///
    /// # Errors
    /// The first that `turn` gives; those that come later have no turn in this frame.
    pub fn frame<E>(
        &mut self,
        budget: &mut Budget,
        mut turn: impl FnMut(usize, &mut Budget) -> Result<(), E>,
    ) -> Result<(), E> {
        let (whole, there, fresh) = (budget.whole().as_secs_f64(), budget.left().as_secs_f64(), budget.is_fresh());
        if whole <= 0.0 {
            return self.frame_of_nothing(budget, turn);
        }
        // What those are sure of who want nothing is for the first of those who want something, in equal parts.
        let waiting = || self.members.iter().filter(|it| it.waiting);
        let first = waiting().map(|it| it.priority.rank).min();
        let equals = waiting().filter(|it| Some(it.priority.rank) == first).count().max(1);
        let lent = (1.0 - waiting().map(|it| it.share).sum::<f64>()).max(0.0) / equals as f64;
        for member in &mut self.members {
            let more = if member.waiting && Some(member.priority.rank) == first { lent } else { 0.0 };
            // What nobody wanted is not saved up, and no more than a frame's of what somebody did; a debt stays, whether a turn could be used or
            // not.
            let (share, most) = (member.share + more, if member.waiting { 2.0 * whole } else { there });
            member.credit = (member.credit + share * there).min(share * most);
        }
        let (mut begun, mut result) = (0.0, Ok(()));
        for place in 0..self.order.len() {
            let at = self.order[place];
            let later = self.order[place + 1..].iter().map(|at| &self.members[*at]).filter(|it| it.waiting);
            let kept: f64 = later.clone().map(|it| it.credit.clamp(0.0, 2.0 * it.share * whole)).sum();
            let owed = later.clone().any(|it| it.credit > 0.0);
            let left = budget.left().as_secs_f64();
            let member = &mut self.members[at];
            let credit = member.credit.max(0.0);
            // What makes up for frames that took too long is what nobody is owed.
            let given = (left - self.over - kept).max(credit.min(left));
            let mut part = Budget::gpu(Duration::try_from_secs_f64(given).unwrap_or(Duration::MAX));
            let may = credit > 0.0 || fresh && begun <= 0.0 && !owed;
            if budget.is_strict() || !may {
                part = part.strict();
            }
            let done = turn(at, &mut part);
            let used = part.used().as_secs_f64();
            budget.take(part.used());
            budget.took_loading(part.loading());
            begun += used;
            // Somebody who does not say so and has left most of it did not want more; who could have begun nothing may want what they wanted.
            member.waiting = part.fell_short() || used > 0.0 && 2.0 * used >= given || credit <= 0.0 && member.waiting;
            member.credit = if used > given {
                (member.credit - used).max(-MOST_DEBT * whole)
            } else {
                (member.credit - used).max(member.credit.min(0.0))
            };
            if done.is_err() {
                result = done;
                break;
            }
        }
        self.over = (self.over + begun - there).clamp(0.0, whole);
        result
    }

    /// A frame whose budget is nothing: it pays for one step, which each begins in turn.
    fn frame_of_nothing<E>(
        &mut self,
        budget: &mut Budget,
        mut turn: impl FnMut(usize, &mut Budget) -> Result<(), E>,
    ) -> Result<(), E> {
        let last = self.order.iter().position(|at| Some(*at) == self.last);
        let first = last.map_or(0, |place| place + 1);
        for place in first..first + self.order.len() {
            let at = self.order[place % self.order.len()];
            let mut part = Budget::gpu(Duration::ZERO);
            if budget.is_strict() || !budget.is_fresh() {
                part = part.strict();
            }
            let done = turn(at, &mut part);
            if part.used() > Duration::ZERO {
                self.last = Some(at);
            }
            budget.take(part.used());
            budget.took_loading(part.loading());
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
                    budget.fall_short();
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
                part.took_loading(Duration::from_micros(7));
                Ok(())
            };
            scheduler.frame(&mut budget, turn).unwrap();
            assert_eq!(look.left, 0, "the detector is done in its frame");
            assert!(budget.used() <= FRAME, "{:?}", budget.used());
            assert_eq!(budget.loading(), Duration::from_micros(14), "of both");
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

    /// Frames for all of `work`, of each of whose budgets the host has used a share before; gives all that was left for them.
    fn drawn(scheduler: &mut Scheduler, work: &mut [Work], frames: usize, mut taken: impl FnMut() -> f64) -> f64 {
        let mut there = 0.0;
        for _ in 0..frames {
            let mut budget = Budget::gpu(FRAME);
            budget.take(FRAME.mul_f64(taken()));
            there += budget.left().as_secs_f64();
            let turn = |who: usize, part: &mut Budget| -> Result<(), ()> {
                work[who].tick(part);
                Ok(())
            };
            scheduler.frame(&mut budget, turn).unwrap();
        }
        there
    }

    fn of(priorities: &[Priority]) -> Scheduler {
        let mut scheduler = Scheduler::new();
        priorities.iter().for_each(|priority| {
            scheduler.add(*priority);
        });
        scheduler
    }

    /// The host uses half of each budget for passes of its own, and a single step of the detector takes longer than the other half.
    #[test]
    fn those_who_are_first_go_on_where_the_host_has_used_a_part() {
        let mut scheduler = of(&[Priority::FIRST, Priority::AFTER]);
        let mut work = [Work::of(&[1500.0], usize::MAX), Work::of(&[90.0], usize::MAX)];
        let there = drawn(&mut scheduler, &mut work, 2000, || 0.5);
        let [look, talk] = [work[0].had / there, work[1].had / there];
        assert!(look > 0.8 && talk > 0.04 && look + talk < 1.01, "{look} and {talk} of what was left");
        // A budget that pays for nothing else is not broken.
        let mut scheduler = of(&[Priority::FIRST]);
        let mut budget = Budget::gpu(FRAME).strict();
        let mut look = Work::of(&[2100.0], 1);
        let turn = |_: usize, part: &mut Budget| -> Result<(), ()> {
            look.tick(part);
            Ok(())
        };
        scheduler.frame(&mut budget, turn).unwrap();
        assert_eq!((look.left, budget.used()), (1, Duration::ZERO));
    }

    /// A chat that waits for its tokens uses less than it is sure of; that is not kept from the detector for ever.
    #[test]
    fn what_somebody_leaves_is_not_kept_for_them() {
        let mut scheduler = of(&[Priority::FIRST, Priority::AFTER.share(0.2)]);
        let mut look = Work::of(&[10.0], usize::MAX);
        let mut had = 0.0;
        for frame in 0..1000 {
            let (mut talk, mut budget) = (Work::of(&[20.0], 1), Budget::gpu(FRAME));
            let before = look.had;
            let turn = |who: usize, part: &mut Budget| -> Result<(), ()> {
                if who == 0 {
                    look.tick(part)
                } else {
                    talk.tick(part)
                }
                Ok(())
            };
            scheduler.frame(&mut budget, turn).unwrap();
            assert_eq!(talk.left, 0, "the chat has its turn");
            had += look.had - before;
            assert!(frame < 10 || budget.used() > FRAME.mul_f64(0.75), "{:?} of frame {frame}", budget.used());
        }
        let share = had / (1000.0 * FRAME.as_secs_f64());
        assert!(share > 0.85, "the detector had {share}");
    }

    /// A detector among twenty characters that have nothing to say, whose steps take longer than what the host leaves.
    #[test]
    fn what_nobody_wants_is_for_whoever_works() {
        for idle in [0, 1, 10, 20, 90] {
            let mut scheduler = of(&[&[Priority::FIRST][..], &vec![Priority::AFTER; idle]].concat());
            let mut work = vec![Work::of(&[1500.0], usize::MAX)];
            work.extend((0..idle).map(|_| Work::of(&[100.0], 0)));
            let there = drawn(&mut scheduler, &mut work, 3000, || 0.5);
            let share = work[0].had / there;
            assert!(share > 0.95 && share < 1.02, "{share} of what was left beside {idle}");
            // Who has something to say again has what it is sure of, whatever was lent of it.
            work[0].had = 0.0;
            work[1..].fill_with(|| Work::of(&[100.0], usize::MAX));
            let there = drawn(&mut scheduler, &mut work, 8000, || 0.5);
            for (who, member) in work.iter().enumerate().skip(1) {
                let sure = 0.05_f64.min(0.99 / (0.05 * idle as f64 + 0.01) * 0.05);
                assert!(member.had > 0.85 * sure * there, "{who} of {idle}: {} of {there}", member.had);
            }
        }
    }

    /// Who is first stays it among many who are idle, whoever else works, and whether or not the host leaves nothing of every other budget.
    #[test]
    fn what_is_lent_goes_to_the_first() {
        for (idle, step, taken) in
            [(0, 1600.0, 0.0), (19, 1600.0, 0.0), (19, 200.0, 0.0), (19, 1600.0, 1.0), (90, 50.0, 1.0)]
        {
            let mut scheduler = of(&[&[Priority::FIRST, Priority::AFTER][..], &vec![Priority::AFTER; idle]].concat());
            let mut work = vec![Work::of(&[50.0], usize::MAX), Work::of(&[step], usize::MAX)];
            work.extend((0..idle).map(|_| Work::of(&[100.0], 0)));
            let mut frame = 0;
            let there = drawn(&mut scheduler, &mut work, 8000, || {
                frame += 1;
                if frame % 2 == 0 { taken } else { 0.0 }
            });
            let [look, talk] = [work[0].had / there, work[1].had / there];
            let what =
                format!("{look} and {talk} beside {idle} with steps of {step} us, every other budget used to {taken}");
            let sure = if idle > 50 { 0.009 } else { 0.04 };
            assert!(look > 0.9 && talk > sure && look + talk > 0.95 && look + talk < 1.03, "{what}");
        }
    }

    /// Who was first makes way for who was last, with steps that are longer than what the host leaves.
    #[test]
    fn another_priority_holds_from_the_next_frame_on() {
        let mut scheduler = of(&[Priority::FIRST, Priority::AFTER]);
        for (first, share) in [(0, [0.95, 0.05]), (1, [0.02, 0.98])] {
            assert!(scheduler.set_priority(first, Priority::FIRST) && !scheduler.set_priority(2, Priority::FIRST));
            let mut work = [1500.0, 1100.0].map(|step| Work::of(&[step], usize::MAX));
            let there = drawn(&mut scheduler, &mut work, 4000, || 0.5);
            for (work, share) in work.iter().zip(share) {
                let found = work.had / there;
                assert!((found - share).abs() < 0.02, "{found} for {share}, where {first} is first");
            }
            assert!(scheduler.set_priority(0, Priority::LAST));
        }
    }

    #[test]
    fn nobody_starves_where_the_budgets_are_nothing() {
        let mut scheduler = of(&[Priority::FIRST, Priority::AFTER, Priority::LAST]);
        let mut work =
            [(100.0, usize::MAX), (200.0, 40), (300.0, usize::MAX)].map(|(step, left)| Work::of(&[step], left));
        let mut frame = |scheduler: &mut Scheduler, mut budget: Budget| {
            let before = work.each_ref().map(|work| work.left);
            let turn = |who: usize, part: &mut Budget| -> Result<(), ()> {
                work[who].tick(part);
                Ok(())
            };
            scheduler.frame(&mut budget, turn).unwrap();
            let steps = [0, 1, 2].map(|at: usize| before[at] - work[at].left);
            (steps, work.each_ref().map(|work| (work.had / (work.steps[0] * 1e-6)).round()))
        };
        for _ in 0..300 {
            let (steps, _) = frame(&mut scheduler, Budget::gpu(Duration::ZERO));
            assert_eq!(steps.iter().sum::<usize>(), 1, "one step a frame");
        }
        // Who is done gives the turn to whoever comes next.
        let (_, had) = frame(&mut scheduler, Budget::gpu(Duration::ZERO).strict());
        assert_eq!(had, [130.0, 40.0, 130.0]);
        // What somebody owes from other frames is owed after them too.
        let mut long = of(&[Priority::FIRST, Priority::AFTER]);
        let mut step = |who: usize, part: &mut Budget| -> Result<(), ()> {
            if who == 0 && part.is_fresh() && !part.is_strict() {
                part.take(Duration::from_millis(5));
            }
            Ok(())
        };
        long.frame(&mut Budget::gpu(FRAME), &mut step).unwrap();
        let owed = |of: &Scheduler| of.members.iter().map(|it| it.credit).chain([of.over]).collect::<Vec<f64>>();
        let before = owed(&long);
        assert!(before[0] < 0.0 && before[2] > 0.0, "{before:?}");
        (0..3).for_each(|_| long.frame(&mut Budget::gpu(Duration::ZERO), &mut step).unwrap());
        assert_eq!(owed(&long), before);
        let (steps, _) = frame(&mut scheduler, Budget::gpu(FRAME));
        assert!(steps[0] >= 16, "{steps:?}: the first is first again");
    }

    #[test]
    fn equals_have_equal_parts_and_nobody_is_sure_of_nothing() {
        let mut scheduler = of(&[Priority::FIRST, Priority::FIRST, Priority::LAST.share(0.0)]);
        let mut work = [&[130.0, 420.0][..], &[70.0], &[300.0]].map(|steps| Work::of(steps, usize::MAX));
        let there = drawn(&mut scheduler, &mut work, 4000, || 0.0);
        for (work, least) in work.iter().zip([0.4, 0.4, 0.009]) {
            assert!(work.had > least * there, "{} of {there}", work.had);
        }
    }

    #[test]
    fn nobody_starves_whatever_the_host_uses() {
        let mut noise = Noise::new(17);
        for round in 0..40 {
            let priorities = [Priority::FIRST, Priority::FIRST, Priority::AFTER, Priority::LAST];
            let mut scheduler = of(&priorities);
            let mut work = [0; 4].map(|_: usize| {
                let steps: Vec<f64> = (0..5).map(|_| f64::from(noise.real(20.0, 1900.0))).collect();
                Work::of(&steps, usize::MAX)
            });
            let most = f64::from(noise.real(0.0, 0.95));
            let there = drawn(&mut scheduler, &mut work, 8000, || most * f64::from(noise.real(0.0, 1.0)));
            let shares = work.each_ref().map(|work| work.had / there);
            for (share, least) in shares.iter().zip([0.4, 0.4, 0.045, 0.018]) {
                assert!(share >= &least, "round {round}: {shares:?}");
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

    /// Steps that cannot be cut beside short ones: both have their shares, and frames are as long as their budgets on average.
    #[test]
    fn long_steps_of_the_first_take_nothing_that_others_are_sure_of() {
        for (first, share, step, taken) in [
            (1900.0, 0.3, 50.0, 0.0),
            (3000.0, 0.3, 50.0, 0.0),
            (2500.0, 0.05, 10.0, 0.0),
            (2500.0, 0.05, 10.0, 0.5),
            (10.0, 0.3, 1000.0, 0.0),
            (10.0, 0.05, 260.0, 0.0),
        ] {
            let mut scheduler = of(&[Priority::FIRST, Priority::AFTER.share(share)]);
            let mut work = [first, step].map(|step| Work::of(&[step], usize::MAX));
            let there = drawn(&mut scheduler, &mut work, 5000, || taken);
            let [long, short] = [work[0].had / there, work[1].had / there];
            let what = format!("{first} beside {step} us, sure of {share}: {long} and {short}");
            assert!(short > 0.9 * share && long > 0.9 * (1.0 - share) - 0.05, "{what}");
            assert!(long + short < 1.03, "{what}");
        }
    }

    #[test]
    fn shares_that_are_more_than_the_whole_are_parts_of_it() {
        for taken in [0.0, 0.5] {
            let mut scheduler =
                of(&[Priority::FIRST.share(0.5), Priority::AFTER.share(0.5), Priority::LAST.share(0.5)]);
            let mut work = [10.0, 10.0, 800.0].map(|step| Work::of(&[step], usize::MAX));
            let there = drawn(&mut scheduler, &mut work, 5000, || taken);
            let shares = work.each_ref().map(|work| work.had / there);
            assert!(shares.iter().all(|share| *share > 0.3) && shares.iter().sum::<f64>() < 1.02, "{shares:?}");
        }
    }
}
