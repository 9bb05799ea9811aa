//! What a session will take, known from the plans before anything is allocated.

use super::driven::CURSORS;
use super::network::TURNS;
use super::{Decoder, Mixture, SessionOptions};
use crate::Result;
use lampyris_engine::Plan;
use lampyris_engine::gpu::Course;
use lampyris_engine::plan::{Place, PlanBytes, TensorId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a session with a [`Decoder`] takes on the device, in bytes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Needs {
    /// Tokens it has room for.
    pub context: usize,
    /// Weights, shared by all sessions with the model.
    pub weights: u64,
    /// Of these the tables of angles, which grow with the context and are the same in whatever format the file has its weights.
    pub angles: u64,
    /// Its cache, and its tokens.
    pub cache: u64,
    /// What runs compute, and their parameters. Steps of a prompt that [`SessionOptions::submit_budget`] cuts take 256 bytes a piece more,
    /// and stay whole where the device's budget has no room for it.
    pub work: u64,
    /// The buffers of the ticks that run the session, as far as [`Needs::driven()`] was asked for them.
    pub driven: u64,
    /// Where the pieces begin that those ticks cut long steps into, likewise; the most that it may be.
    pub cut: u64,
    /// The largest tensor: its name and its bytes. It has to fit a binding.
    pub largest: (String, u64),
    /// Weights that are read for one token; of experts, as many as are chosen for it.
    pub read_per_token: u64,
    /// The plan of one token.
    pub plan: Arc<Plan>,
    /// What [`Needs::driven()`] adds.
    ticks: PlanBytes,
}

impl Needs {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.work + self.driven + self.cut
    }

    /// With what a session takes that is driven: by [`Session::driven`](super::Session::driven), or a text's.
    #[must_use]
    pub fn driven(mut self) -> Needs {
        (self.driven, self.cut) = (self.ticks.activations, self.ticks.params);
        self
    }
}

impl From<&Needs> for PlanBytes {
    fn from(needs: &Needs) -> PlanBytes {
        let activations = needs.work + needs.driven;
        PlanBytes { weights: needs.weights, activations, states: needs.cache, params: needs.cut }
    }
}

impl Decoder {
    /// What a session with `options` will take; nothing is allocated on the device. Where `options` name no chunk, it is the largest for
    /// which the budget has room at this moment, up to 40 MiB of work; with `chunk(32)` a session needs least, whatever else is loaded.
    ///
    /// # Errors
    /// [`Error::Room`](crate::Error::Room) when the model was not made for so many tokens;
    /// [`Error::Engine`](crate::Error::Engine) when the cache cannot be stored as `options` ask.
    pub fn needs(&self, options: impl Into<SessionOptions>) -> Result<Needs> {
        let (gpu, options) = (self.gpu().current(), options.into());
        let context = self.room(&options)?;
        let (_, plans) = self.settled(&gpu, options, (1, 0))?;
        let (mut weights, mut states, mut work) = (BTreeMap::new(), BTreeMap::new(), 0);
        let mut largest = (String::new(), 0);
        for plan in plans.all() {
            weights.extend(plan.constants.iter().map(|it| (it.name.clone(), it.desc.bytes())));
            states.extend(plan.states.iter().map(|it| (it.name.clone(), it.desc.bytes())));
            let bytes = plan.bytes();
            work += bytes.activations + bytes.params;
            for tensor in &plan.tensors {
                if tensor.desc.bytes() > largest.1 {
                    largest = (tensor.name.clone(), tensor.desc.bytes());
                }
            }
        }
        // A course has what draws a token or what takes the likeliest.
        let course = |chooses: &Arc<Plan>| {
            let plans = plans.prompts.iter().chain([chooses]).map(|plan| &**plan);
            Course::bytes(plans, context + CURSORS)
        };
        let [likeliest, drawn] = [&plans.decode, &plans.draw].map(course);
        let ticks = PlanBytes {
            activations: likeliest.activations.max(drawn.activations),
            params: likeliest.params.max(drawn.params),
            ..PlanBytes::default()
        };
        let decode = plans.decode;
        let angles = weights.iter().filter(|(name, _)| name.starts_with(TURNS)).map(|(_, bytes)| *bytes).sum();
        Ok(Needs {
            context,
            angles,
            weights: weights.into_values().sum(),
            cache: states.into_values().sum(),
            work,
            driven: 0,
            cut: 0,
            largest,
            read_per_token: read_per_token(&decode, self.config().mixture.as_ref()),
            plan: decode,
            ticks,
        })
    }
}

/// Bytes of the constants that a run of one token reads whole: all but the table of embeddings and the angles of positions, of
/// which it reads a row. Of a layer's experts it reads those that are chosen.
fn read_per_token(plan: &Plan, mixture: Option<&Mixture>) -> u64 {
    let share = mixture.map_or((1, 1), |mixture| (mixture.chosen as u64, mixture.experts as u64));
    let mut read: BTreeMap<TensorId, u64> = BTreeMap::new();
    for step in plan.steps.iter().filter(|step| !["embed", "rope_store"].contains(&step.kernel.name())) {
        let constant = |id: &&TensorId| matches!(plan.tensor(**id).place, Place::Constant(_));
        let (chosen, of) = if step.kernel.name() == "experts" { share } else { (1, 1) };
        let bytes = |id: TensorId| plan.tensor(id).desc.bytes() * chosen / of;
        read.extend(step.inputs.iter().filter(constant).map(|id| (*id, bytes(*id))));
    }
    read.into_values().sum()
}
