//! What an encoder begins with: each token's place in its sequence joins its embedding, and the sum is normalized.

use super::spans::{spans_desc, spans_of_rows};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting,
    parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::PLACE_NORM;

/// `y[t] = (v - mean(v)) / sqrt(variance(v) + epsilon) * gain + bias`, `v = x[t] + table[t - first]`
///
/// Inputs: `x [m, k]`, the span of each row's sequence `[m, 2]` as words, of which the first word is `first`, the embeddings of places
/// `[places, k]`, `gain [k]` and `bias [k]`. Output as `x`; all f32. A place beyond the table counts as its last one. (Devlin et al.
/// 2018; the norm: Ba et al. 2016.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlaceNorm {
    /// Added to the variance.
    pub epsilon: f32,
}

impl Kernel for PlaceNorm {
    fn name(&self) -> &'static str {
        "place_norm"
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x, _, table, _, _] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "x, spans, places, gain, bias", found: inputs.len() });
        };
        let places = table.shape.first().copied().unwrap_or_default();
        let vector = Desc::f32([x.last()]);
        let wanted = [
            Desc::f32([x.rows(), x.last()]),
            spans_desc(x.rows()),
            Desc::f32([places, x.last()]),
            vector.clone(),
            vector,
        ];
        for (position, (found, wanted)) in inputs.iter().zip(&wanted).enumerate() {
            if found != wanted || found.is_empty() {
                let (expected, found) = (wanted.to_string(), found.clone());
                return Err(ShapeError::Input { kernel, position, expected, found });
            }
        }
        Ok(vec![x.clone()])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let path = if caps.software { "sweep" } else { "portable" };
        fitting(SOURCES, &[("path", path)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (x, places) = (&call.inputs[0], call.inputs[2].shape[0] as u32);
        let params = vec![x.last() as u32, x.last().div_ceil(4) as u32, places, self.epsilon.to_bits()];
        Launch::new(call, params, [x.rows() as u32, 1, 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let [x, table, gain, bias] = [0, 2, 3, 4].map(|at: usize| inputs[at].values());
        let (spans, places, k) = (&inputs[1].words, inputs[2].desc.shape[0], outputs[0].last());
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, k, |row, out| {
            let place = row.saturating_sub(spans[2 * row] as usize).min(places - 1);
            let both = x[row * k..][..k].iter().zip(&table[place * k..][..k]);
            let v: Vec<f64> = both.map(|(x, p)| f64::from(*x) + f64::from(*p)).collect();
            let mean = v.iter().sum::<f64>() / k as f64;
            let variance = v.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / k as f64;
            let factor = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
            for (i, out) in out.iter_mut().enumerate() {
                *out = ((v[i] - mean) * factor * f64::from(gain[i]) + f64::from(bias[i])) as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// Two sums over a row, one after the other.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        Tolerance { relative: 2.0 * Tolerance::of_sum(call.inputs[0].last(), Format::F32).relative }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 8.0 * call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Rows below, on and off the invocations, sequences longer than the table, rows without a sequence.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, lengths: &[usize], [m, k, places]: [usize; 3]| {
        let real = |desc: Desc| (desc, Fill::Range(-1.0, 2.0));
        let spans = (spans_desc(m), Fill::Words(spans_of_rows(lengths, m)));
        let [gain, bias] = [real(Desc::f32([k])), real(Desc::f32([k]))];
        let inputs = vec![real(Desc::f32([m, k])), spans, real(Desc::f32([places, k])), gain, bias];
        let label = format!("{m}x{k}.{}.of{places}", lengths.iter().map(usize::to_string).collect::<Vec<_>>().join("+"));
        cases.push(Case { label, kernel: Arc::new(PlaceNorm { epsilon: 1e-5 }), inputs, tier });
    };
    add(Tier::Short, &[3, 1, 2], [8, 41, 4]);
    add(Tier::Short, &[5], [5, 384, 3]);
    for k in [1, 2, 3, 4, 5, 31, 32, 33, 255, 256, 257, 260] {
        add(Tier::Full, &[2, 1], [3, k, 2]);
    }
    add(Tier::Model, &[9, 40, 15], [64, 384, 512]);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_begins_at_the_first_place() {
        let x = HostTensor::from_values(Desc::f32([3, 2]), &[0.0; 6]);
        let spans = HostTensor::from_words(spans_desc(3), spans_of_rows(&[1, 2], 3));
        let table = HostTensor::from_values(Desc::f32([2, 2]), &[1.0, 3.0, 8.0, 4.0]);
        let (gain, bias) = (Desc::f32([2]), HostTensor::from_values(Desc::f32([2]), &[0.0, 10.0]));
        let gain = HostTensor::from_values(gain, &[1.0, 1.0]);
        let y = PlaceNorm { epsilon: 0.0 }.reference(&[&x, &spans, &table, &gain, &bias], std::slice::from_ref(&x.desc));
        assert_eq!(y[0].values(), [-1.0, 11.0, -1.0, 11.0, 1.0, 9.0]);
    }
}
