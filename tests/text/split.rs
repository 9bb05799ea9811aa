//! Tensors that are larger than a binding of the device: cut by rows, because they must be, with the results of the whole.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::{files, logits_by, noise, tensors};
use crate::support::host::{Host, hosts};
use crate::support::{devices, full_tier, relative, required};
use lampyris::engine::Plan;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::{TensorFile, Weights};
use lampyris::models::decoder::{CacheFormat, Conversion, Decoder, DecoderFiles, Head, PlanRequest, Products};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, EncoderPlan, TokenEncoder};
use lampyris::wgpu::DeviceDescriptor;
use lampyris::{Gpu, GpuOptions, VariantSet};

/// An embedding of 70,016 x 1024 in 16 bits takes 143 MB, and WebGPU's default binding is 134 MB.
const LARGE: &str = r#"{"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 70016, "max_position_embeddings": 64,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

/// The same text with tokens on both sides of the cut.
const TEXT: [u32; 5] = [3, 69_999, 65_535, 65_536, 1];

fn large() -> DecoderFiles {
    let half = |(name, shape, values): (String, Vec<usize>, Vec<f32>)| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes().into_iter().skip(2)).collect();
        (name, "BF16", shape, bytes)
    };
    files(LARGE, tensors(LARGE).into_iter().map(half))
}

#[test]
fn a_table_that_is_larger_than_a_binding_gives_what_the_whole_gives() {
    let files = large();
    let logits = |gpu: &Gpu| {
        let model = Decoder::new(gpu, files.clone()).unwrap();
        let request = PlanRequest {
            context: 8,
            cache: CacheFormat::F32,
            tokens: 1,
            head: Head::Sample,
            products: Products::Exact,
        };
        let heads = model.plan(request).unwrap().steps.iter().filter(|step| step.name.starts_with("head")).count();
        let mut session = gpu.block_on(model.session(8)).unwrap();
        gpu.block_on(session.feed(&TEXT)).unwrap();
        (heads, gpu.block_on(session.logits()).unwrap())
    };
    let (mut cut, mut whole) = (0, 0);
    let mut known: Option<Vec<f32>> = None;
    for (name, gpu) in devices() {
        // One device of each limit is enough for a short wait, and the twins take long for so large a table.
        let must = gpu.caps().max_binding_bytes < 143 << 20;
        if gpu.is_cpu_executor() || (!full_tier() && cut > 0 && must) {
            continue;
        }
        let (heads, found) = logits(&gpu);
        assert_eq!(heads > 1, must, "{name}: {heads} steps");
        (cut, whole) = (cut + usize::from(must), whole + usize::from(!must));
        match &known {
            None => known = Some(found),
            Some(known) => {
                let error = relative(&found, known);
                assert!(error < 1e-5, "{name}: {error:e}");
            }
        }
    }
    compared(cut, whole);
}

/// Refuses a comparison without a device that had to cut, and one that did not.
fn compared(cut: usize, whole: usize) {
    if devices().iter().all(|(_, gpu)| gpu.is_cpu_executor()) {
        return;
    }
    assert!(cut > 0, "no device had to cut");
    // Mesa's own bind 128 MiB here; whatever else there is has to hold it.
    let others = devices().iter().any(|(_, gpu)| !gpu.is_cpu_executor() && !gpu.summary().name.contains("llvmpipe"));
    let must = required("swiftshader") || required("adapters") && others;
    assert!(whole > 0 || !must, "no device held it whole");
    if whole == 0 {
        eprintln!("SKIPPED: no adapter here binds as much, so that nothing was compared with a whole table");
    }
}

/// A table of 36,000 x 1024 in 32 bits takes 147 MB.
#[test]
fn an_encoders_table_that_is_larger_than_a_binding_gives_what_the_whole_gives() {
    let (sizes, vocabulary) = ([1024, 8, 32, 1, 16], 36_000);
    let weights = crate::bert::safetensors(&crate::bert::tensors_of(sizes, vocabulary));
    let weights = TensorFile::from(Weights::from_bytes("noise", weights).unwrap());
    let config = crate::bert::config_of(sizes, vocabulary).to_string().into_bytes();
    let files = EncoderFiles::new(weights, Some(config));
    // Tokens on both sides of the cut, which lies between two panels of 32 rows.
    let texts = [vec![2, 32_767, 35_999, 3], vec![2, 32_735, 32_736, 32_768, 0, 3], vec![31_000]];
    let (mut cut, mut whole, mut known): (usize, usize, Option<Vec<f32>>) = (0, 0, None);
    for (name, gpu) in devices() {
        let must = gpu.caps().max_binding_bytes < 147 << 20;
        if gpu.is_cpu_executor() || (!full_tier() && cut > 0 && must) {
            continue;
        }
        let encoder = TokenEncoder::new(&gpu, files.clone(), EncoderOptions::default()).unwrap();
        let plan = encoder.plan(EncoderPlan { rows: 12, sequences: Some(3) }).unwrap();
        let tables = plan.steps.iter().filter(|step| step.kernel.name() == "embed").count();
        assert_eq!(tables > 1, must, "{name}: {tables} tables");
        (cut, whole) = (cut + usize::from(must), whole + usize::from(!must));
        let found = gpu.block_on(encoder.embed(&texts)).unwrap().concat();
        match &known {
            None => known = Some(found),
            Some(known) => {
                let error = relative(&found, known);
                assert!(error < 1e-5, "{name}: {error:e}");
            }
        }
        // In 16 bits it fits every binding.
        let half = TokenEncoder::new(&gpu, files.clone(), EncoderOptions::default().half(true)).unwrap();
        assert!(half.needs(12).unwrap().largest.1 < 74 << 20, "{name}");
    }
    compared(cut, whole);
}

const WIDE: &str = r#""hidden_size": 512, "intermediate_size": 768, "num_hidden_layers": 1, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 32, "vocab_size": 300, "max_position_embeddings": 64, "tie_word_embeddings": false"#;
const EXPERTS: usize = 3;

/// Types of weights, and a binding that holds one expert of [`wide`]'s mixture and no other matrix of a layer but the projection of attention.
const TYPES: [(Option<BlockFormat>, u64); 3] =
    [(Some(BlockFormat::Q4K), 160 << 10), (None, 600 << 10), (Some(BlockFormat::Q8_0), 300 << 10)];

/// A dense model and a mixture of noise whose matrices are stored as `format`, or as BF16.
fn wide(format: Option<BlockFormat>) -> [(&'static str, DecoderFiles); 2] {
    let mixture = format!(
        r#""num_experts": {EXPERTS}, "num_experts_per_tok": 2, "moe_intermediate_size": 256,
        "norm_topk_prob": true"#
    );
    [("llama", String::new()), ("qwen3_moe", format!(", {mixture}"))].map(|(kind, more)| {
        let config = format!(r#"{{"model_type": "{kind}", {WIDE}{more}}}"#);
        let Some(format) = format else { return (kind, noise(&config, &["proj", "embed", "lm_head"], &[])) };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.gguf");
        Conversion::new(&noise(&config, &[], &[]), format, Vec::new()).unwrap().write(&path, |_| ()).unwrap();
        (kind, DecoderFiles::open(&path).unwrap())
    })
}

/// The host's adapter with bindings of no more than `bytes`.
fn binding(host: &Host, bytes: u64, variants: VariantSet) -> Gpu {
    let mut wanted = Gpu::requirements(&host.adapter);
    wanted.limits.max_storage_buffer_binding_size = wanted.limits.max_storage_buffer_binding_size.min(bytes);
    let descriptor = DeviceDescriptor {
        label: Some("of small bindings"),
        required_features: wanted.features,
        required_limits: wanted.limits,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(host.adapter.request_device(&descriptor)).unwrap();
    let options = GpuOptions::default().variants(variants);
    Gpu::from_device_with(&host.adapter, &device, &queue, options).unwrap()
}

/// How many matrices the plan makes of each that is one in the file, or of each stack.
fn matrices(plan: &Plan) -> Vec<(&'static str, usize)> {
    let of = |part: &'static str| {
        let products = ["dense", "experts", "grouped_experts"];
        let steps = plan.steps.iter().filter(|step| products.contains(&step.kernel.name()));
        (part, steps.filter(|step| step.name.starts_with("layers.0.") && step.name.contains(part)).count())
    };
    ["qkv", "gate_up", "down"].map(of).into()
}

/// Matrices of layers: those of attention, gates and units, and experts, on devices whose bindings hold none of them whole.
#[test]
fn matrices_that_are_larger_than_a_binding_give_what_the_whole_ones_give() {
    let text: Vec<u32> = (0..40).map(|i| (i * i * 7 + 3 * i) % 300).collect();
    // For a short wait one adapter and one type will do; compiling is what takes long.
    let (mut hosts, full) = (hosts(), full_tier());
    hosts.sort_by_key(|host| host.name.contains("SwiftShader"));
    for host in hosts.iter().take(if full { usize::MAX } else { 1 }) {
        for (format, limit) in &TYPES[..if full { TYPES.len() } else { 1 }] {
            for (kind, files) in wide(*format) {
                // Plans for real GPUs gather the tokens of each expert.
                let gathered = full && kind == "qwen3_moe";
                for variants in [VariantSet::Adapter, VariantSet::RealGpu].into_iter().take(1 + usize::from(gathered)) {
                    let what = format!("{kind} in {format:?} on {}, {variants:?}", host.name);
                    let run = |bytes: u64| {
                        let gpu = binding(host, bytes, variants);
                        let model = Decoder::new(&gpu, files.clone()).unwrap();
                        let (context, cache, head) = (text.len(), CacheFormat::F32, Head::Logits);
                        let plan = |tokens: usize| {
                            let products = Products::Exact;
                            model.plan(PlanRequest { context, cache, tokens, head, products }).unwrap()
                        };
                        let largest = plan(1).constants.iter().map(|it| it.desc.bytes()).max().unwrap();
                        let counted = [matrices(&plan(1)), matrices(&plan(32))];
                        // In one run 32 tokens, then one after the other.
                        (largest, counted, logits_by(&model, &text, &[32], Products::Exact))
                    };
                    let (largest, counted, expected) = run(u64::MAX);
                    let one = ["qkv", "gate_up", "down"].map(|part| (part, 1)).to_vec();
                    assert_eq!(counted, [one.clone(), one], "{what}: it is cut where it need not be");
                    assert!(largest > *limit, "{what}: {largest} bytes at most");
                    let (largest, counted, found) = run(*limit);
                    assert!(largest <= *limit, "{what}: {largest} bytes at most");
                    for (part, count) in counted.iter().flatten() {
                        let least = if kind == "qwen3_moe" && *part != "qkv" { EXPERTS } else { 2 };
                        assert!(*count >= least, "{what}: {part} in {count}");
                    }
                    let error = relative(&found, &expected);
                    eprintln!("{what}: {:?}, {error:e} from the whole, alike: {}", counted[0], found == expected);
                    assert!(error < 1e-5, "{what}: {error:e}");
                }
            }
        }
    }
}
