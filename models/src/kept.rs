//! What a classifier keeps between calls because making it takes long: executors by batch, and the plans that prepare pictures.

use crate::mobilenet::Pixels;
use crate::prepare::PictureKind;
use lampyris_engine::Executor;
use lampyris_engine::gpu::{Gpu, GpuPlan};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Executors that are kept, each for a batch size and a kind of pixels: those used last.
const KEPT_EXECUTORS: usize = 4;

/// Preparing plans that are kept, so that a camera's or a folder's pictures of one size are prepared without setting up again.
const KEPT_PICTURE_KINDS: usize = 16;

/// Most bytes of GPU memory that preparing plans hold between runs.
const KEPT_PREPARING_BYTES: u64 = 64 << 20;

/// A kind of picture, the number of the executor whose batch it belongs to and its position among the images.
pub(crate) type PreparingKey = (PictureKind, u64, usize);

/// An executor with what it is for. The number tells it from one that was made for the same before, whose buffers were others.
#[derive(Debug, Clone)]
pub(crate) struct Numbered {
    pub(crate) executor: Executor,
    pub(crate) number: u64,
    images: usize,
    pixels: Pixels,
}

/// The executors and preparing plans of a classifier.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Those used last, the latest at the end.
    executors: Mutex<Vec<Numbered>>,
    /// Likewise.
    preparing: Mutex<Vec<(PreparingKey, GpuPlan)>>,
    made: AtomicU64,
    /// The number of the executor whose buffer a host was given, counted from 1; 0 for none. It is not let go, or the host would read a buffer that
    /// nobody writes to any more.
    lent: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    /// The executor for a batch, if it is kept.
    pub(crate) fn executor(&self, images: usize, pixels: Pixels) -> Option<Numbered> {
        let mut executors = lock(&self.executors);
        let at = executors.iter().position(|kept| (kept.images, kept.pixels) == (images, pixels))?;
        let kept = executors.remove(at);
        executors.push(kept.clone());
        Some(kept)
    }

    /// Keeps an executor and lets the one go that was not used for longest, with what prepares its pictures.
    pub(crate) fn keep_executor(&self, gpu: &Gpu, images: usize, pixels: Pixels, executor: Executor) -> Numbered {
        let mut executors = lock(&self.executors);
        let same = |other: &&Numbered| (other.images, other.pixels) == (images, pixels) && other.executor.is_on(gpu);
        // Another thread, or a frame between two ticks of a loading, may have made it meanwhile, and a host may have a buffer of that.
        if let Some(there) = executors.iter().find(same) {
            return there.clone();
        }
        let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let kept = Numbered { executor, number, images, pixels };
        executors.retain(|other| (other.images, other.pixels) != (images, pixels));
        executors.push(kept.clone());
        while executors.len() > KEPT_EXECUTORS {
            let goes = executors.iter().position(|kept| !self.is_lent(kept)).unwrap_or(0);
            executors.remove(goes);
        }
        let numbers: Vec<u64> = executors.iter().map(|kept| kept.number).collect();
        drop(executors);
        lock(&self.preparing).retain(|((_, number, _), _)| numbers.contains(number));
        kept
    }

    /// Lets everything go that is not where `gpu` is, for that has taken the place of a lost device.
    pub(crate) fn keep_on(&self, gpu: &Gpu) {
        lock(&self.executors).retain(|kept| kept.executor.is_on(gpu));
        lock(&self.preparing).retain(|(_, plan)| plan.gpu().is_same_device(gpu));
    }

    /// The preparing plan for a picture, if it is kept.
    pub(crate) fn preparing(&self, key: &PreparingKey) -> Option<GpuPlan> {
        let mut kept = lock(&self.preparing);
        let at = kept.iter().position(|(known, _)| known == key)?;
        kept[at..].rotate_left(1);
        kept.last().map(|(_, plan)| plan.clone())
    }

    /// Keeps a preparing plan and lets those go that were not used for longest; those of a batch of `images` in hand live on until it has run.
    pub(crate) fn keep_preparing(&self, key: PreparingKey, plan: GpuPlan, images: usize) {
        let mut kept = lock(&self.preparing);
        kept.push((key, plan));
        let held = |kept: &[(PreparingKey, GpuPlan)]| kept.iter().map(|(_, plan)| plan.bytes()).sum::<u64>();
        while kept.len() > 1 && (held(&kept) > KEPT_PREPARING_BYTES || kept.len() > KEPT_PICTURE_KINDS.max(images)) {
            kept.remove(0);
        }
    }

    /// Keeps an executor until its device is lost, because a host has a buffer of it.
    pub(crate) fn lend(&self, executor: &Numbered) {
        let mut executors = lock(&self.executors);
        self.lent.store(executor.number, Ordering::Relaxed);
        // Another thread may have let it go meanwhile.
        if executors.iter().all(|kept| kept.number != executor.number) {
            executors.retain(|kept| (kept.images, kept.pixels) != (executor.images, executor.pixels));
            executors.push(executor.clone());
        }
    }

    fn is_lent(&self, executor: &Numbered) -> bool {
        self.lent.load(Ordering::Relaxed) == executor.number
    }

    /// Lets everything go that can be made again, because a budget needs its room; but for the executor of this number.
    pub(crate) fn make_room(&self, but: Option<u64>) {
        lock(&self.executors).retain(|kept| Some(kept.number) == but || self.is_lent(kept));
        lock(&self.preparing).clear();
    }
}
