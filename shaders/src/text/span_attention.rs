//! Attention of an encoder: every row of a ragged batch sees the whole of its own sequence, and nothing of the others.

use super::spans::{spans_desc, spans_of_rows};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting,
    parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::SPAN_ATTENTION;

/// `y[t, h] = sum_j softmax_j(scale * q[t, h] . k[j, h]) v[j, h]`, `j` over the rows of the sequence of `t`
///
/// Inputs: queries, keys and values side by side `[m, 3 * heads * head]`, and the span of each row's sequence `[m, 2]` as words. Output
/// `[m, heads * head]`; all f32. A row whose span is empty gives zeros. (Vaswani et al. 2017; the running softmax: Milakov and
/// Gimelshein 2018.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpanAttention {
    /// Heads.
    pub heads: usize,
    /// Columns of a head; a multiple of four, at most [`SpanAttention::MAX_HEAD`].
    pub head: usize,
    /// What the scores are multiplied by.
    pub scale: f32,
}

impl SpanAttention {
    /// Most columns of a head.
    pub const MAX_HEAD: usize = 128;
}

impl Kernel for SpanAttention {
    fn name(&self) -> &'static str {
        "span_attention"
    }

    fn summary(&self) -> String {
        format!("{}x{}", self.heads, self.head)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x, _] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "queries with keys and values, spans", found: inputs.len() });
        };
        let fits = self.head > 0 && self.head.is_multiple_of(4) && self.head <= Self::MAX_HEAD;
        if !fits || self.heads == 0 {
            let reason = format!(
                "{} heads of {} columns each: a head has a multiple of four columns, at most {}",
                self.heads,
                self.head,
                Self::MAX_HEAD
            );
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let (m, width) = (x.shape.first().copied().unwrap_or_default(), self.heads * self.head);
        let wanted = [Desc::f32([m, 3 * width]), spans_desc(m)];
        for (position, (found, wanted)) in inputs.iter().zip(&wanted).enumerate() {
            if found != wanted || found.is_empty() {
                let (expected, found) = (wanted.to_string(), found.clone());
                return Err(ShapeError::Input { kernel, position, expected, found });
            }
        }
        Ok(vec![Desc::f32([m, width])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let paths: &[&str] = if caps.software { &["subgroup8", "subgroup4", "portable"] } else { &["portable"] };
        let mut found: Vec<_> =
            paths.iter().flat_map(|path| fitting(SOURCES, &[("path", path)], caps).collect::<Vec<_>>()).collect();
        found.truncate(1);
        found
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (m, heads) = (call.inputs[0].rows() as u32, self.heads as u32);
        let params = vec![m, heads, self.head as u32 / 4, self.scale.to_bits()];
        Launch::new(call, params, [heads, m.div_ceil(4), 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, spans) = (inputs[0].values(), &inputs[1].words);
        let (m, width) = (outputs[0].rows(), self.heads * self.head);
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, self.head, |at, out| {
            let (t, column) = (at / self.heads, at % self.heads * self.head);
            let part = |row: usize, which: usize, i: usize| f64::from(x[(row * 3 + which) * width + column + i]);
            let seen = spans[2 * t] as usize..(spans[2 * t + 1] as usize).min(m);
            let score = |j: usize| {
                (0..self.head).map(|i| part(t, 0, i) * part(j, 1, i)).sum::<f64>() * f64::from(self.scale)
            };
            let scores: Vec<f64> = seen.clone().map(score).collect();
            let top = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
            let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (i, out) in out.iter_mut().enumerate() {
                let sum: f64 = weights.iter().zip(seen.clone()).map(|(w, j)| w * part(j, 2, i)).sum();
                *out = if total > 0.0 { (sum / total) as f32 } else { 0.0 };
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// As for attention to a cache: the error of a score of `head` products weighs as much as the score is large, which `scale`
    /// keeps near one, and eightfold here; then the sum over the sequence and the exponential (`docs/numerics.md`).
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let scores = 8.0 * Tolerance::of_sum(self.head, Format::F32).relative;
        let sum = Tolerance::of_sum(call.inputs[0].rows(), Format::F32).relative;
        Tolerance { relative: scores + sum + 8.5 * f64::from(f32::EPSILON) }
    }

    /// As if all rows were one sequence.
    fn work(&self, call: &Call<'_>) -> Work {
        let keys = call.inputs[0].rows() as f64;
        Work { flops: 4.0 * call.outputs[0].len() as f64 * keys, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sequences that begin and end anywhere in the groups of four rows, below, on and off the lanes; heads of awkward sizes.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, lengths: &[usize], m: usize, [heads, head]: [usize; 2]| {
        let scale = 1.0 / (head as f32).sqrt();
        let inputs = vec![
            (Desc::f32([m, 3 * heads * head]), Fill::Range(-2.0, 2.0)),
            (spans_desc(m), Fill::Words(spans_of_rows(lengths, m))),
        ];
        let label = format!("{}.of{m}.{heads}x{head}", lengths.iter().map(usize::to_string).collect::<Vec<_>>().join("+"));
        cases.push(Case { label, kernel: Arc::new(SpanAttention { heads, head, scale }), inputs, tier });
    };
    add(Tier::Short, &[5, 1, 2, 9], 20, [3, 32]);
    add(Tier::Short, &[70, 3], 75, [2, 20]);
    for length in [1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 127, 129] {
        add(Tier::Full, &[2, length, 1], length + 3, [2, 12]);
    }
    for head in [4, 8, 16, 28, 36, 64, 80, 96, 124, 128] {
        add(Tier::Full, &[6, 11], 17, [2, head]);
    }
    add(Tier::Model, &[10, 9, 40, 5], 64, [12, 32]);
    add(Tier::Model, &[256], 256, [12, 64]);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_sees_its_own_sequence_only() {
        // Equal scores: the values of a sequence are averaged.
        let rows = [[0.0, 0.0, 2.0], [0.0, 0.0, 4.0], [0.0, 0.0, 100.0], [0.0, 0.0, 7.0]];
        let x: Vec<f32> = rows.iter().flat_map(|row| row.iter().flat_map(|v| [*v; 4])).collect();
        let x = HostTensor::from_values(Desc::f32([4, 12]), &x);
        let spans = HostTensor::from_words(spans_desc(4), vec![0, 2, 0, 2, 2, 3, 3, 3]);
        let kernel = SpanAttention { heads: 1, head: 4, scale: 1.0 };
        let y = kernel.reference(&[&x, &spans], &[Desc::f32([4, 4])]);
        let first: Vec<f32> = y[0].values().chunks(4).map(|row| row[0]).collect();
        assert_eq!(first, [3.0, 3.0, 100.0, 0.0]);
    }
}
