//! The vocabulary out of a GGUF file's metadata.

use lampyris_engine::weights::gguf::{Array, Gguf, Value, ValueType};

use super::{GgufVocabulary, TextError};

impl GgufVocabulary {
    /// Collects the keys `tokenizer.ggml.*` and `tokenizer.chat_template` of a file.
    ///
    /// # Errors
    /// [`TextError::Vocabulary`] for a file without a vocabulary, and for keys of an unexpected type.
    pub fn read(file: &Gguf) -> Result<Self, TextError> {
        let keys = Keys(file);
        Ok(Self {
            model: keys.one("model", text)?.ok_or_else(|| wrong("model", "is missing"))?,
            pre: keys.one("pre", text)?,
            tokens: keys.list("tokens", text)?,
            scores: keys.list("scores", |value| Some(value.number()? as f32))?,
            merges: keys.list("merges", text)?,
            token_types: keys.list("token_type", |value| i32::try_from(value.integer()?).ok())?,
            bos: keys.one("bos_token_id", id)?,
            eos: keys.one("eos_token_id", id)?,
            eot: keys.one("eot_token_id", id)?,
            eom: keys.one("eom_token_id", id)?,
            unknown: keys.one("unknown_token_id", id)?,
            padding: keys.one("padding_token_id", id)?,
            begin: keys.one("cls_token_id", id)?,
            separator: keys.one("seperator_token_id", id)?,
            add_bos: keys.one("add_bos_token", Value::truth)?,
            add_eos: keys.one("add_eos_token", Value::truth)?,
            add_space_prefix: keys.one("add_space_prefix", Value::truth)?,
            remove_extra_spaces: keys.one("remove_extra_whitespaces", Value::truth)?,
            charsmap: keys.one("precompiled_charsmap", bytes)?.unwrap_or_default(),
            chat_template: file.value("tokenizer.chat_template").and_then(text),
        })
    }
}

fn text(value: Value<'_>) -> Option<String> {
    value.text().map(str::to_owned)
}

/// An array of bytes, which writers call signed or not.
fn bytes(value: Value<'_>) -> Option<Vec<u8>> {
    let array = value.array().filter(|array| [ValueType::U8, ValueType::I8].contains(&array.kind()))?;
    Some(array.bytes().to_vec())
}

fn id(value: Value<'_>) -> Option<u32> {
    u32::try_from(value.integer()?).ok()
}

fn wrong(list: &'static str, problem: &str) -> TextError {
    TextError::Vocabulary { list, problem: problem.to_owned() }
}

/// Looks keys up below `tokenizer.ggml`.
struct Keys<'a>(&'a Gguf);

impl<'a> Keys<'a> {
    fn value(&self, key: &str) -> Option<Value<'a>> {
        self.0.value(&format!("tokenizer.ggml.{key}"))
    }

    /// One value; an id of -1 is none, as some writers put it.
    fn one<T>(&self, key: &'static str, read: impl Fn(Value<'a>) -> Option<T>) -> Result<Option<T>, TextError> {
        match self.value(key) {
            Some(value) if value.integer() != Some(-1) && value.integer() != Some(u32::MAX.into()) => {
                read(value).map(Some).ok_or_else(|| wrong(key, "has another type than expected"))
            }
            _ => Ok(None),
        }
    }

    /// A list; empty where the file has none.
    fn list<T>(&self, key: &'static str, read: impl Fn(Value<'a>) -> Option<T>) -> Result<Vec<T>, TextError> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let array: Option<Array<'a>> = value.array();
        let list = array.and_then(|array| array.iter().map(read).collect());
        list.ok_or_else(|| wrong(key, "is no list of the expected type"))
    }
}
