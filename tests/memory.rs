//! How much of the heap a model takes: little more than its largest tensor while it is loaded, no more with every run, and a run
//! few allocations. And how much of the device a language model takes: its weights, its cache, and little besides.
//!
//! Only Rust's heap is counted. On a software adapter the buffers of the device are process memory too, but the driver's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![allow(unsafe_code, reason = "an allocator that counts is an allocator")]

mod support;

use lampyris::engine::gpu::InputData;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{BlocksLayout, MetadataValue, TensorSink, write_gguf_with};
use lampyris::engine::weights::{Weights, WeightsError};
use lampyris::models::decoder::{Decoder, DecoderFiles};
use lampyris::models::mobilenet::Pixels;
use lampyris::{Classifier, Gpu, Input};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicIsize, Ordering::SeqCst};
use support::photos::json;
use support::{devices, fixture, full_tier, material};

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

/// Bytes that a language model may take of the heap beside its largest tensor while it is loaded and speaks. Its tokenizer is not
/// among them.
const ROOM_OF_TEXT: usize = 128 << 20;
/// Columns and units of a layer of the language model that is made here.
const COLUMNS: usize = 1024;
const UNITS: usize = 4096;
const VOCABULARY: usize = 4096;
/// Tokens that its session has room for.
const CONTEXT: usize = 256;

/// Writes a decoder of `layers` in Q8_0 tensor by tensor, 17.8 MB a layer; the bytes of its tensors.
fn write_decoder(path: &Path, layers: usize) -> u64 {
    let number = |value: usize| MetadataValue::U32(value as u32);
    let mut metadata = vec![("general.architecture", MetadataValue::String("llama".to_owned()))];
    metadata.extend([
        ("llama.context_length", number(4096)),
        ("llama.embedding_length", number(COLUMNS)),
        ("llama.block_count", number(layers)),
        ("llama.feed_forward_length", number(UNITS)),
        ("llama.attention.head_count", number(16)),
        ("llama.attention.head_count_kv", number(4)),
        ("llama.attention.layer_norm_rms_epsilon", MetadataValue::F32(1e-5)),
    ]);
    let mut tensors: Vec<(String, Vec<usize>)> =
        vec![("token_embd.weight".into(), vec![VOCABULARY, COLUMNS]), ("output_norm.weight".into(), vec![COLUMNS])];
    for layer in 0..layers {
        for (name, shape) in [
            ("attn_norm", vec![COLUMNS]),
            ("attn_q", vec![COLUMNS, COLUMNS]),
            ("attn_k", vec![COLUMNS / 4, COLUMNS]),
            ("attn_v", vec![COLUMNS / 4, COLUMNS]),
            ("attn_output", vec![COLUMNS, COLUMNS]),
            ("ffn_norm", vec![COLUMNS]),
            ("ffn_gate", vec![UNITS, COLUMNS]),
            ("ffn_up", vec![UNITS, COLUMNS]),
            ("ffn_down", vec![COLUMNS, UNITS]),
        ] {
            tensors.push((format!("blk.{layer}.{name}.weight"), shape));
        }
    }
    let format = |shape: &[usize]| if shape.len() == 1 { BlockFormat::F32 } else { BlockFormat::Q8_0 };
    let layouts: Vec<BlocksLayout<'_>> =
        tensors.iter().map(|(name, shape)| BlocksLayout { name, format: format(shape), shape }).collect();
    // A block's scale is about 0.001.
    let block: Vec<u8> = [0x19, 0x14].into_iter().chain((0..32).map(|i| (i * 37 + 11) as u8)).collect();
    let mut written = 0;
    let mut put = |number: usize, sink: &mut TensorSink<'_>| -> Result<(), WeightsError> {
        let shape = &tensors[number].1;
        if shape.len() == 1 {
            written += 4 * shape[0] as u64;
            return sink.put(&1f32.to_le_bytes().repeat(shape[0]));
        }
        let row = block.repeat(shape[1] / 32);
        for _ in 0..shape[0] {
            written += row.len() as u64;
            sink.put(&row)?;
        }
        Ok(())
    };
    write_gguf_with(path, &metadata, &layouts, &mut put).unwrap();
    written
}

/// What a language model takes of the heap and of the device: in the full tier one whose weights are more than twice what the heap may
/// hold.
fn of_texts(name: &str, gpu: &Gpu, path: &Path, file: u64) {
    let before = LIVE.load(SeqCst);
    PEAK.store(before, SeqCst);
    let model = Decoder::new(gpu, DecoderFiles::open(path).unwrap()).unwrap();
    let (mut told, mut steps) = ((0, 0), 0);
    let arrived = |bytes, total| {
        assert!(bytes > told.0 && bytes <= total, "{name}: {bytes} of {total} after {told:?}");
        (told, steps) = ((bytes, total), steps + 1);
    };
    gpu.block_on(model.load(arrived)).unwrap();
    assert!(told.0 == told.1 && steps > 10, "{name}: {told:?} in {steps} steps");
    let mut session = gpu.block_on(model.session(CONTEXT)).unwrap();
    gpu.block_on(session.feed(&(0..40).collect::<Vec<u32>>())).unwrap();
    let mut answer = session.generate(3).unwrap();
    while gpu.block_on(answer.next()).unwrap().is_some() {}
    let peak = (PEAK.load(SeqCst) - before) as usize;
    let needs = model.needs(CONTEXT).unwrap();
    let (held, largest) = (gpu.held_bytes(), needs.largest.1);
    eprintln!(
        "{file} bytes of weights on {name}: {peak} bytes of heap at the peak, the largest tensor {largest}; {held} on the device, {} of \
         them weights and {} cache",
        needs.weights, needs.cache
    );
    assert_eq!(
        told.1 + 4 * (CONTEXT * COLUMNS / 16) as u64,
        needs.weights,
        "{name}: all weights but the turns of positions"
    );
    assert!(peak < ROOM_OF_TEXT.min(file as usize / 2) + largest as usize, "{name}: {peak} bytes of heap at the peak");
    assert!(held as f64 <= 1.1 * file as f64 + (needs.cache + (64 << 20)) as f64, "{name}: {held} bytes on the device");
}

/// One test, because a second thread's memory would be counted with it.
#[test]
fn the_heap_stays_small_and_does_not_grow() {
    let folder = tempfile::tempdir().unwrap();
    let (path, layers) = (folder.path().join("made.gguf"), if full_tier() { 17 } else { 3 });
    let file = write_decoder(&path, layers);
    for (at, (name, gpu)) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()).enumerate() {
        if at == 0 || full_tier() {
            of_texts(&name, &gpu, &path, file);
        }
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
