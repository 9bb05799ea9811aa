//! Files and blocks that other software made: values to the bit, and what is broken refused by name, in no time and no memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![allow(unsafe_code, reason = "an allocator that counts is an allocator")]

mod support;

#[path = "weight_files/blocks.rs"]
mod blocks;
#[path = "weight_files/files.rs"]
mod files;
#[path = "weight_files/hostile.rs"]
mod hostile;
#[path = "weight_files/products.rs"]
mod products;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    /// Bytes that this thread holds, and the most it has held.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(change: isize) {
    // A thread that ends frees after its figures are gone.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: everything is the system allocator's doing; the figures beside it change nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What `work` gives, the time it took, and the most bytes of the heap it held at once on this thread.
fn measured<T>(work: impl FnOnce() -> T) -> (T, Duration, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let begun = Instant::now();
    let made = work();
    (made, begun.elapsed(), usize::try_from(PEAK.get() - before).unwrap())
}

#[test]
fn the_heap_is_counted() {
    let (_, _, held) = measured(|| drop(vec![1_u8; 1 << 20]));
    assert!((1 << 20..(1 << 20) + 4096).contains(&held), "{held}");
}
