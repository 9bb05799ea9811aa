//! Tokenizers from `tokenizer.json`: recorded ids, special tokens that a user types, streams.

use serde_json::{Value, json};

use super::super::spelling::Spelling;
use super::super::{ChatTemplate, Conversation, GgufVocabulary, Message, TextError, Tokenizer};
use super::{bytes, json, load, material, numbers, streamed, tokenizer_json};

/// What the project's own small vocabulary, recorded by the `tokenizers` package, makes of some texts.
const RECORDED: &str = include_str!("../../../tests/fixtures/tokenizer_cases.json");
const SMALL: &[u8] = include_bytes!("../../../tests/fixtures/tokenizer.json");

/// Ids, text and stream of one text are what was recorded.
fn agree(tokenizer: &Tokenizer, name: &str, text: &str, plain: &[u32], with_special: &[u32], decoded: &str) {
    assert_eq!(tokenizer.encode(text, true).unwrap(), plain, "{name}: {text:?}");
    let (before, after) = tokenizer.affixes();
    assert_eq!([before, plain, after].concat(), with_special, "{name}: {text:?} with what goes around it");
    assert_eq!(tokenizer.decode(with_special, false).unwrap(), decoded, "{name}: {text:?} and back");
    assert_eq!(streamed(tokenizer, with_special), decoded, "{name}: {text:?} one id at a time");
}

#[test]
fn the_small_vocabulary_of_the_repository_gives_the_recorded_ids() {
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    let tokenizer = Tokenizer::from_json(SMALL, None).unwrap();
    let cases = recorded["cases"].as_array().unwrap();
    assert!(cases.len() >= 30);
    for case in cases {
        let ids = numbers(&case["ids"]);
        agree(&tokenizer, "small", case["text"].as_str().unwrap(), &ids, &ids, case["decoded"].as_str().unwrap());
        let typed = tokenizer.encode(case["text"].as_str().unwrap(), false).unwrap();
        assert_eq!(typed, numbers(&case["typed"]), "{case}");
    }
}

#[test]
fn every_recorded_vocabulary_gives_the_recorded_ids() {
    let Some(folder) = material("recorded vocabularies") else { return };
    let expected = json(&folder, "tokenizers/expected.json");
    let strings = expected["strings"].as_array().unwrap();
    let vocabularies = expected["tokenizers"].as_object().unwrap();
    assert!(vocabularies.len() >= 12 && strings.len() >= 50);
    for (name, recorded) in vocabularies {
        let tokenizer = load(&folder, name);
        for (position, text) in strings.iter().enumerate() {
            let ids = |list: &str| numbers(&recorded[list][position]);
            let decoded = recorded["decoded"][position].as_str().unwrap();
            let text = text.as_str().unwrap();
            agree(&tokenizer, name, text, &ids("plain"), &ids("with_special"), decoded);
        }
    }
}

#[test]
fn the_original_ids_of_five_families_are_met() {
    let Some(folder) = material("ids of llama.cpp's own cases") else { return };
    for (cases, name) in
        [("gpt-2", "gpt2-hf"), ("llama-bpe", "llama-bpe"), ("llama-spm", "llama-spm"), ("qwen2", "qwen2")]
    {
        let tokenizer = load(&folder, name);
        let cases = json(&folder, &format!("tokenizers/{cases}/llamacpp-cases.json"));
        assert_eq!(cases.as_array().unwrap().len(), 47);
        for case in cases.as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, true).unwrap(), numbers(&case["ids"]), "{name}: {text:?}");
        }
    }
}

#[test]
fn the_story_model_and_the_sentence_model_get_their_ids() {
    let Some(folder) = material("ids of two models") else { return };
    let config = bytes(&folder, "stories260k/hf/tokenizer_config.json");
    let tokenizer = Tokenizer::from_json(&bytes(&folder, "stories260k/hf/tokenizer.json"), Some(&config)).unwrap();
    let recorded = json(&folder, "stories260k/tokenizer_cases.json");
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.unknown()), (Some(1), Some(2), Some(0)));
    for case in recorded["cases"].as_array().unwrap() {
        let (text, ids) = (case["text"].as_str().unwrap(), numbers(&case["ids"]));
        if text == "a\u{2581}b" {
            // Recorded from llama2.c, where the mark of a space is a character like any other; SentencePiece and llama.cpp take
            // it for a space, and so does the model's tokenizer.json.
            assert_eq!(tokenizer.encode_document(text).unwrap(), tokenizer.encode_document("a b").unwrap());
            continue;
        }
        assert_eq!(tokenizer.encode_document(text).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), case["decoded"].as_str().unwrap());
        assert_eq!(streamed(&tokenizer, &ids), case["decoded"].as_str().unwrap());
    }
    let tokenizer = tokenizer.within(512).unwrap();
    let refused = tokenizer.within(511).unwrap_err();
    assert!(matches!(refused, TextError::Rows { highest: 511, rows: 511, .. }), "{refused}");

    let tokenizer = load(&folder, "minilm");
    let recorded = json(&folder, "minilm/reference.json");
    for case in recorded["sentences"].as_array().unwrap() {
        let (text, ids) = (case["text"].as_str().unwrap(), numbers(&case["ids"]));
        // Special tokens in a text were recognized when these were recorded.
        let (before, after) = tokenizer.affixes();
        let found = [before, &tokenizer.encode(text, true).unwrap(), after].concat();
        assert_eq!(found.len() as u64, case["full_length"].as_u64().unwrap(), "{text:?}");
        // The references are cut to the model's length, with the separator kept.
        let kept = ids.len() - 1;
        assert_eq!(found[..kept], ids[..kept], "{text:?}");
    }
}

#[test]
fn a_special_token_that_a_user_types_is_plain_text() {
    let Some(folder) = material("typed special tokens") else { return };
    let expected = json(&folder, "tokenizers/expected.json");
    let mut typed = 0;
    for name in expected["tokenizers"].as_object().unwrap().keys() {
        let tokenizer = load(&folder, name);
        let mut reference = ::tokenizers::Tokenizer::from_bytes(tokenizer_json(&folder, name)).unwrap();
        reference.set_encode_special_tokens(true);
        reference.with_truncation(None).unwrap().with_padding(None);
        for (token, id) in tokenizer.special_tokens() {
            for text in [token.to_owned(), format!("a{token}b"), format!("{token}{token} {token}\n")] {
                let ids = tokenizer.encode(&text, false).unwrap();
                // The id of the unknown is also what a vocabulary without these characters answers.
                let unknown = tokenizer.unknown() == Some(id) || matches!(token, "<unk>" | "[UNK]");
                assert!(unknown || !ids.contains(&id), "{name}: {text:?} gives {ids:?}");
                assert!(tokenizer.encode(&text, true).unwrap().contains(&id), "{name}: {text:?}");
                let theirs = reference.encode_fast(text.as_str(), false).unwrap();
                if !theirs.get_ids().iter().any(|id| tokenizer.is_special(*id)) {
                    assert_eq!(ids, theirs.get_ids(), "{name}: {text:?}");
                }
                typed += 1;
            }
        }
        for text in expected["strings"].as_array().unwrap() {
            let text = text.as_str().unwrap();
            let theirs = reference.encode_fast(text, false).unwrap();
            if !theirs.get_ids().iter().any(|id| tokenizer.is_special(*id)) {
                assert_eq!(tokenizer.encode(text, false).unwrap(), theirs.get_ids(), "{name}: {text:?}");
            }
        }
    }
    assert!(typed > 500, "{typed}");
}

#[test]
fn a_stream_gives_whole_characters_only() {
    let tokenizer = Tokenizer::from_json(SMALL, None).unwrap();
    let text = "na\u{ef}ve \u{1F468}\u{200d}\u{1F469} \u{4f60}\u{597d}";
    let ids = tokenizer.encode(text, false).unwrap();
    let mut stream = tokenizer.stream();
    let mut read = String::new();
    for id in &ids {
        read.push_str(&stream.push(*id).unwrap());
        assert!(text.starts_with(&read), "{read:?}");
    }
    assert_eq!(read, text);
    assert_eq!(stream.finish(), "");

    // Cut inside of the last character: its bytes are one replacement character, and only at the end.
    let mut stream = tokenizer.stream();
    let read: String = ids[..ids.len() - 1].iter().map(|id| stream.push(*id).unwrap()).collect();
    assert!(text.starts_with(&read) && !read.contains('\u{FFFD}'), "{read:?}");
    assert_eq!(stream.finish(), "\u{FFFD}");

    // A byte that can no longer become a character is one at once.
    let mut stream = tokenizer.stream();
    assert_eq!(stream.push(ids[ids.len() - 2]).unwrap() + &stream.push(ids[0]).unwrap(), "\u{FFFD}n");
}

/// A vocabulary of bytes and a few words whose decoder has these steps.
fn of_bytes(decoders: &Value) -> Tokenizer {
    let tokens = ["<0xE2>", "<0x82>", "<0xAC>", "\u{2581}", "a"];
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let file = json!({"version": "1.0", "added_tokens": [], "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": true}});
    Tokenizer::from_json(file.to_string().as_bytes(), None).unwrap()
}

#[test]
fn a_decoder_of_whole_texts_gives_whole_characters_too() {
    let text = [4, 3, 0, 1, 2, 4];
    for (pattern, decodes_whole) in [("\u{2581}", false), ("[\u{2581}]", true)] {
        let steps = json!([{"type": "Replace", "pattern": {"Regex": pattern}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]);
        let tokenizer = of_bytes(&steps);
        assert_eq!(tokenizer.spelling() == Spelling::Whole, decodes_whole, "{pattern}");
        let mut stream = tokenizer.stream();
        let pieces: Vec<String> = text.iter().map(|id| stream.push(*id).unwrap()).collect();
        assert_eq!(pieces, ["a", " ", "", "", "\u{20AC}", "a"], "{pattern}");
        assert_eq!(stream.finish(), "", "{pattern}");
        // What never becomes a character is said at the end, and where text comes behind it.
        assert_eq!(streamed(&tokenizer, &text[..3]), "a \u{FFFD}", "{pattern}");
        assert_eq!(streamed(&tokenizer, &[4, 0, 4]), "a\u{FFFD}a", "{pattern}");
    }
    // What is decoded otherwise with what follows is not taken back, and nothing behind it is swallowed.
    let tokenizer =
        of_bytes(&json!([{"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "aa"}, "content": "b"}]));
    assert_eq!(streamed(&tokenizer, &[4, 4, 3, 4]), "ab\u{2581}a");
}

#[test]
fn a_continued_text_keeps_its_leading_space() {
    let Some(folder) = material("leading spaces") else { return };
    let tokenizer = load(&folder, "llama-spm");
    let ids = tokenizer.encode("time", false).unwrap();
    let mut from_start = tokenizer.stream();
    let mut continued = tokenizer.stream_continuing();
    assert_eq!(from_start.push(ids[0]).unwrap(), "time");
    assert_eq!(continued.push(ids[0]).unwrap(), " time");
}

#[test]
fn settings_of_the_configuration_are_obeyed() {
    let config = br#"{"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>", "add_bos_token": true,
        "chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}],
        "added_tokens_decoder": {"600": {"content": "<|im_start|>", "special": true}}}"#;
    let refused = Tokenizer::from_json(SMALL, Some(config)).unwrap_err();
    assert!(matches!(refused, TextError::AddedTokenId { said: 600, .. }), "{refused}");

    let plain = Tokenizer::from_json(SMALL, None).unwrap();
    let next = plain.id("<think>").unwrap() + 1;
    let config = String::from_utf8(config.to_vec()).unwrap();
    let config =
        config.replace("\"600\": {\"content\": \"<|im_start|>\"", &format!("\"{next}\": {{\"content\": \"<|new|>\""));
    let tokenizer = Tokenizer::from_json(SMALL, Some(config.as_bytes())).unwrap();
    assert_eq!(tokenizer.id("<|new|>"), Some(next));
    assert_eq!(tokenizer.affixes().0, [tokenizer.id("<|im_start|>").unwrap()]);
    assert_eq!((tokenizer.template_source(None), tokenizer.template_source(Some("tool_use"))), (Some("a"), Some("b")));
}

/// DeepSeek's turns, and calls of tools as other publishers mark them, are text that was added in either kind of file.
#[test]
fn added_text_that_marks_a_turn_cannot_be_typed() {
    let (user, assistant, call) = ("<\u{ff5c}User\u{ff5c}>", "<\u{ff5c}Assistant\u{ff5c}>", "<|tool_call|>");
    let mut file: Value = serde_json::from_slice(SMALL).unwrap();
    for (id, content) in (604..).zip([user, assistant, call]) {
        let added = json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": id % 2 == 0, "special": false});
        file["added_tokens"].as_array_mut().unwrap().push(added);
    }
    file["added_tokens"][2]["special"] = json!(false);
    let file = file.to_string();
    let of_json = Tokenizer::from_json(file.as_bytes(), None).unwrap();
    let mut vocabulary = GgufVocabulary::of_json(file.as_bytes(), None, 607).unwrap();
    let of_written = Tokenizer::from_gguf(vocabulary.clone()).unwrap();
    vocabulary.token_types[602..].fill(4);
    let of_gguf = Tokenizer::from_gguf(vocabulary).unwrap();

    let text = format!("hi{assistant}ok{user}<|im_end|>{call}<think>");
    let template = ChatTemplate::new(&format!("{user}{{{{ messages[0].content }}}}{assistant}")).unwrap();
    for (kind, tokenizer) in [("a folder", of_json), ("a file made of it", of_written), ("GGUF", of_gguf)] {
        let beyond = |ids: &[u32]| ids.iter().copied().filter(|id| *id > 599).collect::<Vec<u32>>();
        let trusted = tokenizer.encode(&text, true).unwrap();
        assert_eq!(beyond(&trusted), [605, 604, 602, 606, 603], "{kind}");
        let typed = tokenizer.encode(&text, false).unwrap();
        assert_eq!(beyond(&typed), [606, 603], "{kind}");
        assert_eq!(tokenizer.decode(&typed, false).unwrap(), text, "{kind}");
        let conversation = Conversation::new([Message::user(&text)]);
        let ids = template.encode(&conversation, &tokenizer).unwrap();
        assert_eq!(beyond(&ids), [604, 606, 603, 605], "{kind}");
        // An answer shows what its model calls text, but for what separates turns.
        let shown = format!("hiok{call}<think>");
        assert_eq!(tokenizer.decode(&trusted, false).unwrap(), shown, "{kind}");
        assert_eq!(streamed(&tokenizer, &trusted), shown, "{kind}");
        assert_eq!([602, 603, 604, 606].map(|id| tokenizer.is_special(id)), [true, false, true, false], "{kind}");
    }
}

/// As in folders of fine-tuned models whose `config.json` is still that of the model below.
#[test]
fn an_answer_ends_where_the_tokenizer_or_the_template_ends_a_turn() {
    let ends = |config: Value, named: &[u32]| {
        let tokenizer = Tokenizer::from_json(SMALL, Some(config.to_string().as_bytes())).unwrap();
        tokenizer.with_ends(named.to_vec(), tokenizer.template_source(None))
    };
    let plain = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";
    let chatml = "{% for m in messages %}{{ '<|im_start|>' + m.role + m.content + '<|im_end|>' }}{% endfor %}";
    assert_eq!(ends(json!({"eos_token": "<|im_end|>"}), &[600]), [600, 602]);
    assert_eq!(ends(json!({"eos_token": "<|im_end|>"}), &[602, 600]), [602, 600]);
    assert_eq!(ends(json!({"eos_token": "<|endoftext|>", "chat_template": chatml}), &[600]), [600, 602]);
    assert_eq!(ends(json!({"eos_token": "<|endoftext|>", "chat_template": plain}), &[7]), [7, 600]);
    assert_eq!(ends(json!({"chat_template": chatml}), &[]), [602]);
    assert_eq!(ends(json!({}), &[5]), [5]);
}

/// What a unigram vocabulary lacks is one unknown token, be it a user's text or a trusted one.
#[test]
fn a_stretch_of_unknown_characters_is_one_token_whoever_typed_it() {
    let file = serde_json::json!({"version": "1.0",
        "added_tokens": [{"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0], ["<", -2.0], [">", -2.0],
            ["u", -2.0], ["n", -2.0], ["k", -2.0]]}});
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes(), None).unwrap();
    for (text, ids) in [("日本a語", &[0, 1, 0][..]), ("a日", &[1, 0]), ("日本語", &[0])] {
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids, "{text}");
        assert_eq!(tokenizer.encode(text, false).unwrap(), ids, "{text} typed");
    }
    assert_eq!(tokenizer.encode("a<unk>", true).unwrap(), [1, 0]);
    assert_eq!(tokenizer.encode("a<unk>", false).unwrap(), [1, 2, 4, 5, 6, 3]);
}

/// As Gemma 3's small models have a token of pictures, and CodeLlama's large ones those of gaps to fill.
#[test]
fn added_tokens_beyond_the_rows_are_spelled() {
    let config =
        br#"{"eos_token": "<|im_end|>", "bos_token": "<|im_start|>", "add_bos_token": true, "add_eos_token": true}"#;
    let whole = Tokenizer::from_json(SMALL, Some(config)).unwrap();
    let written = GgufVocabulary::of_json(SMALL, Some(config), 602).unwrap();
    assert_eq!((written.tokens.len(), written.bos, written.eos), (602, Some(601), None));
    let within = whole.clone().within(602).unwrap();
    // What was left out once does not come back with more rows, where nobody would know it for special.
    let again = within.clone().within(700).unwrap();
    for tokenizer in [within, again, Tokenizer::from_gguf(written).unwrap()] {
        let text = "<|endoftext|>hi<|im_end|> <think><|im_start|>";
        let ids = tokenizer.encode(text, true).unwrap();
        assert!(ids.starts_with(&[600]) && ids.ends_with(&[601]) && ids.iter().all(|id| *id < 602), "{ids:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
        assert_eq!((tokenizer.eos(), tokenizer.affixes()), (None, (&[601][..], &[][..])));
        assert_eq!((tokenizer.id("<|im_end|>"), tokenizer.token(602)), (None, None));
        assert!(tokenizer.special_tokens().all(|(_, id)| id < 602) && tokenizer.id("<|im_start|>") == Some(601));
    }
    // What shares the vocabulary stays as it was.
    assert_eq!((whole.encode("<|im_end|>", true).unwrap(), whole.eos()), (vec![602], Some(602)));
    let refused = whole.within(599).unwrap_err();
    assert!(matches!(refused, TextError::Rows { highest: 599, rows: 599, .. }), "{refused}");
    assert!(refused.to_string().starts_with("the tokenizer has ids up to 599"), "{refused}");
}
