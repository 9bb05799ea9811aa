//! Token embeddings: rows of a table that may be quantized, chosen by the tokens of a session.

use super::{CURSOR_WORDS, Scheme, dense::matrix};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, Operand, ShapeError, Source, Tier, Tolerance, Work, fitting,
    parallel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::EMBED;

/// `y[t, k] = factor * table[tokens[position + t] - first, k]`, and for tokens below `first` `before[t, k]`
///
/// Inputs: the session's `tokens [context]` and cursor `[2]` (position, tokens of the run) as words, the tensors of the table
/// `[rows, k]` ([`Scheme::descs`]), and where `first` is not 0 `before [m, k]`, so that a table may be cut by rows. Output: `[m, k]` in
/// f32; rows beyond the run's tokens hold the embedding of whatever the place holds. A token beyond the table counts as its last row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embed {
    /// Tokens of a run, at most.
    pub m: usize,
    /// What the embeddings are multiplied by.
    pub factor: f32,
    /// The token of the table's first row.
    pub first: usize,
}

impl Embed {
    /// The tensors of the table among the inputs.
    fn table<'a, T>(&self, inputs: &'a [T]) -> &'a [T] {
        let end = inputs.len() - usize::from(self.first > 0 && !inputs.is_empty());
        inputs.get(2..end).unwrap_or_default()
    }
}

impl Kernel for Embed {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn summary(&self) -> String {
        let factor = if self.factor == 1.0 { String::new() } else { format!("x{}", self.factor) };
        if self.first == 0 { factor } else { format!("{factor} from {}", self.first).trim_start().to_owned() }
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [tokens, cursor, ..] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "tokens, cursor and a table", found: inputs.len() });
        };
        let table = self.table(inputs);
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
        let output = Desc::f32([self.m, k]);
        if self.first > 0 && inputs.last() != Some(&output) {
            return refuse(inputs.len() - 1, &output.to_string());
        }
        Ok(vec![output])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let scheme = Scheme::of(self.table(call.inputs)).map_or("", |(scheme, ..)| scheme.label());
        fitting(SOURCES, &[("scheme", scheme)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (context, rows) = (call.inputs[0].len() as u32, call.inputs[2].shape[0] as u32);
        let k = call.outputs[0].last();
        let (k4, blocks, m) = (k.div_ceil(4) as u32, k.div_ceil(32) as u32, self.m as u32);
        let params = vec![m, k4, blocks, rows, context, self.first as u32, self.factor.to_bits()];
        let mut launch = Launch::new(call, params, [blocks.div_ceil(16), m.div_ceil(4), 1]);
        // Panels are never smaller than the four numbers that the binding wants, as the tokens of a short session may be.
        let before = if self.first > 0 { call.inputs.len() - 1 } else { 2 };
        let given = 2 + self.table(call.inputs).len();
        launch.operands = (0..given).chain([before]).map(Operand::Input).chain([Operand::Output(0)]).collect();
        launch
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (tokens, position) = (&inputs[0].words, inputs[1].words[0] as usize);
        let table = self.table(inputs);
        let descs: Vec<Desc> = table.iter().map(|t| t.desc.clone()).collect();
        let before = (self.first > 0).then(|| inputs[inputs.len() - 1].values());
        let Some((scheme, rows, k)) = Scheme::of(&descs) else { return Vec::new() };
        let (weights, mut y) = (scheme.rows(table), vec![0.0; outputs[0].len()]);
        parallel::rows(&mut y, k, |t, row| {
            let token = tokens[(position + t).min(tokens.len() - 1)] as usize;
            if let Some(before) = before.as_ref().filter(|_| token < self.first) {
                return row.copy_from_slice(&before[t * k..][..k]);
            }
            let embedding = weights.row((token - self.first).min(rows - 1));
            row.iter_mut().zip(embedding).for_each(|(out, v)| *out = (v * f64::from(self.factor)) as f32);
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// A multiplication by the scale, an addition of the offset, and a multiplication by the factor.
    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance { relative: 4.0 * f64::from(f32::EPSILON) }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let table: f64 = self.table(call.inputs).iter().map(|d| d.bytes() as f64).sum();
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
        for (tier, m, rows, k, position, first) in [
            (Tier::Short, 3, 37, if scheme.is_wide() { 297 } else { 41 }, 2, 0),
            (if scheme == Scheme::F32 { Tier::Short } else { Tier::Full }, 1, 32, 32, 0, 0),
            (Tier::Full, 9, 65, 100, 7, 0),
            (Tier::Full, 5, 33, 52, 0, 3),
            (Tier::Full, 2, 33, 768, 1, 0),
            (Tier::Model, 1, 512, 576, 3, 0),
        ] {
            let mut tokens = vec![0, rows as u32 - 1, 31, 5, 1, rows as u32, u32::MAX, 2, 30];
            // The shortest session is shorter than four numbers.
            tokens.truncate(if rows == 32 { 1 } else { tokens.len() });
            let mut inputs = vec![
                (Desc::new(Format::Word, [tokens.len()]), Fill::Words(tokens)),
                (Desc::new(Format::Word, [CURSOR_WORDS]), Fill::Words(vec![position, m as u32])),
            ];
            inputs.extend(matrix(scheme, rows, k));
            inputs.extend((first > 0).then(|| (Desc::f32([m, k]), Fill::Noise)));
            let label = format!("{m}of{rows}x{k}.{}.from{first}", scheme.label());
            let kernel = Arc::new(Embed { m, factor: if m == 1 { 1.0 } else { 8.0 }, first });
            cases.push(Case { label, kernel, inputs, tier });
        }
    }
    cases
}
