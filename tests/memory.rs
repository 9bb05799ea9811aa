//! How much of the heap a model takes: little more than its largest tensor while it is loaded, no more with every run, and a run
//! few allocations. And how much of the device a language model takes: its weights, its cache, and little besides.
//!
//! Only Rust's heap is counted. On a software adapter the buffers of the device are process memory too, but the driver's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![allow(unsafe_code, reason = "an allocator that counts is an allocator")]

mod support;

use lampyris::engine::gpu::InputData;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{BlocksLayout, Gguf, MetadataValue, TensorSink, write_gguf_with};
use lampyris::engine::weights::{TensorFile, Weights, WeightsError};
use lampyris::models::decoder::{Decoder, DecoderFiles};
use lampyris::models::mobilenet::Pixels;
use lampyris::text::{GgufVocabulary, Tokenizer};
use lampyris::text_model::{TextFiles, TextModel};
use lampyris::{Classifier, Gpu, Input, wgpu};
use serde_json::json;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
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

/// Bytes that a language model may take of the heap beside its file's largest tensor while it is loaded and speaks, without its tokenizer; half
/// of its weights where that is less, so that a second copy of them is noticed.
const ROOM_OF_TEXT: usize = 128 << 20;
/// Bytes that it may take of the device beside 1.1 times its weights and its cache; half of its weights where that is less.
const ROOM_ON_DEVICE: u64 = 64 << 20;
/// Bytes of the heap that a tokenizer may take for each of its tokens.
const MOST_OF_A_TOKEN: usize = 1000;
/// Columns and units of a layer of the language model that is made here.
const COLUMNS: usize = 1024;
const UNITS: usize = 4096;
const VOCABULARY: usize = 4096;
/// Units of an expert.
const EXPERT: usize = 256;
/// Tokens that its session has room for.
const CONTEXT: usize = 256;

/// Names, as the two kinds of files have them, and shapes of a decoder's tensors.
fn layout(layers: usize) -> Vec<([String; 2], Vec<usize>)> {
    let both = |gguf: &str, folder: &str| [format!("{gguf}.weight"), format!("model.{folder}.weight")];
    let mut tensors = vec![
        (both("token_embd", "embed_tokens"), vec![VOCABULARY, COLUMNS]),
        (both("output_norm", "norm"), vec![COLUMNS]),
    ];
    for layer in 0..layers {
        for (gguf, folder, shape) in [
            ("attn_norm", "input_layernorm", vec![COLUMNS]),
            ("attn_q", "self_attn.q_proj", vec![COLUMNS, COLUMNS]),
            ("attn_k", "self_attn.k_proj", vec![COLUMNS / 4, COLUMNS]),
            ("attn_v", "self_attn.v_proj", vec![COLUMNS / 4, COLUMNS]),
            ("attn_output", "self_attn.o_proj", vec![COLUMNS, COLUMNS]),
            ("ffn_norm", "post_attention_layernorm", vec![COLUMNS]),
            ("ffn_gate", "mlp.gate_proj", vec![UNITS, COLUMNS]),
            ("ffn_up", "mlp.up_proj", vec![UNITS, COLUMNS]),
            ("ffn_down", "mlp.down_proj", vec![COLUMNS, UNITS]),
        ] {
            tensors.push((both(&format!("blk.{layer}.{gguf}"), &format!("layers.{layer}.{folder}")), shape));
        }
    }
    tensors
}

/// Writes a decoder of `layers` in BF16, 31 MB a layer, into a folder with a tokenizer; the bytes of its tensors.
fn write_folder(folder: &Path, layers: usize) -> u64 {
    let config = json!({
        "model_type": "llama", "hidden_size": COLUMNS, "intermediate_size": UNITS, "num_hidden_layers": layers,
        "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": VOCABULARY, "max_position_embeddings": 4096,
        "tie_word_embeddings": true,
    });
    write(folder, &config, layout(layers).into_iter().map(|([_, name], shape)| (name, shape)).collect())
}

/// Writes a decoder of one layer of so many experts in BF16, 1.6 MB each, a megabyte of which plans join; the bytes of its tensors.
fn write_mixture(folder: &Path, experts: usize) -> u64 {
    let config = json!({
        "model_type": "qwen3_moe", "hidden_size": COLUMNS, "intermediate_size": UNITS, "num_hidden_layers": 1,
        "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": COLUMNS / 16, "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096, "tie_word_embeddings": true, "num_experts": experts, "num_experts_per_tok": 2,
        "moe_intermediate_size": EXPERT, "norm_topk_prob": true,
    });
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let mut tensors: Vec<_> = layout(1).into_iter().map(|([_, name], shape)| (name, shape)).collect();
    tensors.retain(|tensor| !tensor.0.contains(".mlp."));
    tensors.extend(["q_norm", "k_norm"].map(|name| (layer(&format!("self_attn.{name}")), vec![COLUMNS / 16])));
    tensors.push((layer("mlp.gate"), vec![experts, COLUMNS]));
    for expert in 0..experts {
        for (part, shape) in [("gate", [EXPERT, COLUMNS]), ("up", [EXPERT, COLUMNS]), ("down", [COLUMNS, EXPERT])] {
            tensors.push((layer(&format!("mlp.experts.{expert}.{part}_proj")), shape.to_vec()));
        }
    }
    write(folder, &config, tensors)
}

/// Writes a folder of tensors in BF16 with a tokenizer; their bytes.
fn write(folder: &Path, config: &serde_json::Value, tensors: Vec<(String, Vec<usize>)>) -> u64 {
    std::fs::create_dir(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/fixtures/tokenizer.json");
    std::fs::copy(tokenizer, folder.join("tokenizer.json")).unwrap();
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in &tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, end] }));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join("model.safetensors")).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    for (_, shape) in &tensors {
        // Gains of one, and weights of about a hundredth with either sign.
        let number = |at: usize| {
            if shape.len() == 1 { 0x3f80 } else { 0x3c00 + (at * 37 % 128) as u16 + ((at % 3 / 2) << 15) as u16 }
        };
        let row: Vec<u8> = (0..*shape.last().unwrap()).flat_map(|at| number(at).to_le_bytes()).collect();
        (0..shape.iter().product::<usize>() / shape.last().unwrap()).for_each(|_| file.write_all(&row).unwrap());
    }
    file.flush().unwrap();
    end as u64
}

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
    let tensors = layout(layers);
    let format = |shape: &[usize]| if shape.len() == 1 { BlockFormat::F32 } else { BlockFormat::Q8_0 };
    let layouts: Vec<BlocksLayout<'_>> =
        tensors.iter().map(|([name, _], shape)| BlocksLayout { name, format: format(shape), shape }).collect();
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

/// Refuses more than a language model with a `file` may take of the heap, and of the device, since `before`.
fn check(name: &str, gpu: &Gpu, model: &Decoder, (path, file, before, tokenizer): (&Path, u64, isize, usize)) {
    let peak = (PEAK.load(SeqCst) - before) as usize - tokenizer;
    let needs = model.needs(CONTEXT).unwrap();
    let stored = TensorFile::open(path).unwrap();
    let (held, largest) = (gpu.held_bytes(), stored.tensors().map(|tensor| tensor.bytes).max().unwrap());
    eprintln!(
        "{file} bytes of weights on {name}: {peak} bytes of heap at the peak, {tokenizer} more of the tokenizer, the largest tensor \
         {largest} and of a plan {:?}; {held} on the device, {} of them weights and {} cache",
        needs.largest, needs.weights, needs.cache
    );
    assert!(peak < ROOM_OF_TEXT.min(file as usize / 2) + largest as usize, "{name}: {peak} bytes of heap at the peak");
    let room = needs.cache + ROOM_ON_DEVICE.min(file / 2);
    let most = 1.1 * file as f64 + room as f64;
    assert!(held as f64 <= most, "{name}: {held} bytes on the device");
    // What the driver's allocator has given, where it tells: with what nobody counts, such as the memory that uploads pass through.
    let report = gpu.device().and_then(wgpu::Device::generate_allocator_report);
    if let Some(taken) = report.map(|report| report.total_allocated_bytes) {
        eprintln!("{taken} bytes of the device's memory are taken on {name}");
        assert!(taken >= needs.weights && taken as f64 <= most, "{name}: {taken} bytes of the device's memory");
    }
}

/// What a folder takes that is loaded as people load one, with its tokenizer.
fn of_folder(name: &str, gpu: &Gpu, (path, file): (&Path, u64)) {
    let empty = LIVE.load(SeqCst);
    let read = TextFiles::open(path).unwrap().read_tokenizer().unwrap();
    let tokenizer = (LIVE.load(SeqCst) - empty) as usize;
    drop(read);
    let before = LIVE.load(SeqCst);
    PEAK.store(before, SeqCst);
    let model = gpu.block_on(TextModel::load(gpu, path)).unwrap();
    let mut session = gpu.block_on(model.session(CONTEXT)).unwrap();
    let mut answer =
        gpu.block_on(session.generate("Every kernel has a twin that says what it must compute", 3)).unwrap();
    while gpu.block_on(answer.next()).unwrap().is_some() {}
    check(&format!("{name}, as a folder"), gpu, model.decoder(), (path, file, before, tokenizer));
}

/// What the tokenizers of published models' vocabularies take of the heap.
fn of_tokenizers() {
    let Some(folder) = material().map(|folder| folder.join("tokenizers")) else { return };
    for name in ["gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"] {
        let before = LIVE.load(SeqCst);
        let path = folder.join(name).join(format!("ggml-vocab-{name}.gguf"));
        let vocabulary = GgufVocabulary::read(&Gguf::open(&path).unwrap()).unwrap();
        let tokens = vocabulary.tokens.len();
        let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
        let held = (LIVE.load(SeqCst) - before) as usize;
        eprintln!("the tokenizer of {name}: {held} bytes of heap for {tokens} tokens");
        // A token is some copies of its text, its number, and its place in the maps that find both and in those of merges.
        assert!((20 * tokens..MOST_OF_A_TOKEN * tokens).contains(&held), "{name}: {held} bytes for {tokens} tokens");
        drop(tokenizer);
    }
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
    assert_eq!(
        told.1 + 4 * (CONTEXT * COLUMNS / 16) as u64,
        model.needs(CONTEXT).unwrap().weights,
        "{name}: all weights but the turns of positions"
    );
    check(name, gpu, &model, (path, file, before, 0));
}

/// One test, because a second thread's memory would be counted with it.
#[test]
fn the_heap_stays_small_and_does_not_grow() {
    let folder = tempfile::tempdir().unwrap();
    let (path, layers) = (folder.path().join("made.gguf"), if full_tier() { 17 } else { 3 });
    let file = write_decoder(&path, layers);
    let [dense, mixed] = ["dense", "mixture"].map(|name| folder.path().join(name));
    // In the full tier the experts that a plan would join take more than the heap may hold, where a binding holds them.
    let experts = if full_tier() { 200 } else { 24 };
    let folders = [(&dense, write_folder(&dense, layers - 1)), (&mixed, write_mixture(&mixed, experts))];
    of_tokenizers();
    for (at, (name, gpu)) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()).enumerate() {
        if at == 0 || full_tier() {
            of_texts(&name, &gpu, &path, file);
            folders.iter().for_each(|(path, bytes)| of_folder(&name, &gpu, (path, *bytes)));
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
