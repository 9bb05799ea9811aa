//! Reads the `tokenizer.json` and `tokenizer_config.json` that models are published with.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokenizers::AddedToken;

use super::TextError;
use super::charsmap::check_charsmaps;
use super::tokenizer::{Settings, Tokenizer};
use crate::error::shown;

impl Tokenizer {
    /// Reads a `tokenizer.json` and, where there is one, the `tokenizer_config.json` beside it.
    ///
    /// Settings for truncation and padding inside the first are ignored: they are left over from whoever saved the file. From
    /// the second come the names of special tokens, `add_bos_token`, `add_eos_token`, further added tokens and chat templates.
    ///
    /// # Errors
    /// [`TextError::TokenizerFile`], [`TextError::TokenizerConfig`] and [`TextError::AddedTokenId`] for files that cannot be
    /// used, or not together.
    pub fn from_json(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Self, TextError> {
        let refused = |reason: String| TextError::TokenizerFile { reason };
        check_outline(tokenizer).map_err(refused)?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(tokenizer).map_err(|error| refused(shown(&error.to_string())))?;
        let mut settings = Settings::default();
        if let Some(config) = config {
            let config: Config = serde_json::from_slice(config)
                .map_err(|error| TextError::TokenizerConfig { reason: error.to_string() })?;
            config.apply(&mut inner, &mut settings)?;
        }
        Self::assemble(inner, None, settings).map_err(refused)
    }
}

/// The keys of `tokenizer_config.json` that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    bos_token: Option<Named>,
    eos_token: Option<Named>,
    unk_token: Option<Named>,
    pad_token: Option<Named>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    added_tokens_decoder: BTreeMap<u32, Added>,
    chat_template: Option<Templates>,
}

/// A token as its text, or as an object with the text in it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Named {
    Text(String),
    Object { content: String },
}

/// One template, or several with names.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Several(Vec<Template>),
}

#[derive(Debug, Deserialize)]
struct Template {
    name: String,
    template: String,
}

#[derive(Debug, Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Named {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}

impl Config {
    fn apply(self, inner: &mut tokenizers::Tokenizer, settings: &mut Settings) -> Result<(), TextError> {
        for (said, added) in self.added_tokens_decoder {
            if inner.token_to_id(&added.content).is_none() {
                let token = AddedToken {
                    normalized: added.normalized.unwrap_or(!added.special),
                    content: added.content.clone(),
                    single_word: added.single_word,
                    lstrip: added.lstrip,
                    rstrip: added.rstrip,
                    special: added.special,
                };
                let refused = |error: tokenizers::Error| TextError::TokenizerConfig { reason: error.to_string() };
                inner.add_tokens([token]).map_err(refused)?;
            }
            match inner.token_to_id(&added.content) {
                Some(found) if found != said => {
                    return Err(TextError::AddedTokenId { token: shown(&added.content), said, found });
                }
                _ => {}
            }
        }
        let id = |named: &Option<Named>| named.as_ref().and_then(|named| inner.token_to_id(named.text()));
        settings.bos = id(&self.bos_token);
        settings.eos = id(&self.eos_token);
        settings.unknown = id(&self.unk_token);
        settings.padding = id(&self.pad_token);
        settings.add_bos = self.add_bos_token;
        settings.add_eos = self.add_eos_token;
        settings.templates = match self.chat_template {
            None => BTreeMap::new(),
            Some(Templates::One(template)) => BTreeMap::from([("default".to_owned(), template)]),
            Some(Templates::Several(list)) => list.into_iter().map(|it| (it.name, it.template)).collect(),
        };
        Ok(())
    }
}

/// The parts of a `tokenizer.json` that the crate below takes for granted: that they are JSON, and consistent.
#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow)]
    model: ModelOutline<'a>,
    normalizer: Option<Value>,
    #[serde(rename = "pre_tokenizer")]
    _pre_tokenizer: Option<Value>,
    #[serde(rename = "post_processor")]
    _post_processor: Option<Value>,
    #[serde(rename = "decoder")]
    _decoder: Option<Value>,
}

#[derive(Deserialize)]
struct ModelOutline<'a> {
    continuing_subword_prefix: Option<String>,
    #[serde(borrow)]
    merges: Option<Vec<Merge<'a>>>,
    #[serde(borrow)]
    vocab: Vocabulary<'a>,
}

/// The vocabulary as a map; `None` where it is a list, as in a Unigram model.
struct Vocabulary<'a>(Option<HashMap<Cow<'a, str>, u32>>);

/// Both halves in one string with a space between, or apart.
enum Merge<'a> {
    Joined(Cow<'a, str>),
    Halves(Text<'a>, Text<'a>),
}

/// A string, borrowed from the file where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Vocabulary<'a> {
    fn deserialize<D: Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'a> Visitor<'a> for Reader {
            type Value = Vocabulary<'a>;

            fn expecting(&self, words: &mut fmt::Formatter<'_>) -> fmt::Result {
                words.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut ids = HashMap::new();
                while let Some((Text(token), id)) = map.next_entry()? {
                    ids.insert(token, id);
                }
                Ok(Vocabulary(Some(ids)))
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocabulary(None))
            }
        }
        file.deserialize_any(Reader)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'a> Visitor<'a> for Reader {
            type Value = Merge<'a>;

            fn expecting(&self, words: &mut fmt::Formatter<'_>) -> fmt::Result {
                words.write_str("two tokens")
            }

            fn visit_borrowed_str<E>(self, both: &'a str) -> Result<Self::Value, E> {
                Ok(Merge::Joined(Cow::Borrowed(both)))
            }

            fn visit_str<E>(self, both: &str) -> Result<Self::Value, E> {
                Ok(Merge::Joined(Cow::Owned(both.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut half =
                    || list.next_element()?.ok_or_else(|| A::Error::custom("a merge of fewer than two tokens"));
                Ok(Merge::Halves(half()?, half()?))
            }
        }
        file.deserialize_any(Reader)
    }
}

/// Refuses files that would make the crate below panic.
fn check_outline(tokenizer: &[u8]) -> Result<(), String> {
    let outline: Outline<'_> = serde_json::from_slice(tokenizer).map_err(|error| error.to_string())?;
    outline.normalizer.iter().try_for_each(check_charsmaps)?;
    check_merges(&outline.model)
}

/// Refuses merges whose halves or result are no tokens: the crate below copies them into a buffer of the longest token.
fn check_merges(model: &ModelOutline<'_>) -> Result<(), String> {
    let (Some(merges), Vocabulary(Some(vocabulary))) = (&model.merges, &model.vocab) else {
        return Ok(());
    };
    let prefix = model.continuing_subword_prefix.as_deref().unwrap_or("");
    let mut joined = String::new();
    for merge in merges {
        let halves = match merge {
            Merge::Joined(both) => both.split_once(' '),
            Merge::Halves(left, right) => Some((left.0.as_ref(), right.0.as_ref())),
        };
        let known = halves.is_some_and(|(left, right)| {
            let Some(rest) = right.strip_prefix(prefix) else { return false };
            joined.clear();
            joined.push_str(left);
            joined.push_str(rest);
            vocabulary.contains_key(left) && vocabulary.contains_key(right) && vocabulary.contains_key(joined.as_str())
        });
        if !known {
            let (left, right) = halves.unwrap_or_default();
            return Err(format!("the merge of `{}` and `{}` does not give a token", shown(left), shown(right)));
        }
    }
    Ok(())
}
