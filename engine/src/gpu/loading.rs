//! Loading in the gaps between frames: weights in pieces that a budget pays for, and one pipeline at a time.
//!
//! While a future is polled by a [`Loading`], whatever it uploads and compiles asks the pace first that holds for the thread.

use super::pace::{PIECE, Pace, Turn};
use super::timer::Stopwatch;
use super::tune::known_or_first;
use super::{Budget, Gpu};
use crate::plan::Plan;
use crate::{Error, Result};
use lampyris_shaders::Source;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes a second that a copy to the device is taken to do: what nearly every adapter exceeds.
const COPIED: f64 = 2e9;

#[cfg(not(target_arch = "wasm32"))]
type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
#[cfg(target_arch = "wasm32")]
type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>>>>;

/// Something that is loaded only when it is ticked.
pub struct Loading<T, E = Error> {
    future: Mutex<Option<Boxed<T, E>>>,
}

impl<T, E> std::fmt::Debug for Loading<T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loading").finish_non_exhaustive()
    }
}

impl<T, E> Loading<T, E> {
    /// Whatever `future` loads, onto whichever device. It is polled by ticks alone, and nothing wakes them.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(future: impl Future<Output = Result<T, E>> + Send + 'static) -> Loading<T, E> {
        Loading { future: Mutex::new(Some(Box::pin(future))) }
    }

    /// Whatever `future` loads, onto whichever device. It is polled by ticks alone, and nothing wakes them.
    #[cfg(target_arch = "wasm32")]
    pub fn new(future: impl Future<Output = Result<T, E>> + 'static) -> Loading<T, E> {
        Loading { future: Mutex::new(Some(Box::pin(future))) }
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
        let bytes = (budget.left_seconds() * COPIED) as u64;
        self.advance(budget, bytes)
    }

    /// As [`Loading::tick`], and uploads whatever there is: for a few words that cannot wait, where pipelines can.
    ///
    /// # Errors
    /// Those of the future, once.
    pub fn tick_uploading(&mut self, budget: &mut Budget) -> Result<Option<T>, E> {
        self.advance(budget, u64::MAX)
    }

    fn advance(&mut self, budget: &mut Budget, bytes: u64) -> Result<Option<T>, E> {
        let future = self.future.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(going) = future else { return Ok(None) };
        let given = Pace { bytes, pipelines: 1, first: budget.is_fresh(), ahead: false };
        let clock = Stopwatch::start();
        let turn = Turn::begin(given);
        let polled = going.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let left = turn.left().unwrap_or(given);
        drop(turn);
        budget.took_loading(clock.seconds().and_then(|it| Duration::try_from_secs_f64(it).ok()).unwrap_or_default());
        let first = if left.ahead { PIECE } else { 0 };
        budget.spend(bytes.saturating_sub(left.bytes).max(first) as f64 / COPIED);
        match polled {
            Poll::Pending => {
                if left.bytes < PIECE {
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
    /// wait for them: on the device that is there now. None on the CPU executor.
    pub fn warm_jobs<'a>(&self, plans: impl IntoIterator<Item = &'a Plan>) -> Vec<WarmJob> {
        let gpu = self.current();
        let job = |source| WarmJob { gpu: gpu.clone(), source };
        gpu.missing(plans).into_iter().map(job).collect()
    }

    /// Compiles the variants that `plans` will run, as [`Gpu::warm`] does.
    ///
    /// # Errors
    /// As [`Gpu::warm`].
    pub async fn warm_plans<'a>(&self, plans: impl IntoIterator<Item = &'a Plan>) -> Result<()> {
        let sources = self.missing(plans);
        self.warm(&sources, &|| ()).await
    }

    /// The variants that `plans` will run and that are not compiled.
    fn missing<'a>(&self, plans: impl IntoIterator<Item = &'a Plan>) -> Vec<Source> {
        let Some(pipelines) = self.pipelines() else { return Vec::new() };
        let mut missing: Vec<Source> = Vec::new();
        for plan in plans {
            for step in &plan.steps {
                let source = plan.with_call(step, |call| known_or_first(self, step, call));
                let new = |source: &&Source| !pipelines.has(source) && missing.iter().all(|known| known != *source);
                missing.extend(source.filter(new));
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::super::pace;
    use super::*;

    #[test]
    fn what_is_loaded_waits_for_the_budgets_of_ticks() {
        let mut loading = Loading::<u32>::new(async move {
            for _ in 0..10 {
                pace::bytes(PIECE).await;
            }
            pace::pipeline().await;
            pace::pipeline().await;
            Ok(7)
        });
        // Three pieces a tick, and a pipeline: the second one waits for a fifth.
        let time = Duration::from_secs_f64(3.5 * PIECE as f64 / COPIED);
        let (mut ticks, mut used) = (0, Duration::ZERO);
        let found = loop {
            let mut budget = Budget::gpu(time);
            let found = loading.tick(&mut budget).unwrap();
            (ticks, used) = (ticks + 1, used + budget.used());
            if let Some(found) = found {
                break found;
            }
        };
        let expected = 10.0 * PIECE as f64 / COPIED;
        assert_eq!((found, ticks, loading.has_work()), (7, 5, false));
        assert!((used.as_secs_f64() - expected).abs() < 1e-8, "{used:?} for {expected}");
        assert_eq!(loading.tick(&mut Budget::gpu(time)).unwrap(), None);
        // A piece that an untouched budget does not pay for is all of that tick, however little comes behind it.
        let mut loading = Loading::<u32>::new(async move {
            pace::bytes(PIECE).await;
            pace::bytes(4).await;
            Ok(8)
        });
        let half = Duration::from_secs_f64(0.5 * PIECE as f64 / COPIED);
        let mut ticks = [(); 3].map(|()| Budget::gpu(half));
        ticks[0] = ticks[0].clone().strict();
        let found = ticks.each_mut().map(|budget| loading.tick(budget).unwrap());
        assert_eq!(found, [None, None, Some(8)]);
        assert_eq!((ticks[0].used(), ticks[1].used()), (Duration::ZERO, 2 * half));
    }

    /// What loads on this thread outside of ticks, on another, and within a tick of something else.
    #[test]
    fn nobody_else_is_held_back() {
        let anywhere = || Gpu::cpu_executor().block_on(pace::bytes(u64::MAX));
        let mut outer = Loading::<u32>::new(async move {
            std::thread::spawn(anywhere).join().unwrap();
            let mut inner = Loading::<u32>::new(async move {
                pace::pipeline().await;
                pace::pipeline().await;
                Ok(1)
            });
            let mut own = Budget::gpu(Duration::from_secs(1));
            assert_eq!(inner.tick(&mut own).unwrap(), None);
            assert_eq!(inner.tick(&mut own).unwrap(), Some(1));
            // This tick's pipeline is still to be had, and no second one.
            pace::pipeline().await;
            pace::pipeline().await;
            Ok(2)
        });
        let mut ticks = [(); 2].map(|()| Budget::gpu(Duration::from_millis(1)));
        assert_eq!(ticks.each_mut().map(|budget| outer.tick(budget).unwrap()), [None, Some(2)]);
        // One that panicked holds nobody back either.
        let mut panics = Loading::<u32>::new(async move { panic!("what a host catches") });
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panics.tick(&mut ticks[0])));
        assert!(caught.is_err() && !pace::is_set());
        anywhere();
    }
}
