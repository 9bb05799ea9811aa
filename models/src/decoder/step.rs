//! One token of a session in a host's frame: its dispatches between the host's own passes, the token some frames later.

use super::Sampling;
use super::session::Session;
use crate::record::at_once;
use crate::{Error, Result};
use lampyris_engine::Executor;
use lampyris_engine::gpu::{Buffer, CommandEncoder, GpuPlan, Recorded};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// A token that is under way in a host's frame, and how many tokens stand before it.
#[derive(Debug)]
pub(super) struct Step {
    recorded: Recorded,
    at: usize,
}

/// Where a recorded token lies on the device once the commands have run: buffer, offset and length in bytes, for shaders and copies of the
/// host that follow in the same submit. The session's next run puts another there, and they belong to the device that was recorded for.
/// They must be read only.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StepBuffers {
    /// The token, one u32; [`u32::MAX`] when no logit is a number.
    pub token: (Buffer, u64, u64),
    /// The logits that it was chosen by, one f32 for each token of the vocabulary, before penalties, temperature and filters.
    pub logits: (Buffer, u64, u64),
}

impl StepBuffers {
    /// Of a plan that ends in the choice of a token, whose first input are the logits.
    fn of(plan: &GpuPlan) -> Result<StepBuffers> {
        let [token, logits] = [plan.output_buffer("token")?, plan.buffer_before_end(0)?]
            .map(|(buffer, offset, bytes)| (buffer.clone(), offset, bytes));
        Ok(StepBuffers { token, logits })
    }
}

impl Session {
    /// Makes what [`Session::record_step`] needs, so that no frame has to: what draws tokens, what is missing of a prompt that was given up, and, where
    /// the device is lost and replaced, the session on the next one, as [`Session::recover`] does.
    ///
    /// # Errors
    /// [`Error::Engine`] from the device.
    pub async fn ready_to_step(&mut self, sampling: &Sampling) -> Result<()> {
        self.complete().await?;
        if !sampling.is_plain() {
            self.drawing().await?;
        }
        Ok(())
    }

    /// Records the next token into a host's encoder, as `sampling` says: the dispatches run where the encoder is submitted, and
    /// [`Session::try_step`] gives the token some frames later, the very one that [`Session::sample`] would have given. Everything is checked
    /// before the first command, and nothing waits. One token of a session is under way at a time: the session has it, and moves on, only
    /// once it was taken; commands that are dropped move nothing. What it gives says where token and logits lie on the device, for commands
    /// of the host that follow.
    ///
    /// # Errors
    /// [`Error::Engine`] with `Busy` when the token before has not arrived (one that has and was not taken is forgotten), `NoCommands` on the
    /// CPU executor, `DeviceLost` when the device is gone, also where another has taken its place ([`Session::recover`] goes there);
    /// [`Error::NotReady`] while a prompt is not computed whole, and in browsers when [`Session::ready_to_step`] was not awaited;
    /// [`Error::Context`] when there is no token to continue or no room for one; [`Error::Sampling`] for a setting without meaning.
    pub fn record_step(&mut self, encoder: &mut CommandEncoder, sampling: &Sampling) -> Result<StepBuffers> {
        sampling.check()?;
        self.states().gpu().check_alive()?;
        self.no_step()?;
        let (tokens, context) = (self.tokens().len(), self.context());
        if tokens == 0 || tokens >= context {
            return Err(Error::Context { tokens: if tokens == 0 { 0 } else { tokens + 1 }, context });
        }
        if self.cached() + 1 < tokens {
            return Err(Error::NotReady);
        }
        let executor = if sampling.is_plain() { self.decoding() } else { at_once(self.drawing())? };
        let Executor::Gpu(plan) = executor else {
            let adapter = self.model().gpu().summary().name.clone();
            return Err(Error::Engine(lampyris_engine::Error::NoCommands { adapter }));
        };
        let buffers = StepBuffers::of(&plan)?;
        // The queue writes it before the next submit, whosever that is; where it cannot, nothing must be recorded.
        self.begin(sampling)?;
        let recorded = plan.record(encoder, &[], &[])?;
        self.step = Some(Step { recorded, at: tokens });
        Ok(buffers)
    }

    /// The token that was recorded, if it has arrived; `None` while it has not, and when there is none. Never waits: call
    /// [`Gpu::pump`](lampyris_engine::Gpu::pump) once a frame, which lets it arrive.
    ///
    /// # Errors
    /// [`Error::Engine`] with `Cancelled` when the host dropped the encoder, or the session was rewound meanwhile, `DeviceLost` when the device
    /// is gone; [`Error::NotFinite`] when no logit is a number. After any of them the next token can be recorded.
    pub fn try_step(&mut self) -> Result<Option<u32>> {
        match self.poll_step(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => Ok(None),
        }
    }

    /// The token that was recorded, once it has arrived; `None` when none was. Never blocks a thread. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Session::try_step`].
    pub async fn step_token(&mut self) -> Result<Option<u32>> {
        poll_fn(|context| {
            self.model().gpu().pump();
            self.poll_step(context)
        })
        .await
    }

    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<u32>>> {
        let Some(step) = &mut self.step else { return Poll::Ready(Ok(None)) };
        let Poll::Ready(outputs) = step.recorded.poll_take(context) else { return Poll::Pending };
        let at = self.step.take().map_or(0, |step| step.at);
        let outputs = outputs?;
        if at != self.tokens().len() || self.cached() + 1 != at {
            return Poll::Ready(Err(Error::Engine(lampyris_engine::Error::Cancelled)));
        }
        Poll::Ready(self.accept(&outputs).map(Some))
    }

    /// Refuses what would come between a recorded token and its run. One that has arrived and was not taken is forgotten.
    pub(super) fn no_step(&mut self) -> Result<()> {
        let under_way = |step: &mut Step| matches!(step.recorded.try_take(), Ok(None));
        if self.step.as_mut().is_some_and(under_way) {
            return Err(Error::Engine(lampyris_engine::Error::Busy { runs: 1 }));
        }
        self.step = None;
        Ok(())
    }
}
