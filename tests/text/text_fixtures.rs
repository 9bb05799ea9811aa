//! What `transformers` recorded of small random language models, one a family and in awkward sizes, against every adapter and the
//! CPU executor, so that a bare clone without any downloaded model proves as much.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{Tensors, decoders, devices, relative};
use lampyris::engine::weights::Weights;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{Gguf, Value as Said};
use lampyris::models::decoder::{Conversion, Decoder, DecoderFiles};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, TokenEncoder};
use lampyris::{Gpu, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const DECODERS: [&str; 11] = [
    "gemma2",
    "gemma3",
    "llama-linear-bias",
    "llama-llama3",
    "llama-yarn",
    "mistral-window",
    "phi3-longrope",
    "phi3-partial",
    "qwen2",
    "qwen3",
    "qwen3-moe",
];
/// How far a value may lie from the recorded one, relative to the largest.
const TOLERANCE: f32 = 1e-3;

/// The folder of a recorded model; `tests/fixtures/README.md` says what it holds.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/texts").join(name)
}

fn recorded(folder: &Path) -> (Value, Tensors) {
    let said = std::fs::read(folder.join("reference.json")).unwrap();
    (serde_json::from_slice(&said).unwrap(), Tensors::open(&folder.join("reference.safetensors")))
}

/// Lists of token ids.
fn texts(value: &Value) -> Vec<Vec<u32>> {
    let ids = |list: &Value| list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    value.as_array().unwrap().iter().map(ids).collect()
}

#[test]
fn every_family_gives_the_recorded_logits_and_tokens() {
    for (name, gpu) in devices() {
        let mut worst = (0.0f32, "");
        for family in DECODERS {
            let folder = folder(family);
            let (said, tensors) = recorded(&folder);
            let (prompts, greedy) = (texts(&said["prompts"]), texts(&said["greedy"]));
            assert_eq!((prompts.len(), greedy.len()), (2, 2), "{family}");
            let files = DecoderFiles::open(folder.join("model.safetensors")).unwrap();
            let model = Decoder::new(&gpu, files).unwrap();
            for (at, (prompt, expected)) in prompts.iter().zip(&greedy).enumerate() {
                let mut session = gpu.block_on(model.session(prompt.len() + expected.len())).unwrap();
                gpu.block_on(session.feed(prompt)).unwrap();
                let logits = gpu.block_on(session.logits()).unwrap();
                let error = relative(&logits, &tensors.f32(&format!("logits.{at}")));
                assert!(error <= TOLERANCE, "{family} on {name}, prompt {at}: {error:e}");
                if error > worst.0 {
                    worst = (error, family);
                }
                let mut generation = session.generate(expected.len()).unwrap();
                let found: Vec<u32> = std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect();
                assert_eq!(found, *expected, "{family} on {name}, prompt {at}");
            }
        }
        eprintln!("{name}: worst logits {:e} ({})", worst.0, worst.1);
    }
}

#[test]
fn the_encoders_give_the_recorded_rows_and_means() {
    for encoder in ["bert", "xlm-roberta"] {
        encoder_gives_what_was_recorded(&folder(encoder));
    }
}

fn encoder_gives_what_was_recorded(folder: &Path) {
    let (said, tensors) = recorded(folder);
    let sequences = texts(&said["sequences"]);
    assert_eq!(sequences.len(), 4);
    for (name, gpu) in devices() {
        let files = EncoderFiles::open(folder.join("model.safetensors")).unwrap();
        let encoder = TokenEncoder::new(&gpu, files, EncoderOptions::default()).unwrap();
        // All lengths in one run for the means, each by itself for the rows.
        let means = gpu.block_on(encoder.embed(&sequences)).unwrap();
        let mut worst = 0.0f32;
        for (at, (sequence, mean)) in sequences.iter().zip(&means).enumerate() {
            let rows = gpu.block_on(encoder.rows(sequence)).unwrap();
            let errors = [
                relative(&rows, &tensors.f32(&format!("rows.{at}"))),
                relative(mean, &tensors.f32(&format!("mean.{at}"))),
            ];
            assert!(
                errors.iter().all(|error| *error <= TOLERANCE),
                "{}, sequence {at} on {name}: {errors:?}",
                folder.display()
            );
            worst = errors.into_iter().fold(worst, f32::max);
        }
        eprintln!("{}, {name}: worst value {worst:e}", folder.display());
    }
}

/// How far the CPU executor's logits of both prompts of `family` lie from the recorded ones.
fn error(family: &str, files: DecoderFiles) -> Result<f32> {
    let (said, tensors) = recorded(&folder(family));
    let (prompts, gpu) = (texts(&said["prompts"]), Gpu::cpu_executor());
    let model = Decoder::new(&gpu, files)?;
    let error = |(at, prompt): (usize, &Vec<u32>)| {
        // As much room as when they were recorded, on which the angles of some models depend.
        let mut session = gpu.block_on(model.session(prompt.len() + 12)).unwrap();
        gpu.block_on(session.feed(prompt)).unwrap();
        relative(&gpu.block_on(session.logits()).unwrap(), &tensors.f32(&format!("logits.{at}")))
    };
    Ok(prompts.iter().enumerate().map(error).fold(0.0, f32::max))
}

/// By way of our own writer: names, turned rows, joined experts, norms and angles come out as they went in. That other programs' files
/// are read as they mean it, `families.rs` holds.
#[test]
fn every_family_written_as_a_gguf_file_gives_the_recorded_logits() {
    let out = tempfile::tempdir().unwrap();
    for family in DECODERS {
        let files = DecoderFiles::open(folder(family).join("model.safetensors")).unwrap();
        let path = out.path().join(format!("{family}.gguf"));
        // What such files take for granted: the scale of scores, and the order of layers with windows.
        let no_words = [("gemma2", "query_pre_attn_scalar"), ("gemma3", "layer_types")];
        let no_words = no_words.into_iter().find(|(name, _)| *name == family);
        let conversion = match (Conversion::new(&files, BlockFormat::F32, Vec::new()), no_words) {
            (Err(refused), Some((_, key))) => {
                assert!(refused.to_string().contains(key), "{refused}");
                continue;
            }
            (conversion, None) => conversion.unwrap(),
            (Ok(_), Some((_, key))) => panic!("{family} was written, and the format has no words for {key}"),
        };
        conversion.write(&path, |_| ()).unwrap();
        if family == "phi3-longrope" {
            // Other readers look for the factors where it is named.
            let file = Gguf::open(&path).unwrap();
            assert_eq!(file.value("phi3.rope.scaling.type"), Some(Said::String("longrope")));
        }
        let error = error(family, DecoderFiles::open(&path).unwrap()).unwrap();
        assert!(error <= TOLERANCE, "{family}: {error:e}");
    }
}

/// Gemma 3 in its larger sizes comes with an encoder of pictures, under two names of old and of new.
#[test]
fn the_decoder_of_a_model_that_sees_pictures_too_is_found_in_it() {
    let folder = folder("gemma3");
    let weights = Weights::open(&folder.join("model.safetensors")).unwrap();
    let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let whole = json!({"model_type": "gemma3", "text_config": config, "vision_config": {"hidden_size": 8}}).to_string();
    for prefix in ["model.language_model.", "language_model.model.", "language_model."] {
        let tensors = weights.tensors().iter().map(|tensor| {
            let name = tensor.name.replacen("model.", prefix, 1);
            (name, tensor.dtype.name(), tensor.shape.clone(), weights.bytes(&tensor.name).unwrap().to_vec())
        });
        let pictures = ("vision_tower.patches.weight".to_owned(), "F32", vec![1], vec![0; 4]);
        let files = decoders::files(&whole, tensors.chain([pictures]));
        match error("gemma3", files) {
            Ok(error) => assert!(prefix != "language_model." && error <= TOLERANCE, "{prefix}: {error:e}"),
            Err(error) => {
                assert!(
                    prefix == "language_model." && error.to_string().contains("model.embed_tokens.weight"),
                    "{error}"
                );
            }
        }
    }
}
