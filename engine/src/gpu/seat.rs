//! A device that takes the place of a lost one: a host's new one, or another that the engine opens itself.

use super::device::Inner;
use super::{Gpu, adapter};
use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The device that is there now, for all handles that began with the same one.
#[derive(Debug)]
pub(super) struct Seat {
    inner: Mutex<Arc<Inner>>,
    /// How often another device has taken the place.
    times: AtomicU64,
}

impl Seat {
    fn lock(&self) -> MutexGuard<'_, Arc<Inner>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of another device; later ones have larger numbers.
pub(super) fn next_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Gpu {
    /// The first handle of a device that takes nobody's place.
    pub(super) fn seated(inner: Inner) -> Gpu {
        let inner = Arc::new(inner);
        let seat = Seat { inner: Mutex::new(inner.clone()), times: AtomicU64::new(0) };
        Gpu { seat: Arc::new(seat), inner }
    }

    /// The handle of the device that is there now, lost or not: this one's, or the one that has taken its place.
    #[must_use]
    pub fn current(&self) -> Gpu {
        Gpu { inner: self.seat.lock().clone(), seat: self.seat.clone() }
    }

    /// How often another device has taken the place of the one before, for all handles that began with the same one.
    pub fn times_replaced(&self) -> u64 {
        self.seat.times.load(Ordering::Relaxed)
    }

    /// Whether both handles stand for the same device.
    pub fn is_same_device(&self, other: &Gpu) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether the engine opened the device that is there now itself, and opens another when it is lost. A host's is the host's to replace.
    pub fn reopens(&self) -> bool {
        self.seat.lock().opened_here
    }

    /// The handle of a device that is not known to be lost: this one's or the one that has taken its place; a new one, opened as the first
    /// was, where the engine's own is lost. Models call this themselves whenever they need a device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] while a host has not replaced its device, and when no adapter can be found; as [`Gpu::with`] when a driver
    /// refuses.
    pub async fn alive(&self) -> Result<Gpu> {
        let current = self.current();
        let Err(lost) = current.check_alive() else { return Ok(current) };
        if !current.inner.opened_here {
            return Err(lost);
        }
        let options = current.options().clone();
        let instance = adapter::instance();
        let mut refused = lost;
        for adapter in adapter::choose(&instance, (&options.adapter, options.power)).await? {
            match Gpu::open(&adapter, options.clone(), Some(&current)).await {
                Ok(opened) => {
                    self.take_place(&current, opened);
                    return Ok(self.current());
                }
                Err(error) => {
                    tracing::warn!(%error, "an adapter was left out");
                    if matches!(refused, Error::DeviceLost { .. }) {
                        refused = error;
                    }
                }
            }
        }
        Err(refused)
    }

    /// Puts a device in the place of `before`, unless another call was faster.
    fn take_place(&self, before: &Gpu, fresh: Inner) {
        let mut seat = self.seat.lock();
        if Arc::ptr_eq(&seat, &before.inner) {
            *seat = Arc::new(fresh);
            self.seat.times.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands over a host's new device, after the loss of the one before or in its place. This handle stands for the new one from here
    /// on; what was loaded through it or a clone of it goes there with its next call: weights are made again from where they came, and
    /// sessions compute again what they held, in the shapes of before. Results that were on their way are told lost.
    ///
    /// On the same adapter with the same features, sessions go on with the tokens that they would have had; a device that can do more or less
    /// may run other variants of the kernels.
    ///
    /// # Errors
    /// As [`Gpu::from_device`]; then the handle stands for the device of before.
    pub fn replace_device(
        &mut self,
        adapter: &wgpu::Adapter,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
    ) -> Result<()> {
        let before = self.current();
        let fresh = Gpu::lent(adapter, device, queue, before.options().clone(), Some(&before))?;
        before.notify_lost("its host has replaced it");
        self.take_place(&before, fresh);
        *self = self.current();
        Ok(())
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::gpu::GpuOptions;

    #[test]
    fn what_takes_a_place_is_seen_by_every_handle_and_a_slower_call_takes_nobodys() {
        let first = Gpu::cpu_executor();
        let clone = first.clone();
        let before = first.current();
        assert!(before.is_same_device(&clone) && !before.is_same_device(&Gpu::cpu_executor()));
        let [second, slower] = [0, 1].map(|_| Gpu::on_cpu(GpuOptions::default()));
        let number = second.number;
        first.take_place(&before, second);
        first.take_place(&before, slower);
        assert_eq!([&first, &clone].map(|gpu| gpu.current().inner.number), [number; 2]);
        assert_eq!([&first, &clone].map(|gpu| gpu.times_replaced()), [1; 2]);
        assert!(!first.is_same_device(&first.current()), "a handle stands for its own device");
    }

    #[test]
    fn a_lost_device_of_a_host_is_not_opened_again_by_the_engine() {
        let gpu = Gpu::cpu_executor();
        gpu.notify_lost("for the test");
        let error = pollster::block_on(gpu.alive()).unwrap_err();
        assert!(matches!(&error, Error::DeviceLost { reason, .. } if reason == "for the test"), "{error:?}");
    }
}
