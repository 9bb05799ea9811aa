//! Unigram vocabularies as GGUF files have them give the ids of the `tokenizer.json` that they were made from.

use super::super::{GgufVocabulary, TokenKind, Tokenizer};
use super::{json, material, numbers, tokenizer_json};
use lampyris_engine::weights::gguf::{Gguf, gguf_bytes};
use serde_json::Value;

/// A vocabulary as llama.cpp's converter takes it from a `tokenizer.json`, by way of a file, with `rows` that have no token.
fn converted(file: &Value, rows: usize) -> GgufVocabulary {
    let list = file["model"]["vocab"].as_array().unwrap();
    let unknown = file["model"]["unk_id"].as_u64().unwrap();
    let special: Vec<&str> =
        file["added_tokens"].as_array().unwrap().iter().map(|token| token["content"].as_str().unwrap()).collect();
    let kind = |(id, token): (u64, &str)| match token {
        _ if id == unknown => TokenKind::Unknown,
        _ if special.contains(&token) => TokenKind::Control,
        _ if token.starts_with("<0x") => TokenKind::Byte,
        _ => TokenKind::Normal,
    };
    let mut tokens: Vec<String> = list.iter().map(|entry| entry[0].as_str().unwrap().to_owned()).collect();
    let mut scores: Vec<f32> = list.iter().map(|entry| entry[1].as_f64().unwrap() as f32).collect();
    let mut token_types: Vec<i32> = (0..).zip(&tokens).map(|(id, token)| kind((id, token)) as i32).collect();
    for row in 0..rows {
        tokens.push(format!("[PAD{row}]"));
        scores.push(-10000.0);
        token_types.push(TokenKind::Unused as i32);
    }
    let charsmap = |step: &Value| step["precompiled_charsmap"].as_str().and_then(|text| base64::decode(text).ok());
    let normalizer = &file["normalizer"];
    let steps = normalizer["normalizers"].as_array().map_or(std::slice::from_ref(normalizer), Vec::as_slice);
    let vocabulary = GgufVocabulary {
        model: "t5".to_owned(),
        tokens,
        scores,
        token_types,
        charsmap: steps.iter().find_map(charsmap).unwrap(),
        remove_extra_spaces: Some(true),
        ..GgufVocabulary::default()
    };
    let written = gguf_bytes("vocabulary.gguf", &vocabulary.clone().metadata(), &[]).unwrap();
    let read = GgufVocabulary::read(&Gguf::from_bytes("vocabulary.gguf", written).unwrap()).unwrap();
    assert_eq!(format!("{read:?}"), format!("{vocabulary:?}"));
    read
}

#[test]
fn unigram_vocabularies_give_the_recorded_ids() {
    let Some(folder) = material("Unigram vocabularies") else { return };
    let recorded = json(&folder, "tokenizers/expected.json");
    let strings = recorded["strings"].as_array().unwrap();
    for name in ["small-unigram", "t5"] {
        let file: Value = serde_json::from_slice(&tokenizer_json(&folder, name)).unwrap();
        for rows in [0, 28] {
            let tokenizer = Tokenizer::from_gguf(converted(&file, rows)).unwrap();
            for (position, text) in strings.iter().enumerate() {
                let (text, case) = (text.as_str().unwrap(), &recorded["tokenizers"][name]);
                let ids = numbers(&case["plain"][position]);
                // T5's tokenizer.json cuts a text at whatever Unicode calls a space, SentencePiece at what its table makes one of.
                let same = name != "t5" || !text.contains('\u{85}');
                assert_eq!(tokenizer.encode(text, true).unwrap() == ids, same, "{name}: {text:?}");
                let decoded = case["decoded"][position].as_str().unwrap();
                assert_eq!(tokenizer.decode(&ids, false).unwrap(), decoded, "{name}: {text:?}");
            }
            // No text is a row without a token, whatever it is called.
            for typed in ["[PAD7]", " [PAD7]", "a [PAD7]", "\u{10FFFF}[PAD7]"] {
                let ids = tokenizer.encode(typed, true).unwrap();
                assert!(
                    ids.len() > 1 && ids.iter().all(|id| (*id as usize) < tokenizer_rows(&file)),
                    "{typed}: {ids:?}"
                );
            }
            // T5 knows an end only; a sequence has it behind it.
            assert_eq!(tokenizer.affixes(), (&[][..], &[1][..]), "{name}");
        }
    }
}

fn tokenizer_rows(file: &Value) -> usize {
    file["model"]["vocab"].as_array().unwrap().len()
}
