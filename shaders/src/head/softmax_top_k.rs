//! Softmax and the best classes: all that a classifier's answer needs, so that a few words are read back.

use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting,
    parallel, traffic,
};
use std::any::Any;
use std::cmp::Ordering;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::SOFTMAX_TOP_K;

/// `p[c] = exp(x[c] - max x) / sum_j exp(x[j] - max x)`, and the `k` classes of largest logit in order
///
/// Input: logits `[images, 1, 1, c]` as F32 or F16. Outputs: the probabilities `[images, 1, 1, c]` as F32, the best classes
/// `[images, k]` as words, and their probabilities `[images, k]` as F32; apart, because classes must be right exactly and
/// probabilities within a tolerance. Among equal logits the lower class comes first. A NaN logit makes every
/// probability NaN and is never listed; where fewer than `k` logits are left the list ends with [`SoftmaxTopK::NO_CLASS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoftmaxTopK {
    /// Classes to list, at most [`SoftmaxTopK::MAX_K`] and at most all.
    pub k: usize,
}

impl SoftmaxTopK {
    /// Most classes to list.
    pub const MAX_K: usize = 16;
    /// Fills places of the list for which no class was left.
    pub const NO_CLASS: u32 = u32::MAX;
}

impl Kernel for SoftmaxTopK {
    fn name(&self) -> &'static str {
        "softmax_top_k"
    }

    fn summary(&self) -> String {
        format!("k{}", self.k)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "the logits", found: inputs.len() });
        };
        match (x.nhwc(), x.format) {
            (Some((_, 1, 1, _)), Format::F32 | Format::F16) if !x.is_empty() => {}
            _ => {
                let expected = "logits [images, 1, 1, classes] in f32 or f16, not empty".to_owned();
                return Err(ShapeError::Input { kernel, position: 0, expected, found: x.clone() });
            }
        }
        let (images, c) = (x.shape[0], x.last());
        if self.k == 0 || self.k > Self::MAX_K.min(c) {
            let reason = format!("{} of {c} classes cannot be listed; 1 to {} can", self.k, Self::MAX_K.min(c));
            return Err(ShapeError::Parameter { kernel, reason });
        }
        Ok(vec![Desc::f32(x.shape.clone()), Desc::new(Format::Word, [images, self.k]), Desc::f32([images, self.k])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let path = if caps.software { "sweep" } else { "portable" };
        fitting(SOURCES, &[("path", path), ("storage", call.inputs[0].format.label())], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let x = &call.inputs[0];
        Launch::new(call, vec![x.last() as u32, self.k as u32], [x.shape[0] as u32, 1, 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, c) = (inputs[0].values(), outputs[0].last());
        let mut probabilities = vec![0.0; x.len()];
        parallel::rows(&mut probabilities, c, |image, row| {
            let logits = &x[image * c..(image + 1) * c];
            let largest = logits.iter().fold(f64::NEG_INFINITY, |m, v| m.max(f64::from(*v)));
            let total: f64 = logits.iter().map(|v| (f64::from(*v) - largest).exp()).sum();
            for (out, v) in row.iter_mut().zip(logits) {
                *out = ((f64::from(*v) - largest).exp() / total) as f32;
            }
        });
        let (mut classes, mut scores) = (Vec::new(), Vec::new());
        for (logits, probabilities) in x.chunks(c).zip(probabilities.chunks(c)) {
            let mut order: Vec<usize> = (0..c).filter(|i| !logits[*i].is_nan()).collect();
            let logit = |i: &usize| logits[*i];
            order.sort_by(|a, b| logit(b).partial_cmp(&logit(a)).unwrap_or(Ordering::Equal).then(a.cmp(b)));
            for place in 0..self.k {
                let class = order.get(place).copied();
                classes.push(class.map_or(Self::NO_CLASS, |class| class as u32));
                scores.push(class.map_or(0.0, |class| probabilities[class]));
            }
        }
        vec![
            HostTensor::from_values(outputs[0].clone(), &probabilities),
            HostTensor::from_words(outputs[1].clone(), classes),
            HostTensor::from_values(outputs[2].clone(), &scores),
        ]
    }

    /// Beyond the sum of the exponentials: WGSL allows `exp(v)` an error of `3 + 2 |v|` units in the last place, and `x - max x`
    /// rounds by half a unit. Both weigh less the smaller the exponential is: relative to the largest one,
    /// `(3 + 2.5 |v|) exp(v)` is at most 3 units for `v <= 0`. They enter once above and once below the division, which adds 2.5.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let sum = Tolerance::of_sum(call.inputs[0].last(), Format::F32).relative;
        Tolerance { relative: sum + 8.5 * f64::from(f32::EPSILON) }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 4.0 * call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Classes below, on and off the invocations, ties, large logits, the ImageNet heads and a hundred thousand classes.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, what: &str, format: Format, [images, c, k]: [usize; 3], fill: Fill| {
        let label = format!("{images}x{c}.{}.k{k}.{what}", format.label());
        let inputs = vec![(Desc::new(format, [images, 1, 1, c]), fill)];
        cases.push(Case { label, kernel: Arc::new(SoftmaxTopK { k }), inputs, tier });
    };
    let steps = |images: usize, c: usize| Fill::Values((0..images * c).map(|i| ((i * 7) % 5) as f32 - 2.0).collect());
    for format in [Format::F32, Format::F16] {
        add(Tier::Short, "noise", format, [2, 37, 5], Fill::Range(-8.0, 8.0));
        add(Tier::Short, "ties", format, [1, 41, 16], steps(1, 41));
        add(Tier::Short, "equal", format, [1, 1001, 7], Fill::Values(vec![3.0; 1001]));
        for c in [1, 2, 3, 4, 5, 31, 32, 33, 1023, 1024, 1025, 1027] {
            add(Tier::Full, "noise", format, [1, c, c.min(4)], Fill::Range(-8.0, 8.0));
            add(Tier::Full, "ties", format, [3, c, c.min(16)], steps(3, c));
        }
        add(Tier::Full, "large", format, [2, 50, 3], Fill::Range(-3.0e4, 3.0e4));
        add(Tier::Full, "low", format, [1, 9, 9], Fill::Range(-3.1e4, -3.0e4));
        add(Tier::Full, "many", format, [1, 100_003, 16], Fill::Range(-20.0, 20.0));
        add(Tier::Model, "noise", format, [1, 1000, 5], Fill::Range(-10.0, 15.0));
        add(Tier::Model, "noise", format, [8, 1001, 5], Fill::Range(-10.0, 15.0));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(logits: &[f32], k: usize) -> (Vec<f32>, Vec<u32>, Vec<f32>) {
        let x = HostTensor::from_values(Desc::f32([1, 1, 1, logits.len()]), logits);
        let kernel = SoftmaxTopK { k };
        let y = kernel.reference(&[&x], &kernel.outputs(std::slice::from_ref(&x.desc)).unwrap());
        (y[0].values(), y[1].words.clone(), y[2].values())
    }

    #[test]
    fn known_probabilities_in_order() {
        // exp(0), exp(ln 2) and exp(ln 5) sum to 8.
        let (probabilities, classes, scores) = run(&[0.0, 2.0f32.ln(), 5.0f32.ln()], 2);
        for (found, expected) in probabilities.iter().zip([0.125f32, 0.25, 0.625]) {
            assert!((found - expected).abs() < 1e-6);
        }
        assert_eq!(classes, [2, 1]);
        assert_eq!(scores, [probabilities[2], probabilities[1]]);
    }

    #[test]
    fn ties_go_to_the_lower_class_and_nan_is_never_listed() {
        assert_eq!(run(&[1.0, 4.0, 1.0, 4.0], 4).1, [1, 3, 0, 2]);
        let (probabilities, classes, _) = run(&[f32::NAN, 4.0, 1.0], 3);
        assert!(probabilities.iter().all(|p| p.is_nan()));
        assert_eq!(classes, [1, 2, SoftmaxTopK::NO_CLASS]);
        assert_eq!(run(&[f32::NEG_INFINITY, 0.0], 2).1, [1, 0]);
    }

    #[test]
    fn lists_no_more_classes_than_there_are() {
        for (classes, k) in [(3, 4), (100, 17), (3, 0)] {
            assert!(SoftmaxTopK { k }.outputs(&[Desc::f32([1, 1, 1, classes])]).is_err());
        }
    }
}
