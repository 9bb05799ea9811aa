//! What the files beside the weights say of a model's texts: the chat template, the tokens that end an answer, and all of it as a GGUF
//! file's metadata.

use super::TextFiles;
use crate::decoder::{DecoderConfig, Sampling};
use crate::error::shown;
use crate::json::{self, Object};
use crate::text::{GgufVocabulary, TextError};
use crate::{Error, Result};
use lampyris_engine::weights::TensorFile;
use lampyris_engine::weights::gguf::MetadataValue;

impl TextFiles {
    /// The file beside the weights with nothing but a chat template.
    pub const TEMPLATE: &'static str = "chat_template.jinja";

    /// With the contents of a [`TextFiles::TEMPLATE`], which takes the place of what `tokenizer_config.json` says of templates. A GGUF
    /// file has its own and takes none.
    ///
    /// # Errors
    /// [`Error::Text`] when it is no UTF-8; [`Error::Json`] for a damaged `tokenizer_config.json`.
    pub fn chat_template(mut self, template: Vec<u8>) -> Result<TextFiles> {
        let source = String::from_utf8(template).map_err(|error| {
            let reason = format!("{} is no UTF-8 text: {error}", TextFiles::TEMPLATE);
            Error::Text(TextError::TemplateSyntax { reason })
        })?;
        let mut map = json::parse("tokenizer_config.json", self.tokenizer_config.as_deref().unwrap_or(b"{}"))?;
        map.insert("chat_template".to_owned(), source.into());
        self.tokenizer_config = Some(serde_json::Value::Object(map).to_string().into_bytes());
        Ok(self)
    }

    /// The tokens that end an answer: a GGUF file's [`GgufVocabulary::ends`], or `eos_token_id` of `generation_config.json`, or that of
    /// `config.json`. Empty where they say nothing of it. A [`TextModel`](crate::TextModel) ends at the tokenizer's own end of a text too, and
    /// at the known ends of a turn that its chat template writes.
    ///
    /// # Errors
    /// [`Error::Json`] and [`Error::Config`] with the file and the key; [`Error::Text`] for a GGUF file's vocabulary.
    pub fn ends(&self) -> Result<Vec<u32>> {
        if let TensorFile::Gguf(gguf) = &self.decoder.weights {
            return Ok(GgufVocabulary::read(gguf)?.ends());
        }
        let said = [("generation_config.json", &self.generation), ("config.json", &self.decoder.config)];
        for (file, bytes) in said {
            let ends = bytes.as_deref().map_or(Ok(Vec::new()), |bytes| ends(file, bytes))?;
            if !ends.is_empty() {
                return Ok(ends);
            }
        }
        Ok(Vec::new())
    }

    /// What a GGUF file made of a folder says beside the decoder: the vocabulary, the tokens that end an answer and the recommended
    /// sampling. Empty for what is a GGUF file already. The format has keys for three tokens that end an answer; a folder that names more
    /// is refused, unless the others are spelled as [`GgufVocabulary::ends`] knows them.
    ///
    /// # Errors
    /// As [`DecoderConfig::read`], [`GgufVocabulary::of_json`], [`TextFiles::ends`] and [`Sampling::of_generation_config`];
    /// [`Error::NotGguf`] for too many ends.
    pub fn metadata(&self) -> Result<Vec<(String, MetadataValue)>> {
        if matches!(self.decoder.weights, TensorFile::Gguf(_)) {
            return Ok(Vec::new());
        }
        let config = DecoderConfig::read("config.json", self.decoder.config.as_deref().unwrap_or_default())?;
        let (tokenizer, beside) = (self.tokenizer.as_deref().unwrap_or_default(), self.tokenizer_config.as_deref());
        let mut vocabulary = GgufVocabulary::of_json(tokenizer, beside, config.vocabulary)?;
        let ends = self.ends()?;
        vocabulary.eos = vocabulary.eos.or(ends.first().copied());
        let spelled = vocabulary.ends();
        let mut more = ends.into_iter().filter(|id| !spelled.contains(id) && (*id as usize) < config.vocabulary);
        (vocabulary.eot, vocabulary.eom) = (more.next(), more.next());
        if let Some(id) = more.next() {
            let (file, token) = (self.decoder.weights.file().to_owned(), vocabulary.tokens.get(id as usize));
            let token = token.map(|token| shown(token)).unwrap_or_default();
            let reason = format!("the format has no key for one more token that ends an answer, {id} (`{token}`)");
            return Err(Error::NotGguf { file, reason });
        }
        let sampling = self.generation.as_deref().map(Sampling::of_generation_config).transpose()?.flatten();
        let mut all = vocabulary.metadata();
        all.extend(sampling.iter().flat_map(Sampling::metadata));
        Ok(all)
    }
}

/// `eos_token_id` of a configuration: one number, or a list; -1 is many a file's word for none.
fn ends(file: &str, bytes: &[u8]) -> Result<Vec<u32>> {
    let map = json::parse(file, bytes)?;
    let top = Object::top(file, &map);
    let Some(value) = top.get("eos_token_id") else { return Ok(Vec::new()) };
    let wrong = || top.wrong("eos_token_id", value, "a token, or a list of tokens");
    let id = |value: &serde_json::Value| match value.as_i64().ok_or_else(wrong)? {
        -1 => Ok(None),
        id => u32::try_from(id).map(Some).map_err(|_| wrong()),
    };
    value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice)
        .iter()
        .filter_map(|it| id(it).transpose())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::ends;

    #[test]
    fn a_text_ends_with_a_token_or_some_or_none() {
        let read = |said: &str| ends("config.json", format!(r#"{{"eos_token_id": {said}}}"#).as_bytes());
        for (said, found) in [("7", &[7][..]), ("[7, -1, 0]", &[7, 0]), ("-1", &[]), ("[]", &[]), ("null", &[])] {
            assert_eq!(read(said).unwrap(), found, "{said}");
        }
        for wrong in ["-2", "[[7]]", "7.5", "4294967296", "\"</s>\""] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("config.json: `eos_token_id`"), "{error}");
        }
    }
}
