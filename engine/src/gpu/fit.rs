//! What does not fit a device is refused here, with the figures, before anything is allocated.

use super::Gpu;
use crate::plan::{PARAMS_STRIDE, Plan, Step};
use crate::{Error, Result};
use lampyris_shaders::{Call, Desc, Launch, Operand, Source};

/// Refuses a plan with a tensor that cannot be bound, with the figures, or with an output that cannot be read.
pub(super) fn check_memory(gpu: &Gpu, plan: &Plan) -> Result<()> {
    let texture = |id| plan.tensor(id).desc.format.is_texture();
    if let Some((name, _)) = plan.outputs.iter().find(|(_, id)| texture(*id)) {
        return Err(Error::TextureOutput { name: name.clone() });
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
    check_launch(step, source, &launch)?;
    let limit = gpu.caps().max_groups;
    if launch.grid.iter().any(|groups| *groups > limit) {
        return Err(Error::Grid { step: step.name.clone(), grid: launch.grid, adapter, limit });
    }
    Ok((source, launch))
}

/// Refuses a launch whose parameters would lie in the next step's block, or whose operands are not the shader's bindings: a kernel
/// may come from outside.
fn check_launch(step: &Step, source: &Source, launch: &Launch) -> Result<()> {
    let kernel = || format!("{} ({})", step.kernel.name(), source.label);
    let bytes = (launch.params.len() as u64 * 4).max(u64::from(source.params_bytes));
    if bytes > PARAMS_STRIDE {
        return Err(Error::Params { kernel: kernel(), bytes, limit: PARAMS_STRIDE });
    }
    let operands = |reason: String| Err(Error::Operands { kernel: kernel(), step: step.name.clone(), reason });
    let (given, bindings) = (launch.operands.len(), source.bindings.len().saturating_sub(1));
    if given != bindings {
        return operands(format!("{given} operands for {bindings} bindings after the parameters"));
    }
    for operand in &launch.operands {
        let (what, at, count) = match operand {
            Operand::Input(at) => ("input", *at, step.inputs.len()),
            Operand::Output(at) => ("output", *at, step.outputs.len()),
        };
        if at >= count {
            return operands(format!("{what} {at} of {count}, counted from 0"));
        }
    }
    Ok(())
}
