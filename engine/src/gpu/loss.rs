//! That a device is lost: noted once, whoever hears of it first, and told by a handle that a host's callback may hold.

use super::Gpu;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The reason, once the device is lost.
#[derive(Debug, Default)]
pub(super) struct Loss(Mutex<Option<String>>);

impl Loss {
    /// Notes a loss; an earlier reason stands.
    pub(super) fn note(&self, reason: &str) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = if reason.is_empty() { "no reason given" } else { reason };
        slot.get_or_insert_with(|| reason.lines().next().unwrap_or(reason).to_owned());
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells a [`Gpu`] that its device is lost, and keeps neither alive: what wgpu's one callback for a loss may hold. A callback that held
/// the [`Gpu`] would be held by the very device that it holds, which would then never be freed.
///
/// ```no_run
/// fn pass_it_on(device: &lampyris_engine::gpu::wgpu::Device, gpu: &lampyris_engine::Gpu) {
///     let guest = gpu.loss_notifier();
///     device.set_device_lost_callback(move |_, reason| guest.notify_lost(&reason));
/// }
/// ```
#[derive(Debug, Clone)]
pub struct LossNotifier {
    loss: Weak<Loss>,
}

impl LossNotifier {
    /// As [`Gpu::notify_lost`] of the handle that it is from; where nothing is left on its device, nobody is told.
    pub fn notify_lost(&self, reason: &str) {
        if let Some(loss) = self.loss.upgrade() {
            loss.note(reason);
        }
    }
}

impl Gpu {
    /// What a host's callback for a lost device tells the engine by: it stands for this handle's device, as [`Gpu::notify_lost`] does, and
    /// does not keep it alive. A device that takes its place needs another.
    pub fn loss_notifier(&self) -> LossNotifier {
        LossNotifier { loss: Arc::downgrade(&self.inner.lost) }
    }

    /// Told by a host that its device is lost (wgpu has one callback for it, and it is the host's; that should hold a
    /// [`Gpu::loss_notifier`]). The handle tells of the device that it stands for, so a call that comes late does no harm to the one
    /// that has replaced it.
    pub fn notify_lost(&self, reason: &str) {
        self.inner.lost.note(reason);
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn the_first_reason_stands_and_late_news_reach_nobody() {
        fn anywhere<T: Send + Sync + Clone + 'static>(of: T) -> T {
            of
        }
        let gpu = Gpu::cpu_executor();
        let told = anywhere(gpu.loss_notifier());
        told.clone().notify_lost("unplugged\nand more");
        gpu.notify_lost("");
        let error = gpu.check_alive().unwrap_err();
        assert!(matches!(&error, Error::DeviceLost { reason, .. } if reason == "unplugged"), "{error:?}");
        drop(gpu);
        assert!(told.loss.upgrade().is_none(), "the notifier kept something");
        told.notify_lost("once more");
    }
}
