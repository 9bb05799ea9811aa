//! What does not fit a device is refused here, with the figures, before anything is allocated.

use super::Gpu;
use crate::plan::{Plan, Step};
use crate::{Error, Result};
use lampyris_shaders::{Call, Desc, Launch, Source};

/// Refuses a plan that cannot fit, with the figures.
pub(super) fn check_memory(gpu: &Gpu, plan: &Plan) -> Result<()> {
    let bytes = plan.bytes();
    if let Some(budget) = gpu.options().budget
        && bytes.total() > budget
    {
        let (weights, activations) = (bytes.weights, bytes.activations + bytes.params);
        return Err(Error::Budget { needed: bytes.total(), weights, activations, budget });
    }
    let limit = gpu.caps().max_binding_bytes.min(gpu.caps().max_buffer_bytes);
    for tensor in &plan.tensors {
        if tensor.desc.bytes() > limit {
            return Err(Error::TooLarge {
                tensor: tensor.name.clone(),
                desc: tensor.desc.clone(),
                bytes: tensor.desc.bytes(),
                adapter: gpu.summary().name.clone(),
                limit,
            });
        }
    }
    Ok(())
}

/// The launch of a step's chosen variant.
pub(super) fn launch(
    gpu: &Gpu,
    step: &Step,
    call: &Call<'_>,
    source: Option<&'static Source>,
) -> Result<(&'static Source, Launch)> {
    let adapter = gpu.summary().name.clone();
    let Some(source) = source.filter(|s| s.fits(gpu.caps())) else {
        let call = call.inputs.iter().map(Desc::to_string).collect::<Vec<_>>().join(", ");
        return Err(Error::NoVariant { kernel: step.kernel.name().to_owned(), adapter, call });
    };
    let launch = step.kernel.launch(call, source);
    let limit = gpu.caps().max_groups;
    if launch.grid.iter().any(|groups| *groups > limit) {
        return Err(Error::Grid { step: step.name.clone(), grid: launch.grid, adapter, limit });
    }
    Ok((source, launch))
}
