//! A decoder as a plan: embedding, layers of attention and gated units, head, read from top to bottom.
//!
//! Llama: Touvron et al. 2023. Reference implementation: Hugging Face transformers.

use super::weights::{Tensors, attention_norm, last_norm, mlp_norm, output_bias, qkv_biases};
use crate::Result;
use lampyris_engine::kernels::text::{Attention, CURSOR_WORDS, Dense, Embed, RopeStore, Sample};
use lampyris_engine::kernels::{Desc, Format, HostTensor};
use lampyris_engine::plan::{Maker, TensorId};
use lampyris_engine::{Plan, PlanBuilder};
use std::sync::Arc;

/// What a plan does with the last layer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Head {
    /// Nothing: only the caches are of interest.
    None,
    /// The logits of every token of the run, output `logits [tokens, vocabulary]`.
    Logits,
    /// The likeliest next token, output `token [1]`; it becomes the session's next token. For runs of one token.
    Sample,
}

/// Which plan to make of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanRequest {
    /// Tokens that the session has room for.
    pub context: usize,
    /// Most tokens of a run.
    pub tokens: usize,
    /// What follows the last layer.
    pub head: Head,
}

/// Name of the state that holds a session's tokens, `[context]` words.
pub(super) const TOKENS: &str = "tokens";
/// Name of the state that holds how many tokens are in the cache, and how many a run adds.
pub(super) const CURSOR: &str = "cursor";

/// The plan of a run.
///
/// # Errors
/// [`crate::Error::Engine`] when a kernel refuses a shape.
pub(super) fn plan(tensors: &Tensors, request: PlanRequest) -> Result<Plan> {
    let config = tensors.config();
    let mut builder = PlanBuilder::new();
    let b = &mut builder;
    let tokens = b.state(TOKENS, Desc::new(Format::Word, [request.context]));
    let cursor = b.state(CURSOR, Desc::new(Format::Word, [CURSOR_WORDS]));
    let turns = turns(b, tensors, request.context);
    let table = tensors.constants(b, &tensors.embedding());
    let embed = Embed { m: request.tokens, factor: 1.0 };
    let mut x = b.apply("embed", embed, &[&[tokens, cursor], &table[..]].concat())?;
    let normed = Dense { norm: Some(config.epsilon), ..Dense::default() };
    for layer in 0..config.layers {
        let name = |part: &str| format!("layers.{layer}.{part}");
        let gain = tensors.vector(b, &[attention_norm(layer)], config.hidden);
        let mut inputs = [vec![x], tensors.constants(b, &tensors.qkv(layer)), vec![gain]].concat();
        let width = (config.query_heads + 2 * config.key_heads) * config.head;
        if config.qkv_bias {
            inputs.push(tensors.vector(b, &qkv_biases(layer), width));
        }
        let qkv = b.apply(name("qkv"), Dense { bias: config.qkv_bias, ..normed }, &inputs)?;

        let (query_heads, key_heads, head) = (config.query_heads, config.key_heads, config.head);
        let cache = Desc::f32([request.context, key_heads * head]);
        let [keys, values] = ["keys", "values"].map(|part| b.state(name(part), cache.clone()));
        let rope = RopeStore { query_heads, key_heads, head };
        let queries = b.apply(name("rope"), rope, &[qkv, turns, cursor, keys, values])?;
        let scale = 1.0 / (head as f32).sqrt();
        let attention = Attention { query_heads, key_heads, head, scale, window: config.window, softcap: None };
        let attended = b.apply(name("attention"), attention, &[queries, keys, values, cursor])?;

        let mut inputs = [vec![attended], tensors.constants(b, &tensors.output(layer))].concat();
        if config.output_bias {
            inputs.push(tensors.vector(b, &[output_bias(layer)], config.hidden));
        }
        inputs.push(x);
        let output = Dense { bias: config.output_bias, residual: true, ..Dense::default() };
        x = b.apply(name("output"), output, &inputs)?;

        let gain = tensors.vector(b, &[mlp_norm(layer)], config.hidden);
        let inputs = [vec![x], tensors.constants(b, &tensors.gate_up(layer)), vec![gain]].concat();
        let gated = Dense { gated: Some(config.intermediate), unit: config.unit, ..normed };
        let units = b.apply(name("gate_up"), gated, &inputs)?;
        let inputs = [vec![units], tensors.constants(b, &tensors.down(layer)), vec![x]].concat();
        x = b.apply(name("down"), Dense { residual: true, ..Dense::default() }, &inputs)?;
    }
    if request.head != Head::None {
        let gain = tensors.vector(b, &[last_norm()], config.hidden);
        let inputs = [vec![x], tensors.constants(b, &tensors.head()), vec![gain]].concat();
        let logits = b.apply("head", normed, &inputs)?;
        match request.head {
            Head::Sample => {
                let token = b.apply("sample", Sample, &[logits, tokens, cursor])?;
                b.output("token", token);
            }
            _ => b.output("logits", logits),
        }
    }
    Ok(builder.finish())
}

/// The cosines and sines of every position.
fn turns(builder: &mut PlanBuilder, tensors: &Tensors, context: usize) -> TensorId {
    let (rope, head) = (tensors.config().rope.clone(), tensors.config().head);
    let desc = Desc::f32([context, head]);
    let made = desc.clone();
    let make: Maker = Arc::new(move || Ok(HostTensor::from_values(made.clone(), &rope.turns(context, head))));
    builder.constant("turns", desc, make)
}
