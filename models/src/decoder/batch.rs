//! Several sessions whose next tokens are computed in one run, so that the weights are read once for all of them.
//!
//! Whatever has weights works on one row for each session; what belongs to a session, its cache and its position, has dispatches of
//! its own, the same kernels as when it is alone.

use super::network::{self, Cut, Head};
use super::session::{AHEAD, Session};
use super::weights::Tensors;
use super::{CacheFormat, Decoder, Products, Sampling};
use crate::{Error, Result};
use lampyris_engine::gpu::{InputData, Pending, States};
use lampyris_engine::kernels::Caps;
use lampyris_engine::kernels::elementwise::{Axis, Concat, Rearrange};
use lampyris_engine::kernels::text::Sample;
use lampyris_engine::plan::TensorId;
use lampyris_engine::{Executor, Plan, PlanBuilder};
use std::collections::VecDeque;
use std::sync::Arc;

/// The plan of one token for each of `sequences` sessions, whose states are called `0.tokens`, `1.tokens` and so on.
///
/// # Errors
/// [`Error::Engine`] when a kernel refuses a shape.
pub(super) fn plan(
    (tensors, caps): (&Tensors, &Caps),
    sequences: usize,
    (context, cache): (usize, CacheFormat),
    head: Head,
    limit: u64,
) -> Result<Plan> {
    let mut builder = PlanBuilder::new();
    let b = &mut builder;
    let cut = Cut { tensors, limit, caps, tokens: sequences, products: Products::Exact };
    let whose: Vec<String> = (0..sequences).map(|at| format!("{at}.")).collect();
    let mut rows = Vec::with_capacity(sequences);
    for whose in &whose {
        rows.extend(network::embedding(b, cut, context, (1, whose))?);
    }
    let Some(mut x) = joined(b, "embed", &rows)? else { return Ok(builder.finish()) };
    let config = tensors.config();
    for layer in 0..config.layers {
        let made = network::queries_keys_values(b, cut, layer, x)?;
        let mut attended = Vec::with_capacity(sequences);
        for (at, whose) in whose.iter().enumerate() {
            let own: Result<Vec<TensorId>> =
                made.iter().map(|made| row(b, &format!("{whose}layers.{layer}.row"), *made, (at, sequences))).collect();
            attended.push(network::attend(b, cut, (context, cache), (layer, whose), &own?)?);
        }
        if let Some(attended) = joined(b, &format!("layers.{layer}.attention"), &attended)? {
            x = network::after_attention(b, cut, layer, [attended, x])?;
        }
        x = network::after(b, cut, layer, x)?;
    }
    let logits = network::logits(b, cut, x)?;
    for (at, whose) in whose.iter().enumerate() {
        let own = row(b, &format!("{whose}logits"), logits, (at, sequences))?;
        network::choice(b, head, own, (context, whose))?;
    }
    Ok(builder.finish())
}

/// Row `at` of a tensor of `rows`.
fn row(b: &mut PlanBuilder, name: &str, of: TensorId, (at, rows): (usize, usize)) -> Result<TensorId> {
    if rows == 1 {
        return Ok(of);
    }
    let columns = b.desc(of).last();
    let one = Axis { extent: 1, source: Some(0), start: at as i32, step: 1 };
    let kernel = Rearrange { axes: vec![one, Axis::whole(1, columns)], constant: 0.0 };
    Ok(b.apply(name, kernel, &[of])?)
}

/// Rows one after another.
fn joined(b: &mut PlanBuilder, name: &str, rows: &[TensorId]) -> Result<Option<TensorId>> {
    let Some((first, rest)) = rows.split_first() else { return Ok(None) };
    let mut all = *first;
    for (at, row) in rest.iter().enumerate() {
        all = b.apply(format!("{name}.joined.{at}"), Concat { axis: 0 }, &[all, *row])?;
    }
    Ok(Some(all))
}

/// Sessions that go on together. Dropping it stops: tokens that were not taken are forgotten.
#[derive(Debug)]
pub struct Together<'a> {
    model: Decoder,
    sessions: &'a mut [Session],
    sampling: Sampling,
    /// Those that go on, in the order of the plan.
    going: Vec<usize>,
    executor: Option<Executor>,
    under_way: VecDeque<Pending>,
}

impl Decoder {
    /// Continues sessions of this model, the next token of each in one run, as `sampling` says. A session whose context is full stops.
    ///
    /// # Errors
    /// [`Error::Together`] for sessions that differ in their room or their cache, belong to another model or slide; [`Error::Sampling`]
    /// for a setting without meaning; [`Error::Context`] for a session without a token to continue.
    pub fn together<'a>(&self, sessions: &'a mut [Session], sampling: &Sampling) -> Result<Together<'a>> {
        sampling.check()?;
        let refused = |reason: &str| Err(Error::Together { reason: reason.to_owned() });
        let first = sessions.first().map(|session| (session.context(), session.cache()));
        for session in sessions.iter() {
            if !session.model().is(self) {
                return refused("one is of another model");
            }
            if Some((session.context(), session.cache())) != first {
                return refused("they differ in their room or in how their keys and values are stored");
            }
            if session.slides().is_some() {
                return refused("one slides when its context is full, which moves it alone");
            }
            if session.tokens().is_empty() {
                return Err(Error::Context { tokens: 0, context: session.context() });
            }
        }
        let going = (0..sessions.len()).collect();
        let (model, sampling, under_way) = (self.clone(), *sampling, VecDeque::with_capacity(AHEAD));
        Ok(Together { model, sessions, sampling, going, executor: None, under_way })
    }
}

impl Together<'_> {
    /// The next token of each session that goes on, with the session's number; none at the end. After the loss of a device they go on as
    /// in [`Generation::next`](super::Generation::next), and so they do after a future that was dropped.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when no logit of a session is a number; [`Error::Engine`] from the device.
    pub async fn next(&mut self) -> Result<Vec<(usize, u32)>> {
        match self.step().await {
            Err(error) if error.is_device_lost() => {
                self.halt();
                if self.model.gpu().reopens() { self.step().await } else { Err(error) }
            }
            tokens => tokens,
        }
    }

    async fn step(&mut self) -> Result<Vec<(usize, u32)>> {
        let room = |together: &Self, at: usize| {
            let session = &together.sessions[at];
            session.context() - session.tokens().len()
        };
        let full: Vec<usize> = self.going.iter().copied().filter(|at| room(self, *at) == 0).collect();
        full.into_iter().for_each(|at| self.stop(at));
        let Some(room) = self.going.iter().map(|at| room(self, *at)).min() else { return Ok(Vec::new()) };
        let executor = match &self.executor {
            Some(executor) => executor.clone(),
            None => self.join().await?,
        };
        let outputs = match executor {
            Executor::Gpu(plan) => {
                while self.under_way.len() < AHEAD.min(room) {
                    self.under_way.push_back(plan.submit(&[] as &[InputData<'_>], &[])?);
                }
                let Some(next) = self.under_way.front_mut() else { return Ok(Vec::new()) };
                let outputs = next.take().await;
                self.under_way.pop_front();
                outputs?
            }
            other => other.run(&[]).await?,
        };
        let each = (outputs.len() / self.going.len().max(1)).max(1);
        let mut tokens = Vec::with_capacity(self.going.len());
        for (at, outputs) in self.going.iter().zip(outputs.chunks(each)) {
            let token = outputs.first().and_then(|tensor| tensor.words.first()).copied();
            let Some(token) = token.filter(|token| *token != Sample::NONE) else {
                return Err(Error::NotFinite { network: self.model.config().model_type.clone() });
            };
            self.sessions[*at].push(token);
            tokens.push((*at, token));
        }
        Ok(tokens)
    }

    /// Lets a session end here; the others go on.
    pub fn stop(&mut self, session: usize) {
        self.going.retain(|at| *at != session);
        self.halt();
    }

    /// Begins a session anew with these tokens, beside those that go on.
    ///
    /// # Errors
    /// As [`Session::feed`]; [`Error::Context`] when there is no token.
    pub async fn begin(&mut self, session: usize, tokens: &[u32]) -> Result<()> {
        self.stop(session);
        let Some(begun) = self.sessions.get_mut(session) else { return Ok(()) };
        if tokens.is_empty() {
            return Err(Error::Context { tokens: 0, context: begun.context() });
        }
        begun.rewind(0);
        begun.feed(tokens).await?;
        self.going.push(session);
        Ok(())
    }

    /// Forgets the runs that nobody waits for.
    fn halt(&mut self) {
        self.under_way.clear();
        self.executor = None;
    }

    /// What computes the next tokens of those that go on, told where each of them is.
    async fn join(&mut self) -> Result<Executor> {
        let sampling = self.sampling;
        for at in &self.going {
            self.sessions[*at].complete().await?;
            self.sessions[*at].begin(&sampling)?;
        }
        let going = self.going.iter().enumerate();
        // One that was completed before a loss in the midst of this is not where the others are.
        let whole = self.going.iter().try_for_each(|at| self.sessions[*at].states().gpu().check_alive());
        whole?;
        let parts: Vec<(String, &States)> =
            going.map(|(number, at)| (number.to_string(), self.sessions[*at].states())).collect();
        let gpu = parts.first().map_or_else(|| self.model.gpu().current(), |(_, states)| states.gpu().clone());
        let states = States::joined(&gpu, &parts);
        let first = self.going.first().map(|at| &self.sessions[*at]);
        let (context, cache) = first.map_or((0, CacheFormat::F32), |session| (session.context(), session.cache()));
        let head = if sampling.is_plain() { Head::Sample } else { Head::Draw };
        let plan = self.model.plan_together(self.going.len(), context, cache, head)?;
        let executor = self.model.executor(Arc::new(plan), &states).await?;
        self.executor = Some(executor.clone());
        Ok(executor)
    }
}
