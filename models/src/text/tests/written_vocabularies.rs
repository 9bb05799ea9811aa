//! A `tokenizer.json` written as a GGUF vocabulary gives the same ids, or is refused.

use super::super::{GgufVocabulary, TextError, Tokenizer};
use super::{bytes, json, material, tokenizer_json};
use lampyris_engine::weights::gguf::{Gguf, gguf_bytes};
use serde_json::{Map, Value, json};

/// The tokenizer that a file with the vocabulary's metadata gives.
fn through_a_file(vocabulary: GgufVocabulary) -> Tokenizer {
    let file = gguf_bytes("vocabulary.gguf", &vocabulary.metadata(), &[]).unwrap();
    let gguf = Gguf::from_bytes("vocabulary.gguf", file).unwrap();
    Tokenizer::from_gguf(GgufVocabulary::read(&gguf).unwrap()).unwrap()
}

#[test]
fn texts_have_the_same_ids_from_either_file() {
    let Some(folder) = material("written_vocabularies") else { return };
    let texts: Vec<String> = json(&folder, "tokenizers/expected.json")["strings"]
        .as_array()
        .map(|all| all.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    let own = [
        "Once upon a time, there were 1234 dogs!",
        " two  spaces\n\nand\tmore",
        "\u{e9}\u{4e2d}\u{1f600} don't <s> <|im_end|>",
        "",
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).chain(own).collect();
    let names =
        ["small-gpt-2", "small-llama-bpe", "small-qwen2", "small-smollm", "smollm2", "llama-spm", "stories260k"];
    for name in names {
        let (tokenizer, place) = match name {
            "stories260k" => (bytes(&folder, "stories260k/hf/tokenizer.json"), "stories260k/hf".to_owned()),
            _ => (tokenizer_json(&folder, name), format!("tokenizers/{name}")),
        };
        let config = std::fs::read(folder.join(place).join("tokenizer_config.json")).ok();
        let original = Tokenizer::from_json(&tokenizer, config.as_deref()).unwrap();
        let rows = 1 << 16;
        let written = through_a_file(GgufVocabulary::of_json(&tokenizer, config.as_deref(), rows).unwrap());
        for text in &texts {
            assert_eq!(written.encode(text, false).unwrap(), original.encode(text, false).unwrap(), "{name}: {text:?}");
            let ids = original.encode_document(text).unwrap();
            assert_eq!(written.encode_document(text).unwrap(), ids, "{name}: {text:?}");
            assert_eq!(written.decode(&ids, true).unwrap(), original.decode(&ids, true).unwrap(), "{name}: {text:?}");
        }
        assert_eq!(written.affixes(), original.affixes(), "{name}");
        for (found, named) in [(written.bos(), original.bos()), (written.eos(), original.eos())] {
            assert!(named.is_none() || found == named, "{name}: {found:?}, {named:?}");
        }
        assert_eq!(written.template_source(None), original.template_source(None), "{name}");
    }
}

#[test]
fn what_the_format_has_no_name_for_is_refused() {
    let Some(folder) = material("written_vocabularies") else { return };
    let refused = |tokenizer: &[u8], rows: usize| GgufVocabulary::of_json(tokenizer, None, rows).unwrap_err();
    let unigram = refused(&tokenizer_json(&folder, "small-unigram"), 1 << 16);
    assert!(matches!(&unigram, TextError::NotGguf { reason } if reason.contains("Unigram")), "{unigram}");
    let words = refused(&tokenizer_json(&folder, "minilm"), 1 << 16);
    assert!(words.to_string().contains("WordPiece"), "{words}");
    let known = String::from_utf8(tokenizer_json(&folder, "small-qwen2")).unwrap();
    let other = refused(known.replace("{L}+|", "{L}{1,9}|").as_bytes(), 1 << 16);
    assert!(matches!(&other, TextError::NotGguf { reason } if reason.contains("splits text")), "{other}");
    let few = refused(known.as_bytes(), 100);
    assert!(few.to_string().contains("100"), "{few}");
}

/// A vocabulary as Gemma's: runs of spaces and of lines are text that was added, of which the merges know as well; a tab has the id of its
/// byte; one token more was added than the model has rows.
fn runs() -> (Value, usize) {
    let named = ["<pad>", "<eos>", "<bos>", "<unk>", "\n\n", "\n\n\n", "\u{2581}\u{2581}", "\u{2581}\u{2581}\u{2581}"];
    let pieces = ["\u{2581}t", "he", "\u{2581}the", "\tx", "\u{2581}", "\n", "t", "h", "e", "x"];
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let tokens = named.map(String::from).into_iter().chain(bytes).chain(pieces.map(String::from));
    let mut vocab: Map<String, Value> = tokens.zip(0..).map(|(token, id)| (token, json!(id))).collect();
    let rows = vocab.len();
    vocab.insert("\t".to_owned(), vocab["<0x09>"].clone());
    let added: Vec<Value> = (0..)
        .zip(named)
        .chain([(rows, "<image_soft_token>")])
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": content.starts_with('<')})
        })
        .collect();
    let runs = ["\n \n", "\n \n\n", "\n\n \n", "_ _", "_ __", "__ _"];
    let merges = runs.into_iter().chain(["_ t", "h e", "_t he", "\t x"]).map(|merge| merge.replace('_', "\u{2581}"));
    let merges: Vec<String> = merges.collect();
    let file = json!({"version": "1.0", "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": merges}});
    (file, rows)
}

#[test]
fn runs_that_were_added_are_the_same_tokens_from_either_file() {
    let (file, rows) = runs();
    let file = file.to_string();
    let original = Tokenizer::from_json(file.as_bytes(), None).unwrap().within(rows).unwrap();
    // Maps have another order each time.
    for _ in 0..8 {
        let vocabulary = GgufVocabulary::of_json(file.as_bytes(), None, rows).unwrap();
        assert_eq!(vocabulary.tokens.len(), rows);
        assert_eq!(vocabulary.tokens[4..8], ["\n\n", "\n\n\n", "  ", "   "]);
        assert_eq!((&*vocabulary.tokens[17], &vocabulary.token_types[4..8]), ("\t", &[4; 4][..]));
        let written = through_a_file(vocabulary);
        let few = ["  the\n\n\nthe   the", "the  \n  the\n", "   ", "\n\n the", "\tx  \tx\t", "  \u{e9}", " the"];
        let texts = few.into_iter().chain(["<image_soft_token>  <eos>"]);
        for text in texts {
            for special in [false, true] {
                let ids = original.encode(text, special).unwrap();
                assert_eq!(written.encode(text, special).unwrap(), ids, "{text:?}");
                assert!(ids.iter().all(|id| (*id as usize) < rows), "{text:?}: {ids:?}");
                assert_eq!(written.decode(&ids, true).unwrap(), original.decode(&ids, true).unwrap(), "{text:?}");
            }
        }
        assert_eq!(written.encode("the  \n\n   the", false).unwrap(), [270, 265, 6, 4, 7, 270, 265]);
    }
}

#[test]
fn runs_that_are_not_made_first_or_of_other_spaces_are_refused() {
    let refused = |file: &Value, rows: usize| {
        let refused = GgufVocabulary::of_json(file.to_string().as_bytes(), None, rows).unwrap_err();
        assert!(matches!(&refused, TextError::NotGguf { reason } if reason.contains("merges")), "{refused}");
    };
    let (mut late, rows) = runs();
    late["model"]["merges"].as_array_mut().unwrap()[..7].rotate_right(1);
    refused(&late, rows);
    let (mut prefixed, rows) = runs();
    let replace = prefixed["normalizer"].take();
    let prepend = json!({"type": "Prepend", "prepend": "\u{2581}"});
    prefixed["normalizer"] = json!({"type": "Sequence", "normalizers": [prepend, replace]});
    refused(&prefixed, rows);
}
