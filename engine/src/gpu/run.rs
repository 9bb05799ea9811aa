//! A run of a plan on a device: one encoder, one pass, one submit, and a result that arrives without anybody waiting.

use super::allocate::Wanted;
use super::compiled::{Region, bind};
use super::few::Few;
use super::pieces::Pieces;
use super::poll::Mailbox;
use super::scope::{Refusal, unmap};
use super::timer::Timer;
use super::{Gpu, GpuPlan};
use crate::plan::Plan;
use crate::{Error, Result};
use lampyris_shaders::HostTensor;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

/// One input of a run.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum InputData<'a> {
    /// Storage words, in the format of the plan's input.
    Words(&'a [u32]),
    /// The same as bytes, the lowest of each word first.
    Bytes(&'a [u8]),
    /// A texture of the same device.
    Texture(&'a wgpu::TextureView),
    /// Storage words in a buffer of the same device with `COPY_SRC` usage, from a byte on that is a multiple of four. The run begins with a copy
    /// of them, where its commands stand among others.
    #[cfg(not(target_arch = "wasm32"))]
    Buffer(&'a wgpu::Buffer, u64),
    /// Already written by an earlier step of the same submit.
    Bound,
}

/// The bind groups of steps that read a texture of a run, each with its step.
pub(super) type Bound = Few<(usize, wgpu::BindGroup)>;

/// What an error says that the inputs of a run were lost in.
pub(super) const INPUTS: &str = "writing the inputs of a run";

/// A plan with the inputs of one run.
type Run<'a> = (&'a GpuPlan, &'a [InputData<'a>]);

impl<'a> InputData<'a> {
    /// The bytes of what comes as words.
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            InputData::Words(words) => Some(bytemuck::cast_slice(words)),
            InputData::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl GpuPlan {
    /// Runs the plan: one encoder, one pass, one submit.
    ///
    /// # Errors
    /// [`Error::Input`] when the inputs are not the plan's; [`Error::Texture`] when one is a texture that cannot be read on
    /// this device; [`Error::DeviceLost`] when the device is gone.
    pub async fn run(&self, inputs: &[InputData<'_>]) -> Result<Vec<HostTensor>> {
        self.submit(inputs, &[])?.wait().await
    }

    /// Submits a run and gives a handle to its result. The plans of `before`, with their inputs, run first in the same pass.
    ///
    /// # Errors
    /// As [`GpuPlan::run`].
    pub fn submit(&self, inputs: &[InputData<'_>], before: &[(&GpuPlan, &[InputData<'_>])]) -> Result<Pending> {
        let gpu = &self.inner.gpu;
        gpu.check_alive()?;
        let (Some(device), Some(queue)) = (gpu.device(), gpu.queue()) else {
            return Err(Error::NoDevice { adapter: gpu.summary().name.clone(), reason: "no queue".to_owned() });
        };
        let _alone = gpu.submitting();
        let mut foreign = false;
        for (plan, inputs) in before.iter().copied().chain([(self, inputs)]) {
            foreign |= plan.check_inputs(inputs)?;
        }
        for (plan, inputs) in before.iter().copied().chain([(self, inputs)]) {
            plan.hand_over(device, queue, inputs)?;
        }
        let (staging, arrived) = self.staging(device)?;
        let record = || self.encode_and_submit(device, queue, (&staging, &arrived), before, inputs);
        // What a host's texture or buffer makes the driver say is the guest's to hear. Runs without one cannot be refused.
        let refusal = if foreign {
            let (recorded, refusal) = gpu.hearing(device, INPUTS, || Ok(Refusal::of(device, record)))?;
            recorded?;
            for (plan, inputs) in before.iter().copied().chain([(self, inputs)]) {
                plan.check_lent_living(inputs, &refusal)?;
            }
            Some(refusal)
        } else {
            record()?;
            None
        };
        gpu.count_submit();
        Ok(Pending { plan: self.clone(), staging: Some(staging), arrived, refusal })
    }

    /// Submits some of the `pieces` of a run of a plan without inputs, between which no other run of it may come: one encoder, one pass, one
    /// submit, timed by `timer`. Tells when the device has done them; those up to the last one give a handle to the result, where
    /// there is one.
    pub(super) fn submit_pieces(
        &self,
        (pieces, some): (&Pieces, Range<usize>),
        timer: Option<&Timer>,
    ) -> Result<(Mailbox<()>, Option<Pending>)> {
        let gpu = &self.inner.gpu;
        gpu.check_alive()?;
        let (Some(device), Some(queue)) = (gpu.device(), gpu.queue()) else {
            return Err(Error::NoDevice { adapter: gpu.summary().name.clone(), reason: "no queue".to_owned() });
        };
        let _alone = gpu.submitting();
        self.check_inputs(&[])?;
        let ends = some.end >= pieces.len() && !self.inner.plan.outputs.is_empty();
        let result = ends.then(|| self.staging(device)).transpose()?;
        let mut encoder =
            device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("lampyris.steps") });
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("lampyris.steps"),
                timestamp_writes: timer.map(|timer| timer.writes(0)),
            });
            pieces.encode(self, &mut pass, some);
        }
        if let Some(timer) = timer {
            timer.resolve(&mut encoder);
        }
        if let Some((staging, _)) = &result {
            self.encode_result(&mut encoder, staging);
        }
        queue.submit([encoder.finish()]);
        gpu.count_submit();
        let done = Mailbox::new();
        let signal = done.clone();
        queue.on_submitted_work_done(move || signal.put(()));
        let pending = result.map(|(staging, arrived)| {
            let signal = arrived.clone();
            staging.map_async(wgpu::MapMode::Read, .., move |result| signal.put(result.is_ok()));
            Pending { plan: self.clone(), staging: Some(staging), arrived, refusal: None }
        });
        Ok((done, pending))
    }

    /// Encodes and submits a run that ends in `staging`, of whose mapping `arrived` hears.
    fn encode_and_submit(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        (staging, arrived): (&wgpu::Buffer, &Mailbox<bool>),
        before: &[Run<'_>],
        inputs: &[InputData<'_>],
    ) -> Result<()> {
        let mut encoder =
            device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("lampyris.run") });
        for (plan, inputs) in before.iter().copied().chain([(self, inputs)]) {
            plan.copy_handed_over(&mut encoder, inputs);
            plan.copy_lent(&mut encoder, inputs);
        }
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("lampyris.run"),
                timestamp_writes: None,
            });
            for (plan, inputs) in before.iter().copied().chain([(self, inputs)]) {
                let bound = plan.bind_textures(device, inputs)?;
                for at in 0..plan.inner.dispatches.len() {
                    plan.encode_step(&mut pass, at, &bound);
                }
            }
        }
        self.encode_result(&mut encoder, staging);
        queue.submit([encoder.finish()]);
        let signal = arrived.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |result| signal.put(result.is_ok()));
        Ok(())
    }

    /// Encodes the copy of the outputs, one after another.
    pub(super) fn encode_result(&self, encoder: &mut wgpu::CommandEncoder, staging: &wgpu::Buffer) {
        self.encode_result_at(encoder, staging, 0);
    }

    /// The same, from byte `at` of `staging` on.
    pub(super) fn encode_result_at(&self, encoder: &mut wgpu::CommandEncoder, staging: &wgpu::Buffer, mut at: u64) {
        for (_, id) in &self.inner.plan.outputs {
            let bytes = self.inner.plan.tensor(*id).desc.bytes();
            if let Some(region) = self.inner.regions[id.0].as_ref().filter(|_| bytes > 0) {
                encoder.copy_buffer_to_buffer(&region.buffer, region.offset, staging, at, bytes);
            }
            at += bytes;
        }
    }

    /// Writes the inputs that are words to where the plan reads them.
    pub(super) fn write_inputs(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &[InputData<'_>],
    ) -> Result<()> {
        let gpu = &self.inner.gpu;
        gpu.hearing(device, INPUTS, || {
            let mut written = self.written(inputs);
            written.try_for_each(|(to, bytes)| gpu.write(queue, INPUTS, (&to.buffer, to.offset), bytes))
        })
    }

    /// The bytes of the inputs that come as words, and where the plan reads them.
    pub(super) fn written<'a>(&'a self, inputs: &'a [InputData<'_>]) -> impl Iterator<Item = (&'a Region, &'a [u8])> {
        let inputs = self.inner.plan.inputs.iter().zip(inputs);
        inputs.filter_map(move |(id, input)| Some((self.inner.regions[id.0].as_ref()?, input.bytes()?)))
    }

    /// Refuses inputs that are not the plan's, and says whether a host's texture or buffer is among them, which the driver may refuse.
    pub(super) fn check_inputs(&self, inputs: &[InputData<'_>]) -> Result<bool> {
        let (plan, mut foreign) = (&self.inner.plan, false);
        for (position, id) in plan.inputs.iter().enumerate() {
            let (tensor, region) = (plan.tensor(*id), &self.inner.regions[id.0]);
            let refuse = |found: String| {
                Err(Error::Input { name: tensor.name.clone(), expected: tensor.desc.to_string(), found })
            };
            match (inputs.get(position), region) {
                (Some(InputData::Words(words)), Some(_)) if words.len() == tensor.desc.words() => {}
                (Some(InputData::Bytes(bytes)), Some(_)) if bytes.len() as u64 == tensor.desc.bytes() => {}
                (Some(InputData::Bound), Some(_)) => {}
                (Some(InputData::Texture(view)), None) => {
                    let &[_, height, width] = &tensor.desc.shape[..] else {
                        return refuse("a texture".to_owned());
                    };
                    let channels = tensor.desc.format.channels();
                    self.inner.gpu.check_plane(view, width as u32, height as u32, channels)?;
                    foreign = true;
                }
                #[cfg(not(target_arch = "wasm32"))]
                (Some(InputData::Buffer(buffer, at)), Some(region)) => {
                    self.check_lent((buffer, *at), region, tensor)?;
                    foreign = true;
                }
                #[cfg(not(target_arch = "wasm32"))]
                (Some(InputData::Buffer(..)), None) => return refuse("a buffer".to_owned()),
                (Some(InputData::Words(words)), _) => return refuse(format!("{} words", words.len())),
                (Some(InputData::Bytes(bytes)), _) => return refuse(format!("{} bytes", bytes.len())),
                (Some(InputData::Texture(_)), _) => return refuse("a texture".to_owned()),
                (Some(InputData::Bound), None) | (None, _) => return refuse("nothing".to_owned()),
            }
        }
        Ok(foreign)
    }

    /// The bind groups of the steps that read a texture of this run, by step.
    pub(super) fn bind_textures(&self, device: &wgpu::Device, inputs: &[InputData<'_>]) -> Result<Bound> {
        let inner = &self.inner;
        let mut bound = Bound::None;
        for (at, dispatch) in inner.dispatches.iter().enumerate().filter(|(_, d)| d.bind_group.is_none()) {
            let params = (&inner.params, at);
            inner.gpu.allocating("binding a texture")?;
            let make = || bind(device, &inner.plan.steps[at], &inner.plan, dispatch, &inner.regions, params, inputs);
            // wgpu unwinds when it is given a view of another instance, which it cannot look up.
            match catch_unwind(AssertUnwindSafe(make)) {
                Ok(Some(bind_group)) => bound.push((at, bind_group)),
                Ok(None) | Err(_) => return Err(inner.gpu.foreign_texture("it belongs to another wgpu instance")),
            }
        }
        Ok(bound)
    }

    /// Encodes one dispatch; `bound` are the bind groups of [`GpuPlan::bind_textures`].
    pub(super) fn encode_step(&self, pass: &mut wgpu::ComputePass<'_>, at: usize, bound: &[(usize, wgpu::BindGroup)]) {
        let dispatch = &self.inner.dispatches[at];
        let [x, y, z] = dispatch.grid;
        pass.set_pipeline(&dispatch.pipeline.pipeline);
        let textured = || bound.iter().find(|(step, _)| *step == at).map(|(_, bind_group)| bind_group);
        pass.set_bind_group(0, dispatch.bind_group.as_ref().or_else(textured), &[]);
        pass.dispatch_workgroups(x, y, z);
        self.inner.gpu.count_dispatch();
    }

    /// Encodes one dispatch of some of a step's workgroups: so many along an axis, which begin where the parameters say.
    pub(super) fn encode_groups(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        at: usize,
        (params, axis, groups): (&wgpu::BindGroup, usize, u32),
    ) {
        let dispatch = &self.inner.dispatches[at];
        let mut grid = dispatch.grid;
        grid[axis] = groups;
        let [x, y, z] = grid;
        pass.set_pipeline(&dispatch.pipeline.pipeline);
        pass.set_bind_group(0, params, &[]);
        pass.dispatch_workgroups(x, y, z);
        self.inner.gpu.count_dispatch();
    }

    fn staging(&self, device: &wgpu::Device) -> Result<(wgpu::Buffer, Mailbox<bool>)> {
        let free = self.inner.staging.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(free) = free {
            return Ok(free);
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let wanted = Wanted { label: "lampyris.result", size: self.inner.result_bytes.max(4), usage };
        Ok((self.inner.gpu.buffer_at_once(device, "making room for a result", wanted)?, Mailbox::new()))
    }
}

/// A submitted run whose result is on its way.
#[derive(Debug)]
#[must_use = "the result is dropped with it"]
pub struct Pending {
    plan: GpuPlan,
    staging: Option<wgpu::Buffer>,
    arrived: Mailbox<bool>,
    /// What the driver says of a run that reads a texture.
    refusal: Option<Refusal>,
}

impl Pending {
    /// The outputs, in the plan's order, once they have arrived. Never blocks a thread.
    ///
    /// # Errors
    /// [`Error::Texture`] when the driver refused a texture; [`Error::DeviceLost`] when the device is gone; [`Error::Taken`]
    /// after [`Pending::try_take`] has given the result.
    pub async fn wait(mut self) -> Result<Vec<HostTensor>> {
        self.take().await
    }

    /// As [`Pending::wait`], into the tensors of an earlier run, whose memory is used again where the shapes are the same.
    /// After an error `outputs` holds whatever it held.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub async fn wait_into(mut self, outputs: &mut Vec<HostTensor>) -> Result<()> {
        self.take_into(outputs).await
    }

    /// As [`Pending::wait`], of a run that is kept: a future that is dropped before its end has taken nothing, and the next one gives the
    /// same outputs.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub async fn take(&mut self) -> Result<Vec<HostTensor>> {
        let mut outputs = Vec::with_capacity(self.plan.plan().outputs.len());
        self.take_into(&mut outputs).await?;
        Ok(outputs)
    }

    async fn take_into(&mut self, outputs: &mut Vec<HostTensor>) -> Result<()> {
        if self.staging.is_none() {
            return Err(Error::Taken);
        }
        let gpu = self.plan.gpu();
        if let Some(refusal) = &self.refusal {
            gpu.check_refusal(refusal).await?;
        }
        let mapped = self.arrived.receive(gpu).await.unwrap_or(false);
        self.read(mapped, outputs)
    }

    /// The outputs if they have arrived; `None` otherwise. Never waits; [`Gpu::pump`] makes progress.
    pub fn try_take(&mut self) -> Option<Result<Vec<HostTensor>>> {
        let gpu = self.plan.gpu();
        if let Some(refusal) = &self.refusal {
            match refusal.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(words)) => {
                    return Some(Err(gpu.check_alive().err().unwrap_or_else(|| gpu.foreign_texture(&words))));
                }
                Poll::Pending => return gpu.check_alive().err().map(Err),
            }
        }
        match self.arrived.take() {
            Some(mapped) => {
                let mut outputs = Vec::with_capacity(self.plan.plan().outputs.len());
                Some(self.read(mapped, &mut outputs).map(|()| outputs))
            }
            None => gpu.check_alive().err().map(Err),
        }
    }

    fn read(&mut self, mapped: bool, outputs: &mut Vec<HostTensor>) -> Result<()> {
        let Some(staging) = self.staging.take() else { return Err(Error::Taken) };
        let inner = &self.plan.inner;
        let view = if mapped { staging.get_mapped_range(..).ok() } else { None };
        let lost = || inner.gpu.lost("a result could not be read back");
        let view = view.ok_or_else(lost)?;
        read_outputs(&inner.plan, &view, outputs).ok_or_else(lost)?;
        drop(view);
        unmap(inner.gpu.device(), &staging);
        inner.staging.lock().unwrap_or_else(PoisonError::into_inner).push((staging, self.arrived.clone()));
        Ok(())
    }
}

/// Reads a plan's outputs, which lie one after another in `bytes`, into the tensors of an earlier run; `None` when there are too few bytes.
pub(super) fn read_outputs(plan: &Plan, bytes: &[u8], outputs: &mut Vec<HostTensor>) -> Option<()> {
    let mut at = 0;
    outputs.truncate(plan.outputs.len());
    for (position, (_, id)) in plan.outputs.iter().enumerate() {
        let desc = &plan.tensor(*id).desc;
        let bytes = bytes.get(at..at + desc.bytes() as usize)?;
        at += bytes.len();
        let words = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        match outputs.get_mut(position) {
            Some(known) if known.desc == *desc => {
                known.words.clear();
                known.words.extend(words);
            }
            Some(other) => *other = HostTensor::from_words(desc.clone(), words.collect()),
            None => outputs.push(HostTensor::from_words(desc.clone(), words.collect())),
        }
    }
    Some(())
}

impl Gpu {
    /// What a driver that answers at once says of textures; the refusal itself where it answers later.
    pub(super) fn known_refusal(&self, refusal: Refusal) -> Result<Option<Refusal>> {
        match refusal.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(None) => Ok(None),
            Poll::Ready(Some(words)) => Err(self.foreign_texture(&words)),
            Poll::Pending => Ok(Some(refusal)),
        }
    }

    /// Binds what a run reads, in a scope where it is `foreign`, a host's: what the driver says of that is an error of the run, at once or, where
    /// it answers later, by the refusal. Within [`Gpu::hearing`], which hears that there is no memory for it.
    pub(super) fn binding<T>(
        &self,
        device: &wgpu::Device,
        foreign: bool,
        bind: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Option<Refusal>)> {
        if !foreign {
            return Ok((bind()?, None));
        }
        let (bound, refusal) = Refusal::of(device, bind);
        Ok((bound?, self.known_refusal(refusal)?))
    }

    /// Turns what the driver said of a run that reads a texture into an error.
    pub(super) async fn check_refusal(&self, refusal: &Refusal) -> Result<()> {
        let Some(words) = refusal.words().await else { return Ok(()) };
        self.confirm_alive().await?;
        Err(self.foreign_texture(&words))
    }

    /// The error of a texture that the driver, or wgpu itself, does not take.
    pub(super) fn foreign_texture(&self, words: &str) -> Error {
        Error::Texture {
            adapter: self.summary().name.clone(),
            found: format!("one that is refused ({})", words.lines().next_back().unwrap_or(words).trim()),
            wanted: "a 2-D view of a living texture of the same device".to_owned(),
        }
    }
}
