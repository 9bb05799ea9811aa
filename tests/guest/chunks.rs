//! Prompts in large chunks, as on real GPUs: asked for here on every adapter, they give what small ones give, and what is cut, lost, copied
//! or kept in the middle of one is what nothing happened to. Needs no file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::host::{Host, hosts, quick_hosts};
use crate::support::{as_gpus, devices, full_tier, relative, taking};
use crate::ticks::{answer, cache_of, settled, text, uncut};
use lampyris::engine::Error as EngineError;
use lampyris::engine::gpu::States;
use lampyris::engine::kernels::Noise;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::models::decoder::{
    CacheFormat, Conversion, Decoder, DecoderFiles, Head, PlanRequest, Products, Sampling, Session, SessionOptions,
};
use lampyris::wgpu::{Backend, CommandEncoder};
use lampyris::{Error, Gpu, GpuOptions, VariantSet};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

const QWEN: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 61, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

/// A window that is shorter than a large chunk.
const MISTRAL: &str = r#"{"model_type": "mistral", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 61, "max_position_embeddings": 512,
    "sliding_window": 50, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": false}"#;

/// Every other layer with a window.
const GEMMA: &str = r#"{"model_type": "gemma2", "hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 3,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 300, "max_position_embeddings": 512,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "query_pre_attn_scalar": 16, "sliding_window": 24,
    "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "hidden_activation": "gelu_pytorch_tanh"}"#;

const MIXTURE: &str = r#"{"model_type": "qwen3_moe", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 61, "max_position_embeddings": 512,
    "tie_word_embeddings": true, "num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 18,
    "norm_topk_prob": true, "mlp_only_layers": [1]}"#;

/// Tokens of the prompts: of 299 that are computed beforehand two chunks of 128, one of 32 and a rest of eleven.
const PROMPT: u32 = 300;

fn options(cache: CacheFormat, chunk: usize) -> SessionOptions {
    SessionOptions::from(400).cache(cache).chunk(chunk)
}

fn generate(gpu: &Gpu, session: &mut Session, most: usize) -> Vec<u32> {
    let mut generation = session.generate(most).unwrap();
    std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect()
}

fn saved(gpu: &Gpu, session: &Session) -> Vec<u8> {
    cache_of(&gpu.block_on(session.save()).unwrap())
}

/// What the rounding of a cache may move logits by, relative to the largest: a value that lies between two steps goes to either.
fn allowed(cache: CacheFormat) -> f32 {
    match cache {
        CacheFormat::F32 => 1e-4,
        CacheFormat::F16 => 16.0 / 2048.0,
        _ => 16.0 / 254.0,
    }
}

/// The logits of the last tokens of a prompt, by keys and values in chunks of up to `chunk`, what follows it, and the submits it took.
fn after(gpu: &Gpu, files: &DecoderFiles, options: SessionOptions) -> (Vec<f32>, Vec<u32>, u64) {
    let model = Decoder::new(gpu, files.clone()).unwrap();
    // One submit a run.
    let mut session = gpu.block_on(model.session(options.submit_budget(Duration::from_secs(1000)))).unwrap();
    let before = gpu.counts();
    gpu.block_on(session.feed(&text(PROMPT))).unwrap();
    let submits = gpu.counts().submits - before.submits;
    let tokens = generate(gpu, &mut session, 12);
    session.rewind(PROMPT as usize);
    let logits = gpu.block_on(session.logits_from(PROMPT as usize - 10)).unwrap();
    (logits, tokens, submits)
}

#[test]
fn large_chunks_give_what_small_ones_give() {
    let cases = [
        (QWEN, CacheFormat::F32),
        (QWEN, CacheFormat::F16),
        (QWEN, CacheFormat::Q8),
        (MISTRAL, CacheFormat::F32),
        (GEMMA, CacheFormat::F16),
        (MIXTURE, CacheFormat::F32),
    ];
    let everywhere = || devices().into_iter().chain(as_gpus()).collect();
    for (case, (config, cache)) in cases.into_iter().enumerate() {
        for (name, gpu) in taking(case, everywhere()) {
            let (files, kind) = (noise(config, &[], &[]), &config[16..26]);
            let expected = after(&gpu, &files, options(cache, Decoder::CHUNK));
            let runs = if gpu.is_cpu_executor() { [0, 0, 0] } else { [10, 4, 3] };
            assert_eq!(expected.2, runs[0], "{name}, {kind}");
            // With 512 asked for, a run has the whole context at most, and else a quarter of it, which three times fill the prompt.
            let chunks = [(128, runs[1]), (512, runs[2])];
            let chunks = if (config, cache) == (QWEN, CacheFormat::F32) { &chunks[..] } else { &chunks[..1] };
            for (chunk, runs) in chunks.iter().copied() {
                let found = after(&gpu, &files, options(cache, chunk));
                let error = relative(&found.0, &expected.0);
                assert!(error < allowed(cache), "{name}, {kind}, {cache:?}, {chunk}: {error:e}");
                assert_eq!((&found.1, found.2), (&expected.1, runs), "{name}, {kind}, {cache:?}, {chunk}");
            }
        }
    }
}

/// Both ways of products of bytes: tokens are quantized one by one, so those of a large chunk are those of a small one.
#[test]
fn large_chunks_in_whole_numbers_give_what_small_ones_give() {
    const BLOCKS: &str = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 61, "max_position_embeddings": 512,
        "tie_word_embeddings": true}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks.gguf");
    let conversion = Conversion::new(&noise(BLOCKS, &[], &[]), BlockFormat::Q8_0, Vec::new()).unwrap();
    conversion.write(&path, |_| ()).unwrap();
    let files = DecoderFiles::open(&path).unwrap();
    for (name, gpu) in devices().into_iter().chain(as_gpus()) {
        for products in [Products::Exact, Products::Packed] {
            let options = |chunk: usize| options(CacheFormat::F32, chunk).products(products);
            let expected = after(&gpu, &files, options(Decoder::CHUNK));
            let found = after(&gpu, &files, options(128));
            let (error, allowed) = (relative(&found.0, &expected.0), products.tolerance());
            assert!(error < allowed, "{name}, {products:?}: {error:e}");
        }
    }
}

/// Bit for bit: the same variants on the same shapes, cut between dispatches, and where one takes long within it.
#[test]
fn a_large_chunk_in_many_submits_is_the_one_in_few() {
    for (name, gpu) in devices().into_iter().chain(as_gpus()).filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        for (config, cache) in [(QWEN, CacheFormat::Q8), (MISTRAL, CacheFormat::F32), (MIXTURE, CacheFormat::F32)] {
            let model = Decoder::new(&gpu, noise(config, &[], &[])).unwrap();
            let run = |budget: Duration| {
                let options = options(cache, 128).submit_budget(budget);
                let mut session = gpu.block_on(model.session(options)).unwrap();
                let before = gpu.counts();
                gpu.block_on(session.feed(&text(PROMPT))).unwrap();
                let submits = gpu.counts().submits - before.submits;
                assert!(gpu.block_on(session.longest_submit()).unwrap().is_some(), "{name}");
                (submits, saved(&gpu, &session))
            };
            let (few, many) = (run(Duration::from_secs(1000)), run(Duration::from_nanos(1)));
            assert!(few.0 == 4 && many.0 > 4 * 10, "{name}: {} and {} submits", few.0, many.0);
            assert!(few.1 == many.1, "{name}, {cache:?}: a cut changes what comes out");
        }
    }
}

#[test]
fn what_is_copied_rewound_or_kept_in_a_large_chunk_goes_on_alike() {
    for (name, gpu) in devices() {
        for cache in [CacheFormat::F32, CacheFormat::Q8] {
            let model = Decoder::new(&gpu, noise(QWEN, &[], &[])).unwrap();
            let text = text(PROMPT);
            let mut whole = gpu.block_on(model.session(options(cache, 128))).unwrap();
            gpu.block_on(whole.feed(&text)).unwrap();
            let file = gpu.block_on(whole.save()).unwrap();
            let mut fork = gpu.block_on(whole.fork()).unwrap();
            assert_eq!((whole.chunk(), fork.chunk()), (128, 128));
            let expected = generate(&gpu, &mut whole, 10);
            assert_eq!(generate(&gpu, &mut fork, 10), expected, "{name}, {cache:?}: forked");
            // A file may be read by a session with other chunks.
            for chunk in [Decoder::CHUNK, 128] {
                let mut restored = gpu.block_on(model.restore(&file, options(cache, chunk))).unwrap();
                assert_eq!(restored.chunk(), chunk);
                assert_eq!(generate(&gpu, &mut restored, 10), expected, "{name}, {cache:?}: restored with {chunk}");
            }
            // Into the middle of the second chunk, and on again.
            whole.rewind(200);
            gpu.block_on(whole.feed(&text[200..])).unwrap();
            assert_eq!(generate(&gpu, &mut whole, 10), expected, "{name}, {cache:?}: rewound");
        }
    }
}

/// Answers of a fork without room for large chunks: the same tokens, also on a device that takes the place of a lost one.
#[test]
fn a_fork_without_memory_for_large_chunks_has_small_ones() {
    let large = options(CacheFormat::F32, 128);
    for (name, gpu) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        let needs =
            |options: SessionOptions| Decoder::new(&gpu, noise(QWEN, &[], &[])).unwrap().needs(options).unwrap();
        let (one, small) = (needs(large), needs(large.chunk(Decoder::CHUNK)));
        for (beside, chunk) in
            [(one.cache + one.work, 128), (one.cache + one.work - 1, 32), (small.cache + small.work, 32)]
        {
            let poor = gpu.options().clone().budget(one.total() + beside);
            let poor = pollster::block_on(Gpu::with(poor)).unwrap();
            let model = Decoder::new(&poor, noise(QWEN, &[], &[])).unwrap();
            let mut session = poor.block_on(model.session(large)).unwrap();
            poor.block_on(session.feed(&text(PROMPT))).unwrap();
            // What draws tokens is made when it is needed, and must find its room then.
            poor.block_on(session.sample(1, &Sampling::at(0.9).seed(3)).unwrap().next()).unwrap();
            session.rewind(PROMPT as usize);
            let mut fork = poor.block_on(session.fork()).unwrap();
            assert_eq!(fork.chunk(), chunk, "{name}, {beside} bytes beside the first");
            let expected = generate(&poor, &mut session, 10);
            assert_eq!(generate(&poor, &mut fork, 10), expected, "{name}");
            fork.rewind(100);
            poor.block_on(fork.feed(&text(PROMPT)[100..])).unwrap();
            assert_eq!(generate(&poor, &mut fork, 10), expected, "{name}: its own chunks");
            assert!(poor.held_bytes() <= one.total() + beside, "{name}");
        }
    }
    for mut host in quick_hosts() {
        let mut gpu = host.guest();
        let model = Decoder::new(&gpu, noise(QWEN, &[], &[])).unwrap();
        let mut session = gpu.block_on(model.session(large)).unwrap();
        gpu.block_on(session.feed(&text(PROMPT))).unwrap();
        let before = gpu.allocations();
        assert_eq!(gpu.block_on(session.fork()).unwrap().chunk(), 128, "{}", host.name);
        let (count, mut last) = (gpu.allocations() - before, None);
        for refused in (0..count).step_by(1 + count as usize / 40) {
            gpu.refuse_allocation(refused);
            match gpu.block_on(session.fork()) {
                Ok(fork) => {
                    assert_eq!(fork.chunk(), Decoder::CHUNK, "{}: without allocation {refused}", host.name);
                    last = Some(fork);
                }
                // Keys and values of two layers, and three small states, have no smaller form.
                Err(Error::Engine(EngineError::OutOfMemory { .. })) => {
                    assert!(refused < 7, "{}: without allocation {refused}", host.name);
                }
                Err(other) => panic!("{}: {other:?}", host.name),
            }
        }
        let mut fork = last.unwrap();
        let expected = generate(&gpu, &mut session, 10);
        lose(&mut host, &mut gpu);
        assert_eq!(generate(&gpu, &mut fork, 10), expected, "{}: lost", host.name);
        assert_eq!(fork.chunk(), Decoder::CHUNK, "{}", host.name);
    }
}

#[test]
fn a_full_context_slides_in_large_chunks() {
    for (name, gpu) in devices() {
        let model = Decoder::new(&gpu, noise(QWEN, &[], &[])).unwrap();
        // 300 tokens of room, of which 4 stay and 148 are the newest when it is full: one chunk of them, and a rest.
        let room = SessionOptions::from(300).chunk(128);
        let mut sliding = gpu.block_on(model.session(room.slide(4))).unwrap();
        gpu.block_on(sliding.feed(&text(PROMPT - 5))).unwrap();
        let found = generate(&gpu, &mut sliding, 20);
        assert_eq!((found.len(), sliding.dropped()), (20, 148), "{name}");
        let before = [&text(PROMPT - 5)[..], &found[..5]].concat();
        let mut plain = gpu.block_on(model.session(room)).unwrap();
        gpu.block_on(plain.feed(&[&before[..4], &before[152..]].concat())).unwrap();
        assert_eq!(generate(&gpu, &mut plain, 15), found[5..], "{name}");
    }
}

/// The host loses its device and hands over another.
fn lose(host: &mut Host, gpu: &mut Gpu) {
    host.device.destroy();
    gpu.notify_lost("the host destroyed it");
    *host = host.another();
    gpu.replace_device(&host.adapter, &host.device, &host.queue).unwrap();
}

#[test]
fn a_device_that_is_lost_in_a_large_chunk_costs_no_bit() {
    for mut host in hosts() {
        let mut gpu = host.guest();
        let model = Decoder::new(&gpu, noise(QWEN, &[], &[])).unwrap();
        let text = text(PROMPT);
        let options = options(CacheFormat::Q8, 128);
        let expected = uncut(&gpu, &model, options, (&text, 10, &Sampling::greedy()));
        for polls in [1, 20, 100] {
            let budget = options.submit_budget(Duration::from_nanos(1));
            let mut session = gpu.block_on(model.session(budget)).unwrap();
            {
                let mut feeding = pin!(session.feed(&text));
                for _ in 0..polls {
                    if feeding.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                        break;
                    }
                    gpu.pump();
                }
            }
            lose(&mut host, &mut gpu);
            let tokens = generate(&gpu, &mut session, 10);
            assert_eq!(tokens, expected.0, "{}, lost after {polls}", host.name);
            assert!(saved(&gpu, &session) == expected.1, "{}, lost after {polls}: another cache", host.name);
        }
        // What is used of a chunk in its middle, and what came behind it, is computed again in the same shapes.
        let mut session = gpu.block_on(model.session(options)).unwrap();
        gpu.block_on(session.feed(&text)).unwrap();
        generate(&gpu, &mut session, 5);
        session.rewind(150);
        gpu.block_on(session.feed(&text[..140])).unwrap();
        generate(&gpu, &mut session, 5);
        let before = saved(&gpu, &session);
        lose(&mut host, &mut gpu);
        assert!(saved(&gpu, &session) == before, "{}: another cache", host.name);
        assert!(gpu.block_on(session.recover()).unwrap() && session.chunk() == 128);
    }
}

#[test]
fn cut_at_any_budget_an_answer_to_a_long_prompt_is_the_uncut_one() {
    for host in hosts() {
        let gpu = host.guest();
        let mut noisy = Noise::new(11);
        for (config, cache) in [(QWEN, CacheFormat::F32), (GEMMA, CacheFormat::F16)] {
            let model = Decoder::new(&gpu, noise(config, &[], &[])).unwrap();
            let (options, prompt) = (options(cache, 128), text(PROMPT));
            for how in [Sampling::greedy(), Sampling::usual().seed(5)] {
                let expected = uncut(&gpu, &model, options, (&prompt, 10, &how));
                for round in 0..2 {
                    let exponent = [-5.5, -3.0][round];
                    let mut budget = || Duration::from_secs_f64(10f64.powf(exponent + noisy.real(-0.7, 0.7) as f64));
                    let session = gpu.block_on(model.session(options)).unwrap();
                    let mut driven = session.driven().finest(Duration::from_micros([20, 500][round]));
                    if round == 1 {
                        driven = gpu.block_on(driven.measured(&how)).unwrap();
                    }
                    driven.generate(&prompt, 10, &how);
                    let mut submit = |frame: CommandEncoder| {
                        host.queue.submit([frame.finish()]);
                    };
                    let (tokens, _) = answer((&host, &mut driven), &mut budget, &mut submit);
                    assert_eq!(tokens, expected.0, "{}: {cache:?}, round {round}", host.name);
                    let session = settled(&host, &gpu, driven);
                    assert!(saved(&gpu, &session) == expected.1, "{}: another cache, round {round}", host.name);
                }
            }
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// Encoders that a host drops, or whose submit is refused for a mistake of its own, in the middle of a large chunk.
#[test]
fn frames_that_are_dropped_or_refused_cost_time_and_nothing_else() {
    for host in hosts() {
        let gpu = host.guest();
        let model = Decoder::new(&gpu, noise(QWEN, &[], &[])).unwrap();
        let (options, prompt, greedy) = (options(CacheFormat::F32, 128), text(PROMPT), Sampling::greedy());
        let expected = uncut(&gpu, &model, options, (&prompt, 6, &greedy));
        // By the smaller budget a frame has one piece, so that no run fits between two frames that are lost.
        let nothing = Duration::from_nanos(1);
        for (budget, refuses) in [(Duration::from_millis(2), false), (nothing, false), (nothing, true)] {
            let mut driven = gpu.block_on(model.session(options)).unwrap().driven_generate(&prompt, 6, &greedy);
            let mut frame = 0;
            let mut submit = |mut encoder: CommandEncoder| {
                frame += 1;
                let lost = frame % 9 == 5;
                if lost && refuses {
                    host.spoil(&mut encoder);
                }
                if !lost || refuses {
                    host.queue.submit([encoder.finish()]);
                }
            };
            let (tokens, _) = answer((&host, &mut driven), &mut || budget, &mut submit);
            let what = format!("{}, {budget:?}, {}", host.name, if refuses { "refused" } else { "dropped" });
            assert_eq!(tokens, expected.0, "{what}");
            assert_eq!(host.told().0 > 0, refuses, "{what}: what the host heard");
            let session = settled(&host, &gpu, driven);
            assert!(saved(&gpu, &session) == expected.1, "{what}: another cache");
        }
    }
}

#[test]
fn memory_is_taken_where_large_chunks_are_used_and_said_beforehand() {
    for (name, gpu) in devices() {
        let model = Decoder::new(&gpu, noise(QWEN, &[], &[])).unwrap();
        let work = |options: SessionOptions| model.needs(options).unwrap().work;
        let small = SessionOptions::from(400).chunk(Decoder::CHUNK);
        let software = gpu.caps().software;
        assert!(!software || work(SessionOptions::from(400)) == work(small), "{name}: unasked");
        assert!(work(small.chunk(128)) > 2 * work(small), "{name}");
        // No chunk is larger than the context, none smaller than the least.
        assert_eq!(work(SessionOptions::from(20).chunk(512)), work(SessionOptions::from(20).chunk(1)), "{name}");
        for (asked, found) in [(1, 32), (128, 128), (100_000, 400)] {
            let before = gpu.held_bytes();
            let session = gpu.block_on(model.session(small.chunk(asked))).unwrap();
            assert_eq!(session.chunk(), found, "{name}");
            let (held, needs) = (gpu.held_bytes() - before, model.needs(small.chunk(asked)).unwrap());
            // The plan that draws is counted, and made when it is needed.
            assert!(held <= needs.total() && (gpu.is_cpu_executor() || held >= needs.cache), "{name}: {held} bytes");
        }
        let longest = gpu.block_on(model.session(SessionOptions::from(20_000).chunk(100_000))).unwrap();
        assert_eq!(longest.chunk(), SessionOptions::LARGEST_CHUNK, "{name}");
    }
}

/// On a host's device nothing is measured, so the first guess for a GPU runs: for a wide matrix and 512 tokens, tiles of 64 by 64.
#[test]
fn a_large_chunk_has_the_tiles_that_are_made_for_it() {
    const WIDE: &str = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 61, "max_position_embeddings": 1024,
        "tie_word_embeddings": true}"#;
    let files = noise(WIDE, &[], &[]);
    for host in hosts().into_iter().filter(|host| host.adapter.get_info().backend == Backend::Vulkan) {
        let options = GpuOptions::default().variants(VariantSet::RealGpu);
        let gpu = Gpu::from_device_with(&host.adapter, &host.device, &host.queue, options).unwrap();
        let model = Decoder::new(&gpu, files.clone()).unwrap();
        let paths = |tokens: usize| -> Vec<&str> {
            let (cache, head, products) = (CacheFormat::F32, Head::None, Products::Exact);
            let plan = model.plan(PlanRequest { context: 600, cache, tokens, head, products }).unwrap();
            let states = gpu.block_on(States::new(&gpu, &[&plan])).unwrap();
            let executor = gpu.block_on(model.executor(plan, &states)).unwrap();
            let sources = executor.gpu_plan().unwrap().sources();
            sources.filter(|source| source.kernel == "dense").map(|source| source.choice("path")).collect()
        };
        assert!(paths(512).contains(&"wide") && !paths(32).contains(&"wide"), "{}: {:?}", host.name, paths(512));
        let logits = |chunk: usize| {
            let mut session = gpu.block_on(model.session(SessionOptions::from(600).chunk(chunk))).unwrap();
            gpu.block_on(session.feed(&text(500))).unwrap();
            (gpu.block_on(session.logits_from(490)).unwrap(), generate(&gpu, &mut session, 5))
        };
        let (found, expected) = (logits(512), logits(Decoder::CHUNK));
        let error = relative(&found.0, &expected.0);
        assert!(error < 1e-4, "{}: {error:e}", host.name);
        assert_eq!(found.1, expected.1, "{}", host.name);
    }
}

/// What a session takes is said before: at the model's whole context and with the largest runs of a prompt, nothing more is taken than was said, and
/// no more was said than is taken, by the engine's account and by the driver's allocator, where it tells.
#[test]
fn the_whole_context_and_the_largest_runs_take_what_was_said() {
    const CONTEXT: usize = 4096;
    /// What results are read from and writes go through.
    const READ_BACK: u64 = 64 << 10;
    let wide = QWEN.replace("\"head_dim\": 16", "\"head_dim\": 64").replace("20000,", &format!("{CONTEXT},"));
    let files = noise(&wide, &[], &[]);
    let allocated = |host: &Host| host.device.generate_allocator_report().map(|report| report.total_allocated_bytes);
    let tells = hosts().into_iter().filter(|host| allocated(host).is_some());
    for host in tells.take(if full_tier() { usize::MAX } else { 1 }) {
        let (gpu, before) = (host.guest(), allocated(&host).unwrap());
        let model = Decoder::new(&gpu, files.clone()).unwrap();
        // Steps that a budget cuts have some parameters more, where there is room for them.
        let options = SessionOptions::from(CONTEXT).chunk(512).submit_budget(Duration::from_secs(1000));
        let needs = model.needs(options).unwrap();
        assert_eq!((needs.context, gpu.held_bytes()), (CONTEXT, 0), "{}", host.name);
        let mut session = gpu.block_on(model.session(options)).unwrap();
        gpu.block_on(session.feed(&text(40))).unwrap();
        let mut answer = session.sample(4, &Sampling::usual()).unwrap();
        while gpu.block_on(answer.next()).unwrap().is_some() {}
        let (said, held, taken) = (needs.total(), gpu.held_bytes(), allocated(&host).unwrap() - before);
        eprintln!("{}: {said} bytes said, {held} held, {taken} by the driver's allocator", host.name);
        assert!(held <= said && held as f64 > 0.9 * said as f64, "{}: {held} held, {said} said", host.name);
        assert!(
            taken <= said + READ_BACK && taken as f64 > 0.9 * said as f64,
            "{}: {taken} taken, {said} said",
            host.name
        );
    }
}
