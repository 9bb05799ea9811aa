//! Finds the step at which a device and the twins part: every step of a run judged by its own twin, on what the device gave it.

use crate::Result;
use crate::gpu::{ConstantStore, Gpu, GpuPlan, VariantChoice};
use crate::plan::{Place, Plan, TensorId};
use lampyris_shaders::{Call, Desc, HostTensor, difference};
use std::fmt;
use std::sync::Arc;

/// The element of a step's outputs that lies farthest from the twin's.
#[derive(Debug, Clone, PartialEq)]
pub struct Worst {
    /// Which output.
    pub output: usize,
    /// Its place in that output, one index an axis.
    pub index: Vec<usize>,
    /// What the twin gives.
    pub expected: f64,
    /// What the device gave.
    pub found: f64,
}

/// One step's agreement with its twin.
#[derive(Debug, Clone, PartialEq)]
pub struct StepComparison {
    /// Position in the plan.
    pub position: usize,
    /// Name of the step.
    pub step: String,
    /// Kernel.
    pub kernel: String,
    /// Variant that ran.
    pub variant: String,
    /// Shapes of the inputs.
    pub inputs: Vec<Desc>,
    /// Shapes of the outputs.
    pub outputs: Vec<Desc>,
    /// Largest difference relative to the twin's largest value; for words, the difference itself; infinite for a NaN.
    pub error: f64,
    /// What the kernel allows.
    pub tolerance: f64,
    /// The element with that error; absent when there is no difference at all.
    pub worst: Option<Worst>,
}

impl StepComparison {
    /// Whether the step agrees with its twin.
    pub fn agrees(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// A run on a device, step by step beside the twins.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The adapter, as [`crate::gpu::AdapterSummary`] displays it.
    pub adapter: String,
    /// The steps, in the plan's order.
    pub steps: Vec<StepComparison>,
}

impl Comparison {
    /// The first step that diverges, if any does.
    pub fn first_divergence(&self) -> Option<&StepComparison> {
        self.steps.iter().find(|step| !step.agrees())
    }

    /// Whether every step agrees with its twin.
    pub fn agrees(&self) -> bool {
        self.first_divergence().is_none()
    }
}

fn list(descs: &[Desc]) -> String {
    descs.iter().map(Desc::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (adapter, count) = (&self.adapter, self.steps.len());
        let Some(first) = self.first_divergence() else {
            write!(f, "all {count} steps agree with their twins on {adapter}")?;
            // The step that comes closest to what it is allowed.
            let share = |step: &StepComparison| if step.error > 0.0 { step.error / step.tolerance } else { 0.0 };
            if let Some(step) = self.steps.iter().max_by(|a, b| share(a).total_cmp(&share(b))) {
                let StepComparison { step, kernel, variant, error, tolerance, .. } = step;
                write!(
                    f,
                    "; the worst is {step}, {kernel}[{variant}], with an error of {error:.1e} of {tolerance:.1e}"
                )?;
            }
            return Ok(());
        };
        let StepComparison { position, step, kernel, variant, error, tolerance, .. } = first;
        let (inputs, outputs) = (list(&first.inputs), list(&first.outputs));
        write!(
            f,
            "step {position} of {count}, {step}, is the first that diverges from its twin on {adapter}: \
             {kernel}[{variant}] of ({inputs}) -> ({outputs}) has an error of {error:.1e}, and {tolerance:.1e} is allowed"
        )?;
        if let Some(Worst { output, index, expected, found }) = &first.worst {
            write!(
                f,
                "; the worst element is {index:?} of output {output}, where the twin gives {expected} and the device gave {found}"
            )?;
        }
        let others: Vec<&str> = self.steps.iter().filter(|s| !s.agrees()).skip(1).map(|s| s.step.as_str()).collect();
        match others.len() {
            0 => f.write_str("; every other step agrees when it is given the device's own values"),
            _ => write!(f, "; diverging after it, on the device's own values: {}", others.join(", ")),
        }
    }
}

/// Coordinates of logical value `at` in a tensor of `shape`.
fn place(shape: &[usize], mut at: usize) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (slot, extent) in index.iter_mut().zip(shape).rev() {
        *slot = at % extent.max(&1);
        at /= extent.max(&1);
    }
    index
}

/// Runs `plan` on `gpu` with the result of every step visible, and each step's twin on the very values that the device
/// gave that step.
///
/// So nothing adds up from step to step: an error is the step's own, the kernel's tolerance applies to it, and even classes and
/// indices must be equal word for word, because their twin saw the same inputs bit for bit. Takes the memory of all
/// intermediate tensors at once.
///
/// # Errors
/// [`crate::Error::Input`] when `inputs` are not the plan's; [`crate::Error::Constant`] when one cannot be made; as [`GpuPlan::new`] and
/// [`GpuPlan::run`] from the device.
pub async fn compare(gpu: &Gpu, plan: &Plan, store: &ConstantStore, inputs: &[HostTensor]) -> Result<Comparison> {
    super::cpu::check_inputs(plan, inputs)?;
    let visible = Arc::new(plan.with_every_step_visible());
    let device = GpuPlan::new(gpu, visible.clone(), store, VariantChoice::Best).await?;
    let found = device.run_tensors(inputs).await?;
    let mut values: Vec<Option<HostTensor>> = vec![None; plan.tensors.len()];
    for ((_, id), tensor) in visible.outputs.iter().zip(found) {
        values[id.0] = Some(tensor);
    }
    let mut steps = Vec::with_capacity(plan.steps.len());
    for (position, (step, source)) in visible.steps.iter().zip(device.sources()).enumerate() {
        let fetch = |id: &TensorId| match visible.tensor(*id).place {
            Place::Input(at) => Ok(inputs.get(at).cloned()),
            Place::Constant(at) => visible.constants[at].tensor().map(Some),
            Place::Slot(_) | Place::State(_) => Ok(values[id.0].clone()),
        };
        let given = step.inputs.iter().filter_map(|id| fetch(id).transpose()).collect::<Result<Vec<_>>>()?;
        let got: Vec<HostTensor> = step.outputs.iter().filter_map(|id| values[id.0].clone()).collect();
        let (descs, outputs) = visible.descs(step);
        let call = Call { inputs: &descs, outputs: &outputs };
        let expected = step.kernel.reference(&given.iter().collect::<Vec<_>>(), &outputs);
        let difference = difference(&expected, &got);
        let (output, at, twin, device) = difference.at;
        let worst = (difference.worst > 0.0).then(|| Worst {
            output,
            index: place(&outputs[output].shape, at),
            expected: twin,
            found: device,
        });
        steps.push(StepComparison {
            position,
            step: step.name.clone(),
            kernel: step.kernel.name().to_owned(),
            variant: source.label.to_owned(),
            error: difference.worst,
            tolerance: step.kernel.tolerance(&call).relative,
            worst,
            inputs: descs,
            outputs,
        });
    }
    Ok(Comparison { adapter: gpu.summary().to_string(), steps })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(error: f64, tolerance: f64) -> StepComparison {
        let worst = Worst { output: 0, index: vec![0, 2], expected: 1.0, found: 1.5 };
        StepComparison {
            position: 3,
            step: "features.3".into(),
            kernel: "pointwise".into(),
            variant: "portable.f32".into(),
            inputs: vec![Desc::f32([2, 4])],
            outputs: vec![Desc::f32([2, 3])],
            error,
            tolerance,
            worst: (error > 0.0).then_some(worst),
        }
    }

    #[test]
    fn places_are_row_major() {
        assert_eq!(place(&[2, 3, 4], 23), [1, 2, 3]);
        assert_eq!(place(&[2, 3, 4], 5), [0, 1, 1]);
        assert_eq!(place(&[], 0), [] as [usize; 0]);
    }

    #[test]
    fn a_report_names_the_step_the_element_and_the_adapter() {
        let adapter = "some adapter".to_owned();
        let report = Comparison { adapter: adapter.clone(), steps: vec![step(1e-7, 1e-6), step(0.5, 1e-6)] };
        let text = report.to_string();
        let parts =
            ["features.3", "pointwise[portable.f32]", "2x4 f32", "[0, 2]", "gives 1 ", "gave 1.5", "some adapter"];
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
        let report = Comparison { adapter, steps: vec![step(0.0, 0.0), step(5e-7, 1e-6)] };
        assert!(report.agrees());
        assert!(report.to_string().starts_with("all 2 steps agree"), "{report}");
    }

    #[test]
    fn a_nan_diverges_whatever_the_tolerance() {
        assert!(!step(f64::INFINITY, 1e9).agrees());
        assert!(!step(f64::NAN, 1.0).agrees());
    }
}
