//! A plan is a network as data: steps, tensors, constants and memory, all known before anything is allocated.

mod builder;
mod display;
mod fuse;
mod memory;

pub use builder::PlanBuilder;
pub use fuse::FusionOptions;

use crate::Result;
use lampyris_shaders::{Call, Desc, HostTensor, Kernel};
use std::sync::Arc;

/// A tensor of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub(crate) usize);

/// Where a tensor's words live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Given by the caller; the position in [`Plan::inputs`].
    Input(usize),
    /// Made once at load; the position in [`Plan::constants`].
    Constant(usize),
    /// Kept from run to run, and shared by the plans that name it; the position in [`Plan::states`].
    State(usize),
    /// In a whole buffer shared by tensors that never live at the same time; the position in [`Plan::slots`].
    Slot(usize),
}

/// A tensor's name, shape and place.
#[derive(Debug, Clone)]
pub struct PlanTensor {
    /// Name, from the step or weight that makes it.
    pub name: String,
    /// Shape and format.
    pub desc: Desc,
    /// Where it lives.
    pub place: Place,
}

/// Makes a constant's storage from the weights, when it is needed and not before.
pub type Maker = Arc<dyn Fn() -> Result<HostTensor, String> + Send + Sync>;

/// A tensor made from the weights at load.
#[derive(Clone)]
pub struct Constant {
    /// Name, unique among the constants of a model.
    pub name: String,
    /// Shape and format.
    pub desc: Desc,
    /// Makes its storage.
    pub make: Maker,
}

impl std::fmt::Debug for Constant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.desc)
    }
}

impl Constant {
    /// Runs the maker and checks what it made.
    ///
    /// # Errors
    /// [`crate::Error::Constant`] with the maker's reason.
    pub fn tensor(&self) -> Result<HostTensor> {
        let fail = |reason| crate::Error::Constant { name: self.name.clone(), reason };
        let tensor = (self.make)().map_err(fail)?;
        if tensor.desc != self.desc {
            return Err(fail(format!("made as {}, planned as {}", tensor.desc, self.desc)));
        }
        Ok(tensor)
    }
}

/// A tensor that outlives a run: a cache, a position. All zeros at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDesc {
    /// Name, by which plans share it.
    pub name: String,
    /// Shape and format.
    pub desc: Desc,
}

/// One dispatch.
#[derive(Debug, Clone)]
pub struct Step {
    /// Name, from the model's layers.
    pub name: String,
    /// The kernel with its parameters.
    pub kernel: Arc<dyn Kernel>,
    /// Inputs, in the kernel's order.
    pub inputs: Vec<TensorId>,
    /// Outputs, in the kernel's order.
    pub outputs: Vec<TensorId>,
}

/// A network compiled to steps, ready for an executor.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All tensors.
    pub tensors: Vec<PlanTensor>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What the caller gives.
    pub inputs: Vec<TensorId>,
    /// What the caller gets: name and tensor.
    pub outputs: Vec<(String, TensorId)>,
    /// What the weights give.
    pub constants: Vec<Constant>,
    /// What outlives a run.
    pub states: Vec<StateDesc>,
    /// Bytes of each slot buffer.
    pub slots: Vec<u64>,
}

/// The bytes a plan takes, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlanBytes {
    /// Constants.
    pub weights: u64,
    /// Inputs, slots and outputs.
    pub activations: u64,
    /// What outlives a run.
    pub states: u64,
    /// Parameter blocks.
    pub params: u64,
}

impl PlanBytes {
    /// The sum.
    pub fn total(self) -> u64 {
        self.weights + self.activations + self.states + self.params
    }
}

/// Bytes between the parameter blocks of two steps: the largest uniform alignment that WebGPU allows.
pub(crate) const PARAMS_STRIDE: u64 = 256;

impl Plan {
    /// A tensor by its id.
    pub fn tensor(&self, id: TensorId) -> &PlanTensor {
        &self.tensors[id.0]
    }

    /// Input and output descriptions of a step.
    pub fn descs(&self, step: &Step) -> (Vec<Desc>, Vec<Desc>) {
        let of = |ids: &[TensorId]| ids.iter().map(|id| self.tensor(*id).desc.clone()).collect();
        (of(&step.inputs), of(&step.outputs))
    }

    /// Calls `f` with the call of a step.
    pub fn with_call<T>(&self, step: &Step, f: impl FnOnce(&Call<'_>) -> T) -> T {
        let (inputs, outputs) = self.descs(step);
        f(&Call { inputs: &inputs, outputs: &outputs })
    }

    /// Exact bytes of everything an executor allocates for it.
    pub fn bytes(&self) -> PlanBytes {
        let inputs: u64 = self.inputs.iter().map(|id| self.tensor(*id).desc.bytes()).sum();
        PlanBytes {
            weights: self.constants.iter().map(|c| c.desc.bytes()).sum(),
            activations: inputs + self.slots.iter().sum::<u64>(),
            states: self.states.iter().map(|s| s.desc.bytes().max(4)).sum(),
            params: self.steps.len() as u64 * PARAMS_STRIDE,
        }
    }

    /// The same plan with every step's outputs among the outputs, for finding the step that diverges.
    pub fn with_every_step_visible(&self) -> Plan {
        let mut plan = self.clone();
        plan.outputs = self
            .steps
            .iter()
            .flat_map(|step| step.outputs.iter().enumerate().map(|(i, id)| (format!("{}#{i}", step.name), *id)))
            .collect();
        memory::assign(&mut plan);
        plan
    }
}
