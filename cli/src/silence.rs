//! Why an answer shows nothing or is cut, in a sentence for the person who waits for it: what is to be seen says nothing of it.

use lampyris::text::ChatTemplate;
use lampyris::text_model::{Ending, TextModel};

/// An answer that has ended.
pub(crate) struct Ended<'a> {
    pub(crate) model: &'a TextModel,
    /// Its tokens, with one that ended it.
    pub(crate) ids: &'a [u32],
    /// What is to be seen of it.
    pub(crate) text: &'a str,
    /// Most tokens that it might have.
    pub(crate) most: usize,
    /// Why it is over; `None` where it was stopped from outside.
    pub(crate) why: Option<Ending>,
}

impl Ended<'_> {
    /// Whether the model ended it, rather than a limit or a stop string.
    pub(crate) fn by_the_model(&self) -> bool {
        self.why == Some(Ending::Token)
    }

    /// Why nothing is to be seen; `None` where something is, or where there was no room for a single token.
    fn cause(&self) -> Option<String> {
        if !self.text.trim().is_empty() {
            return None;
        }
        match self.ids {
            [] if self.most == 0 => Some("--max-tokens 0 asks for none".to_owned()),
            [] => None,
            [end] if self.by_the_model() => {
                let end = self.model.tokenizer().token(*end).map_or(String::new(), |token| format!(" ({token})"));
                Some(format!("the model's first token was the end of a text{end}"))
            }
            ids if self.by_the_model() => {
                Some(format!("the model ended the text after {} without a visible character", tokens(ids.len() - 1)))
            }
            ids if ids.len() == self.most && self.why != Some(Ending::Stop) => {
                Some(format!("{} have no visible character; --max-tokens asks for more", tokens(ids.len())))
            }
            _ => Some("a text that ends it came first, one of --stop or of the format".to_owned()),
        }
    }

    /// Of a text that was to be continued.
    pub(crate) fn of_text(&self) -> Option<String> {
        let cause = self.cause()?;
        let more = match (self.by_the_model(), self.template()) {
            (false, _) => "",
            (true, false) => ", so it takes the prompt for a whole text; give it the beginning of one",
            (true, true) => {
                ", so it takes the prompt for a whole text; give it the beginning of one, or ask it in `lampyris chat`"
            }
        };
        Some(format!("nothing was generated: {cause}{more}"))
    }

    /// Of an answer in a conversation, which may have had thoughts.
    pub(crate) fn of_turn(&self, thoughts: bool) -> Option<String> {
        let Some(cause) = self.cause() else { return self.cut() };
        match thoughts {
            true if self.by_the_model() => Some("the model ended its answer after its thoughts".to_owned()),
            true if self.why == Some(Ending::Stop) => {
                Some("a text that ends the answer came among its thoughts".to_owned())
            }
            true => {
                let switch = self.model.template().is_some_and(ChatTemplate::can_switch_thinking);
                let less = if switch { ", --no-think leaves them out" } else { "" };
                Some(format!("the answer had room for thoughts alone; --max-tokens gives it more{less}"))
            }
            false => Some(format!("the answer is empty: {cause}")),
        }
    }

    /// That it has all tokens that it might have, and the model would have gone on.
    fn cut(&self) -> Option<String> {
        let cut = self.ids.len() == self.most && self.most > 0 && self.why == Some(Ending::Limit);
        cut.then(|| format!("the answer was cut after {}; --max-tokens gives it more", tokens(self.most)))
    }

    fn template(&self) -> bool {
        self.model.template().is_some()
    }
}

/// `count` tokens, in words.
fn tokens(count: usize) -> String {
    if count == 1 { "1 token".to_owned() } else { format!("{count} tokens") }
}
