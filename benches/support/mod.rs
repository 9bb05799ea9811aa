//! What the benches share: the adapter that the environment names, and the heap's count.

#![allow(unreachable_pub, dead_code, reason = "each bench is a crate of its own and uses its part")]

use lampyris::engine::gpu::wgpu;
use lampyris::{AdapterChoice, Gpu, GpuOptions};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// A bench's result; what it says ends the bench.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The adapter of `LAMPYRIS_ADAPTER`, or the best.
pub fn adapter() -> Result<Gpu> {
    let wanted: AdapterChoice =
        std::env::var("LAMPYRIS_ADAPTER").map_or(Ok(AdapterChoice::Best), |text| text.parse())?;
    let gpu = pollster::block_on(Gpu::with(GpuOptions::default().adapter(wanted)))?;
    if gpu.is_cpu_executor() {
        return Err("there is no adapter to measure; the CPU executor is the judge, not a device".into());
    }
    Ok(gpu)
}

/// A guest on a device that a host has opened on the same adapter, with what the engine can use.
pub fn guest() -> Result<Gpu> {
    let own = adapter()?;
    let is_it = |adapter: &wgpu::Adapter| {
        let info = adapter.get_info();
        (info.name, info.backend.to_string()) == (own.summary().name.clone(), own.summary().backend.clone())
    };
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let adapter = adapters.into_iter().find(is_it).ok_or("a host does not find the adapter")?;
    let wanted = Gpu::requirements(&adapter);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("the host's"),
        required_features: wanted.features,
        required_limits: wanted.limits,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
    Ok(Gpu::from_device(&adapter, &device, &queue)?)
}

/// Ends the bench with what went wrong.
pub fn end(error: &dyn std::fmt::Display) -> ! {
    eprintln!("\nerror: {error}");
    std::process::exit(1);
}

/// The system's heap, counting what is taken from it.
pub struct Counting;

static TAKEN: AtomicU64 = AtomicU64::new(0);

impl Counting {
    /// Allocations and reallocations so far, of all threads. A driver's own are not among them.
    pub fn taken() -> u64 {
        TAKEN.load(Ordering::Relaxed)
    }
}

#[allow(unsafe_code, reason = "a global allocator is an unsafe trait; this one only counts")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the system allocator's demand.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
