//! Many prompts at once: their answers are written side by side, so that the weights are read once for all of them.

use super::TextModel;
use crate::decoder::{Sampling, SessionOptions};
use crate::text_answer::{AnswerOptions, Writing};
use crate::{Error, Result};

/// Answers that are written side by side, at most.
const SIDE_BY_SIDE: usize = 8;

/// The answer to one of several prompts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchAnswer {
    /// Its text.
    pub text: String,
    /// Its tokens, with one that ended it and those of a stop string.
    pub ids: Vec<u32>,
}

/// An answer that is being written.
struct Under {
    prompt: usize,
    /// Most tokens of it.
    most: usize,
    writing: Writing,
    answer: BatchAnswer,
}

impl TextModel {
    /// Continues each prompt as [`TextSession::generate`](super::TextSession::generate) does, up to eight of them side by side: each has a session
    /// with `room`, larger runs of their prompts share the memory of one session's, and where one ends the next prompt takes its place. The answers are those that each prompt gets alone, within
    /// the rounding of sums that are taken in another order.
    ///
    /// # Errors
    /// [`Error::Context`] for a prompt that does not fit its session, before anything is computed; [`Error::Together`] when `room`
    /// slides; as [`TextSession::generate`](super::TextSession::generate).
    pub async fn generate_batch<T: AsRef<str>>(
        &self,
        prompts: impl IntoIterator<Item = T>,
        room: impl Into<SessionOptions>,
        options: impl Into<AnswerOptions>,
    ) -> Result<Vec<BatchAnswer>> {
        let (room, options) = (room.into(), options.into());
        options.check()?;
        let encode = |prompt: T| self.tokenizer.encode_prompt(prompt.as_ref());
        let prompts: Vec<Vec<u32>> = prompts.into_iter().map(encode).collect::<Result<_, _>>()?;
        let context = self.decoder.room(&room)?;
        if let Some(prompt) = prompts.iter().find(|prompt| prompt.is_empty() || prompt.len() > context) {
            return Err(Error::Context { tokens: prompt.len(), context });
        }
        let mut answers = vec![BatchAnswer::default(); prompts.len()];
        let most = |prompt: &[u32]| options.most.min(context - prompt.len());
        let mut waiting = prompts.iter().enumerate().filter(|(_, prompt)| most(prompt) > 0);
        let (mut sessions, mut under) = (Vec::new(), Vec::new());
        let beside = prompts.len().min(SIDE_BY_SIDE) as u64;
        for (at, prompt) in waiting.by_ref().take(SIDE_BY_SIDE) {
            let mut session = self.decoder.session_among(room, (beside, sessions.len() as u64)).await?;
            session.feed(prompt).await?;
            sessions.push(session);
            under.push(self.under(at, most(prompt), &options));
        }
        let sampling = options.sampling.unwrap_or_else(Sampling::greedy);
        let mut together = self.decoder.together(&mut sessions, &sampling)?;
        loop {
            let tokens = together.next().await?;
            if tokens.is_empty() {
                return Ok(answers);
            }
            for (session, token) in tokens {
                let Some(one) = under.get_mut(session) else { continue };
                one.answer.ids.push(token);
                one.answer.text += &one.writing.push(Some(token))?;
                if one.writing.goes_on() && one.answer.ids.len() < one.most {
                    continue;
                }
                if one.writing.goes_on() {
                    one.answer.text += &one.writing.push(None)?;
                }
                answers[one.prompt] = std::mem::take(&mut one.answer);
                match waiting.next() {
                    None => together.stop(session),
                    Some((at, prompt)) => {
                        together.begin(session, prompt).await?;
                        *one = self.under(at, most(prompt), &options);
                    }
                }
            }
        }
    }

    fn under(&self, prompt: usize, most: usize, options: &AnswerOptions) -> Under {
        let writing = Writing::new(self.tokenizer.stream_continuing(), self.stops.clone(), options.stops.clone());
        Under { prompt, most, writing, answer: BatchAnswer::default() }
    }
}
