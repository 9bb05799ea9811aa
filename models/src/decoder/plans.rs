//! The plans of a session: which there are, how many tokens of a prompt their runs take, and whether a device has room for them.

use super::network::{Head, PlanRequest};
use super::{Decoder, SessionOptions, chunks};
use crate::{Error, Result};
use lampyris_engine::plan::{Constant, PlanBytes};
use lampyris_engine::{Gpu, Plan};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whether a smaller plan might have had the memory that one was refused.
pub(super) fn is_memory(error: &Error) -> bool {
    use lampyris_engine::Error::{Budget, OutOfMemory};
    matches!(error, Error::Engine(Budget { .. } | OutOfMemory { .. }))
}

/// The plans of a session.
#[derive(Debug)]
pub(super) struct SessionPlans {
    /// Of a prompt's chunks, the smallest first.
    pub(super) prompts: Vec<Arc<Plan>>,
    /// Of a token that is the likeliest.
    pub(super) decode: Arc<Plan>,
    /// Of a token that is drawn, with which a session does not begin.
    pub(super) draw: Arc<Plan>,
}

impl SessionPlans {
    /// Those with which a session begins.
    fn first(&self) -> impl Iterator<Item = &Plan> {
        self.prompts.iter().chain([&self.decode]).map(|plan| &**plan)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Plan> {
        self.first().chain([&*self.draw])
    }
}

impl Decoder {
    /// The plan of runs of `tokens` in a session with room for `context`.
    pub(super) fn plan_of(
        &self,
        context: usize,
        options: &SessionOptions,
        tokens: usize,
        head: Head,
    ) -> Result<Arc<Plan>> {
        let SessionOptions { cache, products, .. } = *options;
        self.plan(PlanRequest { context, cache, tokens, head, products: self.products(tokens, products) })
    }

    /// The plans of a session with room for `context`, with small runs of a prompt alone unless `options` ask for larger ones.
    pub(super) fn plans(&self, context: usize, options: &SessionOptions) -> Result<SessionPlans> {
        let plan = |tokens: usize, head: Head| self.plan_of(context, options, tokens, head);
        let sizes = chunks::sizes(options.chunk.unwrap_or(Decoder::CHUNK), context);
        let prompts = sizes.into_iter().map(|tokens| plan(tokens, Head::None)).collect::<Result<_>>()?;
        Ok(SessionPlans { prompts, decode: plan(1, Head::Sample)?, draw: plan(1, Head::Draw)? })
    }

    /// `options` with a context and a chunk, and the plans of each of so many sessions with them on `gpu`, of which `there` have their memory.
    pub(super) fn settled(
        &self,
        gpu: &Gpu,
        options: SessionOptions,
        (sessions, there): (u64, u64),
    ) -> Result<(SessionOptions, SessionPlans)> {
        self.settled_by(options, (chunks::usual(gpu.summary().kind), sessions), |plans| {
            // A larger chunk must not take the room of what draws a token, which comes later.
            self.check_room(gpu, plans, plans.all(), sessions - there)
        })
    }

    /// The options of a session that is there, for another beside it: with the smallest chunk where the budget has no room for a larger one.
    pub(super) fn settled_beside(&self, gpu: &Gpu, options: SessionOptions) -> Result<SessionOptions> {
        let plans = self.plans(self.room(&options)?, &options)?;
        match self.check_room(gpu, &plans, plans.all(), 1) {
            Err(error) if is_memory(&error) => Ok(options.chunk(Decoder::CHUNK)),
            checked => checked.map(|()| options),
        }
    }

    /// [`Decoder::settled`], where no chunk is asked for with `usual`, or as much of it as `sessions` together may compute at once, or the
    /// smallest where `room` refuses more for the budget's sake.
    fn settled_by(
        &self,
        options: SessionOptions,
        (usual, sessions): (usize, u64),
        room: impl Fn(&SessionPlans) -> Result<()>,
    ) -> Result<(SessionOptions, SessionPlans)> {
        let context = self.room(&options)?;
        let with = |chunk: usize| {
            let options = SessionOptions { context: Some(context), chunk: Some(chunk), ..options };
            Ok::<_, Error>((options, self.plans(context, &options)?))
        };
        if let Some(chunk) = options.chunk {
            return with(chunk.clamp(Decoder::CHUNK, SessionOptions::LARGEST_CHUNK));
        }
        let mut chunk = usual.min(context);
        while chunk > Decoder::CHUNK {
            let (options, plans) = with(chunk)?;
            let larger = plans.prompts.iter().skip(1).map(|plan| plan.bytes().activations);
            if larger.sum::<u64>().saturating_mul(sessions) > chunks::MOST_BYTES {
                chunk /= 2;
                continue;
            }
            match room(&plans) {
                Err(Error::Engine(lampyris_engine::Error::Budget { .. })) => break,
                checked => checked?,
            }
            return Ok((options, plans));
        }
        with(Decoder::CHUNK)
    }

    /// Refuses the plans that a session begins with, and its states, for which the budget leaves no room.
    pub(super) fn check_budget(&self, gpu: &Gpu, plans: &SessionPlans) -> Result<()> {
        self.check_room(gpu, plans, plans.first(), 1)
    }

    /// As [`Decoder::check_budget`], of `some` of the plans of each of so many `sessions`.
    fn check_room<'a>(
        &self,
        gpu: &Gpu,
        plans: &SessionPlans,
        some: impl Iterator<Item = &'a Plan>,
        sessions: u64,
    ) -> Result<()> {
        if gpu.is_cpu_executor() {
            return Ok(());
        }
        let mut wanted = PlanBytes::default();
        let mut constants = BTreeMap::new();
        for plan in some {
            let bytes = plan.bytes();
            wanted.activations += bytes.activations;
            wanted.params += bytes.params;
            constants.extend(plan.constants.iter().map(|it| (it.name.clone(), it.clone())));
        }
        let states = plans.all().flat_map(|plan| &plan.states);
        let states: BTreeMap<String, u64> = states.map(|it| (it.name.clone(), it.desc.bytes().max(4))).collect();
        let constants: Vec<Constant> = constants.into_values().collect();
        wanted.weights = self.missing(gpu, &constants);
        wanted.states = states.into_values().sum();
        for each in [&mut wanted.activations, &mut wanted.params, &mut wanted.states] {
            *each = each.saturating_mul(sessions);
        }
        Ok(gpu.check_budget(wanted)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::DecoderFiles;
    use super::*;
    use lampyris_engine::weights::{TensorFile, Weights};

    /// A model of few columns and so many units, of noughts, with which nothing is run.
    fn model(units: usize) -> Decoder {
        let config = serde_json::json!({"model_type": "llama", "hidden_size": 8, "intermediate_size": units,
            "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 11, "max_position_embeddings": 4096,
            "tie_word_embeddings": true});
        let (mut header, mut end) = (serde_json::Map::new(), 0);
        let mut add = |name: String, shape: &[usize]| {
            let begin = end;
            end += 4 * shape.iter().product::<usize>();
            let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]});
            header.insert(format!("model.{name}.weight"), entry);
        };
        add("embed_tokens".into(), &[11, 8]);
        add("norm".into(), &[8]);
        for layer in 0..2 {
            for part in ["q", "k", "v", "o"] {
                add(format!("layers.{layer}.self_attn.{part}_proj"), &[8, 8]);
            }
            for part in ["gate", "up"] {
                add(format!("layers.{layer}.mlp.{part}_proj"), &[units, 8]);
            }
            add(format!("layers.{layer}.mlp.down_proj"), &[8, units]);
            for part in ["input", "post_attention"] {
                add(format!("layers.{layer}.{part}_layernorm"), &[8]);
            }
        }
        let header = serde_json::to_vec(&header).unwrap();
        let file = [&(header.len() as u64).to_le_bytes()[..], &header, &vec![0; end]].concat();
        let weights = TensorFile::from(Weights::from_bytes("noughts", file).unwrap());
        let config = Some(serde_json::to_vec(&config).unwrap());
        Decoder::new(&Gpu::cpu_executor(), DecoderFiles { weights, config }).unwrap()
    }

    fn refused() -> Error {
        let engine =
            lampyris_engine::Error::Budget { needed: 2, weights: 0, activations: 2, states: 0, held: 0, budget: 1 };
        Error::Engine(engine)
    }

    #[test]
    fn runs_are_as_large_as_usual_while_they_compute_little() {
        let among = |units: usize, options: SessionOptions, sessions: u64| {
            let (options, plans) = model(units).settled_by(options, (512, sessions), |_| Ok(())).unwrap();
            let tokens = |plan: &Arc<Plan>| plan.tensor(plan.steps[0].outputs[0]).desc.rows();
            (options.chunk.unwrap(), plans.prompts.iter().map(tokens).collect::<Vec<_>>())
        };
        let chunk = |units: usize, options: SessionOptions| among(units, options, 1);
        let usual = SessionOptions::default();
        assert_eq!(chunk(16, usual), (512, vec![32, 128, 512]));
        // 512 and 128 tokens of 20,000 units are 51 MB in f32, and half of both 26.
        assert_eq!(chunk(20_000, usual), (256, vec![32, 64, 256]));
        assert_eq!(chunk(200_000, usual), (32, vec![32]));
        assert_eq!(chunk(20_000, usual.chunk(512)), (512, vec![32, 128, 512]), "asked for");
        // Sessions that go on together have no more between them.
        assert_eq!(among(20_000, usual, 2), (128, vec![32, 128]));
        assert_eq!(among(20_000, usual, 8), (64, vec![32, 64]));
        assert_eq!(among(20_000, usual, 9), (32, vec![32]));
        assert_eq!(among(16, usual, 8), (512, vec![32, 128, 512]));
        assert_eq!(among(20_000, usual.chunk(512), 8), (512, vec![32, 128, 512]), "asked for");
        assert_eq!(chunk(16, usual.context(300)), (300, vec![32, 75, 300]));
        assert_eq!(chunk(16, usual.context(20)), (32, vec![20]));
        assert_eq!(chunk(16, usual.chunk(1)), (32, vec![32]));
        assert_eq!(chunk(16, usual.chunk(9999)), (512, vec![32, 128, 512]));
    }

    #[test]
    fn a_budget_without_room_for_large_runs_makes_them_small_unless_they_were_asked_for() {
        let model = model(16);
        // There is room for one plan of a prompt.
        let room = |plans: &SessionPlans| if plans.prompts.len() > 1 { Err(refused()) } else { Ok(()) };
        let chunk = |options: SessionOptions| model.settled_by(options, (512, 1), room).unwrap().0.chunk;
        assert_eq!(chunk(SessionOptions::default()), Some(32));
        // Whoever asks is told the figures by the check that comes before anything is allocated.
        assert_eq!(chunk(SessionOptions::default().chunk(128)), Some(128));
        let other = |_: &SessionPlans| Err(Error::NotReady);
        assert!(matches!(model.settled_by(SessionOptions::default(), (512, 1), other), Err(Error::NotReady)));
    }
}
