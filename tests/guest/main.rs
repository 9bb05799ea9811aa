//! Models inside somebody else's frames: ticks, budgets, textures, cameras, lost devices and refused memory.
//! One program for all of it, since each would link and specialize the same libraries again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

#[path = "../support/bert.rs"]
mod bert;
#[path = "../support/lives.rs"]
mod lives;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/ticks.rs"]
mod ticks;

mod budgets;
mod camera;
mod chunks;
mod destroyed;
mod driven;
mod driven_host;
mod driven_lost;
mod driven_models;
mod driven_text;
mod freed;
mod goes_on;
mod kept;
mod lost_device;
mod neighbours;
mod out_of_memory;
mod paced;
mod recorded;
mod recorded_texts;
mod replaced;
mod textures;
