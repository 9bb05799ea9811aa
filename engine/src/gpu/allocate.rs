//! The one place where the engine takes memory of a device: what a driver refuses is an error of the call that wanted it, and so is what a
//! test refuses in its place.

use super::Gpu;
#[cfg(not(target_arch = "wasm32"))]
use super::scope::now;
use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// How often memory was asked for.
#[derive(Debug, Default)]
pub(super) struct Allocations {
    asked: AtomicU64,
    /// The number of the one to refuse; 0 for none.
    refused: AtomicU64,
}

/// What a buffer is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) label: &'a str,
    pub(super) size: u64,
    pub(super) usage: wgpu::BufferUsages,
}

impl Gpu {
    /// Refuses an allocation, once: the one that comes after `more` others that are not refused. As if the driver had no memory left; for
    /// tests of what then becomes of everything else.
    #[doc(hidden)]
    pub fn refuse_allocation(&self, more: u64) {
        let allocations = &self.inner.allocations;
        allocations.refused.store(allocations.asked.load(Ordering::SeqCst) + more + 1, Ordering::SeqCst);
    }

    /// Allocations that this device was asked for so far: buffers, textures, query sets, bind groups, kernels, and what words wait in until they
    /// are written. In browsers they are not counted, and none is refused.
    #[doc(hidden)]
    pub fn allocations(&self) -> u64 {
        self.inner.allocations.asked.load(Ordering::SeqCst)
    }

    /// Stands before everything that takes memory of the device.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn allocating(&self, doing: &str) -> Result<()> {
        let allocations = &self.inner.allocations;
        let number = allocations.asked.fetch_add(1, Ordering::SeqCst) + 1;
        match allocations.refused.load(Ordering::SeqCst) == number {
            true => Err(self.no_memory(doing)),
            false => Ok(()),
        }
    }

    /// No test refuses anything in a browser.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn allocating(&self, _doing: &str) -> Result<()> {
        Ok(())
    }

    pub(super) fn no_memory(&self, doing: &str) -> Error {
        Error::OutOfMemory { adapter: self.summary().name.clone(), doing: doing.to_owned() }
    }

    /// A buffer, or what the driver says against it; in a browser, which answers later, within [`Gpu::guarded`].
    pub(super) fn buffer(&self, device: &wgpu::Device, doing: &str, wanted: Wanted<'_>) -> Result<wgpu::Buffer> {
        self.allocating(doing)?;
        let Wanted { label, size, usage } = wanted;
        debug_assert!(label.starts_with("lampyris."), "{label} does not say whose it is");
        let make = || {
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        #[cfg(not(target_arch = "wasm32"))]
        return self.made(device, doing, make);
        #[cfg(target_arch = "wasm32")]
        Ok(make())
    }

    /// What `make` makes, unless the driver has something against it or the device is gone.
    #[cfg(not(target_arch = "wasm32"))]
    fn made(&self, device: &wgpu::Device, doing: &str, make: impl FnOnce() -> wgpu::Buffer) -> Result<wgpu::Buffer> {
        let memory = self.listening(device, doing);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = make();
        let refused = now(validation.pop());
        let buffer = memory.heard(Ok(buffer))?;
        if let Some(error) = refused {
            let (adapter, doing) = (self.summary().name.clone(), doing.to_owned());
            return Err(Error::Driver { adapter, doing, reason: error.to_string() });
        }
        match self.is_void(device, &buffer) {
            true => Err(self.lost("the device makes no more buffers")),
            false => Ok(buffer),
        }
    }

    /// A buffer for what cannot wait. A browser answers later; there the commands are refused if the buffer could not be had.
    pub(super) fn buffer_at_once(
        &self,
        device: &wgpu::Device,
        doing: &str,
        wanted: Wanted<'_>,
    ) -> Result<wgpu::Buffer> {
        #[cfg(target_arch = "wasm32")]
        let nobody_hears = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.buffer(device, doing, wanted);
        #[cfg(target_arch = "wasm32")]
        drop(nobody_hears.pop());
        buffer
    }

    /// Notes that the device is gone if it is, of which a result did not arrive: whoever destroyed it may have told nobody. In a browser the device
    /// itself tells.
    pub(super) fn note_if_lost(&self) {
        if let (Some(device), Ok(()), false) = (self.device(), self.check_alive(), cfg!(target_arch = "wasm32")) {
            let wanted = Wanted { label: "lampyris.alive", size: 4, usage: wgpu::BufferUsages::COPY_DST };
            drop(self.buffer_at_once(device, "asking whether the device is lost", wanted));
        }
    }

    /// Hands words to the queue, which the device has with the next submit; until then the driver keeps them in memory of its own. Within
    /// [`Gpu::hearing`] or [`Gpu::guarded`], which hear that it had none.
    pub(super) fn write(
        &self,
        queue: &wgpu::Queue,
        doing: &str,
        (buffer, at): (&wgpu::Buffer, u64),
        bytes: &[u8],
    ) -> Result<()> {
        self.allocating(doing)?;
        queue.write_buffer(buffer, at, bytes);
        Ok(())
    }

    /// Listens from now on to whether the device has no memory for calls that cannot wait for what the driver says.
    pub(super) fn listening<'a>(&'a self, device: &wgpu::Device, doing: &'a str) -> Listening<'a> {
        #[cfg(target_arch = "wasm32")]
        let _ = device;
        Listening {
            gpu: self,
            doing,
            #[cfg(not(target_arch = "wasm32"))]
            memory: device.push_error_scope(wgpu::ErrorFilter::OutOfMemory),
        }
    }

    /// Makes calls that cannot wait for what the driver says, in a scope that closes before this returns; see [`Listening::heard`].
    pub(super) fn hearing<T>(
        &self,
        device: &wgpu::Device,
        doing: &str,
        calls: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let listening = self.listening(device, doing);
        let made = calls();
        listening.heard(made)
    }

    /// Whether a new buffer that may be written to is none, because the device is gone and whoever destroyed it told nobody. Its first use
    /// would be a mistake of ours in the ears of the host. A browser says nothing of what is done with a lost device.
    #[cfg(not(target_arch = "wasm32"))]
    fn is_void(&self, device: &wgpu::Device, buffer: &wgpu::Buffer) -> bool {
        let Some(queue) = self.queue().filter(|_| buffer.usage().contains(wgpu::BufferUsages::COPY_DST)) else {
            return false;
        };
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        queue.write_buffer(buffer, 0, &[]);
        now(scope.pop()).is_some()
    }
}

/// A scope in which is heard that a device has no memory. A browser answers later, and tells the handler of the device, which is ours there and
/// takes it for a loss.
pub(super) struct Listening<'a> {
    gpu: &'a Gpu,
    doing: &'a str,
    #[cfg(not(target_arch = "wasm32"))]
    memory: wgpu::ErrorScopeGuard,
}

impl Listening<'_> {
    /// What the calls have made, if the device had memory for them; else that it had none is their error. What they were for must not happen then,
    /// for words of theirs may be missing.
    pub(super) fn heard<T>(self, made: Result<T>) -> Result<T> {
        #[cfg(not(target_arch = "wasm32"))]
        if now(self.memory.pop()).is_some() {
            // wgpu gives a device up that has no memory for words to wait in.
            return Err(self.gpu.check_alive().err().unwrap_or_else(|| self.gpu.no_memory(self.doing)));
        }
        #[cfg(target_arch = "wasm32")]
        let _ = (self.gpu, self.doing);
        made
    }
}
