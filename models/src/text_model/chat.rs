//! Conversations with a language model, by the template that its files came with.

use super::{AnswerOptions, TextGeneration, TextModel, TextSession};
use crate::decoder::Sampling;
use crate::text::{ChatTemplate, Conversation};
use crate::{Error, Result};

impl TextModel {
    /// The chat template, if the model has one that can be used or its vocabulary has ChatML's tokens.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.chat_template().ok()
    }

    /// The chat template, or why there is none.
    ///
    /// # Errors
    /// [`Error::NoTemplate`] where the files have none and ChatML cannot stand in; [`Error::Text`] for one that is damaged.
    pub fn chat_template(&self) -> Result<&ChatTemplate> {
        match &*self.template {
            Ok(template) => Ok(template),
            Err(crate::text::TextError::NoTemplate { .. }) => Err(Error::NoTemplate),
            Err(damaged) => Err(damaged.clone().into()),
        }
    }
}

impl TextSession {
    /// Answers the last message of a conversation. What an earlier turn has computed of the same conversation is not computed again.
    /// Unless `options` say otherwise, tokens are chosen as the model's files recommend, or else as [`Sampling::usual`] does.
    ///
    /// # Errors
    /// As [`TextModel::chat_template`] for a model that knows no conversations; [`Error::Sampling`] for an option without meaning;
    /// [`Error::Text`] from its template; as [`Session::feed`](crate::decoder::Session::feed).
    pub async fn chat(
        &mut self,
        conversation: &Conversation,
        options: impl Into<AnswerOptions>,
    ) -> Result<TextGeneration<'_>> {
        let template = self.model.chat_template()?;
        let ids = template.encode(conversation, &self.model.tokenizer)?;
        let sampling = self.model.sampling.unwrap_or_else(Sampling::usual);
        let opens_thought = template.opens_thought(conversation)?;
        self.continue_from(&ids, options.into(), sampling, opens_thought).await
    }
}
