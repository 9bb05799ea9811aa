//! Products with blocks that ggml's quantizer wrote: from the bytes of a file through panels and kernels to logits, against sums that were
//! recorded from the values of ggml's decoder, on every adapter and the CPU executor. Twin and shader share the panels, so that only an outside
//! judge notices a code that is put in the wrong place.

use crate::support::{Tensors, devices, material};
use lampyris::Gpu;
use lampyris::engine::gpu::States;
use lampyris::engine::kernels::{Format, Tolerance};
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{Gguf, MetadataValue, NewBlocks, gguf_bytes};
use lampyris::models::decoder::{CacheFormat, Decoder, DecoderFiles, Head, PlanRequest, Products};

/// Recorded inputs, rows of the matrix, and columns of both.
const INPUTS: usize = 3;
const ROWS: usize = 16;
const COLUMNS: usize = 512;

/// Under the root of the norm before the head.
const EPSILON: f32 = 1e-6;

/// A llama whose one layer adds nothing, so that its head multiplies its norm of a token's embedding: the recorded inputs are the
/// embeddings of the first tokens, the recorded blocks the head.
fn model(gpu: &Gpu, format: BlockFormat, head: &[u8], inputs: &[f32]) -> Decoder {
    let number = MetadataValue::U32;
    let metadata = [
        ("general.architecture", MetadataValue::String("llama".to_owned())),
        ("llama.context_length", number(64)),
        ("llama.embedding_length", number(COLUMNS as u32)),
        ("llama.block_count", number(1)),
        ("llama.feed_forward_length", number(32)),
        ("llama.attention.head_count", number(1)),
        ("llama.attention.head_count_kv", number(1)),
        ("llama.attention.key_length", number(32)),
        ("llama.attention.value_length", number(32)),
        ("llama.attention.layer_norm_rms_epsilon", MetadataValue::F32(EPSILON)),
    ];
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mut embeddings = inputs.to_vec();
    embeddings.resize(ROWS * COLUMNS, 0.0);
    let (ones, noughts) = (bytes(&[1.0; COLUMNS]), bytes(&[0.0; 32 * COLUMNS]));
    let embeddings = bytes(&embeddings);
    let (wide, tall, row) = ([32, COLUMNS], [COLUMNS, 32], [COLUMNS]);
    let plain = |name, shape, bytes| NewBlocks { name, format: BlockFormat::F32, shape, bytes };
    let tensors = [
        plain("token_embd.weight", &[ROWS, COLUMNS], &embeddings),
        plain("blk.0.attn_norm.weight", &row, &ones),
        plain("blk.0.attn_q.weight", &wide, &noughts),
        plain("blk.0.attn_k.weight", &wide, &noughts),
        plain("blk.0.attn_v.weight", &wide, &noughts),
        plain("blk.0.attn_output.weight", &tall, &noughts),
        plain("blk.0.ffn_norm.weight", &row, &ones),
        plain("blk.0.ffn_gate.weight", &wide, &noughts),
        plain("blk.0.ffn_up.weight", &wide, &noughts),
        plain("blk.0.ffn_down.weight", &tall, &noughts),
        plain("output_norm.weight", &row, &ones),
        NewBlocks { name: "output.weight", format, shape: &[ROWS, COLUMNS], bytes: head },
    ];
    let file = gguf_bytes("products.gguf", &metadata, &tensors).unwrap();
    let weights = Gguf::from_bytes("products.gguf", file).unwrap().into();
    Decoder::new(gpu, DecoderFiles { weights, config: None }).unwrap()
}

/// The logits of all inputs by runs of at most `tokens`, and whether the head was multiplied with bytes.
fn logits(gpu: &Gpu, model: &Decoder, tokens: usize, products: Products) -> (Vec<f32>, bool) {
    let request = PlanRequest { context: 40, cache: CacheFormat::F32, tokens, head: Head::Logits, products };
    let plan = model.plan(request).unwrap();
    let head = plan.steps.iter().find(|step| step.name == "head").unwrap();
    let packed = plan.tensor(head.inputs[0]).desc.format == Format::BlockI8;
    let states = gpu.block_on(States::new(gpu, &[&plan])).unwrap();
    states.write("tokens", 0, &[0, 1, 2]).unwrap();
    let executor = gpu.block_on(model.executor(plan, &states)).unwrap();
    let runs = (0..INPUTS).step_by(tokens).flat_map(|first| {
        let count = tokens.min(INPUTS - first);
        states.write("cursor", 0, &[first as u32, count as u32]).unwrap();
        let values = gpu.block_on(executor.run(&[])).unwrap()[0].values();
        values.into_iter().take(count * ROWS).collect::<Vec<f32>>()
    });
    (runs.collect(), packed)
}

/// What a file of blocks was recorded with.
struct Recorded {
    inputs: Vec<f32>,
    values: Vec<f32>,
    products: Vec<f32>,
}

impl Recorded {
    /// How far `found` lies from the recorded products, as a share of what exact products may err by, and of what those with inputs in
    /// bytes may. Element by element, so that a row of large weights hides no row of small ones.
    ///
    /// A kernel adds up products of codes, and those of what codes are counted from, each at most twice its block's largest weight times
    /// the input; the derivation in `docs/numerics.md` holds for the root of the sum of their squares. The norm errs by its own sum's tolerance.
    /// Inputs that are rounded to bytes, which lie a 127th of the largest of 32 apart, err by that over the root of twelve, and six such deviations
    /// of the sum are allowed.
    fn errors(&self, found: &[f32]) -> [f64; 2] {
        let allowed = Tolerance::of_sum(COLUMNS + 32, Format::F32).relative;
        let mut worst = [0.0f64; 2];
        assert_eq!(found.len(), INPUTS * ROWS);
        for (at, (found, product)) in found.iter().zip(&self.products).enumerate() {
            let square = |value: &f32| f64::from(*value).powi(2);
            let x = &self.inputs[at / ROWS * COLUMNS..][..COLUMNS];
            let w = &self.values[at % ROWS * COLUMNS..][..COLUMNS];
            let mean = x.iter().map(square).sum::<f64>() / COLUMNS as f64;
            let factor = 1.0 / (mean + f64::from(EPSILON)).sqrt();
            let expected = f64::from(*product) * factor;
            let largest = |part: &[f32]| part.iter().map(square).fold(0.0, f64::max);
            let (mut terms, mut rounded) = (0.0, 0.0);
            for (x, w) in x.chunks(32).zip(w.chunks(32)) {
                terms += 4.0 * largest(w) * x.iter().map(square).sum::<f64>();
                rounded += largest(x) / 127.0f64.powi(2) / 12.0 * w.iter().map(square).sum::<f64>();
            }
            let exact = allowed * (terms.sqrt() * factor + expected.abs());
            let packed = exact + 6.0 * rounded.sqrt() * factor;
            let apart = (f64::from(*found) - expected).abs();
            for (worst, allowed) in worst.iter_mut().zip([exact, packed]) {
                // A row of noughts has nothing to round; what is no number is infinitely wrong.
                let share = if apart == 0.0 { 0.0 } else { apart / allowed };
                *worst = worst.max(if share.is_nan() { f64::INFINITY } else { share });
            }
        }
        worst
    }
}

#[test]
fn products_with_every_decoded_format_are_the_recorded_ones() {
    let Some(folder) = material().map(|folder| folder.join("gguf-quants/blocks")) else { return };
    let inputs = Tensors::open(&folder.join("source.safetensors")).f32("x");
    let formats = || BlockFormat::DECODED.into_iter().filter(|format| *format != BlockFormat::F32);
    let mut judged = 0;
    for (name, gpu) in devices() {
        let (mut exact, mut packed) = ((0.0, ""), (0.0, ""));
        for format in formats() {
            let file = Tensors::open(&folder.join(format!("{}.safetensors", format.name())));
            let (blocks, inputs) = (file.bytes("blocks"), inputs.clone());
            let recorded = Recorded { inputs, values: file.f32("values"), products: file.f32("y") };
            let made = model(&gpu, format, &blocks, &recorded.inputs);
            // A token after the prompt, a few, and a chunk of a prompt: other kernels each.
            for tokens in [1, INPUTS, Decoder::CHUNK] {
                let (found, bytes) = logits(&gpu, &made, tokens, Products::Exact);
                let [error, _] = recorded.errors(&found);
                assert!(!bytes && error <= 1.0, "{format} on {name}, {tokens} tokens: {error} times what is allowed");
                exact = if error > exact.0 { (error, format.name()) } else { exact };
                judged += 1;
                let (found, bytes) = logits(&gpu, &made, tokens, Products::Packed);
                let [moved, error] = recorded.errors(&found);
                assert_eq!(bytes, !matches!(format, BlockFormat::F16 | BlockFormat::BF16), "{format} on {name}");
                assert!(error <= 1.0, "{format} on {name}, {tokens} tokens in bytes: {error} times what is allowed");
                assert_eq!(moved > 1.0, bytes, "{format} on {name}, {tokens} tokens in bytes: {moved}");
                packed = if error > packed.0 { (error, format.name()) } else { packed };
            }
            // The judge must notice a single code that is another one.
            if gpu.is_cpu_executor() {
                let mut bent = blocks.clone();
                bent[2 * format.row_bytes(COLUMNS).unwrap() + format.block_bytes() / 2] ^= 1;
                let [error, _] =
                    recorded.errors(&logits(&gpu, &model(&gpu, format, &bent, &recorded.inputs), 1, Products::Exact).0);
                assert!(error > 1.0, "{format}: a wrong code makes {error} of what is allowed");
            }
        }
        eprintln!("{name}: of what is allowed, exact {exact:.3?}, in bytes {packed:.3?}");
    }
    assert_eq!(judged % (3 * formats().count()), 0);
}
