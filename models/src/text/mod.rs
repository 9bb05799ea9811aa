//! Text on its way into a language model and out of it: tokenizers and chat templates.
//!
//! - [`Tokenizer`]: text to ids and back, from a `tokenizer.json` or from the vocabulary of a GGUF file.
//! - [`TextStream`]: ids to text while they are generated.
//! - [`ChatTemplate`]: a conversation to the text that a model was trained on, or straight to ids.
//! - [`Thoughts`]: an answer to the thought that it begins with and the rest.
//!
//! Nothing here touches a device, a file or a clock, so all of it runs in a browser as well.

mod added;
mod affixes;
mod charsmap;
mod clock;
mod conversation;
mod error;
mod escape;
mod gguf;
mod json_text;
mod metadata;
mod methods;
mod pre_tokenizer;
mod spelling;
mod stop;
mod stream;
mod tags;
mod template;
mod thoughts;
mod tokenizer;
mod tokenizer_json;
mod vocabulary_json;
mod work;

#[cfg(test)]
mod tests;

pub use clock::WallClock;
pub use conversation::{Conversation, Message};
pub use error::TextError;
pub use gguf::{GgufVocabulary, TokenKind};
pub(crate) use stop::Stops;
pub use stream::TextStream;
pub use template::ChatTemplate;
pub use thoughts::{Part, Thoughts};
pub use tokenizer::Tokenizer;
