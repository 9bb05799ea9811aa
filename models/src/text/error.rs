//! What can be wrong with a tokenizer, a chat template or a conversation, as one type with the facts in it.

/// Everything that the text front end refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A `tokenizer.json` cannot be used.
    #[error("tokenizer.json cannot be used: {reason}; take the file that was published with the model")]
    TokenizerFile {
        /// What the parser, or a part of the tokenizer, said.
        reason: String,
    },

    /// A `tokenizer_config.json` is not what it should be.
    #[error("tokenizer_config.json: {reason}; leave it out or take the one that was published with the tokenizer.json")]
    TokenizerConfig {
        /// What is wrong, with the key.
        reason: String,
    },

    /// Two files of one model disagree on a token's id.
    #[error(
        "tokenizer_config.json gives the token `{token}` the id {said}, and tokenizer.json would give it {found}; \
         take both files from the same model"
    )]
    AddedTokenId {
        /// The token's text, made safe to print.
        token: String,
        /// The id in tokenizer_config.json.
        said: u32,
        /// The id that follows from tokenizer.json.
        found: u32,
    },

    /// The vocabulary of a GGUF file is of a kind that this crate does not build.
    #[error(
        "the vocabulary is of the kind `{kind}`, and known are llama, gpt2, bert and t5; take the folder of the same model with its tokenizer.json instead of the GGUF file"
    )]
    VocabularyKind {
        /// `tokenizer.ggml.model`.
        kind: String,
    },

    /// A byte-level vocabulary was trained with a way of splitting that is not known here.
    #[error(
        "the pre-tokenizer `{pre}` is not known (known are {known}); take the folder of the same model with its tokenizer.json instead of the GGUF file"
    )]
    PreTokenizer {
        /// `tokenizer.ggml.pre`.
        pre: String,
        /// The names that are known.
        known: String,
    },

    /// A tokenizer cannot be written into a GGUF file.
    #[error("tokenizer.json cannot be written as GGUF: {reason}")]
    NotGguf {
        /// What stands in the way, and the way out.
        reason: String,
    },

    /// A list of a GGUF vocabulary does not fit the others.
    #[error("the vocabulary's `{list}`: {problem}; the file is damaged or of a kind that is not supported")]
    Vocabulary {
        /// The list or key, without `tokenizer.ggml.`.
        list: &'static str,
        /// What is wrong with it.
        problem: String,
    },

    /// The tokenizer can produce ids for which the model has no embedding.
    #[error(
        "the tokenizer has ids up to {highest} (`{token}`), and the model's embedding has {rows} rows; take both from the same model"
    )]
    Rows {
        /// The highest id of the tokenizer.
        highest: u32,
        /// Its text, made safe to print.
        token: String,
        /// Rows of the model's embedding.
        rows: usize,
    },

    /// A text could not be encoded.
    #[error("the text cannot be encoded: {reason}")]
    Encode {
        /// What the tokenizer said.
        reason: String,
    },

    /// Ids could not be turned into text.
    #[error("the ids cannot be decoded: {reason}")]
    Decode {
        /// What the tokenizer said.
        reason: String,
    },

    /// A model comes without a chat template, and its vocabulary lacks the tokens of the one that could stand in.
    #[error(
        "the model has no chat template, and its vocabulary has no `{missing}`, so ChatML cannot stand in; \
         give a template, or use the model without a chat"
    )]
    NoTemplate {
        /// The token of ChatML that is missing.
        missing: &'static str,
    },

    /// A chat template is not valid.
    #[error("the chat template is not valid: {reason}")]
    TemplateSyntax {
        /// Where and why the parser stopped.
        reason: String,
    },

    /// A chat template refused a conversation, or failed on it.
    #[error("the chat template refused the conversation: {reason}")]
    Template {
        /// The template's or the engine's words.
        reason: String,
    },

    /// A chat template works for too long, or writes too much.
    #[error(
        "the chat template exceeded its limit of {limit} {what}; it is broken or hostile, or the conversation is too long for it"
    )]
    TemplateLimit {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: u64,
    },

    /// The last message should be continued, and that is not possible.
    #[error("the last message cannot be continued: {reason}")]
    Continue {
        /// Why.
        reason: &'static str,
    },

    /// A date or a time that does not exist.
    #[error("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} is no time of any day")]
    Time {
        /// The year.
        year: i16,
        /// The month, from 1.
        month: i8,
        /// The day of the month, from 1.
        day: i8,
        /// The hour, from 0.
        hour: i8,
        /// The minute.
        minute: i8,
        /// The second.
        second: i8,
    },

    /// A conversation uses every character that could have marked its special tokens.
    #[error(
        "the conversation uses all {count} private characters of Unicode's plane 16, and one must be free; remove some"
    )]
    NoFreeCharacter {
        /// How many there are.
        count: usize,
    },
}

/// Somebody else's words, made safe for a terminal: control characters are escaped, at most 400 characters are shown.
#[cfg(feature = "text")]
pub(super) fn printable(text: &str) -> String {
    let mut safe = String::new();
    for character in text.chars().take(400) {
        if character.is_control() {
            safe.extend(character.escape_debug());
        } else {
            safe.push(character);
        }
    }
    safe
}
