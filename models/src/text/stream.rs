//! Text while its tokens are still being generated: only whole characters come out, and nothing is taken back.

use super::TextError;
use super::spelling::Spelling;
use super::tokenizer::Tokenizer;

/// Turns ids into text one at a time.
///
/// A token may end in the middle of a character; its bytes are kept until the rest has come, so a replacement character
/// (U+FFFD) only ever stands for bytes that can no longer become text. Special tokens give no text.
#[derive(Debug, Clone)]
pub struct TextStream {
    tokenizer: Tokenizer,
    /// Whether the next token begins a text.
    first: bool,
    /// Bytes of a character that is not complete.
    pending: Vec<u8>,
    /// For vocabularies that are only decoded whole: all ids, and how much of their text has been given out.
    ids: Vec<u32>,
    given: String,
}

impl TextStream {
    pub(super) fn new(tokenizer: Tokenizer, first: bool) -> Self {
        Self { tokenizer, first, pending: Vec::new(), ids: Vec::new(), given: String::new() }
    }

    /// Takes the next id and gives the text that has become complete with it, which may be empty. An id that the vocabulary
    /// lacks gives none.
    ///
    /// # Errors
    /// [`TextError::Decode`] where the vocabulary's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        if self.tokenizer.is_special(id) {
            return Ok(String::new());
        }
        if self.tokenizer.spelling() == Spelling::Whole {
            return self.push_whole(id);
        }
        let Some(token) = self.tokenizer.token(id) else { return Ok(String::new()) };
        self.tokenizer.spelling().append(&token, self.first, &mut self.pending);
        self.first = false;
        Ok(self.complete())
    }

    /// Ends the text: bytes of a character that never became complete are one replacement character, or as many as the decoder makes of
    /// them where it decodes whole texts only.
    pub fn finish(mut self) -> String {
        let mut text = self.complete();
        if !self.ids.is_empty() {
            text += self.added(&self.tokenizer.decode(&self.ids, false).unwrap_or_default());
        }
        if !self.pending.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        text
    }

    /// Takes every whole character out of the pending bytes.
    fn complete(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(wrong) = error.error_len() else {
                        rest = after;
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = after.get(wrong..).unwrap_or_default();
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }

    /// Decodes everything again and gives what has been added, without what may be bytes of a character that is not complete.
    fn push_whole(&mut self, id: u32) -> Result<String, TextError> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids, false)?;
        let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let added = self.added(whole).to_owned();
        if !added.is_empty() {
            self.given = whole.to_owned();
        }
        Ok(added)
    }

    /// What of `text` is behind what both it and the text that has been given out begin with.
    fn added<'a>(&self, text: &'a str) -> &'a str {
        let both = text.chars().zip(self.given.chars()).take_while(|(a, b)| a == b);
        text.get(both.map(|(a, _)| a.len_utf8()).sum()..).unwrap_or_default()
    }
}
