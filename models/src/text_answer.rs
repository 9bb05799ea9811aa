//! Answers: what is asked of one, and its text as it comes.

use crate::decoder::{Generation, Sampling};
use crate::text::{Stops, TextStream};
use crate::{Error, Result};
use futures_core::Stream;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What is asked of an answer. A number alone asks for at most so many tokens.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AnswerOptions {
    /// Most tokens of it.
    pub most: usize,
    /// How its tokens are chosen; without one, `generate` takes the likeliest and `chat` what the model's files recommend.
    pub sampling: Option<Sampling>,
    /// Texts that end it; they are not shown.
    pub stops: Vec<String>,
}

impl From<usize> for AnswerOptions {
    fn from(most: usize) -> AnswerOptions {
        AnswerOptions::new(most)
    }
}

impl AnswerOptions {
    /// At most `most` tokens.
    pub fn new(most: usize) -> AnswerOptions {
        AnswerOptions { most, sampling: None, stops: Vec::new() }
    }

    /// Tokens chosen this way.
    #[must_use]
    pub fn sampling(self, sampling: Sampling) -> AnswerOptions {
        AnswerOptions { sampling: Some(sampling), ..self }
    }

    /// Ends before `stop`. Special tokens have no text, so none can be named here.
    #[must_use]
    pub fn stop(mut self, stop: impl Into<String>) -> AnswerOptions {
        self.stops.push(stop.into());
        self
    }

    /// Refuses what has no meaning.
    pub(crate) fn check(&self) -> Result<()> {
        if self.stops.iter().any(String::is_empty) {
            let found = "an empty text".to_owned();
            return Err(Error::Sampling { setting: "a stop string", found, expected: "any text with a character" });
        }
        self.sampling.map_or(Ok(()), |sampling| sampling.check())
    }
}

/// Why an answer is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The model said a token that ends it.
    Token,
    /// A text that ends it has come, one that was asked for or one of the format.
    Stop,
    /// It has all tokens that it might have.
    Limit,
    /// The session's context is full.
    Full,
}

/// Turns the tokens of an answer into its text, up to its end.
#[derive(Debug)]
pub(crate) struct Writing {
    stream: Option<TextStream>,
    ending: Option<Ending>,
    /// Tokens that end it.
    ends: Arc<Vec<u32>>,
    stops: Stops,
}

impl Writing {
    pub(crate) fn new(stream: TextStream, ends: Arc<Vec<u32>>, stops: Vec<String>) -> Writing {
        Writing { stream: Some(stream), ending: None, ends, stops: Stops::new(stops) }
    }

    /// Whether it has not ended.
    pub(crate) fn goes_on(&self) -> bool {
        self.ending.is_none()
    }

    /// The text that is complete with the next token, or without one, at the end.
    pub(crate) fn push(&mut self, token: Option<u32>) -> Result<String> {
        let (piece, ending) = match (token, self.stream.take()) {
            (_, None) => return Ok(String::new()),
            (Some(token), Some(mut stream)) if !self.ends.contains(&token) => {
                let piece = stream.push(token);
                self.stream = Some(stream);
                (piece?, None)
            }
            (token, Some(stream)) => (stream.finish(), Some(token.map_or(Ending::Limit, |_| Ending::Token))),
        };
        let (mut shown, stopped) = self.stops.push(&piece);
        if stopped {
            self.stream = None;
        } else if ending.is_some() {
            shown += &self.stops.finish();
        }
        self.ending = if stopped { Some(Ending::Stop) } else { ending };
        Ok(shown)
    }
}

/// An answer on its way, piece by piece. Dropping it stops.
///
/// [`TextGeneration::next`] gives one piece after another, and [`TextGeneration::into_stream`] all of them as a [`Stream`], for whoever has
/// `StreamExt` of `futures-util` or `tokio-stream`:
///
/// ```
/// # use lampyris_models::{Result, text_model::TextSession};
/// # use futures_core::Stream;
/// async fn told(session: &mut TextSession) -> Result<String> {
///     let mut answer = session.generate("Once upon a time", 40).await?;
///     let mut text = String::new();
///     while let Some(piece) = answer.next().await? {
///         text += &piece;
///     }
///     Ok(text)
/// }
///
/// async fn streamed(session: &mut TextSession) -> Result<impl Stream<Item = Result<String>> + Send + '_> {
///     Ok(session.generate("Once upon a time", 40).await?.into_stream())
/// }
/// ```
#[derive(Debug)]
pub struct TextGeneration<'a> {
    pub(crate) tokens: Generation<'a>,
    pub(crate) writing: Writing,
    pub(crate) ids: Vec<u32>,
    pub(crate) opens_thought: bool,
}

/// The pieces of an answer as a [`Stream`], each as [`TextGeneration::next`] gives it. It ends with the answer, or behind an error. Dropping it
/// stops.
pub struct TextPieces<'a>(Way<'a>);

/// Where an answer is between two looks at its stream.
enum Way<'a> {
    Rests(Box<TextGeneration<'a>>),
    Comes(Coming<'a>),
    Over,
}

/// An answer and its next piece.
type Next<'a> = (Box<TextGeneration<'a>>, Result<Option<String>>);
#[cfg(not(target_arch = "wasm32"))]
type Coming<'a> = Pin<Box<dyn Future<Output = Next<'a>> + Send + 'a>>;
/// A browser's futures belong to their thread.
#[cfg(target_arch = "wasm32")]
type Coming<'a> = Pin<Box<dyn Future<Output = Next<'a>> + 'a>>;

impl Stream for TextPieces<'_> {
    type Item = Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<String>>> {
        let mut coming = match std::mem::replace(&mut self.0, Way::Over) {
            Way::Over => return Poll::Ready(None),
            Way::Comes(coming) => coming,
            Way::Rests(mut answer) => Box::pin(async move {
                let piece = answer.next().await;
                (answer, piece)
            }),
        };
        let Poll::Ready((answer, piece)) = coming.as_mut().poll(context) else {
            self.0 = Way::Comes(coming);
            return Poll::Pending;
        };
        if matches!(piece, Ok(Some(_))) {
            self.0 = Way::Rests(answer);
        }
        Poll::Ready(piece.transpose())
    }
}

impl fmt::Debug for TextPieces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextPieces").finish_non_exhaustive()
    }
}

impl<'a> TextGeneration<'a> {
    /// The pieces as a stream, which takes memory of its own for each.
    pub fn into_stream(self) -> TextPieces<'a> {
        TextPieces(Way::Rests(Box::new(self)))
    }
}

impl TextGeneration<'_> {
    /// The next piece of text, made of whole characters; `None` at the end. A future that is dropped before its end loses nothing: the
    /// next call goes on where it was.
    ///
    /// # Errors
    /// As [`Generation::next`]; [`Error::Text`] from the tokenizer.
    pub async fn next(&mut self) -> Result<Option<String>> {
        while self.writing.goes_on() {
            let token = self.tokens.next().await?;
            self.ids.extend(token);
            let shown = self.writing.push(token)?;
            if !shown.is_empty() {
                return Ok(Some(shown));
            }
        }
        Ok(None)
    }

    /// The tokens so far, with one that ended the answer and those of a stop string.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Why it is over; `None` before [`TextGeneration::next`] has given `None`, or with it what a token or a stop text ended.
    pub fn ending(&self) -> Option<Ending> {
        match self.writing.ending {
            Some(Ending::Limit) if self.tokens.is_short() => Some(Ending::Full),
            ending => ending,
        }
    }

    /// The natural logarithm of the last token's probability; see [`Generation::log_probability`].
    pub fn log_probability(&self) -> Option<f32> {
        self.tokens.log_probability()
    }

    /// Whether the model's template has begun a thought, so that the answer begins inside it; see
    /// [`Thoughts`](crate::text::Thoughts).
    pub fn opens_thought(&self) -> bool {
        self.opens_thought
    }
}
