//! A decoder as a plan: embedding, layers of attention and gated units, head, read from top to bottom.
//!
//! Llama: Touvron et al. 2023. Reference implementation: Hugging Face transformers.

use super::DecoderConfig;
use super::matrix::Matrix;
use super::names::Part;
use super::weights::Tensors;
use crate::Result;
use lampyris_engine::kernels::text::{Attention, CURSOR_WORDS, Dense, Draw, DrawSettings, Embed, RopeStore, Sample};
use lampyris_engine::kernels::{self, Desc, Format, HostTensor};
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
    /// A token drawn as the state `sampling` says, outputs `token [1]` and `log_probability [1]`; it becomes the session's next
    /// token. For runs of one token.
    Draw,
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
/// Name of the state that holds how tokens are drawn, the words of [`DrawSettings`].
pub(super) const SAMPLING: &str = "sampling";

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
    let table = tensors.constants(b, &tensors.embedding());
    let embed = Embed { m: request.tokens, factor: config.embedding_factor };
    let mut x = b.apply("embed", embed, &[&[tokens, cursor], &table[..]].concat())?;
    for layer in 0..config.layers {
        x = attention(b, tensors, request.context, layer, x)?;
        x = units(b, tensors, layer, x)?;
    }
    if request.head != Head::None {
        let inputs = [vec![x], tensors.constants(b, &tensors.head()), vec![tensors.last_gain(b)]].concat();
        let head = Dense { norm: Some(config.epsilon), softcap: config.logit_cap, ..Dense::default() };
        let logits = b.apply("head", head, &inputs)?;
        match request.head {
            Head::Sample => {
                let token = b.apply("sample", Sample, &[logits, tokens, cursor])?;
                b.output("token", token);
            }
            Head::Draw => {
                let settings = b.state(SAMPLING, Desc::new(Format::Word, [DrawSettings::WORDS]));
                let made = b.apply_all("draw", Draw, &[logits, tokens, cursor, settings])?;
                b.output("token", made[0]);
                b.output("log_probability", made[3]);
            }
            _ => b.output("logits", logits),
        }
    }
    Ok(builder.finish())
}

/// A layer's attention, added to `x`.
fn attention(b: &mut PlanBuilder, tensors: &Tensors, context: usize, layer: usize, x: TensorId) -> Result<TensorId> {
    let config = tensors.config();
    let name = |part: &str| format!("layers.{layer}.{part}");
    let cursor = b.state(CURSOR, Desc::new(Format::Word, [CURSOR_WORDS]));
    let gain = tensors.gain(b, layer, Part::AttentionNorm);
    let dense = Dense { norm: Some(config.epsilon), bias: config.qkv_bias, ..Dense::default() };
    let mut made = Vec::new();
    for matrix in tensors.qkv_parts(layer) {
        let mut inputs = [vec![x], tensors.constants(b, &matrix), vec![gain]].concat();
        inputs.extend(config.qkv_bias.then(|| tensors.bias(b, &matrix)));
        made.push(b.apply(matrix.name.as_str(), dense, &inputs)?);
    }

    let (query_heads, key_heads, head) = (config.query_heads, config.key_heads, config.head);
    let cache = Desc::f32([context, key_heads * head]);
    let [keys, values] = ["keys", "values"].map(|part| b.state(name(part), cache.clone()));
    let window = config.windows[layer];
    let mut inputs = vec![made[0], turns(b, config, context, window.is_some()), cursor, keys, values];
    inputs.extend(config.head_norm.then(|| tensors.head_gains(b, layer)));
    inputs.extend(made.get(1));
    let norm = config.head_norm.then_some(config.epsilon);
    let rope = RopeStore { query_heads, key_heads, head, norm, apart: made.len() == 2 };
    let queries = b.apply(name("rope"), rope, &inputs)?;
    let (scale, softcap) = (config.score_factor, config.score_cap);
    let attention = Attention { query_heads, key_heads, head, scale, window, softcap };
    let attended = b.apply(name("attention"), attention, &[queries, keys, values, cursor])?;
    let (after, bias) = (Part::AfterAttention, config.output_bias);
    project(b, tensors, &tensors.output(layer), (layer, after, bias), [attended, x])
}

/// A layer's gated units, added to `x`.
fn units(b: &mut PlanBuilder, tensors: &Tensors, layer: usize, x: TensorId) -> Result<TensorId> {
    let config = tensors.config();
    let matrix = tensors.gate_up(layer);
    let mut inputs = [vec![x], tensors.constants(b, &matrix), vec![tensors.gain(b, layer, Part::UnitsNorm)]].concat();
    inputs.extend(config.mlp_bias.then(|| tensors.bias(b, &matrix)));
    let gated = Dense {
        norm: Some(config.epsilon),
        bias: config.mlp_bias,
        gated: Some(config.intermediate),
        unit: config.unit,
        ..Dense::default()
    };
    let units = b.apply(format!("layers.{layer}.gate_up"), gated, &inputs)?;
    project(b, tensors, &tensors.down(layer), (layer, Part::AfterUnits, config.mlp_bias), [units, x])
}

/// What a block gives, back in the columns of the residual stream, normalized where the model does so, and added to it.
fn project(
    b: &mut PlanBuilder,
    tensors: &Tensors,
    matrix: &Matrix,
    (layer, after, bias): (usize, Part, bool),
    [block, x]: [TensorId; 2],
) -> Result<TensorId> {
    let config = tensors.config();
    let mut inputs = [vec![block], tensors.constants(b, matrix)].concat();
    inputs.extend(bias.then(|| tensors.bias(b, matrix)));
    inputs.extend((!config.post_norm).then_some(x));
    let dense = Dense { bias, residual: !config.post_norm, ..Dense::default() };
    let made = b.apply(matrix.name.as_str(), dense, &inputs)?;
    if !config.post_norm {
        return Ok(made);
    }
    let norm = kernels::text::Norm { epsilon: config.epsilon, centered: false, bias: false, residual: true };
    let gain = tensors.gain(b, layer, after);
    Ok(b.apply(format!("{}.norm", matrix.name), norm, &[made, gain, x])?)
}

/// The cosines and sines of every position.
fn turns(builder: &mut PlanBuilder, config: &DecoderConfig, context: usize, local: bool) -> TensorId {
    let (rope, head) = (if local { &config.local_rope } else { &config.rope }.clone(), config.head);
    let desc = Desc::f32([context, head]);
    let made = desc.clone();
    let make: Maker = Arc::new(move || Ok(HostTensor::from_values(made.clone(), &rope.turns(context, head))));
    builder.constant(if local { "turns.local" } else { "turns" }, desc, make)
}
