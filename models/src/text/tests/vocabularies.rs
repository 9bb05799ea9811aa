//! Tokenizers from GGUF vocabularies: the same ids as from the models' own files, and as llama.cpp's.

use super::super::{GgufVocabulary, TextError, Tokenizer};
use super::{bytes, json, load, material, numbers};
use lampyris_engine::weights::gguf::Gguf;

/// The vocabulary of a GGUF file.
fn vocabulary(file: Vec<u8>) -> GgufVocabulary {
    GgufVocabulary::read(&Gguf::from_bytes("vocabulary", file).unwrap()).unwrap()
}

#[test]
fn vocabularies_of_gguf_files_give_the_ids_of_the_original_tokenizers() {
    let Some(folder) = material("GGUF vocabularies") else { return };
    let recorded = json(&folder, "tokenizers/expected.json");
    let strings = recorded["strings"].as_array().unwrap();
    let files = [
        ("gpt2-hf", "gpt-2/ggml-vocab-gpt-2.gguf"),
        ("llama-bpe", "llama-bpe/ggml-vocab-llama-bpe.gguf"),
        ("qwen2", "qwen2/ggml-vocab-qwen2.gguf"),
        ("llama-spm", "llama-spm/ggml-vocab-llama-spm.gguf"),
        ("small-gpt-2", "small-gpt-2/vocab.gguf"),
        ("small-llama-bpe", "small-llama-bpe/vocab.gguf"),
        ("small-qwen2", "small-qwen2/vocab.gguf"),
        ("small-smollm", "small-smollm/vocab.gguf"),
    ];
    for (name, file) in files {
        let tokenizer = Tokenizer::from_gguf(vocabulary(bytes(&folder, &format!("tokenizers/{file}")))).unwrap();
        for (position, text) in strings.iter().enumerate() {
            let ids = numbers(&recorded["tokenizers"][name]["plain"][position]);
            let text = text.as_str().unwrap();
            assert_eq!(tokenizer.encode(text, true).unwrap(), ids, "{name}: {text:?}");
            let decoded = recorded["tokenizers"][name]["decoded"][position].as_str().unwrap();
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), decoded, "{name}: {text:?}");
            let typed = tokenizer.encode(text, false).unwrap();
            assert_eq!(typed, load_typed(&folder, name, text), "{name}: {text:?} typed");
        }
    }
}

/// What the tokenizer of the JSON file makes of a text that a user typed.
fn load_typed(folder: &std::path::Path, name: &str, text: &str) -> Vec<u32> {
    use std::cell::RefCell;
    thread_local!(static LAST: RefCell<Option<(String, Tokenizer)>> = const { RefCell::new(None) });
    LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(loaded, _)| loaded != name) {
            *last = Some((name.to_owned(), load(folder, name)));
        }
        last.as_ref().unwrap().1.encode(text, false).unwrap()
    })
}

#[test]
fn llama_cpps_own_cases_are_met() {
    let Some(folder) = material("llama.cpp's cases") else { return };
    for name in ["gpt-2", "llama-bpe", "qwen2", "llama-spm", "phi-3"] {
        let file = bytes(&folder, &format!("tokenizers/{name}/ggml-vocab-{name}.gguf"));
        let tokenizer = Tokenizer::from_gguf(vocabulary(file)).unwrap();
        let cases = json(&folder, &format!("tokenizers/{name}/llamacpp-cases.json"));
        assert_eq!(cases.as_array().unwrap().len(), 47);
        for case in cases.as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, false).unwrap(), numbers(&case["ids"]), "{name}: {text:?}");
        }
    }
}

/// What libllama makes of the same texts, special tokens in them recognized, and of a few with what it puts around a text. Where it is not
/// what the models' own files give, these are followed.
#[test]
fn llama_cpp_makes_the_same_of_every_recorded_text() {
    let Some(folder) = material("llama.cpp's ids") else { return };
    let own = json(&folder, "tokenizers/expected.json");
    let recorded = json(&folder, "tokenizers/expected-llamacpp.json");
    let files = recorded["gguf"].as_object().unwrap();
    let (mut compared, mut apart, mut around) = (0, Vec::new(), 0);
    for (name, expected) in files {
        let file = format!("tokenizers/{}", expected["file"].as_str().unwrap());
        let tokenizer = Tokenizer::from_gguf(vocabulary(bytes(&folder, &file))).unwrap();
        let original = &own["tokenizers"][if name == "gpt-2" { "gpt2-hf" } else { name }]["plain"];
        let before = apart.len();
        for (at, text) in own["strings"].as_array().unwrap().iter().enumerate() {
            let (text, ids) = (text.as_str().unwrap(), &expected["ids"][at]);
            let found = tokenizer.encode(text, true).unwrap();
            if original.get(at).is_some_and(|original| original != ids) {
                assert_ne!(found, numbers(ids), "{name}: {text:?}");
                apart.push((name.as_str(), at));
                continue;
            }
            assert_eq!(found, numbers(ids), "{name}: {text:?}");
            compared += 1;
        }
        // The file counts them as well, by their places in a longer list.
        let told = expected.get("differs_from_hf").map_or(0, |list| list.as_array().unwrap().len());
        assert_eq!(apart.len() - before, told, "{name}: {apart:?}");
        // The fifth was recorded from the longer list too.
        let texts = ["", "a", " ", "Hello, world!", " Hello"];
        for (text, ids) in texts.into_iter().zip(expected["with_bos_eos"].as_array().unwrap()) {
            assert_eq!(tokenizer.encode_document(text).unwrap(), numbers(ids), "{name}: {text:?} as a document");
            around += 1;
        }
    }
    // llama.cpp does not compose combining marks, and takes `</s>` for a token of Qwen 2's.
    assert_eq!(apart, [("qwen2", 39), ("qwen2", 40), ("qwen2", 45), ("small-qwen2", 39), ("small-qwen2", 40)]);
    assert_eq!((files.len(), compared, around), (9, 9 * 53 - 5, 9 * 5));
}

#[test]
fn the_story_model_is_the_same_from_both_formats() {
    let Some(folder) = material("the story model's vocabulary") else { return };
    let tokenizer = Tokenizer::from_gguf(vocabulary(bytes(&folder, "stories260k/gguf/stories260K-F32.gguf"))).unwrap();
    let recorded = json(&folder, "stories260k/tokenizer_cases.json");
    for case in recorded["cases"].as_array().unwrap() {
        let (text, ids) = (case["text"].as_str().unwrap(), numbers(&case["ids"]));
        if text == "a\u{2581}b" {
            // Recorded from llama2.c, the only one that does not take the mark for a space.
            assert_eq!(tokenizer.encode_document(text).unwrap(), tokenizer.encode_document("a b").unwrap());
            continue;
        }
        assert_eq!(tokenizer.encode_document(text).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), case["decoded"].as_str().unwrap());
    }
}

#[test]
fn a_word_piece_vocabulary_gives_the_ids_of_the_sentence_model() {
    let Some(folder) = material("ids of the sentence model") else { return };
    let file = json(&folder, "minilm/tokenizer.json");
    let mut tokens = vec![String::new(); 30522];
    for (token, id) in file["model"]["vocab"].as_object().unwrap() {
        // As llama.cpp's converter marks them.
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].contains(&token.as_str());
        let word = || format!("\u{2581}{token}");
        let marked = if special { token.clone() } else { token.strip_prefix("##").map_or_else(word, str::to_owned) };
        tokens[id.as_u64().unwrap() as usize] = marked;
    }
    let kind =
        |token: &String| if ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"].contains(&token.as_str()) { 3 } else { 1 };
    let token_types = tokens.iter().map(kind).collect();
    let model = "bert".to_owned();
    let vocabulary = GgufVocabulary { model, tokens, token_types, ..GgufVocabulary::default() };
    let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
    let (before, after) = tokenizer.affixes();
    let recorded = json(&folder, "minilm/reference.json");
    for case in recorded["sentences"].as_array().unwrap() {
        let (text, ids) = (case["text"].as_str().unwrap(), numbers(&case["ids"]));
        let found = [before, &tokenizer.encode(text, true).unwrap(), after].concat();
        assert_eq!(found.len() as u64, case["full_length"].as_u64().unwrap(), "{text:?}");
        let kept = ids.len() - 1;
        assert_eq!(found[..kept], ids[..kept], "{text:?}");
    }
}

/// A byte-level vocabulary of five tokens.
fn tiny() -> GgufVocabulary {
    GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: Some("gpt-2".to_owned()),
        tokens: ["a", "b", "ab", "<end>", "<think>"].map(str::to_owned).to_vec(),
        merges: vec!["a b".to_owned()],
        token_types: vec![1, 1, 1, 3, 4],
        eos: Some(3),
        ..GgufVocabulary::default()
    }
}

#[test]
fn token_kinds_and_defaults_are_understood() {
    let tokenizer = Tokenizer::from_gguf(tiny()).unwrap();
    assert_eq!(tokenizer.encode("ab<end><think>", true).unwrap(), [2, 3, 4]);
    assert_eq!(tokenizer.encode("<think>", false).unwrap(), [4], "a user-defined token is text");
    assert!(tokenizer.is_special(3) && !tokenizer.is_special(4));
    assert_eq!(tokenizer.affixes(), (&[][..], &[][..]));
    let ending = Tokenizer::from_gguf(GgufVocabulary { add_eos: Some(true), ..tiny() }).unwrap();
    assert_eq!(ending.encode_document("ab").unwrap(), [2, 3]);
    assert_eq!(ending.encode_prompt("ab").unwrap(), [2]);
}

/// The first files of Llama 3 and Qwen do not say how they split texts, of which numbers tell.
#[test]
fn files_that_do_not_say_how_they_split_are_known_by_their_marks() {
    let digits = |marks: &[&str], fillers: usize| {
        let tokens = ["1", "11", "111", "1111"].into_iter().chain(marks.iter().copied()).map(str::to_owned);
        let tokens: Vec<String> = tokens.chain((0..fillers).map(|id| format!("<{id}>"))).collect();
        let token_types = (0..tokens.len()).map(|id| if id < 4 { 1 } else { 3 }).collect();
        let merges = ["1 1", "11 1", "11 11"].map(str::to_owned).to_vec();
        let vocabulary = GgufVocabulary { pre: None, tokens, token_types, merges, bos: Some(4), eos: None, ..tiny() };
        Tokenizer::from_gguf(vocabulary).unwrap().encode_document("1111").unwrap()
    };
    assert_eq!(digits(&["<|begin_of_text|>"], 0), [4, 2, 0], "Llama 3's texts have a beginning, and numbers in threes");
    assert_eq!(digits(&["<|im_start|>", "<|endoftext|>"], 150_000), [0; 4], "Qwen's one by one");
    assert_eq!(digits(&["<|im_start|>", "<|endoftext|>"], 0), [2, 0], "SmolLM2's have a `pre`");
}

#[test]
fn a_gguf_file_without_a_vocabulary_is_refused() {
    let Some(folder) = material("a GGUF file without a vocabulary") else { return };
    let file = Gguf::from_bytes("small", bytes(&folder, "gguf-quants/files/small-Q4_K.gguf")).unwrap();
    let refused = GgufVocabulary::read(&file).unwrap_err();
    assert!(matches!(refused, TextError::Vocabulary { list: "model", .. }), "{refused}");
}

#[test]
fn inconsistent_vocabularies_are_refused_with_the_list_that_is_wrong() {
    let refused = |vocabulary| Tokenizer::from_gguf(vocabulary).unwrap_err().to_string();
    let says = |vocabulary, word: &str| {
        let said = refused(vocabulary);
        assert!(said.contains(word), "{said}");
    };
    says(GgufVocabulary { model: "t5".to_owned(), ..tiny() }, "`scores`");
    let unigram = GgufVocabulary { model: "t5".to_owned(), scores: vec![-1.0; 5], ..tiny() };
    says(GgufVocabulary { scores: vec![-1.0, -2.0, f32::NAN, 0.0, 0.0], ..unigram.clone() }, "NaN");
    says(GgufVocabulary { charsmap: vec![255; 64], ..unigram.clone() }, "`precompiled_charsmap`");
    says(GgufVocabulary { charsmap: vec![1], ..unigram }, "`precompiled_charsmap`");
    says(GgufVocabulary { pre: Some("unheard-of".to_owned()), ..tiny() }, "llama-bpe, ");
    says(GgufVocabulary { tokens: Vec::new(), ..tiny() }, "`tokens`");
    says(GgufVocabulary { token_types: vec![1], ..tiny() }, "`token_type`");
    says(GgufVocabulary { token_types: vec![1, 1, 1, 1, 77], ..tiny() }, "77");
    says(GgufVocabulary { merges: vec!["b a".to_owned()], ..tiny() }, "`b a`");
    says(GgufVocabulary { merges: vec![String::new()], ..tiny() }, "`merges`");
    says(GgufVocabulary { model: "llama".to_owned(), ..tiny() }, "`scores`");
    let unknown = GgufVocabulary { model: "rwkv".to_owned(), ..tiny() };
    assert!(matches!(Tokenizer::from_gguf(unknown.clone()), Err(TextError::VocabularyKind { .. })));
    says(unknown, "instead of the GGUF file");
    says(GgufVocabulary { pre: Some("runes".to_owned()), ..tiny() }, "instead of the GGUF file");
}

#[test]
fn a_token_of_a_megabyte_is_refused_at_once() {
    let tokens: Vec<String> = ["<unk>", "a"].map(str::to_owned).into_iter().chain(["a".repeat(1 << 20)]).collect();
    let (model, token_types, scores) = ("llama".to_owned(), vec![2, 1, 1], vec![0.0; 3]);
    let vocabulary = GgufVocabulary { model, tokens, token_types, scores, ..GgufVocabulary::default() };
    let said = Tokenizer::from_gguf(vocabulary).unwrap_err().to_string();
    assert!(said.contains("1048576 bytes") && said.contains("256") && said.len() < 400, "{said}");
}

#[test]
fn tokens_that_are_made_of_others_in_every_way_are_refused() {
    let run = |at: usize| "a".repeat(at % 250 + 1) + &if at < 250 { String::new() } else { (at / 250).to_string() };
    let of = |tokens: Vec<String>| {
        let (model, scores) = ("llama".to_owned(), vec![0.0; tokens.len()]);
        Tokenizer::from_gguf(GgufVocabulary { model, tokens, scores, ..GgufVocabulary::default() })
    };
    let said = of((0..5000).map(run).collect()).unwrap_err().to_string();
    assert!(said.contains("`tokens`") && said.contains("1688576 bytes"), "{said}");
    // A few of them are no harm.
    of((0..100).map(run).collect()).unwrap();
}

#[test]
fn ends_survive_a_file() {
    let vocabulary = GgufVocabulary { eot: Some(1), eom: Some(0), ..tiny() };
    let file = lampyris_engine::weights::gguf::gguf_bytes("made", &vocabulary.clone().metadata(), &[]).unwrap();
    let read = self::vocabulary(file);
    assert_eq!((read.eos, read.eot, read.eom), (Some(3), Some(1), Some(0)));
    assert_eq!(read.ends(), [3, 1, 0]);
}

/// Files of many converters have the marks of turns as text that was added, which is found in what a user types.
#[test]
fn marks_of_turns_are_special_whatever_their_kind_in_the_file() {
    let mut vocabulary = tiny();
    vocabulary.tokens.extend(["<|im_end|>", "<|im_start|>"].map(str::to_owned));
    vocabulary.tokens.extend("<|>imend_".chars().map(String::from));
    vocabulary.token_types.extend([4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(vocabulary.ends(), [3, 5]);
    // Where no kinds are told too.
    let untold = GgufVocabulary { token_types: Vec::new(), ..vocabulary.clone() };
    assert!(untold.ends().contains(&5));
    let tokenizer = Tokenizer::from_gguf(untold).unwrap();
    assert!(tokenizer.is_special(5) && tokenizer.is_special(6) && !tokenizer.is_special(0));
    // One that is named by its id as well, however it is spelled, but no word.
    (vocabulary.token_types[3], vocabulary.bos) = (4, Some(0));
    let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
    assert_eq!(tokenizer.encode("a<|im_end|><|im_start|>", true).unwrap(), [0, 5, 6]);
    assert_eq!(tokenizer.encode("a<|im_end|>", false).unwrap(), [0, 7, 8, 10, 11, 15, 12, 13, 14, 8, 9]);
    assert!([3, 5, 6].into_iter().all(|id| tokenizer.is_special(id)));
    assert!([0, 4].into_iter().all(|id| !tokenizer.is_special(id)));
}

/// As in Phi 3's own `tokenizer_config.json`, of which GGUF files keep nothing.
#[test]
fn spaces_and_lines_behind_phis_marks_are_no_tokens() {
    let names = ["<unk>", "<s>", "</s>", "\u{2581}", "a", "\u{2581}a", "\n"];
    let marks = ["<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|end|>", "<|user|>"];
    let tokens: Vec<String> = names.into_iter().chain(marks).map(str::to_owned).collect();
    let token_types = vec![2, 3, 4, 1, 1, 1, 1, 3, 3, 3, 3, 3];
    let scores = vec![0.0; tokens.len()];
    let phi = GgufVocabulary { model: "llama".to_owned(), tokens, token_types, scores, ..GgufVocabulary::default() };
    let mut other = phi.clone();
    other.tokens[9] = "<|elsewhere|>".to_owned();
    let text = "<|user|>\n a<|end|> \n<|assistant|>\n";
    assert_eq!(Tokenizer::from_gguf(phi.clone()).unwrap().encode(text, true).unwrap(), [11, 5, 10, 8]);
    assert_eq!(Tokenizer::from_gguf(phi).unwrap().encode("<s>\na", true).unwrap(), [1, 3, 6, 4]);
    let other = Tokenizer::from_gguf(other).unwrap().encode("<|user|>\na", true).unwrap();
    assert_eq!(other, [11, 3, 6, 4]);
}
