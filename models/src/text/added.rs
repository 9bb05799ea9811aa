//! Finds added tokens in text, and decides where a special one may be recognized.
//!
//! The `tokenizers` crate can recognize special tokens everywhere or nowhere. A conversation needs a third way: in the text of
//! the template, but not in what a user typed. Matching follows the crate otherwise: the longest token at the leftmost place,
//! first in the text as it came, then, for tokens that ask for it, in the normalized text.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::Regex;
use tokenizers::tokenizer::normalizer::Range;
use tokenizers::{AddedVocabulary, NormalizedString, Token};

/// Where special tokens may be recognized in a text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Special<'a> {
    /// Nowhere: the text is a user's.
    Nowhere,
    /// Wherever they stand.
    Everywhere,
    /// Wherever they stand, unless one of these byte positions, in ascending order, lies inside of them.
    #[cfg_attr(not(feature = "text"), expect(dead_code, reason = "such positions come from a template"))]
    Across(&'a [usize]),
}

impl Special<'_> {
    /// Whether a special token may stand at these bytes of the original text.
    fn allows(self, start: usize, end: usize) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Everywhere => true,
            Self::Across(breaks) => {
                let next = breaks.partition_point(|position| *position <= start);
                breaks.get(next).is_none_or(|position| *position >= end)
            }
        }
    }
}

/// Whether an embedding of so many rows has one for this id.
pub(super) fn has_row(id: u32, rows: usize) -> bool {
    usize::try_from(id).is_ok_and(|id| id < rows)
}

/// All added tokens of a vocabulary.
#[derive(Debug, Clone)]
pub(super) struct AddedTokens {
    /// Those that are matched in the text as it came.
    pub(super) literal: Matcher,
    /// Those that are matched after the normalizer.
    pub(super) normalized: Matcher,
    /// Rows of the model's embedding, where they are known: no id is as high.
    pub(super) rows: usize,
}

/// What the matcher has to know about one token.
#[derive(Debug, Clone)]
struct Added {
    id: u32,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    special: bool,
}

/// A set of tokens that are searched together.
#[derive(Debug, Clone)]
pub(super) struct Matcher {
    automaton: Option<AhoCorasick>,
    tokens: Vec<Added>,
    /// What a text ends with, and what it begins with, when that is a word; where a token must not lie beside one.
    words: Option<(Regex, Regex)>,
}

impl AddedTokens {
    /// Prepares the search, with the `special` tokens by their ids; fails where the tokens are too many for it.
    pub(super) fn new(vocabulary: &AddedVocabulary, special: &BTreeMap<u32, String>) -> Result<Self, String> {
        Self::within(vocabulary, special, usize::MAX)
    }

    /// As [`new`](Self::new), without the tokens that have none of the `rows` of a model's embedding.
    pub(super) fn within(
        vocabulary: &AddedVocabulary,
        special: &BTreeMap<u32, String>,
        rows: usize,
    ) -> Result<Self, String> {
        let mut literal = Vec::new();
        let mut normalized = Vec::new();
        for (id, token) in vocabulary.get_added_tokens_decoder().iter().filter(|(id, _)| has_row(**id, rows)) {
            let added = Added {
                id: *id,
                single_word: token.single_word,
                lstrip: token.lstrip,
                rstrip: token.rstrip,
                special: special.contains_key(id),
            };
            if token.normalized {
                let content = vocabulary.simple_id_to_token(*id).unwrap_or_else(|| token.content.clone());
                normalized.push((content, added));
            } else {
                literal.push((token.content.clone(), added));
            }
        }
        Ok(Self { literal: Matcher::new(literal)?, normalized: Matcher::new(normalized)?, rows })
    }
}

impl Matcher {
    fn new(mut tokens: Vec<(String, Added)>) -> Result<Self, String> {
        tokens.sort_by_key(|(_, added)| added.id);
        tokens.retain(|(content, _)| !content.is_empty());
        let automaton = if tokens.is_empty() {
            None
        } else {
            let patterns = tokens.iter().map(|(content, _)| content);
            let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns);
            Some(built.map_err(|error| error.to_string())?)
        };
        let word = |pattern| Regex::new(pattern).map_err(|error| error.to_string());
        let words = match tokens.iter().any(|(_, added)| added.single_word) {
            true => Some((word(r"\w$")?, word(r"^\w")?)),
            false => None,
        };
        Ok(Self { automaton, tokens: tokens.into_iter().map(|(_, added)| added).collect(), words })
    }

    /// Cuts a text at the tokens in it. `special` speaks of positions in the original text.
    pub(super) fn split(
        &self,
        text: NormalizedString,
        special: Special<'_>,
    ) -> tokenizers::Result<Vec<(NormalizedString, Option<Vec<Token>>)>> {
        let found = self.find(&text, special);
        if found.is_empty() {
            return Ok(vec![(text, None)]);
        }
        let piece = |start, end| text.slice(Range::Normalized(start..end)).ok_or("an added token inside a character");
        let mut pieces = Vec::new();
        let mut done = 0;
        for (start, end, id) in found {
            if done < start {
                pieces.push((piece(done, start)?, None));
            }
            let token = piece(start, end)?;
            let content = token.get().to_owned();
            let length = content.len();
            pieces.push((token, Some(vec![Token::new(id, content, (0, length))])));
            done = end;
        }
        if done < text.get().len() {
            pieces.push((piece(done, text.get().len())?, None));
        }
        Ok(pieces)
    }

    /// Start, end and id of every token in a text, in bytes of the normalized text, without overlaps.
    fn find(&self, text: &NormalizedString, special: Special<'_>) -> Vec<(usize, usize, u32)> {
        let Some(automaton) = &self.automaton else { return Vec::new() };
        let sentence = text.get();
        let base = text.offsets_original().0;
        let mut found = Vec::new();
        let (mut at, mut done) = (0, 0);
        while let Some(hit) = automaton.find(aho_corasick::Input::new(sentence).span(at..sentence.len())) {
            let (mut start, mut end) = (hit.start(), hit.end());
            let Some(token) = self.tokens.get(hit.pattern().as_usize()) else { break };
            at = end;
            if token.special {
                let original = text.convert_offsets(Range::Normalized(start..end));
                if !original.is_some_and(|it| special.allows(base + it.start, base + it.end)) {
                    continue;
                }
            }
            if token.single_word
                && let Some((ends_with, starts_with)) = &self.words
                && (ends_with.is_match(&sentence[..start]) || starts_with.is_match(&sentence[end..]))
            {
                continue;
            }
            if token.lstrip {
                start = sentence[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end = sentence.len() - sentence[end..].trim_start().len();
            }
            found.push((start, end, token.id));
            done = end;
            at = at.max(end);
        }
        found
    }
}
