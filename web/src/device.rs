//! What models are loaded onto: a device that the engine opens anew when the browser takes it away.

use crate::failure::{self, Outcome};
use lampyris::{AdapterKind, Gpu, GpuOptions};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// The browser's GPU. Clones share it.
#[wasm_bindgen]
#[derive(Clone)]
pub struct Device {
    shared: Rc<Shared>,
}

struct Shared {
    gpu: RefCell<Gpu>,
    /// How often it was opened anew.
    times: Cell<u32>,
}

#[wasm_bindgen]
impl Device {
    /// Opens the browser's adapter. Refused with `no-webgpu` where there is none.
    pub async fn open() -> Outcome<Device> {
        let gpu = Gpu::with(GpuOptions::default()).await.map_err(|error| failure::engine(&error))?;
        if gpu.is_cpu_executor() {
            // It is not worth its slowness here.
            let message = "this browser gives no WebGPU adapter; use one with WebGPU, or turn hardware acceleration on";
            return Err(failure::error("no-webgpu", message));
        }
        Ok(Device { shared: Rc::new(Shared { gpu: RefCell::new(gpu), times: Cell::new(0) }) })
    }

    /// The adapter and what it can do, as JSON.
    pub fn summary(&self) -> String {
        let gpu = self.gpu();
        let (summary, caps) = (gpu.summary(), gpu.caps());
        json!({
            "name": summary.name,
            "kind": summary.kind.label(),
            "software": summary.kind == AdapterKind::Software,
            "f16": caps.f16,
            "subgroups": caps.subgroup.is_some(),
            "timestamps": caps.timestamps,
            "maxBindingBytes": caps.max_binding_bytes,
            "maxBufferBytes": caps.max_buffer_bytes,
            "maxStorageBuffers": caps.max_storage_buffers,
            "maxWorkgroupBytes": caps.max_workgroup_bytes,
            "maxInvocations": caps.max_invocations,
            "timesReopened": self.shared.times.get(),
        })
        .to_string()
    }

    /// Bytes of GPU memory that models and sessions hold.
    #[wasm_bindgen(js_name = heldBytes)]
    pub fn held_bytes(&self) -> f64 {
        self.gpu().held_bytes() as f64
    }
}

impl Device {
    /// The device as it is, lost or not.
    pub(crate) fn gpu(&self) -> Gpu {
        let current = self.shared.gpu.borrow().current();
        if !current.is_same_device(&self.shared.gpu.borrow()) {
            self.shared.gpu.replace(current.clone());
            self.shared.times.set(self.shared.times.get() + 1);
        }
        current
    }

    /// The device, opened anew if it is lost.
    pub(crate) async fn alive(&self) -> Outcome<Gpu> {
        self.gpu().alive().await.map_err(|error| failure::engine(&error))?;
        Ok(self.gpu())
    }
}
