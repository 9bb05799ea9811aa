//! Measurement: where a run's time goes, and what the adapter could do at best.

#[cfg(not(target_arch = "wasm32"))]
pub use crate::gpu::{Costs, Roofline, alone, costs, roofline};
pub use crate::gpu::{Profile, ProfileMethod, StepProfile};
