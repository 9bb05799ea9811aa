//! How the byte-level vocabularies of GGUF files split text before merging, by the name that the file gives.
//!
//! Patterns are those of the models' own tokenizer.json files; the names, and the patterns of `default`, are llama.cpp's.

use tokenizers::SplitDelimiterBehavior::Isolated;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper, normalizers::NFC, normalizers::NormalizerWrapper,
};

use super::TextError;
use super::words::Words;
use crate::error::shown;

/// Llama 3: numbers in groups of up to three digits.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Qwen 2 and 3: the same with single digits.
pub(super) const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Mistral's Tekken: words end where a small letter is followed by a capital one.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// OpenAI's o200k, which Phi 4 mini, Llama 4 and gpt-oss have: as Tekken's, with contractions in the word before them and numbers in groups.
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What is applied one after the other where a file names no pre-tokenizer.
const DEFAULT: [&str; 4] = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
];

/// The names of each family.
const NAMES: [(Family, &[&str]); 7] = [
    (Family::Default, &["default"]),
    (Family::Gpt2, &["gpt-2", "phi-2", "mpt", "olmo", "jais"]),
    (Family::Llama3, &["llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx"]),
    (Family::Qwen2, &["qwen2", "deepseek-r1-qwen", "stablelm2"]),
    (Family::Smollm, &["smollm", "starcoder", "refact", "command-r", "codeshell"]),
    (Family::Tekken, &["tekken"]),
    (Family::O200k, &["gpt-4o", "llama4"]),
];

/// Pre-tokenizers that work alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Default,
    Gpt2,
    Llama3,
    Qwen2,
    Smollm,
    Tekken,
    O200k,
}

/// How a text is split.
#[derive(Debug)]
pub(super) enum Splitter {
    /// By the library.
    Library(Box<PreTokenizerWrapper>),
    /// By our own, where the text is ASCII.
    Words(Box<Words>),
}

impl Splitter {
    /// As the library does it.
    pub(super) fn library(&self) -> tokenizers::Result<&PreTokenizerWrapper> {
        match self {
            Self::Library(pre_tokenizer) => Ok(pre_tokenizer),
            Self::Words(words) => words.compiled(),
        }
    }

    /// Splits what is left of a text.
    pub(super) fn pre_tokenize(&self, pieces: &mut PreTokenizedString) -> tokenizers::Result<()> {
        match self {
            Self::Library(pre_tokenizer) => pre_tokenizer.pre_tokenize(pieces),
            Self::Words(words) => words.pre_tokenize(pieces),
        }
    }
}

impl From<PreTokenizerWrapper> for Splitter {
    fn from(pre_tokenizer: PreTokenizerWrapper) -> Self {
        Self::Library(Box::new(pre_tokenizer))
    }
}

/// What a name of a pre-tokenizer stands for.
#[derive(Debug)]
pub(super) struct Splitting {
    /// What comes before the splitting.
    pub(super) normalizer: Option<NormalizerWrapper>,
    /// The splitting.
    pub(super) splitter: Splitter,
    /// A word that is a token is that token, whatever the merges would make of it.
    pub(super) ignore_merges: bool,
    /// Whether texts begin with BOS where the file does not say.
    pub(super) add_bos: bool,
}

impl Splitting {
    /// Looks a name of `tokenizer.ggml.pre` up.
    pub(super) fn named(name: &str) -> Result<Self, TextError> {
        let Some((family, _)) = NAMES.iter().find(|(_, names)| names.contains(&name)) else {
            let known: Vec<&str> = NAMES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
            return Err(TextError::PreTokenizer { pre: shown(name), known: known.join(", ") });
        };
        let refused = |error: tokenizers::Error| TextError::PreTokenizer { pre: shown(name), known: error.to_string() };
        let byte_level = || PreTokenizerWrapper::from(ByteLevel::new(false, true, true));
        let splitter = match family {
            Family::Default => split(&DEFAULT).map_err(refused)?.into(),
            Family::Gpt2 => byte_level().into(),
            Family::Llama3 => Splitter::Words(Box::new(Words::new(LLAMA3, 3))),
            Family::Qwen2 => Splitter::Words(Box::new(Words::new(QWEN2, 1))),
            Family::Smollm => {
                PreTokenizerWrapper::from(Sequence::new(vec![Digits::new(true).into(), byte_level()])).into()
            }
            Family::Tekken => split(&[TEKKEN]).map_err(refused)?.into(),
            Family::O200k => split(&[O200K]).map_err(refused)?.into(),
        };
        // The names of Llama 3 itself; others use its pattern only.
        let whole_words = matches!(name, "llama-bpe" | "llama3" | "llama-v3" | "tekken");
        Ok(Self {
            normalizer: (*family == Family::Qwen2 && name != "stablelm2").then(|| NFC.into()),
            splitter,
            ignore_merges: whole_words,
            add_bos: whole_words,
        })
    }
}

/// Every match of each pattern is a word; then bytes become characters.
pub(super) fn split(patterns: &[&str]) -> tokenizers::Result<PreTokenizerWrapper> {
    let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
    for pattern in patterns {
        steps.push(Split::new(SplitPattern::Regex((*pattern).to_owned()), Isolated, false)?.into());
    }
    steps.push(ByteLevel::new(false, true, false).into());
    Ok(Sequence::new(steps).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use tokenizers::{OffsetReferential, OffsetType};

    use super::*;

    /// Contractions stay with their word, words end before a capital letter, numbers come in threes, and a slash may follow signs.
    #[test]
    fn o200k_cuts_words_as_its_pattern_says() {
        let splitting = Splitting::named("gpt-4o").unwrap();
        let mut pieces = PreTokenizedString::from("Don't HelloWorld's 12345 a//\n  ABC");
        splitting.splitter.pre_tokenize(&mut pieces).unwrap();
        let words = pieces.get_splits(OffsetReferential::Original, OffsetType::Char);
        let words: Vec<&str> = words.into_iter().map(|(word, _, _)| word).collect();
        let expected = [
            "Don't",
            "\u{120}Hello",
            "World's",
            "\u{120}",
            "123",
            "45",
            "\u{120}a",
            "//\u{10A}",
            "\u{120}",
            "\u{120}ABC",
        ];
        assert_eq!(words, expected);
        assert!(!splitting.ignore_merges && !splitting.add_bos && splitting.normalizer.is_none());
    }
}
