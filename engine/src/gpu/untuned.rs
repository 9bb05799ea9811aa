//! What stands in for `tune` in a browser, where nothing is measured or kept: the first choice is taken. With `tune` itself the module
//! would be a fiftieth larger.

use super::{ConstantStore, Gpu, GpuPlan};
use crate::plan::{Plan, Step};
use crate::{Error, Result};
use lampyris_shaders::{Call, Source};
use std::sync::Arc;

/// The variant that a step runs: the best guess.
pub(super) fn known_or_first(gpu: &Gpu, step: &Step, call: &Call<'_>) -> Option<&'static Source> {
    step.kernel.candidates(call, gpu.caps()).first().copied()
}

/// The best guess among `candidates`, which were not measured.
pub(super) async fn fastest(
    _gpu: &Gpu,
    _step: &Step,
    _call: &Call<'_>,
    candidates: &[&'static Source],
) -> Result<(Option<&'static Source>, bool)> {
    Ok((candidates.first().copied(), false))
}

impl GpuPlan {
    /// Compiles the first of `plans`.
    ///
    /// # Errors
    /// As [`GpuPlan::new`]; [`Error::NoVariant`] when there is no plan.
    pub async fn fastest(
        gpu: &Gpu,
        plans: &[Arc<Plan>],
        store: &ConstantStore,
        progress: impl FnMut(u64),
    ) -> Result<GpuPlan> {
        let first = plans.first().ok_or_else(|| Error::NoVariant {
            kernel: "a network".to_owned(),
            adapter: gpu.summary().name.clone(),
            call: "no plan".to_owned(),
        })?;
        GpuPlan::with_progress(gpu, first.clone(), store, progress).await
    }
}
