//! An encoder as a plan: embeddings, layers of attention and units with a norm after each, pooling, read from top to bottom.
//!
//! BERT: Devlin et al. 2018. Pooling: Reimers and Gurevych 2019. Reference implementations: Hugging Face transformers and
//! sentence-transformers.

use super::Pooled;
use super::names::Part;
use super::weights::Tensors;
use crate::Result;
use lampyris_engine::kernels::elementwise::Concat;
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
/// the span of each `[sequences, 2]`, all words. The table of tokens is cut by rows, so that none of its tensors takes more than `limit`
/// bytes.
///
/// # Errors
/// [`crate::Error::Engine`] when a kernel refuses a shape.
pub(super) fn plan(tensors: &Tensors, pooled: Pooled, request: EncoderPlan, limit: u64) -> Result<Plan> {
    let config = tensors.config();
    let mut builder = PlanBuilder::new();
    let b = &mut builder;
    let tokens = b.input("tokens", Desc::new(Format::Word, [request.rows]));
    let spans = b.input("spans", spans_desc(request.rows));
    let start = tensors.start(b);
    let (mut embedded, mut first) = (None, 0);
    for part in tensors.words(limit) {
        let (rows, name) = (part.height(), if first == 0 { "embed".to_owned() } else { format!("embed.{first}") });
        let inputs = [&[tokens, start], &tensors.constants(b, part)[..], embedded.as_slice()].concat();
        embedded = Some(b.apply(name, Embed { m: request.rows, factor: 1.0, first }, &inputs)?);
        first += rows;
    }
    let Some(words) = embedded else { return Ok(builder.finish()) };
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

/// A layer's attention, added to `x` and normalized. What the file stores unlike its neighbour has a matrix of its own.
fn attention(b: &mut PlanBuilder, tensors: &Tensors, layer: usize, [x, spans]: [TensorId; 2]) -> Result<TensorId> {
    let config = tensors.config();
    let parts = [Part::Queries(layer), Part::Keys(layer), Part::Values(layer)];
    let (mut qkv, mut first) = (None, 0);
    for run in tensors.alike(&parts) {
        let name = format!("layers.{layer}.{}", &"qkv"[first..first + run.len()]);
        let made = dense(b, tensors, (&name, run), Dense::default(), &[x])?;
        qkv = Some(match qkv {
            None => made,
            Some(before) => b.apply(format!("{name}.joined"), Concat { axis: 1 }, &[before, made])?,
        });
        first += run.len();
    }
    let qkv = qkv.unwrap_or(x);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;
    use crate::encoder::EncoderConfig;
    use lampyris_engine::gpu::ConstantStore;
    use lampyris_engine::kernels::text::{spans_of_rows, spans_of_sequences};
    use lampyris_engine::kernels::{HostTensor, Noise};
    use lampyris_engine::weights::{TensorFile, Weights};
    use lampyris_engine::{Executor, Gpu};
    use std::sync::Arc;

    const CONFIG: &str = r#"{"model_type": "bert", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 97, "max_position_embeddings": 9}"#;

    fn noise() -> Tensors {
        let mut shapes: Vec<(String, Vec<usize>)> = [("word", 97), ("position", 9), ("token_type", 2)]
            .map(|(table, rows)| (format!("embeddings.{table}_embeddings.weight"), vec![rows, 8]))
            .to_vec();
        let mut part = |name: &str, shape: &[usize]| {
            shapes.push((format!("{name}.weight"), shape.to_vec()));
            shapes.push((format!("{name}.bias"), shape[..1].to_vec()));
        };
        part("embeddings.LayerNorm", &[8]);
        for (name, shape) in [
            ("attention.self.query", &[8, 8][..]),
            ("attention.self.key", &[8, 8]),
            ("attention.self.value", &[8, 8]),
            ("attention.output.dense", &[8, 8]),
            ("attention.output.LayerNorm", &[8]),
            ("intermediate.dense", &[12, 8]),
            ("output.dense", &[8, 12]),
            ("output.LayerNorm", &[8]),
        ] {
            part(&format!("encoder.layer.0.{name}"), shape);
        }
        let (mut header, mut data, mut noise) = (serde_json::Map::new(), Vec::new(), Noise::new(3));
        for (name, shape) in shapes {
            let start = data.len();
            data.extend((0..shape.iter().product()).flat_map(|_| noise.real(-1.0, 1.0).to_le_bytes()));
            let entry = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
            header.insert(name, entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let file = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        let weights = TensorFile::from(Weights::from_bytes("noise", file).unwrap());
        let config = EncoderConfig::read("config.json", CONFIG.as_bytes()).unwrap();
        Tensors::new(weights, config, false).unwrap()
    }

    #[test]
    fn a_table_cut_by_rows_gives_what_the_whole_gives() {
        let (tensors, gpu) = (noise(), Gpu::cpu_executor());
        let run = |limit: u64| {
            let request = EncoderPlan { rows: 8, sequences: Some(2) };
            let plan = Arc::new(plan(&tensors, Pooled::default(), request, limit).unwrap());
            let tables = plan.steps.iter().filter(|step| step.kernel.name() == "embed").count();
            let inputs = [
                HostTensor::from_words(Desc::new(Format::Word, [8]), vec![0, 31, 32, 63, 64, 95, 96, 5]),
                HostTensor::from_words(spans_desc(8), spans_of_rows(&[5, 3], 8)),
                HostTensor::from_words(spans_desc(2), spans_of_sequences(&[5, 3], 2)),
            ];
            let executor = gpu.block_on(Executor::new(&gpu, plan, &ConstantStore::new(), |_| ())).unwrap();
            (tables, gpu.block_on(executor.run(&inputs)).unwrap()[0].values())
        };
        let (whole, expected) = run(u64::MAX);
        assert_eq!(whole, 1);
        // A panel of 32 rows by 32 columns takes 4096 bytes.
        for (limit, parts) in [(4 * 4096 - 1, 2), (2 * 4096, 4), (4096, 4), (1, 4)] {
            let (tables, found) = run(limit);
            assert_eq!((tables, &found), (parts, &expected), "{limit} bytes");
        }
    }
}
