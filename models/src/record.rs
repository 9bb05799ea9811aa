//! A classifier in a host's frame: its dispatches between the host's own passes, its answer some frames later.

use crate::mobilenet::Pixels;
use crate::{Answer, Classifier, Error, Input, Result};
use lampyris_engine::gpu::{Buffer, CommandEncoder, GpuPlan, InputData, Recorded};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A picture that is being classified in a host's frame. Dropping it drops the answer, not the commands.
#[derive(Debug)]
#[must_use = "the answer is dropped with it"]
pub struct Seen {
    classifier: Classifier,
    recorded: Recorded,
}

impl Seen {
    /// The answer, if it has arrived; `None` while it has not. Never waits: call [`Gpu::pump`](lampyris_engine::Gpu::pump) once a
    /// frame, which lets it arrive.
    ///
    /// # Errors
    /// [`Error::Engine`] with `Cancelled` when the host dropped the encoder, `DeviceLost` when the device is gone, `Taken` after the
    /// answer was given.
    pub fn try_take(&mut self) -> Result<Option<Answer>> {
        match self.recorded.try_take()? {
            Some(outputs) => self.classifier.answer(&outputs).map(Some),
            None => Ok(None),
        }
    }

    /// The answer, once it has arrived. Never blocks a thread.
    ///
    /// # Errors
    /// As [`Seen::try_take`].
    pub async fn wait(self) -> Result<Answer> {
        let outputs = self.recorded.wait().await?;
        self.classifier.answer(&outputs)
    }
}

impl Classifier {
    /// Makes what [`Classifier::record`] needs for pictures of this kind and size, so that the first frame with one does not have to.
    ///
    /// # Errors
    /// As [`Classifier::classify`].
    pub async fn ready<'a>(&self, input: impl Into<Input<'a>>) -> Result<()> {
        let input = input.into();
        let (kind, _) = self.fitted(&self.picture(&input)?)?;
        let numbered = self.numbered(1, Pixels::Rgba8).await?;
        let plan = self.device_plan(&numbered.executor)?;
        self.preparing(&kind, (plan, numbered.number), (1, 0)).await.map(|_| ())
    }

    /// Records the classification of a picture into a host's encoder: the dispatches run where the encoder is submitted, among the
    /// host's own passes, and the answer arrives some frames later. Everything is checked before the first command, and nothing waits.
    ///
    /// # Errors
    /// As [`Classifier::classify`]; [`Error::Engine`] with `Busy` when four recorded pictures are under way, whose answers were neither taken nor
    /// dropped, `NoCommands` on the CPU executor; [`Error::NotReady`] in browsers for a size of picture that [`Classifier::ready`] has not seen, and after
    /// a loss where what goes to the next device cannot be there at once.
    pub fn record<'a>(&self, encoder: &mut CommandEncoder, input: impl Into<Input<'a>>) -> Result<Seen> {
        // Whose encoder it is nobody can ask; one of a lost device is not answered with commands for another.
        self.gpu().current().check_alive()?;
        let input = input.into();
        let picture = self.picture(&input)?;
        let (kind, bytes) = self.fitted(&picture)?;
        let numbered = at_once(self.numbered(1, Pixels::Rgba8))?;
        let plan = self.device_plan(&numbered.executor)?;
        let preparing = at_once(self.preparing(&kind, (plan, numbered.number), (1, 0)))?;
        let data = picture.data(&kind, bytes.as_deref());
        let recorded = plan.record(encoder, &[InputData::Bound], &[(&preparing, &*data)])?;
        Ok(Seen { classifier: self.clone(), recorded })
    }

    /// Where the probabilities of the picture recorded or classified last lie on the device, one f32 a class and zeros up to a
    /// multiple of four: the buffer, the offset and the length in bytes, for a host's own shader to read. They need not come back to be shown. It stays
    /// the same buffer until the device is lost. What a [`Watching`](crate::Watching) saw is not there: it has temporaries of its own.
    ///
    /// # Errors
    /// [`Error::Engine`] with `NoCommands` on the CPU executor.
    pub fn probabilities_buffer(&self) -> Result<(Buffer, u64, u64)> {
        let numbered = at_once(self.numbered(1, Pixels::Rgba8))?;
        self.lend(&numbered);
        let (buffer, offset, bytes) = self.device_plan(&numbered.executor)?.output_buffer("probabilities")?;
        Ok((buffer.clone(), offset, bytes))
    }

    pub(crate) fn answer(&self, outputs: &[lampyris_engine::kernels::HostTensor]) -> Result<Answer> {
        self.answers(outputs, 1)?.pop().ok_or_else(|| self.no_answer(1, 0))
    }

    pub(crate) fn device_plan<'a>(&self, executor: &'a lampyris_engine::Executor) -> Result<&'a GpuPlan> {
        let adapter = || self.gpu().summary().name.clone();
        executor.gpu_plan().map_err(|_| Error::Engine(lampyris_engine::Error::NoCommands { adapter: adapter() }))
    }
}

/// What a future gives that has nothing to wait for, which is so wherever the driver answers at once: everywhere but in browsers.
pub(crate) fn at_once<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(made) => made,
        Poll::Pending => Err(Error::NotReady),
    }
}
