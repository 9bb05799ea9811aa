//! A vector in a host's frame: its dispatches between the host's own passes, its values some frames later, or never off the device.

use super::TokenEncoder;
use super::model::request;
use crate::record::at_once;
use crate::{Error, Result};
use lampyris_engine::gpu::{Buffer, CommandEncoder, GpuPlan, InputData, Recorded};
use lampyris_engine::kernels::HostTensor;

/// A vector that is being computed in a host's frame. Dropping it drops the values, not the commands.
#[derive(Debug)]
#[must_use = "the vector is dropped with it"]
pub struct Embedding {
    encoder: TokenEncoder,
    plan: GpuPlan,
    recorded: Recorded,
}

impl TokenEncoder {
    /// Makes what [`TokenEncoder::record`] needs for a sequence of so many tokens, so that the first frame with one does not have to.
    ///
    /// # Errors
    /// [`Error::Engine`] from the device.
    pub async fn ready(&self, tokens: usize) -> Result<()> {
        self.executor(request(tokens)).await.map(|_| ())
    }

    /// Records the embedding of one sequence into a host's encoder: the dispatches run where the encoder is submitted, among the host's own
    /// passes. Everything is checked before the first command, and nothing waits.
    ///
    /// # Errors
    /// [`Error::Context`] and [`Error::Token`] as [`TokenEncoder::embed`]; [`Error::Engine`] with `Busy` when four recorded sequences of
    /// about this length are under way, whose vectors were neither taken nor dropped, `NoCommands` on the CPU executor, `DeviceLost` when the
    /// device is gone; [`Error::NotReady`] in browsers for a length that [`TokenEncoder::ready`] has not seen, and after a loss
    /// where what goes to the next device cannot be there at once.
    pub fn record(&self, encoder: &mut CommandEncoder, sequence: &[u32]) -> Result<Embedding> {
        // Whose encoder it is nobody can ask; one of a lost device is not answered with commands for another.
        self.gpu().current().check_alive()?;
        self.config().check(sequence)?;
        let request = request(sequence.len());
        let executor = at_once(self.executor(request))?;
        let adapter = || self.gpu().summary().name.clone();
        let plan = executor.gpu_plan();
        let plan = plan.map_err(|_| Error::Engine(lampyris_engine::Error::NoCommands { adapter: adapter() }))?.clone();
        let recorded =
            self.with_inputs(sequence, request, |inputs| plan.record(encoder, &inputs.map(InputData::Words), &[]))?;
        Ok(Embedding { encoder: self.clone(), plan, recorded })
    }
}

impl Embedding {
    /// The vector, if it has arrived; `None` while it has not. Never waits: call [`Gpu::pump`](lampyris_engine::Gpu::pump) once a frame,
    /// which lets it arrive.
    ///
    /// # Errors
    /// [`Error::Engine`] with `Cancelled` when the host dropped the encoder, `DeviceLost` when the device is gone, `Taken` after the
    /// vector was given; [`Error::NotFinite`] when it has values that are no numbers.
    pub fn try_take(&mut self) -> Result<Option<Vec<f32>>> {
        match self.recorded.try_take()? {
            Some(outputs) => self.encoder.first(&outputs).map(Some),
            None => Ok(None),
        }
    }

    /// The vector, once it has arrived. Never blocks a thread.
    ///
    /// # Errors
    /// As [`Embedding::try_take`].
    pub async fn wait(self) -> Result<Vec<f32>> {
        let Embedding { encoder, recorded, .. } = self;
        encoder.first(&recorded.wait().await?)
    }

    /// Where the vector lies on the device once the commands have run, one f32 a value: the buffer, the offset and the length in bytes, for
    /// commands of the host that follow in the same submit. The next run of about the same length puts another there. It must be read only.
    ///
    /// # Errors
    /// [`Error::Engine`] where the plan has no such output, which it always has.
    pub fn buffer(&self) -> Result<(Buffer, u64, u64)> {
        let name = self.plan.plan().outputs.first().map_or("", |(name, _)| name.as_str());
        let (buffer, offset, _) = self.plan.output_buffer(name)?;
        Ok((buffer.clone(), offset, 4 * self.encoder.dimension() as u64))
    }
}

impl TokenEncoder {
    fn first(&self, outputs: &[HostTensor]) -> Result<Vec<f32>> {
        let mut found = Vec::with_capacity(1);
        self.take(outputs, 1, &mut found)?;
        found.pop().ok_or_else(|| Error::NotFinite { network: self.config().model_type.clone() })
    }
}
