//! How much of the heap a model takes: little more than its largest tensor while it is loaded, no more with every run, and a run
//! few allocations.
//!
//! Only Rust's heap is counted. On a software adapter the buffers of the device are process memory too, but the driver's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![allow(unsafe_code, reason = "an allocator that counts is an allocator")]

mod support;

use lampyris::engine::gpu::InputData;
use lampyris::engine::weights::Weights;
use lampyris::models::mobilenet::Pixels;
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

/// Allocations that wgpu may make in a run: for an encoder, a pass, a submission and a mapping, and for each dispatch. The engine
/// itself makes none when the outputs are known.
const OF_WGPU: isize = 48;
const OF_WGPU_A_DISPATCH: isize = 3;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);
static TAKEN: AtomicIsize = AtomicIsize::new(0);

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
        TAKEN.fetch_add(1, SeqCst);
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

/// Allocations of one run of the network alone, at best of many: with new tensors for its outputs, and into those of an earlier run.
fn allocations(gpu: &Gpu, classifier: &Classifier) -> [isize; 2] {
    let executor = gpu.block_on(classifier.executor(1, Pixels::Rgba8)).unwrap();
    let plan = executor.gpu_plan().unwrap();
    let words = vec![5; plan.plan().tensor(plan.plan().inputs[0]).desc.words()];
    let mut outputs = Vec::new();
    let mut taken = |again: bool| {
        let before = TAKEN.load(SeqCst);
        let pending = plan.submit(&[InputData::Words(&words)], &[]).unwrap();
        match again {
            true => gpu.block_on(pending.wait_into(&mut outputs)).unwrap(),
            false => drop(gpu.block_on(pending.wait()).unwrap()),
        }
        TAKEN.load(SeqCst) - before
    };
    [false, true].map(|again| (0..WARM).map(|_| taken(again)).min().unwrap())
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
                let [new, again] = allocations(&gpu, &classifier);
                let steps = classifier.plan(1, Pixels::Rgba8).unwrap().steps.len();
                eprintln!(
                    "{} on {name}: {new} allocations in a run of {steps} steps, {again} into known outputs",
                    shown(&model)
                );
                // The list, and the shape and words of each output.
                let plan = classifier.plan(1, Pixels::Rgba8).unwrap();
                assert_eq!(new - again, 1 + 2 * plan.outputs.len() as isize, "{} on {name}", shown(&model));
                let allowed = OF_WGPU + OF_WGPU_A_DISPATCH * plan.steps.len() as isize;
                assert!(again <= allowed, "{} on {name}: {again} allocations a run", shown(&model));
            }
        }
    }
}
