//! Decoders made here of noise: what a plan costs, and what must be equal however a text is cut, on every adapter and the CPU
//! executor. Needs no file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::{kinds, logits_by, noise};
use crate::support::{devices, relative};
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::models::decoder::{CacheFormat, Conversion, Decoder, DecoderFiles, Head, PlanRequest, Products, Session};
use lampyris::{Error, Gpu, Sampling};

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 61, "max_position_embeddings": 128,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

/// [`CONFIG`]'s network, without the tensors that `left_out` names.
fn files(left_out: &[&str]) -> DecoderFiles {
    noise(CONFIG, &[], left_out)
}

fn generate(gpu: &Gpu, session: &mut Session, most: usize) -> Vec<u32> {
    let mut found = Vec::new();
    let mut generation = session.generate(most).unwrap();
    while let Some(token) = gpu.block_on(generation.next()).unwrap() {
        found.push(token);
    }
    found
}

/// A text of 71 tokens: more than two chunks of a prompt.
fn text() -> Vec<u32> {
    (0..71).map(|i| (i * i + 3 * i) % 61).collect()
}

#[test]
fn a_layer_is_six_dispatches_and_a_token_one_submit() {
    let gpu = Gpu::cpu_executor();
    let model = Decoder::new(&gpu, files(&[])).unwrap();
    let plan = |tokens: usize, head: Head| {
        model
            .plan(PlanRequest { context: 64, cache: CacheFormat::F32, tokens, head, products: Products::Exact })
            .unwrap()
    };
    // Embedding, two layers, logits, choice.
    assert_eq!(plan(1, Head::Sample).steps.len(), 1 + 2 * 6 + 2);
    // The last layer's caches are all that a chunk of a prompt is for, so what follows them is left out; its norms are steps.
    assert_eq!(plan(32, Head::None).steps.len(), 1 + 8 + 3);
    for (name, gpu) in devices() {
        let model = Decoder::new(&gpu, files(&[])).unwrap();
        let mut session = gpu.block_on(model.session(64)).unwrap();
        gpu.block_on(session.feed(&[3])).unwrap();
        let before = gpu.counts();
        let (mut answer, mut told) = (session.generate(5).unwrap(), Vec::new());
        while gpu.block_on(answer.next()).unwrap().is_some() {
            told.push(gpu.counts().submits - before.submits);
        }
        // Three tokens are under way when the first is taken, and each that is taken sends the next on its way, as long as any is left.
        let ahead = if gpu.is_cpu_executor() { [0; 5] } else { [3, 4, 5, 5, 5] };
        assert_eq!(told, ahead, "{name}");
        let after = gpu.counts();
        let (submits, dispatches) = (after.submits - before.submits, after.dispatches - before.dispatches);
        let expected = if gpu.is_cpu_executor() { (0, 0) } else { (5, 5 * 15) };
        assert_eq!((submits, dispatches), expected, "{name}");
    }
}

#[test]
fn sessions_that_go_on_together_are_encoded_ahead_too() {
    let Some((name, gpu)) = devices().into_iter().find(|(_, gpu)| !gpu.is_cpu_executor()) else { return };
    let model = Decoder::new(&gpu, files(&[])).unwrap();
    let mut sessions = [3, 5].map(|token| {
        let mut session = gpu.block_on(model.session(64)).unwrap();
        gpu.block_on(session.feed(&[token])).unwrap();
        session
    });
    let before = gpu.counts().submits;
    let mut together = model.together(&mut sessions, &Sampling::greedy()).unwrap();
    for submits in [3, 4, 5] {
        assert_eq!(gpu.block_on(together.next()).unwrap().len(), 2, "{name}");
        assert_eq!(gpu.counts().submits - before, submits, "{name}");
    }
}

#[test]
fn a_text_gives_the_same_however_it_is_cut() {
    let text = text();
    for (name, gpu) in devices() {
        let model = Decoder::new(&gpu, files(&[])).unwrap();
        let session = || gpu.block_on(model.session(100)).unwrap();
        let mut whole = session();
        gpu.block_on(whole.feed(&text)).unwrap();
        let expected = generate(&gpu, &mut whole, 20);

        // Token by token, the tokens of a run at a time, and with a break in the answer.
        for cut in [1, 5, 32, 33] {
            let mut pieces = session();
            for piece in text.chunks(cut) {
                gpu.block_on(pieces.feed(piece)).unwrap();
            }
            let mut found = generate(&gpu, &mut pieces, 7);
            found.extend(generate(&gpu, &mut pieces, 13));
            assert_eq!(found, expected, "{name}, cut at {cut}");
            assert_eq!(pieces.tokens(), whole.tokens(), "{name}, cut at {cut}");
        }

        // A generation that is dropped leaves what was taken from it; going back gives the same way on.
        let mut dropped = session();
        gpu.block_on(dropped.feed(&text)).unwrap();
        let mut generation = dropped.generate(20).unwrap();
        assert_eq!(gpu.block_on(generation.next()).unwrap(), Some(expected[0]), "{name}");
        drop(generation);
        assert_eq!(generate(&gpu, &mut dropped, 19), expected[1..], "{name}");
        dropped.rewind(40);
        gpu.block_on(dropped.feed(&text[40..])).unwrap();
        assert_eq!(generate(&gpu, &mut dropped, 20), expected, "{name}");

        // Two sessions of one model do not hear each other.
        let mut other = session();
        gpu.block_on(other.feed(&[60, 1, 2])).unwrap();
        let alone = generate(&gpu, &mut other, 10);
        whole.rewind(text.len());
        other.rewind(3);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            first.extend(generate(&gpu, &mut whole, 2));
            second.extend(generate(&gpu, &mut other, 2));
        }
        assert_eq!((&first[..], &second[..]), (&expected[..10], &alone[..]), "{name}");
    }
}

/// Weights in blocks, which have kernels of their own for one token and for many.
fn blocks() -> Vec<(&'static str, DecoderFiles)> {
    let wide = CONFIG
        .replace("\"hidden_size\": 24, \"intermediate_size\": 20", "\"hidden_size\": 256, \"intermediate_size\": 256");
    let (folder, files) = (tempfile::tempdir().unwrap(), noise(&wide, &[], &[]));
    let written = |format: BlockFormat| {
        let path = folder.path().join(format!("{format}.gguf"));
        Conversion::new(&files, format, Vec::new()).unwrap().write(&path, |_| ()).unwrap();
        (format.name(), DecoderFiles::open(&path).unwrap())
    };
    [BlockFormat::Q8_0, BlockFormat::Q4_0, BlockFormat::Q6K].map(written).into()
}

/// The second sense of "equal" in `docs/numerics.md`: one adapter, other shapes. A token at a time is other kernels than a chunk of a
/// prompt; here their logits are compared at every place, whether a chunk or single tokens wrote the keys and values before it.
#[test]
fn a_token_at_a_time_has_the_logits_of_a_prompt() {
    let text = text();
    let models = || kinds().into_iter().chain(blocks());
    for (name, gpu) in devices() {
        for (kind, files) in models() {
            let model = Decoder::new(&gpu, files).unwrap();
            let mut session = gpu.block_on(model.session(text.len())).unwrap();
            gpu.block_on(session.feed(&text)).unwrap();
            let prompt = gpu.block_on(session.logits()).unwrap();
            assert_eq!(prompt.len(), text.len() * 61);
            for begin in [&[][..], &[32, 7]] {
                let found = logits_by(&model, &text, begin, Products::Exact);
                let error = relative(&found, &prompt);
                eprintln!("{kind} on {name}: logits after {begin:?} {error:e} from those of a prompt");
                assert!(error < 1e-4, "{kind} on {name}, runs of {begin:?} first: {error:e}");
            }
        }
    }
}

#[test]
fn a_device_gives_the_logits_of_the_twins() {
    let text = text();
    let logits = |gpu: &Gpu| {
        let model = Decoder::new(gpu, files(&[])).unwrap();
        let mut session = gpu.block_on(model.session(text.len())).unwrap();
        gpu.block_on(session.feed(&text)).unwrap();
        gpu.block_on(session.logits()).unwrap()
    };
    let expected = logits(&Gpu::cpu_executor());
    assert_eq!(expected.len(), text.len() * 61);
    for (name, gpu) in devices() {
        let error = relative(&logits(&gpu), &expected);
        assert!(error < 1e-4, "{name}: {error:e}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let gpu = Gpu::cpu_executor();
    let error = Decoder::new(&gpu, files(&["layers.1.mlp.up_proj", "q_norm"])).unwrap_err().to_string();
    for name in
        ["model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.q_norm.weight", "[12]", "noise", "qwen3"]
    {
        assert!(error.contains(name), "{name} is not in: {error}");
    }
    let model = Decoder::new(&gpu, files(&[])).unwrap();
    for context in [0, 129] {
        let error = gpu.block_on(model.session(context)).unwrap_err();
        assert!(matches!(error, Error::Room { least: 1, most: 128, .. }), "{error}");
    }
    let mut session = gpu.block_on(model.session(4)).unwrap();
    assert!(matches!(session.generate(1), Err(Error::Context { tokens: 0, context: 4 })));
    gpu.block_on(session.feed(&[1, 2])).unwrap();
    assert!(matches!(gpu.block_on(session.feed(&[61])), Err(Error::Token { token: 61, vocabulary: 61 })));
    assert!(matches!(gpu.block_on(session.feed(&[1, 2, 3])), Err(Error::Context { tokens: 5, context: 4 })));
    assert_eq!(session.tokens(), [1, 2]);
    // The context's end ends the answer.
    assert_eq!(generate(&gpu, &mut session, 10).len(), 2);
    assert_eq!(generate(&gpu, &mut session, 10).len(), 0);
}
