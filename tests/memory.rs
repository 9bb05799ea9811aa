//! How much of the heap a model takes: little more than its largest tensor while it is loaded, and no more with every run.
//!
//! Only Rust's heap is counted. On a software adapter the buffers of the device are process memory too, but the driver's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![allow(unsafe_code, reason = "an allocator that counts is an allocator")]

mod support;

use lampyris::engine::weights::Weights;
use lampyris::{Classifier, Gpu, Input};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicIsize, Ordering::SeqCst};
use support::photos::json;
use support::{devices, fixture, material};

/// Bytes that the heap may hold beside the largest tensor while a model is loaded.
const ROOM: usize = 64 << 20;
/// Runs before and between the two looks at the heap.
const WARM: usize = 20;
const RUNS: usize = 200;
/// Bytes that may come and go between the looks: queues inside the driver's bindings that grow by doubling.
const SLACK: isize = 4 << 10;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(change: isize) {
    let live = LIVE.fetch_add(change, SeqCst) + change;
    PEAK.fetch_max(live, SeqCst);
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

/// The models to load: the largest recorded one, and a real one where it is at hand.
fn models() -> Vec<PathBuf> {
    let large = fixture("mobilenet_v3_large_w025");
    [Some(large), material().map(|folder| folder.join("mobilenet_v2"))].into_iter().flatten().collect()
}

fn shown(model: &Path) -> String {
    model.file_name().unwrap().display().to_string()
}

/// Bytes of a model's largest tensor, in 32-bit floats.
fn largest(model: &Path) -> usize {
    let weights = Weights::open(&model.join("model.safetensors")).unwrap();
    weights.tensors().iter().map(|tensor| tensor.elements() * 4).max().unwrap()
}

/// The heap's growth over 200 runs, after some that may still set up.
fn growth(gpu: &Gpu, classifier: &Classifier) -> isize {
    let pixels = vec![100u8; 300 * 200 * 4];
    let run = || {
        let inputs = [Input::rgba8(pixels.as_slice(), 300, 200), Input::rgba8(pixels.as_slice(), 200, 300)];
        let answers = gpu.block_on(classifier.classify_batch(&inputs)).unwrap();
        assert_eq!(answers.len(), 2);
    };
    (0..WARM).for_each(|_| run());
    gpu.pump();
    let before = LIVE.load(SeqCst);
    (0..RUNS).for_each(|_| run());
    gpu.pump();
    LIVE.load(SeqCst) - before
}

/// One test, because a second thread's memory would be counted with it.
#[test]
fn the_heap_stays_small_and_does_not_grow() {
    for (name, gpu) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        for model in models() {
            let before = LIVE.load(SeqCst);
            PEAK.store(before, SeqCst);
            let classifier = gpu.block_on(Classifier::load(&gpu, &model)).unwrap();
            let peak = (PEAK.load(SeqCst) - before) as usize;
            let allowed = ROOM + largest(&model);
            eprintln!("{} on {name}: {peak} bytes at the peak, {allowed} allowed", shown(&model));
            assert!(peak < allowed, "{} on {name}: {peak} bytes at the peak of loading", shown(&model));
            assert!(peak > 10_000, "the allocator does not count");
            let small = json(&model.join("config.json"))["image_size"] == 64;
            if small {
                let grown = growth(&gpu, &classifier);
                eprintln!("{} on {name}: {grown} bytes more after {RUNS} runs", shown(&model));
                assert!(grown < SLACK, "{} on {name}: {grown} bytes more after {RUNS} runs", shown(&model));
            }
        }
    }
}
