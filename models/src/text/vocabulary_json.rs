//! A `tokenizer.json` as the vocabulary of a GGUF file: byte-level BPE with a known way of splitting, and SentencePiece's BPE.

use std::collections::{BTreeMap, HashMap, HashSet};

use lampyris_engine::weights::gguf::{MetadataValue, ValueType};
use serde::Deserialize;
use serde_json::Value;

use super::gguf::ranked;
use super::pre_tokenizer::Splitting;
use super::spelling::{SPACE, fallback_byte};
use super::{GgufVocabulary, TextError, TokenKind, Tokenizer};
use crate::error::shown;

/// Names of pre-tokenizers that are tried, each standing for a way of splitting of its own.
const NAMES: [&str; 8] = ["gpt-2", "llama-bpe", "dbrx", "qwen2", "stablelm2", "smollm", "tekken", "gpt-4o"];

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: Value,
    merges: Option<Vec<Merge>>,
    unk_token: Option<String>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
}

/// Both halves in one string with a space between, or apart.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Halves(String, String),
}

impl Merge {
    fn halves(self) -> (String, String) {
        match self {
            Self::Halves(left, right) => (left, right),
            Self::Joined(both) => match both.split_once(' ') {
                Some((left, right)) => (left.to_owned(), right.to_owned()),
                None => (both, String::new()),
            },
        }
    }
}

fn refused(reason: impl Into<String>) -> TextError {
    TextError::NotGguf { reason: reason.into() }
}

impl GgufVocabulary {
    /// What a `tokenizer.json` and the `tokenizer_config.json` beside it say, for a table of `rows` embeddings: rows without a
    /// token get one that is never produced, and added tokens without a row are left out.
    ///
    /// # Errors
    /// As [`Tokenizer::from_json`]; [`TextError::NotGguf`] for a kind of tokenizer, or a way of splitting text, that GGUF files
    /// have no name for.
    pub fn of_json(tokenizer: &[u8], config: Option<&[u8]>, rows: usize) -> Result<Self, TextError> {
        let whole = Tokenizer::from_json(tokenizer, config)?.within(rows)?;
        let file: File = serde_json::from_slice(tokenizer).map_err(|error| refused(error.to_string()))?;
        let kind = file.model.kind.as_deref().unwrap_or("BPE");
        let vocab: Option<HashMap<String, u32>> = match file.model.vocab {
            Value::Object(map) if kind == "BPE" => {
                map.into_iter().map(|(token, id)| Some((token, u32::try_from(id.as_u64()?).ok()?))).collect()
            }
            _ => None,
        };
        let Some(vocab) = vocab else {
            return Err(refused(format!("it is of the type {}, and only BPE is known to this writer", shown(kind))));
        };
        let merges: Vec<(String, String)> =
            file.model.merges.unwrap_or_default().into_iter().map(Merge::halves).collect();
        let fallback = file.model.byte_fallback.unwrap_or(false);

        let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
        let mut kinds = vec![TokenKind::Unused; rows];
        let added: BTreeMap<u32, (&str, bool)> =
            file.added_tokens.iter().map(|it| (it.id, (it.content.as_str(), it.special))).collect();
        // Of two tokens with one id the text is kept: some vocabularies have a tab and the byte that it is.
        let mut ids: Vec<(u32, &str)> = vocab.iter().map(|(token, id)| (*id, token.as_str())).collect();
        ids.sort_unstable_by_key(|(id, token)| (*id, fallback_byte(token).is_none(), *token));
        for (id, token) in ids.into_iter().chain(added.iter().map(|(id, (token, _))| (*id, *token))) {
            let kind = match added.get(&id) {
                _ if file.model.unk_token.as_deref() == Some(token) => TokenKind::Unknown,
                Some((_, true)) => TokenKind::Control,
                _ if whole.is_special(id) => TokenKind::Control,
                _ if fallback && fallback_byte(token).is_some() => TokenKind::Byte,
                Some((_, false)) => TokenKind::UserDefined,
                None => TokenKind::Normal,
            };
            if let (Some(place), Some(there)) = (tokens.get_mut(id as usize), kinds.get_mut(id as usize)) {
                (*place, *there) = (token.to_owned(), kind);
            }
        }
        // Tokens that tokenizer_config.json adds.
        for (token, id) in whole.special_tokens() {
            if let (Some(place), Some(there)) = (tokens.get_mut(id as usize), kinds.get_mut(id as usize))
                && *there == TokenKind::Unused
            {
                (*place, *there) = (token.to_owned(), TokenKind::Control);
            }
        }
        // What is put around a text is the token that a configuration names, or names it where none does.
        let (before, after) = whole.affixes();
        let [bos, eos] = [(whole.bos(), before), (whole.eos(), after)]
            .map(|(named, put)| named.or(if let [only] = put { Some(*only) } else { None }));
        if [(bos, before), (eos, after)].iter().any(|(named, put)| !put.is_empty() && *put != named.as_slice()) {
            return Err(refused("it puts other tokens around a text than one at each end; run the folder as it is"));
        }
        let vocabulary = Self {
            token_types: kinds.iter().map(|kind| *kind as i32).collect(),
            bos,
            eos,
            unknown: whole.unknown(),
            padding: whole.padding(),
            add_bos: Some(!before.is_empty()),
            add_eos: Some(!after.is_empty()),
            chat_template: whole.template_source(None).map(str::to_owned),
            ..Self::default()
        };
        let ways = (file.normalizer.as_ref(), file.pre_tokenizer.as_ref());
        match fallback {
            true => marked(Self { tokens, ..vocabulary }, &kinds, &merges, ways, &whole),
            false => {
                let pre = name_of(ways, file.model.ignore_merges.unwrap_or(false))?;
                let merges = merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
                Ok(Self { model: "gpt2".to_owned(), pre: Some(pre.to_owned()), tokens, merges, ..vocabulary })
            }
        }
    }

    /// The keys of a GGUF file's metadata that say this.
    #[must_use]
    pub fn metadata(self) -> Vec<(String, MetadataValue)> {
        let texts = |list: Vec<String>| {
            MetadataValue::Array(ValueType::String, list.into_iter().map(MetadataValue::String).collect())
        };
        let numbers =
            |list: Vec<i32>| MetadataValue::Array(ValueType::I32, list.into_iter().map(MetadataValue::I32).collect());
        let floats =
            |list: Vec<f32>| MetadataValue::Array(ValueType::F32, list.into_iter().map(MetadataValue::F32).collect());
        let bytes =
            |list: Vec<u8>| MetadataValue::Array(ValueType::U8, list.into_iter().map(MetadataValue::U8).collect());
        let mut all = vec![
            ("model", Some(MetadataValue::String(self.model))),
            ("pre", self.pre.map(MetadataValue::String)),
            ("tokens", Some(texts(self.tokens))),
            ("scores", (!self.scores.is_empty()).then(|| floats(self.scores))),
            ("token_type", Some(numbers(self.token_types))),
            ("merges", (!self.merges.is_empty()).then(|| texts(self.merges))),
            ("precompiled_charsmap", (!self.charsmap.is_empty()).then(|| bytes(self.charsmap))),
        ];
        let ids = [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("eot_token_id", self.eot),
            ("eom_token_id", self.eom),
            ("unknown_token_id", self.unknown),
            ("padding_token_id", self.padding),
            ("cls_token_id", self.begin),
            ("seperator_token_id", self.separator),
        ];
        all.extend(ids.map(|(key, id)| (key, id.map(MetadataValue::U32))));
        let flags = [
            ("add_bos_token", self.add_bos),
            ("add_eos_token", self.add_eos),
            ("add_space_prefix", self.add_space_prefix),
            ("remove_extra_whitespaces", self.remove_extra_spaces),
        ];
        all.extend(flags.map(|(key, flag)| (key, flag.map(MetadataValue::Bool))));
        let named = all.into_iter().filter_map(|(key, value)| Some((format!("tokenizer.ggml.{key}"), value?)));
        let template = self.chat_template.map(|it| ("tokenizer.chat_template".to_owned(), MetadataValue::String(it)));
        named.chain(template).collect()
    }
}

/// The name of the pre-tokenizer that splits as a file says.
fn name_of(
    (normalizer, pre_tokenizer): (Option<&Value>, Option<&Value>),
    ignore_merges: bool,
) -> Result<&'static str, TextError> {
    let wanted = pre_tokenizer.map(steps).unwrap_or_default();
    let kind = |value: &Value| value["type"].as_str().map(str::to_owned);
    let normalizer = normalizer.and_then(kind);
    for name in NAMES {
        let known = Splitting::named(name)?;
        let splits = known.splitter.library().map_err(|error| refused(error.to_string()))?;
        let splits = serde_json::to_value(splits).map_err(|error| refused(error.to_string()))?;
        let normalizes = known.normalizer.and_then(|it| kind(&serde_json::to_value(it).ok()?));
        if steps(&splits) == wanted && normalizes == normalizer && known.ignore_merges == ignore_merges {
            return Ok(name);
        }
    }
    Err(refused("it splits text in a way that GGUF files have no name for; run the folder as it is"))
}

/// What a pre-tokenizer does, step by step, without what does not change the tokens.
fn steps(pre_tokenizer: &Value) -> Vec<Value> {
    let single = std::slice::from_ref(pre_tokenizer);
    let list = pre_tokenizer["pretokenizers"].as_array().map_or(single, Vec::as_slice);
    let bare = |step: &Value| {
        let mut step = step.clone();
        if let Some(map) = step.as_object_mut() {
            map.remove("trim_offsets");
        }
        step
    };
    list.iter().map(bare).collect()
}

/// A vocabulary with a mark for spaces: what is merged first has the highest score.
///
/// Added tokens have no merges in such a file, being looked for in a text before it is merged, and are written with spaces where the
/// merges make them of spaces. Runs of more spaces than a token has are cut from the left then, as SentencePiece does, and the mark
/// itself, where a text has it, is no space to them.
fn marked(
    mut vocabulary: GgufVocabulary,
    kinds: &[TokenKind],
    merges: &[(String, String)],
    (normalizer, pre_tokenizer): (Option<&Value>, Option<&Value>),
    whole: &Tokenizer,
) -> Result<GgufVocabulary, TextError> {
    let mut found = HashSet::new();
    for ((id, token), kind) in (0_u32..).zip(&mut vocabulary.tokens).zip(kinds) {
        let text = token.replace(SPACE, " ");
        match kind {
            TokenKind::UserDefined if text != " " && whole.encode(&text, true)? == [id] => {
                found.insert(std::mem::replace(token, text));
            }
            TokenKind::Control | TokenKind::Unknown => {
                found.insert(token.clone());
            }
            _ => {}
        }
    }
    let mut made: Vec<String> = merges.iter().map(|(left, right)| format!("{left}{right}")).collect();
    // Those with spaces must be made before any other that takes one.
    let mut spaces = made.iter().filter(|token| token.contains(SPACE)).skip_while(|token| found.contains(*token));
    let late = spaces.any(|token| found.contains(token));
    made.retain(|token| !found.contains(token));
    let said = |value: Option<&Value>, what: &str| value.is_some_and(|value| value.to_string().contains(what));
    let scheme = said(pre_tokenizer, "\"Metaspace\"") && !said(pre_tokenizer, "\"never\"");
    let prefix = said(normalizer, "\"Prepend\"") || scheme;
    let ranks = shared_ranks(&made);
    let scores = vocabulary.tokens.iter().map(|token| ranks.get(token.as_str()).map_or(0.0, |rank| -(*rank as f32)));
    let written = GgufVocabulary {
        model: "llama".to_owned(),
        scores: scores.collect(),
        add_space_prefix: Some(prefix),
        ..vocabulary
    };
    let same = ranked(&written, kinds)?.into_iter().map(|(left, right)| left + &right);
    if late || same.ne(made) {
        return Err(refused("its merges do not follow from scores of its tokens; run the folder as it is"));
    }
    Ok(written)
}

/// A rank for each token that merges make, from what each of them makes. Tokens whose merges lie among each other's share one: of equal
/// scores those with the lower ids go first, and that is how a vocabulary with such merges came about.
fn shared_ranks(made: &[String]) -> HashMap<&str, usize> {
    let mut spans: HashMap<&str, (usize, usize)> = HashMap::new();
    for (rank, token) in made.iter().enumerate() {
        spans.entry(token).and_modify(|span| span.1 = rank).or_insert((rank, rank));
    }
    let mut spans: Vec<(&str, (usize, usize))> = spans.into_iter().collect();
    spans.sort_by_key(|(_, span)| *span);
    let (mut group, mut ranks) = ((0, 0), HashMap::with_capacity(spans.len()));
    for (token, (first, last)) in spans {
        if first > group.1 {
            group = (first, last);
        }
        group.1 = group.1.max(last);
        ranks.insert(token, group.0);
    }
    ranks
}
