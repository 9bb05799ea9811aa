//! Attention to a session's cache, for one token or a chunk of a prompt.

use super::{CURSOR_WORDS, cache_choice};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, pad4, parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::ATTENTION;

/// `y[t, h] = sum_j softmax_j(cap(scale * q[t, h] . k[j, g])) v[j, g]`, `g` the head of keys that query head `h` shares
///
/// Inputs: queries `[m, query_heads * head]` in f32, the caches of keys and values `[context, key_heads, head]` in f32, f16 or scaled
/// bytes, the cursor `[2]` as words (position, tokens of the run). Output as the queries. Query `t` lies at `position + t` and sees the `window` positions
/// up to its own. `cap(s) = softcap * tanh(s / softcap)` where there is a cap. (Vaswani et al. 2017; grouped heads: Ainslie et al. 2023;
/// the running softmax: Milakov and Gimelshein 2018.)
///
/// With several `parts` the positions that the run sees are cut in as many, of at least [`Attention::LEAST_PART`] each, and every part is a softmax of its
/// own. Outputs: `[m, query_heads * parts * head]`, and the logarithm of each part's sum of exponentials `[m, query_heads * parts]`; zeros for a part in
/// which a query sees nothing. [`super::AttentionJoin`] makes one of them. (Dao et al. 2023.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Heads of queries; a multiple of those of keys.
    pub query_heads: usize,
    /// Heads of keys and values.
    pub key_heads: usize,
    /// Columns of a head; a multiple of four, at most [`Attention::MAX_HEAD`].
    pub head: usize,
    /// What the scores are multiplied by.
    pub scale: f32,
    /// Positions a query sees, its own included; all when absent.
    pub window: Option<u32>,
    /// The bound of the scores, when they have one.
    pub softcap: Option<f32>,
    /// Parts that the keys are cut in, at least one.
    pub parts: usize,
}

impl Attention {
    /// Workgroups that keep a GPU busy: some for each of its cores, of which nothing tells the number.
    const BUSY: usize = 128;

    /// In how many parts the keys are best cut for runs of `tokens` and a cache with room for `context`. A GPU gets enough workgroups for its
    /// cores, of 128 positions or more each, where there would be few: one token's, and a long context. On a software
    /// adapter eight are enough, for a long context's token, which a part more costs less than a core that has nothing to do; more parts only where a
    /// shader's loops would come to their bound.
    pub fn parts_for(&self, caps: &Caps, tokens: usize, context: usize) -> usize {
        let seen = self.window.map_or(context, |window| context.min(window as usize + tokens - 1));
        let rows = tokens * self.query_heads / self.key_heads;
        if caps.software {
            let few = if seen < Self::LONG { 1 } else { (8 / (self.key_heads * rows.div_ceil(4))).max(1) };
            return few.max(seen.div_ceil(Attention::MOST_PART));
        }
        let rows = rows.div_ceil(16);
        (seen / 128).min(Self::BUSY / (self.key_heads * rows)).max(1)
    }

    /// Positions from which on a software adapter's few workgroups are made more.
    const LONG: usize = 2048;

    /// Queries that share a head of keys.
    fn rows(&self, call: &Call<'_>) -> usize {
        call.inputs[0].rows() * (self.query_heads / self.key_heads)
    }

    /// Most columns of a head.
    pub const MAX_HEAD: usize = 256;

    /// Fewest positions of a part.
    pub const LEAST_PART: usize = 64;

    /// Most positions of a part where a shader's loops have a bound: Mesa's software rasterizer ends them, without a word, after
    /// 65535 turns of all together. The variants take at most 5.5 turns a position (`portable` at 256 columns), so that half
    /// as many again would do.
    pub const MOST_PART: usize = 8192;

    /// The positions that a part has, as first and one after the last, when a run of `m` tokens lies at `position`.
    pub(super) fn part(&self, part: usize, (position, m, context): (usize, usize, usize)) -> std::ops::Range<usize> {
        let end = (position + m).min(context);
        let begin = self.seen(position, context).start;
        let size = (end - begin).div_ceil(self.parts).max(Attention::LEAST_PART);
        (begin + part * size).min(end)..(begin + (part + 1) * size).min(end)
    }

    /// The positions that a token at `position` sees.
    pub(super) fn seen(&self, position: usize, context: usize) -> std::ops::Range<usize> {
        let end = (position + 1).min(context);
        end.saturating_sub(self.window.map_or(usize::MAX, |w| w as usize))..end
    }
}

impl Kernel for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn summary(&self) -> String {
        let mut text = format!("{}/{}x{}", self.query_heads, self.key_heads, self.head);
        if let Some(window) = self.window {
            text += &format!(" window{window}");
        }
        if let Some(cap) = self.softcap {
            text += &format!(" cap{cap}");
        }
        if self.parts > 1 {
            text += &format!(" parts{}", self.parts);
        }
        text
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [q, keys, _, _] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "queries, keys, values, cursor", found: inputs.len() });
        };
        let fits = self.head > 0 && self.head.is_multiple_of(4) && self.head <= Self::MAX_HEAD && self.parts > 0;
        if !fits || self.key_heads == 0 || !self.query_heads.is_multiple_of(self.key_heads) || self.window == Some(0) {
            let reason = format!(
                "{} heads of queries over {} of keys, of {} columns each, in {} parts: a head has a multiple of four columns, at most {}, \
                 the heads of keys divide those of queries, and there is a part",
                self.query_heads,
                self.key_heads,
                self.head,
                self.parts,
                Self::MAX_HEAD
            );
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let first = |desc: &Desc| desc.shape.first().copied().unwrap_or_default();
        if cache_choice(keys.format).is_none() {
            let expected = format!("a cache in {}", super::CACHES);
            return Err(ShapeError::Input { kernel, position: 1, expected, found: keys.clone() });
        }
        let cache = Desc::new(keys.format, [first(keys), self.key_heads, self.head]);
        let wanted = [
            Desc::f32([first(q), self.query_heads * self.head]),
            cache.clone(),
            cache,
            Desc::new(Format::Word, [CURSOR_WORDS]),
        ];
        for (position, (found, wanted)) in inputs.iter().zip(&wanted).enumerate() {
            if found != wanted || found.is_empty() {
                let (expected, found) = (wanted.to_string(), found.clone());
                return Err(ShapeError::Input { kernel, position, expected, found });
            }
        }
        if self.parts == 1 {
            return Ok(vec![q.clone()]);
        }
        let parts = self.query_heads * self.parts;
        Ok(vec![Desc::f32([first(q), parts * self.head]), Desc::f32([first(q), parts])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    /// On software adapters: two rows a lane where there are subgroups of eight and rows for them, else every eighth key an invocation, in blocks of three rows or of
    /// four, whichever leaves fewer idle. One token's heads of more than 64 columns go by subgroups of eight, whose loops are shorter then. Where
    /// arrays are slow all goes by subgroups of eight; without these, heads of more than 64 columns by subgroups of four or workgroup memory.
    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let cache = cache_choice(call.inputs[1].format).unwrap_or_default();
        let keys = if self.parts > 1 { "part" } else { "whole" };
        let rows = self.rows(call);
        let own = if rows.div_ceil(3) == rows.div_ceil(4) { "keys3" } else { "keys4" };
        let [eight, four] = if rows < 2 { ["subgroup8", "subgroup4"] } else { ["subgroup8x4", "subgroup4x4"] };
        let (wide, slow) = (self.head > 64, caps.slow_arrays);
        let paths = match caps.software {
            true => vec![
                (rows >= 8 && !slow, "rows16"),
                (wide || slow, eight),
                (!wide || !slow, own),
                (wide, four),
                (true, "portable"),
            ],
            false => vec![(rows >= 5, "tiled"), (true, "portable")],
        };
        let mut found: Vec<_> = paths
            .iter()
            .filter(|(suits, _)| *suits)
            .flat_map(|(_, path)| {
                fitting(SOURCES, &[("path", path), ("cache", cache), ("keys", keys)], caps).collect::<Vec<_>>()
            })
            .filter(|source| self.head <= 4 * source.number("D4") as usize)
            .collect();
        found.truncate(1);
        found
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (m, context) = (call.inputs[0].rows() as u32, call.inputs[1].shape[0] as u32);
        let (heads, d4) = (self.query_heads as u32, self.head as u32 / 4);
        let params = vec![
            m,
            heads,
            heads / self.key_heads as u32,
            d4,
            self.key_heads as u32,
            context,
            self.window.unwrap_or(u32::MAX),
            self.scale.to_bits(),
            self.softcap.unwrap_or(0.0).to_bits(),
            self.parts as u32,
            pad4(self.query_heads * self.parts) as u32,
            0,
        ];
        let rows = (self.rows(call) as u32).div_ceil(source.number("R"));
        Launch::new(call, params, [self.key_heads as u32 * rows * self.parts as u32, 1, 1])
    }

    fn first_group(&self) -> [Option<usize>; 2] {
        [Some(11), None]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let [q, keys, values] = [0, 1, 2].map(|at: usize| inputs[at].values());
        let (context, stride) = (inputs[1].desc.shape[0], self.key_heads * self.head);
        let (position, m) = (inputs[3].words[0] as usize, inputs[0].desc.shape[0]);
        let mut rows = vec![0.0; m * self.query_heads * self.parts * (self.head + 1)];
        parallel::rows(&mut rows, self.head + 1, |at, out| {
            let (at, part) = (at / self.parts, at % self.parts);
            let (t, h) = (at / self.query_heads, at % self.query_heads);
            let (seen, part) = (self.seen(position + t, context), self.part(part, (position, m, context)));
            let seen = seen.start.max(part.start)..seen.end.min(part.end);
            let column = h / (self.query_heads / self.key_heads) * self.head;
            let of = |cache: &'_ [f32], j: usize, i: usize| f64::from(cache[j * stride + column + i]);
            let score = |j: usize| {
                let sum: f64 = (0..self.head).map(|i| f64::from(q[at * self.head + i]) * of(&keys, j, i)).sum();
                let score = sum * f64::from(self.scale);
                self.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            };
            let scores: Vec<f64> = seen.clone().map(score).collect();
            let top = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
            let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let total: f64 = weights.iter().sum();
            if seen.is_empty() {
                return;
            }
            for (i, out) in out[..self.head].iter_mut().enumerate() {
                let sum: f64 = weights.iter().zip(seen.clone()).map(|(w, j)| w * of(&values, j, i)).sum();
                *out = (sum / total) as f32;
            }
            out[self.head] = (top + total.ln()) as f32;
        });
        let y: Vec<f32> = rows.chunks(self.head + 1).flat_map(|row| row[..self.head].to_vec()).collect();
        let masses: Vec<f32> = rows.chunks(self.head + 1).map(|row| row[self.head]).collect();
        let made = [y, masses];
        outputs.iter().zip(&made).map(|(desc, values)| HostTensor::from_values(desc.clone(), values)).collect()
    }

    /// The scores are sums of `head` products whose error the exponential turns into a relative one: it weighs as much as the
    /// scores are large, which `scale` keeps near one, and eightfold here. The sum over the context and the exponential's own
    /// error (`docs/numerics.md`) come on top; a logarithm turns a relative error of the sum into an absolute one.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let scores = 8.0 * Tolerance::of_sum(self.head, Format::F32).relative;
        let sum = Tolerance::of_sum(call.inputs[1].shape[0], Format::F32).relative;
        Tolerance { relative: scores + sum + 8.5 * f64::from(f32::EPSILON) }
    }

    /// As if every query saw the whole cache.
    fn work(&self, call: &Call<'_>) -> Work {
        let keys = self.window.map_or(usize::MAX, |w| w as usize).min(call.inputs[1].shape[0]) as f64;
        Work { flops: 4.0 * call.inputs[0].len() as f64 * keys, bytes: traffic(call) }
    }

    fn share(&self, call: &Call<'_>, positions: usize) -> f64 {
        let keys = self.window.map_or(usize::MAX, |w| w as usize).min(call.inputs[1].shape[0]).max(1);
        positions.clamp(1, keys) as f64 / keys as f64
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Heads of awkward sizes, grouped heads, windows, caps; caches below, on and off the lanes.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, format: Format, kernel: Attention, [m, position, context]: [usize; 3]| {
        let cache = Desc::new(format, [context, kernel.key_heads, kernel.head]);
        let inputs = vec![
            (Desc::f32([m, kernel.query_heads * kernel.head]), Fill::Range(-2.0, 2.0)),
            (cache.clone(), Fill::Range(-2.0, 2.0)),
            (cache, Fill::Range(-2.0, 2.0)),
            (Desc::new(Format::Word, [CURSOR_WORDS]), Fill::Words(vec![position as u32, m as u32])),
        ];
        let label =
            format!("{m}at{position}of{context}.{}.{}", kernel.summary().replace([' ', '/'], "."), format.label());
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    let of = |query_heads: usize, key_heads: usize, head: usize| {
        let scale = 1.0 / (head as f32).sqrt();
        Attention { query_heads, key_heads, head, scale, window: None, softcap: None, parts: 1 }
    };
    add(Tier::Short, Format::F32, of(8, 4, 8), [1, 20, 32]);
    for format in [Format::F32, Format::F16, Format::ScaledI8] {
        add(Tier::Short, format, of(3, 1, 20), [5, 70, 90]);
        add(Tier::Short, format, of(2, 1, 72), [3, 11, 14]);
        add(Tier::Model, format, of(9, 3, 64), [1, 255, 512]);
    }
    for format in [Format::F16, Format::ScaledI8] {
        for head in [4, 24, 64, 96, 256] {
            add(Tier::Full, format, of(4, 2, head), [2, 11, 40]);
        }
    }
    add(Tier::Short, Format::F32, Attention { window: Some(8), softcap: Some(5.0), ..of(2, 2, 36) }, [9, 0, 9]);
    for context in [1, 2, 3, 4, 5, 7, 8, 9, 31, 63, 64, 65, 127, 129] {
        add(Tier::Full, Format::F32, of(2, 1, 12), [1, context - 1, context]);
    }
    for head in [4, 16, 28, 32, 64, 80, 96, 128, 160, 256] {
        add(Tier::Full, Format::F32, of(2, 1, head), [2, 11, 40]);
    }
    for window in [1, 3, 64, 100] {
        add(Tier::Full, Format::F32, Attention { window: Some(window), ..of(2, 2, 8) }, [7, 60, 80]);
    }
    add(Tier::Model, Format::F32, of(32, 8, 64), [16, 100, 256]);
    for format in [Format::F32, Format::F16, Format::ScaledI8] {
        add(Tier::Model, format, of(9, 3, 64), [32, 224, 512]);
        add(Tier::Short, format, of(6, 2, 40), [7, 90, 97]);
        add(Tier::Short, format, Attention { parts: 3, ..of(4, 2, 40) }, [5, 140, 160]);
        add(Tier::Full, format, Attention { parts: 2, ..of(4, 1, 256) }, [1, 200, 256]);
        add(Tier::Full, format, Attention { parts: 4, ..of(4, 1, 128) }, [12, 300, 400]);
    }
    // Fewer positions than parts have room for, and a window that ends within one.
    add(Tier::Short, Format::F32, Attention { parts: 4, ..of(5, 1, 24) }, [9, 60, 256]);
    add(
        Tier::Short,
        Format::F32,
        Attention { parts: 2, window: Some(70), softcap: Some(3.0), ..of(3, 3, 16) },
        [20, 150, 180],
    );
    for (heads, m) in [(1, 8), (2, 4), (5, 16), (16, 1), (3, 33)] {
        add(Tier::Full, Format::F32, Attention { window: Some(19), ..of(2 * heads, 2, 96) }, [m, 30, 70]);
    }
    // Every form: a row, a few and many; every width of head; whole and in parts.
    for format in [Format::F32, Format::F16, Format::ScaledI8] {
        for (parts, head) in [(1, 64), (1, 128), (1, 256), (2, 64), (2, 128), (2, 256)] {
            for (group, m) in [(1, 1), (4, 1), (4, 5)] {
                add(Tier::Full, format, Attention { parts, ..of(group, 1, head) }, [m, 90, 100]);
            }
        }
    }
    // As many positions as a part may have, where every path's loops turn most, and twice as many in two parts.
    for m in [1, 3, 8] {
        add(
            Tier::Full,
            Format::F16,
            of(1, 1, Attention::MAX_HEAD),
            [m, Attention::MOST_PART - m, Attention::MOST_PART],
        );
    }
    let most = 2 * Attention::MOST_PART;
    add(Tier::Full, Format::F16, Attention { parts: 2, ..of(2, 1, 128) }, [1, most - 1, most]);
    add(Tier::Model, Format::F32, of(9, 3, 64), [1, 2000, 2048]);
    add(Tier::Model, Format::F32, of(9, 3, 64), [32, 1968, 2048]);
    add(Tier::Model, Format::F32, Attention { parts: 2, ..of(9, 3, 64) }, [1, 2000, 2048]);
    add(Tier::Model, Format::F32, of(16, 8, 128), [32, 224, 512]);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_grows_up_to_a_full_cache_or_a_full_window() {
        let inputs =
            [Desc::f32([32, 64]), Desc::f32([512, 2, 16]), Desc::f32([512, 2, 16]), Desc::new(Format::Word, [2])];
        let whole =
            Attention { query_heads: 4, key_heads: 2, head: 16, scale: 1.0, window: None, softcap: None, parts: 1 };
        let share =
            |kernel: Attention, positions| kernel.share(&Call { inputs: &inputs, outputs: &inputs[..1] }, positions);
        assert_eq!([32, 256, 512, 600].map(|positions| share(whole, positions)), [0.0625, 0.5, 1.0, 1.0]);
        let window = Attention { window: Some(128), ..whole };
        assert_eq!([32, 128, 512].map(|positions| share(window, positions)), [0.25, 1.0, 1.0]);
    }
    #[test]
    fn a_software_adapter_has_two_parts_for_a_long_context_s_token_and_few_heads() {
        let software = Caps { software: true, ..Caps::WEBGPU_DEFAULT };
        let of = |key_heads: usize, window: Option<u32>| Attention {
            query_heads: 3 * key_heads,
            key_heads,
            head: 64,
            scale: 1.0,
            window,
            softcap: None,
            parts: 1,
        };
        for (parts, key_heads, window, tokens, context) in [
            (1, 3, None, 1, 2047),
            (2, 3, None, 1, 2048),
            (1, 3, Some(512), 1, 4096),
            (1, 3, None, 32, 4096),
            (1, 8, None, 1, 4096),
            (3, 3, None, 1, 20_000),
        ] {
            let found = of(key_heads, window).parts_for(&software, tokens, context);
            assert_eq!(found, parts, "{tokens} tokens, {key_heads} heads, {window:?}, {context}");
        }
    }

    #[test]
    fn a_software_adapter_s_forms_follow_its_subgroups_rows_and_columns() {
        let eight = Caps { software: true, subgroup: Some((8, 8)), ..Caps::WEBGPU_DEFAULT };
        let slow = Caps { slow_arrays: true, ..eight.clone() };
        let neither = Caps { subgroup: None, ..slow.clone() };
        let none = Caps { software: true, ..Caps::WEBGPU_DEFAULT };
        let path = |caps: &Caps, [query_heads, head, m]: [usize; 3]| {
            let kernel =
                Attention { query_heads, key_heads: 1, head, scale: 1.0, window: None, softcap: None, parts: 1 };
            let inputs = [
                Desc::f32([m, query_heads * head]),
                Desc::f32([64, 1, head]),
                Desc::f32([64, 1, head]),
                Desc::new(Format::Word, [CURSOR_WORDS]),
            ];
            let call = Call { inputs: &inputs, outputs: &inputs[..1] };
            kernel.candidates(&call, caps).first().unwrap().choice("path")
        };
        for (shape, with, old, without, old_without) in [
            ([1, 64, 1], "keys3", "subgroup8", "keys3", "keys3"),
            ([3, 64, 1], "keys3", "subgroup8x4", "keys3", "keys3"),
            ([4, 64, 1], "keys4", "subgroup8x4", "keys4", "keys4"),
            ([3, 64, 2], "keys3", "subgroup8x4", "keys3", "keys3"),
            ([1, 128, 1], "subgroup8", "subgroup8", "keys3", "portable"),
            ([4, 128, 1], "subgroup8x4", "subgroup8x4", "keys4", "portable"),
            ([4, 256, 1], "subgroup8x4", "subgroup8x4", "portable", "portable"),
            ([4, 64, 32], "rows16", "subgroup8x4", "keys4", "keys4"),
            ([4, 256, 32], "rows16", "subgroup8x4", "portable", "portable"),
        ] {
            let found = [&eight, &slow, &none, &neither].map(|caps| path(caps, shape));
            assert_eq!(found, [with, old, without, old_without], "{shape:?}");
        }
    }
}
