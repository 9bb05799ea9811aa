//! A `tokenizer.json` written as a GGUF vocabulary gives the same ids, or is refused.

use super::super::{GgufVocabulary, TextError, Tokenizer};
use super::{bytes, json, material, tokenizer_json};
use lampyris_engine::weights::gguf::{Gguf, gguf_bytes};

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
