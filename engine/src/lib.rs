//! The engine of Lampyris: plans, weights and memory, and the GPU and CPU executors that run the kernels.
//!
//! A network is described with [`PlanBuilder`], compiled to an immutable [`Plan`], and run by a [`Gpu`] or by [`CpuPlan`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once"))]

pub mod certify;
mod error;
pub mod gpu;
pub mod measure;
pub mod plan;
pub mod run;
pub mod weights;

pub use error::{Error, Result};
pub use gpu::Gpu;
pub use lampyris_shaders as kernels;
pub use plan::{Plan, PlanBuilder};
pub use run::{CpuPlan, Executor};
