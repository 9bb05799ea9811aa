//! Rotary position embedding, and the store of keys and values in the cache.

use super::{CURSOR_WORDS, cache_choice};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::ROPE_STORE;

/// `(a, b) -> (a cos - b sin, b cos + a sin)` for columns `i` and `i + half` of every query and key head
///
/// Inputs: `x [m, (query_heads + 2 key_heads) * head]` (queries, keys, and values unless they are `apart`), `turns [context, head]` (the cosines of a position's
/// angles, then the sines), the cursor `[2]` as words, and the caches of keys and values `[context, key_heads, head]` in f32, f16 or
/// scaled bytes, which are updated in place at the positions of the run. With `norm` an input `gains [2, head]` holds what queries and keys are multiplied by
/// after each head of theirs was divided by `sqrt(mean(x^2) + epsilon)` (Henry et al. 2020). Values that are `apart` are the last
/// input, `[m, key_heads * head]`. Output: the queries `[m, query_heads * head]` in f32, then the caches. Rows of
/// the queries beyond the run's tokens are not written. (Su et al. 2021, in the half-split form of GPT-NeoX.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeStore {
    /// Heads of queries.
    pub query_heads: usize,
    /// Heads of keys and values.
    pub key_heads: usize,
    /// Columns of a head; a multiple of four, of eight for a cache of scaled bytes.
    pub head: usize,
    /// The epsilon of the norm of queries and keys, when there is one.
    pub norm: Option<f32>,
    /// The new values are an input of their own.
    pub apart: bool,
}

impl RopeStore {
    /// Heads in a row of `x`.
    fn heads(&self) -> usize {
        self.query_heads + self.key_heads * if self.apart { 1 } else { 2 }
    }
}

impl Kernel for RopeStore {
    fn name(&self) -> &'static str {
        "rope_store"
    }

    fn summary(&self) -> String {
        let norm = if self.norm.is_some() { " normed" } else { "" };
        let apart = if self.apart { " apart" } else { "" };
        format!("{}/{}x{}{norm}{apart}", self.query_heads, self.key_heads, self.head)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let (true, Some([x, turns, ..])) =
            (inputs.len() == 5 + usize::from(self.norm.is_some()) + usize::from(self.apart), inputs.get(..5))
        else {
            let expected = "x, turns, cursor, keys, values, and gains and the run's values if it has them";
            return Err(ShapeError::Count { kernel, expected, found: inputs.len() });
        };
        if self.head == 0 || !self.head.is_multiple_of(4) || self.key_heads == 0 || self.query_heads == 0 {
            let reason = format!(
                "{} heads of {} columns cannot be turned; a head has a multiple of four",
                self.query_heads, self.head
            );
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let context = turns.shape.first().copied().unwrap_or_default();
        let m = x.shape.first().copied().unwrap_or_default();
        let format = inputs[3].format;
        let Some(choice) = cache_choice(format) else {
            let expected = format!("a cache in {}", super::CACHES);
            return Err(ShapeError::Input { kernel, position: 3, expected, found: inputs[3].clone() });
        };
        if choice == "q8" && !self.head.is_multiple_of(8) {
            let reason = format!(
                "heads of {} columns do not go into a cache of scaled bytes, which wants a multiple of eight; use f16",
                self.head
            );
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let cache = Desc::new(format, [context, self.key_heads, self.head]);
        let mut wanted = vec![
            Desc::f32([m, self.heads() * self.head]),
            Desc::f32([context, self.head]),
            Desc::new(Format::Word, [CURSOR_WORDS]),
            cache.clone(),
            cache.clone(),
        ];
        wanted.extend(self.norm.map(|_| Desc::f32([2, self.head])));
        wanted.extend(self.apart.then(|| Desc::f32([m, self.key_heads * self.head])));
        for (position, (found, wanted)) in inputs.iter().zip(&wanted).enumerate() {
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

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let cache = cache_choice(call.inputs[3].format).unwrap_or_default();
        let paths: &[&str] = if caps.software { &["subgroup8", "subgroup4", "portable"] } else { &["portable"] };
        let of = |path: &&'static str| fitting(SOURCES, &[("path", *path), ("cache", cache)], caps).next();
        paths.iter().find_map(of).into_iter().collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (m, half) = (call.inputs[0].rows() as u32, self.head as u32 / 2 / source.number("W"));
        let [queries, keys] = [self.query_heads as u32, self.key_heads as u32];
        let (normalize, epsilon) = (u32::from(self.norm.is_some()), self.norm.unwrap_or_default().to_bits());
        let params =
            vec![m, queries, keys, half, call.inputs[1].shape[0] as u32, normalize, epsilon, self.heads() as u32];
        let mut launch = Launch::new(call, params, [queries + 2 * keys, m, 1]);
        use crate::Operand::{Input, Output};
        let gains = Input(if self.norm.is_some() { 5 } else { 1 });
        let apart = Input(if self.apart { call.inputs.len() - 1 } else { 0 });
        launch.operands = vec![Input(0), Input(1), Input(2), gains, apart, Output(1), Output(2), Output(0)];
        launch
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(3, 1), (4, 2)]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, turns) = (inputs[0].values(), inputs[1].values());
        let gains = self.norm.map(|_| inputs[5].values());
        let apart = self.apart.then(|| inputs[inputs.len() - 1].values());
        let (position, count) = (inputs[2].words[0] as usize, inputs[2].words[1] as usize);
        let (head, half, context) = (self.head, self.head / 2, inputs[1].desc.shape[0]);
        let (queries, stored) = (self.query_heads * head, self.key_heads * head);
        let (mut q, mut keys, mut values) = (vec![0.0; outputs[0].len()], inputs[3].clone(), inputs[4].clone());
        for t in 0..inputs[0].desc.shape[0].min(count) {
            let at = position + t;
            if at >= context {
                break;
            }
            let width = self.heads() * head;
            let mut row = x[t * width..][..width].to_vec();
            if let Some(apart) = &apart {
                row.extend_from_slice(&apart[t * stored..][..stored]);
            }
            if let (Some(epsilon), Some(gains)) = (self.norm, &gains) {
                for (at, head) in row[..queries + stored].chunks_mut(head).enumerate() {
                    let mean = head.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / head.len() as f64;
                    let factor = 1.0 / (mean + f64::from(epsilon)).sqrt();
                    let gains = &gains[if at < self.query_heads { 0 } else { head.len() }..];
                    head.iter_mut()
                        .zip(gains)
                        .for_each(|(v, gain)| *v = (f64::from(*v) * factor * f64::from(*gain)) as f32);
                }
            }
            let turned = |from: usize| {
                let (h, i) = (from / head * head, from % head);
                let [c, s] = [turns[at * head + i % half], turns[at * head + half + i % half]].map(f64::from);
                let [low, high] = [row[h + i % half], row[h + half + i % half]].map(f64::from);
                (if i < half { low * c - high * s } else { high * c + low * s }) as f32
            };
            (0..queries).for_each(|i| q[t * queries + i] = turned(i));
            for h in 0..self.key_heads {
                let key: Vec<f32> = (0..head).map(|i| turned(queries + h * head + i)).collect();
                keys.set_row(at * self.key_heads + h, &key);
                values.set_row(at * self.key_heads + h, &row[queries + stored + h * head..][..head]);
            }
        }
        vec![HostTensor::from_values(outputs[0].clone(), &q), keys, values]
    }

    /// Two products and their sum; a norm before them is a sum of `head` squares, rounded to f32 by the twin as well. What a
    /// cache stores may be rounded to either side where it lies between two steps: of a half float, or of a 127th of the largest.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let norm = self.norm.map_or(0.0, |_| Tolerance::of_sum(self.head, Format::F32).relative);
        let step = match call.inputs[3].format {
            Format::F16 => 1.0 / 1024.0,
            Format::ScaledI8 => 1.0 / 127.0,
            _ => 0.0,
        };
        Tolerance { relative: 4.0 * f64::from(f32::EPSILON) + norm + step }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let caches: f64 = call.inputs[3..5].iter().map(|d| d.bytes() as f64).sum();
        Work {
            flops: 3.0 * call.inputs[0].len() as f64,
            bytes: traffic(call) - 2.0 * caches + call.inputs[0].bytes() as f64,
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Heads of awkward sizes, grouped heads, the start and the end of the cache, runs that would go beyond it, values that are not finite.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Rows beyond the tokens of the run are not written, so a case has as many as its run.
    use Format::{F16, F32, ScaledI8};
    for (tier, format, norm, apart, [query_heads, key_heads, head], [count, position, context]) in [
        (Tier::Short, F32, None, false, [8, 4, 8], [1, 5, 9]),
        (Tier::Short, F32, Some(1e-6), false, [3, 1, 20], [3, 2, 7]),
        (Tier::Short, F16, Some(1e-6), true, [3, 1, 20], [3, 2, 7]),
        (Tier::Short, ScaledI8, Some(1e-6), false, [4, 2, 24], [3, 1, 6]),
        (Tier::Full, F32, None, false, [2, 2, 4], [2, 0, 2]),
        (Tier::Full, F32, None, false, [7, 1, 12], [5, 4, 6]),
        (Tier::Full, F32, Some(1e-5), false, [2, 1, 96], [3, 1, 5]),
        (Tier::Full, F16, None, false, [2, 2, 4], [2, 0, 2]),
        (Tier::Full, ScaledI8, None, true, [7, 1, 8], [5, 4, 6]),
        (Tier::Model, F32, None, false, [9, 3, 64], [1, 100, 256]),
        (Tier::Model, F16, None, false, [9, 3, 64], [1, 100, 256]),
        (Tier::Model, ScaledI8, None, false, [9, 3, 64], [1, 100, 256]),
        (Tier::Model, F32, Some(1e-6), false, [16, 8, 128], [32, 0, 128]),
        (Tier::Model, ScaledI8, Some(1e-6), false, [16, 8, 128], [32, 0, 128]),
        (Tier::Short, F32, Some(1e-6), true, [4, 2, 12], [3, 1, 6]),
        (Tier::Full, F32, None, true, [3, 3, 8], [2, 3, 9]),
        (Tier::Model, F32, None, true, [32, 8, 64], [32, 0, 128]),
    ] {
        let m = count;
        let kernel = RopeStore { query_heads, key_heads, head, norm, apart };
        let noise = |rows: usize, columns: usize| (Desc::f32([rows, columns]), Fill::Noise);
        let mut inputs = vec![
            noise(m, kernel.heads() * head),
            noise(context, head),
            (Desc::new(Format::Word, [CURSOR_WORDS]), Fill::Words(vec![position as u32, count as u32])),
            (Desc::new(format, [context, key_heads, head]), Fill::Noise),
            (Desc::new(format, [context, key_heads, head]), Fill::Noise),
        ];
        inputs.extend(norm.map(|_| noise(2, head)));
        inputs.extend(apart.then(|| noise(m, key_heads * head)));
        let way = if apart { ".apart" } else { "" };
        let label = format!("{query_heads}of{key_heads}x{head}.{count}at{position}of{context}{way}.{}", format.label());
        let kernel = Arc::new(kernel);
        cases.push(Case { label, kernel, inputs, tier });
    }
    // A key that is no number, and a value that is infinite, in a cache of bytes: their heads are no numbers, and no others.
    let kernel = RopeStore { query_heads: 1, key_heads: 2, head: 8, norm: None, apart: false };
    let mut x: Vec<f32> = (0..2 * 40).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    (x[8 + 3], x[40 + 24 + 8 + 5]) = (f32::NAN, f32::NEG_INFINITY);
    let cache = (Desc::new(ScaledI8, [4, 2, 8]), Fill::Noise);
    let inputs = vec![
        (Desc::f32([2, 40]), Fill::Values(x)),
        (Desc::f32([4, 8]), Fill::Noise),
        (Desc::new(Format::Word, [CURSOR_WORDS]), Fill::Words(vec![1, 2])),
        cache.clone(),
        cache,
    ];
    cases.push(Case { label: "not_finite.scaled-i8".into(), kernel: Arc::new(kernel), inputs, tier: Tier::Short });
    cases
}
