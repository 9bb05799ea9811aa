//! What frames cost the thread that records them: the heap allocations and the time of a part of each.

#![allow(dead_code, unreachable_pub, reason = "each test is a crate of its own and uses its part")]
#![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]
#![allow(unsafe_code, reason = "an allocator that counts is one")]

use lampyris_engine::Gpu;
use lampyris_engine::gpu::wgpu;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system's, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = MADE.try_with(|made| made.set(made.get() + 1));
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's block and layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Keeps wgpu from noting where its locks were taken, which it does in builds for tests where backtraces are asked for: that takes more memory
/// the deeper the caller's calls are nested. For the beginning of a test that is the only one of its program.
pub fn without_backtraces() {
    // SAFETY: no other thread has been started that could read the environment.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
}

/// The least that `frame` allocates and takes in some frames, after a first that is not counted; `after` has what the device has done by then.
pub fn least(
    gpu: &Gpu,
    mut frame: impl FnMut(&mut wgpu::CommandEncoder),
    mut after: impl FnMut(),
) -> (usize, Duration) {
    let (device, queue) = (gpu.device().unwrap(), gpu.queue().unwrap());
    let (mut made, mut took) = (usize::MAX, Duration::MAX);
    for at in 0..50 {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("host") });
        let (before, begun) = (MADE.with(Cell::get), Instant::now());
        frame(&mut encoder);
        let (taken, after_frame) = (begun.elapsed(), MADE.with(Cell::get));
        if at > 0 {
            (made, took) = (made.min(after_frame - before), took.min(taken));
        }
        queue.submit([encoder.finish()]);
        gpu.block_on(gpu.idle()).unwrap();
        after();
    }
    (made, took)
}
