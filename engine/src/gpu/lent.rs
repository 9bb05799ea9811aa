//! Inputs that lie in a host's own buffer: checked when a run is given one, and copied to where the plan reads them by the run's commands.

#[cfg(not(target_arch = "wasm32"))]
use super::compiled::Region;
use super::scope::Refusal;
use super::{GpuPlan, InputData};
#[cfg(not(target_arch = "wasm32"))]
use crate::Error;
use crate::Result;
#[cfg(not(target_arch = "wasm32"))]
use crate::plan::PlanTensor;
#[cfg(not(target_arch = "wasm32"))]
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(not(target_arch = "wasm32"))]
use std::task::{Context, Poll, Waker};

impl GpuPlan {
    /// Copies the inputs that lie in buffers of a host's to where the plan reads them.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn copy_lent(&self, encoder: &mut wgpu::CommandEncoder, inputs: &[InputData<'_>]) {
        for (id, input) in self.inner.plan.inputs.iter().zip(inputs) {
            let bytes = self.inner.plan.tensor(*id).desc.bytes();
            if let (InputData::Buffer(buffer, at), Some(region)) = (input, &self.inner.regions[id.0])
                && bytes > 0
            {
                encoder.copy_buffer_to_buffer(buffer, *at, &region.buffer, region.offset, bytes);
            }
        }
    }

    /// In browsers there are none.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn copy_lent(&self, _encoder: &mut wgpu::CommandEncoder, _inputs: &[InputData<'_>]) {}

    /// Refuses a buffer that a run could not copy from. Whose it is the driver alone knows: commands are asked that nobody submits, for those of
    /// the host must not fail because of it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn check_lent(
        &self,
        (buffer, at): (&wgpu::Buffer, u64),
        to: &Region,
        tensor: &PlanTensor,
    ) -> Result<()> {
        let bytes = tensor.desc.bytes();
        let refuse = |found: String| Err(refused(tensor, found));
        if !at.is_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT) {
            return refuse(format!("a buffer from byte {at} on, which is no multiple of four"));
        }
        if buffer.size().checked_sub(at).is_none_or(|left| left < bytes) {
            return refuse(format!("{} bytes of a buffer, from byte {at} on", buffer.size().saturating_sub(at)));
        }
        if !buffer.usage().contains(wgpu::BufferUsages::COPY_SRC) {
            return refuse("a buffer without COPY_SRC usage".to_owned());
        }
        let (Some(device), true) = (self.inner.gpu.device(), bytes > 0) else { return Ok(()) };
        let trial = || {
            let descriptor = wgpu::CommandEncoderDescriptor { label: Some("lampyris.trial") };
            let mut encoder = device.create_command_encoder(&descriptor);
            encoder.copy_buffer_to_buffer(buffer, at, &to.buffer, to.offset, bytes);
            drop(encoder.finish());
        };
        // wgpu unwinds when it is given a buffer of another instance, which it cannot look up.
        let (tried, refusal) = Refusal::of(device, || catch_unwind(AssertUnwindSafe(trial)));
        if tried.is_err() {
            return refuse("a buffer of another wgpu instance".to_owned());
        }
        known(&refusal).map_or(Ok(()), refuse)
    }

    /// Refuses a buffer that was destroyed, of which wgpu tells with the submit of its copy.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn check_lent_living(&self, inputs: &[InputData<'_>], refusal: &Refusal) -> Result<()> {
        let plan = &self.inner.plan;
        if inputs.iter().any(|input| matches!(input, InputData::Texture(..))) {
            return Ok(()); // It may be the texture that was refused, of which the run's result tells.
        }
        let lent = inputs.iter().position(|input| matches!(input, InputData::Buffer(..)));
        match lent.and_then(|at| Some((plan.tensor(*plan.inputs.get(at)?), known(refusal)?))) {
            Some((tensor, found)) => Err(refused(tensor, found)),
            None => Ok(()),
        }
    }

    /// In browsers there are none.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn check_lent_living(&self, _inputs: &[InputData<'_>], _refusal: &Refusal) -> Result<()> {
        Ok(())
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn refused(tensor: &PlanTensor, found: String) -> Error {
    Error::Input { name: tensor.name.clone(), expected: tensor.desc.to_string(), found }
}

/// What a driver that answers at once has said.
#[cfg(not(target_arch = "wasm32"))]
fn known(refusal: &Refusal) -> Option<String> {
    match refusal.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(words)) => {
            Some(format!("a buffer that is refused ({})", words.lines().next_back().unwrap_or(&words).trim()))
        }
        _ => None,
    }
}
