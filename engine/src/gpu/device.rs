//! An opened device, or none at all: what a model is loaded onto.

use super::adapter::{self, AdapterKind, AdapterSummary, Requirements};
use super::memory::Account;
use super::options::{GpuOptions, LimitTier, VariantSet};
use super::pipeline::Pipelines;
use super::poll::Mailbox;
use super::tuning::Tuning;
use crate::plan::PlanBytes;
use crate::{Error, Result};
use lampyris_shaders::{Caps, Source};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A device with its pipelines, or the CPU executor. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    summary: AdapterSummary,
    opened: Option<Opened>,
    options: GpuOptions,
    account: Account,
    /// The reason once the device is lost.
    lost: Arc<Mutex<Option<String>>>,
    /// The device is the engine's own, so that threads and handlers are allowed.
    own: bool,
    dispatches: AtomicU64,
    submits: AtomicU64,
    /// Held from the writing of a run's inputs to its submission, so that runs of several threads do not mix.
    submitting: Mutex<()>,
}

/// What a device has been given to do since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Dispatches encoded.
    pub dispatches: u64,
    /// Runs submitted.
    pub submits: u64,
}

#[derive(Debug)]
struct Opened {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipelines: Pipelines,
    tuning: Tuning,
}

impl Gpu {
    /// Opens the best adapter; the CPU executor when there is none, as [`Gpu::summary`] then says.
    ///
    /// # Errors
    /// [`Error::NoDevice`] when there are adapters and the drivers of all of them refuse.
    pub async fn new() -> Result<Gpu> {
        Gpu::with(GpuOptions::default()).await
    }

    /// Opens the adapter that `options` name; of [`super::AdapterChoice::Best`] the next one when a driver refuses, and the CPU
    /// executor when there is none.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] when there is none of that name, [`Error::BlankAdapter`] when the name is blank,
    /// [`Error::NoDevice`] when the driver refuses, or all of them do.
    pub async fn with(options: GpuOptions) -> Result<Gpu> {
        let instance = adapter::instance();
        let adapters = adapter::choose(&instance, (&options.adapter, options.power)).await?;
        let opened = first_opened(adapters, async |adapter| Gpu::open(adapter, options.clone()).await).await?;
        Ok(opened.unwrap_or_else(|| Gpu::on_cpu(options)))
    }

    /// The CPU executor.
    pub fn cpu_executor() -> Gpu {
        Gpu::on_cpu(GpuOptions::default())
    }

    fn on_cpu(options: GpuOptions) -> Gpu {
        let inner = Inner {
            summary: AdapterSummary::cpu_executor(),
            opened: None,
            // It has no GPU memory that a budget could be of.
            account: Account::new(None),
            options,
            lost: Arc::default(),
            own: true,
            dispatches: AtomicU64::default(),
            submits: AtomicU64::default(),
            submitting: Mutex::default(),
        };
        Gpu { inner: Arc::new(inner) }
    }

    async fn open(adapter: &wgpu::Adapter, options: GpuOptions) -> Result<Gpu> {
        let wanted = match options.limits {
            LimitTier::Adapter => Requirements::of(adapter),
            LimitTier::WebGpu => Requirements::webgpu(),
        };
        let name = adapter.get_info().name;
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("lampyris"),
                required_features: wanted.features,
                required_limits: wanted.limits,
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                ..Default::default()
            })
            .await
            .map_err(|error| Error::NoDevice { adapter: name, reason: error.to_string() })?;
        let lost: Arc<Mutex<Option<String>>> = Arc::default();
        let (on_loss, on_error) = (lost.clone(), lost.clone());
        device.set_device_lost_callback(move |_, reason| note_loss(&on_loss, &reason));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            tracing::error!(%error, "uncaptured device error");
            note_loss(&on_error, &error.to_string());
        }));
        let mut summary = AdapterSummary::of(&adapter.get_info(), device.features(), &device.limits());
        summary.caps.software &= options.variants == VariantSet::Adapter;
        // A browser has no threads for it, rounds its timestamps to a tenth of a millisecond and keeps nothing: there the best guess is
        // taken, as on a host's device.
        let own = !cfg!(target_arch = "wasm32");
        Ok(Gpu::assemble(device, queue, summary, options, lost, own))
    }

    /// Works on a device that a host owns: installs no handler, owns no thread, never waits.
    ///
    /// # Errors
    /// [`Error::NoVariant`] when the device was opened with fewer than four storage buffers a stage.
    pub fn from_device(adapter: &wgpu::Adapter, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Gpu> {
        Gpu::from_device_with(adapter, device, queue, GpuOptions::default())
    }

    /// As [`Gpu::from_device`], with a budget, a folder for caches, shader checks or a set of variants. The adapter and the limits
    /// are those of the device, whatever `options` say. Nothing is measured on a host's device, but what the cache knows
    /// of the adapter is used; compiled pipelines are kept when the device has the feature for it, as
    /// [`Gpu::requirements`] asks.
    ///
    /// # Errors
    /// As [`Gpu::from_device`].
    pub fn from_device_with(
        adapter: &wgpu::Adapter,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        options: GpuOptions,
    ) -> Result<Gpu> {
        let mut summary = AdapterSummary::of(&adapter.get_info(), device.features(), &device.limits());
        if summary.caps.max_storage_buffers < 4 {
            return Err(Error::NoVariant {
                kernel: "any kernel".to_owned(),
                adapter: summary.name,
                call: format!("{} storage buffers; ask for Gpu::requirements", summary.caps.max_storage_buffers),
            });
        }
        summary.caps.software &= options.variants == VariantSet::Adapter;
        Ok(Gpu::assemble(device.clone(), queue.clone(), summary, options, Arc::default(), false))
    }

    fn assemble(
        device: wgpu::Device,
        queue: wgpu::Queue,
        summary: AdapterSummary,
        options: GpuOptions,
        lost: Arc<Mutex<Option<String>>>,
        own: bool,
    ) -> Gpu {
        let pipelines = Pipelines::new(&device, &summary, &options);
        let tuning = Tuning::open(&summary, &options);
        let opened = Some(Opened { device, queue, pipelines, tuning });
        let (dispatches, submits) = Default::default();
        let submitting = Mutex::default();
        let account = Account::new(options.budget);
        Gpu { inner: Arc::new(Inner { summary, opened, options, account, lost, own, dispatches, submits, submitting }) }
    }

    /// Features and limits for a host to ask for, joined with its own.
    pub fn requirements(adapter: &wgpu::Adapter) -> Requirements {
        Requirements::of(adapter)
    }

    /// The adapter, with what the opened device can do.
    pub fn summary(&self) -> &AdapterSummary {
        &self.inner.summary
    }

    /// What the opened device can do.
    pub fn caps(&self) -> &Caps {
        &self.inner.summary.caps
    }

    /// The options it was opened with.
    pub fn options(&self) -> &GpuOptions {
        &self.inner.options
    }

    /// Whether there is no device and the twins run.
    pub fn is_cpu_executor(&self) -> bool {
        self.inner.summary.kind == AdapterKind::CpuExecutor
    }

    /// The device, unless this is the CPU executor.
    pub fn device(&self) -> Option<&wgpu::Device> {
        self.inner.opened.as_ref().map(|opened| &opened.device)
    }

    /// The queue, unless this is the CPU executor.
    pub fn queue(&self) -> Option<&wgpu::Queue> {
        self.inner.opened.as_ref().map(|opened| &opened.queue)
    }

    pub(super) fn pipelines(&self) -> Option<&Pipelines> {
        self.inner.opened.as_ref().map(|opened| &opened.pipelines)
    }

    /// What it has been given to do so far.
    pub fn counts(&self) -> Counts {
        Counts {
            dispatches: self.inner.dispatches.load(Ordering::Relaxed),
            submits: self.inner.submits.load(Ordering::Relaxed),
        }
    }

    /// Bytes of GPU memory that plans and constants hold, as [`GpuOptions::budget`] counts them.
    pub fn held_bytes(&self) -> u64 {
        self.inner.account.held()
    }

    /// Refuses what [`GpuOptions::budget`] does not leave room for, without taking it.
    ///
    /// # Errors
    /// [`Error::Budget`] with the figures.
    pub fn check_budget(&self, wanted: PlanBytes) -> Result<()> {
        self.account().check(wanted)
    }

    pub(super) fn account(&self) -> &Account {
        &self.inner.account
    }

    pub(super) fn count_dispatch(&self) {
        self.inner.dispatches.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_submit(&self) {
        self.inner.submits.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps other runs out between writing inputs and submitting.
    pub(super) fn submitting(&self) -> std::sync::MutexGuard<'_, ()> {
        self.inner.submitting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tuning(&self) -> Option<&Tuning> {
        self.inner.opened.as_ref().map(|opened| &opened.tuning)
    }

    /// Whether the engine opened the device itself.
    pub(super) fn is_own(&self) -> bool {
        self.inner.own
    }

    /// Told by a host that its device is lost (from its own callback: wgpu has one slot, and it is the host's).
    pub fn notify_lost(&self, reason: &str) {
        note_loss(&self.inner.lost, reason);
    }

    /// The error of a lost device, once it is lost.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] from then on.
    pub fn check_alive(&self) -> Result<()> {
        match &*self.inner.lost.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(reason) => Err(Error::DeviceLost { adapter: self.inner.summary.name.clone(), reason: reason.clone() }),
        }
    }

    /// Notes a loss, and gives its error; an earlier reason stands.
    pub(super) fn lost(&self, reason: &str) -> Error {
        self.notify_lost(reason);
        let reason = reason.to_owned();
        let noted = Error::DeviceLost { adapter: self.inner.summary.name.clone(), reason };
        self.check_alive().err().unwrap_or(noted)
    }

    /// Asks a device that has just refused something whether it is lost: its callback comes late, and to a host alone when
    /// the device is a host's; but nothing can be mapped on a lost device.
    pub(super) async fn confirm_alive(&self) -> Result<()> {
        let Some(device) = self.device() else { return Ok(()) };
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let probe = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("lampyris.alive"),
            size: 4,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let arrived = Mailbox::new();
        let signal = arrived.clone();
        probe.map_async(wgpu::MapMode::Read, .., move |result| signal.put(result.is_ok()));
        let refused = scope.pop();
        if !arrived.receive(self).await.unwrap_or(false) || refused.await.is_some() {
            self.notify_lost("nothing can be read back from it");
        }
        self.check_alive()
    }

    /// Runs `make` and turns what the driver says about it into an error. The scope closes before anything is awaited.
    pub(super) async fn guarded<T>(&self, doing: &str, make: impl FnOnce(&wgpu::Device) -> T) -> Result<T> {
        self.check_alive()?;
        let adapter = self.inner.summary.name.clone();
        let Some(device) = self.device() else {
            return Err(Error::NoDevice { adapter, reason: "the CPU executor has no device".to_owned() });
        };
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = make(device);
        let (validation, internal, memory) = (validation.pop(), internal.pop(), memory.pop());
        let doing = doing.to_owned();
        if memory.await.is_some() {
            return Err(Error::OutOfMemory { adapter, doing });
        }
        match (validation.await, internal.await) {
            (None, None) => Ok(made),
            (Some(error), _) | (None, Some(error)) => {
                self.confirm_alive().await?;
                Err(Error::Driver { adapter, doing, reason: error.to_string() })
            }
        }
    }

    /// Compiles variants ahead of the plans that will need them, on this machine's threads where the device is the engine's
    /// own; `done` hears of each. One that the driver refuses is left to fail, by name, in the plan that needs it.
    ///
    /// # Errors
    /// [`Error::NoDevice`] on the CPU executor; [`Error::DeviceLost`] when the device is gone.
    pub async fn warm(&self, sources: &[Source], done: &(dyn Fn() + Sync)) -> Result<()> {
        self.compile(sources, done).await.map(|_| ())
    }

    /// Compiles variants, and gives those that the driver refuses with its words.
    pub(super) async fn compile(&self, sources: &[Source], done: &(dyn Fn() + Sync)) -> Result<Vec<(Source, String)>> {
        self.guarded("compiling the kernels", |device| match self.pipelines() {
            Some(pipelines) => pipelines.warm(device, sources, self.is_own(), done),
            None => Vec::new(),
        })
        .await
    }

    /// Waits until the queue has done what was submitted.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is gone.
    pub async fn idle(&self) -> Result<()> {
        let Some(queue) = self.queue() else { return Ok(()) };
        self.check_alive()?;
        let done = Mailbox::new();
        let signal = done.clone();
        queue.on_submitted_work_done(move || signal.put(()));
        done.receive(self).await;
        self.check_alive()
    }
}

/// The first of `adapters` that `open` opens; `None` when there are none, and the first one's refusal when all refuse.
async fn first_opened<A, T>(adapters: Vec<A>, open: impl AsyncFn(&A) -> Result<T>) -> Result<Option<T>> {
    let mut refused = None;
    for adapter in &adapters {
        match open(adapter).await {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) => {
                tracing::warn!(%error, "an adapter was left out");
                refused.get_or_insert(error);
            }
        }
    }
    refused.map_or(Ok(None), Err)
}

fn note_loss(lost: &Mutex<Option<String>>, reason: &str) {
    let mut slot = lost.lock().unwrap_or_else(PoisonError::into_inner);
    let reason = if reason.is_empty() { "no reason given" } else { reason };
    slot.get_or_insert_with(|| reason.lines().next().unwrap_or(reason).to_owned());
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    /// What is opened of three adapters, of which those in `refuse` have a driver that does.
    fn opened(count: usize, refuse: &[usize]) -> Result<Option<usize>> {
        let open = async |at: &usize| match refuse.contains(at) {
            true => Err(Error::NoDevice { adapter: at.to_string(), reason: "for the test".to_owned() }),
            false => Ok(*at),
        };
        pollster::block_on(first_opened((0..count).collect(), open))
    }

    #[test]
    fn the_next_adapter_is_tried_when_a_driver_refuses() {
        assert_eq!(opened(3, &[]).unwrap(), Some(0));
        assert_eq!(opened(3, &[0, 1]).unwrap(), Some(2));
        assert_eq!(opened(0, &[]).unwrap(), None);
        let error = opened(3, &[0, 1, 2]).unwrap_err();
        assert!(matches!(&error, Error::NoDevice { adapter, .. } if adapter == "0"), "{error:?}");
    }
}
