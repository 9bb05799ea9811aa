//! The CPU executor: runs a plan by calling the twins. It is the fallback where no adapter exists, and the judge everywhere.

use crate::gpu::{ConstantStore, States};
use crate::plan::{Place, Plan, TensorId};
use crate::{Error, Result};
use lampyris_shaders::{Desc, HostTensor};
use std::sync::Arc;

/// A plan with its constants in host memory.
#[derive(Debug, Clone)]
pub struct CpuPlan {
    plan: Arc<Plan>,
    constants: Arc<Vec<Arc<HostTensor>>>,
    states: Option<States>,
}

impl CpuPlan {
    /// Makes the constants.
    ///
    /// # Errors
    /// [`Error::Constant`] when one cannot be made.
    pub fn new(plan: Arc<Plan>) -> Result<CpuPlan> {
        CpuPlan::with_store(plan, &ConstantStore::new())
    }

    /// As [`CpuPlan::new`], with the constants that `store` has, which keeps the others.
    ///
    /// # Errors
    /// [`Error::Constant`] when one cannot be made.
    pub fn with_store(plan: Arc<Plan>, store: &ConstantStore) -> Result<CpuPlan> {
        let constants = plan.constants.iter().map(|c| store.on_host(c)).collect::<Result<Vec<_>>>()?;
        Ok(CpuPlan { plan, constants: Arc::new(constants), states: None })
    }

    /// The same plan with `states` to keep its tensors between runs; the constants are shared.
    #[must_use]
    pub fn with_states(self, states: &States) -> CpuPlan {
        CpuPlan { states: Some(states.clone()), ..self }
    }

    /// The plan it runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs every step and gives the outputs in the plan's order.
    ///
    /// # Errors
    /// [`Error::Input`] when `inputs` are not what the plan takes.
    pub fn run(&self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>> {
        check_inputs(&self.plan, inputs)?;
        let mut values: Vec<Option<HostTensor>> = vec![None; self.plan.tensors.len()];
        let mut last_use = vec![0; self.plan.tensors.len()];
        for (at, step) in self.plan.steps.iter().enumerate() {
            for id in &step.inputs {
                last_use[id.0] = at;
            }
        }
        for (_, id) in &self.plan.outputs {
            last_use[id.0] = usize::MAX;
        }
        for (at, tensor) in self.plan.tensors.iter().enumerate() {
            if let Place::State(_) = tensor.place {
                let kept = self.states.as_ref().and_then(|states| states.on_host(&tensor.name));
                let kept = kept.filter(|kept| kept.desc == tensor.desc);
                let (name, expected) = (tensor.name.clone(), tensor.desc.to_string());
                let missing = || Error::Input { name, expected, found: "no such state".to_owned() };
                values[at] = Some(kept.ok_or_else(missing)?);
                last_use[at] = usize::MAX;
            }
        }
        for (at, step) in self.plan.steps.iter().enumerate() {
            let outputs: Vec<Desc> = step.outputs.iter().map(|id| self.plan.tensor(*id).desc.clone()).collect();
            let given: Vec<&HostTensor> =
                step.inputs.iter().filter_map(|id| self.look_up(*id, inputs, &values)).collect();
            let made = step.kernel.reference(&given, &outputs);
            for (id, tensor) in step.outputs.iter().zip(made) {
                values[id.0] = Some(tensor);
            }
            for id in &step.inputs {
                if last_use[id.0] <= at {
                    values[id.0] = None;
                }
            }
        }
        let updated = self.plan.steps.iter().flat_map(|step| &step.outputs);
        for id in updated.filter(|id| matches!(self.plan.tensor(**id).place, Place::State(_))) {
            if let (Some(states), Some(value)) = (&self.states, &values[id.0]) {
                states.put_on_host(&self.plan.tensor(*id).name, value.clone());
            }
        }
        let found = self.plan.outputs.iter().filter_map(|(_, id)| self.look_up(*id, inputs, &values).cloned());
        Ok(found.collect())
    }

    fn look_up<'a>(
        &'a self,
        id: TensorId,
        inputs: &'a [HostTensor],
        values: &'a [Option<HostTensor>],
    ) -> Option<&'a HostTensor> {
        match self.plan.tensor(id).place {
            Place::Input(at) => inputs.get(at),
            Place::Constant(at) => self.constants.get(at).map(|constant| &**constant),
            Place::Slot(_) | Place::State(_) => values[id.0].as_ref(),
        }
    }
}

/// Refuses inputs that are not what the plan takes.
pub(crate) fn check_inputs(plan: &Plan, inputs: &[HostTensor]) -> Result<()> {
    for (position, id) in plan.inputs.iter().enumerate() {
        let wanted = plan.tensor(*id);
        let found = inputs.get(position).map(|t| &t.desc);
        if found != Some(&wanted.desc) {
            return Err(Error::Input {
                name: wanted.name.clone(),
                expected: wanted.desc.to_string(),
                found: found.map_or("nothing".to_owned(), Desc::to_string),
            });
        }
    }
    Ok(())
}
