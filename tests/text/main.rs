//! Decoders and encoders, from files to tokens, answers and vectors.
//! One program for all of it, since each would link and specialize the same libraries again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

#[path = "../support/bert.rs"]
mod bert;
#[path = "../support/encoder_storage.rs"]
mod storage;
#[path = "../support/mod.rs"]
mod support;

mod batches;
mod bundled;
mod conversations;
mod decoder;
mod encoder;
mod endings;
mod experts;
mod families;
mod kquant;
mod mixed_types;
mod packed;
mod pasted;
mod promises;
mod sampling;
mod sessions;
mod split;
mod stories;
mod text_fixtures;
mod text_plans;
mod unigram;
