//! How the tokens of a vocabulary spell bytes, so that text can be put together token by token.

use serde_json::Value;
use tokenizers::DecoderWrapper;

/// The mark that SentencePiece vocabularies write for a space.
pub(super) const SPACE: char = '\u{2581}';

/// The ways in which decoders turn tokens into bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Each character of a token stands for one byte (GPT-2).
    ByteLevel,
    /// Tokens are text with a mark for spaces (SentencePiece).
    Marked {
        /// `<0x0A>` stands for a byte.
        byte_fallback: bool,
        /// What happens to spaces at the start of a text.
        leading: Leading,
    },
    /// Only whole texts can be decoded.
    Whole,
}

/// What a decoder does with the spaces that a text begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leading {
    /// They stay.
    Kept,
    /// One is dropped.
    OneDropped,
    /// All marks of the first token are dropped.
    FirstTokensDropped,
}

impl Spelling {
    /// The spelling that a decoder reverses.
    pub(super) fn of(decoder: Option<&DecoderWrapper>) -> Self {
        let Some(Ok(value)) = decoder.map(serde_json::to_value) else { return Self::Whole };
        let single = std::slice::from_ref(&value);
        let steps = value.get("decoders").and_then(Value::as_array).map_or(single, Vec::as_slice);
        if let [only] = steps
            && only["type"] == "ByteLevel"
        {
            return Self::ByteLevel;
        }
        let (mut byte_fallback, mut leading, mut marked) = (false, Leading::Kept, false);
        for step in steps {
            match step["type"].as_str() {
                Some("Replace") if is_mark(&step["pattern"]) && step["content"] == " " => marked = true,
                Some("Metaspace") if step["replacement"] == "\u{2581}" => {
                    marked = true;
                    if step["prepend_scheme"] != "never" {
                        leading = Leading::FirstTokensDropped;
                    }
                }
                Some("ByteFallback") => byte_fallback = true,
                Some("Fuse") => {}
                Some("Strip") if step["content"] == " " && step["start"] == 1 && step["stop"] == 0 => {
                    leading = Leading::OneDropped;
                }
                _ => return Self::Whole,
            }
        }
        if marked { Self::Marked { byte_fallback, leading } } else { Self::Whole }
    }

    /// Appends the bytes of one token; `first` says that the text begins with it.
    pub(super) fn append(self, token: &str, first: bool, bytes: &mut Vec<u8>) {
        match self {
            Self::ByteLevel => match token.chars().map(byte_of).collect::<Option<Vec<u8>>>() {
                Some(spelled) => bytes.extend(spelled),
                None => bytes.extend(token.as_bytes()),
            },
            Self::Marked { byte_fallback, leading } => {
                if let Some(byte) = byte_fallback.then(|| fallback_byte(token)).flatten() {
                    bytes.push(byte);
                    return;
                }
                let drop_all = first && leading == Leading::FirstTokensDropped;
                let text: String = token
                    .chars()
                    .filter(|it| !(drop_all && *it == SPACE))
                    .map(|it| if it == SPACE { ' ' } else { it })
                    .collect();
                let drop_one = first && leading == Leading::OneDropped;
                let text = if drop_one { text.strip_prefix(' ').unwrap_or(&text) } else { &text };
                bytes.extend(text.as_bytes());
            }
            Self::Whole => bytes.extend(token.as_bytes()),
        }
    }
}

/// Whether a pattern is the mark alone, as text or as an expression.
fn is_mark(pattern: &Value) -> bool {
    ["String", "Regex"].iter().any(|kind| pattern[kind] == "\u{2581}")
}

/// The byte that a byte-level vocabulary writes as this character: bytes that print stand for themselves, the other 68 are
/// counted from U+0100 (GPT-2's `bytes_to_unicode`).
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The byte of a token such as `<0x0A>`.
pub(super) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}
