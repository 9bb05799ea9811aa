//! A decoder as a plan: embedding, layers of attention and gated units, head, read from top to bottom.
//!
//! Llama: Touvron et al. 2023. Reference implementation: Hugging Face transformers.

use super::matrix::Matrix;
use super::names::Part;
use super::weights::Tensors;
use super::{CacheFormat, DecoderConfig, Products, mixture};
use crate::Result;
use lampyris_engine::kernels::elementwise::{Binary, Concat, Operation};
use lampyris_engine::kernels::text::{
    Attention, AttentionJoin, CURSOR_WORDS, Dense, Draw, DrawSettings, Embed, Norm, Quantize, RopeStore, Sample, Unit,
};
use lampyris_engine::kernels::{Caps, Desc, Format, HostTensor};
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
    /// How the session's keys and values are stored.
    pub cache: CacheFormat,
    /// Most tokens of a run.
    pub tokens: usize,
    /// What follows the last layer.
    pub head: Head,
    /// How tokens are multiplied with the matrices.
    pub products: Products,
}

/// Name of the state that holds a session's tokens, `[context]` words.
pub(super) const TOKENS: &str = "tokens";
/// Name of the state that holds how many tokens are in the cache, and how many a run adds.
pub(super) const CURSOR: &str = "cursor";
/// What the names of the constants that turn positions begin with.
pub(super) const TURNS: &str = "turns";
/// Name of the state that holds how tokens are drawn, the words of [`DrawSettings`].
pub(super) const SAMPLING: &str = "sampling";

/// The plan of a run. Matrices are cut by rows, and the experts of a layer apart, so that none of their tensors takes more than `limit`
/// bytes; attention is cut in parts where an adapter of `caps` asks for it.
///
/// # Errors
/// [`crate::Error::Engine`] when a kernel refuses a shape.
pub(super) fn plan(tensors: &Tensors, request: PlanRequest, limit: u64, caps: &Caps) -> Result<Plan> {
    let mut builder = PlanBuilder::new();
    let b = &mut builder;
    let cut = Cut { tensors, limit, caps, tokens: request.tokens, products: request.products };
    let Some(mut x) = embedding(b, cut, request.context, (request.tokens, ""))? else { return Ok(builder.finish()) };
    for layer in 0..tensors.config().layers {
        x = attention(b, cut, request, layer, x)?;
        x = after(b, cut, layer, x)?;
    }
    if request.head != Head::None {
        let logits = logits(b, cut, x)?;
        choice(b, request.head, logits, (request.context, ""))?;
    }
    Ok(builder.finish())
}

/// The embeddings of a session's tokens from its position on, up to `m` of them. The session's states have `whose` before their names.
pub(super) fn embedding(
    b: &mut PlanBuilder,
    Cut { tensors, limit, .. }: Cut<'_>,
    context: usize,
    (m, whose): (usize, &str),
) -> Result<Option<TensorId>> {
    let [tokens, cursor] = tokens_and_cursor(b, context, whose);
    let (mut embedded, mut first) = (None, 0);
    for part in tensors.parts(&tensors.embedding(), limit) {
        let inputs = [&[tokens, cursor], &tensors.constants(b, &part)[..], embedded.as_slice()].concat();
        let embed = Embed { m, factor: tensors.config().embedding_factor, first };
        let name = if first == 0 { format!("{whose}embed") } else { format!("{whose}embed.{first}") };
        embedded = Some(b.apply(name, embed, &inputs)?);
        first += part.height();
    }
    Ok(embedded)
}

/// A session's tokens and its position.
fn tokens_and_cursor(b: &mut PlanBuilder, context: usize, whose: &str) -> [TensorId; 2] {
    let tokens = b.state(format!("{whose}{TOKENS}"), Desc::new(Format::Word, [context]));
    [tokens, b.state(format!("{whose}{CURSOR}"), Desc::new(Format::Word, [CURSOR_WORDS]))]
}

/// What follows a layer's attention, added to `x`: gated units, or those of experts.
pub(super) fn after(b: &mut PlanBuilder, cut: Cut<'_>, layer: usize, x: TensorId) -> Result<TensorId> {
    match cut.tensors.mixture(layer) {
        Some(mixture) => mixture::experts(b, cut, layer, mixture, x),
        None => units(b, cut, layer, x),
    }
}

/// The logits of each row of `x`.
pub(super) fn logits(b: &mut PlanBuilder, cut: Cut<'_>, x: TensorId) -> Result<TensorId> {
    let config = cut.tensors.config();
    let (matrix, norm) = (cut.tensors.head(), Some((config.epsilon, cut.tensors.last_gain(b))));
    let (x, norm) = cut.input(b, &[Matrix { name: "head".to_owned(), ..matrix.clone() }], (x, norm))?;
    let head = Dense { softcap: config.logit_cap, ..Dense::default() };
    cut.dense(b, "head", &matrix, head, (x, norm, None))
}

/// What becomes of the logits of a session, whose states have `whose` before their names: outputs, and its next token.
pub(super) fn choice(b: &mut PlanBuilder, head: Head, logits: TensorId, (context, whose): (usize, &str)) -> Result<()> {
    let [tokens, cursor] = tokens_and_cursor(b, context, whose);
    match head {
        Head::Sample => {
            let token = b.apply(format!("{whose}sample"), Sample, &[logits, tokens, cursor])?;
            b.output(format!("{whose}token"), token);
        }
        Head::Draw => {
            let settings = b.state(format!("{whose}{SAMPLING}"), Desc::new(Format::Word, [DrawSettings::WORDS]));
            let made = b.apply_all(format!("{whose}draw"), Draw, &[logits, tokens, cursor, settings])?;
            b.output(format!("{whose}token"), made[0]);
            b.output(format!("{whose}log_probability"), made[3]);
        }
        _ => b.output(format!("{whose}logits"), logits),
    }
    Ok(())
}

/// The tensors of a network, and the bytes that none of them may exceed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut<'a> {
    pub(super) tensors: &'a Tensors,
    pub(super) limit: u64,
    pub(super) caps: &'a Caps,
    /// Rows that a run has of everything.
    pub(super) tokens: usize,
    pub(super) products: Products,
}

/// Tokens of a run from which on a norm is a step of its own; for fewer, its gain is cheaper to read once a workgroup than to wait for.
const NORMED_APART: usize = 8;

impl Cut<'_> {
    /// Whether `matrices` are multiplied with bytes.
    pub(super) fn packs<'m>(self, matrices: impl IntoIterator<Item = &'m Matrix>) -> bool {
        self.products == Products::Packed && matrices.into_iter().all(|matrix| self.tensors.is_bytes(matrix))
    }

    /// What `matrices` multiply: `x` itself with its norm, or, for several tokens, what a step makes of it for all their rows, as
    /// bytes where products are packed.
    fn input(
        self,
        b: &mut PlanBuilder,
        matrices: &[Matrix],
        (x, norm): (TensorId, Option<(f32, TensorId)>),
    ) -> Result<(TensorId, Option<(f32, TensorId)>)> {
        let Some(first) = matrices.first() else { return Ok((x, norm)) };
        let name = format!("{}.input", first.name);
        if self.packs(matrices) {
            return Ok((bytes(b, name, (x, norm))?, None));
        }
        match norm {
            Some((epsilon, gain)) if self.tokens >= NORMED_APART => {
                let apart = Norm { epsilon, centered: false, bias: false, residual: false };
                Ok((b.apply(name, apart, &[x, gain])?, None))
            }
            _ => Ok((x, norm)),
        }
    }

    /// `kernel` with a matrix, of `x` with its norm and a residual. Where a tensor of the matrix is too large, its parts'
    /// results are joined, and the residual is added to these.
    fn dense(
        self,
        b: &mut PlanBuilder,
        name: &str,
        matrix: &Matrix,
        kernel: Dense,
        (x, norm, residual): (TensorId, Option<(f32, TensorId)>, Option<TensorId>),
    ) -> Result<TensorId> {
        let (norm, gain) = (norm.map(|(epsilon, _)| epsilon), norm.map(|(_, gain)| gain));
        let parts = self.tensors.parts(matrix, self.limit);
        let whole = parts.len() == 1;
        let mut joined: Option<TensorId> = None;
        for (at, part) in parts.iter().enumerate() {
            let mut inputs = [vec![x], self.tensors.constants(b, part)].concat();
            inputs.extend(gain);
            inputs.extend(kernel.bias.then(|| self.tensors.bias(b, part)));
            inputs.extend(residual.filter(|_| whole));
            let gated = kernel.gated.map(|_| part.units());
            let half = self.products == Products::Half && self.tensors.is_bytes(part);
            let kernel = Dense { norm, residual: residual.is_some() && whole, gated, half, ..kernel };
            let made = b.apply(if whole { name.to_owned() } else { format!("{name}.{at}") }, kernel, &inputs)?;
            joined = Some(match joined {
                None => made,
                Some(before) => b.apply(format!("{name}.{at}.joined"), Concat { axis: 1 }, &[before, made])?,
            });
        }
        let made = joined.unwrap_or(x);
        match residual.filter(|_| !whole) {
            None => Ok(made),
            Some(residual) => {
                Ok(b.apply(format!("{name}.added"), Binary { operation: Operation::Add }, &[made, residual])?)
            }
        }
    }
}

/// `x` with its norm in bytes.
pub(super) fn bytes(
    b: &mut PlanBuilder,
    name: String,
    (x, norm): (TensorId, Option<(f32, TensorId)>),
) -> Result<TensorId> {
    let inputs = [&[x][..], norm.map(|(_, gain)| gain).as_slice()].concat();
    Ok(b.apply(name, Quantize { norm: norm.map(|(epsilon, _)| epsilon) }, &inputs)?)
}

/// A layer's attention, added to `x`.
fn attention(b: &mut PlanBuilder, cut: Cut<'_>, request: PlanRequest, layer: usize, x: TensorId) -> Result<TensorId> {
    let made = queries_keys_values(b, cut, layer, x)?;
    let attended = attend(b, cut, (request.context, request.cache), (layer, ""), &made)?;
    after_attention(b, cut, layer, [attended, x])
}

/// A layer's queries, keys and values of `x`, in one tensor or, where the file stores them unlike, the values in a second. Keys that are
/// stored unlike queries have a matrix of their own, whose results are put beside these.
pub(super) fn queries_keys_values(
    b: &mut PlanBuilder,
    cut: Cut<'_>,
    layer: usize,
    x: TensorId,
) -> Result<Vec<TensorId>> {
    let (tensors, config) = (cut.tensors, cut.tensors.config());
    let norm = Some((config.epsilon, tensors.gain(b, layer, Part::AttentionNorm)));
    let parts = tensors.qkv_parts(layer);
    let (normed, norm) = cut.input(b, &parts, (x, norm))?;
    let dense = Dense { bias: config.qkv_bias, ..Dense::default() };
    let mut made = Vec::new();
    for matrix in &parts {
        made.push(cut.dense(b, &matrix.name, matrix, dense, (normed, norm, None))?);
    }
    if parts.len() > 1 && parts[0].pieces.len() == 1 {
        let keys = made.remove(1);
        made[0] = b.apply(format!("{}.joined", parts[1].name), Concat { axis: 1 }, &[made[0], keys])?;
    }
    Ok(made)
}

/// What a layer's queries find in the cache of a session, in which its keys and values are put. The session's states have `whose`
/// before their names.
pub(super) fn attend(
    b: &mut PlanBuilder,
    cut: Cut<'_>,
    (context, cache): (usize, CacheFormat),
    (layer, whose): (usize, &str),
    made: &[TensorId],
) -> Result<TensorId> {
    let (tensors, config) = (cut.tensors, cut.tensors.config());
    let name = |part: &str| format!("{whose}layers.{layer}.{part}");
    let cursor = b.state(format!("{whose}{CURSOR}"), Desc::new(Format::Word, [CURSOR_WORDS]));
    let (query_heads, key_heads, head) = (config.query_heads, config.key_heads, config.head);
    let cache = Desc::new(cache.format(), [context, key_heads, head]);
    let [keys, values] = ["keys", "values"].map(|part| b.state(name(part), cache.clone()));
    let window = config.windows[layer];
    let mut inputs = vec![made[0], turns(b, config, context, window.is_some()), cursor, keys, values];
    inputs.extend(config.head_norm.then(|| tensors.head_gains(b, layer)));
    inputs.extend(made.get(1));
    let norm = config.head_norm.then_some(config.epsilon);
    let rope = RopeStore { query_heads, key_heads, head, norm, apart: made.len() == 2 };
    let queries = b.apply(name("rope"), rope, &inputs)?;
    let (scale, softcap) = (config.score_factor, config.score_cap);
    let mut attention = Attention { query_heads, key_heads, head, scale, window, softcap, parts: 1 };
    attention.parts = attention.parts_for(cut.caps, b.desc(queries).rows(), context);
    let mut attended = b.apply_all(name("attention"), attention, &[queries, keys, values, cursor])?;
    if attention.parts > 1 {
        let join = AttentionJoin { attention, context };
        attended = b.apply_all(name("attention.joined"), join, &[attended[0], attended[1], cursor])?;
    }
    Ok(attended[0])
}

/// What a layer's attention gives, projected and added to `x`.
pub(super) fn after_attention(
    b: &mut PlanBuilder,
    cut: Cut<'_>,
    layer: usize,
    [attended, x]: [TensorId; 2],
) -> Result<TensorId> {
    let (after, bias) = (Part::AfterAttention, cut.tensors.config().output_bias);
    project(b, cut, &cut.tensors.output(layer), (layer, after, bias), [attended, x])
}

/// A layer's gated units, added to `x`.
fn units(b: &mut PlanBuilder, cut: Cut<'_>, layer: usize, x: TensorId) -> Result<TensorId> {
    let (tensors, config) = (cut.tensors, cut.tensors.config());
    let parts = tensors.gate_up_parts(layer);
    let norm = Some((config.epsilon, tensors.gain(b, layer, Part::UnitsNorm)));
    let (normed, norm) = cut.input(b, &parts, (x, norm))?;
    let dense = Dense { bias: config.mlp_bias, unit: config.unit, ..Dense::default() };
    let gated = (parts.len() == 1).then_some(config.intermediate);
    let mut units = cut.dense(b, &parts[0].name, &parts[0], Dense { gated, ..dense }, (normed, norm, None))?;
    for up in &parts[1..] {
        let linear = Dense { unit: Unit::Linear, ..dense };
        let up = cut.dense(b, &up.name, up, linear, (normed, norm, None))?;
        units = b.apply(format!("layers.{layer}.units"), Binary { operation: Operation::Mul }, &[units, up])?;
    }
    project(b, cut, &tensors.down(layer), (layer, Part::AfterUnits, config.mlp_bias), [units, x])
}

/// What a block gives, back in the columns of the residual stream, normalized where the model does so, and added to it.
fn project(
    b: &mut PlanBuilder,
    cut: Cut<'_>,
    matrix: &Matrix,
    (layer, after, bias): (usize, Part, bool),
    [block, x]: [TensorId; 2],
) -> Result<TensorId> {
    let (tensors, config) = (cut.tensors, cut.tensors.config());
    let residual = (!config.post_norm).then_some(x);
    let dense = Dense { bias, residual: residual.is_some(), ..Dense::default() };
    let (block, _) = cut.input(b, std::slice::from_ref(matrix), (block, None))?;
    let made = cut.dense(b, &matrix.name, matrix, dense, (block, None, residual))?;
    if !config.post_norm {
        return Ok(made);
    }
    let norm = Norm { epsilon: config.epsilon, centered: false, bias: false, residual: true };
    let gain = tensors.gain(b, layer, after);
    Ok(b.apply(format!("{}.norm", matrix.name), norm, &[made, gain, x])?)
}

/// The cosines and sines of every position.
fn turns(builder: &mut PlanBuilder, config: &DecoderConfig, context: usize, local: bool) -> TensorId {
    let (rope, head) = (if local { &config.local_rope } else { &config.rope }.clone(), (config.turned, config.head));
    let desc = Desc::f32([context, config.head]);
    let made = desc.clone();
    let make: Maker = Arc::new(move || Ok(HostTensor::from_values(made.clone(), &rope.turns(context, head))));
    builder.constant(if local { "turns.local" } else { TURNS }, desc, make)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lampyris_engine::gpu::{ConstantStore, States};
    use lampyris_engine::kernels::Noise;
    use lampyris_engine::weights::{TensorFile, Weights};
    use lampyris_engine::{Executor, Gpu};

    const CONFIG: &str = r#"{"model_type": "qwen3_moe", "hidden_size": 8, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "head_dim": 4, "vocab_size": 11, "tie_word_embeddings": true, "num_experts": 5,
        "num_experts_per_tok": 3, "moe_intermediate_size": 4}"#;

    fn noise() -> Tensors {
        let mut shapes: Vec<(String, Vec<usize>)> =
            vec![("model.embed_tokens".into(), vec![11, 8]), ("model.norm".into(), vec![8])];
        let layer = |name: &str| format!("model.layers.0.{name}");
        shapes.extend(["q", "k", "v", "o"].map(|part| (layer(&format!("self_attn.{part}_proj")), vec![8, 8])));
        shapes.extend(["q", "k"].map(|part| (layer(&format!("self_attn.{part}_norm")), vec![4])));
        shapes.extend(["input", "post_attention"].map(|part| (layer(&format!("{part}_layernorm")), vec![8])));
        shapes.push((layer("mlp.gate"), vec![5, 8]));
        for (part, shape) in [("gate", [4, 8]), ("up", [4, 8]), ("down", [8, 4])] {
            shapes.extend((0..5).map(|e| (layer(&format!("mlp.experts.{e}.{part}_proj")), shape.to_vec())));
        }
        of_noise(CONFIG, shapes)
    }

    fn of_noise(config: &str, shapes: Vec<(String, Vec<usize>)>) -> Tensors {
        let (mut header, mut data, mut noise) = (serde_json::Map::new(), Vec::new(), Noise::new(5));
        for (name, shape) in shapes {
            let start = data.len();
            data.extend((0..shape.iter().product()).flat_map(|_| noise.real(-1.0, 1.0).to_le_bytes()));
            let entry = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
            header.insert(format!("{name}.weight"), entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let file = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        let weights = TensorFile::from(Weights::from_bytes("noise", file).unwrap());
        Tensors::new(weights, DecoderConfig::read("config.json", config.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn experts_in_several_stacks_add_up_to_those_in_one() {
        let (tensors, gpu) = (noise(), Gpu::cpu_executor());
        // Eight tokens are few for a software adapter, and many of a GPU's, which gathers them.
        let run = |limit: u64, software: bool| {
            let request = PlanRequest {
                context: 8,
                cache: CacheFormat::F32,
                tokens: 8,
                head: Head::Logits,
                products: Products::Exact,
            };
            let caps = Caps { software, ..gpu.caps().clone() };
            let plan = Arc::new(plan(&tensors, request, limit, &caps).unwrap());
            let kernel = if software { "experts" } else { "grouped_experts" };
            let stacks = plan.steps.iter().filter(|step| step.kernel.name() == kernel).count() / 2;
            let states = gpu.block_on(States::new(&gpu, &[&plan])).unwrap();
            states.write(TOKENS, 0, &[3, 1, 4, 1, 5, 9, 2, 6]).unwrap();
            states.write(CURSOR, 0, &[0, 8]).unwrap();
            let store = ConstantStore::new();
            let executor = gpu.block_on(Executor::with_states(&gpu, plan, &store, &states, |_| ())).unwrap();
            let logits = gpu.block_on(executor.run(&[])).unwrap()[0].values();
            (stacks, logits)
        };
        // An expert's panel is 32 rows by 32 columns of four bytes.
        let (one, expected) = run(5 * 4096, true);
        assert_eq!(one, 1);
        for (limit, stacks) in [(5 * 4096, 1), (5 * 4096 - 1, 2), (2 * 4096, 3), (4096, 5), (1, 5)] {
            for software in [true, false] {
                let (found, logits) = run(limit, software);
                assert_eq!(found, stacks, "{limit} bytes");
                for (found, expected) in logits.iter().zip(&expected) {
                    assert!((found - expected).abs() < 1e-5, "{limit} bytes: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn matrices_cut_by_rows_give_what_the_whole_ones_give() {
        const MIXED: &str = r#"{"model_type": "phi3", "hidden_size": 40, "intermediate_size": 52, "num_hidden_layers": 1,
            "num_attention_heads": 5, "num_key_value_heads": 5, "vocab_size": 97, "tie_word_embeddings": false}"#;
        let layer = |name: &str| format!("model.layers.0.{name}");
        let shapes = vec![
            ("model.embed_tokens".to_owned(), vec![97, 40]),
            ("model.norm".to_owned(), vec![40]),
            ("lm_head".to_owned(), vec![97, 40]),
            (layer("self_attn.qkv_proj"), vec![120, 40]),
            (layer("self_attn.o_proj"), vec![40, 40]),
            (layer("mlp.gate_up_proj"), vec![104, 40]),
            (layer("mlp.down_proj"), vec![40, 52]),
            (layer("input_layernorm"), vec![40]),
            (layer("post_attention_layernorm"), vec![40]),
        ];
        let (tensors, gpu) = (of_noise(MIXED, shapes), Gpu::cpu_executor());
        let run = |limit: u64| {
            let request = PlanRequest {
                context: 6,
                cache: CacheFormat::F32,
                tokens: 6,
                head: Head::Logits,
                products: Products::Exact,
            };
            let plan = Arc::new(plan(&tensors, request, limit, gpu.caps()).unwrap());
            let steps = plan.steps.len();
            let states = gpu.block_on(States::new(&gpu, &[&plan])).unwrap();
            states.write(TOKENS, 0, &[3, 96, 31, 32, 64, 0]).unwrap();
            states.write(CURSOR, 0, &[0, 6]).unwrap();
            let store = ConstantStore::new();
            let executor = gpu.block_on(Executor::with_states(&gpu, plan, &store, &states, |_| ())).unwrap();
            (steps, gpu.block_on(executor.run(&[])).unwrap()[0].values())
        };
        let (whole, expected) = run(u64::MAX);
        // A panel of 32 rows by 40 columns takes 8192 bytes with its padding.
        let mut most = whole;
        for limit in [4 * 8192 - 1, 2 * 8192, 8192, 1] {
            let (steps, logits) = run(limit);
            assert!(steps >= most && steps > whole, "{limit} bytes: {steps} steps");
            most = steps;
            for (found, expected) in logits.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5, "{limit} bytes: {found} for {expected}");
            }
        }
    }
}
