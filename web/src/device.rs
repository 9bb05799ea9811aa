//! A device that outlives its loss: what models are loaded onto, opened anew when the browser takes it away.

use crate::failure::{self, Outcome};
use lampyris::{AdapterKind, Gpu, GpuOptions, Power};
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
    /// How often it was opened anew; what is loaded remembers for which time.
    times: Cell<u32>,
    options: GpuOptions,
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
        let gpu = reach(&options).await?;
        let shared = Shared { gpu: RefCell::new(gpu), times: Cell::new(0), options };
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
        self.shared.gpu.borrow().clone()
    }

    /// The device, opened anew if it is lost, and for which time.
    pub(crate) async fn alive(&self) -> Outcome<(Gpu, u32)> {
        if self.gpu().check_alive().is_err() {
            let before = self.shared.times.get();
            let gpu = reach(&self.shared.options).await?;
            // Another call may have been faster.
            if self.shared.times.get() == before {
                self.shared.gpu.replace(gpu);
                self.shared.times.set(before + 1);
            }
        }
        Ok((self.gpu(), self.shared.times.get()))
    }
}

/// Opens a device of the browser; the CPU executor is not worth its slowness here.
async fn reach(options: &GpuOptions) -> Outcome<Gpu> {
    let gpu = Gpu::with(options.clone()).await.map_err(|error| failure::engine(&error))?;
    if gpu.is_cpu_executor() {
        let message = "this browser gives no WebGPU adapter; use one with WebGPU, or turn hardware acceleration on";
        return Err(failure::error("no-webgpu", message));
    }
    Ok(gpu)
}
