//! Loading in the gaps between frames: weights in pieces that a budget pays for, and one pipeline at a time.
//!
//! While a future is polled by a [`Loading`], whatever it uploads and compiles asks the device's pace first.

use super::timer::Stopwatch;
use super::tune::known_or_first;
use super::{Budget, Gpu};
use crate::plan::Plan;
use crate::{Error, Result};
use lampyris_shaders::Source;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes a second that a copy to the device is taken to do: what nearly every adapter exceeds.
const COPIED: f64 = 2e9;

/// What loading may still do before it has to wait for the next tick. Nothing is held back while it is not set.
#[derive(Debug, Default)]
pub(super) struct Pace {
    set: AtomicBool,
    bytes: AtomicU64,
    pipelines: AtomicU64,
    /// The next piece goes on even if there is not enough left.
    first: AtomicBool,
    /// One has done so.
    ahead: AtomicBool,
}

impl Pace {
    /// Bytes of a piece of an upload.
    pub(super) const PIECE: u64 = 128 << 10;

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Goes on once this many bytes may be uploaded.
    pub(super) async fn bytes(&self, bytes: u64) {
        // Whatever comes first in a tick goes on, if its budget is untouched, and uses all of it where it is more than there is.
        self.when(|| {
            let first = self.first.swap(false, Ordering::AcqRel);
            let paid = take(&self.bytes, bytes);
            if first && !paid {
                self.bytes.store(0, Ordering::Release);
                self.ahead.store(true, Ordering::Release);
            }
            paid || first
        })
        .await;
    }

    /// Goes on once a pipeline may be compiled.
    pub(super) async fn pipeline(&self) {
        self.when(|| take(&self.pipelines, 1)).await;
    }

    async fn when(&self, may: impl Fn() -> bool) {
        std::future::poll_fn(|context| {
            if !self.is_set() || may() {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

fn take(from: &AtomicU64, wanted: u64) -> bool {
    let less = |left: u64| left.checked_sub(wanted);
    from.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
}

#[cfg(not(target_arch = "wasm32"))]
type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
#[cfg(target_arch = "wasm32")]
type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>>>>;

/// Something that is loaded only when it is ticked.
pub struct Loading<T, E = Error> {
    gpu: Gpu,
    future: Mutex<Option<Boxed<T, E>>>,
}

impl<T, E> std::fmt::Debug for Loading<T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loading").finish_non_exhaustive()
    }
}

impl<T, E> Loading<T, E> {
    /// Whatever `future` loads onto `gpu`. It is polled by ticks alone, and nothing wakes them.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, future: impl Future<Output = Result<T, E>> + Send + 'static) -> Loading<T, E> {
        Loading { gpu: gpu.clone(), future: Mutex::new(Some(Box::pin(future))) }
    }

    /// Whatever `future` loads onto `gpu`. It is polled by ticks alone, and nothing wakes them.
    #[cfg(target_arch = "wasm32")]
    pub fn new(gpu: &Gpu, future: impl Future<Output = Result<T, E>> + 'static) -> Loading<T, E> {
        Loading { gpu: gpu.clone(), future: Mutex::new(Some(Box::pin(future))) }
    }

    /// Uploads what the budget pays for, of an untouched one at least a piece (128 KiB, taken for 66 microseconds), and compiles at most one
    /// pipeline. Gives what was loaded once it is there, and `None` before and afterwards. The uploads run with the host's next submit.
    ///
    /// What a budget does not count is time of the CPU, which [`Budget::loading`] tells: a pipeline takes what the driver takes, and a tensor
    /// that is packed takes about as long as it takes to read. A host that minds gives [`Gpu::warm_jobs`] to its threads first, and ticks on
    /// one of them: a [`Loading`] may be moved.
    ///
    /// # Errors
    /// Those of the future, once.
    pub fn tick(&mut self, budget: &mut Budget) -> Result<Option<T>, E> {
        let future = self.future.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(going) = future else { return Ok(None) };
        let pace = self.gpu.pace();
        let given = (budget.left_seconds() * COPIED) as u64;
        pace.bytes.store(given, Ordering::Release);
        pace.pipelines.store(1, Ordering::Release);
        pace.first.store(budget.is_fresh(), Ordering::Release);
        pace.ahead.store(false, Ordering::Release);
        pace.set.store(true, Ordering::Release);
        let clock = Stopwatch::start();
        let polled = going.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        budget.took_loading(clock.seconds().and_then(|it| Duration::try_from_secs_f64(it).ok()).unwrap_or_default());
        pace.set.store(false, Ordering::Release);
        let first = if pace.ahead.load(Ordering::Acquire) { Pace::PIECE } else { 0 };
        let used = given.saturating_sub(pace.bytes.load(Ordering::Acquire)).max(first);
        budget.spend(used as f64 / COPIED);
        match polled {
            Poll::Pending => {
                if pace.bytes.load(Ordering::Acquire) < Pace::PIECE {
                    budget.fall_short();
                }
                Ok(None)
            }
            Poll::Ready(loaded) => {
                *future = None;
                loaded.map(Some)
            }
        }
    }

    /// Whether there is something left to do.
    pub fn has_work(&self) -> bool {
        self.future.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Compiles one variant of a kernel, on whatever thread it is run.
pub struct WarmJob {
    gpu: Gpu,
    source: Source,
}

impl std::fmt::Debug for WarmJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WarmJob({} {})", self.source.kernel, self.source.label)
    }
}

impl WarmJob {
    /// Compiles it. What a driver refuses is left to fail, by name, in the plan that needs it.
    pub fn run(self) {
        if let (Some(pipelines), Some(device)) = (self.gpu.pipelines(), self.gpu.device()) {
            pipelines.warm((&self.gpu, device), &[self.source], false, &|| ());
        }
    }
}

impl Gpu {
    /// What compiles the variants that `plans` will run and that are not compiled, one each: for the threads of a host, which need not
    /// wait for them. None on the CPU executor.
    pub fn warm_jobs<'a>(&self, plans: impl IntoIterator<Item = &'a Plan>) -> Vec<WarmJob> {
        let Some(pipelines) = self.pipelines() else { return Vec::new() };
        let mut jobs: Vec<WarmJob> = Vec::new();
        for plan in plans {
            for step in &plan.steps {
                let source = plan.with_call(step, |call| known_or_first(self, step, call));
                let new = |source: &&Source| !pipelines.has(source) && jobs.iter().all(|job| job.source != **source);
                if let Some(source) = source.filter(new) {
                    jobs.push(WarmJob { gpu: self.clone(), source: *source });
                }
            }
        }
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_waits_for_the_budgets_of_ticks() {
        let gpu = Gpu::cpu_executor();
        let paced = gpu.clone();
        let mut loading = Loading::<u32>::new(&gpu, async move {
            for _ in 0..10 {
                paced.pace().bytes(Pace::PIECE).await;
            }
            paced.pace().pipeline().await;
            paced.pace().pipeline().await;
            Ok(7)
        });
        // Three pieces a tick, and a pipeline: the second one waits for a fifth.
        let time = Duration::from_secs_f64(3.5 * Pace::PIECE as f64 / COPIED);
        let (mut ticks, mut used) = (0, Duration::ZERO);
        let found = loop {
            let mut budget = Budget::gpu(time);
            let found = loading.tick(&mut budget).unwrap();
            (ticks, used) = (ticks + 1, used + budget.used());
            if let Some(found) = found {
                break found;
            }
        };
        let expected = 10.0 * Pace::PIECE as f64 / COPIED;
        assert_eq!((found, ticks, loading.has_work()), (7, 5, false));
        assert!((used.as_secs_f64() - expected).abs() < 1e-8, "{used:?} for {expected}");
        assert_eq!(loading.tick(&mut Budget::gpu(time)).unwrap(), None);
        // A piece that an untouched budget does not pay for is all of that tick, however little comes behind it.
        let paced = gpu.clone();
        let mut loading = Loading::<u32>::new(&gpu, async move {
            paced.pace().bytes(Pace::PIECE).await;
            paced.pace().bytes(4).await;
            Ok(8)
        });
        let half = Duration::from_secs_f64(0.5 * Pace::PIECE as f64 / COPIED);
        let mut ticks = [(); 3].map(|()| Budget::gpu(half));
        ticks[0] = ticks[0].clone().strict();
        let found = ticks.each_mut().map(|budget| loading.tick(budget).unwrap());
        assert_eq!(found, [None, None, Some(8)]);
        assert_eq!((ticks[0].used(), ticks[1].used()), (Duration::ZERO, 2 * half));
        // Nobody else is held back.
        gpu.block_on(gpu.pace().bytes(u64::MAX));
    }
}
