//! The certificate: every kernel and variant against its twin, on the adapter in front of the user.

use crate::gpu::{ConstantStore, Gpu, GpuPlan, States, VariantChoice};
use crate::plan::PlanBuilder;
use crate::{Error, Result};
use lampyris_shaders::{Call, Case, HostTensor, Source, difference};
use std::sync::Arc;

/// What one variant of one case gave.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Kernel name.
    pub kernel: String,
    /// Variant label.
    pub variant: String,
    /// Case label.
    pub case: String,
    /// Largest difference relative to the twin's largest value; infinite for a NaN.
    pub worst_error: f64,
    /// What the kernel allows.
    pub tolerance: f64,
    /// The driver's error, when there was one instead of a result.
    pub failure: Option<String>,
}

impl Verdict {
    /// Whether the variant agrees with its twin.
    pub fn passed(&self) -> bool {
        self.failure.is_none() && self.worst_error <= self.tolerance
    }
}

/// A case with its inputs and the twin's answer, made once for all variants and adapters.
#[derive(Debug, Clone)]
pub struct Prepared {
    case: Case,
    inputs: Vec<HostTensor>,
    expected: Vec<HostTensor>,
}

impl Prepared {
    /// Runs the twin.
    ///
    /// # Errors
    /// [`Error::Shape`] when the case does not fit its kernel.
    pub fn new(case: &Case) -> Result<Prepared> {
        let inputs = case.tensors();
        let expected = case.expected(&inputs).map_err(|source| Error::Shape { step: case.label.clone(), source })?;
        Ok(Prepared { case: case.clone(), inputs, expected })
    }

    /// The case.
    pub fn case(&self) -> &Case {
        &self.case
    }

    /// Every variant that the adapter can run and that the case's formats call for: all that the kernel would choose from
    /// on any adapter.
    ///
    /// # Errors
    /// [`Error::Shape`] when the case does not fit its kernel.
    pub fn variants(&self, gpu: &Gpu) -> Result<Vec<&'static Source>> {
        let shape = |source| Error::Shape { step: self.case.label.clone(), source };
        let inputs = self.case.descs();
        let outputs = self.case.kernel.outputs(&inputs).map_err(shape)?;
        let call = Call { inputs: &inputs, outputs: &outputs };
        let mut found: Vec<&'static Source> = Vec::new();
        for (software, slow_arrays) in [(false, false), (true, false), (true, true)] {
            let caps = lampyris_shaders::Caps { software, slow_arrays, ..gpu.caps().clone() };
            let plain = lampyris_shaders::Caps { subgroup: None, ..caps.clone() };
            for caps in [caps, plain] {
                for source in self.case.kernel.candidates(&call, &caps) {
                    if !found.contains(&source) {
                        found.push(source);
                    }
                }
            }
        }
        Ok(found)
    }

    /// The variants that the engine chooses from on this device, which are fewer than [`Prepared::variants`]: those for
    /// other kinds of adapter are left out.
    pub fn candidates(&self, gpu: &Gpu) -> Vec<&'static Source> {
        let inputs = self.case.descs();
        let outputs: Vec<_> = self.expected.iter().map(|t| t.desc.clone()).collect();
        self.case.kernel.candidates(&Call { inputs: &inputs, outputs: &outputs }, gpu.caps())
    }

    /// Runs one variant on the device and compares.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is gone, and [`Error::Budget`] when the options leave no room for the case, which is no
    /// fault of the kernel; anything else a driver says is the verdict's.
    pub async fn check(&self, gpu: &Gpu, source: &'static Source) -> Result<Verdict> {
        match self.run(gpu, source).await {
            Ok(found) => Ok(self.verdict(source, difference(&self.expected, &found).worst, None)),
            Err(error @ (Error::DeviceLost { .. } | Error::Budget { .. })) => Err(error),
            Err(error) => Ok(self.failed(source, &error)),
        }
    }

    /// The verdict of a variant that gave no result.
    pub fn failed(&self, source: &Source, error: &Error) -> Verdict {
        self.verdict(source, 0.0, Some(error.to_string()))
    }

    fn verdict(&self, source: &Source, worst_error: f64, failure: Option<String>) -> Verdict {
        let inputs = self.case.descs();
        let outputs: Vec<_> = self.expected.iter().map(|t| t.desc.clone()).collect();
        Verdict {
            kernel: self.case.kernel.name().to_owned(),
            variant: source.label.to_owned(),
            case: self.case.label.clone(),
            worst_error,
            tolerance: self.case.kernel.tolerance(&Call { inputs: &inputs, outputs: &outputs }).relative,
            failure,
        }
    }

    /// What one variant gives on the device.
    ///
    /// # Errors
    /// As [`GpuPlan::new`] and [`GpuPlan::run`].
    pub async fn run(&self, gpu: &Gpu, source: &'static Source) -> Result<Vec<HostTensor>> {
        self.load(gpu, source).await?.run_tensors(&self.inputs()).await
    }

    /// What a run of [`Prepared::load`]'s plan is given: the case's inputs but for those updated in place, which the plan keeps.
    pub fn inputs(&self) -> Vec<HostTensor> {
        let kept = |at: usize| self.case.kernel.in_place().iter().any(|(input, _)| *input == at);
        self.inputs.iter().enumerate().filter(|(at, _)| !kept(*at)).map(|(_, tensor)| tensor.clone()).collect()
    }

    /// A plan of the case alone, with one variant; tensors that the kernel updates in place hold the case's contents.
    ///
    /// # Errors
    /// As [`GpuPlan::new`].
    pub async fn load(&self, gpu: &Gpu, source: &'static Source) -> Result<GpuPlan> {
        let mut builder = PlanBuilder::new();
        let ids: Vec<_> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(i, tensor)| match self.case.kernel.in_place().iter().any(|(input, _)| *input == i) {
                true => builder.state(format!("input{i}"), tensor.desc.clone()),
                false => builder.input(format!("input{i}"), tensor.desc.clone()),
            })
            .collect();
        let outputs = builder.apply_shared(self.case.label.clone(), self.case.kernel.clone(), &ids)?;
        for (i, id) in outputs.iter().enumerate() {
            builder.output(format!("output{i}"), *id);
        }
        let choose = |_: &crate::plan::Step, _: &[&'static Source]| Some(source);
        let plan = Arc::new(builder.finish());
        let states = States::new(gpu, &[&plan]).await?;
        for (input, _) in self.case.kernel.in_place() {
            states.write(&format!("input{input}"), 0, &self.inputs[*input].words)?;
        }
        let choice = VariantChoice::By(&choose);
        GpuPlan::with_states(gpu, plan, &ConstantStore::new(), &states, choice, |_| ()).await
    }
}
