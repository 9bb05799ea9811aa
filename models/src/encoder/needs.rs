//! What the runs of an encoder will take, known from the plan before anything is allocated.

use super::TokenEncoder;
use super::model::request;
use crate::Result;
use lampyris_engine::Plan;
use lampyris_engine::plan::{Place, PlanBytes};

/// What a run of a [`TokenEncoder`] takes on the device, in bytes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EncoderNeeds {
    /// Tokens that the run has room for.
    pub rows: usize,
    /// Sequences that the run has room for.
    pub sequences: usize,
    /// Weights, shared by all runs.
    pub weights: u64,
    /// What the run computes, its inputs and its parameters.
    pub work: u64,
    /// Where recorded runs put their inputs and results, as far as [`EncoderNeeds::recorded()`] was asked for it.
    pub recorded: u64,
    /// The largest tensor: its name and its bytes. It has to fit a binding.
    pub largest: (String, u64),
    /// Weights that a run reads, whatever the number of its tokens: all but the tables of tokens and positions, of which it reads rows.
    pub read_per_run: u64,
    /// The plan of the run.
    pub plan: Plan,
}

impl EncoderNeeds {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.weights + self.work + self.recorded
    }

    /// With the buffers of recorded runs, of which up to four may be under way; `record` makes them as they are needed.
    #[must_use]
    pub fn recorded(mut self) -> EncoderNeeds {
        self.recorded = self.plan.recorded_bytes();
        self
    }
}

impl From<&EncoderNeeds> for PlanBytes {
    fn from(needs: &EncoderNeeds) -> PlanBytes {
        PlanBytes { weights: needs.weights, activations: needs.work + needs.recorded, ..PlanBytes::default() }
    }
}

impl TokenEncoder {
    /// What a run of `tokens`, of all its sequences together, will take; nothing is allocated on the device.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine) when a kernel refuses a shape.
    pub fn needs(&self, tokens: usize) -> Result<EncoderNeeds> {
        let request = request(tokens);
        let plan = self.plan(request)?;
        let mut largest = (String::new(), 0);
        for tensor in &plan.tensors {
            if tensor.desc.bytes() > largest.1 {
                largest = (tensor.name.clone(), tensor.desc.bytes());
            }
        }
        let read = plan.steps.iter().filter(|step| !["embed", "place_norm"].contains(&step.kernel.name()));
        let constants = read.flat_map(|step| &step.inputs).map(|id| plan.tensor(*id));
        let read_per_run = constants
            .filter(|tensor| matches!(tensor.place, Place::Constant(_)))
            .map(|tensor| tensor.desc.bytes())
            .sum();
        let bytes = plan.bytes();
        Ok(EncoderNeeds {
            rows: request.rows,
            sequences: request.sequences.unwrap_or_default(),
            weights: bytes.weights,
            work: bytes.total() - bytes.weights,
            recorded: 0,
            largest,
            read_per_run,
            plan,
        })
    }
}
