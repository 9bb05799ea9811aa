//! Inputs of submitted runs of a plan that a host records too. The host may submit a recorded run between our writing of inputs and our
//! submission, and no lock of ours can keep it out; so these inputs lie apart until our own commands copy them to where the plan reads them.

use super::allocate::Wanted;
use super::memory::Held;
use super::run::INPUTS;
use super::{GpuPlan, InputData};
use crate::Result;
use crate::plan::PlanBytes;

/// Where the inputs of submitted runs lie until they run.
#[derive(Debug)]
pub(super) struct Apart {
    inputs: wgpu::Buffer,
    _held: Held,
}

impl GpuPlan {
    /// Hands the inputs of a submitted run to the queue: to where the plan reads them, or apart from there once the plan has recorded runs
    /// too. [`super::Gpu::submitting`] must be held from here to the submission.
    pub(super) fn hand_over(&self, device: &wgpu::Device, queue: &wgpu::Queue, inputs: &[InputData<'_>]) -> Result<()> {
        if self.written(inputs).next().is_none() {
            return Ok(());
        }
        // What lies apart once is copied from there ever after.
        if !self.is_recorded() && self.inner.apart.get().is_none() {
            return self.write_inputs(device, queue, inputs);
        }
        let apart = match self.inner.apart.get() {
            Some(apart) => apart,
            None => {
                let made = self.make_apart(device)?;
                self.inner.apart.get_or_init(|| made)
            }
        };
        let gpu = &self.inner.gpu;
        gpu.hearing(device, INPUTS, || {
            let mut at = 0;
            for (_, bytes) in self.written(inputs) {
                gpu.write(queue, INPUTS, (&apart.inputs, at), bytes)?;
                at += bytes.len() as u64;
            }
            Ok(())
        })
    }

    /// Copies what [`GpuPlan::hand_over`] has put apart.
    pub(super) fn copy_handed_over(&self, encoder: &mut wgpu::CommandEncoder, inputs: &[InputData<'_>]) {
        let Some(apart) = self.inner.apart.get() else { return };
        let mut at = 0;
        for (region, bytes) in self.written(inputs).filter(|(_, bytes)| !bytes.is_empty()) {
            let bytes = bytes.len() as u64;
            encoder.copy_buffer_to_buffer(&apart.inputs, at, &region.buffer, region.offset, bytes);
            at += bytes;
        }
    }

    fn make_apart(&self, device: &wgpu::Device) -> Result<Apart> {
        let (gpu, size) = (&self.inner.gpu, self.staged_bytes().max(4));
        let bytes = PlanBytes { weights: 0, activations: size, states: 0, params: 0 };
        let held = gpu.account().take(bytes)?;
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let wanted = Wanted { label: "lampyris.submitted.inputs", size, usage };
        let inputs = gpu.buffer_at_once(device, "making room for the inputs of a run", wanted)?;
        Ok(Apart { inputs, _held: held })
    }
}
