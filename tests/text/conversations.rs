//! A conversation from end to end with a model of each family: its weights, a tokenizer and the template that the family was published with, in
//! a folder as people have them; and a GGUF file without a template, with a format by name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{devices, full_tier, material};
use lampyris::text::{ChatFormat, Conversation, Message};
use lampyris::text_model::{TextModel, TextSession};
use lampyris::{AnswerOptions, Error, Gpu, Sampling};
use std::path::Path;

/// Families with the templates that their models were published with, and the format's name where it has one.
const FAMILIES: [(&str, &str, Option<ChatFormat>); 10] = [
    ("llama3-rope", "llama-3", Some(ChatFormat::Llama3)),
    ("mistral-swa", "mistral-7b-instruct", None),
    ("qwen2", "qwen2.5", Some(ChatFormat::ChatMl)),
    ("qwen3", "qwen3", Some(ChatFormat::ChatMl)),
    ("gemma2", "gemma-2", Some(ChatFormat::Gemma)),
    ("gemma3", "gemma-3", Some(ChatFormat::Gemma)),
    ("phi3", "phi-3", Some(ChatFormat::Phi3)),
    ("smollm2", "smollm2", Some(ChatFormat::ChatMl)),
    ("qwen3-moe", "qwen3", Some(ChatFormat::ChatMl)),
    // Llama 2's own is in none of its files; this one is its format as a model made of it was published.
    ("llama-7to1", "lc-TheBloke-FusionNet-34Bx2-MoE-AWQ", Some(ChatFormat::Llama2)),
];

/// Tokens of an answer.
const MOST: usize = 6;

/// The answer to a conversation: its tokens and its text.
fn answer(gpu: &Gpu, session: &mut TextSession, conversation: &Conversation) -> (Vec<u32>, String) {
    let options = AnswerOptions::new(MOST).sampling(Sampling::greedy());
    let mut answer = gpu.block_on(session.chat(conversation, options)).unwrap();
    let mut text = String::new();
    while let Some(piece) = gpu.block_on(answer.next()).unwrap() {
        text += &piece;
    }
    (answer.ids().to_vec(), text)
}

/// The likeliest tokens after what the model's template makes of a conversation, without a conversation's help.
fn by_hand(gpu: &Gpu, model: &TextModel, conversation: &Conversation) -> Vec<u32> {
    let ids = model.chat_template().unwrap().encode(conversation, model.tokenizer()).unwrap();
    assert!(ids.len() > 10, "{} tokens", ids.len());
    let mut session = gpu.block_on(model.decoder().session(512)).unwrap();
    gpu.block_on(session.feed(&ids)).unwrap();
    let mut answer = session.generate(MOST).unwrap();
    let mut found = Vec::new();
    while let Some(token) = gpu.block_on(answer.next()).unwrap() {
        found.push(token);
        if model.stops().contains(&token) {
            break;
        }
    }
    found
}

/// Two turns, of which the second goes on from what the first has computed.
fn talks(what: &str, gpu: &Gpu, model: &TextModel) {
    let mut session = gpu.block_on(model.session(512)).unwrap();
    let mut turns = vec![Message::user("Who lives in the lighthouse?")];
    for turn in 0..2 {
        let conversation = Conversation::new(turns.clone());
        let (ids, text) = answer(gpu, &mut session, &conversation);
        assert_eq!(ids, by_hand(gpu, model, &conversation), "{what}, turn {turn}");
        assert!(!ids.is_empty() && session.tokens().tokens().len() <= 512, "{what}, turn {turn}");
        turns.extend([Message::assistant(text), Message::user("And who else?")]);
    }
}

#[test]
fn a_folder_of_each_family_holds_a_conversation() {
    let Some(material) = material() else { return };
    let put = |folder: &Path, name: &str, from: &Path| std::fs::copy(from, folder.join(name)).map(|_| ()).unwrap();
    let devices = devices();
    for (at, (family, template, _)) in FAMILIES.into_iter().enumerate() {
        let (folder, files) = (tempfile::tempdir().unwrap(), material.join("families").join(family));
        for name in ["config.json", "model.safetensors"] {
            put(folder.path(), name, &files.join(name));
        }
        put(folder.path(), "tokenizer.json", &material.join("families/tokenizer.json"));
        // Some templates ask for both.
        let named = r#"{"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}"#;
        std::fs::write(folder.path().join("tokenizer_config.json"), named).unwrap();
        let source = material.join("chat-templates/templates").join(format!("{template}.jinja"));
        put(folder.path(), "chat_template.jinja", &source);
        // Each device has some of the families, the executor all.
        for (number, (name, gpu)) in devices.iter().enumerate() {
            if gpu.is_cpu_executor() || number % 4 == at % 4 || full_tier() {
                let model = gpu.block_on(TextModel::load(gpu, folder.path())).unwrap();
                talks(&format!("{family} on {name}"), gpu, &model);
            }
        }
    }
}

#[test]
fn a_file_without_a_template_talks_in_a_format_by_name() {
    let Some(material) = material() else { return };
    let (gpu, mut tried) = (Gpu::cpu_executor(), 0);
    for (family, _, format) in FAMILIES {
        let path = material.join("families").join(family).join("model.gguf");
        let Some(format) = format.filter(|_| path.exists()) else { continue };
        let model = gpu.block_on(TextModel::load(&gpu, &path)).unwrap();
        let refused = model.chat_template().unwrap_err();
        assert!(matches!(refused, Error::NoTemplate), "{family}: {refused}");
        assert!(refused.to_string().contains("--template"), "{refused}");
        talks(family, &gpu, &model.with_format(format).unwrap());
        tried += 1;
    }
    assert!(tried >= 4, "{tried} files");
}

/// What ends a turn of the format ends an answer, whatever the files say ends one.
#[test]
fn the_token_that_ends_a_turn_ends_an_answer() {
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/fixtures/tokenizer.json");
    let config = r#"{"model_type": "llama", "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 604, "max_position_embeddings": 96,
        "tie_word_embeddings": true, "eos_token_id": 0}"#;
    let files = lampyris::text_model::TextFiles {
        decoder: crate::support::decoders::noise(config, &[], &[]),
        tokenizer: Some(std::fs::read(tokenizer).unwrap()),
        // A template that writes no end, so that ChatML does not stand in for one.
        tokenizer_config: Some(br#"{"chat_template": "{{ messages[0].content }}"}"#.to_vec()),
        generation: None,
    };
    let model = TextModel::new(&Gpu::cpu_executor(), files).unwrap();
    let end = model.tokenizer().id("<|im_end|>").unwrap();
    assert!(!model.stops().contains(&end));
    let of_alpaca = model.clone().with_format(ChatFormat::Alpaca).unwrap();
    assert_eq!(of_alpaca.stops(), model.stops());
    let with = model.clone().with_format(ChatFormat::ChatMl).unwrap();
    assert_eq!(with.stops(), [model.stops(), &[end]].concat());
    assert_eq!(with.clone().with_format(ChatFormat::ChatMl).unwrap().stops(), with.stops());
    assert!(model.with_template("{% for m in messages %}").is_err());
}
