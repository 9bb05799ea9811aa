//! The CPU executor, and the comparison of a GPU's run with it.

mod cpu;
mod executor;

pub use cpu::CpuPlan;
pub use executor::Executor;
