//! Progress without a thread: futures that ask the device, never wait for it, and wake themselves again.

use super::Gpu;
#[cfg(not(target_arch = "wasm32"))]
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How the words begin with which wgpu unwinds out of a poll.
#[cfg(not(target_arch = "wasm32"))]
const POLL_FAILED: &str = "Error in Device::poll";

/// A value that a driver's callback delivers.
#[derive(Debug)]
pub(super) struct Mailbox<T>(Arc<Letterbox<T>>);

/// The same, for those who share it with something else.
#[derive(Debug)]
pub(super) struct Letterbox<T>(Mutex<Slot<T>>);

/// What has been delivered, and who waits for it.
#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    waiting: Option<Waker>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox(self.0.clone())
    }
}

impl<T> Letterbox<T> {
    pub(super) fn new() -> Letterbox<T> {
        Letterbox(Mutex::new(Slot { value: None, waiting: None }))
    }

    fn slot(&self) -> MutexGuard<'_, Slot<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, value: T) {
        let mut slot = self.slot();
        slot.value = Some(value);
        let waiting = slot.waiting.take();
        drop(slot);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    pub(super) fn take(&self) -> Option<T> {
        self.slot().value.take()
    }

    /// Takes what was delivered, or has the waker of `context` called once something is: by the delivery, and where nobody but this
    /// future may ask the device, at once.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Option<T> {
        // A waker is a stranger's code, which may ask here again: it is cloned, dropped and called while nobody holds the lock.
        let waker = context.waker().clone();
        let mut slot = self.slot();
        let value = slot.value.take();
        let idle = if value.is_none() { slot.waiting.replace(waker) } else { Some(waker) };
        drop(slot);
        drop(idle);
        // A browser delivers between two turns of its event loop, which a task that wakes itself at once would never
        // let come; it tells of a lost device by delivering too.
        #[cfg(not(target_arch = "wasm32"))]
        if value.is_none() {
            context.waker().wake_by_ref();
        }
        value
    }
}

impl<T> Mailbox<T> {
    pub(super) fn new() -> Mailbox<T> {
        Mailbox(Arc::new(Letterbox::new()))
    }

    pub(super) fn put(&self, value: T) {
        self.0.put(value);
    }

    pub(super) fn take(&self) -> Option<T> {
        self.0.take()
    }

    /// Waits for the delivery, polling the device each time it is asked; `None` when the device is lost, for then a
    /// driver may never deliver.
    pub(super) async fn receive(&self, gpu: &Gpu) -> Option<T> {
        std::future::poll_fn(|context| {
            gpu.pump();
            match self.0.poll(context) {
                Some(value) => Poll::Ready(Some(value)),
                None if gpu.check_alive().is_err() => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Gpu {
    /// Delivers what has arrived from the device, without ever waiting. Call it once a frame when nothing polls a
    /// future of the engine.
    ///
    /// # Panics
    /// Where a callback of the host's own does, which the poll has run.
    pub fn pump(&self) {
        self.poll(wgpu::PollType::Poll);
    }

    /// Polls the device, and the one that has taken its place, so that every handle makes progress.
    fn poll(&self, kind: wgpu::PollType) {
        let current = self.current();
        if !self.is_same_device(&current) {
            self.poll_own(wgpu::PollType::Poll);
        }
        current.poll_own(kind);
    }

    /// Polls this handle's device. wgpu unwinds when a driver loses its device in the middle of that; here it is noted as what it is. What a callback
    /// of a host's own panics about, which the poll has run, goes on to the host.
    #[cfg(not(target_arch = "wasm32"))]
    fn poll_own(&self, kind: wgpu::PollType) {
        let Some(device) = self.device() else { return };
        self.count_poll(!matches!(kind, wgpu::PollType::Poll));
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.poll(kind)));
        if let Err(panic) = polled {
            let of_wgpu = panic.downcast_ref().is_some_and(|words: &String| words.starts_with(POLL_FAILED));
            if !of_wgpu {
                self.note_if_lost();
            }
            if !of_wgpu && self.check_alive().is_ok() {
                std::panic::resume_unwind(panic);
            }
            self.notify_lost("the driver failed while it was polled");
        }
    }

    /// Counts a poll: a browser polls its devices by itself, between two turns of its event loop.
    #[cfg(target_arch = "wasm32")]
    fn poll_own(&self, _kind: wgpu::PollType) {
        if self.device().is_some() {
            self.count_poll(false);
        }
    }

    /// Drives a future to its end on this thread, sleeping in the driver while the device works. For binaries,
    /// examples and tests: a guest in somebody else's frame awaits or calls [`Gpu::pump`] instead.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(value) = Pin::as_mut(&mut future).poll(&mut context) {
                return value;
            }
            let timeout = Some(std::time::Duration::from_secs(1));
            self.poll(wgpu::PollType::Wait { submission_index: None, timeout });
        }
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[test]
    fn what_a_lost_device_never_delivers_is_not_waited_for() {
        let gpu = Gpu::cpu_executor();
        let mailbox: Mailbox<u32> = Mailbox::new();
        gpu.notify_lost("for the test");
        assert_eq!(gpu.block_on(mailbox.receive(&gpu)), None);
        mailbox.put(7);
        assert_eq!(gpu.block_on(mailbox.receive(&gpu)), Some(7));
    }

    #[test]
    fn a_delivery_wakes_who_waits_for_it() {
        #[derive(Default)]
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (gpu, count) = (Gpu::cpu_executor(), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        let mailbox: Mailbox<u32> = Mailbox::new();
        let mut receiving = pin!(mailbox.receive(&gpu));
        assert_eq!(receiving.as_mut().poll(&mut context), Poll::Pending);
        let before = count.0.load(Ordering::Relaxed);
        mailbox.put(7);
        assert_eq!(count.0.load(Ordering::Relaxed), before + 1);
        assert_eq!(receiving.as_mut().poll(&mut context), Poll::Ready(Some(7)));
    }

    /// Asks the letterbox again whenever anything is done with it.
    struct Asks {
        letterbox: Arc<Letterbox<u32>>,
        locked: AtomicUsize,
        woken: AtomicUsize,
    }

    impl Wake for Asks {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.woken.fetch_add(1, Ordering::Relaxed);
            match self.letterbox.0.try_lock() {
                // As a poll from within would.
                Ok(_) => {}
                Err(_) => drop(self.locked.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    #[test]
    fn a_waker_may_poll_again_at_once() {
        let letterbox = Arc::new(Letterbox::new());
        let [locked, woken] = [0, 0].map(AtomicUsize::new);
        let asks = Arc::new(Asks { letterbox: letterbox.clone(), locked, woken });
        let waker = Waker::from(asks.clone());
        let mut context = Context::from_waker(&waker);
        for _ in 0..2 {
            assert_eq!(letterbox.poll(&mut context), None);
        }
        letterbox.put(7);
        assert_eq!(letterbox.poll(&mut context), Some(7));
        let [locked, woken] = [&asks.locked, &asks.woken].map(|count| count.load(Ordering::Relaxed));
        assert_eq!((locked, woken), (0, 3), "woken by each poll that found nothing, and by the delivery");
    }
}
