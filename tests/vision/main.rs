//! Image networks, from files and photos to classes.
//! One program for all of it, since each would link and specialize the same libraries again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

#[path = "../support/mod.rs"]
mod support;

mod fixtures;
mod photos;
mod plans;
mod quantized;
mod real_models;
mod tuned;
