//! From the rows of a sequence to the one row that stands for it.

use super::spans::{spans_desc, spans_of_sequences};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting,
    parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::SPAN_POOL;

/// What is made of a sequence's rows, column by column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The first.
    First,
    /// The last.
    Last,
    /// The largest.
    Max,
    /// Their sum, divided by the root of their number.
    RootMean,
}

impl Pooling {
    /// Every kind.
    pub const ALL: [Pooling; 5] = [Pooling::Mean, Pooling::First, Pooling::Last, Pooling::Max, Pooling::RootMean];

    /// The name in plans.
    pub fn label(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::First => "first",
            Pooling::Last => "last",
            Pooling::Max => "max",
            Pooling::RootMean => "root_mean",
        }
    }
}

/// `y[s] = pool(x[first .. end])`, and with `normalize` `y / max(|y|, 1e-12)`
///
/// Inputs: `x [m, k]` and the span of each sequence `[sequences, 2]` as words. Output `[sequences, k]`; all f32. An empty sequence gives
/// zeros. (Reimers and Gurevych 2019.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanPool {
    /// What is made of the rows.
    pub pooling: Pooling,
    /// The result is made a vector of length one.
    pub normalize: bool,
}

impl Kernel for SpanPool {
    fn name(&self) -> &'static str {
        "span_pool"
    }

    fn summary(&self) -> String {
        format!("{}{}", self.pooling.label(), if self.normalize { " normalized" } else { "" })
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x, spans] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "x and spans", found: inputs.len() });
        };
        let sequences = spans.shape.first().copied().unwrap_or_default();
        let wanted = [Desc::f32([x.rows(), x.last()]), spans_desc(sequences)];
        for (position, (found, wanted)) in inputs.iter().zip(&wanted).enumerate() {
            if found != wanted || found.is_empty() {
                let (expected, found) = (wanted.to_string(), found.clone());
                return Err(ShapeError::Input { kernel, position, expected, found });
            }
        }
        Ok(vec![Desc::f32([sequences, x.last()])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let path = if caps.software { "sweep" } else { "portable" };
        fitting(SOURCES, &[("path", path)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (x, sequences) = (&call.inputs[0], call.inputs[1].shape[0] as u32);
        let (m, k) = (x.rows() as u32, x.last());
        let params = vec![m, k as u32, k.div_ceil(4) as u32, self.pooling as u32, u32::from(self.normalize)];
        Launch::new(call, params, [sequences, 1, 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, spans) = (inputs[0].values(), &inputs[1].words);
        let (m, k) = (inputs[0].desc.rows(), outputs[0].last());
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, k, |at, out| {
            let rows = spans[2 * at] as usize..(spans[2 * at + 1] as usize).min(m);
            let pooled = |column: usize| {
                let mut values = rows.clone().map(|row| f64::from(x[row * k + column]));
                let count = rows.len() as f64;
                match self.pooling {
                    _ if rows.is_empty() => 0.0,
                    Pooling::Mean => values.sum::<f64>() / count,
                    Pooling::First => values.next().unwrap_or_default(),
                    Pooling::Last => values.next_back().unwrap_or_default(),
                    Pooling::Max => values.fold(f64::NEG_INFINITY, f64::max),
                    Pooling::RootMean => values.sum::<f64>() / count.sqrt(),
                }
            };
            let pooled: Vec<f64> = (0..k).map(pooled).collect();
            let length = pooled.iter().map(|v| v * v).sum::<f64>().sqrt();
            let factor = if self.normalize { 1.0 / length.max(1e-12) } else { 1.0 };
            out.iter_mut().zip(pooled).for_each(|(out, v)| *out = (v * factor) as f32);
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// A sum over the rows, then one over the columns.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let sum = |terms: usize| Tolerance::of_sum(terms, Format::F32).relative;
        let (rows, columns) = (call.inputs[0].rows(), call.inputs[0].last());
        let pooled = match self.pooling {
            Pooling::Mean | Pooling::RootMean => sum(rows),
            Pooling::First | Pooling::Last | Pooling::Max => 0.0,
        };
        Tolerance { relative: pooled + if self.normalize { sum(columns) } else { 0.0 } }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: (call.inputs[0].len() + 3 * call.outputs[0].len()) as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Every kind with and without normalization, empty sequences, columns below, on and off the invocations.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, kernel: SpanPool, lengths: &[usize], [m, k, sequences]: [usize; 3]| {
        let inputs = vec![
            (Desc::f32([m, k]), Fill::Range(-1.0, 1.5)),
            (spans_desc(sequences), Fill::Words(spans_of_sequences(lengths, sequences))),
        ];
        let label = format!("{m}x{k}to{sequences}.{}", kernel.summary().replace(' ', "."));
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    for pooling in Pooling::ALL {
        add(Tier::Short, SpanPool { pooling, normalize: false }, &[3, 0, 1, 7], [12, 41, 5]);
        add(Tier::Full, SpanPool { pooling, normalize: true }, &[3, 0, 1, 7], [12, 41, 5]);
    }
    let usual = SpanPool { pooling: Pooling::Mean, normalize: true };
    add(Tier::Short, usual, &[4, 9, 2], [16, 384, 4]);
    for k in [1, 2, 3, 4, 5, 31, 32, 33, 255, 256, 257, 260] {
        add(Tier::Full, usual, &[2, 3], [5, k, 2]);
    }
    add(Tier::Model, usual, &[10, 9, 40, 5], [64, 384, 64]);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_makes_one_row_of_two() {
        let x = HostTensor::from_values(Desc::f32([3, 2]), &[1.0, 8.0, 3.0, 0.0, 50.0, 60.0]);
        let spans = HostTensor::from_words(spans_desc(2), spans_of_sequences(&[2], 2));
        let run = |pooling: Pooling, normalize: bool| {
            SpanPool { pooling, normalize }.reference(&[&x, &spans], &[Desc::f32([2, 2])])[0].values()
        };
        assert_eq!(run(Pooling::Mean, false), [2.0, 4.0, 0.0, 0.0]);
        assert_eq!(run(Pooling::First, false), [1.0, 8.0, 0.0, 0.0]);
        assert_eq!(run(Pooling::Last, false), [3.0, 0.0, 0.0, 0.0]);
        assert_eq!(run(Pooling::Max, false), [3.0, 8.0, 0.0, 0.0]);
        let root = run(Pooling::RootMean, false);
        assert!((root[0] - 8.0f32.sqrt()).abs() < 1e-6 && (root[1] - 32.0f32.sqrt()).abs() < 1e-6);
        let one = run(Pooling::Mean, true);
        assert!((one[0] - 0.2f32.sqrt()).abs() < 1e-6 && (one[1] - 0.8f32.sqrt()).abs() < 1e-6 && one[2] == 0.0);
    }
}
