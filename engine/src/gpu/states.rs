//! Tensors that outlive a run, such as caches and positions: held on the device, or on the host for the CPU executor.

use super::Gpu;
use super::allocate::Wanted;
use super::compiled::Region;
use super::memory::Held;
use super::poll::Mailbox;
use crate::plan::{Place, Plan, PlanBytes, TensorId};
use crate::{Error, Result};
use lampyris_shaders::{Desc, HostTensor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the plans of one session keep between their runs. Cheap to clone; clones share the tensors.
#[derive(Debug, Clone)]
pub struct States {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    gpu: Gpu,
    kept: Vec<(String, Arc<Kept>)>,
    held: Vec<Arc<Held>>,
}

#[derive(Debug)]
struct Kept {
    desc: Desc,
    holder: Holder,
}

#[derive(Debug)]
enum Holder {
    Device(wgpu::Buffer),
    Host(Mutex<HostTensor>),
}

fn lock(tensor: &Mutex<HostTensor>) -> MutexGuard<'_, HostTensor> {
    tensor.lock().unwrap_or_else(PoisonError::into_inner)
}

impl States {
    /// Allocates the states that `plans` name, all zeros. Plans that name one state share it.
    ///
    /// # Errors
    /// [`Error::Input`] when two plans disagree on a state's shape; [`Error::Budget`] or [`Error::TooLarge`] before anything is
    /// allocated; [`Error::OutOfMemory`] or [`Error::DeviceLost`] from the driver.
    pub async fn new(gpu: &Gpu, plans: &[&Plan]) -> Result<States> {
        let mut wanted: Vec<(String, Desc)> = Vec::new();
        for state in plans.iter().flat_map(|plan| &plan.states) {
            match wanted.iter().find(|(name, _)| *name == state.name) {
                Some((_, desc)) if *desc == state.desc => {}
                Some((name, desc)) => {
                    let (expected, found) = (desc.to_string(), state.desc.to_string());
                    return Err(Error::Input { name: name.clone(), expected, found });
                }
                None => wanted.push((state.name.clone(), state.desc.clone())),
            }
        }
        States::allocate(gpu, wanted).await
    }

    async fn allocate(gpu: &Gpu, wanted: Vec<(String, Desc)>) -> Result<States> {
        let limit = gpu.caps().max_binding_bytes.min(gpu.caps().max_buffer_bytes);
        if let Some((name, desc)) = wanted.iter().find(|(_, desc)| desc.bytes() > limit) {
            let adapter = gpu.summary().name.clone();
            return Err(Error::TooLarge {
                tensor: name.clone(),
                desc: desc.clone(),
                bytes: desc.bytes(),
                adapter,
                limit,
            });
        }
        let states = wanted.iter().map(|(_, desc)| desc.bytes().max(4)).sum();
        let held = gpu.account().take(PlanBytes { weights: 0, activations: 0, states, params: 0 })?;
        let kept = if gpu.is_cpu_executor() {
            let host = |(name, desc): (String, Desc)| {
                let holder = Holder::Host(Mutex::new(HostTensor::zeros(desc.clone())));
                (name, Arc::new(Kept { desc, holder }))
            };
            wanted.into_iter().map(host).collect()
        } else {
            gpu.guarded("allocating states", |device| {
                let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
                let on_device = |(name, desc): (String, Desc)| {
                    let label = format!("lampyris.{name}");
                    let wanted = Wanted { label: &label, size: desc.bytes().max(4), usage };
                    let buffer = gpu.buffer(device, "allocating states", wanted)?;
                    Ok((name, Arc::new(Kept { desc, holder: Holder::Device(buffer) })))
                };
                wanted.into_iter().map(on_device).collect::<Result<_>>()
            })
            .await??
        };
        Ok(States { inner: Arc::new(Inner { gpu: gpu.clone(), kept, held: vec![Arc::new(held)] }) })
    }

    /// The tensors of several, shared with them, for a plan that works on all of them: in front of each name stand whose it is
    /// and a dot.
    pub fn joined(gpu: &Gpu, parts: &[(String, &States)]) -> States {
        let kept = parts.iter().flat_map(|(whose, states)| {
            states.inner.kept.iter().map(move |(name, kept)| (format!("{whose}.{name}"), kept.clone()))
        });
        let held = parts.iter().flat_map(|(_, states)| states.inner.held.iter().cloned());
        States { inner: Arc::new(Inner { gpu: gpu.clone(), kept: kept.collect(), held: held.collect() }) }
    }

    /// The device that holds them.
    pub fn gpu(&self) -> &Gpu {
        &self.inner.gpu
    }

    /// Bytes of all states.
    pub fn bytes(&self) -> u64 {
        self.inner.kept.iter().map(|(_, kept)| kept.desc.bytes().max(4)).sum()
    }

    fn get(&self, name: &str) -> Result<&Kept> {
        let found = self.inner.kept.iter().find(|(known, _)| known == name);
        found.map(|(_, kept)| &**kept).ok_or_else(|| Error::Input {
            name: name.to_owned(),
            expected: "the name of a state".to_owned(),
            found: "no such state".to_owned(),
        })
    }

    /// Writes `words` at word `at` of a state. Runs submitted before see what was there, runs submitted later what is written.
    ///
    /// # Errors
    /// [`Error::Input`] for an unknown name or words beyond the end; [`Error::OutOfMemory`] when there is none in which the words could wait,
    /// which are then not written; [`Error::DeviceLost`] when the device is gone.
    pub fn write(&self, name: &str, at: usize, words: &[u32]) -> Result<()> {
        let kept = self.get(name)?;
        let end = at.checked_add(words.len()).filter(|end| *end <= kept.desc.words());
        let Some(end) = end else {
            let expected = format!("at most {} words", kept.desc.words());
            let found = format!("{} words at word {at}", words.len());
            return Err(Error::Input { name: name.to_owned(), expected, found });
        };
        match &kept.holder {
            Holder::Host(tensor) => lock(tensor).words[at..end].copy_from_slice(words),
            Holder::Device(buffer) => {
                let (gpu, doing, to) = (&self.inner.gpu, "writing a state", (buffer, at as u64 * 4));
                gpu.check_alive()?;
                if let (Some(device), Some(queue)) = (gpu.device(), gpu.queue()) {
                    let write = || gpu.write(queue, doing, to, bytemuck::cast_slice(words));
                    return gpu.hearing(device, doing, write);
                }
            }
        }
        Ok(())
    }

    /// The contents of a state after all that was submitted.
    ///
    /// # Errors
    /// [`Error::Input`] for an unknown name; [`Error::DeviceLost`] when the device is gone.
    pub async fn read(&self, name: &str) -> Result<HostTensor> {
        let kept = self.get(name)?;
        let buffer = match &kept.holder {
            Holder::Host(tensor) => return Ok(lock(tensor).clone()),
            Holder::Device(buffer) => buffer,
        };
        let gpu = &self.inner.gpu;
        let staging = gpu
            .guarded("reading a state", |device| {
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                let wanted = Wanted { label: "lampyris.state", size: buffer.size(), usage };
                gpu.buffer(device, "reading a state", wanted)
            })
            .await??;
        self.copy_all(&[(buffer, &staging)])?;
        let arrived = Mailbox::new();
        let signal = arrived.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |result| signal.put(result.is_ok()));
        let mapped = arrived.receive(gpu).await.unwrap_or(false);
        let view = staging.get_mapped_range(..).ok().filter(|_| mapped);
        let Some(view) = view else {
            return Err(gpu.lost("a state could not be read back"));
        };
        let words = view.chunks_exact(4).take(kept.desc.words());
        let words = words.map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(HostTensor::from_words(kept.desc.clone(), words))
    }

    /// A copy with tensors of its own, made on the device; it takes [`States::bytes`] more.
    ///
    /// # Errors
    /// As [`States::new`].
    pub async fn fork(&self) -> Result<States> {
        let wanted = self.inner.kept.iter().map(|(name, kept)| (name.clone(), kept.desc.clone())).collect();
        let copy = States::allocate(&self.inner.gpu, wanted).await?;
        let mut buffers = Vec::new();
        for ((_, from), (_, to)) in self.inner.kept.iter().zip(&copy.inner.kept) {
            match (&from.holder, &to.holder) {
                (Holder::Device(from), Holder::Device(to)) => buffers.push((from, to)),
                (Holder::Host(from), Holder::Host(to)) => *lock(to) = lock(from).clone(),
                _ => {}
            }
        }
        self.copy_all(&buffers)?;
        Ok(copy)
    }

    fn copy_all(&self, pairs: &[(&wgpu::Buffer, &wgpu::Buffer)]) -> Result<()> {
        let gpu = &self.inner.gpu;
        gpu.check_alive()?;
        if let (Some(device), Some(queue)) = (gpu.device(), gpu.queue())
            && !pairs.is_empty()
        {
            let _alone = gpu.submitting();
            let mut encoder =
                device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("lampyris.states") });
            for (from, to) in pairs {
                encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
            }
            queue.submit([encoder.finish()]);
        }
        Ok(())
    }

    /// Where the device holds each state that `plan` names.
    pub(super) fn regions(&self, plan: &Plan) -> Result<Vec<(TensorId, Region)>> {
        let mut regions = Vec::with_capacity(plan.states.len());
        for (at, tensor) in plan.tensors.iter().enumerate() {
            if !matches!(tensor.place, Place::State(_)) {
                continue;
            }
            let kept = self.get(&tensor.name)?;
            match &kept.holder {
                Holder::Device(buffer) if kept.desc == tensor.desc => {
                    let region = Region { buffer: buffer.clone(), offset: 0, bytes: buffer.size() };
                    regions.push((TensorId(at), region));
                }
                _ => {
                    let (expected, found) = (tensor.desc.to_string(), kept.desc.to_string());
                    return Err(Error::Input { name: tensor.name.clone(), expected, found });
                }
            }
        }
        Ok(regions)
    }

    /// A copy of a state on the host; `None` on a device.
    pub(crate) fn on_host(&self, name: &str) -> Option<HostTensor> {
        match &self.get(name).ok()?.holder {
            Holder::Host(tensor) => Some(lock(tensor).clone()),
            Holder::Device(_) => None,
        }
    }

    /// Puts what a twin gave in the place of a state on the host.
    pub(crate) fn put_on_host(&self, name: &str, value: HostTensor) {
        if let Ok(Kept { holder: Holder::Host(tensor), .. }) = self.get(name) {
            *lock(tensor) = value;
        }
    }
}
