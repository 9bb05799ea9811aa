//! What each fuzz target does with some bytes, apart from the fuzzer, so that a test of the workspace can do the same with the corpus.
//!
//! Each says whether the bytes were read rather than refused.

use lampyris_engine::Gpu;
use lampyris_engine::weights::gguf::{Gguf, Value};
use lampyris_engine::weights::{TensorFile, Weights};
use lampyris_models::decoder::SessionOptions;
use lampyris_models::text::{ChatTemplate, Conversation, Message};
use lampyris_models::text_model::{TextFiles, TextModel};

/// Walks through a value to its end.
fn walk(value: Value<'_>) -> usize {
    match value {
        Value::Array(array) => {
            let walked = array.iter().map(walk).count();
            assert_eq!(walked, array.len());
            walked
        }
        Value::String(text) => text.len(),
        _ => 1,
    }
}

/// Any bytes are a GGUF file or refused, and what is read of one lies within it.
pub(crate) fn gguf(bytes: &[u8]) -> bool {
    let Ok(file) = Gguf::from_bytes("fuzzed", bytes.to_vec()) else { return false };
    for (key, value) in file.metadata() {
        walk(value);
        assert!(file.value(key).is_some());
    }
    for tensor in file.tensors() {
        let stored = file.bytes(&tensor.name).expect("a checked range is inside the file");
        assert_eq!(stored.len() as u64, tensor.range.end - tensor.range.start);
        let _ = file.f32(&tensor.name);
    }
    true
}

/// Any bytes are a safetensors file or refused, and what is read of one lies within it.
pub(crate) fn safetensors(bytes: &[u8]) -> bool {
    let Ok(file) = Weights::from_bytes("fuzzed", bytes.to_vec()) else { return false };
    for tensor in file.tensors() {
        let stored = file.bytes(&tensor.name).expect("a checked range is inside the file");
        assert_eq!(stored.len(), tensor.range.len());
        let _ = file.f32(&tensor.name);
        let _ = file.i8(&tensor.name);
    }
    true
}

/// Any bytes are a GGUF file with a language model in it or refused: its configuration, its tensors' shapes, its vocabulary and its template, as
/// far as what a session would take. Nothing is computed.
pub(crate) fn model(bytes: &[u8]) -> bool {
    let Ok(file) = TensorFile::from_bytes("fuzzed", bytes.to_vec()) else { return false };
    let Ok(model) = TextModel::new(&Gpu::cpu_executor(), TextFiles::new(file, None)) else { return false };
    if let Ok(needs) = model.decoder().needs(SessionOptions::from(4)) {
        assert!(needs.total() >= needs.weights && needs.weights >= needs.angles);
    }
    for text in ["", "a lamp <s> \u{e9}\n"] {
        if let Ok(ids) = model.tokenizer().encode(text, true) {
            let _ = model.tokenizer().decode(&ids, true);
        }
    }
    if let Some(template) = model.template() {
        let _ = template.render(&Conversation::new([Message::user("a lamp")]));
    }
    true
}

/// Any text is a chat template or refused, and any template ends on any conversation: with a text or one error, never in a panic and
/// never without an end. The texts of a conversation follow the template behind bytes of 0, by turns a user's and a model's.
pub(crate) fn template(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut parts = text.split('\0');
    let source = parts.next().unwrap_or_default();
    let Ok(template) = ChatTemplate::new(source) else { return false };
    let template = template.token("bos_token", "<s>").token("eos_token", "</s>");
    let turn = |(at, text): (usize, &str)| if at % 2 == 0 { Message::user(text) } else { Message::assistant(text) };
    let conversation = Conversation::new(parts.enumerate().map(turn));
    for conversation in [conversation.clone(), conversation.without_answer()] {
        if let Err(error) = template.render(&conversation) {
            assert!(!error.to_string().is_empty());
        }
    }
    true
}
