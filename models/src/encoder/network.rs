//! An encoder as a plan: embeddings, layers of attention and units with a norm after each, pooling, read from top to bottom.
//!
//! BERT: Devlin et al. 2018. Pooling: Reimers and Gurevych 2019. Reference implementations: Hugging Face transformers and
//! sentence-transformers.

use super::Pooled;
use super::names::Part;
use super::weights::Tensors;
use crate::Result;
use lampyris_engine::kernels::text::{Dense, Embed, Norm, PlaceNorm, SpanAttention, SpanPool, spans_desc};
use lampyris_engine::kernels::{Desc, Format};
use lampyris_engine::plan::TensorId;
use lampyris_engine::{Plan, PlanBuilder};

/// Which plan to make of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncoderPlan {
    /// Tokens of a run, of all its sequences together.
    pub rows: usize,
    /// Sequences of a run, each of which becomes one row of the output `embeddings [sequences, hidden]`; without them the
    /// output is `rows [rows, hidden]`, what the last layer makes of each token.
    pub sequences: Option<usize>,
}

/// The plan of a run. Its inputs are the tokens `[rows]`, the span of each row's sequence `[rows, 2]`, and where there are sequences
/// the span of each `[sequences, 2]`, all words.
///
/// # Errors
/// [`crate::Error::Engine`] when a kernel refuses a shape.
pub(super) fn plan(tensors: &Tensors, pooled: Pooled, request: EncoderPlan) -> Result<Plan> {
    let config = tensors.config();
    let mut builder = PlanBuilder::new();
    let b = &mut builder;
    let tokens = b.input("tokens", Desc::new(Format::Word, [request.rows]));
    let spans = b.input("spans", spans_desc(request.rows));
    let start = tensors.start(b);
    let table = tensors.words(b);
    let embed = Embed { m: request.rows, factor: 1.0, first: 0 };
    let words = b.apply("embed", embed, &[&[tokens, start], &table[..]].concat())?;
    let (places, [gain, bias]) = (tensors.places(b), tensors.norm(b, Part::FirstNorm));
    let place = PlaceNorm { epsilon: config.epsilon };
    let mut x = b.apply("places", place, &[words, spans, places, gain, bias])?;
    for layer in 0..config.layers {
        x = attention(b, tensors, layer, [x, spans])?;
        x = units(b, tensors, layer, x)?;
    }
    match request.sequences {
        Some(count) => {
            let sequences = b.input("sequences", spans_desc(count));
            let embeddings = b.apply("pool", SpanPool::from(pooled), &[x, sequences])?;
            b.output("embeddings", embeddings);
        }
        None => b.output("rows", x),
    }
    Ok(builder.finish())
}

/// A layer's attention, added to `x` and normalized.
fn attention(b: &mut PlanBuilder, tensors: &Tensors, layer: usize, [x, spans]: [TensorId; 2]) -> Result<TensorId> {
    let config = tensors.config();
    let parts = [Part::Queries(layer), Part::Keys(layer), Part::Values(layer)];
    let qkv = dense(b, tensors, (&format!("layers.{layer}.qkv"), &parts), Dense::default(), &[x])?;
    let (heads, head) = (config.heads, config.head());
    let kernel = SpanAttention { heads, head, scale: 1.0 / (head as f32).sqrt() };
    let attended = b.apply(format!("layers.{layer}.attention"), kernel, &[qkv, spans])?;
    let output = (&*format!("layers.{layer}.output"), &[Part::Output(layer)][..]);
    project(b, tensors, output, Part::AttentionNorm(layer), [attended, x])
}

/// A layer's units, added to `x` and normalized.
fn units(b: &mut PlanBuilder, tensors: &Tensors, layer: usize, x: TensorId) -> Result<TensorId> {
    let unit = Dense { unit: tensors.config().unit, ..Dense::default() };
    let units = dense(b, tensors, (&format!("layers.{layer}.units"), &[Part::Units(layer)]), unit, &[x])?;
    let down = (&*format!("layers.{layer}.down"), &[Part::Down(layer)][..]);
    project(b, tensors, down, Part::UnitsNorm(layer), [units, x])
}

/// What a block gives, back in the columns of the residual stream, added to it and normalized.
fn project(
    b: &mut PlanBuilder,
    tensors: &Tensors,
    matrix: (&str, &[Part]),
    norm: Part,
    [block, x]: [TensorId; 2],
) -> Result<TensorId> {
    let sum = dense(b, tensors, matrix, Dense { residual: true, ..Dense::default() }, &[block, x])?;
    let [gain, bias] = tensors.norm(b, norm);
    let kernel = Norm { epsilon: tensors.config().epsilon, centered: true, bias: true, residual: false };
    Ok(b.apply(format!("{}.norm", matrix.0), kernel, &[sum, gain, bias])?)
}

/// `kernel` with the matrix and the bias of `parts`; `inputs` are `x` and, where there is one, the residual.
fn dense(
    b: &mut PlanBuilder,
    tensors: &Tensors,
    (name, parts): (&str, &[Part]),
    kernel: Dense,
    inputs: &[TensorId],
) -> Result<TensorId> {
    let (matrix, bias) = tensors.matrix(b, name, parts);
    let inputs = [&inputs[..1], &matrix[..], &[bias], &inputs[1..]].concat();
    Ok(b.apply(name, Dense { bias: true, ..kernel }, &inputs)?)
}
