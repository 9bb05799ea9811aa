//! A session: the tokens so far with their keys and values on the device, and the loop that adds to them.

use super::chunks::{self, Chunks, Prefill};
use super::network::{CURSOR, Head, PlanRequest, SAMPLING, TOKENS};
use super::replay::Log;
use super::step::Step;
use super::{CacheFormat, Decoder, Products, Sampling, SessionOptions, network};
use crate::{Error, Result};
use lampyris_engine::gpu::{GpuPlan, InputData, Pending, States};
use lampyris_engine::kernels::HostTensor;
use lampyris_engine::kernels::text::Sample;
use lampyris_engine::{Executor, Plan};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Runs that are submitted before the token of the first is read back, so that the device never waits for the host.
pub(super) const AHEAD: usize = 3;

/// One conversation with a [`Decoder`].
#[derive(Debug)]
pub struct Session {
    model: Decoder,
    context: usize,
    cache: CacheFormat,
    products: Products,
    /// How many of the first tokens are kept when the context is full; `None` where it ends there.
    slide: Option<usize>,
    /// Tokens that made room for others.
    pub(super) dropped: usize,
    submit_budget: Duration,
    prefill: Prefill,
    decode: Executor,
    /// Made when tokens are drawn for the first time.
    draw: Option<Executor>,
    states: States,
    tokens: Vec<u32>,
    /// How many of the tokens the device has been told, or has chosen.
    told: usize,
    /// How many of the tokens have their keys and values in the cache.
    cached: usize,
    /// What computed them.
    pub(super) log: Log,
    /// A token that is under way in a host's frame.
    pub(super) step: Option<Step>,
}

impl Session {
    pub(super) fn new(
        model: Decoder,
        (context, options): (usize, SessionOptions),
        prefill: Vec<Executor>,
        decode: Executor,
        states: States,
    ) -> Session {
        let SessionOptions { cache, slide, submit_budget, products, chunk, .. } = options;
        let sizes = chunks::sizes(chunk.unwrap_or(Decoder::CHUNK), context);
        let prefill = Prefill::new(sizes, prefill, submit_budget);
        // At least two tokens take part in sliding, so that it always makes room.
        let slide = slide.map(|sinks| sinks.min(context / 2).min(context.saturating_sub(2)));
        let (draw, tokens) = (None, Vec::new());
        let (dropped, told, cached, log) = (0, 0, 0, Log::default());
        Session {
            model,
            context,
            cache,
            products,
            slide,
            dropped,
            submit_budget,
            prefill,
            decode,
            draw,
            states,
            tokens,
            told,
            cached,
            log,
            step: None,
        }
    }

    /// Puts tokens in the place of those that are there, the first `cached` of them with keys and values in the cache, which `log` says
    /// the making of. The device is told them before its next run.
    pub(super) fn set(&mut self, tokens: Vec<u32>, cached: usize, log: Log) {
        (self.tokens, self.told, self.cached, self.log) = (tokens, 0, cached, log);
    }

    /// Takes over what another session with the same tokens has on its device.
    pub(super) fn move_to(&mut self, other: Session) {
        let Session { mut prefill, decode, draw, states, told, .. } = other;
        prefill.bound(self.submit_budget);
        (self.prefill, self.decode, self.draw, self.states, self.told) = (prefill, decode, draw, states, told);
    }

    /// What computes one token.
    pub(super) fn decoding(&self) -> Executor {
        self.decode.clone()
    }

    /// What computes chunks of a prompt, the smallest first.
    pub(super) fn prefilling(&self) -> Vec<Executor> {
        self.prefill.executors()
    }

    /// Tokens of the runs of [`Session::prefilling`].
    pub(super) fn sizes(&self) -> &[usize] {
        self.prefill.sizes()
    }

    /// Adds a token that the device has put behind the others, all of which have their keys and values by now.
    pub(super) fn push(&mut self, token: u32) {
        self.log.token(self.tokens.len().saturating_sub(1));
        self.cached = self.tokens.len();
        self.told += usize::from(self.told == self.tokens.len());
        self.tokens.push(token);
    }

    /// Adds the token that a run over the last one gave.
    pub(super) fn accept(&mut self, outputs: &[HostTensor]) -> Result<u32> {
        let token = outputs.first().and_then(|tensor| tensor.words.first()).copied();
        match token.filter(|token| *token != Sample::NONE) {
            Some(token) => {
                self.push(token);
                Ok(token)
            }
            None => Err(Error::NotFinite { network: self.model.config().model_type.clone() }),
        }
    }

    pub(super) fn states(&self) -> &States {
        &self.states
    }

    pub(super) fn cached(&self) -> usize {
        self.cached
    }

    /// How its keys and values are stored.
    pub fn cache(&self) -> CacheFormat {
        self.cache
    }

    /// How tokens are multiplied with the matrices.
    pub fn products(&self) -> Products {
        self.products
    }

    /// How many of the first tokens are kept when the context is full and the session goes on; `None` where it ends there.
    pub fn slides(&self) -> Option<usize> {
        self.slide
    }

    /// Tokens that made room for others so far.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// How long a submit of a prompt may hold the device.
    pub fn submit_budget(&self) -> Duration {
        self.submit_budget
    }

    /// Most tokens of a prompt that one run takes.
    pub fn chunk(&self) -> usize {
        self.sizes().last().copied().unwrap_or(self.context)
    }

    /// The model.
    pub fn model(&self) -> &Decoder {
        &self.model
    }

    /// The tokens so far, given and generated.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens it has room for.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Bytes of its cache on the device.
    pub fn bytes(&self) -> u64 {
        self.states.bytes()
    }

    /// Adds tokens, and computes the keys and values of all but the last, chunk by chunk, in submits that hold the device for no longer
    /// than [`SessionOptions::submit_budget`]. At most two budgets are on their way at a time. A future that is dropped before its end
    /// leaves the tokens in the session, and so does an error from the device; what is missing is computed by the next one. Where the
    /// session slides, tokens that do not fit make older ones go.
    ///
    /// # Errors
    /// [`Error::Token`] for a token the model does not know; [`Error::Context`] when they do not fit; both before anything changes.
    /// [`Error::Engine`] from the device.
    pub async fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        let vocabulary = self.model.config().vocabulary;
        if let Some(token) = tokens.iter().copied().find(|token| *token as usize >= vocabulary) {
            return Err(Error::Token { token, vocabulary });
        }
        let total = self.tokens.len() + tokens.len();
        match self.slide {
            _ if total <= self.context => self.append(tokens).await,
            Some(sinks) => self.slide(sinks, tokens).await,
            None => Err(Error::Context { tokens: total, context: self.context }),
        }
    }

    /// Goes on with the first `sinks` tokens and as many of the newest, which `new` ends, as fill half of the room behind them.
    async fn slide(&mut self, sinks: usize, new: &[u32]) -> Result<()> {
        self.keep(sinks, self.newest(sinks, new));
        self.complete().await.map(|_| ())
    }

    /// The tokens that stay when room is made for `new` behind the first `sinks`, and how many go.
    fn newest(&self, sinks: usize, new: &[u32]) -> (Vec<u32>, usize) {
        let all = [&self.tokens, new].concat();
        let newest = (self.context - sinks).div_ceil(2);
        let from = all.len().saturating_sub(newest).max(sinks);
        ([&all[..sinks], &all[from..]].concat(), from - sinks)
    }

    /// Goes on with what stays when room is made, of which only the first `sinks` tokens are where they were.
    fn keep(&mut self, sinks: usize, (tokens, gone): (Vec<u32>, usize)) {
        self.tokens = tokens;
        self.dropped += gone;
        self.told = self.told.min(sinks);
        self.cached = self.cached.min(sinks);
        self.log.keep(self.cached);
    }

    /// Puts `tokens` in the place of those that are there, keeping what was computed of those that both begin with. Nothing goes to
    /// the device. As [`Session::feed`] of what is new.
    pub(super) fn place(&mut self, tokens: &[u32]) -> Result<()> {
        let vocabulary = self.model.config().vocabulary;
        if let Some(token) = tokens.iter().copied().find(|token| *token as usize >= vocabulary) {
            return Err(Error::Token { token, vocabulary });
        }
        if tokens.is_empty() || (tokens.len() > self.context && self.slide.is_none()) {
            return Err(Error::Context { tokens: tokens.len(), context: self.context });
        }
        let shared = self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        self.rewind(shared);
        match self.slide.filter(|_| tokens.len() > self.context) {
            Some(sinks) => self.keep(sinks, self.newest(sinks, &tokens[shared..])),
            None => self.tokens.extend_from_slice(&tokens[shared..]),
        }
        Ok(())
    }

    /// Makes room where the context is full and the session slides, and says how many tokens went.
    pub(super) fn make_room_when_full(&mut self) -> Option<usize> {
        let sinks = self.slide.filter(|_| self.tokens.len() >= self.context)?;
        let before = self.dropped;
        self.keep(sinks, self.newest(sinks, &[]));
        Some(self.dropped - before)
    }

    /// Counts keys and values of tokens that one run has computed.
    pub(super) fn computed(&mut self, tokens: usize) {
        self.log.chunk(self.cached, tokens);
        self.cached += tokens;
    }

    /// What computes chunks of a prompt, what chooses the likeliest token, and what draws one where it was made.
    pub(super) fn executors(&self) -> (Vec<GpuPlan>, &Executor, Option<&Executor>) {
        (self.prefill.gpu_plans(), &self.decode, self.draw.as_ref())
    }

    /// The plan that draws tokens.
    pub(super) fn drawing_plan(&self) -> Result<Arc<Plan>> {
        self.model.plan(self.request(1, Head::Draw))
    }

    /// Keeps what draws tokens.
    pub(super) fn keep_drawing(&mut self, executor: Executor) {
        self.draw = Some(executor);
    }

    async fn append(&mut self, tokens: &[u32]) -> Result<()> {
        self.tokens.extend_from_slice(tokens);
        self.complete().await.map(|_| ())
    }

    /// Tells the device the tokens that it lacks.
    fn tell(&mut self) -> Result<()> {
        if let Some(new) = self.tokens.get(self.told..).filter(|new| !new.is_empty()) {
            self.states.write(TOKENS, self.told, new)?;
            self.told = self.tokens.len();
        }
        Ok(())
    }

    /// Computes the keys and values that are missing of all tokens but the last, as they are of a prompt that was given up, or of all on
    /// a device that takes the place of a lost one. Says whether any were.
    pub(super) async fn complete(&mut self) -> Result<bool> {
        match self.compute_missing().await {
            Err(error) if self.outlives(&error) => self.compute_missing().await.map(|_| true),
            done => done,
        }
    }

    async fn compute_missing(&mut self) -> Result<bool> {
        self.no_step()?;
        let recovered = self.recover().await?;
        self.tell()?;
        let last = self.tokens.len().saturating_sub(1);
        let missing = self.cached < last;
        while self.cached < last {
            let count = chunks::share(self.sizes(), last - self.cached);
            self.compute(self.cached, count).await?;
            self.log.chunk(self.cached, count);
            self.cached += count;
        }
        Ok(missing || recovered)
    }

    /// Computes keys and values of `count` tokens from number `first` on in one run.
    pub(super) async fn compute(&mut self, first: usize, count: usize) -> Result<()> {
        self.states.write(CURSOR, 0, &[first as u32, count as u32])?;
        self.prefill.run(first, count).await
    }

    /// Continues the tokens with the likeliest ones, up to `most` of them or, where the session does not slide, the end of the context.
    ///
    /// # Errors
    /// [`Error::Context`] when there is no token to continue; [`Error::Engine`] from the device.
    pub fn generate(&mut self, most: usize) -> Result<Generation<'_>> {
        self.sample(most, &Sampling::greedy())
    }

    /// Continues the tokens as `sampling` says, up to `most` of them or, where the session does not slide, the end of the context.
    ///
    /// # Errors
    /// [`Error::Sampling`] for a setting without meaning; as [`Session::generate`].
    pub fn sample(&mut self, most: usize, sampling: &Sampling) -> Result<Generation<'_>> {
        sampling.check()?;
        if self.tokens.is_empty() {
            return Err(Error::Context { tokens: 0, context: self.context });
        }
        let left = if self.slide.is_some() { most } else { most.min(self.context - self.tokens.len()) };
        let (short, under_way) = (left < most, VecDeque::with_capacity(AHEAD));
        let (sampling, dropped) = (*sampling, self.dropped);
        Ok(Generation { session: self, left, short, under_way, sampling, dropped, begun: false, log_probability: None })
    }

    /// Tells the device where the next token goes and how it is chosen.
    pub(super) fn begin(&mut self, sampling: &Sampling) -> Result<()> {
        self.tell()?;
        self.states.write(CURSOR, 0, &[self.tokens.len() as u32 - 1, 1])?;
        if !sampling.is_plain() {
            self.states.write(SAMPLING, 0, &sampling.settings().words())?;
        }
        Ok(())
    }

    fn request(&self, tokens: usize, head: Head) -> PlanRequest {
        let products = self.model.products(tokens, self.products);
        PlanRequest { context: self.context, cache: self.cache, tokens, head, products }
    }

    /// What draws tokens.
    pub(super) async fn drawing(&mut self) -> Result<Executor> {
        if let Some(executor) = &self.draw {
            return Ok(executor.clone());
        }
        let plan = self.drawing_plan()?;
        let executor = self.model.executor(plan, &self.states).await?;
        self.draw = Some(executor.clone());
        Ok(executor)
    }

    /// Waits until the prompts that were fed are computed, and gives the longest time that a submit of theirs held the device since
    /// this was last asked. `None` where nothing was measured: on the CPU executor, and where there is no clock.
    ///
    /// # Errors
    /// [`Error::Engine`] from the device.
    pub async fn longest_submit(&mut self) -> Result<Option<Duration>> {
        self.recover().await?;
        self.prefill.longest().await
    }

    /// Takes tokens away from the end, down to `length` of them. Without any left nothing counts as dropped.
    pub fn rewind(&mut self, length: usize) {
        self.tokens.truncate(length);
        self.dropped = if self.tokens.is_empty() { 0 } else { self.dropped };
        self.told = self.told.min(self.tokens.len());
        self.cached = self.cached.min(self.tokens.len().saturating_sub(1));
        self.log.keep(self.cached);
    }

    /// The logits of every token of the session, `[tokens, vocabulary]` row by row, computed anew in one go.
    ///
    /// # Errors
    /// [`Error::Engine`] from the device.
    pub async fn logits(&mut self) -> Result<Vec<f32>> {
        self.logits_from(0).await
    }

    /// The logits of the session's tokens from number `begin` on, `[tokens - begin, vocabulary]` row by row.
    ///
    /// # Errors
    /// [`Error::Engine`] from the device.
    pub async fn logits_from(&mut self, begin: usize) -> Result<Vec<f32>> {
        match self.logits_here(begin).await {
            Err(error) if self.outlives(&error) => self.logits_here(begin).await,
            logits => logits,
        }
    }

    async fn logits_here(&mut self, begin: usize) -> Result<Vec<f32>> {
        self.no_step()?;
        self.recover().await?;
        // Of a prompt that was given up, what these tokens see is missing.
        if begin > self.cached {
            self.compute_missing().await?;
        }
        let mut logits = Vec::new();
        let tokens = Decoder::CHUNK.min(self.context);
        let plan = self.model.plan(self.request(tokens, Head::Logits))?;
        let mut chunks = Chunks::new(self.model.executor(plan, &self.states).await?, self.submit_budget);
        self.tell()?;
        for first in (begin..self.tokens.len()).step_by(tokens) {
            let count = (self.tokens.len() - first).min(tokens);
            self.states.write(network::CURSOR, 0, &[first as u32, count as u32])?;
            let outputs = chunks.run(first + count).await?;
            self.log.chunk(first, count);
            let values = outputs.first().map(HostTensor::values).unwrap_or_default();
            logits.extend_from_slice(&values[..(count * self.model.config().vocabulary).min(values.len())]);
        }
        Ok(logits)
    }
}

/// Tokens under way. Dropping it stops: tokens that were not taken are forgotten.
#[derive(Debug)]
pub struct Generation<'a> {
    session: &'a mut Session,
    left: usize,
    /// Whether the context has room for fewer than were asked for.
    short: bool,
    under_way: VecDeque<Pending>,
    sampling: Sampling,
    /// Tokens that the session had dropped at the beginning.
    dropped: usize,
    /// Whether the device knows where the next token goes and how it is chosen.
    begun: bool,
    log_probability: Option<f32>,
}

impl Generation<'_> {
    /// The next token; `None` when as many as asked for have come or the context is full. When the device is lost, the session goes on
    /// on the one that takes its place, with the tokens that it would have had: in this call where the engine opens it itself, else in
    /// the first one after the host has handed it over. A future that is dropped before its end has taken no token: the next call gives
    /// the same one.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when no logit is a number; [`Error::Engine`] from the device.
    pub async fn next(&mut self) -> Result<Option<u32>> {
        match self.step().await {
            Err(error) if self.session.outlives(&error) => self.step().await,
            token => token,
        }
    }

    async fn step(&mut self) -> Result<Option<u32>> {
        if self.session.complete().await? {
            self.under_way.clear();
            self.begun = false;
        }
        if let (0, Some(sinks)) = (self.session.context - self.session.tokens.len(), self.session.slide)
            && self.left > 0
        {
            self.begun = false;
            self.session.slide(sinks, &[]).await?;
        }
        if !self.begun && self.left > 0 {
            // Draws are numbered by their place, which comes again.
            let again = (self.session.dropped - self.dropped) as u64;
            let seed = self.sampling.seed.wrapping_add(again);
            self.session.begin(&Sampling { seed, ..self.sampling })?;
            self.begun = true;
        }
        let room = self.session.context - self.session.tokens.len();
        let executor =
            if !self.sampling.is_plain() { self.session.drawing().await? } else { self.session.decode.clone() };
        let outputs = match executor {
            Executor::Gpu(plan) => {
                while self.under_way.len() < AHEAD.min(self.left).min(room) {
                    self.under_way.push_back(plan.submit(&[] as &[InputData<'_>], &[])?);
                }
                // It stays the first until it is here, for whoever drops this future and asks again.
                let Some(next) = self.under_way.front_mut() else { return Ok(None) };
                let outputs = next.take().await;
                self.under_way.pop_front();
                outputs?
            }
            other if self.left > 0 => other.run(&[]).await?,
            _ => return Ok(None),
        };
        self.left -= 1;
        self.log_probability = outputs.get(1).and_then(|tensor| tensor.values().first().copied());
        self.session.accept(&outputs).map(Some)
    }

    /// Whether the context has room for fewer tokens than were asked for.
    #[cfg(feature = "tokens")]
    pub(crate) fn is_short(&self) -> bool {
        self.short
    }

    /// The natural logarithm of the last token's probability by the model alone, before penalties, temperature and filters. `None`
    /// before the first token, and for the likeliest token unless [`Sampling::log_probabilities`] asks for it.
    pub fn log_probability(&self) -> Option<f32> {
        self.log_probability
    }
}
