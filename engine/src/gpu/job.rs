//! What a [`Course`](super::Course) is asked to run, and what it says has become of it.

use super::Few;
use lampyris_shaders::HostTensor;

/// Words that a run finds in a state or an input of its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Name of the state or the input.
    pub name: &'static str,
    /// The first word.
    pub at: usize,
    /// The words.
    pub words: Few<u32>,
}

/// One run of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Which of the course's plans.
    pub part: usize,
    /// What the caller calls it.
    pub tag: u64,
    /// What is written before the run begins.
    pub begin: Few<Written>,
    /// What is written before the run begins, and again before it goes on after a cut. The run must leave it alone but for its last step.
    pub again: Few<Written>,
    /// Whether its outputs are wanted.
    pub outputs: bool,
    /// How many positions of the plan's caches are in use after it, by which goes how long it is expected to take.
    pub positions: usize,
}

/// What has become of runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A run has ended; its outputs where they were wanted.
    Ran {
        /// What the caller calls it.
        tag: u64,
        /// The plan's outputs. [`Course::take_back`](super::Course::take_back) uses their memory again.
        outputs: Vec<HostTensor>,
    },
    /// Commands were dropped or came in another order. All runs that have not been told of are to be recorded again.
    Broken,
}
