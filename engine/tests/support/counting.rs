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

/// Frames that are counted.
const FRAMES: usize = 49;

/// What `frame` allocates in a steady state, which is the median of some frames after the first and what most of them have in common, and the
/// least that it takes; `after` has what the device has done by then. wgpu's lists and ours grow now and then, so not all frames are equal.
pub fn steady(
    gpu: &Gpu,
    mut frame: impl FnMut(&mut wgpu::CommandEncoder),
    mut after: impl FnMut(),
) -> (usize, Duration) {
    let (device, queue) = (gpu.device().unwrap(), gpu.queue().unwrap());
    let (mut all, mut least) = (Vec::with_capacity(FRAMES), Duration::MAX);
    for at in 0..=FRAMES {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("host") });
        let (before, begun) = (MADE.with(Cell::get), Instant::now());
        frame(&mut encoder);
        let (taken, after_frame) = (begun.elapsed(), MADE.with(Cell::get));
        if at > 0 {
            all.push(after_frame - before);
            least = least.min(taken);
        }
        queue.submit([encoder.finish()]);
        gpu.block_on(gpu.idle()).unwrap();
        after();
    }
    let in_order = all.clone();
    all.sort_unstable();
    let median = all[FRAMES / 2];
    let equal = all.iter().filter(|made| **made == median).count();
    assert!(equal * 5 >= FRAMES * 4, "{equal} of {FRAMES} frames allocate {median} times: {in_order:?}");
    (median, least)
}
