//! XLM-R as a GGUF file, with its Unigram vocabulary and without the first rows of its positions: the ids and vectors of the same model
//! in a folder, and those that `tokenizers` and `transformers` recorded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{devices, relative};
use lampyris::engine::weights::TensorFile;
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{Gguf, MetadataValue, NewBlocks, gguf_bytes};
use lampyris::models::encoder::{Encoder, EncoderFiles, EncoderOptions};
use lampyris::{Error, Gpu};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/texts/xlm-roberta")
}

/// A text, its ids with those around it, and its vector.
struct Case {
    text: String,
    ids: Vec<u32>,
    embedding: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let said: Value = serde_json::from_slice(&std::fs::read(folder().join("texts.json")).unwrap()).unwrap();
    let case = |case: &Value| Case {
        text: case["text"].as_str().unwrap().to_owned(),
        ids: case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect(),
        embedding: case["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect(),
    };
    said.as_array().unwrap().iter().map(case).collect()
}

/// A vector of length 1.
fn normalized(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    vector.iter().map(|value| (f64::from(*value) / length) as f32).collect()
}

#[test]
fn a_gguf_file_has_the_ids_and_the_vectors_of_its_folder() {
    let cases = cases();
    assert_eq!(cases.len(), 9);
    let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
    for (name, gpu) in devices() {
        let plain = gpu.block_on(Encoder::load(&gpu, folder())).unwrap();
        let file = gpu.block_on(Encoder::load(&gpu, folder().join("model.gguf"))).unwrap();
        assert_eq!((plain.max_tokens(), file.max_tokens()), (41, 41), "{name}");
        let [a, b] = [&plain, &file].map(|encoder| gpu.block_on(encoder.embed(&texts)).unwrap());
        for ((case, a), b) in cases.iter().zip(&a).zip(&b) {
            assert_eq!(plain.ids(&case.text).unwrap(), case.ids, "{:?} from the folder", case.text);
            assert_eq!(file.ids(&case.text).unwrap(), case.ids, "{:?} from the file", case.text);
            // A folder without modules asks for no length of 1; such a file leaves that to its reader.
            let errors = [relative(&normalized(a), &case.embedding), relative(b, &case.embedding)];
            assert!(errors.iter().all(|error| *error < 1e-4), "{:?} on {name}: {errors:?}", case.text);
        }
    }
}

/// The file again, its metadata as `change` leaves them.
fn changed(change: impl Fn(&mut Vec<(String, MetadataValue)>)) -> TensorFile {
    let gguf = Gguf::open(&folder().join("model.gguf")).unwrap();
    let mut metadata: Vec<(String, MetadataValue)> =
        gguf.metadata().map(|(key, value)| (key.to_owned(), value.into())).collect();
    change(&mut metadata);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = gguf
        .tensors()
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.shape.clone(), gguf.bytes(&tensor.name).unwrap().to_vec()))
        .collect();
    let blocks = tensors.iter().map(|(name, shape, bytes)| NewBlocks { name, format: BlockFormat::F32, shape, bytes });
    let bytes = gguf_bytes("changed.gguf", &metadata, &blocks.collect::<Vec<_>>()).unwrap();
    TensorFile::from_bytes("changed.gguf", bytes).unwrap()
}

fn open(file: TensorFile) -> Result<Encoder, Error> {
    Encoder::new(&Gpu::cpu_executor(), EncoderFiles::new(file, None), EncoderOptions::default())
}

/// Files of other converters name less, or keep all spaces.
#[test]
fn what_a_file_does_not_say_is_as_the_models_have_it() {
    let silent = ["add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces", "bos_token_id"];
    let without = |keys: &[&str]| {
        let named = |key: &str| keys.iter().any(|it| key == format!("tokenizer.ggml.{it}"));
        open(changed(|metadata| metadata.retain(|(key, _)| !named(key)))).unwrap()
    };
    let (silent, no_table) = (without(&silent), without(&["precompiled_charsmap"]));
    for case in cases() {
        assert_eq!(silent.ids(&case.text).unwrap(), case.ids, "{:?}", case.text);
    }
    assert_ne!(no_table.ids("\u{fb01}re").unwrap(), silent.ids("\u{fb01}re").unwrap());
    let keeping = open(changed(|metadata| {
        let spaces = metadata.iter_mut().find(|(key, _)| key.ends_with("remove_extra_whitespaces")).unwrap();
        spaces.1 = MetadataValue::Bool(false);
    }));
    let (keeping, space) = (keeping.unwrap(), silent.tokenizer().id("\u{2581}").unwrap());
    let count = |ids: Vec<u32>| ids.into_iter().filter(|id| *id == space).count();
    assert_eq!(count(keeping.ids("the   fox ").unwrap()), count(silent.ids("the   fox ").unwrap()) + 3);
}

#[test]
fn a_damaged_table_is_refused_with_its_name() {
    for bytes in [vec![0u8; 3], vec![255; 40], [8, 0, 0, 0].into_iter().chain([200; 20]).collect()] {
        let file = changed(|metadata| {
            let table = metadata.iter_mut().find(|(key, _)| key.ends_with("precompiled_charsmap")).unwrap();
            let MetadataValue::Array(kind, _) = &table.1 else { panic!("the table is no array") };
            let values = bytes.iter().map(|byte| MetadataValue::U8(*byte)).collect();
            table.1 = MetadataValue::Array(*kind, values);
        });
        let said = open(file).unwrap_err().to_string();
        assert!(said.contains("precompiled_charsmap") && said.contains("damaged"), "{said}");
    }
}
