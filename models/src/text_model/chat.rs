//! Conversations with a language model, by the template that its files came with.

use super::{AnswerOptions, DrivenText, TextGeneration, TextModel, TextSession};
use crate::decoder::Sampling;
use crate::text::{ChatFormat, ChatTemplate, Conversation};
use crate::{Error, Result};
use std::sync::Arc;

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

    /// The same model with another chat template, or the first one of a model whose files have none. What it ends a turn with ends answers too,
    /// where the vocabulary has it and it is known to be an end.
    ///
    /// # Errors
    /// [`Error::Text`] for one that is not valid.
    pub fn with_template(mut self, source: &str) -> Result<TextModel> {
        self.template = Arc::new(Ok(ChatTemplate::with(source, &self.tokenizer)?));
        self.stops = Arc::new(self.tokenizer.with_ends(self.stops.to_vec(), Some(source)));
        self.turn = None;
        Ok(self)
    }

    /// The same model with a format by name, whose token at the end of a turn ends its answers if the vocabulary has it. In formats without
    /// one, answers end before what begins the next turn ([`ChatFormat::stop`]).
    ///
    /// # Errors
    /// As [`TextModel::with_template`].
    pub fn with_format(self, format: ChatFormat) -> Result<TextModel> {
        let mut model = self.with_template(format.source())?;
        model.turn = format.stop();
        // What begins the next turn is one token in some vocabularies, and then no text that a stop string could be found in.
        let end = format.marks().first().copied().or(format.stop()).and_then(|mark| model.tokenizer.id(mark));
        if let Some(end) = end.filter(|end| !model.stops.contains(end)) {
            model.stops = Arc::new(model.stops.iter().copied().chain([end]).collect());
        }
        Ok(model)
    }

    /// What is asked of an answer, in a conversation.
    fn in_turn(&self, options: AnswerOptions) -> AnswerOptions {
        self.turn.into_iter().fold(options, AnswerOptions::stop)
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
        let options = self.model.in_turn(options.into());
        self.continue_from(&ids, options, sampling, opens_thought).await
    }

    /// As [`TextSession::chat`], in ticks. What is wrong is the first tick's error.
    pub fn driven_chat(self, conversation: &Conversation, options: impl Into<AnswerOptions>) -> DrivenText {
        let mut driven = self.driven();
        driven.chat(conversation, options);
        driven
    }
}

impl DrivenText {
    /// Answers the last message of a conversation in the ticks that follow; whatever was under way is given up.
    pub fn chat(&mut self, conversation: &Conversation, options: impl Into<AnswerOptions>) {
        let sampling = self.model.sampling.unwrap_or_else(Sampling::usual);
        let asked = self.model.chat_template().and_then(|template| {
            let opens_thought = template.opens_thought(conversation)?;
            Ok((template.encode(conversation, &self.model.tokenizer)?, opens_thought))
        });
        let opens_thought = asked.as_ref().is_ok_and(|(_, opens)| *opens);
        let options = self.model.in_turn(options.into());
        self.ask(asked.map(|(ids, _)| ids), options, sampling, opens_thought);
    }
}
