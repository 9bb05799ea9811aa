//! Attention in two ways: step by step in plain operators, which says all that ONNX can ask for, and by the kernel that reads a
//! session's cache, where a session could ask for it.

use crate::express::Failure;
use crate::network::{Network, Sketch};
use crate::vector::{Tensor, Vector};
use lampyris_engine::Result;
use lampyris_engine::kernels::elementwise::{Function, Matmul, Operation, Softmax, Unary};
use lampyris_engine::kernels::text::Attention;
use lampyris_engine::plan::TensorId;

/// Stands for minus infinity among the scores: far below all of them, and a difference from it is a number.
const NEVER: f32 = -1.0e30;

/// The extents and settings of a node.
struct Node<'a> {
    vector: &'a Vector,
    /// Heads are columns of three axes, not an axis of four.
    columns: bool,
    batch: usize,
    query_heads: usize,
    key_heads: usize,
    queries: usize,
    /// Keys kept from before, and all.
    past: usize,
    keys: usize,
    /// Columns of a head of keys, and of values.
    head: usize,
    value_head: usize,
    scale: f32,
    softcap: Option<f32>,
    causal: bool,
    /// Keys to the left and to the right that are seen.
    left: Option<i64>,
    right: Option<i64>,
    /// For each batch, how many keys there really are.
    real: Option<Vec<i64>>,
}

/// Queries, keys and values as `[batch, heads, positions, columns]`, those of the past among them.
struct Heads {
    queries: TensorId,
    keys: TensorId,
    values: TensorId,
}

/// The networks: plain operators, and the session's kernel if the node is one that a session could have.
pub(crate) fn attention(vector: &Vector) -> std::result::Result<Vec<Network>, Failure> {
    let node = Node::of(vector)?;
    let mut networks = vec![node.in_steps()?];
    if node.is_a_sessions() {
        networks.push(node.in_a_session()?);
    }
    Ok(networks)
}

impl<'a> Node<'a> {
    fn of(vector: &'a Vector) -> std::result::Result<Node<'a>, Failure> {
        let [q, k, v] = [vector.given(0)?, vector.given(1)?, vector.given(2)?];
        let columns = q.shape.len() == 3;
        let heads = |name: &str, tensor: &Tensor| match columns {
            true => vector.integer(name).map(|heads| heads as usize).ok_or(format!("no {name}")),
            false => Ok(tensor.shape[1]),
        };
        let (query_heads, key_heads) = (heads("q_num_heads", q)?, heads("kv_num_heads", k)?);
        let (positions, last) = if columns { (1, 2) } else { (2, 3) };
        let wide = |tensor: &Tensor, heads: usize| tensor.shape[last] / if columns { heads } else { 1 };
        let head = wide(q, query_heads);
        let past = vector.optional(4).map_or(0, |past| past.shape[2]);
        let window = |name: &str| vector.integer(name).filter(|extent| *extent >= 0);
        Ok(Node {
            vector,
            columns,
            batch: q.shape[0],
            query_heads,
            key_heads,
            queries: q.shape[positions],
            past,
            keys: past + k.shape[positions],
            head,
            value_head: wide(v, key_heads),
            scale: vector.real("scale").unwrap_or(1.0 / (head as f32).sqrt()),
            softcap: vector.real("softcap").filter(|cap| *cap > 0.0),
            causal: vector.integer("is_causal") == Some(1),
            left: window("left_window_size"),
            right: window("right_window_size"),
            real: vector.optional(6).map(Tensor::integers),
        })
    }

    /// The position of the first query of a batch among the keys: after the past, or at the end of the real keys.
    fn first(&self, batch: usize) -> i64 {
        match &self.real {
            Some(real) => real[batch] - self.queries as i64,
            None => self.past as i64,
        }
    }

    /// Whether a query sees a key, as far as positions say.
    fn sees(&self, batch: usize, query: usize, key: usize) -> bool {
        let (at, key) = (self.first(batch) + query as i64, key as i64);
        self.real.as_ref().is_none_or(|real| key < real[batch])
            && (!self.causal || key <= at)
            && self.left.is_none_or(|left| key >= at - left)
            && self.right.is_none_or(|right| key <= at + right)
    }

    /// What is added to the scores `[batch, heads, queries, keys]`, minus infinity where a query sees nothing; `None` where
    /// nothing is added to any.
    fn mask(&self) -> Option<Vec<f32>> {
        let given = self.vector.optional(3).map(|tensor| (tensor, tensor.values()));
        let truths = given.as_ref().is_some_and(|(tensor, _)| tensor.is_truth());
        let mut mask = Vec::new();
        for batch in 0..self.batch {
            for head in 0..self.query_heads {
                for query in 0..self.queries {
                    for key in 0..self.keys {
                        let listed = given.as_ref().map_or(Some(0.0), |(tensor, values)| {
                            let place = [batch, head, query, key];
                            let shape = &tensor.shape;
                            let mut index = 0;
                            for (extent, at) in shape.iter().zip(&place[4 - shape.len()..]) {
                                let at = if *extent == 1 { 0 } else { *at };
                                index = if at < *extent { index * extent + at } else { return None };
                            }
                            match truths {
                                true => (values[index] != 0.0).then_some(0.0),
                                false => Some(values[index]),
                            }
                        });
                        let listed = listed.filter(|_| self.sees(batch, query, key));
                        mask.push(listed.unwrap_or(f32::NEG_INFINITY));
                    }
                }
            }
        }
        mask.iter().any(|value| *value != 0.0).then_some(mask)
    }

    /// Lays the inputs out, puts the new keys and values after those of the past.
    fn heads(&self, sketch: &mut Sketch) -> std::result::Result<Heads, Failure> {
        let mut found = Vec::new();
        for (position, heads) in [self.query_heads, self.key_heads, self.key_heads].into_iter().enumerate() {
            let tensor = self.vector.given(position)?;
            let mut x = sketch.input(&tensor.shape, &tensor.values());
            if self.columns {
                let (positions, columns) = (tensor.shape[1], tensor.shape[2] / heads);
                x = sketch.reshape(x, &[self.batch, positions, heads, columns])?;
                x = sketch.transpose(x, &[0, 2, 1, 3])?;
            }
            if let Some(past) = self.vector.optional(position + 3).filter(|_| position > 0) {
                let past = sketch.input(&past.shape, &past.values());
                x = sketch.join(&[past, x], 2)?;
            }
            found.push(x);
        }
        Ok(Heads { queries: found[0], keys: found[1], values: found[2] })
    }

    /// The result as it was recorded, from `[batch, heads, queries, columns]`.
    fn result(&self, sketch: &mut Sketch, y: TensorId) -> Result<TensorId> {
        if !self.columns {
            return Ok(y);
        }
        let y = sketch.transpose(y, &[0, 2, 1, 3])?;
        sketch.reshape(y, &[self.batch, self.queries, self.query_heads * self.value_head])
    }

    /// The outputs that were recorded: the result, the keys and values to keep, the scores.
    fn finish(&self, sketch: Sketch, y: TensorId, heads: &Heads, scores: Option<TensorId>) -> Network {
        let mut outputs = vec![y];
        outputs.extend(self.vector.output(1).map(|_| heads.keys));
        outputs.extend(self.vector.output(2).map(|_| heads.values));
        outputs.extend(scores.filter(|_| self.vector.output(3).is_some()));
        sketch.finish(&outputs)
    }

    /// Heads of queries that share one of keys follow one another, so that they are rows of one matrix.
    fn in_steps(&self) -> std::result::Result<Network, Failure> {
        let mut sketch = Sketch::default();
        let heads = self.heads(&mut sketch)?;
        let shared = self.query_heads / self.key_heads * self.queries;
        let scores = [self.batch, self.query_heads, self.queries, self.keys];
        let grouped = |columns: usize| [self.batch, self.key_heads, shared, columns];
        let q = sketch.reshape(heads.queries, &grouped(self.head))?;
        let product = Matmul { transpose_b: true, alpha: self.scale, ..Matmul::default() };
        let products = sketch.apply(product, &[q, heads.keys])?;
        let products = sketch.reshape(products, &scores)?;
        let mut capped = products;
        if let Some(cap) = self.softcap {
            let [cap, inverse] = [cap, 1.0 / cap].map(|number| sketch.number(number));
            let x = sketch.binary(Operation::Mul, products, inverse)?;
            let x = sketch.apply(Unary { function: Function::Tanh }, &[x])?;
            capped = sketch.binary(Operation::Mul, x, cap)?;
        }
        let (mut masked, mut recorded) = (capped, capped);
        let mask = self.mask();
        if let Some(mask) = &mask {
            let finite: Vec<f32> = mask.iter().map(|value| value.max(NEVER)).collect();
            let [mask, finite] = [mask, &finite].map(|values| sketch.input(&scores, values));
            recorded = sketch.binary(Operation::Add, capped, mask)?;
            masked = sketch.binary(Operation::Add, capped, finite)?;
        }
        let mut shares = sketch.apply(Softmax { logarithm: false }, &[masked])?;
        if let Some(mask) = &mask {
            // A query that sees nothing at all has no shares, where the softmax would give equal ones.
            let seen: Vec<f32> = mask.iter().map(|value| f32::from(value.is_finite())).collect();
            let seen = sketch.input(&scores, &seen);
            shares = sketch.binary(Operation::Mul, shares, seen)?;
        }
        let grouped_shares = sketch.reshape(shares, &grouped(self.keys))?;
        let y = sketch.apply(Matmul::default(), &[grouped_shares, heads.values])?;
        let y = sketch.reshape(y, &[self.batch, self.query_heads, self.queries, self.value_head])?;
        let y = self.result(&mut sketch, y)?;
        let scores = match self.vector.integer("qk_matmul_output_mode").unwrap_or(0) {
            0 => products,
            1 => capped,
            2 => recorded,
            _ => shares,
        };
        Ok(self.finish(sketch, y, &heads, Some(scores)))
    }

    /// Whether a session could ask for it: no mask but what positions say, windows to the left, and nothing but the result.
    fn is_a_sessions(&self) -> bool {
        let windows = self.right.is_none() && (self.causal || self.left.is_none());
        // A session's tokens lie in its cache.
        let room = |first: i64| first >= 0 && first + self.queries as i64 <= self.keys as i64;
        let seen = !self.causal || (0..self.batch).all(|batch| room(self.first(batch)));
        let plain = self.vector.optional(3).is_none() && self.vector.output(3).is_none();
        plain && windows && seen && self.head == self.value_head && self.head.is_multiple_of(4)
    }

    /// Each batch is a session. Where every query sees the same keys they are heads of a single token after all keys.
    fn in_a_session(&self) -> std::result::Result<Network, Failure> {
        let mut sketch = Sketch::default();
        let heads = self.heads(&mut sketch)?;
        let mut results = Vec::new();
        for batch in 0..self.batch {
            let q = sketch.cut(heads.queries, 0, [batch, 1, 1])?;
            let (q, query_heads, rows) = match self.causal {
                true => (sketch.transpose(q, &[0, 2, 1, 3])?, self.query_heads, self.queries),
                false => (q, self.query_heads * self.queries, 1),
            };
            let q = sketch.reshape(q, &[rows, query_heads * self.head])?;
            let mut caches = Vec::new();
            for cache in [heads.keys, heads.values] {
                let cache = sketch.cut(cache, 0, [batch, 1, 1])?;
                let cache = sketch.transpose(cache, &[0, 2, 1, 3])?;
                caches.push(sketch.reshape(cache, &[self.keys, self.key_heads, self.head])?);
            }
            let real = self.real.as_ref().map_or(self.keys as i64, |real| real[batch]);
            let position = if self.causal { self.first(batch) } else { real - 1 };
            let cursor = sketch.words(vec![u32::try_from(position)?, u32::try_from(rows)?]);
            let kernel = Attention {
                query_heads,
                key_heads: self.key_heads,
                head: self.head,
                scale: self.scale,
                window: self.left.map(|left| u32::try_from(left + 1)).transpose()?,
                softcap: self.softcap,
                parts: 1,
            };
            let y = sketch.apply(kernel, &[q, caches[0], caches[1], cursor])?;
            results.push(if self.causal {
                let y = sketch.reshape(y, &[1, self.queries, self.query_heads, self.head])?;
                sketch.transpose(y, &[0, 2, 1, 3])?
            } else {
                sketch.reshape(y, &[1, self.query_heads, self.queries, self.head])?
            });
        }
        let y = sketch.join(&results, 0)?;
        let y = self.result(&mut sketch, y)?;
        Ok(self.finish(sketch, y, &heads, None))
    }
}
