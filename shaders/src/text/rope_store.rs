//! Rotary position embedding, and the store of keys and values in the cache.

use super::CURSOR_WORDS;
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting,
    traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::ROPE_STORE;

/// `(a, b) -> (a cos - b sin, b cos + a sin)` for columns `i` and `i + half` of every query and key head
///
/// Inputs: `x [m, (query_heads + 2 key_heads) * head]` (queries, keys, values), `turns [context, head]` (the cosines of a position's
/// angles, then the sines), the cursor `[2]` as words, and the caches of keys and values `[context, key_heads * head]`, which are
/// updated in place at the positions of the run. Output: the queries `[m, query_heads * head]`, then the caches; all f32. Rows of
/// the queries beyond the run's tokens are not written. (Su et al. 2021, in the half-split form of GPT-NeoX.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeStore {
    /// Heads of queries.
    pub query_heads: usize,
    /// Heads of keys and values.
    pub key_heads: usize,
    /// Columns of a head; a multiple of four.
    pub head: usize,
}

impl Kernel for RopeStore {
    fn name(&self) -> &'static str {
        "rope_store"
    }

    fn summary(&self) -> String {
        format!("{}/{}x{}", self.query_heads, self.key_heads, self.head)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x, turns, cursor, keys, values] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "x, turns, cursor, keys, values", found: inputs.len() });
        };
        if self.head == 0 || !self.head.is_multiple_of(4) || self.key_heads == 0 || self.query_heads == 0 {
            let reason = format!("{} heads of {} columns cannot be turned; a head has a multiple of four", self.query_heads, self.head);
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let context = turns.shape.first().copied().unwrap_or_default();
        let m = x.shape.first().copied().unwrap_or_default();
        let cache = Desc::f32([context, self.key_heads * self.head]);
        let wanted = [
            Desc::f32([m, (self.query_heads + 2 * self.key_heads) * self.head]),
            Desc::f32([context, self.head]),
            Desc::new(Format::Word, [CURSOR_WORDS]),
            cache.clone(),
            cache.clone(),
        ];
        for (position, (found, wanted)) in [x, turns, cursor, keys, values].into_iter().zip(&wanted).enumerate() {
            if found != wanted || found.is_empty() {
                let (expected, found) = (wanted.to_string(), found.clone());
                return Err(ShapeError::Input { kernel, position, expected, found });
            }
        }
        Ok(vec![Desc::f32([m, self.query_heads * self.head]), cache.clone(), cache])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (m, half) = (call.inputs[0].rows() as u32, self.head as u32 / 2);
        let [queries, keys] = [self.query_heads as u32, self.key_heads as u32];
        let params = vec![m, queries, keys, half, call.inputs[1].shape[0] as u32];
        let mut launch = Launch::new(call, params, [((queries + 2 * keys) * half).div_ceil(64), m, 1]);
        use crate::Operand::{Input, Output};
        launch.operands = vec![Input(0), Input(1), Input(2), Output(1), Output(2), Output(0)];
        launch
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(3, 1), (4, 2)]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, turns) = (inputs[0].values(), inputs[1].values());
        let (position, count) = (inputs[2].words[0] as usize, inputs[2].words[1] as usize);
        let (head, half, context) = (self.head, self.head / 2, inputs[1].desc.shape[0]);
        let (queries, stored) = (self.query_heads * head, self.key_heads * head);
        let (mut q, mut keys, mut values) = (vec![0.0; outputs[0].len()], inputs[3].values(), inputs[4].values());
        for t in 0..inputs[0].desc.shape[0].min(count) {
            let at = position + t;
            if at >= context {
                break;
            }
            let row = &x[t * (queries + 2 * stored)..][..queries + 2 * stored];
            let turned = |from: usize| {
                let (h, i) = (from / head * head, from % head);
                let [c, s] = [turns[at * head + i % half], turns[at * head + half + i % half]].map(f64::from);
                let [low, high] = [row[h + i % half], row[h + half + i % half]].map(f64::from);
                (if i < half { low * c - high * s } else { high * c + low * s }) as f32
            };
            (0..queries).for_each(|i| q[t * queries + i] = turned(i));
            (0..stored).for_each(|i| keys[at * stored + i] = turned(queries + i));
            values[at * stored..][..stored].copy_from_slice(&row[queries + stored..]);
        }
        [q, keys, values].into_iter().zip(outputs).map(|(v, desc)| HostTensor::from_values(desc.clone(), &v)).collect()
    }

    /// Two products and their sum.
    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance { relative: 4.0 * f64::from(f32::EPSILON) }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let caches: f64 = call.inputs[3..].iter().map(|d| d.bytes() as f64).sum();
        Work { flops: 3.0 * call.inputs[0].len() as f64, bytes: traffic(call) - 2.0 * caches + call.inputs[0].bytes() as f64 }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Heads of awkward sizes, grouped heads, the start and the end of the cache, runs that would go beyond it.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (tier, [query_heads, key_heads, head], [m, count, position, context]) in [
        (Tier::Short, [8, 4, 8], [1, 1, 5, 9]),
        (Tier::Short, [3, 1, 20], [4, 3, 2, 7]),
        (Tier::Full, [2, 2, 4], [2, 2, 0, 2]),
        (Tier::Full, [7, 1, 12], [5, 5, 4, 6]),
        (Tier::Full, [2, 1, 96], [3, 3, 1, 5]),
        (Tier::Model, [9, 3, 64], [1, 1, 100, 256]),
        (Tier::Model, [32, 8, 64], [64, 64, 0, 128]),
    ] {
        let noise = |rows: usize, columns: usize| (Desc::f32([rows, columns]), Fill::Noise);
        // Rows beyond the tokens of the run are not written, so the case has as many as the run.
        let m = if count < m { count } else { m };
        let inputs = vec![
            noise(m, (query_heads + 2 * key_heads) * head),
            noise(context, head),
            (Desc::new(Format::Word, [CURSOR_WORDS]), Fill::Words(vec![position as u32, count as u32])),
            noise(context, key_heads * head),
            noise(context, key_heads * head),
        ];
        let kernel = Arc::new(RopeStore { query_heads, key_heads, head });
        let label = format!("{query_heads}of{key_heads}x{head}.{count}at{position}of{context}");
        cases.push(Case { label, kernel, inputs, tier });
    }
    cases
}
