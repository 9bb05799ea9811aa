//! Files and blocks that other software made: values to the bit, and what is broken refused by name, in no time and no memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

#[path = "weight_files/blocks.rs"]
mod blocks;
