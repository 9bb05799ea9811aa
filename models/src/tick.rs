//! What runs only when a host ticks it, in the frame's budget: what a tick says, and what all of them have in common.

use crate::Result;
use lampyris_engine::gpu::{Budget, CommandEncoder};
use std::time::Duration;

/// How soon a dispatch of a driven run should end at the latest, where its kernel can be cut: of a budget three times as long five sixths are used.
pub(crate) const FINEST: Duration = Duration::from_micros(200);

/// What a tick has found and done.
#[derive(Debug, Clone, PartialEq)]
pub enum Tick<P = String, D = Summary> {
    /// Something has arrived: text, or tokens. Commands may have been recorded as well.
    Pieces(P),
    /// It has ended; all of it was given by earlier ticks. Later ticks are idle until something is asked again.
    Done(D),
    /// Nothing has arrived that could be shown; commands may have been recorded.
    Working(Progress),
    /// There is nothing to do.
    Idle,
    /// The device is lost. Nothing is recorded until it was replaced.
    Lost,
}

/// How far a driven run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Steps that this tick has recorded, and pieces of those that are cut, of which neighbours are one dispatch; none where the next one is longer
    /// than what is left of a budget, or waits for what is under way.
    pub steps: usize,
    /// Units of work that are known to be done: tokens of a prompt, bytes of weights.
    pub done: u64,
    /// All of them.
    pub of: u64,
}

/// What an answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Summary {
    /// Tokens of the prompt that had to be computed; those of an earlier turn need not.
    pub prompt: usize,
    /// Tokens of the answer, with one that ended it.
    pub tokens: usize,
    /// The answer came to its end; otherwise it was as long as was asked for, or the context was full.
    pub ended: bool,
    /// Ticks that recorded something for it.
    pub ticks: usize,
}

/// Whatever a host drives by ticks, alone or beside others.
pub trait Driven {
    /// What arrives piece by piece.
    type Piece;
    /// What is there at the end.
    type Done;

    /// Records into the host's encoder what the budget pays for, and gives what has arrived. Never waits.
    ///
    /// # Errors
    /// Those of what is driven, once each; it is idle afterwards.
    fn tick(&mut self, encoder: &mut CommandEncoder, budget: &mut Budget) -> Result<Tick<Self::Piece, Self::Done>>;

    /// Whether a tick would have something to do, or to give.
    fn has_work(&self) -> bool;
}
