//! Describes a network step by step; shapes are inferred and checked as it grows.

use super::{Constant, FusionOptions, Maker, Place, Plan, PlanTensor, StateDesc, Step, TensorId, fuse, memory};
use crate::{Error, Result};
use lampyris_shaders::{Desc, Kernel, ShapeError};
use std::collections::HashMap;
use std::sync::Arc;

/// Collects the steps of a network and turns them into a [`Plan`].
#[derive(Debug, Default)]
pub struct PlanBuilder {
    tensors: Vec<PlanTensor>,
    steps: Vec<Step>,
    inputs: Vec<TensorId>,
    outputs: Vec<(String, TensorId)>,
    constants: Vec<Constant>,
    states: Vec<StateDesc>,
    named: HashMap<String, TensorId>,
}

impl PlanBuilder {
    /// An empty network.
    pub fn new() -> PlanBuilder {
        PlanBuilder::default()
    }

    fn add(&mut self, name: String, desc: Desc, place: Place) -> TensorId {
        self.tensors.push(PlanTensor { name, desc, place });
        TensorId(self.tensors.len() - 1)
    }

    /// A tensor that the caller gives at every run.
    pub fn input(&mut self, name: impl Into<String>, desc: Desc) -> TensorId {
        let id = self.add(name.into(), desc, Place::Input(self.inputs.len()));
        self.inputs.push(id);
        id
    }

    /// A tensor made from the weights at load; asking twice for one name gives the same tensor.
    pub fn constant(&mut self, name: impl Into<String>, desc: Desc, make: Maker) -> TensorId {
        let name = name.into();
        if let Some(id) = self.named.get(&name).filter(|id| self.tensors[id.0].desc == desc) {
            return *id;
        }
        let id = self.add(name.clone(), desc.clone(), Place::Constant(self.constants.len()));
        self.constants.push(Constant { name: name.clone(), desc, make });
        self.named.insert(name, id);
        id
    }

    /// A tensor that outlives a run; asking twice for one name gives the same tensor.
    pub fn state(&mut self, name: impl Into<String>, desc: Desc) -> TensorId {
        let name = name.into();
        let is_it = |tensor: &PlanTensor| matches!(tensor.place, Place::State(_)) && tensor.name == name;
        if let Some(at) = self.tensors.iter().position(is_it) {
            return TensorId(at);
        }
        self.states.push(StateDesc { name: name.clone(), desc: desc.clone() });
        self.add(name, desc, Place::State(self.states.len() - 1))
    }

    /// The description of a tensor.
    pub fn desc(&self, id: TensorId) -> &Desc {
        &self.tensors[id.0].desc
    }

    /// Applies a kernel and gives all its outputs.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs do not fit.
    pub fn apply_all(
        &mut self,
        name: impl Into<String>,
        kernel: impl Kernel,
        inputs: &[TensorId],
    ) -> Result<Vec<TensorId>> {
        self.apply_shared(name.into(), Arc::new(kernel), inputs)
    }

    /// As [`PlanBuilder::apply_all`], for a kernel that is already shared.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs do not fit.
    pub fn apply_shared(
        &mut self,
        name: String,
        kernel: Arc<dyn Kernel>,
        inputs: &[TensorId],
    ) -> Result<Vec<TensorId>> {
        let descs: Vec<Desc> = inputs.iter().map(|id| self.desc(*id).clone()).collect();
        let refuse = |source| Error::Shape { step: name.clone(), source };
        let made = kernel.outputs(&descs).map_err(refuse)?;
        let mut outputs = Vec::with_capacity(made.len());
        for (at, desc) in made.into_iter().enumerate() {
            let Some((input, _)) = kernel.in_place().iter().find(|(_, output)| *output == at) else {
                outputs.push(self.add(name.clone(), desc, Place::Slot(usize::MAX)));
                continue;
            };
            let kept = inputs[*input];
            if !matches!(self.tensors[kept.0].place, Place::State(_)) || self.tensors[kept.0].desc != desc {
                let reason = format!("input {input} is updated in place, so it must be a state of {desc}");
                return Err(refuse(ShapeError::Parameter { kernel: kernel.name(), reason }));
            }
            outputs.push(kept);
        }
        self.steps.push(Step { name, kernel, inputs: inputs.to_vec(), outputs: outputs.clone() });
        Ok(outputs)
    }

    /// Applies a kernel and gives its first output.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs do not fit, or the kernel gives nothing.
    pub fn apply(&mut self, name: impl Into<String>, kernel: impl Kernel, inputs: &[TensorId]) -> Result<TensorId> {
        let (step, kernel_name) = (name.into(), kernel.name());
        let outputs = self.apply_all(step.clone(), kernel, inputs)?;
        outputs.first().copied().ok_or_else(|| {
            let source = ShapeError::Parameter { kernel: kernel_name, reason: "it gives no output".to_owned() };
            Error::Shape { step, source }
        })
    }

    /// Names a result that the caller reads.
    pub fn output(&mut self, name: impl Into<String>, id: TensorId) {
        self.outputs.push((name.into(), id));
    }

    /// Fuses what can be fused, drops steps and constants that no output needs, and lays out the memory.
    pub fn finish(self) -> Plan {
        self.finish_with(FusionOptions::default())
    }

    /// As [`PlanBuilder::finish`], with a say in what is fused.
    pub fn finish_with(self, fusion: FusionOptions) -> Plan {
        let mut plan = Plan {
            tensors: self.tensors,
            steps: self.steps,
            inputs: self.inputs,
            outputs: self.outputs,
            constants: self.constants,
            states: self.states,
            slots: Vec::new(),
        };
        memory::drop_unused(&mut plan);
        fuse::fuse(&mut plan.tensors, &mut plan.steps, &plan.outputs, fusion);
        memory::assign(&mut plan);
        plan
    }
}
