//! Which ids a model was trained to see before and after a text, from the post-processor and the settings that overrule it.

use tokenizers::{Encoding, PostProcessor, Token};

/// What goes around a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Affixes {
    /// Before it: usually nothing or the one id of BOS.
    pub(super) before: Vec<u32>,
    /// After it: usually nothing, or the one id of EOS or a separator.
    pub(super) after: Vec<u32>,
}

/// Whether one end of a text gets a token.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    /// The token of this end.
    pub(super) token: Option<u32>,
    /// `None` leaves the post-processor's way.
    pub(super) add: Option<bool>,
}

impl Affixes {
    /// Lets a post-processor work on one token that no vocabulary has, and sees what it puts around it.
    pub(super) fn of(processor: Option<&impl PostProcessor>) -> tokenizers::Result<Self> {
        let Some(processor) = processor else { return Ok(Self::default()) };
        let text = Encoding::from_tokens(vec![Token::new(u32::MAX, "text".to_owned(), (0, 4))], 0);
        let processed = processor.process(text, None, true)?;
        let ids = processed.get_ids();
        let Some(at) = ids.iter().position(|id| *id == u32::MAX) else { return Ok(Self::default()) };
        Ok(Self { before: ids[..at].to_vec(), after: ids[at + 1..].to_vec() })
    }

    /// Applies `add_bos_token` and `add_eos_token`, where they are given.
    pub(super) fn overruled(mut self, bos: Wish, eos: Wish) -> Self {
        match (bos.add, bos.token) {
            (Some(true), Some(token)) if self.before.first() != Some(&token) => self.before.insert(0, token),
            (Some(false), Some(token)) => self.before.retain(|id| *id != token),
            _ => {}
        }
        match (eos.add, eos.token) {
            (Some(true), Some(token)) if self.after.last() != Some(&token) => self.after.push(token),
            (Some(false), Some(token)) => self.after.retain(|id| *id != token),
            _ => {}
        }
        self
    }
}
