//! Operators that take values from places that are themselves data: rows of a table, rotary embeddings by position, rows of a
//! cache, one of two tensors.

use crate::express::{Failure, axis};
use crate::network::{Network, Sketch};
use crate::vector::{Tensor, Vector};
use lampyris_engine::Result;
use lampyris_engine::kernels::elementwise::Operation;
use lampyris_engine::kernels::text::{Embed, Scheme};
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
    Ok(sketch.apply(Embed { m, factor: 1.0 }, &[context, cursor, table])?)
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

/// Pairs of columns are turned by the angles of their position; a position's cosines and sines are rows of a table, or are given
/// for every token.
pub(crate) fn rotary_embedding(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let mut sketch = Sketch::default();
    let mut given = sketch.input(&x.shape, &x.values());
    let columns = x.shape.len() == 3;
    if columns {
        let heads = vector.integer("num_heads").ok_or("no num_heads")? as usize;
        given = sketch.reshape(given, &[x.shape[0], x.shape[1], heads, x.shape[2] / heads])?;
        given = sketch.transpose(given, &[0, 2, 1, 3])?;
    }
    let shape = sketch.shape(given);
    let (batch, tokens, head) = (shape[0], shape[2], shape[3]);
    let turned = vector.integer("rotary_embedding_dim").filter(|columns| *columns > 0).map_or(head, |n| n as usize);
    let half = turned / 2;
    let mut angles = Vec::new();
    for table in [vector.given(1)?, vector.given(2)?] {
        let found = match vector.optional(3) {
            Some(places) => rows(&mut sketch, &table.values(), half, &places.integers())?,
            None => sketch.input(&table.shape, &table.values()),
        };
        angles.push(sketch.reshape(found, &[batch, 1, tokens, half])?);
    }
    let interleaved = vector.integer("interleaved") == Some(1);
    let (second, step) = if interleaved { (1, 2) } else { (half, 1) };
    let low = sketch.cut(given, 3, [0, step, half])?;
    let high = sketch.cut(given, 3, [second, step, half])?;
    let mut product = |a, b| sketch.binary(Operation::Mul, a, b);
    let (low_cos, low_sin) = (product(low, angles[0])?, product(low, angles[1])?);
    let (high_cos, high_sin) = (product(high, angles[0])?, product(high, angles[1])?);
    let low = sketch.binary(Operation::Sub, low_cos, high_sin)?;
    let high = sketch.binary(Operation::Add, low_sin, high_cos)?;
    let mut y = if interleaved { interleave(&mut sketch, low, high)? } else { sketch.join(&[low, high], 3)? };
    if turned < head {
        let rest = sketch.cut(given, 3, [turned, 1, head - turned])?;
        y = sketch.join(&[y, rest], 3)?;
    }
    if columns {
        y = sketch.transpose(y, &[0, 2, 1, 3])?;
        y = sketch.reshape(y, &x.shape)?;
    }
    Ok(vec![sketch.finish(&[y])])
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
