//! The parts of an attention, each a softmax of its own, made one.

use super::{Attention, CURSOR_WORDS};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, pad4, parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::ATTENTION_JOIN;

/// `y[t, h] = sum_p exp(mass[t, h, p]) x[t, h, p] / sum_p exp(mass[t, h, p])`, `p` over the parts in which the query sees a key
///
/// Inputs: both outputs of an [`Attention`] in several parts, `[m, query_heads * parts * head]` and `[m, query_heads * parts]`, and the
/// cursor `[2]` as words. Output: `[m, query_heads * head]`; all f32. (Dao et al. 2023.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionJoin {
    /// The attention whose parts they are.
    pub attention: Attention,
    /// Tokens that its cache has room for.
    pub context: usize,
}

impl Kernel for AttentionJoin {
    fn name(&self) -> &'static str {
        "attention_join"
    }

    fn summary(&self) -> String {
        self.attention.summary()
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x, _, _] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "parts, masses, cursor", found: inputs.len() });
        };
        let Attention { query_heads, head, parts, .. } = self.attention;
        if query_heads == 0 || head == 0 || !head.is_multiple_of(4) || parts == 0 || self.context == 0 {
            let reason = format!(
                "{parts} parts of {query_heads} heads of {head} columns in a context of {}: none may be zero, and a head has a multiple of four",
                self.context
            );
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let m = x.shape.first().copied().unwrap_or_default();
        let wanted = [
            Desc::f32([m, query_heads * parts * head]),
            Desc::f32([m, query_heads * parts]),
            Desc::new(Format::Word, [CURSOR_WORDS]),
        ];
        for (position, (found, wanted)) in inputs.iter().zip(&wanted).enumerate() {
            if found != wanted || found.is_empty() {
                let (expected, found) = (wanted.to_string(), found.clone());
                return Err(ShapeError::Input { kernel, position, expected, found });
            }
        }
        Ok(vec![Desc::f32([m, query_heads * head])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let Attention { query_heads, head, parts, window, .. } = self.attention;
        let (m, heads, d4) = (call.inputs[0].rows() as u32, query_heads as u32, head as u32 / 4);
        let masses = pad4(query_heads * parts) as u32;
        let params = vec![m, heads, d4, parts as u32, masses, self.context as u32, window.unwrap_or(u32::MAX)];
        Launch::new(call, params, [(heads * d4).div_ceil(64), m, 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, masses) = (inputs[0].values(), inputs[1].values());
        let Attention { query_heads, head, parts, .. } = self.attention;
        let (position, m) = (inputs[2].words[0] as usize, outputs[0].shape[0]);
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, head, |at, out| {
            let seen = self.attention.seen(position + at / query_heads, self.context);
            let meets = |part: &usize| {
                let part = self.attention.part(*part, (position, m, self.context));
                seen.start.max(part.start) < seen.end.min(part.end)
            };
            let counted: Vec<usize> = (0..parts).filter(meets).collect();
            let mass = |part: usize| f64::from(masses[at * parts + part]);
            let top = counted.iter().fold(f64::NEG_INFINITY, |top, part| top.max(mass(*part)));
            let weight = |part: usize| (mass(part) - top).exp();
            let total: f64 = counted.iter().map(|part| weight(*part)).sum();
            for (i, out) in out.iter_mut().enumerate() {
                let of = |part: &usize| weight(*part) * f64::from(x[(at * parts + part) * head + i]);
                *out = (counted.iter().map(of).sum::<f64>() / total) as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// A sum over the parts, whose weights are exponentials (`docs/numerics.md`), over another.
    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        let sum = Tolerance::of_sum(self.attention.parts, Format::F32).relative;
        Tolerance { relative: 2.0 * sum + 8.5 * f64::from(f32::EPSILON) }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 2.0 * call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Parts that all count, parts that are beyond the position, and a window that leaves the first out.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (tier, [query_heads, head, parts], [m, position, context], window) in [
        (Tier::Short, [3, 20, 3], [2, 300, 320], None),
        (Tier::Short, [5, 4, 5], [9, 60, 400], None),
        (Tier::Short, [2, 64, 2], [30, 170, 256], Some(70)),
        (Tier::Full, [1, 4, 1], [1, 0, 1], None),
        (Tier::Full, [7, 256, 16], [1, 5000, 8192], None),
        (Tier::Model, [9, 64, 2], [1, 2000, 2048], None),
    ] {
        let attention = Attention { query_heads, key_heads: 1, head, scale: 1.0, window, softcap: None, parts };
        let inputs = vec![
            (Desc::f32([m, query_heads * parts * head]), Fill::Range(-2.0, 2.0)),
            (Desc::f32([m, query_heads * parts]), Fill::Range(2.0, 7.0)),
            (Desc::new(Format::Word, [CURSOR_WORDS]), Fill::Words(vec![position as u32, m as u32])),
        ];
        let shape = attention.summary().replace([' ', '/'], ".");
        let label = format!("{m}at{position}of{context}.{shape}");
        cases.push(Case { label, kernel: Arc::new(AttentionJoin { attention, context }), inputs, tier });
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_what_the_whole_is() {
        for (parts, m, position, window) in
            [(3, 5, 300, None), (4, 40, 60, None), (2, 40, 170, Some(70)), (5, 1, 0, None)]
        {
            let context = 350;
            let whole =
                Attention { query_heads: 4, key_heads: 2, head: 8, scale: 0.4, window, softcap: None, parts: 1 };
            let attention = Attention { parts, ..whole };
            let cache = Desc::f32([context, 2, 8]);
            let cursor = HostTensor::from_words(Desc::new(Format::Word, [2]), vec![position, m as u32]);
            let inputs = [
                HostTensor::noise(&Desc::f32([m, 32]), 1),
                HostTensor::noise(&cache, 2),
                HostTensor::noise(&cache, 3),
                cursor.clone(),
            ];
            let inputs: Vec<&HostTensor> = inputs.iter().collect();
            let descs: Vec<Desc> = inputs.iter().map(|tensor| tensor.desc.clone()).collect();
            let expected = whole.reference(&inputs, &whole.outputs(&descs).unwrap());
            let cut = attention.reference(&inputs, &attention.outputs(&descs).unwrap());
            let join = AttentionJoin { attention, context };
            let given = [&cut[0], &cut[1], &cursor];
            let descs: Vec<Desc> = given.iter().map(|tensor| tensor.desc.clone()).collect();
            let found = join.reference(&given, &join.outputs(&descs).unwrap());
            for (a, b) in found[0].values().iter().zip(expected[0].values()) {
                assert!((a - b).abs() < 1e-5, "{parts} parts, {m} at {position}: {a} for {b}");
            }
        }
    }
}
