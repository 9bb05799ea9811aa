//! The stable text form of a plan: what `inspect --plan` prints and the golden tests hold still.

use super::{Place, Plan, TensorId};
use std::fmt;

impl Plan {
    fn place(&self, id: TensorId) -> String {
        let tensor = self.tensor(id);
        match tensor.place {
            Place::Input(_) => format!("{}:{}", tensor.name, tensor.desc),
            Place::Constant(_) => format!("[{}]", tensor.desc),
            Place::State(_) => format!("<{}:{}>", tensor.name, tensor.desc),
            Place::Slot(slot) => format!("s{slot}:{}", tensor.desc),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        writeln!(
            f,
            "plan: {} steps, {} slots, {} bytes of weights, {} bytes of activations",
            self.steps.len(),
            self.slots.len(),
            bytes.weights,
            bytes.activations
        )?;
        for (i, step) in self.steps.iter().enumerate() {
            let inputs: Vec<String> = step.inputs.iter().map(|id| self.place(*id)).collect();
            let outputs: Vec<String> = step.outputs.iter().map(|id| self.place(*id)).collect();
            let summary = step.kernel.summary();
            writeln!(
                f,
                "{i:3} {} = {}({}) {} -> {}",
                step.name,
                step.kernel.name(),
                summary,
                inputs.join(", "),
                outputs.join(", ")
            )?;
        }
        for (name, id) in &self.outputs {
            writeln!(f, "output {name} = {}", self.place(*id))?;
        }
        for (slot, bytes) in self.slots.iter().enumerate() {
            writeln!(f, "slot s{slot} {bytes} bytes")?;
        }
        Ok(())
    }
}
