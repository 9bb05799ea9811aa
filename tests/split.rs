//! Tensors that are larger than a binding of the device: cut by rows, because they must be, with the results of the whole.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

#[path = "support/bert.rs"]
mod bert;
mod support;

use lampyris::Gpu;
use lampyris::engine::weights::{TensorFile, Weights};
use lampyris::models::decoder::{CacheFormat, Decoder, DecoderFiles, Head, PlanRequest, Products};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, EncoderPlan, TokenEncoder};
use support::decoders::{files, tensors};
use support::{devices, full_tier, relative};

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
    let mut cut = 0;
    let mut known: Option<Vec<f32>> = None;
    for (name, gpu) in devices() {
        // One device of each limit is enough for a short wait, and the twins take long for so large a table.
        let must = gpu.caps().max_binding_bytes < 143 << 20;
        if gpu.is_cpu_executor() || (!full_tier() && cut > 0 && must) {
            continue;
        }
        let (heads, found) = logits(&gpu);
        assert_eq!(heads > 1, must, "{name}: {heads} steps");
        cut += usize::from(must);
        match &known {
            None => known = Some(found),
            Some(known) => {
                let error = relative(&found, known);
                assert!(error < 1e-5, "{name}: {error:e}");
            }
        }
    }
    assert!(cut > 0 || devices().iter().all(|(_, gpu)| gpu.is_cpu_executor()), "no device had to cut");
}

/// A table of 36,000 x 1024 in 32 bits takes 147 MB.
#[test]
fn an_encoders_table_that_is_larger_than_a_binding_gives_what_the_whole_gives() {
    let (sizes, vocabulary) = ([1024, 8, 32, 1, 16], 36_000);
    let weights = bert::safetensors(&bert::tensors_of(sizes, vocabulary));
    let weights = TensorFile::from(Weights::from_bytes("noise", weights).unwrap());
    let config = bert::config_of(sizes, vocabulary).to_string().into_bytes();
    let files = EncoderFiles::new(weights, Some(config));
    // Tokens on both sides of the cut, which lies between two panels of 32 rows.
    let texts = [vec![2, 32_767, 35_999, 3], vec![2, 32_735, 32_736, 32_768, 0, 3], vec![31_000]];
    let (mut cut, mut known): (usize, Option<Vec<f32>>) = (0, None);
    for (name, gpu) in devices() {
        let must = gpu.caps().max_binding_bytes < 147 << 20;
        if gpu.is_cpu_executor() || (!full_tier() && cut > 0 && must) {
            continue;
        }
        let encoder = TokenEncoder::new(&gpu, files.clone(), EncoderOptions::default()).unwrap();
        let plan = encoder.plan(EncoderPlan { rows: 12, sequences: Some(3) }).unwrap();
        let tables = plan.steps.iter().filter(|step| step.kernel.name() == "embed").count();
        assert_eq!(tables > 1, must, "{name}: {tables} tables");
        cut += usize::from(must);
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
    assert!(cut > 0 || devices().iter().all(|(_, gpu)| gpu.is_cpu_executor()), "no device had to cut");
}
