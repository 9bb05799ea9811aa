//! The CPU executor, and the comparison of a GPU's run with it.

mod cpu;

pub use cpu::CpuPlan;
