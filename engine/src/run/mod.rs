//! The CPU executor, and the comparison of a GPU's run with it.

mod compare;
mod cpu;
mod executor;

pub use compare::{Comparison, StepComparison, Worst, compare};
pub use cpu::CpuPlan;
pub use executor::Executor;
