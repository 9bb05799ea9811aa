//! Sessions that outlive their device: what computed their keys and values is remembered step by step, and done again on the device that
//! takes the place of a lost one, in the same shapes, so that it comes out the same.

use super::chunks;
use super::network::{CURSOR, TOKENS};
use super::session::{AHEAD, Session};
use super::{Decoder, SessionOptions};
use crate::{Error, Result};
use lampyris_engine::Executor;
use std::collections::VecDeque;
use std::time::Duration;

/// The shortest submits of what is computed again: shorter ones would be few steps each, and a long session take minutes.
const SHORTEST: Duration = Duration::from_millis(1);

/// Neighbouring steps of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    /// The first token whose keys and values they computed.
    first: usize,
    /// How many tokens.
    count: usize,
    /// Whether each token had a run of its own, as after a prompt, or all of them had one.
    single: bool,
}

/// What computed the keys and values of a session, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log(Vec<Steps>);

impl Log {
    /// The log of a prompt of `count` tokens, chunk by chunk, in runs of such `sizes`.
    pub(super) fn of_prompt(count: usize, sizes: &[usize]) -> Log {
        let (mut log, mut first) = (Log::default(), 0);
        while first < count {
            let run = chunks::share(sizes, count - first);
            log.chunk(first, run);
            first += run;
        }
        log
    }

    /// Notes a run over `count` tokens from `first` on. What it has computed anew as a whole need not be done again.
    pub(super) fn chunk(&mut self, first: usize, count: usize) {
        self.0.retain(|steps| steps.first < first || steps.first + steps.count > first + count);
        self.0.push(Steps { first, count, single: false });
    }

    /// Notes a run over one token.
    pub(super) fn token(&mut self, at: usize) {
        match self.0.last_mut() {
            Some(last) if last.single && last.first + last.count == at => last.count += 1,
            _ => self.0.push(Steps { first: at, count: 1, single: true }),
        }
    }

    /// Forgets what serves none of the first `cached` tokens.
    pub(super) fn keep(&mut self, cached: usize) {
        self.0.retain(|steps| steps.first < cached);
        for steps in self.0.iter_mut().filter(|steps| steps.single) {
            steps.count = steps.count.min(cached - steps.first);
        }
    }
}

/// What it takes to make a session again on another device.
#[derive(Debug)]
pub(super) struct Past {
    model: Decoder,
    options: SessionOptions,
    tokens: Vec<u32>,
    cached: usize,
    log: Log,
}

impl Past {
    /// The same, in submits of about `budget`, or a millisecond, where they can be cut so short.
    pub(super) fn within(mut self, budget: Duration) -> Past {
        self.options.submit_budget = self.options.submit_budget.min(budget.max(SHORTEST));
        self
    }

    /// A session on the device that is there now, which holds the same.
    pub(super) async fn remade(self) -> Result<Session> {
        let mut fresh = self.model.session(self.options).await?;
        fresh.states().write(TOKENS, 0, &self.tokens)?;
        for steps in &self.log.0 {
            match steps.single {
                false => fresh.compute_again(steps.first, steps.count).await?,
                true => fresh.compute_singly(&self.tokens, *steps).await?,
            }
        }
        // The runs over single tokens have put their own choices behind them, so it is told these once more.
        fresh.set(self.tokens, self.cached, self.log);
        Ok(fresh)
    }
}

impl Session {
    /// Whether the work that ended in `error` can go on at once: the device is lost, and the engine opens another.
    pub(super) fn outlives(&self, error: &Error) -> bool {
        error.is_device_lost() && self.model().gpu().reopens()
    }

    /// As [`Session::outlives`], or the host has handed over another device since.
    pub(super) fn is_elsewhere(&self, error: &Error) -> bool {
        let here = self.states().gpu();
        self.outlives(error) || error.is_device_lost() && !here.is_same_device(&here.current())
    }

    /// Goes to the device that has taken the place of a lost one, and computes there what the session held, in the same steps: on the
    /// same adapter with the same features the keys and values are the same bit for bit, but for tokens that were generated together with
    /// other sessions' or came from a saved session, which agree within the tolerance of their kernels. Says whether there was anything
    /// to do. Whatever else is asked of the session does this first; a host may do it when its frame has the time.
    ///
    /// # Errors
    /// [`Error::Engine`] with `DeviceLost` while there is no other device; as [`Decoder::session`]. The session is what it was before.
    pub async fn recover(&mut self) -> Result<bool> {
        if self.states().gpu().check_alive().is_ok() {
            return Ok(false);
        }
        let fresh = self.remade().await?;
        self.move_to(fresh);
        Ok(true)
    }

    /// A session on the device that is there now, which holds the same.
    pub(super) async fn remade(&self) -> Result<Session> {
        self.past().remade().await
    }

    /// What it takes to make the session again.
    pub(super) fn past(&self) -> Past {
        let (model, options, log) = (self.model().clone(), self.options(), self.log.clone());
        Past { model, options, tokens: self.tokens().to_vec(), cached: self.cached(), log }
    }

    /// A run, or as many as it takes where it was another session's, with larger ones, of which this is a copy.
    async fn compute_again(&mut self, first: usize, count: usize) -> Result<()> {
        let mut done = 0;
        while done < count {
            let run = chunks::share(self.sizes(), count - done);
            self.compute(first + done, run).await?;
            done += run;
        }
        Ok(())
    }

    /// The runs over one token each. What they choose is passed over.
    async fn compute_singly(&mut self, tokens: &[u32], steps: Steps) -> Result<()> {
        let Executor::Gpu(plan) = self.decoding() else { return Ok(()) };
        let mut under_way = VecDeque::with_capacity(AHEAD);
        for (at, token) in tokens.iter().enumerate().skip(steps.first).take(steps.count) {
            self.states().write(TOKENS, at, &[*token])?;
            self.states().write(CURSOR, 0, &[at as u32, 1])?;
            under_way.push_back(plan.submit(&[], &[])?);
            if under_way.len() == AHEAD
                && let Some(oldest) = under_way.pop_front()
            {
                oldest.wait().await?;
            }
        }
        for pending in under_way {
            pending.wait().await?;
        }
        Ok(())
    }

    /// How it was made.
    pub(super) fn options(&self) -> SessionOptions {
        SessionOptions {
            context: Some(self.context()),
            cache: self.cache(),
            slide: self.slides(),
            submit_budget: self.submit_budget(),
            products: self.products(),
            chunk: Some(self.chunk()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(log: &Log) -> Vec<(usize, usize, bool)> {
        log.0.iter().map(|steps| (steps.first, steps.count, steps.single)).collect()
    }

    #[test]
    fn single_steps_join_and_chunks_stay_apart() {
        let mut log = Log::of_prompt(70, &[32]);
        assert_eq!(steps(&log), [(0, 32, false), (32, 32, false), (64, 6, false)]);
        [70, 71, 72].into_iter().for_each(|at| log.token(at));
        assert_eq!(steps(&log)[3..], [(70, 3, true)]);
        log.chunk(73, 5);
        log.token(78);
        assert_eq!(steps(&log)[3..], [(70, 3, true), (73, 5, false), (78, 1, true)]);
    }

    #[test]
    fn a_prompt_in_larger_runs_is_noted_in_these() {
        let mut log = Log::of_prompt(300, &[32, 128]);
        assert_eq!(steps(&log), [(0, 128, false), (128, 128, false), (256, 32, false), (288, 12, false)]);
        // A run is done again as long as one of its tokens is used.
        log.keep(129);
        assert_eq!(steps(&log), [(0, 128, false), (128, 128, false)]);
        log.keep(128);
        assert_eq!(steps(&log), [(0, 128, false)]);
    }

    #[test]
    fn what_serves_no_token_is_forgotten_and_a_chunk_that_serves_some_is_whole() {
        let mut log = Log::of_prompt(40, &[32]);
        [40, 41, 42].into_iter().for_each(|at| log.token(at));
        log.keep(42);
        assert_eq!(steps(&log), [(0, 32, false), (32, 8, false), (40, 2, true)]);
        log.keep(33);
        assert_eq!(steps(&log), [(0, 32, false), (32, 8, false)]);
        log.keep(32);
        assert_eq!(steps(&log), [(0, 32, false)]);
        log.keep(0);
        assert_eq!(log, Log::default());
    }

    #[test]
    fn a_chunk_takes_the_place_of_what_it_computes_anew() {
        let mut log = Log::of_prompt(40, &[32, 128]);
        log.token(40);
        log.chunk(32, 9);
        assert_eq!(steps(&log), [(0, 32, false), (32, 9, false)]);
        // What it covers in part still serves the rest.
        log.chunk(20, 30);
        assert_eq!(steps(&log), [(0, 32, false), (20, 30, false)]);
    }
}
