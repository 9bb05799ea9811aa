//! A run in somebody else's encoder: recorded between a host's own passes, submitted by the host, its result some frames later.

use super::allocate::Wanted;
use super::arrival::{Arrival, Hears, Signal};
use super::compiled::Inner;
use super::few::Few;
use super::memory::Held;
use super::poll::Letterbox;
use super::run::{INPUTS, read_outputs};
use super::scope::{Refusal, unmap};
use super::{GpuPlan, InputData};
use crate::plan::{Plan, PlanBytes};
use crate::{Error, Result};
use lampyris_shaders::{Desc, HostTensor};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

/// Recorded runs of a plan that may be under way together; their results lie in as many buffers.
const SLOTS: usize = 4;

/// Bytes of the number at the end of each of a slot's buffers.
const STAMP: u64 = 4;

/// The places in which the inputs and results of recorded runs lie while the device has them.
#[derive(Debug, Default)]
pub(super) struct Ring {
    free: Vec<Slot>,
    made: usize,
    /// The number of the run recorded last.
    stamp: u32,
}

/// The buffers of one recorded run. Both end in the run's stamp, which the device copies from the one to the other: a result that
/// lacks it was mapped although its commands never ran.
#[derive(Debug)]
struct Slot {
    inputs: wgpu::Buffer,
    result: wgpu::Buffer,
    _held: Held,
}

/// A slot that a run has taken, given back once neither the device nor the caller can reach it any more.
///
/// The plan is referred to weakly: what is under way is held by the queue, which the plan holds, and a host that lets go of all and
/// polls no more would never be rid of either.
#[derive(Debug)]
pub(super) struct Lease {
    plan: Weak<Inner>,
    slot: Option<Slot>,
    mapped: AtomicBool,
    stamp: u32,
}

impl Lease {
    fn slot(&self) -> Result<&Slot> {
        self.slot.as_ref().ok_or(Error::Taken)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let (Some(slot), Some(plan)) = (self.slot.take(), self.plan.upgrade()) {
            if self.mapped.load(Ordering::Acquire) {
                unmap(plan.gpu.device(), &slot.result);
            }
            lock(&plan.ring).free.push(slot);
        }
    }
}

/// What the commands of a recorded run share with whoever waits for its result: the slots of its plans, its own last, and what has become
/// of them.
#[derive(Debug)]
struct Run {
    leases: Few<Lease>,
    arrived: Letterbox<Arrival>,
}

/// What a host's encoder holds of a run.
struct Commands(Arc<Run>);

impl Hears for Commands {
    fn hear(&self, arrival: Arrival) {
        if arrival == Arrival::Mapped
            && let Some(last) = self.0.leases.last()
        {
            last.mapped.store(true, Ordering::Release);
        }
        self.0.arrived.put(arrival);
    }
}

/// A recorded run. Dropping it drops the result, not the commands.
#[derive(Debug)]
#[must_use = "the result is dropped with it"]
pub struct Recorded {
    plan: GpuPlan,
    run: Option<Arc<Run>>,
    /// What the driver says of textures, where it says it late.
    refusal: Option<Refusal>,
}

impl Plan {
    /// Bytes of the buffers in which the inputs and results of its recorded runs lie, when as many as may be are under way. They are made
    /// with the runs, and are not part of [`Plan::bytes`].
    pub fn recorded_bytes(&self) -> u64 {
        let results: u64 = self.outputs.iter().map(|(_, id)| self.tensor(*id).desc.bytes()).sum();
        SLOTS as u64 * (self.staged_bytes() + results + 2 * STAMP)
    }

    /// Bytes of the inputs that come as words.
    fn staged_bytes(&self) -> u64 {
        let inputs = self.inputs.iter().map(|id| &self.tensor(*id).desc);
        inputs.filter(|desc| !desc.format.is_texture()).map(Desc::bytes).sum()
    }
}

impl GpuPlan {
    /// Records the plan into a host's encoder: copies of the inputs, one compute pass, a copy of the outputs. The plans of `before`, with
    /// their inputs, run first in the same pass. Everything is checked before the first command, so that the host's `finish` cannot
    /// fail because of it. The result can be had once the host has submitted the encoder and the device is done.
    ///
    /// Runs of one plan may be recorded several times a frame, and into several encoders; each has its own inputs and results.
    ///
    /// # Errors
    /// [`Error::Busy`] when four recorded runs of the plan are under way, which each is until its result was taken or dropped and its commands
    /// have run or are dropped; [`Error::Input`] when the inputs are not the plan's, or one is a
    /// buffer that cannot be copied from;
    /// [`Error::Texture`] when one is a texture that cannot be read on this device; [`Error::Budget`], [`Error::OutOfMemory`] when
    /// there is no room for a result or for the words of the inputs; [`Error::DeviceLost`] when the device is gone.
    pub fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        inputs: &[InputData<'_>],
        before: &[(&GpuPlan, &[InputData<'_>])],
    ) -> Result<Recorded> {
        let gpu = &self.inner.gpu;
        gpu.check_alive()?;
        let (Some(device), Some(queue)) = (gpu.device(), gpu.queue()) else {
            return Err(Error::NoDevice { adapter: gpu.summary().name.clone(), reason: "no queue".to_owned() });
        };
        let chain = || before.iter().copied().chain([(self, inputs)]);
        let mut foreign = false;
        for (plan, inputs) in chain() {
            foreign |= plan.check_inputs(inputs)?;
        }
        let bind = || chain().map(|(plan, inputs)| plan.bind_textures(device, inputs)).collect::<Result<Few<_>>>();
        let (bound, refusal, leases) = gpu.hearing(device, INPUTS, || {
            let (bound, refusal) = gpu.binding(device, foreign, bind)?;
            let leases = chain().map(|(plan, _)| plan.lease(device)).collect::<Result<Few<_>>>()?;
            chain().zip(leases.iter()).try_for_each(|((plan, inputs), lease)| plan.stage(queue, inputs, lease))?;
            if let Some(lease) = leases.last() {
                let to = (&lease.slot()?.inputs, self.staged_bytes());
                gpu.write(queue, INPUTS, to, &lease.stamp.to_le_bytes())?;
            }
            Ok((bound, refusal, leases))
        })?;
        for ((plan, inputs), lease) in chain().zip(leases.iter()) {
            plan.copy_inputs(encoder, inputs, lease)?;
        }
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("lampyris.recorded"),
                timestamp_writes: None,
            });
            for ((plan, _), bound) in chain().zip(bound.iter()) {
                for at in 0..plan.inner.dispatches.len() {
                    plan.encode_step(&mut pass, at, bound);
                }
            }
        }
        let run = Arc::new(Run { leases, arrived: Letterbox::new() });
        if let Some(lease) = run.leases.last() {
            let slot = lease.slot()?;
            let (from, to) = (self.staged_bytes(), self.inner.result_bytes);
            self.encode_result(encoder, &slot.result);
            encoder.copy_buffer_to_buffer(&slot.inputs, from, &slot.result, to, STAMP);
            let signal = Signal::new(Commands(run.clone()));
            encoder.map_buffer_on_submit(&slot.result, wgpu::MapMode::Read, .., move |mapped| {
                signal.tell(mapped.is_ok());
            });
        }
        Ok(Recorded { plan: self.clone(), run: Some(run), refusal })
    }

    /// Where an output lies on the device, for a host's own shader to bind: the buffer, the offset and the length in bytes. What it holds
    /// is the result of the run of this plan that was submitted last; it must be read only.
    ///
    /// # Errors
    /// [`Error::Input`] when the plan has no output of that name.
    pub fn output_buffer(&self, name: &str) -> Result<(&wgpu::Buffer, u64, u64)> {
        let plan = &self.inner.plan;
        let named = plan.outputs.iter().find(|(known, _)| known == name).map(|(_, id)| *id);
        let region = named.and_then(|id| self.inner.regions[id.0].as_ref());
        let unknown = || {
            let names: Vec<&str> = plan.outputs.iter().map(|(name, _)| name.as_str()).collect();
            Error::Input {
                name: name.to_owned(),
                expected: format!("one of {}", names.join(", ")),
                found: "nothing".to_owned(),
            }
        };
        region.map(|region| (&region.buffer, region.offset, region.bytes)).ok_or_else(unknown)
    }

    /// As [`GpuPlan::output_buffer`], for an input of the plan's last step, by its position: nothing has written there since it was read, unless the step
    /// writes over it.
    ///
    /// # Errors
    /// [`Error::Input`] when the last step has no such input, or it is a texture.
    pub fn buffer_before_end(&self, position: usize) -> Result<(&wgpu::Buffer, u64, u64)> {
        let last = self.inner.plan.steps.last();
        let id = last.and_then(|step| step.inputs.get(position));
        let region = id.and_then(|id| self.inner.regions[id.0].as_ref());
        region.map(|region| (&region.buffer, region.offset, region.bytes)).ok_or_else(|| Error::Input {
            name: last.map(|step| step.name.clone()).unwrap_or_default(),
            expected: "the position of an input that lies in a buffer".to_owned(),
            found: position.to_string(),
        })
    }

    /// Bytes of the inputs that come as words.
    pub(super) fn staged_bytes(&self) -> u64 {
        self.inner.plan.staged_bytes()
    }

    /// Takes a slot of the ring, which is made where there is none yet.
    pub(super) fn lease(&self, device: &wgpu::Device) -> Result<Lease> {
        let gpu = &self.inner.gpu;
        // A run whose inputs lie where the plan reads them is submitted when the first slot is made, and none comes after.
        let first = lock(&self.inner.ring).made == 0;
        let alone = first.then(|| gpu.submitting());
        let (free, stamp) = {
            let mut ring = lock(&self.inner.ring);
            ring.stamp = ring.stamp.wrapping_add(1).max(1);
            match ring.free.pop() {
                None if ring.made == SLOTS => return Err(Error::Busy { runs: SLOTS }),
                None => {
                    ring.made += 1;
                    (None, ring.stamp)
                }
                free => (free, ring.stamp),
            }
        };
        drop(alone);
        let lease =
            |slot| Lease { plan: Arc::downgrade(&self.inner), slot: Some(slot), mapped: AtomicBool::new(false), stamp };
        match free {
            Some(slot) => Ok(lease(slot)),
            None => self
                .slot(device)
                .map(lease)
                .inspect_err(|_| lock(&self.inner.ring).made -= 1)
                .map_err(|error| gpu.check_alive().err().unwrap_or(error)),
        }
    }

    /// Whether runs of it were ever recorded.
    pub(super) fn is_recorded(&self) -> bool {
        lock(&self.inner.ring).made > 0
    }

    fn slot(&self, device: &wgpu::Device) -> Result<Slot> {
        let gpu = &self.inner.gpu;
        let [inputs, result] = [self.staged_bytes() + STAMP, self.inner.result_bytes + STAMP];
        let bytes = PlanBytes { weights: 0, activations: inputs + result, states: 0, params: 0 };
        let held = gpu.account().take(bytes)?;
        let buffer = |label: &str, size: u64, usage: wgpu::BufferUsages| {
            let usage = usage | wgpu::BufferUsages::COPY_DST;
            gpu.buffer_at_once(device, "making room for a recorded run", Wanted { label, size, usage })
        };
        let inputs = buffer("lampyris.recorded.inputs", inputs, wgpu::BufferUsages::COPY_SRC)?;
        let result = buffer("lampyris.recorded.result", result, wgpu::BufferUsages::MAP_READ)?;
        Ok(Slot { inputs, result, _held: held })
    }

    /// Hands the words of the inputs to the queue, which writes them before the host's next submit. Within [`super::Gpu::hearing`].
    pub(super) fn stage(&self, queue: &wgpu::Queue, inputs: &[InputData<'_>], lease: &Lease) -> Result<()> {
        let (slot, mut at) = (lease.slot()?, 0);
        for (id, input) in self.inner.plan.inputs.iter().zip(inputs) {
            if self.inner.regions[id.0].is_some() {
                if let Some(bytes) = input.bytes() {
                    self.inner.gpu.write(queue, INPUTS, (&slot.inputs, at), bytes)?;
                }
                at += self.inner.plan.tensor(*id).desc.bytes();
            }
        }
        Ok(())
    }

    /// Copies the inputs that are words to where the plan reads them.
    pub(super) fn copy_inputs(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        inputs: &[InputData<'_>],
        lease: &Lease,
    ) -> Result<()> {
        let (slot, mut at) = (lease.slot()?, 0);
        for (id, input) in self.inner.plan.inputs.iter().zip(inputs) {
            let Some(region) = &self.inner.regions[id.0] else { continue };
            let bytes = self.inner.plan.tensor(*id).desc.bytes();
            if input.bytes().is_some() && bytes > 0 {
                encoder.copy_buffer_to_buffer(&slot.inputs, at, &region.buffer, region.offset, bytes);
            }
            at += bytes;
        }
        self.copy_lent(encoder, inputs);
        Ok(())
    }
}

impl Recorded {
    /// The outputs, in the plan's order, if they have arrived; `None` while they have not. Never waits;
    /// [`Gpu::pump`](super::Gpu::pump) makes progress.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when the commands were dropped or never ran; [`Error::DeviceLost`] when the device is gone;
    /// [`Error::Texture`] when the driver refused a texture; [`Error::Taken`] after the result was given, or an error.
    pub fn try_take(&mut self) -> Result<Option<Vec<HostTensor>>> {
        match self.poll_take(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// The outputs, in the plan's order, once they have arrived. Never blocks a thread.
    ///
    /// # Errors
    /// As [`Recorded::try_take`].
    pub async fn wait(mut self) -> Result<Vec<HostTensor>> {
        std::future::poll_fn(|context| {
            self.plan.gpu().pump();
            self.poll_take(context)
        })
        .await
    }

    /// As [`Recorded::try_take`], and the waker of `context` is called once there is something to take; on native targets also by a poll of the device
    /// that finds nothing yet, and only as long as somebody polls it, as [`super::Gpu::pump`] does.
    ///
    /// # Errors
    /// As [`Recorded::try_take`].
    pub fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<HostTensor>>> {
        let Some(run) = &self.run else { return Poll::Ready(Err(Error::Taken)) };
        let gpu = self.plan.gpu();
        if let Some(refusal) = &self.refusal {
            match refusal.poll(context) {
                Poll::Ready(None) => self.refusal = None,
                Poll::Ready(Some(words)) => {
                    self.run = None;
                    return Poll::Ready(Err(gpu.foreign_texture(&words)));
                }
                Poll::Pending => {}
            }
        }
        let done = match run.arrived.poll(context) {
            Some(Arrival::Mapped) => run.leases.last().map_or(Err(Error::Taken), |lease| lease.read(&self.plan)),
            Some(Arrival::Failed | Arrival::Dropped) => {
                gpu.note_if_lost();
                Err(gpu.check_alive().err().unwrap_or(Error::Cancelled))
            }
            None => match gpu.check_alive() {
                Ok(()) => return Poll::Pending,
                Err(lost) => Err(lost),
            },
        };
        self.run = None;
        Poll::Ready(done)
    }
}

impl Lease {
    /// The outputs of a result of `plan`, whose lease it is, that is mapped.
    fn read(&self, plan: &GpuPlan) -> Result<Vec<HostTensor>> {
        let (inner, slot) = (&plan.inner, self.slot()?);
        let lost = || inner.gpu.lost("a result could not be read back");
        let view = slot.result.get_mapped_range(..).map_err(|_| lost())?;
        let stamp = view.get(inner.result_bytes as usize..).ok_or_else(lost)?;
        if stamp != self.stamp.to_le_bytes() {
            return Err(Error::Cancelled);
        }
        let mut outputs = Vec::with_capacity(inner.plan.outputs.len());
        read_outputs(&inner.plan, &view, &mut outputs).ok_or_else(lost)?;
        Ok(outputs)
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}
