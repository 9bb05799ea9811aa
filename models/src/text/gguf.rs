//! Builds a tokenizer from the vocabulary that a GGUF file carries in its metadata.

use std::collections::BTreeMap;
use std::fmt;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, DecoderWrapper};

use super::TextError;
use super::pre_tokenizer::{Splitter, Splitting};
use super::spelling::SPACE;
use super::tokenizer::{Settings, Tokenizer};
use super::unigram::unigram;
use crate::error::shown;

/// Special tokens that end a turn or a text in the models that have them; many files name only one of their model's by its id.
const ENDS: [&str; 8] = [
    "<end_of_turn>",
    "<|end_of_text|>",
    "<|end|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
];

/// What else separates the turns of a conversation. Some publishers and converters write these, and the [`ENDS`], as text that was added; then
/// a user could type them, so they are special whatever the file says.
const MARKS: [&str; 12] = [
    "<start_of_turn>",
    "<|assistant|>",
    "<|begin_of_text|>",
    "<|end_header_id|>",
    "<|im_start|>",
    "<|start_header_id|>",
    "<|system|>",
    "<|user|>",
    "[/INST]",
    "[INST]",
    "<\u{ff5c}Assistant\u{ff5c}>",
    "<\u{ff5c}User\u{ff5c}>",
];

/// Whether a token is special by its spelling: one of the [`ENDS`] or the [`MARKS`].
pub(super) fn is_mark(token: &str) -> bool {
    ENDS.contains(&token) || MARKS.contains(&token)
}

/// The longest token that a vocabulary with scores may have, in bytes. The longest of published vocabularies have less than half of it.
const LONGEST: usize = 256;

/// The metadata `tokenizer.ggml.*` of a GGUF file as plain values, in the file's own order and types; from a
/// file by [`read`](Self::read).
#[derive(Debug, Clone, Default)]
pub struct GgufVocabulary {
    /// `model`: `llama` (SentencePiece's BPE), `gpt2` (byte-level BPE), `bert` (WordPiece) or `t5` (SentencePiece's Unigram).
    pub model: String,
    /// `pre`: how a `gpt2` vocabulary splits text.
    pub pre: Option<String>,
    /// `tokens`: the token of each id.
    pub tokens: Vec<String>,
    /// `scores`: one a token, for `llama` and `t5`.
    pub scores: Vec<f32>,
    /// `merges`: two tokens with a space between, the most important first, for `gpt2`.
    pub merges: Vec<String>,
    /// `token_type`: a [`TokenKind`]'s number for each token; empty if all are normal.
    pub token_types: Vec<i32>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `eot_token_id`: what ends a turn.
    pub eot: Option<u32>,
    /// `eom_token_id`: what ends a message, after which the model waits for a tool's answer.
    pub eom: Option<u32>,
    /// `unknown_token_id`.
    pub unknown: Option<u32>,
    /// `padding_token_id`.
    pub padding: Option<u32>,
    /// `cls_token_id`: what a text begins with in a `bert` or `t5` vocabulary.
    pub begin: Option<u32>,
    /// `seperator_token_id`, as llama.cpp spells it: what a text ends with in a `bert` or `t5` vocabulary.
    pub separator: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
    /// `add_eos_token`.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `remove_extra_whitespaces`: whether a `t5` vocabulary drops spaces at both ends and all but one in a row; as if true where absent.
    pub remove_extra_spaces: Option<bool>,
    /// `precompiled_charsmap`: SentencePiece's table of characters and what is written for them, for `t5`; empty where there is none.
    pub charsmap: Vec<u8>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

/// What a token is for, as GGUF numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenKind {
    /// A piece of text.
    Normal = 1,
    /// Stands for what cannot be spelled.
    Unknown = 2,
    /// A special token.
    Control = 3,
    /// An added token that is text.
    UserDefined = 4,
    /// Never produced.
    Unused = 5,
    /// One byte.
    Byte = 6,
}

impl TokenKind {
    /// The kind that a number stands for; numbers that GGUF does not define are none.
    pub fn from_number(number: i32) -> Option<Self> {
        let kinds = [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];
        kinds.into_iter().find(|kind| *kind as i32 == number)
    }
}

impl GgufVocabulary {
    /// The tokens that end an answer: `eos`, `eot` and `eom`, and tokens that are spelled as some models' ends of a turn or of a text
    /// are. In this order, each once; none that the vocabulary lacks.
    pub fn ends(&self) -> Vec<u32> {
        let named = [self.eos, self.eot, self.eom].into_iter().flatten();
        let unused = |id: u32| self.token_types.get(id as usize) == Some(&(TokenKind::Unused as i32));
        let spelled = (0_u32..).zip(&self.tokens).filter(|(id, token)| !unused(*id) && ENDS.contains(&token.as_str()));
        let mut ends = Vec::new();
        for id in named.chain(spelled.map(|(id, _)| id)) {
            if (id as usize) < self.tokens.len() && !ends.contains(&id) {
                ends.push(id);
            }
        }
        ends
    }
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file describes.
    ///
    /// A `llama` vocabulary becomes BPE with merges in the order of the scores, which is how SentencePiece merges; a `gpt2`
    /// vocabulary of Qwen gets the NFC step of Qwen's own tokenizer, which GGUF cannot express; a `bert` vocabulary takes letters as
    /// small ones without accents, as llama.cpp does; a `t5` vocabulary becomes Unigram. Texts stand between two special tokens in
    /// the last two, unless the file says otherwise. Phi 3's turns begin with the spaces and lines behind their marks left out, as its
    /// own tokenizer has it.
    ///
    /// # Errors
    /// [`TextError::VocabularyKind`], [`TextError::PreTokenizer`] and [`TextError::Vocabulary`] for vocabularies that are not
    /// supported or not consistent.
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Self, TextError> {
        GgufTokenizer::new(vocabulary)?.finish()
    }

    /// The tokens that end an answer: those that the files name, the own end of a text, and those of the [`ENDS`] that the chat template
    /// writes. A configuration often names no more than what ended the texts of the model that was trained further.
    pub(crate) fn with_ends(&self, mut named: Vec<u32>, template: Option<&str>) -> Vec<u32> {
        let template = template.unwrap_or_default();
        let written = ENDS.into_iter().filter(|end| template.contains(end)).filter_map(|end| self.id(end));
        for id in self.eos().into_iter().chain(written) {
            if !named.contains(&id) {
                named.push(id);
            }
        }
        named
    }
}

/// [`Tokenizer::from_gguf`] in two steps: whoever must not be kept long does other things between.
pub struct GgufTokenizer {
    inner: tokenizers::Tokenizer,
    splitter: Option<Splitter>,
    kinds: Vec<TokenKind>,
    vocabulary: GgufVocabulary,
}

impl fmt::Debug for GgufTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GgufTokenizer").field("tokens", &self.vocabulary.tokens.len()).finish_non_exhaustive()
    }
}

impl GgufTokenizer {
    /// Builds the model: which tokens there are and how they merge.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`].
    pub fn new(mut vocabulary: GgufVocabulary) -> Result<Self, TextError> {
        let kinds = kinds(&vocabulary)?;
        let spelled = match vocabulary.model.as_str() {
            "bert" => Some(["[CLS]", "[SEP]"]),
            "t5" => Some(["<s>", "</s>"]),
            _ => None,
        };
        if let Some([first, last]) = spelled {
            let named = |token: &str| vocabulary.tokens.iter().position(|known| known == token).map(|id| id as u32);
            let (begin, separator) = (vocabulary.begin.or(vocabulary.bos), vocabulary.separator.or(vocabulary.eos));
            vocabulary.bos = begin.or_else(|| named(first));
            vocabulary.eos = separator.or_else(|| named(last));
        }
        let (inner, splitter, add_bos) = match vocabulary.model.as_str() {
            "llama" => (sentence_piece(&vocabulary, &kinds)?, None, true),
            "gpt2" => byte_level(&vocabulary)?,
            "bert" => (word_piece(&vocabulary, &kinds)?, None, true),
            "t5" => (unigram(&vocabulary, &kinds)?, None, true),
            other => return Err(TextError::VocabularyKind { kind: shown(other) }),
        };
        vocabulary.add_bos.get_or_insert(add_bos);
        vocabulary.add_eos.get_or_insert(spelled.is_some());
        Ok(GgufTokenizer { inner, splitter, kinds, vocabulary })
    }

    /// Adds what is special or was added, and all that is found without the model.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`].
    pub fn finish(self) -> Result<Tokenizer, TextError> {
        let GgufTokenizer { mut inner, splitter, kinds, vocabulary } = self;
        // Phi 3's has Llama 2's tokens with turns and places for more behind them.
        let phi = vocabulary.model == "llama" && vocabulary.tokens.iter().any(|token| token == "<|placeholder1|>");
        let added = kinds.iter().zip(&vocabulary.tokens).filter_map(|(kind, content)| {
            let special = matches!(kind, TokenKind::Control | TokenKind::Unknown);
            let strips = phi && !["<unk>", "<s>", "<|endoftext|>"].contains(&content.as_str());
            let token = AddedToken::from(content.as_str(), special).normalized(false).rstrip(strips);
            (special || *kind == TokenKind::UserDefined).then_some(token)
        });
        inner.add_tokens(added).map_err(|error| wrong("tokens", error.to_string()))?;
        let named = |id: Option<u32>| id.filter(|id| usize::try_from(*id).is_ok_and(|id| id < vocabulary.tokens.len()));
        let settings = Settings {
            bos: named(vocabulary.bos),
            eos: named(vocabulary.eos),
            unknown: named(vocabulary.unknown),
            padding: named(vocabulary.padding),
            add_bos: vocabulary.add_bos,
            add_eos: vocabulary.add_eos,
            templates: vocabulary
                .chat_template
                .into_iter()
                .map(|it| ("default".to_owned(), it))
                .collect::<BTreeMap<_, _>>(),
        };
        Tokenizer::assemble(inner, splitter, settings).map_err(|reason| wrong("tokens", reason))
    }
}

pub(super) fn wrong(list: &'static str, problem: String) -> TextError {
    TextError::Vocabulary { list, problem }
}

/// The kind of every token; the lists are checked against each other.
fn kinds(vocabulary: &GgufVocabulary) -> Result<Vec<TokenKind>, TextError> {
    let count = vocabulary.tokens.len();
    if count == 0 || u32::try_from(count).is_err() {
        return Err(wrong("tokens", format!("there are {count}")));
    }
    let normal = vec![TokenKind::Normal as i32; count];
    let numbers = if vocabulary.token_types.is_empty() { &normal } else { &vocabulary.token_types };
    if numbers.len() != count {
        return Err(wrong("token_type", format!("has {} entries for {count} tokens", vocabulary.token_types.len())));
    }
    let named = [vocabulary.bos, vocabulary.eos, vocabulary.eot, vocabulary.eom];
    let kind = |(id, (number, token)): (u32, (&i32, &String))| {
        let kind = TokenKind::from_number(*number);
        let kind = kind.ok_or_else(|| wrong("token_type", format!("{number} is no kind of token")))?;
        let text = matches!(kind, TokenKind::Normal | TokenKind::UserDefined);
        // What a text or a turn begins or ends with, unless it is a word that a text may well hold.
        let role = named.contains(&Some(id)) && token.starts_with(['<', '[']) && token.ends_with(['>', ']']);
        Ok(if text && (role || is_mark(token)) { TokenKind::Control } else { kind })
    };
    (0..).zip(numbers.iter().zip(&vocabulary.tokens)).map(kind).collect()
}

/// Ids by token; of equal tokens the last one counts.
fn ids(tokens: &[String]) -> Vocab {
    (0u32..).zip(tokens).map(|(id, token)| (token.clone(), id)).collect()
}

/// How the first files of Llama 3 and of Qwen split texts, which do not say it: they are known by a mark, and by how many tokens there are
/// more than.
const SILENT: [(&str, usize, &str); 2] = [("<|begin_of_text|>", 0, "llama-bpe"), ("<|im_start|>", 150_000, "qwen2")];

fn byte_level(vocabulary: &GgufVocabulary) -> Result<(tokenizers::Tokenizer, Option<Splitter>, bool), TextError> {
    let ids = ids(&vocabulary.tokens);
    let silent = || SILENT.iter().find(|(mark, tokens, _)| ids.len() > *tokens && ids.contains_key(*mark));
    let pre = vocabulary.pre.as_deref().unwrap_or_else(|| silent().map_or("default", |(.., pre)| pre));
    let splitting = Splitting::named(pre)?;
    let mut merges = Merges::new();
    for merge in &vocabulary.merges {
        let halves = merge.char_indices().skip(1).find(|(_, it)| *it == ' ').map(|(at, _)| merge.split_at(at));
        let (left, right) = halves.map_or((merge.as_str(), ""), |(left, right)| (left, right.trim_start_matches(' ')));
        if ![left, right, &format!("{left}{right}")].iter().all(|it| ids.contains_key(*it)) {
            return Err(wrong("merges", format!("`{}` does not join two tokens to a third", shown(merge))));
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    let model = BPE::builder().vocab_and_merges(ids, merges).ignore_merges(splitting.ignore_merges).build();
    let mut inner = tokenizers::Tokenizer::new(model.map_err(|error| wrong("merges", error.to_string()))?);
    inner.with_normalizer(splitting.normalizer).map_err(|error| wrong("pre", error.to_string()))?;
    inner.with_decoder(Some(ByteLevel::default()));
    Ok((inner, Some(splitting.splitter), splitting.add_bos))
}

/// GGUF marks the tokens that begin a word, where BERT's own files mark those that do not.
fn word_piece(vocabulary: &GgufVocabulary, kinds: &[TokenKind]) -> Result<tokenizers::Tokenizer, TextError> {
    let spelled = |(token, kind): (&String, &TokenKind)| match (kind, token.strip_prefix(SPACE)) {
        (TokenKind::Control | TokenKind::Unknown, _) => token.clone(),
        (_, Some(word)) => word.to_owned(),
        (_, None) => format!("##{token}"),
    };
    let tokens: Vec<String> = vocabulary.tokens.iter().zip(kinds).map(spelled).collect();
    let unknown = vocabulary.unknown.and_then(|id| tokens.get(usize::try_from(id).ok()?).cloned());
    let unknown = unknown.unwrap_or_else(|| "[UNK]".to_owned());
    let model = WordPiece::builder().vocab(ids(&tokens)).unk_token(unknown).build();
    let mut inner = tokenizers::Tokenizer::new(model.map_err(|error| wrong("tokens", error.to_string()))?);
    let normalizer = BertNormalizer::new(true, true, None, true);
    inner.with_normalizer(Some(normalizer)).map_err(|error| wrong("model", error.to_string()))?;
    inner.with_pre_tokenizer(Some(BertPreTokenizer)).with_decoder(Some(WordPieceDecoder::default()));
    Ok(inner)
}

/// Refuses a token of more than [`LONGEST`] bytes.
pub(super) fn check_length(token: &str) -> Result<(), TextError> {
    match token.len() > LONGEST {
        false => Ok(()),
        true => {
            Err(wrong("tokens", format!("`{}` has {} bytes, and {LONGEST} are the most", shown(token), token.len())))
        }
    }
}

/// Bytes that the merges of a vocabulary with scores may have for each of its tokens on average, and [`MERGED_ANYWAY`] beside: those of
/// published vocabularies have some 20.
const MERGED_EACH: usize = 128;
const MERGED_ANYWAY: usize = 1 << 20;

/// The merges that scores stand for: all that join two tokens to a third, those to tokens of high scores first. Tokens of more than
/// [`LONGEST`] bytes are refused, because each of their bytes is looked at as often as they have bytes, and so are vocabularies in which
/// most tokens are made of two others in many ways, because each way takes memory.
pub(super) fn ranked(vocabulary: &GgufVocabulary, kinds: &[TokenKind]) -> Result<Merges, TextError> {
    let ids = ids(&vocabulary.tokens);
    let mut ranked = Vec::new();
    let most = MERGED_EACH * vocabulary.tokens.len() + MERGED_ANYWAY;
    let mut merged = 0;
    let tokens = vocabulary.tokens.iter().zip(&vocabulary.scores).zip(kinds);
    for ((token, score), _) in tokens.filter(|(_, kind)| **kind == TokenKind::Normal) {
        check_length(token)?;
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            let Some((first, second)) = ids.get(left).and_then(|first| Some((first, ids.get(right)?))) else {
                continue;
            };
            merged += token.len();
            if merged > most {
                return Err(wrong("tokens", format!("the pairs that join to one have more than {most} bytes in all")));
            }
            ranked.push((*score, *first, *second, left, right));
        }
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    Ok(ranked.into_iter().map(|(.., left, right)| (left.to_owned(), right.to_owned())).collect())
}

fn sentence_piece(vocabulary: &GgufVocabulary, kinds: &[TokenKind]) -> Result<tokenizers::Tokenizer, TextError> {
    let tokens = &vocabulary.tokens;
    if vocabulary.scores.len() != tokens.len() {
        return Err(wrong("scores", format!("has {} entries for {} tokens", vocabulary.scores.len(), tokens.len())));
    }
    let merges = ranked(vocabulary, kinds)?;
    let ids = ids(tokens);

    let unknown = vocabulary.unknown.and_then(|id| tokens.get(usize::try_from(id).ok()?));
    let unknown = unknown.or_else(|| kinds.iter().zip(tokens).find(|it| *it.0 == TokenKind::Unknown).map(|it| it.1));
    let mut builder = BPE::builder().vocab_and_merges(ids, merges).fuse_unk(true).byte_fallback(true);
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown.clone());
    }
    let mut inner = tokenizers::Tokenizer::new(builder.build().map_err(|error| wrong("scores", error.to_string()))?);

    let failed = |error: tokenizers::Error| wrong("model", error.to_string());
    let prefix = vocabulary.add_space_prefix.unwrap_or(true);
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    let mut decoders: Vec<DecoderWrapper> = vec![
        Replace::new(SPACE.to_string(), " ").map_err(failed)?.into(),
        ByteFallback::default().into(),
        Fuse::default().into(),
    ];
    if prefix {
        normalizers.push(Prepend::new(SPACE.to_string()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    normalizers.push(Replace::new(" ", SPACE.to_string()).map_err(failed)?.into());
    inner.with_normalizer(Some(Normalizers::new(normalizers))).map_err(failed)?;
    inner.with_decoder(Some(Sequence::new(decoders)));
    Ok(inner)
}
