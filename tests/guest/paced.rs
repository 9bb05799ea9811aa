//! Prompts that are cut into submits of bounded time, given up in the middle, or looked at in parts of a long context: what comes of
//! them is what comes of the whole. Needs no file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::{devices, full_tier, relative};
use crate::ticks::cache_of;
use lampyris::engine::gpu::{VariantSet, adapters};
use lampyris::models::decoder::{CacheFormat, Decoder, Head, PlanRequest, Products, Session, SessionOptions};
use lampyris::{AdapterChoice, Gpu, GpuOptions};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 61, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

fn model(gpu: &Gpu) -> Decoder {
    Decoder::new(gpu, noise(CONFIG, &[], &[])).unwrap()
}

fn text(tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (i * i + 3 * i) % 61).collect()
}

fn session(gpu: &Gpu, cache: CacheFormat, budget: Duration) -> Session {
    let options = SessionOptions::from(200).cache(cache).submit_budget(budget);
    gpu.block_on(model(gpu).session(options)).unwrap()
}

/// Bit for bit on one adapter: the same variants on the same shapes, cut between dispatches, and where one takes long within it.
#[test]
fn a_prompt_in_many_submits_is_the_prompt_in_few() {
    for (name, gpu) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        for cache in [CacheFormat::F32, CacheFormat::Q8] {
            let run = |budget: Duration| {
                let mut session = session(&gpu, cache, budget);
                let before = gpu.counts();
                gpu.block_on(session.feed(&text(150))).unwrap();
                let after = gpu.counts();
                let saved = cache_of(&gpu.block_on(session.save()).unwrap());
                let logits: Vec<u32> = gpu.block_on(session.logits()).unwrap().iter().map(|v| v.to_bits()).collect();
                (after.submits - before.submits, after.dispatches - before.dispatches, saved, logits)
            };
            let (few, many) = (run(Duration::from_secs(1000)), run(Duration::from_nanos(1)));
            let chunks = 149_u64.div_ceil(Decoder::CHUNK as u64);
            let steps = few.1 / chunks;
            assert_eq!((few.0, few.1), (chunks, chunks * steps), "{name}, {cache:?}: one a chunk");
            // One a step, or more where a busy machine made one seem long.
            assert!(many.0 >= chunks * steps && many.0 == many.1, "{name}, {cache:?}: {} for {steps} steps", many.0);
            assert!(few.2 == many.2 && few.3 == many.3, "{name}, {cache:?}: a cut changes what comes out");
        }
    }
}

/// Wide enough that by its work alone a software adapter is expected to take long for a matrix, which is then cut by its rows.
#[test]
fn a_long_step_is_cut_and_gives_the_same_bits() {
    const WIDE: &str = r#"{"model_type": "llama", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 61, "max_position_embeddings": 128,
        "tie_word_embeddings": true}"#;
    for (name, gpu) in devices().into_iter().filter(|(_, gpu)| gpu.caps().software && !gpu.is_cpu_executor()) {
        let model = Decoder::new(&gpu, noise(WIDE, &[], &[])).unwrap();
        let run = |budget: Duration| {
            let options = SessionOptions::from(100).submit_budget(budget);
            let mut session = gpu.block_on(model.session(options)).unwrap();
            let before = gpu.counts();
            gpu.block_on(session.feed(&text(66))).unwrap();
            (gpu.counts().dispatches - before.dispatches, cache_of(&gpu.block_on(session.save()).unwrap()))
        };
        let (whole, cut) = (run(Duration::from_secs(1000)), run(Duration::from_nanos(1)));
        assert!(cut.0 >= whole.0 + 3 * 4, "{name}: {} dispatches, and {} of whole steps", cut.0, whole.0);
        assert!(whole.1 == cut.1, "{name}: a cut changes what comes out");
    }
}

#[test]
fn a_prompt_that_was_given_up_is_made_good_by_the_next() {
    for (name, gpu) in devices() {
        let answer = |session: &mut Session| {
            let mut generation = session.generate(12).unwrap();
            std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect::<Vec<u32>>()
        };
        let mut whole = session(&gpu, CacheFormat::F32, Duration::from_millis(50));
        gpu.block_on(whole.feed(&text(150))).unwrap();
        let expected = answer(&mut whole);
        let mut given_up = session(&gpu, CacheFormat::F32, Duration::from_nanos(1));
        let text = text(150);
        // The device is asked once, and has not done all of it by then.
        let pending = pin!(given_up.feed(&text)).poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(pending || gpu.is_cpu_executor() || name.contains("(gl,"), "{name}");
        assert_eq!(given_up.tokens(), text, "{name}");
        assert_eq!(answer(&mut given_up), expected, "{name}");
    }
}

#[test]
fn what_a_submit_took_is_known_afterwards() {
    for (name, gpu) in devices() {
        let mut session = session(&gpu, CacheFormat::F32, Duration::from_millis(50));
        gpu.block_on(session.feed(&text(100))).unwrap();
        let longest = gpu.block_on(session.longest_submit()).unwrap();
        assert_eq!(longest.is_some(), !gpu.is_cpu_executor(), "{name}");
        assert_eq!(gpu.block_on(session.longest_submit()).unwrap(), None, "{name}: asked again");
    }
}

/// By the device's clock, or the host's where it has none; a busy machine is asked three times. Filled to half of what is asked, a submit that
/// takes twice that was paced wrongly.
#[test]
fn no_submit_of_a_long_prompt_takes_much_more_than_is_asked() {
    if !full_tier() {
        return;
    }
    let (tokens, budget) = (4000, Duration::from_millis(20));
    for (name, gpu) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        let options = SessionOptions::from(tokens as usize).submit_budget(budget);
        let mut session = gpu.block_on(model(&gpu).session(options)).unwrap();
        // What steps take is known afterwards.
        gpu.block_on(session.feed(&text(600))).unwrap();
        gpu.block_on(session.longest_submit()).unwrap();
        let mut longest = Duration::MAX;
        for _ in 0..3 {
            session.rewind(0);
            let before = gpu.counts().submits;
            gpu.block_on(session.feed(&text(tokens))).unwrap();
            let found = gpu.block_on(session.longest_submit()).unwrap().unwrap();
            eprintln!("{name}: {found:?} of {} submits", gpu.counts().submits - before);
            longest = longest.min(found);
        }
        assert!(longest <= 2 * budget, "{name}: a submit took {longest:?}, where {budget:?} were asked");
    }
}

/// The forms for real GPUs cut a long context in parts. Within the tolerances: they are other variants than the twins.
#[test]
fn a_context_in_parts_gives_the_logits_of_the_whole() {
    let text = text(400);
    let logits = |gpu: &Gpu| {
        let mut session = gpu.block_on(model(gpu).session(1000)).unwrap();
        gpu.block_on(session.feed(&text)).unwrap();
        let mut generation = session.generate(3).unwrap();
        let tokens: Vec<u32> = std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect();
        (gpu.block_on(session.logits_from(380)).unwrap(), tokens)
    };
    let expected = logits(&Gpu::cpu_executor());
    for (index, name) in pollster::block_on(adapters()).iter().enumerate() {
        let options = GpuOptions::default().adapter(AdapterChoice::Index(index)).variants(VariantSet::RealGpu);
        let gpu = pollster::block_on(Gpu::with(options)).unwrap();
        let request = PlanRequest {
            context: 1000,
            cache: CacheFormat::F32,
            tokens: 1,
            head: Head::Sample,
            products: Products::Exact,
        };
        let plan = model(&gpu).plan(request).unwrap();
        let joins = plan.steps.iter().filter(|step| step.kernel.name() == "attention_join").count();
        assert_eq!(joins, 2, "{name}: one a layer");
        let found = logits(&gpu);
        let error = relative(&found.0, &expected.0);
        assert!(error < 1e-4, "{name}: {error:e}");
        assert_eq!(found.1, expected.1, "{name}");
    }
}
