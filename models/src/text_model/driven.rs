//! Text and conversations that run only when a host ticks them, within a budget for each frame.

use super::{AnswerOptions, TextModel, TextSession};
use crate::decoder::{DrivenSession, Sampling, Stand};
use crate::text_answer::Writing;
use crate::tick::{Driven, Summary, Tick};
use crate::{Error, Result};
use lampyris_engine::gpu::{Budget, CommandEncoder};
use std::time::Duration;

/// A [`TextSession`] that runs only when it is ticked. It owns the session, so nothing else can come between its runs.
#[derive(Debug)]
pub struct DrivenText {
    pub(super) model: TextModel,
    driven: DrivenSession,
    writing: Option<Writing>,
    /// What was asked and cannot be done, which the next tick says.
    refused: Option<Error>,
    /// The answer begins inside a thought.
    opens_thought: bool,
}

impl TextSession {
    /// The session as something that runs only when it is ticked.
    pub fn driven(self) -> DrivenText {
        let (writing, refused, opens_thought) = (None, None, false);
        DrivenText { model: self.model, driven: self.session.driven(), writing, refused, opens_thought }
    }

    /// As [`TextSession::generate`], in ticks. What is wrong is the first tick's error.
    pub fn driven_generate(self, prompt: &str, options: impl Into<AnswerOptions>) -> DrivenText {
        let mut driven = self.driven();
        driven.generate(prompt, options);
        driven
    }
}

impl DrivenText {
    /// How long a dispatch may take, where its kernel can be cut, as [`DrivenSession::finest`].
    #[must_use]
    pub fn finest(mut self, finest: Duration) -> DrivenText {
        self.driven = self.driven.finest(finest);
        self
    }

    /// Makes what runs need and measures their steps alone, as [`DrivenSession::measured`], for answers that are chosen like those of
    /// `sampling`: by the likeliest token, or drawn.
    ///
    /// # Errors
    /// As [`DrivenSession::measured`].
    pub async fn measured(mut self, sampling: &Sampling) -> Result<DrivenText> {
        self.driven = self.driven.measured(sampling).await?;
        Ok(self)
    }

    /// The model.
    pub fn model(&self) -> &TextModel {
        &self.model
    }

    /// The tokens so far: what has been given.
    pub fn tokens(&self) -> &DrivenSession {
        &self.driven
    }

    /// Begins anew with `prompt` and continues it in the ticks that follow; whatever was under way is given up.
    pub fn generate(&mut self, prompt: &str, options: impl Into<AnswerOptions>) {
        let ids = self.model.tokenizer.encode_prompt(prompt).map_err(Error::from);
        self.ask(ids, options.into(), Sampling::greedy(), false);
    }

    pub(super) fn ask(
        &mut self,
        ids: Result<Vec<u32>>,
        options: AnswerOptions,
        otherwise: Sampling,
        opens_thought: bool,
    ) {
        self.cancel();
        self.opens_thought = opens_thought;
        let ids = match options.check().and(ids) {
            Ok(ids) => ids,
            Err(error) => {
                self.refused = Some(error);
                return;
            }
        };
        self.driven.generate(&ids, options.most, &options.sampling.unwrap_or(otherwise));
        let stream = self.model.tokenizer.stream_continuing();
        self.writing = Some(Writing::new(stream, self.model.stops.clone(), options.stops));
    }

    /// Whether the model's template has begun a thought, so that the answer that was asked for last begins inside it; see
    /// [`Thoughts`](crate::text::Thoughts).
    pub fn opens_thought(&self) -> bool {
        self.opens_thought
    }

    /// Gives up what is under way. The session keeps what has been given.
    pub fn cancel(&mut self) {
        self.driven.cancel();
        (self.writing, self.refused) = (None, None);
    }

    /// The session, to be used otherwise; itself while something that was recorded may still be submitted.
    ///
    /// # Errors
    /// Itself, as [`DrivenSession::into_session`].
    pub fn into_session(self) -> Result<TextSession, Box<DrivenText>> {
        let DrivenText { model, driven, writing, refused, opens_thought } = self;
        match driven.into_session() {
            Ok(session) => Ok(TextSession { model, session }),
            Err(driven) => Err(Box::new(DrivenText { model, driven: *driven, writing, refused, opens_thought })),
        }
    }

    /// Records into the host's encoder what the budget pays for, and gives the text that has arrived. Never waits.
    ///
    /// # Errors
    /// What is wrong with what was asked, as [`TextSession::chat`]; [`Error::NotFinite`] when no logit is a number; [`Error::Engine`]
    /// with `NoCommands` on the CPU executor, and from the device. It is idle afterwards.
    pub fn tick(&mut self, encoder: &mut CommandEncoder, budget: &mut Budget) -> Result<Tick> {
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        let (mut text, writing) = (String::new(), &mut self.writing);
        let stand = self.driven.advance(encoder, budget, &mut |token| {
            let Some(writing) = writing else { return Ok(false) };
            text += &writing.push(Some(token))?;
            Ok(writing.goes_on())
        })?;
        if self.driven.is_over()
            && let Some(mut writing) = self.writing.take().filter(Writing::goes_on)
        {
            // Cut short: what the last tokens began is given as it is.
            text += &writing.push(None)?;
        }
        Ok(match stand {
            _ if !text.is_empty() => Tick::Pieces(text),
            Stand::Idle => Tick::Idle,
            Stand::Lost => Tick::Lost,
            Stand::Working(progress) => Tick::Working(progress),
            Stand::Over(summary) => Tick::Done(summary),
        })
    }
}

impl Driven for DrivenText {
    type Piece = String;
    type Done = Summary;

    fn tick(&mut self, encoder: &mut CommandEncoder, budget: &mut Budget) -> Result<Tick> {
        DrivenText::tick(self, encoder, budget)
    }

    fn has_work(&self) -> bool {
        self.refused.is_some() || self.driven.has_work()
    }
}
