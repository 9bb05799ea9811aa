//! Operators that take values from places that are themselves data: rows of a table, rotary embeddings by position, rows of a
//! cache, one of two tensors.

use crate::express::{Failure, axis};
use crate::network::{Network, Sketch};
use crate::vector::{Tensor, Vector};
use lampyris_engine::Result;
use lampyris_engine::kernels::elementwise::Operation;
use lampyris_engine::kernels::text::{Embed, RopeStore, Scheme};
use lampyris_engine::plan::TensorId;

type Networks = std::result::Result<Vec<Network>, Failure>;

/// Rows of a table of `k` columns, which is weights, by `places`, which are tokens: `[places, k]`. Negative ones count from the
/// end.
fn rows(sketch: &mut Sketch, table: &[f32], k: usize, places: &[i64]) -> std::result::Result<TensorId, Failure> {
    let count = table.len() / k;
    let tokens: Vec<u32> = places.iter().map(|place| axis(*place, count) as u32).collect();
    let m = tokens.len();
    let [context, cursor] = [tokens, vec![0, u32::try_from(m)?]].map(|words| sketch.words(words));
    // Panels have 32 rows.
    let padded = count.next_multiple_of(32);
    let mut values = table.to_vec();
    values.resize(padded * k, 0.0);
    let desc = Scheme::F32.descs(padded, k).remove(0);
    let table = sketch.constant(desc, &values);
    Ok(sketch.apply(Embed { m, factor: 1.0, first: 0 }, &[context, cursor, table])?)
}

/// The axis that is looked up along comes first in the table, and the result is turned to where ONNX wants it.
pub(crate) fn gather(vector: &Vector) -> Networks {
    let (x, places) = (vector.given(0)?, vector.given(1)?);
    let along = axis(vector.integer("axis").unwrap_or(0), x.shape.len());
    let (outer, inner) = (&x.shape[..along], &x.shape[along + 1..]);
    let [before, after] = [outer, inner].map(|shape| shape.iter().product::<usize>());
    let (values, extent) = (x.values(), x.shape[along]);
    let table: Vec<f32> = (0..extent * before * after)
        .map(|i| (i / (before * after), i / after % before, i % after))
        .map(|(at, outer, inner)| values[(outer * extent + at) * after + inner])
        .collect();
    let mut sketch = Sketch::default();
    let found = rows(&mut sketch, &table, before * after, &places.integers())?;
    let found = sketch.reshape(found, &[places.shape.iter().product(), before, after])?;
    let found = sketch.transpose(found, &[1, 0, 2])?;
    let y = sketch.reshape(found, &[outer, &places.shape, inner].concat())?;
    Ok(vec![sketch.finish(&[y])])
}

/// The indices of several axes are one index of all of them together.
pub(crate) fn gather_nd(vector: &Vector) -> Networks {
    let (x, places) = (vector.given(0)?, vector.given(1)?);
    let shared = vector.integer("batch_dims").unwrap_or(0) as usize;
    let depth = places.shape[places.shape.len() - 1];
    let k = x.shape[shared + depth..].iter().product();
    let tuples: Vec<i64> = places.integers();
    let batches: usize = x.shape[..shared].iter().product();
    let each = tuples.len() / depth / batches;
    let flat = |(at, tuple): (usize, &[i64])| {
        let one = |index: usize, (place, extent): (&i64, &usize)| index * extent + axis(*place, *extent);
        tuple.iter().zip(&x.shape[shared..]).fold(at / each, one) as i64
    };
    let flat: Vec<i64> = tuples.chunks(depth).enumerate().map(flat).collect();
    let mut sketch = Sketch::default();
    let found = rows(&mut sketch, &x.values(), k, &flat)?;
    let y = sketch.reshape(found, &vector.outputs()[0].shape)?;
    Ok(vec![sketch.finish(&[y])])
}

/// Pairs of columns are turned by the angles of their position, in plain operators, and in a session where it could ask for it:
/// halves of whole heads.
pub(crate) fn rotary_embedding(vector: &Vector) -> Networks {
    let mut networks = vec![Rotary::of(vector)?.in_steps()?];
    let rotary = Rotary::of(vector)?;
    if !rotary.interleaved && rotary.turned == rotary.shape[3] {
        networks.push(rotary.in_a_session()?);
    }
    Ok(networks)
}

/// A node whose inputs are laid out.
struct Rotary<'a> {
    x: &'a Tensor,
    sketch: Sketch,
    /// `[batch, heads, tokens, columns]`
    given: TensorId,
    shape: Vec<usize>,
    /// How many columns of a head are turned.
    turned: usize,
    interleaved: bool,
    /// The cosines and the sines of every token `[batch, 1, tokens, turned / 2]`.
    angles: [TensorId; 2],
}

impl<'a> Rotary<'a> {
    /// A position's cosines and sines are rows of a table, or are given for every token.
    fn of(vector: &'a Vector) -> std::result::Result<Rotary<'a>, Failure> {
        let x = vector.given(0)?;
        let mut sketch = Sketch::default();
        let mut given = sketch.input(&x.shape, &x.values());
        if x.shape.len() == 3 {
            let heads = vector.integer("num_heads").ok_or("no num_heads")? as usize;
            given = sketch.reshape(given, &[x.shape[0], x.shape[1], heads, x.shape[2] / heads])?;
            given = sketch.transpose(given, &[0, 2, 1, 3])?;
        }
        let shape = sketch.shape(given);
        let turned = vector.integer("rotary_embedding_dim").filter(|n| *n > 0).map_or(shape[3], |n| n as usize);
        let mut angles = [given; 2];
        for (angle, table) in angles.iter_mut().zip([vector.given(1)?, vector.given(2)?]) {
            let found = match vector.optional(3) {
                Some(places) => rows(&mut sketch, &table.values(), turned / 2, &places.integers())?,
                None => sketch.input(&table.shape, &table.values()),
            };
            *angle = sketch.reshape(found, &[shape[0], 1, shape[2], turned / 2])?;
        }
        let interleaved = vector.integer("interleaved") == Some(1);
        Ok(Rotary { x, sketch, given, shape, turned, interleaved, angles })
    }

    /// The result as it was recorded, from `[batch, heads, tokens, columns]`.
    fn finish(mut self, y: TensorId) -> std::result::Result<Network, Failure> {
        let mut y = y;
        if self.x.shape.len() == 3 {
            y = self.sketch.transpose(y, &[0, 2, 1, 3])?;
            y = self.sketch.reshape(y, &self.x.shape)?;
        }
        Ok(self.sketch.finish(&[y]))
    }

    fn in_steps(mut self) -> std::result::Result<Network, Failure> {
        let (sketch, half, head) = (&mut self.sketch, self.turned / 2, self.shape[3]);
        let (second, step) = if self.interleaved { (1, 2) } else { (half, 1) };
        let low = sketch.cut(self.given, 3, [0, step, half])?;
        let high = sketch.cut(self.given, 3, [second, step, half])?;
        let [cos, sin] = self.angles;
        let mut product = |a, b| sketch.binary(Operation::Mul, a, b);
        let (low_cos, low_sin) = (product(low, cos)?, product(low, sin)?);
        let (high_cos, high_sin) = (product(high, cos)?, product(high, sin)?);
        let low = sketch.binary(Operation::Sub, low_cos, high_sin)?;
        let high = sketch.binary(Operation::Add, low_sin, high_cos)?;
        let mut y = if self.interleaved { interleave(sketch, low, high)? } else { sketch.join(&[low, high], 3)? };
        if self.turned < head {
            let rest = sketch.cut(self.given, 3, [self.turned, 1, head - self.turned])?;
            y = sketch.join(&[y, rest], 3)?;
        }
        self.finish(y)
    }

    /// All tokens are one run, each at a position of its own; the last head is the one of keys, and is read from the cache.
    fn in_a_session(mut self) -> std::result::Result<Network, Failure> {
        let sketch = &mut self.sketch;
        let &[batch, heads, tokens, head] = &self.shape[..] else { return Err("not four axes".into()) };
        let m = batch * tokens;
        let turns = sketch.join(&self.angles, 3)?;
        let turns = sketch.reshape(turns, &[m, head])?;
        let x = sketch.transpose(self.given, &[0, 2, 1, 3])?;
        let x = sketch.reshape(x, &[m, heads * head])?;
        let cursor = sketch.words(vec![0, u32::try_from(m)?]);
        let [keys, values] = ["keys", "values"].map(|name| sketch.state(name, &[m, 1, head]));
        let apart = sketch.input(&[m, head], &vec![0.0; m * head]);
        let kernel = RopeStore { query_heads: heads - 1, key_heads: 1, head, norm: None, apart: true };
        let made = sketch.apply_all(kernel, &[x, turns, cursor, keys, values, apart])?;
        let queries = sketch.reshape(made[0], &[batch, tokens, heads - 1, head])?;
        let keys = sketch.reshape(made[1], &[batch, tokens, 1, head])?;
        let y = sketch.join(&[queries, keys], 2)?;
        let y = sketch.transpose(y, &[0, 2, 1, 3])?;
        self.finish(y)
    }
}

/// Columns of two tensors in turn.
fn interleave(sketch: &mut Sketch, low: TensorId, high: TensorId) -> Result<TensorId> {
    let mut shape = sketch.shape(low);
    let last = shape.len() - 1;
    shape.push(1);
    let [low, high] = [sketch.reshape(low, &shape)?, sketch.reshape(high, &shape)?];
    let pairs = sketch.join(&[low, high], last + 1)?;
    shape.pop();
    shape[last] *= 2;
    sketch.reshape(pairs, &shape)
}

/// Where a cache is written is known when the plan is built: what stays before, what is new, what stays after.
pub(crate) fn scatter(vector: &Vector) -> Networks {
    let (past, new) = (vector.given(0)?, vector.given(1)?);
    let along = axis(vector.integer("axis").unwrap_or(-2), past.shape.len());
    let (room, count) = (past.shape[along], new.shape[along]);
    let circular = vector.text("mode") == Some("circular");
    let starts = vector.optional(2).map_or_else(|| vec![0; past.shape[0]], Tensor::integers);
    let mut sketch = Sketch::default();
    let [kept, update] = [past, new].map(|tensor| sketch.input(&tensor.shape, &tensor.values()));
    let mut batches = Vec::new();
    for (batch, start) in starts.iter().enumerate() {
        let [kept, update] = [sketch.cut(kept, 0, [batch, 1, 1])?, sketch.cut(update, 0, [batch, 1, 1])?];
        let mut rows = Vec::new();
        for row in 0..room {
            let at = (row + room - *start as usize) % room;
            let is_new = at < count && (circular || row >= *start as usize);
            let (from, place) = if is_new { (update, at) } else { (kept, row) };
            rows.push(sketch.cut(from, along, [place, 1, 1])?);
        }
        batches.push(sketch.join(&rows, along)?);
    }
    let y = sketch.join(&batches, 0)?;
    Ok(vec![sketch.finish(&[y])])
}

/// A truth value is one or zero, by which one of two summands goes.
pub(crate) fn select(vector: &Vector) -> Networks {
    let mut sketch = Sketch::default();
    let [which, a, b] =
        [vector.given(0)?, vector.given(1)?, vector.given(2)?].map(|t| sketch.input(&t.shape, &t.values()));
    let one = sketch.number(1.0);
    let other = sketch.binary(Operation::Sub, one, which)?;
    let [a, b] = [sketch.binary(Operation::Mul, which, a)?, sketch.binary(Operation::Mul, other, b)?];
    let y = sketch.binary(Operation::Add, a, b)?;
    Ok(vec![sketch.finish(&[y])])
}
