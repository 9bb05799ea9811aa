//! SentencePiece's Unigram vocabularies out of GGUF files, which XLM-R and T5 have: pieces with scores, of which a text gets the
//! likeliest sequence, and a table that says how characters are written before.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{NormalizerWrapper, Precompiled, Replace, Sequence as Normalizers, Strip};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};

use super::TextError;
use super::charsmap;
use super::gguf::{GgufVocabulary, TokenKind, check_length, wrong};
use super::spelling::SPACE;

/// Written before a token that is never produced, so that no text spells it: spaces of a text become [`SPACE`] before it is looked for.
const NO_TEXT: char = ' ';

/// Builds the tokenizer of a `t5` vocabulary. Rows of the table without a token, which converters give scores far below all others, change
/// neither what a text becomes nor the score of what is unknown.
pub(super) fn unigram(vocabulary: &GgufVocabulary, kinds: &[TokenKind]) -> Result<tokenizers::Tokenizer, TextError> {
    let (tokens, scores) = (&vocabulary.tokens, &vocabulary.scores);
    if scores.len() != tokens.len() {
        return Err(wrong("scores", format!("has {} entries for {} tokens", scores.len(), tokens.len())));
    }
    if let Some(score) = scores.iter().find(|score| !score.is_finite()) {
        return Err(wrong("scores", format!("{score} is no score")));
    }
    let used = scores.iter().zip(kinds).filter(|(_, kind)| **kind != TokenKind::Unused).map(|(score, _)| *score);
    let lowest = used.reduce(f32::min).unwrap_or_default();
    let mut pieces = Vec::with_capacity(tokens.len());
    for ((token, score), kind) in tokens.iter().zip(scores).zip(kinds) {
        check_length(token)?;
        pieces.push(match kind {
            TokenKind::Unused => (format!("{NO_TEXT}{token}"), lowest.into()),
            _ => (token.clone(), f64::from(*score)),
        });
    }
    let named = vocabulary.unknown.and_then(|id| usize::try_from(id).ok()).filter(|id| *id < tokens.len());
    let unknown = named.or_else(|| kinds.iter().position(|kind| *kind == TokenKind::Unknown));
    let bytes = kinds.contains(&TokenKind::Byte);
    let failed = |error: tokenizers::Error| wrong("model", error.to_string());
    let mut inner = tokenizers::Tokenizer::new(Unigram::from(pieces, unknown, bytes).map_err(failed)?);

    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if !vocabulary.charsmap.is_empty() {
        let damaged = || wrong("precompiled_charsmap", "the table of its normalizer is damaged".to_owned());
        charsmap::check(&vocabulary.charsmap).ok_or_else(damaged)?;
        normalizers.push(Precompiled::from(&vocabulary.charsmap).map_err(|_| damaged())?.into());
    }
    if vocabulary.remove_extra_spaces.unwrap_or(true) {
        normalizers.push(Strip::new(true, true).into());
        normalizers.push(Replace::new(ReplacePattern::Regex(" {2,}".to_owned()), " ").map_err(failed)?.into());
    }
    inner.with_normalizer(Some(Normalizers::new(normalizers))).map_err(failed)?;
    let prepend =
        if vocabulary.add_space_prefix.unwrap_or(true) { PrependScheme::Always } else { PrependScheme::Never };
    let words = Metaspace::new(SPACE, prepend, true);
    inner.with_pre_tokenizer(Some(words.clone()));
    match bytes {
        true => inner.with_decoder(Some(Sequence::new(vec![ByteFallback::default().into(), words.into()]))),
        false => inner.with_decoder(Some(words)),
    };
    Ok(inner)
}
