//! A session that runs only when it is ticked: prompt and answer, cut into what the budgets of a host's frames pay for.
//!
//! Every run is told by the host where it begins, so what was recorded and never submitted, or in another order, can only have
//! written behind what is known to be computed; it is recorded again from there, in the same shapes.

use super::network::{CURSOR, SAMPLING, TOKENS};
use super::{Sampling, Session, chunks};
use crate::tick::{Driven, FINEST, Progress, Summary, Tick};
use crate::{Error, Result};
use lampyris_engine::Executor;
use lampyris_engine::gpu::{Budget, CommandEncoder, Course, Event, Few, Job, Loading, StepTimes, Written};
use lampyris_engine::kernels::text::Sample;
use std::time::Duration;

/// Words for the positions of the runs of one tick, beside the tokens and settings that the first brings.
pub(super) const CURSORS: usize = 1024;

/// Runs that steps are measured in.
const MEASURED: usize = 3;

/// The tag of a run that gives a token; those of a prompt are tagged with the number of their tokens.
const TOKEN: u64 = u64::MAX;

/// The part of the course that chooses a token. The chunks of a prompt are those around it, the smallest first.
const CHOOSES: usize = 1;

/// The part of the course that computes chunks of the size that comes at place `at`.
fn part_of(at: usize) -> usize {
    if at < CHOOSES { at } else { at + 1 }
}

/// What a future gives that a driven session goes on with.
type Prepared = Result<(Course, Option<Executor>)>;

/// What records the runs.
#[derive(Debug)]
enum Stage {
    /// Nothing was asked yet.
    None,
    /// What is needed is being made.
    Preparing(Loading<(Course, Option<Executor>), Error>),
    /// What the session held is computed again on the device that has taken the place of a lost one.
    Moving(Loading<Session, Error>),
    /// Ready; whether it draws its tokens.
    Ready(Box<Course>, bool),
}

/// What is under way.
#[derive(Debug)]
enum Task {
    Idle,
    Going,
    /// All of it has been given; whether it came to its end.
    Over(bool),
    /// It cannot go on, which the next tick says.
    Failed(Error),
}

/// Where a step of the task leaves it.
pub(crate) enum Stand {
    Idle,
    Lost,
    Working(Progress),
    Over(Summary),
}

/// A [`Session`] that runs only when it is ticked. It owns the session, so nothing else can come between its runs.
#[derive(Debug)]
pub struct DrivenSession {
    session: Session,
    stage: Stage,
    task: Task,
    sampling: Sampling,
    finest: Duration,
    /// Tokens of the answer that have not arrived.
    left: usize,
    /// Of these, those that are recorded.
    recorded: usize,
    /// The place of the token that the next run to be recorded begins with.
    next: usize,
    /// Tokens of the session when the recording began.
    base: usize,
    /// The next run brings the tokens and the settings.
    fresh: bool,
    summary: Summary,
}

impl Session {
    /// The session as something that runs only when it is ticked.
    pub fn driven(self) -> DrivenSession {
        DrivenSession {
            session: self,
            stage: Stage::None,
            task: Task::Idle,
            sampling: Sampling::greedy(),
            finest: FINEST,
            left: 0,
            recorded: 0,
            next: 0,
            base: 0,
            fresh: true,
            summary: Summary::default(),
        }
    }

    /// Begins with `tokens` and continues them as `sampling` says by at most `most`, in ticks. What is wrong is the first tick's error.
    pub fn driven_generate(self, tokens: &[u32], most: usize, sampling: &Sampling) -> DrivenSession {
        let mut driven = self.driven();
        driven.generate(tokens, most, sampling);
        driven
    }
}

impl DrivenSession {
    /// How long a dispatch may take, where its kernel can be cut; a fifth of a millisecond otherwise. Half of it is what a budget has left on average, so a
    /// sixth of the smallest budget is a good choice. To be said before anything is asked.
    #[must_use]
    pub fn finest(mut self, finest: Duration) -> DrivenSession {
        self.finest = finest;
        self
    }

    /// The session. What it holds is what has been given.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Makes what runs need and measures their steps alone, unless that is known, so that ticks know from the first what they can afford.
    /// Submits runs of its own: for the time of loading. Measures nothing where the session has tokens already; ticks learn instead. Does
    /// nothing once something was asked.
    ///
    /// # Errors
    /// [`Error::Engine`] with `NoCommands` on the CPU executor, `Busy` while a recorded token is under way, and from the device. The
    /// session goes with the error.
    pub async fn measured(mut self, sampling: &Sampling) -> Result<DrivenSession> {
        self.session.no_step()?;
        if let (Stage::None, Task::Idle) = (&self.stage, &self.task) {
            let draws = !sampling.is_plain();
            let (mut course, drawing) = self.preparing(draws)?.await?;
            if let Some(drawing) = drawing {
                self.session.keep_drawing(drawing);
            }
            let runs = MEASURED.min(self.session.context() / 2);
            if self.session.tokens().is_empty() && runs > 0 {
                let (states, context) = (self.session.states(), self.session.context());
                for (at, chunk) in self.session.sizes().iter().enumerate() {
                    states.write(CURSOR, 0, &[(context - chunk) as u32, *chunk as u32])?;
                    course.measure_part(part_of(at), &[], runs).await?;
                }
                // Every run is one position behind the one before.
                states.write(CURSOR, 0, &[context.saturating_sub(runs + 2) as u32, 1])?;
                if draws {
                    states.write(SAMPLING, 0, &sampling.settings().words())?;
                }
                course.measure_part(CHOOSES, &[], runs).await?;
            }
            self.stage = Stage::Ready(Box::new(course), draws);
        }
        Ok(self)
    }

    /// Begins anew with `tokens` and continues them; whatever was under way is given up. What an earlier answer has computed of the same
    /// tokens is not computed again. What is wrong is the next tick's error.
    pub fn generate(&mut self, tokens: &[u32], most: usize, sampling: &Sampling) {
        self.cancel();
        self.sampling = *sampling;
        self.task = match sampling.check().and_then(|()| self.session.place(tokens)) {
            Ok(()) => Task::Going,
            Err(error) => Task::Failed(error),
        };
        self.left = most;
        self.summary = Summary::default();
        self.restart();
        self.summary.prompt = self.base.saturating_sub(1).saturating_sub(self.next);
    }

    /// Gives up what is under way. The session keeps what has been given.
    pub fn cancel(&mut self) {
        if let Stage::Ready(course, _) = &mut self.stage
            && !course.is_idle()
        {
            course.give_up();
        }
        self.task = Task::Idle;
    }

    /// The session, to be used otherwise; itself while something that was recorded may still be submitted.
    ///
    /// # Errors
    /// Itself: tick it, or submit or drop the encoders that have been recorded into, and try again.
    pub fn into_session(mut self) -> Result<Session, Box<DrivenSession>> {
        self.cancel();
        if let Stage::Ready(course, _) = &mut self.stage {
            while let Ok(Some(_)) = course.event() {}
            // Of a lost device nothing can come any more.
            if !course.is_idle() && self.session.states().gpu().check_alive().is_ok() {
                return Err(Box::new(self));
            }
        }
        Ok(self.session)
    }

    /// How long the dispatches of a small chunk of a prompt, and those of a token, are expected to take; `None` before the first tick.
    pub fn times(&self) -> Option<[&StepTimes; 2]> {
        match &self.stage {
            Stage::Ready(course, _) => Some([course.times(part_of(0))?, course.times(CHOOSES)?]),
            _ => None,
        }
    }

    /// Whether all of what was asked has been given, and only the summary is due.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.task, Task::Over(_))
    }

    /// Begins to record where the session stands.
    fn restart(&mut self) {
        (self.next, self.base) = (self.session.cached(), self.session.tokens().len());
        (self.recorded, self.fresh) = (0, true);
    }

    /// Records what the budget pays for, and gives each token that has arrived to `take`, which says whether the answer goes on.
    pub(crate) fn advance(
        &mut self,
        encoder: &mut CommandEncoder,
        budget: &mut Budget,
        take: &mut dyn FnMut(u32) -> Result<bool>,
    ) -> Result<Stand> {
        match self.rejoin(budget) {
            Ok(None) => {}
            Ok(Some(stand)) => return Ok(stand),
            Err(error) => {
                self.task = Task::Idle;
                return Err(error);
            }
        }
        match std::mem::replace(&mut self.task, Task::Idle) {
            Task::Idle => return Ok(Stand::Idle),
            Task::Failed(error) => return Err(error),
            Task::Over(ended) => return Ok(Stand::Over(Summary { ended, ..self.summary })),
            Task::Going => {}
        }
        // Unless it goes on below, it has failed.
        let given = self.summary.tokens;
        match self.go_on(encoder, budget, take) {
            Err(error) if error.is_device_lost() => {
                if !self.is_over() {
                    self.task = Task::Going;
                }
                Ok(Stand::Lost)
            }
            Err(error) => {
                self.cancel();
                if self.summary.tokens == given {
                    return Err(error);
                }
                // What has arrived is told first.
                self.task = Task::Failed(error);
                Ok(Stand::Working(self.progress(0)))
            }
            stand => stand,
        }
    }

    fn go_on(
        &mut self,
        encoder: &mut CommandEncoder,
        budget: &mut Budget,
        take: &mut dyn FnMut(u32) -> Result<bool>,
    ) -> Result<Stand> {
        if !self.prepare(budget)? {
            self.task = Task::Going;
            return Ok(Stand::Working(self.progress(0)));
        }
        self.task = match self.collect(take)? {
            Some(ended) => Task::Over(ended),
            None => Task::Going,
        };
        if let Task::Over(_) = self.task {
            if let Stage::Ready(course, _) = &mut self.stage
                && !course.is_idle()
            {
                course.give_up();
            }
            return Ok(Stand::Working(self.progress(0)));
        }
        let Stage::Ready(mut course, draws) = std::mem::replace(&mut self.stage, Stage::None) else {
            return Ok(Stand::Working(self.progress(0)));
        };
        let recorded = course.record(encoder, budget, &mut || self.job());
        self.stage = Stage::Ready(course, draws);
        let steps = recorded?;
        self.summary.ticks += usize::from(steps > 0);
        Ok(Stand::Working(self.progress(steps)))
    }

    /// Goes to the device that has taken the place of a lost one, where there is one and something was asked: loads there as the budget
    /// pays for, and computes what the session held in submits of its own. Never waits; `None` when the session is on a device that is there.
    fn rejoin(&mut self, budget: &mut Budget) -> Result<Option<Stand>> {
        if let Stage::Moving(moving) = &mut self.stage {
            let moved = moving.tick(budget);
            if let Ok(None) = moved {
                return Ok(Some(Stand::Working(self.progress(0))));
            }
            self.stage = Stage::None;
            match moved {
                Ok(Some(fresh)) => {
                    self.session.move_to(fresh);
                    self.restart();
                }
                Err(error) if !error.is_device_lost() => return Err(error),
                _ => return Ok(Some(Stand::Lost)),
            }
        }
        let here = self.session.states().gpu();
        if here.check_alive().is_ok() {
            return Ok(None);
        }
        if !here.reopens() && here.current().check_alive().is_err() {
            return Ok(Some(Stand::Lost));
        }
        if let Task::Idle = self.task {
            return Ok(Some(Stand::Idle));
        }
        self.stage = Stage::Moving(Loading::new(self.session.past().within(budget.whole()).remade()));
        Ok(Some(Stand::Working(self.progress(0))))
    }

    fn progress(&self, steps: usize) -> Progress {
        let missing = self.base.saturating_sub(1).saturating_sub(self.session.cached());
        let of = self.summary.prompt as u64;
        Progress { steps, done: of - of.min(missing as u64), of }
    }

    /// Takes what has arrived; whether the answer came to its end, when it is over.
    fn collect(&mut self, take: &mut dyn FnMut(u32) -> Result<bool>) -> Result<Option<bool>> {
        loop {
            let Stage::Ready(course, _) = &mut self.stage else { return Ok(None) };
            match course.event()? {
                Some(Event::Ran { tag: TOKEN, outputs }) => {
                    let token = outputs.first().and_then(|tensor| tensor.words.first()).copied();
                    course.take_back(outputs);
                    let Some(token) = token.filter(|token| *token != Sample::NONE) else {
                        let network = self.session.model().config().model_type.clone();
                        return Err(Error::NotFinite { network });
                    };
                    self.recorded = self.recorded.saturating_sub(1);
                    self.left = self.left.saturating_sub(1);
                    self.session.push(token);
                    self.summary.tokens += 1;
                    if !take(token)? {
                        return Ok(Some(true));
                    }
                }
                Some(Event::Ran { tag, .. }) => self.session.computed(tag as usize),
                Some(_) => self.restart(),
                None => break,
            }
        }
        if self.left == 0 {
            return Ok(Some(false));
        }
        if self.session.tokens().len() >= self.session.context() && self.session.cached() + 1 >= self.base {
            let Some(dropped) = self.session.make_room_when_full() else { return Ok(Some(false)) };
            // Draws are numbered by their place, which comes again.
            self.sampling.seed = self.sampling.seed.wrapping_add(dropped as u64);
            self.restart();
        }
        Ok(None)
    }

    /// The next run to be recorded.
    fn job(&mut self) -> Option<Job> {
        let last = self.base.saturating_sub(1);
        let (part, count, tag) = if self.next < last {
            // Of the budget it is told nothing: with other shapes the keys would have other bits.
            let count = chunks::share(self.session.sizes(), last - self.next);
            (part_of(chunks::plan_for(self.session.sizes(), count)), count, count as u64)
        } else if self.recorded < self.left && self.next + 1 < self.session.context() {
            self.recorded += 1;
            (CHOOSES, 1, TOKEN)
        } else {
            return None;
        };
        let again = Few::One([Written { name: CURSOR, at: 0, words: Few::Two([self.next as u32, count as u32]) }]);
        let mut begin = Few::None;
        if std::mem::take(&mut self.fresh) {
            begin.push(Written { name: TOKENS, at: 0, words: self.session.tokens().to_vec().into() });
        }
        if part == CHOOSES && !self.sampling.is_plain() && self.next == last {
            let words = self.sampling.settings().words().to_vec().into();
            begin.push(Written { name: SAMPLING, at: 0, words });
        }
        self.next += count;
        Some(Job { part, tag, begin, again, outputs: part == CHOOSES, positions: self.next })
    }

    /// Makes what the runs need as the budget pays for, and says whether it is there. Never waits.
    fn prepare(&mut self, budget: &mut Budget) -> Result<bool> {
        // The commands of a recorded token are in no line with those of ticks.
        if self.session.no_step().is_err() {
            return Ok(false);
        }
        let draws = !self.sampling.is_plain();
        if let Stage::Ready(course, for_draws) = &mut self.stage {
            if *for_draws == draws {
                return Ok(true);
            }
            // What was recorded must be gone before its plans are exchanged.
            while course.event()?.is_some() {}
            if !course.is_idle() {
                return Ok(false);
            }
            self.stage = Stage::None;
        }
        if matches!(self.stage, Stage::None) {
            self.stage = Stage::Preparing(Loading::new(self.preparing(draws)?));
        }
        let Stage::Preparing(preparing) = &mut self.stage else { return Ok(false) };
        let made = preparing.tick(budget);
        if let Ok(None) = made {
            return Ok(false);
        }
        self.stage = Stage::None;
        let Some((course, drawing)) = made? else { return Ok(false) };
        // It was begun for an earlier question where another has come meanwhile; the next tick exchanges it then.
        let for_draws = drawing.is_some();
        if let Some(drawing) = drawing {
            self.session.keep_drawing(drawing);
        }
        self.stage = Stage::Ready(Box::new(course), for_draws);
        Ok(for_draws == draws)
    }

    fn preparing(&self, draws: bool) -> Result<impl Future<Output = Prepared> + use<>> {
        let (mut plans, decode, drawing) = self.session.executors();
        let gpu = self.session.states().gpu().clone();
        if plans.is_empty() {
            let adapter = gpu.summary().name.clone();
            return Err(Error::Engine(lampyris_engine::Error::NoCommands { adapter }));
        }
        let (decode, drawing) = (decode.clone(), drawing.cloned());
        let (plan, states) = (self.session.drawing_plan()?, self.session.states().clone());
        let (model, finest) = (self.session.model().clone(), self.finest);
        let words = self.session.context() + CURSORS;
        Ok(async move {
            let chooses = match (draws, drawing) {
                (false, _) => decode,
                (true, Some(drawing)) => drawing,
                (true, None) => model.executor(plan, &states).await?,
            };
            plans.insert(CHOOSES, chooses.gpu_plan()?.clone());
            let course = Course::new(&gpu, &plans, finest, words).await?;
            Ok((course, draws.then_some(chooses)))
        })
    }
}

impl Driven for DrivenSession {
    type Piece = Few<u32>;
    type Done = Summary;

    fn tick(&mut self, encoder: &mut CommandEncoder, budget: &mut Budget) -> Result<Tick<Few<u32>>> {
        let mut tokens = Few::None;
        let stand = self.advance(encoder, budget, &mut |token| {
            tokens.push(token);
            Ok(true)
        })?;
        Ok(match stand {
            _ if !tokens.is_empty() => Tick::Pieces(tokens),
            Stand::Idle => Tick::Idle,
            Stand::Lost => Tick::Lost,
            Stand::Working(progress) => Tick::Working(progress),
            Stand::Over(summary) => Tick::Done(summary),
        })
    }

    fn has_work(&self) -> bool {
        !matches!(self.task, Task::Idle)
    }
}

impl DrivenSession {
    /// Records into the host's encoder what the budget pays for, and gives the tokens that have arrived. Never waits.
    ///
    /// # Errors
    /// What is wrong with what was asked, as [`Session::feed`] and [`Session::sample`]; [`Error::NotFinite`] when no logit is a number;
    /// [`Error::Engine`] with `NoCommands` on the CPU executor, and from the device. It is idle afterwards.
    pub fn tick(&mut self, encoder: &mut CommandEncoder, budget: &mut Budget) -> Result<Tick<Few<u32>>> {
        Driven::tick(self, encoder, budget)
    }
}
