//! Cuts plain ASCII into the words that the patterns of Llama 3 and Qwen cut it into, without a pattern: to compile one takes
//! a browser's main thread longer than it may be kept, and most texts are ASCII.

use std::sync::OnceLock;

use tokenizers::normalizers::byte_level::ByteLevel;
use tokenizers::tokenizer::normalizer::Range;
use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType};
use tokenizers::{PreTokenizedString, PreTokenizer, PreTokenizerWrapper};

use super::pre_tokenizer::split;

/// A splitting whose pattern is compiled when a text with more than ASCII comes.
#[derive(Debug)]
pub(super) struct Words {
    pattern: &'static str,
    /// Digits of a number, at most.
    digits: usize,
    compiled: OnceLock<Result<PreTokenizerWrapper, String>>,
}

impl Words {
    /// Words as `pattern` finds them, which is that of Llama 3 with numbers of `digits` digits at most.
    pub(super) fn new(pattern: &'static str, digits: usize) -> Self {
        Self { pattern, digits, compiled: OnceLock::new() }
    }

    /// The same as the library does it.
    pub(super) fn compiled(&self) -> tokenizers::Result<&PreTokenizerWrapper> {
        let compile = || split(&[self.pattern]).map_err(|error| error.to_string());
        self.compiled.get_or_init(compile).as_ref().map_err(|reason| reason.clone().into())
    }

    /// Cuts what is left of a text, and makes its bytes characters.
    pub(super) fn pre_tokenize(&self, pieces: &mut PreTokenizedString) -> tokenizers::Result<()> {
        let parts = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
        if !parts.iter().all(|(text, _, tokens)| tokens.is_some() || text.is_ascii()) {
            return self.compiled()?.pre_tokenize(pieces);
        }
        pieces.split(|_, piece| {
            let ends = ends(piece.get().as_bytes(), self.digits);
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let places = starts.zip(ends.iter().copied());
            let cut = places.filter_map(|(start, end)| piece.slice(Range::Normalized(start..end)));
            let mut words: Vec<NormalizedString> = cut.collect();
            words.iter_mut().try_for_each(|word| ByteLevel::new().normalize(word))?;
            Ok(words)
        })
    }
}

/// Where the words of an ASCII text end. Numbers are of up to `digits` digits.
fn ends(text: &[u8], digits: usize) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while at < text.len() {
        at += word(&text[at..], digits).max(1);
        ends.push(at);
    }
    ends
}

/// Bytes of the word that a text begins with: of what the pattern's branches find, the first.
fn word(text: &[u8], digits: usize) -> usize {
    // What regular expressions call space has the vertical tab, which `is_ascii_whitespace` has not.
    let space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let breaks = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let other = |byte: &u8| !space(byte) && !byte.is_ascii_alphanumeric();
    let run = |from: usize, is: &dyn Fn(&u8) -> bool| text[from..].iter().take_while(|byte| is(byte)).count();

    if text[0] == b'\'' {
        let end: Vec<u8> = text[1..].iter().take(2).map(u8::to_ascii_lowercase).collect();
        // Of the branches `'s|'t|'re|'ve|'m|'ll|'d` no two begin alike.
        if end.first().is_some_and(|byte| b"stmd".contains(byte)) {
            return 2;
        }
        if matches!(&end[..], b"re" | b"ve" | b"ll") {
            return 3;
        }
    }
    let before = usize::from(!breaks(&text[0]) && !text[0].is_ascii_alphanumeric());
    let found = run(before, &u8::is_ascii_alphabetic);
    if found > 0 {
        return before + found;
    }
    let found = run(0, &u8::is_ascii_digit).min(digits);
    if found > 0 {
        return found;
    }
    let before = usize::from(text[0] == b' ');
    let found = run(before, &other);
    if found > 0 {
        let end = before + found;
        return end + run(end, &breaks);
    }
    let spaces = run(0, &space);
    // As far as the last line break among them; or all but the one before a word; or all.
    match text[..spaces].iter().rposition(breaks) {
        Some(last) => last + 1,
        None if spaces < text.len() && spaces > 1 => spaces - 1,
        None => spaces,
    }
}

#[cfg(all(test, feature = "text"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as expected")]

    use super::super::pre_tokenizer::{LLAMA3, QWEN2};
    use super::*;
    use proptest::prelude::*;

    /// The words of a text, each with where it was.
    fn words(
        text: &str,
        cut: impl Fn(&mut PreTokenizedString) -> tokenizers::Result<()>,
    ) -> Vec<(String, (usize, usize))> {
        let mut pieces = PreTokenizedString::from(text);
        cut(&mut pieces).unwrap();
        let parts = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        parts.into_iter().map(|(word, place, _)| (word.to_owned(), place)).collect()
    }

    fn agree(text: &str) {
        for (pattern, digits) in [(LLAMA3, 3), (QWEN2, 1)] {
            let ours = Words::new(pattern, digits);
            let theirs = Words::new(pattern, digits);
            let found = words(text, |pieces| ours.pre_tokenize(pieces));
            assert_eq!(found, words(text, |pieces| theirs.compiled()?.pre_tokenize(pieces)), "{text:?}");
            assert_eq!(ours.compiled.get().is_none(), text.is_ascii());
        }
    }

    #[test]
    fn words_of_texts_are_those_of_the_patterns() {
        for text in [
            "",
            " ",
            "\n",
            "Once upon a time, there was a dog.",
            "it's I'M we'll THEY'RE 'tis 'LL' 'x 's",
            "12345 1a2 3,456.78",
            "  two  spaces\n\n  and\r\n\tlines \n x\n",
            "a\u{b}b \u{1f}\u{7f} ''' \"quoted\"!?\n\n",
            "naïve, 一二三 and \u{17f}",
        ] {
            agree(text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn words_of_any_ascii_are_those_of_the_patterns(text in "[ -~\t\n\r\u{b}'sStmdrevl0-9 ]{0,40}") {
            agree(&text);
        }
    }
}
