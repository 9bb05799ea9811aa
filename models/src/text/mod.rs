//! Text on its way into a language model and out of it: tokenizers and chat templates.
//!
//! - [`Tokenizer`]: text to ids and back, from a `tokenizer.json` or from the vocabulary of a GGUF file.
//! - [`TextStream`]: ids to text while they are generated.
//! - `ChatTemplate` (feature `text`): a conversation to the text that a model was trained on, or straight to ids.
//! - `Thoughts` (feature `text`): an answer to the thought that it begins with and the rest.
//!
//! Nothing here touches a device, a file or a clock, so all of it runs in a browser as well.

mod added;
mod affixes;
mod charsmap;
#[cfg(feature = "text")]
mod clock;
#[cfg(feature = "text")]
mod conversation;
#[cfg(feature = "text")]
mod cut;
mod error;
#[cfg(feature = "text")]
mod escape;
#[cfg(feature = "text")]
mod formats;
mod gguf;
#[cfg(feature = "text")]
mod guard;
#[cfg(feature = "text")]
mod json_text;
mod metadata;
#[cfg(feature = "text")]
mod methods;
mod pre_tokenizer;
mod spelling;
mod stop;
mod stream;
#[cfg(feature = "text")]
mod tags;
#[cfg(feature = "text")]
mod template;
#[cfg(feature = "text")]
mod thoughts;
mod tokenizer;
mod tokenizer_json;
mod unigram;
mod vocabulary_json;
mod words;
#[cfg(feature = "text")]
mod work;

#[cfg(all(test, feature = "text"))]
mod tests;

#[cfg(feature = "text")]
pub use clock::WallClock;
#[cfg(feature = "text")]
pub use conversation::{Conversation, Message};
pub use error::TextError;
#[cfg(feature = "text")]
pub use formats::ChatFormat;
pub use gguf::{GgufTokenizer, GgufVocabulary, TokenKind};
pub(crate) use stop::Stops;
pub use stream::TextStream;
#[cfg(feature = "text")]
pub use template::ChatTemplate;
#[cfg(feature = "text")]
pub use thoughts::{Part, Thoughts};
pub use tokenizer::Tokenizer;
