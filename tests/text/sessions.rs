//! Sessions that are copied, kept and brought back, and caches that are stored in fewer bits, on every adapter and the CPU executor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::{decoders, devices, relative};
use lampyris::engine::Error as EngineError;
use lampyris::models::decoder::{CacheFormat, Decoder, DecoderFiles, Session, SessionOptions};
use lampyris::{Error, Gpu, Sampling};
use serde_json::{Value, json};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const FORMATS: [CacheFormat; 3] = [CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8];

fn config(head: usize, vocabulary: usize) -> Value {
    json!({"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": head, "vocab_size": vocabulary,
        "max_position_embeddings": 128, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true})
}

/// A network of noise with heads of `head` columns.
fn files(head: usize, vocabulary: usize) -> DecoderFiles {
    noise(&config(head, vocabulary).to_string(), &[], &[])
}

/// A saved session after `change` of the name, the header's entry and the bytes of each of its tensors, and of its metadata, which has no bytes.
fn changed(saved: &[u8], mut change: impl FnMut(&str, &mut Value, &mut Vec<u8>)) -> Vec<u8> {
    let start = 8 + u64::from_le_bytes(saved[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&saved[8..start]).unwrap();
    let mut data = Vec::new();
    for (name, entry) in &mut header {
        let at = |end: usize| start + entry["data_offsets"][end].as_u64().unwrap() as usize;
        let metadata = name == "__metadata__";
        let mut bytes = if metadata { Vec::new() } else { saved[at(0)..at(1)].to_vec() };
        change(name, entry, &mut bytes);
        if !metadata {
            entry["data_offsets"] = json!([data.len(), data.len() + bytes.len()]);
            data.extend(bytes);
        }
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// A text of 71 tokens: more than two chunks of a prompt.
fn text() -> Vec<u32> {
    (0..71).map(|i| (i * i + 3 * i) % 61).collect()
}

fn model(gpu: &Gpu) -> Decoder {
    Decoder::new(gpu, files(16, 61)).unwrap()
}

fn session(gpu: &Gpu, cache: CacheFormat, text: &[u32]) -> Session {
    let options = SessionOptions::default().context(100).cache(cache);
    let mut session = gpu.block_on(model(gpu).session(options)).unwrap();
    gpu.block_on(session.feed(text)).unwrap();
    session
}

fn room(context: Option<usize>) -> SessionOptions {
    context.map_or(SessionOptions::default(), SessionOptions::from)
}

fn generate(gpu: &Gpu, session: &mut Session, most: usize) -> Vec<u32> {
    let mut generation = session.generate(most).unwrap();
    std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect()
}

#[test]
fn a_fork_goes_its_own_way() {
    for (name, gpu) in devices() {
        for cache in FORMATS {
            let mut whole = session(&gpu, cache, &text());
            let expected = generate(&gpu, &mut whole, 20);
            let mut first = session(&gpu, cache, &text());
            assert_eq!(generate(&gpu, &mut first, 5), expected[..5], "{name}, {cache:?}");
            let before = gpu.held_bytes();
            let mut second = gpu.block_on(first.fork()).unwrap();
            if !gpu.is_cpu_executor() {
                assert!(gpu.held_bytes() >= before + second.bytes(), "{name}, {cache:?}");
            }
            // What the one does, the other does not see.
            gpu.block_on(first.feed(&[1, 2, 3])).unwrap();
            generate(&gpu, &mut first, 4);
            assert_eq!(generate(&gpu, &mut second, 15), expected[5..], "{name}, {cache:?}");
        }
    }
}

#[test]
fn a_fork_knows_what_was_dropped() {
    let gpu = Gpu::cpu_executor();
    let mut sliding = gpu.block_on(model(&gpu).session(SessionOptions::default().context(24).slide(4))).unwrap();
    gpu.block_on(sliding.feed(&text())).unwrap();
    let fork = gpu.block_on(sliding.fork()).unwrap();
    assert_eq!((fork.dropped(), fork.tokens()), (57, sliding.tokens()));
}

/// What a future gives that is asked for anew after the first, which is dropped where it is not ready at once; that is counted.
fn asked_again<T>(gpu: &Gpu, given_up: &mut usize, mut ask: impl AsyncFnMut() -> T) -> T {
    let polled = pin!(ask()).as_mut().poll(&mut Context::from_waker(Waker::noop()));
    match polled {
        Poll::Ready(given) => given,
        Poll::Pending => {
            *given_up += 1;
            gpu.block_on(ask())
        }
    }
}

#[test]
fn a_future_of_the_next_token_that_is_dropped_takes_none() {
    const MOST: usize = 12;
    let (mut given_up, mut waits) = (0, false);
    for (name, gpu) in devices() {
        // OpenGL has every token at once.
        waits |= !gpu.is_cpu_executor() && !name.contains("(gl,");
        let mut session = session(&gpu, CacheFormat::F32, &text());
        let expected = generate(&gpu, &mut session, MOST);
        session.rewind(text().len());
        let mut generation = session.generate(MOST).unwrap();
        let alone: Vec<u32> =
            std::iter::from_fn(|| asked_again(&gpu, &mut given_up, async || generation.next().await.unwrap()))
                .collect();
        assert_eq!(alone, expected, "{name}: {given_up} futures were dropped");
        assert_eq!(session.tokens(), [text(), expected.clone()].concat(), "{name}");
        session.rewind(text().len());
        let model = session.model().clone();
        let mut sessions = [session];
        let mut together = model.together(&mut sessions, &Sampling::greedy()).unwrap();
        let beside: Vec<u32> = (0..MOST)
            .flat_map(|_| asked_again(&gpu, &mut given_up, async || together.next().await.unwrap()))
            .map(|(_, token)| token)
            .collect();
        assert_eq!(beside, expected, "{name}: {given_up} futures were dropped");
        assert_eq!(sessions[0].tokens(), [text(), expected].concat(), "{name}");
    }
    assert!(given_up > 0 || !waits, "every token was there at once");
}

/// The network of `model`, but for `change` of the values of each tensor by its name, stored in 32 bits.
fn retrained(gpu: &Gpu, change: impl Fn(&str, &mut Vec<f32>)) -> Decoder {
    let config = config(16, 61).to_string();
    let tensors = decoders::tensors(&config).into_iter().map(|(name, shape, mut values)| {
        change(&name, &mut values);
        (name, "F32", shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    });
    Decoder::new(gpu, decoders::files(&config, tensors)).unwrap()
}

#[test]
fn what_other_weights_computed_is_refused() {
    let gpu = Gpu::cpu_executor();
    let saved = gpu.block_on(session(&gpu, CacheFormat::F32, &text()).save()).unwrap();
    let restored = |model: &Decoder, saved: &[u8]| gpu.block_on(model.restore(saved, room(None))).map(|_| ());
    restored(&retrained(&gpu, |_, _| ()), &saved).unwrap();
    let layer = "model.layers.1.self_attn.v_proj.weight";
    for changed in ["model.embed_tokens.weight", layer, "model.layers.0.mlp.down_proj.weight", "model.norm.weight"] {
        let other = retrained(&gpu, |name, values| {
            let factor = if name == changed { 0.5 } else { 1.0 };
            values.iter_mut().for_each(|value| *value *= factor);
        });
        let said = restored(&other, &saved).unwrap_err().to_string();
        assert!(said.contains("other weights"), "{changed}: {said}");
    }
    // The same numbers in another type.
    let short = |values: &mut Vec<f32>| {
        values.iter_mut().for_each(|value| *value = f32::from_bits(value.to_bits() & 0xffff_0000));
    };
    let saved_short = {
        let model = retrained(&gpu, |name, values| {
            if name == layer {
                short(values)
            }
        });
        let mut session = gpu.block_on(model.session(100)).unwrap();
        gpu.block_on(session.feed(&text())).unwrap();
        gpu.block_on(session.save()).unwrap()
    };
    let bf16 = Decoder::new(&gpu, noise(&config(16, 61).to_string(), &[layer], &[])).unwrap();
    assert!(restored(&bf16, &saved_short).unwrap_err().to_string().contains("other weights"));
    let of_version = |version: &str| {
        changed(&saved, |name, entry, _| {
            if name == "__metadata__" {
                entry["lampyris.session"] = json!(version);
            }
        })
    };
    for (version, named) in [("1", "an earlier version"), ("3", "of another version")] {
        let said = restored(&model(&gpu), &of_version(version)).unwrap_err().to_string();
        assert!(said.contains(named), "{version}: {said}");
    }
}

#[test]
fn a_session_that_was_kept_goes_on_as_if_nothing_had_been() {
    for (name, gpu) in devices() {
        for cache in FORMATS {
            let mut whole = session(&gpu, cache, &text());
            let mut expected = generate(&gpu, &mut whole, 5);
            let saved = gpu.block_on(whole.save()).unwrap();
            let tokens = whole.tokens().to_vec();
            expected.extend(generate(&gpu, &mut whole, 10));
            drop(whole);
            // More room than before, and none beyond the tokens.
            for context in [Some(110), Some(86), None] {
                let mut back = gpu.block_on(model(&gpu).restore(&saved, room(context))).unwrap();
                assert_eq!((back.tokens(), back.cache()), (&tokens[..], cache), "{name}");
                assert_eq!(generate(&gpu, &mut back, 10), expected[5..], "{name}, {cache:?}, {context:?}");
            }
        }
    }
}

#[test]
fn what_was_kept_of_something_else_is_refused() {
    let gpu = Gpu::cpu_executor();
    let saved = gpu.block_on(session(&gpu, CacheFormat::Q8, &text()).save()).unwrap();
    let restore = |head: usize, vocabulary: usize, saved: &[u8], context: Option<usize>| {
        let model = Decoder::new(&gpu, files(head, vocabulary)).unwrap();
        gpu.block_on(model.restore(saved, room(context))).map(|_| ()).unwrap_err()
    };
    assert!(matches!(restore(16, 61, &saved, Some(70)), Error::Context { tokens: 71, context: 70 }));
    assert!(matches!(restore(16, 61, &saved, Some(1000)), Error::Room { asked: 1000, least: 1, most: 128 }));
    let roomless = changed(&saved, |name, entry, _| {
        if name == "__metadata__" {
            entry["lampyris.context"] = json!("much");
        }
    });
    let fewer = changed(&saved, |name, entry, bytes| {
        if name.contains("keys") {
            let rows = entry["shape"][0].as_u64().unwrap();
            bytes.truncate(bytes.len() / rows as usize * (rows as usize - 1));
            entry["shape"][0] = json!(rows - 1);
        }
    });
    for (error, named) in [
        (restore(16, 62, &saved, None), "another model"),
        (restore(16, 61, &roomless, None), "the room it had"),
        (restore(24, 61, &saved, None), "another model"),
        (restore(16, 61, &fewer, None), "keys"),
        (restore(16, 61, &saved[..saved.len() - 1], None), "a saved session"),
        (restore(16, 61, &[], None), "a saved session"),
    ] {
        let said = error.to_string();
        assert!(
            matches!(error, Error::Saved { .. }) && said.contains(named) && !said.contains('\n'),
            "{named}: {said}"
        );
    }
    // Every byte of the header, changed: refused or harmless, and never a panic.
    let header = 8 + u64::from_le_bytes(saved[..8].try_into().unwrap()) as usize;
    for at in 0..header {
        let mut bent = saved.clone();
        bent[at] ^= 1;
        let _ = gpu.block_on(model(&gpu).restore(&bent, room(None)));
    }
}

/// What a cache's rounding may move the logits of this network by, relative to the largest: some tens of steps of its format, of which
/// each layer's keys and values add a few.
fn allowed(cache: CacheFormat) -> f32 {
    match cache {
        CacheFormat::F32 => 1e-5,
        CacheFormat::F16 => 16.0 / 2048.0,
        _ => 16.0 / 254.0,
    }
}

#[test]
fn a_cache_in_fewer_bits_is_smaller_and_near_the_exact_one() {
    let exact = {
        let gpu = Gpu::cpu_executor();
        let mut session = session(&gpu, CacheFormat::F32, &text());
        gpu.block_on(session.logits()).unwrap()
    };
    for (name, gpu) in devices() {
        let mut bytes = Vec::new();
        for cache in FORMATS {
            let mut session = session(&gpu, cache, &text());
            bytes.push(session.bytes());
            let found = gpu.block_on(session.logits()).unwrap();
            let error = relative(&found, &exact);
            assert!(error < allowed(cache), "{name}, {cache:?}: {error:e}");
            let rounded = error > 1e-5;
            assert_eq!(rounded, cache != CacheFormat::F32, "{name}, {cache:?}: {error:e}");
        }
        assert!(bytes[0] > bytes[1] && bytes[1] > bytes[2], "{name}: {bytes:?}");
    }
}

#[test]
fn heads_that_do_not_go_into_bytes_are_refused_with_the_way_out() {
    let gpu = Gpu::cpu_executor();
    let model = Decoder::new(&gpu, files(12, 61)).unwrap();
    let error = gpu.block_on(model.session(SessionOptions::default().cache(CacheFormat::Q8))).unwrap_err().to_string();
    for part in ["heads of 12 columns", "use f16"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn a_full_context_slides_over_the_newest_tokens_and_keeps_the_first() {
    let text = text();
    for (name, gpu) in devices() {
        // 24 tokens of room, of which 4 stay and 10 are the newest when it is full.
        let mut sliding = gpu.block_on(model(&gpu).session(SessionOptions::default().context(24).slide(4))).unwrap();
        gpu.block_on(sliding.feed(&text[..20])).unwrap();
        let found = generate(&gpu, &mut sliding, 30);
        assert_eq!((found.len(), sliding.dropped()), (30, 30), "{name}");
        // The same by hand: a session that begins anew with what was kept.
        let mut expected: Vec<u32> = Vec::new();
        let mut held = text[..20].to_vec();
        while expected.len() < 30 {
            if held.len() == 24 {
                held = [&held[..4], &held[14..]].concat();
            }
            let mut plain = gpu.block_on(model(&gpu).session(24)).unwrap();
            gpu.block_on(plain.feed(&held)).unwrap();
            let some = generate(&gpu, &mut plain, 30 - expected.len());
            expected.extend(&some);
            held.extend(&some);
        }
        assert_eq!(found, expected, "{name}");
        assert_eq!(sliding.tokens(), held, "{name}");
        // A prompt that does not fit keeps its beginning and its end.
        let mut long = gpu.block_on(model(&gpu).session(SessionOptions::default().context(24).slide(4))).unwrap();
        gpu.block_on(long.feed(&text)).unwrap();
        assert_eq!((long.tokens(), long.dropped()), (&[&text[..4], &text[61..]].concat()[..], 57), "{name}");
        let mut short = gpu.block_on(model(&gpu).session(24)).unwrap();
        gpu.block_on(short.feed(long.tokens())).unwrap();
        assert_eq!(generate(&gpu, &mut long, 5), generate(&gpu, &mut short, 5), "{name}");
    }
}

#[test]
fn a_context_that_does_not_fit_the_budget_is_refused_before_anything_is_allocated() {
    for (name, gpu) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        let open = |budget: u64| {
            let options = gpu.options().clone().budget(budget);
            pollster::block_on(Gpu::with(options)).unwrap()
        };
        let poor = open(1);
        let error = poor.block_on(model(&poor).session(100)).unwrap_err();
        let Error::Engine(EngineError::Budget { needed, weights, states, held, budget, .. }) = error else {
            panic!("{error:?}")
        };
        let needs = model(&poor).needs(100).unwrap();
        assert_eq!((weights, states, held, budget), (needs.weights, needs.cache, 0, 1), "{name}");
        for figure in [needed, weights, states] {
            assert!(error.to_string().contains(&figure.to_string()), "{error}");
        }
        // The weights and the cache alone would fit each for itself.
        let almost = open(needed - 1);
        let allocated = |gpu: &Gpu| gpu.device().unwrap().generate_allocator_report().map(|r| r.total_allocated_bytes);
        let before = allocated(&almost);
        let error = almost.block_on(model(&almost).session(100)).unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::Budget { held: 0, .. })), "{error:?}");
        assert_eq!((almost.held_bytes(), allocated(&almost)), (0, before), "{name}");
        let enough = open(needed);
        let model = model(&enough);
        let mut session = enough.block_on(model.session(100)).unwrap();
        assert_eq!(enough.held_bytes(), needed, "{name}");
        enough.block_on(session.feed(&text())).unwrap();
        assert_eq!(generate(&enough, &mut session, 3).len(), 3, "{name}");
        // A second session shares the weights, and its cache has no room.
        let error = enough.block_on(model.session(100)).unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::Budget { weights: 0, .. })), "{error:?}");
    }
}

#[test]
fn the_smallest_contexts_slide_or_are_refused() {
    let gpu = Gpu::cpu_executor();
    let refused = gpu.block_on(model(&gpu).session(SessionOptions::default().context(1).slide(0))).unwrap_err();
    assert!(matches!(refused, Error::Room { asked: 1, least: 2, .. }), "{refused}");
    for (context, slide) in [(2, 0), (2, 1), (2, 5), (3, 1), (3, 3), (4, 2)] {
        let options = SessionOptions::default().context(context).slide(slide);
        let mut session = gpu.block_on(model(&gpu).session(options)).unwrap();
        gpu.block_on(session.feed(&[3, 1, 4, 1, 5])).unwrap();
        assert_eq!(session.tokens().last(), Some(&5), "{context}, {slide}");
        assert_eq!(generate(&gpu, &mut session, 9).len(), 9, "{context}, {slide}");
        assert!(session.tokens().len() <= context);
    }
}

#[test]
fn a_session_that_slides_while_its_device_is_lost_goes_on_as_on_a_healthy_one() {
    let options = SessionOptions::default().context(12).slide(2);
    for (name, gpu) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        let mut session = gpu.block_on(model(&gpu).session(options)).unwrap();
        let mut healthy = gpu.block_on(model(&gpu).session(options)).unwrap();
        gpu.block_on(healthy.feed(&text()[..10])).unwrap();
        gpu.block_on(healthy.feed(&text()[10..20])).unwrap();
        let expected = (healthy.tokens().to_vec(), healthy.dropped(), generate(&gpu, &mut healthy, 4));
        gpu.block_on(session.feed(&text()[..10])).unwrap();
        gpu.device().unwrap().destroy();
        // Whether the loss is noticed before it is waited for is the driver's.
        while gpu.check_alive().is_ok() {
            let _ = gpu.block_on(gpu.idle());
        }
        gpu.block_on(session.feed(&text()[10..20])).unwrap();
        let found = (session.tokens().to_vec(), session.dropped(), generate(&gpu, &mut session, 4));
        assert_eq!(found, expected, "{name}");
    }
}

/// A session whose prompt was given up after its first chunk.
fn given_up(gpu: &Gpu) -> Session {
    let mut session = gpu.block_on(model(gpu).session(100)).unwrap();
    {
        let text = text();
        let mut feeding = std::pin::pin!(session.feed(&text));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(feeding.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(session.tokens(), text());
    session
}

#[test]
fn a_prompt_that_the_twins_read_can_be_given_up_between_chunks() {
    let gpu = Gpu::cpu_executor();
    let mut whole = session(&gpu, CacheFormat::F32, &text());
    let expected = generate(&gpu, &mut whole, 5);
    assert_eq!(generate(&gpu, &mut given_up(&gpu), 5), expected);
}

#[test]
fn logits_after_a_prompt_that_was_given_up_are_those_after_a_whole_one() {
    let gpu = Gpu::cpu_executor();
    let mut whole = session(&gpu, CacheFormat::F32, &text());
    let expected = gpu.block_on(whole.logits()).unwrap();
    // The last alone, some that begin where nothing was computed, and some that begin in what was.
    for begin in [70, 50, 20] {
        let found = gpu.block_on(given_up(&gpu).logits_from(begin)).unwrap();
        let error = relative(&found, &expected[begin * 61..]);
        assert!(error < 1e-5, "from {begin}: {error:e}");
    }
}

#[test]
fn a_seed_gives_the_same_text_again_however_much_was_dropped() {
    let gpu = Gpu::cpu_executor();
    let mut session = gpu.block_on(model(&gpu).session(SessionOptions::default().context(12).slide(2))).unwrap();
    let mut draw = || {
        session.rewind(0);
        assert_eq!(session.dropped(), 0);
        gpu.block_on(session.feed(&text()[..10])).unwrap();
        let mut drawn = session.sample(20, &Sampling::at(1.0).seed(7)).unwrap();
        std::iter::from_fn(|| gpu.block_on(drawn.next()).unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(draw(), draw());
}

#[test]
fn keys_that_a_saved_session_lacks_are_computed() {
    let gpu = Gpu::cpu_executor();
    let mut whole = session(&gpu, CacheFormat::F32, &text());
    let expected = generate(&gpu, &mut whole, 8);
    // The same tokens with the keys of the first 40 only.
    let short = gpu.block_on(session(&gpu, CacheFormat::F32, &text()[..41]).save()).unwrap();
    let saved = changed(&short, |name, entry, bytes| {
        if name == "tokens" {
            *bytes = text().iter().flat_map(|token| token.to_le_bytes()).collect();
            entry["shape"] = json!([71]);
        }
    });
    let mut back = gpu.block_on(model(&gpu).restore(&saved, room(None))).unwrap();
    assert_eq!(generate(&gpu, &mut back, 8), expected);
}

#[test]
fn keys_that_were_turned_for_another_room_are_computed_again() {
    let gpu = Gpu::cpu_executor();
    let mut stretched = config(16, 61);
    stretched["rope_scaling"] = json!({"rope_type": "longrope", "original_max_position_embeddings": 64,
        "short_factor": [1.0, 1.0, 1.1, 1.1, 1.2, 1.2, 1.3, 1.3], "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]});
    let [plain, stretched] =
        [config(16, 61), stretched].map(|config| Decoder::new(&gpu, noise(&config.to_string(), &[], &[])).unwrap());
    let text = &text()[..41];
    let fed = |model: &Decoder, context: usize| {
        let mut session = gpu.block_on(model.session(context)).unwrap();
        gpu.block_on(session.feed(text)).unwrap();
        session
    };
    let logits = |mut session: Session| gpu.block_on(session.logits_from(40)).unwrap();
    // How far a session that was saved with room for so many tokens is from one that was fed everything with room for `after`.
    let error = |model: &Decoder, saved: &[u8], after: usize| {
        let back = gpu.block_on(model.restore(saved, after)).unwrap();
        assert_eq!(back.tokens(), text);
        relative(&logits(back), &logits(fed(model, after)))
    };
    // Keys and values that tell whether they are used.
    let bent = |saved: &[u8]| {
        changed(saved, |name, _, bytes| match name {
            "__metadata__" | "tokens" => {}
            _ => bytes.fill(0),
        })
    };
    for (before, alike, unlike) in [(48, 64, 65), (100, 65, 64)] {
        let angles = relative(&logits(fed(&stretched, before)), &logits(fed(&stretched, unlike)));
        assert!(angles > 1e-2, "the angles of {before} and {unlike} make no difference: {angles:e}");
        let saved = gpu.block_on(fed(&stretched, before).save()).unwrap();
        let zero = bent(&saved);
        for (file, after) in [(&saved, alike), (&saved, unlike), (&zero, unlike)] {
            let error = error(&stretched, file, after);
            assert!(error < 1e-5, "{before} to {after}: {error:e}");
        }
        assert!(error(&stretched, &zero, alike) > 1e-2, "{before} to {alike}: computed again");
        // Where every room has the same angles, what is there is taken.
        let zero = bent(&gpu.block_on(fed(&plain, before).save()).unwrap());
        assert!(error(&plain, &zero, unlike) > 1e-2, "{before} to {unlike}: computed again");
    }
}
