//! Text to ids and back, in the way of the model that the vocabulary belongs to.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokenizers::{AddedToken, Model, Normalizer, OffsetType, PreTokenizedString, PreTokenizer, Token};

use super::TextError;
use super::added::{AddedTokens, Special, has_row};
use super::affixes::{Affixes, Wish};
use super::gguf::is_mark;
use super::pre_tokenizer::Splitter;
use super::spelling::Spelling;
use super::stream::TextStream;
use crate::error::shown;

/// How often a part of a text is cut where it looks like a special token, before it is cut between all of its characters. Vocabularies
/// that were not made to be in the way need one or two.
const CUTS: usize = 16;

/// A vocabulary with everything around it: what is done to a text before, what is put around it, and the way back.
///
/// Made by [`from_json`](Self::from_json) or [`from_gguf`](Self::from_gguf). A clone shares the vocabulary. The algorithms are
/// those of the `tokenizers` crate; only the recognition of added tokens is our own, because what a user typed must never
/// become a special token.
#[derive(Debug, Clone)]
pub struct Tokenizer(Arc<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    inner: Arc<tokenizers::Tokenizer>,
    /// What splits instead of the one in `inner`, which then has none.
    splitter: Option<Arc<Splitter>>,
    added: AddedTokens,
    /// Special tokens by id.
    special: BTreeMap<u32, String>,
    spelling: Spelling,
    affixes: Affixes,
    settings: Settings,
}

/// What a model's files say beside the vocabulary.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) padding: Option<u32>,
    pub(super) add_bos: Option<bool>,
    pub(super) add_eos: Option<bool>,
    /// Templates by name; the usual one is `default`.
    pub(super) templates: BTreeMap<String, String>,
}

impl Tokenizer {
    /// Puts a tokenizer together from what a reader of some format has found.
    pub(super) fn assemble(
        mut inner: tokenizers::Tokenizer,
        splitter: Option<Splitter>,
        settings: Settings,
    ) -> Result<Self, String> {
        let known = inner.get_added_vocabulary().get_added_tokens_decoder().values();
        let marks: Vec<AddedToken> = known
            .filter(|token| !token.special && is_mark(&token.content))
            .map(|token| token.clone().special(true))
            .collect();
        if !marks.is_empty() {
            inner.add_tokens(marks).map_err(|error| error.to_string())?;
        }
        let vocabulary = inner.get_added_vocabulary();
        let decoder = vocabulary.get_added_tokens_decoder().iter();
        let special = decoder
            .filter(|(_, token)| vocabulary.is_special_token(&token.content))
            .map(|(id, token)| (*id, token.content.clone()))
            .collect();
        let added = AddedTokens::new(vocabulary, &special)?;
        let affixes = Affixes::of(inner.get_post_processor()).map_err(|error| error.to_string())?.overruled(
            Wish { token: settings.bos, add: settings.add_bos },
            Wish { token: settings.eos, add: settings.add_eos },
        );
        let spelling = Spelling::of(inner.get_decoder());
        let (inner, splitter) = (Arc::new(inner), splitter.map(Arc::new));
        Ok(Self(Arc::new(Parts { inner, splitter, added, special, spelling, affixes, settings })))
    }

    /// The ids of a text, with nothing put before or after it.
    ///
    /// With `special` the text is trusted and special tokens in it are recognized; without, they are the characters that they
    /// consist of, whoever typed them. Added tokens that the vocabulary does not call special are recognized either way, but for marks of
    /// turns, which are special whatever it calls them.
    ///
    /// # Errors
    /// [`TextError::Encode`] where the vocabulary cannot spell the text, which no byte-level or byte-fallback vocabulary does.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError> {
        self.ids(text, if special { Special::Everywhere } else { Special::Nowhere })
    }

    /// The ids of a plain text with what the model was trained to see around it, such as BOS. For text that a chat template
    /// has rendered, use [`encode`](Self::encode): templates write these tokens themselves.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_document(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = self.encode_prompt(text)?;
        ids.extend(&self.0.affixes.after);
        Ok(ids)
    }

    /// The ids of a plain text that goes on: as [`encode_document`](Self::encode_document), without what the model was trained to see
    /// after a text, such as EOS.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = self.0.affixes.before.clone();
        ids.extend(self.encode(text, false)?);
        Ok(ids)
    }

    /// The text of ids, with (`special`) or without the special tokens among them. Ids that the vocabulary lacks give no text;
    /// bytes that are no UTF-8 give replacement characters.
    ///
    /// # Errors
    /// [`TextError::Decode`] where the vocabulary's decoder fails.
    pub fn decode(&self, ids: &[u32], special: bool) -> Result<String, TextError> {
        self.0.inner.decode(ids, !special).map_err(|error| TextError::Decode { reason: error.to_string() })
    }

    /// The text of ids that come one at a time, from the beginning of a text: the leading space that SentencePiece vocabularies
    /// add is dropped.
    pub fn stream(&self) -> TextStream {
        TextStream::new(self.clone(), true)
    }

    /// The text of ids that continue another text: a leading space is part of it.
    pub fn stream_continuing(&self) -> TextStream {
        TextStream::new(self.clone(), false)
    }

    /// The id of a token, by its spelling in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.inner.token_to_id(token).filter(|id| has_row(*id, self.0.added.rows))
    }

    /// A token's spelling in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.0.inner.id_to_token(id).filter(|_| has_row(id, self.0.added.rows))
    }

    /// Whether an id is that of a special token, which is no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.0.special.contains_key(&id)
    }

    /// All special tokens with their ids, in the order of the ids.
    pub fn special_tokens(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.special.iter().map(|(id, token)| (token.as_str(), *id))
    }

    /// The token that texts begin with, where the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.0.settings.bos
    }

    /// The token that texts end with, where the model has one.
    pub fn eos(&self) -> Option<u32> {
        self.0.settings.eos
    }

    /// The token that stands for what cannot be spelled.
    pub fn unknown(&self) -> Option<u32> {
        self.0.settings.unknown
    }

    /// The token that fills shorter texts of a batch up.
    pub fn padding(&self) -> Option<u32> {
        self.0.settings.padding
    }

    /// What [`encode_document`](Self::encode_document) puts before and after a text.
    pub fn affixes(&self) -> (&[u32], &[u32]) {
        (&self.0.affixes.before, &self.0.affixes.after)
    }

    /// The source of the model's chat template, or of the one of several that is for this `purpose`, such as `tool_use`.
    pub fn template_source(&self, purpose: Option<&str>) -> Option<&str> {
        self.0.settings.templates.get(purpose.unwrap_or("default")).map(String::as_str)
    }

    /// The tokenizer for a model whose embedding has `rows` rows: it gives no id for which there is none. Added tokens beyond them, such
    /// as one for pictures where the model takes text only, are left out, for good, and their text is spelled as any other. More rows
    /// than ids are usual: models are padded to convenient sizes.
    ///
    /// # Errors
    /// [`TextError::Rows`] with the highest id, where a token beyond them is one of the vocabulary's own.
    pub fn within(mut self, rows: usize) -> Result<Self, TextError> {
        // What an earlier call has left out stays so.
        let rows = rows.min(self.0.added.rows);
        let has_row = |id: u32| has_row(id, rows);
        let highest = self.0.inner.get_vocab(false).into_iter().max_by_key(|(_, id)| *id);
        if let Some((token, id)) = highest.filter(|(_, id)| !has_row(*id)) {
            return Err(TextError::Rows { highest: id, token: shown(&token), rows });
        }
        let parts = Arc::make_mut(&mut self.0);
        let refused = |reason| TextError::TokenizerFile { reason };
        parts.added = AddedTokens::within(parts.inner.get_added_vocabulary(), &parts.special, rows).map_err(refused)?;
        parts.special.retain(|id, _| has_row(*id));
        parts.affixes.before.retain(|id| has_row(*id));
        parts.affixes.after.retain(|id| has_row(*id));
        let Settings { bos, eos, unknown, padding, .. } = &mut parts.settings;
        for named in [bos, eos, unknown, padding] {
            *named = named.filter(|id| has_row(*id));
        }
        Ok(self)
    }

    pub(super) fn spelling(&self) -> Spelling {
        self.0.spelling
    }

    /// The ids of a text in which special tokens are recognized in some places.
    pub(super) fn ids(&self, text: &str, special: Special<'_>) -> Result<Vec<u32>, TextError> {
        self.encoded(text, special).map_err(|error| TextError::Encode { reason: error.to_string() })
    }

    fn encoded(&self, text: &str, special: Special<'_>) -> tokenizers::Result<Vec<u32>> {
        let parts = &*self.0;
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, piece| parts.added.literal.split(piece, special))?;
        pieces.split(|_, mut piece| {
            if let Some(normalizer) = parts.inner.get_normalizer() {
                normalizer.normalize(&mut piece)?;
            }
            parts.added.normalized.split(piece, special)
        })?;
        if let Some(splitter) = &parts.splitter {
            splitter.pre_tokenize(&mut pieces)?;
        } else if let Some(pre_tokenizer) = parts.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        let trusted = matches!(special, Special::Everywhere);
        pieces.tokenize(|piece| {
            let tokens = parts.inner.get_model().tokenize(piece.get())?;
            if trusted { Ok(tokens) } else { self.spelled(piece.get(), tokens) }
        })?;
        Ok(pieces.into_encoding(None, 0, OffsetType::None)?.get_ids().to_vec())
    }

    /// Some models (Unigram above all) hold the special tokens among their pieces and would take a text for one that merely
    /// looks like it. Such places are cut after their first character, and what lies between the cuts is spelled on its own, until
    /// no part looks like a special token.
    fn spelled(&self, piece: &str, tokens: Vec<Token>) -> tokenizers::Result<Vec<Token>> {
        let model = self.0.inner.get_model();
        let (mut spelled, mut known) = (Vec::new(), Some(tokens));
        let mut waiting = vec![(piece, 0)];
        while let Some((piece, times)) = waiting.pop() {
            let tokens = known.take().map_or_else(|| model.tokenize(piece), Ok)?;
            let mut cuts: Vec<usize> = tokens.iter().filter_map(|token| self.cut(piece, token)).collect();
            if cuts.is_empty() {
                spelled.extend(tokens);
                continue;
            }
            if times == CUTS {
                cuts = piece.char_indices().skip(1).map(|(at, _)| at).collect();
            }
            cuts.sort_unstable();
            let (mut rest, mut parts) = (piece, Vec::with_capacity(cuts.len() + 1));
            for at in cuts.into_iter().rev() {
                if let Some((before, after)) = rest.split_at_checked(at) {
                    parts.push((after, times + 1));
                    rest = before;
                }
            }
            waiting.extend(parts.into_iter().filter(|(part, _)| !part.is_empty()));
            waiting.push((rest, times + 1));
        }
        Ok(spelled)
    }

    /// Where a piece is to be cut because it holds the text of this special token; not at its end.
    fn cut(&self, piece: &str, token: &Token) -> Option<usize> {
        let (start, end) = token.offsets;
        // A stretch of what the vocabulary lacks is a special token too, and no text of one.
        let looks = |special: &String| token.value.contains(special.as_str());
        let typed = self.0.special.get(&token.id).is_some_and(looks) && piece.get(start..end) == Some(&token.value);
        let at = start + token.value.chars().next().filter(|_| typed)?.len_utf8();
        (at < piece.len()).then_some(at)
    }
}
