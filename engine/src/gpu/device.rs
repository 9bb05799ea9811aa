//! An opened device, or none at all: what a model is loaded onto.

use super::adapter::{self, AdapterKind, AdapterSummary, Requirements};
use super::allocate::Allocations;
use super::loss::Loss;
use super::memory::Account;
use super::options::{GpuOptions, LimitTier, VariantSet};
use super::pace;
use super::pipeline::Pipelines;
use super::poll::Mailbox;
use super::seat::{self, Seat};
use super::tuning::Tuning;
use crate::plan::PlanBytes;
use crate::{Error, Result};
use lampyris_shaders::{Caps, Source};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Variants that a browser is given to compile before its page has its turn.
#[cfg(target_arch = "wasm32")]
const PAGEFUL: usize = 8;

/// A device with its pipelines, or the CPU executor. Cheap to clone.
///
/// A handle stands for one device. When that is lost, another takes its place: a host's by [`Gpu::replace_device`], the engine's own
/// with the next call that needs one. What was loaded through any clone of the handle goes there by itself; [`Gpu::current`]
/// gives the handle of the device that is there now.
#[derive(Debug, Clone)]
pub struct Gpu {
    pub(super) inner: Arc<Inner>,
    pub(super) seat: Arc<Seat>,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// Which device it is of all that this program opened or was lent.
    pub(super) number: u64,
    summary: AdapterSummary,
    opened: Option<Opened>,
    options: GpuOptions,
    account: Account,
    pub(super) allocations: Allocations,
    pub(super) lost: Arc<Loss>,
    /// The device is the engine's own, so that threads and handlers are allowed.
    own: bool,
    /// The engine opened the device, and may open another when it is lost.
    pub(super) opened_here: bool,
    dispatches: AtomicU64,
    submits: AtomicU64,
    polls: AtomicU64,
    waits: AtomicU64,
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
    /// Polls of the device, by [`Gpu::pump`] and by futures of ours.
    pub polls: u64,
    /// Of these, those that waited for the device, as [`Gpu::block_on`] does and nothing else.
    pub waits: u64,
}

#[derive(Debug)]
struct Opened {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipelines: Pipelines,
    tuning: Arc<Tuning>,
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
        let opened = first_opened(adapters, async |adapter| Gpu::open(adapter, options.clone(), None).await).await?;
        Ok(Gpu::seated(opened.unwrap_or_else(|| Gpu::on_cpu(options))))
    }

    /// The CPU executor.
    pub fn cpu_executor() -> Gpu {
        Gpu::seated(Gpu::on_cpu(GpuOptions::default()))
    }

    pub(super) fn on_cpu(options: GpuOptions) -> Inner {
        let mut summary = AdapterSummary::cpu_executor();
        summary.caps.software &= options.variants == VariantSet::Adapter;
        Inner {
            number: seat::next_number(),
            summary,
            opened: None,
            // It has no GPU memory that a budget could be of.
            account: Account::new(None),
            allocations: Allocations::default(),
            options,
            lost: Arc::default(),
            own: true,
            opened_here: false,
            dispatches: AtomicU64::default(),
            submits: AtomicU64::default(),
            polls: AtomicU64::default(),
            waits: AtomicU64::default(),
            submitting: Mutex::default(),
        }
    }

    /// Opens a device of the engine's own, which takes the place of `before` where there was one.
    pub(super) async fn open(adapter: &wgpu::Adapter, options: GpuOptions, before: Option<&Gpu>) -> Result<Inner> {
        let wanted = match options.limits {
            LimitTier::Adapter => Requirements::of(adapter),
            LimitTier::WebGpu => Requirements::webgpu(),
        };
        let name = adapter.get_info().name;
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("lampyris.device"),
                required_features: wanted.features,
                required_limits: wanted.limits,
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                ..Default::default()
            })
            .await
            .map_err(|error| Error::NoDevice { adapter: name, reason: error.to_string() })?;
        let lost: Arc<Loss> = Arc::default();
        let (on_loss, on_error) = (lost.clone(), lost.clone());
        device.set_device_lost_callback(move |_, reason| on_loss.note(&reason));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            tracing::error!(%error, "uncaptured device error");
            on_error.note(&error.to_string());
        }));
        let mut summary = AdapterSummary::of(&adapter.get_info(), device.features(), &device.limits());
        summary.caps.software &= options.variants == VariantSet::Adapter;
        // A browser has no threads for it, rounds its timestamps to a tenth of a millisecond and keeps nothing: there the best guess is
        // taken, as on a host's device.
        let own = !cfg!(target_arch = "wasm32");
        let inner = Gpu::assemble((device, queue), summary, options, before);
        Ok(Inner { lost, own, opened_here: true, ..inner })
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
        Gpu::lent(adapter, device, queue, options, None).map(Gpu::seated)
    }

    /// A host's device, which takes the place of `before` where there was one.
    pub(super) fn lent(
        adapter: &wgpu::Adapter,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        options: GpuOptions,
        before: Option<&Gpu>,
    ) -> Result<Inner> {
        let mut summary = AdapterSummary::of(&adapter.get_info(), device.features(), &device.limits());
        if summary.caps.max_storage_buffers < 4 {
            return Err(Error::NoVariant {
                kernel: "any kernel".to_owned(),
                adapter: summary.name,
                call: format!("{} storage buffers; ask for Gpu::requirements", summary.caps.max_storage_buffers),
            });
        }
        summary.caps.software &= options.variants == VariantSet::Adapter;
        Ok(Gpu::assemble((device.clone(), queue.clone()), summary, options, before))
    }

    fn assemble(
        (device, queue): (wgpu::Device, wgpu::Queue),
        summary: AdapterSummary,
        options: GpuOptions,
        before: Option<&Gpu>,
    ) -> Inner {
        let pipelines = Pipelines::new(&device, &summary, &options);
        // The same variants are chosen again, so that what is computed again comes out the same.
        let known = before.and_then(|before| before.inner.opened.as_ref().filter(|_| before.inner.summary == summary));
        let tuning = known.map_or_else(|| Arc::new(Tuning::open(&summary, &options)), |opened| opened.tuning.clone());
        let opened = Some(Opened { device, queue, pipelines, tuning });
        let account = Account::new(options.budget);
        Inner {
            number: seat::next_number(),
            summary,
            opened,
            options,
            account,
            allocations: Allocations::default(),
            lost: Arc::default(),
            own: false,
            opened_here: false,
            dispatches: AtomicU64::default(),
            submits: AtomicU64::default(),
            polls: AtomicU64::default(),
            waits: AtomicU64::default(),
            submitting: Mutex::default(),
        }
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
            polls: self.inner.polls.load(Ordering::Relaxed),
            waits: self.inner.waits.load(Ordering::Relaxed),
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

    pub(super) fn count_poll(&self, waits: bool) {
        self.inner.polls.fetch_add(1, Ordering::Relaxed);
        self.inner.waits.fetch_add(u64::from(waits), Ordering::Relaxed);
    }

    /// Keeps other runs out between writing inputs and submitting.
    pub(super) fn submitting(&self) -> std::sync::MutexGuard<'_, ()> {
        self.inner.submitting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tuning(&self) -> Option<&Tuning> {
        self.inner.opened.as_ref().map(|opened| &*opened.tuning)
    }

    /// Whether the engine opened the device itself; otherwise it is a host's.
    pub fn owns_device(&self) -> bool {
        self.is_own()
    }

    /// Whether the engine opened the device itself.
    pub(super) fn is_own(&self) -> bool {
        self.inner.own
    }

    /// The error of this handle's device, once it is lost.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] from then on; [`Gpu::current`] gives the handle of the device that took its place.
    pub fn check_alive(&self) -> Result<()> {
        match self.inner.lost.reason() {
            None => Ok(()),
            Some(reason) => Err(Error::DeviceLost { adapter: self.inner.summary.name.clone(), reason }),
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
        let doing = "asking whether the device is lost";
        self.allocating(doing)?;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
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
        let (refused, memory) = (scope.pop(), memory.pop());
        if memory.await.is_some() {
            return Err(self.no_memory(doing));
        }
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
        if memory.await.is_some() {
            return Err(self.no_memory(doing));
        }
        match (validation.await, internal.await) {
            (None, None) => Ok(made),
            (Some(error), _) | (None, Some(error)) => {
                self.confirm_alive().await?;
                Err(Error::Driver { adapter, doing: doing.to_owned(), reason: error.to_string() })
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

    /// Compiles variants, and gives the errors of those that could not be made.
    pub(super) async fn compile(&self, sources: &[Source], done: &(dyn Fn() + Sync)) -> Result<Vec<Error>> {
        let mut refused = Vec::new();
        for source in sources {
            if pace::is_set() && self.pipelines().is_some_and(|pipelines| !pipelines.has(source)) {
                pace::pipeline().await;
                refused.extend(self.compile_together(std::slice::from_ref(source), done).await?);
            }
        }
        // A page has its turn between the answers for some and the next.
        #[cfg(target_arch = "wasm32")]
        for some in sources.chunks(PAGEFUL) {
            if self.pipelines().is_some_and(|pipelines| some.iter().any(|source| !pipelines.has(source))) {
                refused.extend(self.compile_together(some, done).await?);
            }
        }
        // Those that were waited for are there by now.
        refused.extend(self.compile_together(sources, done).await?);
        Ok(refused)
    }

    async fn compile_together(&self, sources: &[Source], done: &(dyn Fn() + Sync)) -> Result<Vec<Error>> {
        let made = self
            .guarded("compiling the kernels", |device| match self.pipelines() {
                Some(pipelines) => pipelines.warm((self, device), sources, self.is_own(), done),
                None => Vec::new(),
            })
            .await;
        #[cfg(target_arch = "wasm32")]
        if let (Err(_), Some(pipelines)) = (&made, self.pipelines()) {
            pipelines.forget(sources);
        }
        made
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
