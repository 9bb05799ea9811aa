//! How fast a decoder will write, by the time of each of its steps, before any of its weights are there.

use super::Needs;
use super::network::CURSOR;
use crate::Result;
use lampyris_engine::Gpu;
use lampyris_engine::kernels::Format;
use lampyris_engine::measure::{Costs, alone};
use lampyris_engine::plan::{Place, PlanTensor, Step};
use std::collections::BTreeMap;

/// Tokens before the one that is timed, or half of the context.
const BEFORE: usize = 256;

impl Needs {
    /// Tokens a second to expect of answers on `gpu`, whose [`costs`](lampyris_engine::measure::costs) are known, with some hundred tokens before
    /// them. Each different step of a token is timed alone with weights that hold nothing, one after another, so that no more than the largest
    /// takes memory; it is taken to need no less than its weights take to be read, since those of a whole network lie in no cache. What a
    /// step cannot be timed alone counts as a dispatch: it moves little. The host's part is the submission. Takes some seconds.
    ///
    /// # Errors
    /// [`crate::Error::Engine`] from the device, also where it cannot bind a tensor.
    pub async fn tokens_per_second(&self, gpu: &Gpu, costs: &Costs) -> Result<f64> {
        let plan = &self.plan;
        let mut known: BTreeMap<String, f64> = BTreeMap::new();
        let mut seconds = costs.submit_micros * 1e-6;
        for (at, step) in plan.steps.iter().enumerate() {
            let descs: Vec<String> = step.inputs.iter().map(|id| plan.tensor(*id).desc.to_string()).collect();
            let kind = format!("{} {} {}", step.kernel.name(), step.kernel.summary(), descs.join(", "));
            if let Some(seen) = known.get(&kind) {
                seconds += seen;
                continue;
            }
            // A row of a table that is not worth making.
            let timed = match step.kernel.name() {
                "embed" => None,
                _ => alone(gpu, plan, at, |tensor| self.words(tensor)).await?,
            };
            let each = timed.unwrap_or(0.0).max(costs.dispatch_micros * 1e-6).max(self.read(step, costs));
            seconds += each;
            known.insert(kind, each);
        }
        Ok(1.0 / seconds)
    }

    /// Seconds to read what a step multiplies with; nothing where it has no weights.
    fn read(&self, step: &Step, costs: &Costs) -> f64 {
        let of_weights = |id| matches!(self.plan.tensor(id).place, Place::Constant(_));
        if !["dense", "experts"].contains(&step.kernel.name()) || !step.inputs.iter().any(|id| of_weights(*id)) {
            return 0.0;
        }
        self.plan.with_call(step, |call| step.kernel.work(call)).bytes / (costs.read_gbytes * 1e9)
    }

    /// What a tensor of words holds in a run: where the session is, or the numbers of some experts.
    fn words(&self, tensor: &PlanTensor) -> Option<Vec<u32>> {
        if tensor.desc.format != Format::Word {
            return None;
        }
        let position = BEFORE.min(self.context / 2) as u32;
        Some(if tensor.name == CURSOR { vec![position, 1] } else { (0..tensor.desc.len() as u32).collect() })
    }
}
