//! Token embeddings: rows of a table that may be quantized, chosen by the tokens of a session.

use super::{CURSOR_WORDS, Scheme, dense::matrix};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting,
    parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::EMBED;

/// `y[t, k] = factor * table[tokens[position + t], k]`
///
/// Inputs: the session's `tokens [context]` and cursor `[2]` (position, tokens of the run) as words, and the tensors of the table
/// `[rows, k]` ([`Scheme::descs`]). Output: `[m, k]` in f32; rows beyond the run's tokens hold the embedding of whatever the place
/// holds. A token beyond the table counts as its last row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embed {
    /// Tokens of a run, at most.
    pub m: usize,
    /// What the embeddings are multiplied by.
    pub factor: f32,
}

impl Kernel for Embed {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn summary(&self) -> String {
        if self.factor == 1.0 { String::new() } else { format!("x{}", self.factor) }
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [tokens, cursor, table @ ..] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "tokens, cursor and a table", found: inputs.len() });
        };
        let refuse = |position: usize, expected: &str| {
            Err(ShapeError::Input { kernel, position, expected: expected.to_owned(), found: inputs[position].clone() })
        };
        if tokens.format != Format::Word || tokens.shape.len() != 1 || tokens.is_empty() {
            return refuse(0, "words [context]");
        }
        if *cursor != Desc::new(Format::Word, [CURSOR_WORDS]) {
            return refuse(1, "words [2]");
        }
        let Some((scheme, rows, k)) = Scheme::of(table).filter(|(scheme, ..)| scheme.codes().len() == table.len()) else {
            let reason = "the table is not the tensors of a matrix in panels".to_owned();
            return Err(ShapeError::Parameter { kernel, reason });
        };
        if self.m == 0 || rows == 0 || k == 0 {
            let reason = format!("{} tokens of a {} table of {rows} rows of {k} columns", self.m, scheme.label());
            return Err(ShapeError::Parameter { kernel, reason });
        }
        Ok(vec![Desc::f32([self.m, k])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let scheme = Scheme::of(&call.inputs[2..]).map_or("", |(scheme, ..)| scheme.label());
        fitting(SOURCES, &[("scheme", scheme)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (context, rows) = (call.inputs[0].len() as u32, call.inputs[2].shape[0] as u32);
        let k = call.outputs[0].last();
        let (k4, blocks, m) = (k.div_ceil(4) as u32, k.div_ceil(32) as u32, self.m as u32);
        let params = vec![m, k4, blocks, rows, context, self.factor.to_bits()];
        Launch::new(call, params, [blocks.div_ceil(16), m.div_ceil(4), 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (tokens, position) = (&inputs[0].words, inputs[1].words[0] as usize);
        let descs: Vec<Desc> = inputs[2..].iter().map(|t| t.desc.clone()).collect();
        let Some((scheme, rows, k)) = Scheme::of(&descs) else { return Vec::new() };
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, k, |t, row| {
            let token = tokens[(position + t).min(tokens.len() - 1)] as usize;
            let embedding = scheme.row(&inputs[2..], token.min(rows - 1));
            row.iter_mut().zip(embedding).for_each(|(out, v)| *out = (v * f64::from(self.factor)) as f32);
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// A multiplication by the scale, an addition of the offset, and a multiplication by the factor.
    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance { relative: 4.0 * f64::from(f32::EPSILON) }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let table: f64 = call.inputs[2..].iter().map(|d| d.bytes() as f64).sum();
        let rows = call.inputs[2].shape[0].max(1) as f64;
        Work { flops: call.outputs[0].len() as f64, bytes: traffic(call) - table + table / rows * self.m as f64 }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Every scheme, tokens at both ends of the table and beyond it, runs that reach the end of the context.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for scheme in Scheme::ALL {
        for (tier, m, rows, k, position) in [
            (Tier::Short, 3, 37, if scheme.is_wide() { 297 } else { 41 }, 2),
            (Tier::Full, 1, 32, 32, 0),
            (Tier::Full, 9, 65, 100, 7),
            (Tier::Full, 2, 33, 768, 1),
            (Tier::Model, 1, 512, 576, 3),
        ] {
            let tokens = vec![0, rows as u32 - 1, 31, 5, 1, rows as u32, u32::MAX, 2, 30];
            let mut inputs = vec![
                (Desc::new(Format::Word, [tokens.len()]), Fill::Words(tokens)),
                (Desc::new(Format::Word, [CURSOR_WORDS]), Fill::Words(vec![position, m as u32])),
            ];
            inputs.extend(matrix(scheme, rows, k));
            let label = format!("{m}of{rows}x{k}.{}", scheme.label());
            cases.push(Case { label, kernel: Arc::new(Embed { m, factor: if m == 1 { 1.0 } else { 8.0 } }), inputs, tier });
        }
    }
    cases
}
