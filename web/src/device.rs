//! What models are loaded onto: a device that the engine opens anew when the browser takes it away.

use crate::failure::{self, Outcome};
use lampyris::{AdapterKind, Gpu, GpuOptions, Power};
use serde_json::json;
use std::cell::RefCell;
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
}

#[wasm_bindgen]
impl Device {
    /// Opens the browser's adapter, `low-power` or `high-performance` where that is said. Refused with `no-webgpu` where there is none.
    pub async fn open(power: Option<String>) -> Outcome<Device> {
        let power = match power.as_deref() {
            None => Power::Unsaid,
            Some("low-power") => Power::Low,
            Some("high-performance") => Power::High,
            Some(_) => {
                let message =
                    "powerPreference is 'low-power' or 'high-performance'; leave it out for what the browser takes";
                return Err(failure::error("bad-input", message));
            }
        };
        let options = GpuOptions::default().power(power);
        let gpu = Gpu::with(options).await.map_err(|error| failure::engine(&error))?;
        if gpu.is_cpu_executor() {
            // It is not worth its slowness here.
            let message = "this browser gives no WebGPU adapter; use one with WebGPU, or turn hardware acceleration on";
            return Err(failure::error("no-webgpu", message));
        }
        let shared = Shared { gpu: RefCell::new(gpu) };
        Ok(Device { shared: Rc::new(shared) })
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
            "timesReopened": gpu.times_replaced(),
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
        }
        current
    }

    /// The device, opened anew if it is lost.
    pub(crate) async fn alive(&self) -> Outcome<Gpu> {
        self.gpu().alive().await.map_err(|error| failure::engine(&error))?;
        Ok(self.gpu())
    }
}
