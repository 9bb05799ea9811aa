//! Measurement: where a run's time goes, and what the adapter could do at best.

pub use crate::gpu::{Profile, ProfileMethod, StepProfile};
#[cfg(not(target_arch = "wasm32"))]
pub use crate::gpu::{Roofline, roofline};
