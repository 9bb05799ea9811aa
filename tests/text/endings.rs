//! Where an answer ends and how a conversation is written, as a model's files say it: GGUF files, folders, and GGUF files made of
//! folders. The models are made here of noise; needs no file of anybody's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::{noise, tensors};
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::MetadataValue;
use lampyris::models::decoder::{Conversion, SessionOptions};
use lampyris::text::{ChatFormat, Conversation, GgufVocabulary, Message};
use lampyris::text_model::{AnswerOptions, Ending, TextFiles, TextModel};
use lampyris::{Error, Gpu, Sampling};
use serde_json::{Value, json};
use std::path::Path;

const TOKENIZER: &str = include_str!("../../models/tests/fixtures/tokenizer.json");
/// Of that tokenizer.
const ROWS: usize = 604;
const END_OF_TEXT: u32 = 600;
const START: u32 = 601;
const END: u32 = 602;

fn config(vocabulary: usize) -> String {
    json!({"model_type": "llama", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2,
        "vocab_size": vocabulary, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "tie_word_embeddings": true})
    .to_string()
}

/// The letters, then these special tokens.
fn letters(special: &[&str]) -> GgufVocabulary {
    let tokens: Vec<String> = ('a'..='z').map(String::from).chain(special.iter().map(|it| (*it).to_owned())).collect();
    let token_types = (0..tokens.len()).map(|id| if id < 26 { 1 } else { 3 }).collect();
    let (model, pre) = ("gpt2".to_owned(), Some("gpt-2".to_owned()));
    GgufVocabulary { model, pre, tokens, token_types, ..GgufVocabulary::default() }
}

fn written(folder: &Path, vocabulary: usize, more: Vec<(String, MetadataValue)>) -> TextFiles {
    let path = folder.join("model.gguf");
    let conversion = Conversion::new(&noise(&config(vocabulary), &[], &[]), BlockFormat::F16, more).unwrap();
    conversion.write(&path, |_| ()).unwrap();
    TextFiles::open(&path).unwrap()
}

fn load(vocabulary: GgufVocabulary) -> TextModel {
    let folder = tempfile::tempdir().unwrap();
    let files = written(folder.path(), vocabulary.tokens.len(), vocabulary.metadata());
    TextModel::new(&Gpu::cpu_executor(), files).unwrap()
}

/// A folder with the tokenizer above and these files beside it.
fn folder(beside: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut all: Value = serde_json::from_str(&config(ROWS)).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors(&all.to_string()) {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name, entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let weights = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), TOKENIZER).unwrap();
    for (name, value) in beside {
        match (*name, value) {
            ("config.json", more) => all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone()),
            (name, Value::String(text)) => std::fs::write(folder.path().join(name), text).unwrap(),
            (name, value) => std::fs::write(folder.path().join(name), value.to_string()).unwrap(),
        }
    }
    std::fs::write(folder.path().join("config.json"), all.to_string()).unwrap();
    folder
}

fn open(folder: &tempfile::TempDir) -> TextModel {
    TextModel::new(&Gpu::cpu_executor(), TextFiles::open(folder.path()).unwrap()).unwrap()
}

fn asked(text: &str) -> Conversation {
    Conversation::new([Message::user(text)])
}

#[test]
fn a_gguf_file_names_or_spells_what_ends_an_answer() {
    let stops = |vocabulary: GgufVocabulary| load(vocabulary).stops().to_vec();
    // Gemma's way: the end of a turn by its own key. Phi-3's: by its spelling alone.
    let gemma = letters(&["<eos>", "<turn>", "<message>"]);
    assert_eq!(stops(GgufVocabulary { eos: Some(26), ..gemma.clone() }), [26]);
    assert_eq!(stops(GgufVocabulary { eos: Some(26), eot: Some(27), eom: Some(28), ..gemma }), [26, 27, 28]);
    let phi = letters(&["<|endoftext|>", "<|end|>", "<|user|>"]);
    assert_eq!(stops(GgufVocabulary { eos: Some(26), ..phi }), [26, 27]);
    let spelled = letters(&["<x>", "<end_of_turn>", "<|eot_id|>", "<|im_end|>"]);
    assert_eq!(stops(GgufVocabulary { eos: Some(29), eot: Some(1000), ..spelled }), [29, 27, 28]);
    // Llama 3's file names the end of a turn; the end of a text ends an answer as well.
    let llama = letters(&["<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"]);
    assert_eq!(stops(GgufVocabulary { eos: Some(27), ..llama }), [27, 26, 28]);
    // Also where the file calls it text, as some converters do; other text is no end.
    let mut plain = letters(&["<x>", "<|end|>", "<|finish|>"]);
    plain.token_types[27..].fill(4);
    assert_eq!(stops(GgufVocabulary { eos: Some(26), ..plain }), [26, 27]);
}

/// A model that was trained to see the end behind a text takes it for the end of the prompt, and what would follow is another text.
#[test]
fn a_prompt_that_goes_on_has_no_end() {
    let beside = |add: bool| json!({"eos_token": "<|endoftext|>", "add_eos_token": add});
    let [plain, ending] = [false, true].map(|add| open(&folder(&[("tokenizer_config.json", beside(add))])));
    let prompt = "a lamp";
    assert_eq!(ending.tokenizer().encode_document(prompt).unwrap().last(), Some(&END_OF_TEXT));
    let gpu = Gpu::cpu_executor();
    let answers = |model: &TextModel| {
        let mut session = gpu.block_on(model.session(40)).unwrap();
        gpu.block_on(async {
            let ids = session.generate(prompt, 0).await.unwrap().ids().to_vec();
            assert_eq!(session.tokens().tokens(), model.tokenizer().encode(prompt, false).unwrap());
            let choices = session.choose(prompt, &[" on", " off"]).await.unwrap();
            (ids, choices, model.generate_batch([prompt], 40, 4).await.unwrap())
        })
    };
    assert_eq!(answers(&ending), answers(&plain));
}

#[test]
fn an_answer_ends_with_the_token_that_ends_a_turn() {
    let gpu = Gpu::cpu_executor();
    let template = Some("{% for m in messages %}{{ m.content }}{% endfor %}".to_owned());
    let answer = |vocabulary: GgufVocabulary| {
        let mut session = gpu.block_on(load(vocabulary).session(40)).unwrap();
        let greedy = AnswerOptions::new(20).sampling(Sampling::greedy());
        let mut answer = gpu.block_on(session.chat(&asked("lampyris"), greedy)).unwrap();
        assert_eq!(answer.ending(), None);
        while gpu.block_on(answer.next()).unwrap().is_some() {}
        (answer.ids().to_vec(), answer.ending())
    };
    let vocabulary = GgufVocabulary { chat_template: template, ..letters(&["<eos>"]) };
    let (whole, ending) = answer(vocabulary.clone());
    assert_eq!((whole.len(), ending), (20, Some(Ending::Limit)));
    let mut full = gpu.block_on(load(vocabulary.clone()).session(12)).unwrap();
    let mut answer_to_the_end = gpu.block_on(full.chat(&asked("lampyris"), 20)).unwrap();
    while gpu.block_on(answer_to_the_end.next()).unwrap().is_some() {}
    assert_eq!(answer_to_the_end.ending(), Some(Ending::Full));
    let turn = whole[3];
    let first = whole.iter().position(|id| *id == turn).unwrap();
    let (ids, ending) = answer(GgufVocabulary { eot: Some(turn), ..vocabulary });
    assert_eq!((&ids[..], ending), (&whole[..=first], Some(Ending::Token)));
}

/// In Alpaca's format no token ends a turn, but the next one has a heading.
#[test]
fn an_answer_ends_before_the_next_turn_where_a_format_has_no_token_for_its_end() {
    let gpu = Gpu::cpu_executor();
    let fillers = 96;
    let tokens: Vec<String> = ('!'..='~')
        .map(String::from)
        .chain(["\u{120}", "\u{10a}"].map(str::to_owned))
        .chain((0..200).map(|i| format!("zz{i}")))
        .collect();
    let (model, pre, token_types) = ("gpt2".to_owned(), Some("gpt-2".to_owned()), vec![1; tokens.len()]);
    let mut vocabulary = GgufVocabulary { model, pre, tokens, token_types, ..GgufVocabulary::default() };
    let answer = |vocabulary: &GgufVocabulary, most: usize| {
        let model = load(vocabulary.clone()).with_format(ChatFormat::Alpaca).unwrap();
        let mut session = gpu.block_on(model.session(64)).unwrap();
        let greedy = AnswerOptions::new(most).sampling(Sampling::greedy());
        let mut answer = gpu.block_on(session.chat(&asked("hello"), greedy)).unwrap();
        let mut text = String::new();
        while let Some(piece) = gpu.block_on(answer.next()).unwrap() {
            text += &piece;
        }
        (answer.ids().to_vec(), text, answer.ending())
    };
    let (whole, _, ending) = answer(&vocabulary, 16);
    assert_eq!((whole.len(), ending), (16, Some(Ending::Limit)));
    // A token that no prompt has becomes the heading.
    let at = whole.iter().position(|id| *id as usize >= fillers).unwrap();
    vocabulary.tokens[whole[at] as usize] = "###\u{120}Instruction:".to_owned();
    // Also where it is the last token that the answer might have.
    for most in [16, at + 1] {
        let (ids, text, ending) = answer(&vocabulary, most);
        assert!(ids == whole[..=at] && !text.contains('#'), "{ids:?} of {whole:?}: {text}");
        assert_eq!(ending, Some(Ending::Stop));
    }
}

/// Whoever shows an answer in pieces has to know, before the first of them, whether it is a thought.
#[test]
fn a_ticked_answer_says_that_it_begins_inside_a_thought() {
    let gpu = Gpu::cpu_executor();
    let template =
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if enable_thinking is not defined %}<think>{% endif %}";
    let vocabulary = GgufVocabulary { chat_template: Some(template.to_owned()), ..letters(&["<eos>", "<think>"]) };
    let model = load(vocabulary);
    let (thinks, plain) = (asked("lampyris"), asked("lampyris").set("enable_thinking", json!(false)));
    for (conversation, opens) in [(&thinks, true), (&plain, false)] {
        let mut session = gpu.block_on(model.session(40)).unwrap();
        assert_eq!(gpu.block_on(session.chat(conversation, 2)).unwrap().opens_thought(), opens);
        let mut driven = session.driven_chat(conversation, 2);
        assert_eq!(driven.opens_thought(), opens);
        driven.generate("lampyris", 2);
        assert!(!driven.opens_thought());
        let session = driven.into_session().unwrap();
        assert!(!session.driven().opens_thought());
    }
}

#[test]
fn a_gguf_file_made_of_a_folder_ends_and_draws_as_the_folder_does() {
    let drawn =
        json!({"eos_token_id": [END, START, 7], "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95});
    for (beside, stops) in [
        (vec![("config.json", json!({"eos_token_id": [END_OF_TEXT, START]}))], vec![END_OF_TEXT, START]),
        (vec![("config.json", json!({"eos_token_id": 5})), ("generation_config.json", json!({"top_k": 5}))], vec![5]),
        (vec![("config.json", json!({"eos_token_id": 5})), ("generation_config.json", drawn)], vec![END, START, 7]),
    ] {
        let folder = folder(&beside);
        let model = open(&folder);
        // ChatML stands in for a template.
        let by_format = (!stops.contains(&END)).then_some(END);
        assert_eq!(model.stops(), [&stops[..], by_format.as_slice()].concat());
        let files = TextFiles::open(folder.path()).unwrap();
        let path = folder.path().join("model.gguf");
        let conversion = Conversion::new(&files.decoder, BlockFormat::F16, files.metadata().unwrap()).unwrap();
        conversion.write(&path, |_| ()).unwrap();
        let made = TextFiles::open(&path).unwrap();
        assert!(made.metadata().unwrap().is_empty());
        let made = TextModel::new(&Gpu::cpu_executor(), made).unwrap();
        // The file adds what is spelled as an end.
        assert_eq!(made.stops()[..stops.len()], stops);
        assert!(made.stops()[stops.len()..].iter().all(|id| [END_OF_TEXT, END].contains(id)), "{:?}", made.stops());
        assert_eq!(made.sampling(), model.sampling());
    }
    let many = folder(&[("generation_config.json", json!({"eos_token_id": [1, 2, 3, 4]}))]);
    let said = TextFiles::open(many.path()).unwrap().metadata().unwrap_err().to_string();
    assert!(said.contains("4 (`"), "{said}");
    let wrong = folder(&[("config.json", json!({"eos_token_id": "</s>"}))]);
    let said = TextModel::new(&Gpu::cpu_executor(), TextFiles::open(wrong.path()).unwrap()).unwrap_err().to_string();
    assert!(said.contains("config.json: `eos_token_id`"), "{said}");
}

#[test]
fn a_folder_ends_where_its_tokenizer_and_its_template_do() {
    let config = ("config.json", json!({"eos_token_id": END_OF_TEXT}));
    let stops = |beside: Value| open(&folder(&[config.clone(), ("tokenizer_config.json", beside)])).stops().to_vec();
    assert_eq!(stops(json!({"eos_token": "<|im_end|>"})), [END_OF_TEXT, END]);
    let template = "{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}";
    assert_eq!(stops(json!({"eos_token": "<|endoftext|>", "chat_template": template})), [END_OF_TEXT, END]);
    // ChatML stands in for a template where its tokens are there, and ends turns then.
    let beside = [config.clone(), ("tokenizer_config.json", json!({"eos_token": "<|endoftext|>"}))];
    let model = open(&folder(&beside));
    assert_eq!(model.stops(), [END_OF_TEXT, END]);
    let text = model.template().unwrap().render(&asked("hello")).unwrap();
    assert!(text.contains("hello<|im_end|>"), "{text}");
    // So does a template that somebody brings.
    let plain = json!({"eos_token": "<|endoftext|>", "chat_template": "{{ messages[0].content }}"});
    let model = open(&folder(&[config.clone(), ("tokenizer_config.json", plain)]));
    assert_eq!(model.stops(), [END_OF_TEXT]);
    assert_eq!(model.with_template(template).unwrap().stops(), [END_OF_TEXT, END]);
}

#[test]
fn a_template_of_its_own_file_comes_before_that_of_the_configuration() {
    let config = ("tokenizer_config.json", json!({"chat_template": "configuration", "bos_token": "<|im_start|>"}));
    let own = ("chat_template.jinja", json!("{{ bos_token }} file {{ messages[0].content }}"));
    let text = |beside: &[(&str, Value)]| open(&folder(beside)).template().unwrap().render(&asked("hello")).unwrap();
    assert_eq!(text(std::slice::from_ref(&config)), "configuration");
    assert_eq!(text(&[config, own.clone()]), "<|im_start|> file hello");
    assert_eq!(text(std::slice::from_ref(&own)), " file hello");
    let files = TextFiles::open(folder(&[own]).path()).unwrap();
    let template = files.metadata().unwrap().into_iter().find(|(key, _)| key == "tokenizer.chat_template");
    assert!(format!("{template:?}").contains(" file "), "{template:?}");
}

#[test]
fn a_damaged_template_is_told_and_not_taken_for_none() {
    let gpu = Gpu::cpu_executor();
    let said = |model: TextModel| {
        let mut session = gpu.block_on(model.session(16)).unwrap();
        assert!(model.template().is_none());
        gpu.block_on(session.chat(&asked("a"), 1)).map(|_| ()).unwrap_err()
    };
    let damaged = said(load(GgufVocabulary { chat_template: Some("{% for".to_owned()), ..letters(&["<eos>"]) }));
    assert!(matches!(damaged, Error::Text(_)) && damaged.to_string().contains("not valid"), "{damaged}");
    let none = said(load(letters(&["<eos>"])));
    assert!(matches!(none, Error::NoTemplate), "{none}");
}

#[test]
fn choosing_keeps_to_the_context_where_a_session_slides() {
    let gpu = Gpu::cpu_executor();
    let model = load(letters(&["<eos>"]));
    let mut session = gpu.block_on(model.session(SessionOptions::default().context(8).slide(2))).unwrap();
    let error = gpu.block_on(session.choose("abcdef", &["gh", "ghi"])).unwrap_err();
    assert!(matches!(error, Error::Context { tokens: 9, context: 8 }), "{error}");
    let choices = gpu.block_on(session.choose("abcdef", &["gh", "xy"])).unwrap();
    assert_eq!((choices.len(), session.tokens().dropped()), (2, 0));
}

#[test]
fn a_session_goes_back_and_goes_on() {
    let gpu = Gpu::cpu_executor();
    let mut session = gpu.block_on(load(letters(&["<eos>"])).session(40)).unwrap();
    let empty = gpu.block_on(session.generate("", 3)).map(|_| ()).unwrap_err();
    assert!(matches!(empty, Error::Context { tokens: 0, .. }) && empty.to_string().contains("empty"), "{empty}");
    assert!(matches!(gpu.block_on(session.resume(3)).map(|_| ()), Err(Error::Context { tokens: 0, .. })));
    let text = |mut answer: lampyris::text_model::TextGeneration<'_>| {
        let mut text = String::new();
        while let Some(piece) = gpu.block_on(answer.next()).unwrap() {
            text += &piece;
        }
        text
    };
    let whole = text(gpu.block_on(session.generate("firefly", 12)).unwrap());
    let before = session.tokens().tokens().len();
    session.rewind(before - 8);
    assert_eq!(session.tokens().tokens().len(), before - 8);
    let rest = text(gpu.block_on(session.resume(8)).unwrap());
    assert!(!rest.is_empty() && whole.ends_with(&rest), "{whole}, {rest}");
}
