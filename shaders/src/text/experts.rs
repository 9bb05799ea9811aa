//! The matrices of a mixture of experts: products with those that are chosen for a token, and with no others.

use super::{Dense, Scheme, Unit, dense::matrix};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, Operand, ShapeError, Source, Tier, Tolerance,
    Work, fitting, panel, parallel,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::EXPERTS;

/// Which of an expert's two products.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Way {
    /// `y[t, s, i] = unit(norm(x)[t] * gate_i) * (norm(x)[t] * up_i)`, the norm by the root mean square where there is one
    In {
        /// Gated units of an expert.
        width: usize,
        /// What gates compute.
        unit: Unit,
        /// Added to the mean square of a norm of `x`, when there is one.
        norm: Option<f32>,
    },
    /// `y[t, s, i] = unit(norm(x)[t] * w_i)`: gates without the units that they gate, or with a linear unit these, where both are stored unlike
    Alone {
        /// Gates, or units, of an expert.
        width: usize,
        /// What each computes.
        unit: Unit,
        /// As in [`Way::In`].
        norm: Option<f32>,
    },
    /// `y[t, n] = residual[t, n] + sum_s share[t, s] * sum_k x[t, s, k] * w[n, k]`
    Out {
        /// Rows of an expert's matrix.
        columns: usize,
    },
}

/// The products of tokens with the matrices of the experts chosen for them (Shazeer et al. 2017).
///
/// `w` is a stack: the matrix of each expert in panels of its own, which are as many rows as [`Experts::rows`] says. Inputs of
/// [`Way::In`] and [`Way::Alone`]: `x [m, k]`, the tensors of `w`, the experts `[m, chosen]` as words, `gain [k]` of the norm if it has one; output `[m, chosen, width]`.
/// Inputs of [`Way::Out`]: `x [m, chosen, k]`, the tensors of `w`, the experts, their shares `[m, chosen]`, `residual [m, columns]`;
/// output `[m, columns]`. All but the experts and the weights in f32; `x` may also be bytes with scales ([`Format::BlockI8`]) if there is no
/// norm and [`Scheme::is_bytes`], and products are then those of whole numbers; without them there is a norm. Experts outside the stack count as zero, so that the experts
/// of a layer may lie in several stacks, and results go from one to the next as its residual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// The number of the first expert in the stack.
    pub first: usize,
    /// Experts in the stack.
    pub count: usize,
    /// Which product.
    pub way: Way,
}

impl Experts {
    /// Rows of the panels of an expert's matrix.
    pub fn rows(&self) -> usize {
        match self.way {
            Way::In { width, .. } => Dense::gated_rows(width),
            Way::Alone { width: rows, .. } | Way::Out { columns: rows } => rows.next_multiple_of(panel::ROWS),
        }
    }

    /// Columns of the output.
    pub(super) fn width(&self) -> usize {
        match self.way {
            Way::In { width, .. } | Way::Alone { width, .. } => width,
            Way::Out { columns } => columns,
        }
    }

    /// What each unit computes, whether units are gated and the epsilon of the norm, if there is one; nothing on the way back.
    fn inward(&self) -> Option<(Unit, bool, Option<f32>)> {
        match self.way {
            Way::In { unit, norm, .. } => Some((unit, true, norm)),
            Way::Alone { unit, norm, .. } => Some((unit, false, norm)),
            Way::Out { .. } => None,
        }
    }

    /// The expert of each choice, counted from the stack's first, if it is in the stack.
    fn places(&self, chosen: &HostTensor) -> Vec<Option<usize>> {
        let place = |expert: &u32| (*expert as usize).checked_sub(self.first).filter(|place| *place < self.count);
        chosen.words.iter().map(place).collect()
    }
}

impl Kernel for Experts {
    fn name(&self) -> &'static str {
        "experts"
    }

    fn summary(&self) -> String {
        let last = self.first + self.count;
        let Some((unit, gated, norm)) = self.inward() else {
            return format!("weighted +residual {}..{last}", self.first);
        };
        let gated = if gated { " gated" } else { "" };
        let normed = if norm.is_some() { " normed" } else { "" };
        format!("{}{gated}{normed} {}..{last}", unit.label(), self.first)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let refuse = |position: usize, expected: String| match inputs.get(position) {
            Some(found) => ShapeError::Input { kernel, position, expected, found: found.clone() },
            None => ShapeError::Count {
                kernel,
                expected: "x, w, experts, and gain or shares and residual",
                found: inputs.len(),
            },
        };
        let inward = self.inward().is_some();
        let wanted = if inward { "[tokens, columns]" } else { "[tokens, chosen, columns]" };
        let normed = self.inward().is_some_and(|(.., norm)| norm.is_some());
        let wanted = || {
            let form = if normed { "f32" } else { "block-i8" };
            refuse(0, format!("rows {wanted} in {}, not empty", if inward { form } else { "f32 or block-i8" }))
        };
        let fits = |x: &&Desc| match x.format {
            Format::F32 => normed || !inward,
            Format::BlockI8 => !normed,
            _ => false,
        };
        let Some(x) = inputs.first().filter(|x| fits(x) && !x.is_empty()) else { return Err(wanted()) };
        let (m, slots) = match x.shape[..] {
            [m, _] if inward => (m, None),
            [m, slots, _] if !inward => (m, Some(slots)),
            _ => return Err(wanted()),
        };
        let Some((scheme, rows, columns)) = Scheme::of(&inputs[1..]) else {
            return Err(refuse(1, "the tensors of a stack of matrices in panels".into()));
        };
        if x.format == Format::BlockI8 && !scheme.is_bytes() {
            return Err(refuse(1, "a stack of matrices of whole numbers, because the input is".into()));
        }
        if columns != x.last() || self.count == 0 || rows != self.count * self.rows() || self.width() == 0 {
            let (count, each) = (self.count, self.rows());
            return Err(refuse(1, format!("{count} matrices of {each} rows and {} columns", x.last())));
        }
        let at = 1 + scheme.codes().len();
        let Some([tokens, chosen]) = inputs.get(at).map(|chosen| &chosen.shape[..]) else {
            return Err(refuse(at, "experts [tokens, chosen] as words".into()));
        };
        if *tokens != m
            || *chosen == 0
            || slots.is_some_and(|slots| slots != *chosen)
            || inputs[at].format != Format::Word
        {
            return Err(refuse(
                at,
                format!("experts [{m}, {}] as words", slots.map_or("chosen".to_owned(), |s| s.to_string())),
            ));
        }
        let output = if inward { Desc::f32([m, *chosen, self.width()]) } else { Desc::f32([m, self.width()]) };
        let rest = if inward {
            normed.then(|| Desc::f32([x.last()])).into_iter().collect()
        } else {
            vec![Desc::f32([m, *chosen]), output.clone()]
        };
        for (position, wanted) in (at + 1..).zip(&rest) {
            if inputs.get(position) != Some(wanted) {
                return Err(refuse(position, wanted.to_string()));
            }
        }
        if inputs.len() != at + 1 + rest.len() {
            return Err(refuse(inputs.len(), String::new()));
        }
        Ok(vec![output])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let scheme = Scheme::of(&call.inputs[1..]).map_or("", |(scheme, ..)| scheme.label());
        let x = if call.inputs[0].format == Format::BlockI8 { "i8" } else { "f32" };
        // The build has no `subgroup8` for browsers.
        let paths = if caps.software { &["subgroup8", "portable"][..] } else { &["portable"] };
        let of = |path: &&'static str| {
            fitting(SOURCES, &[("path", *path), ("x", x), ("scheme", scheme)], caps).collect::<Vec<_>>()
        };
        let mut found: Vec<_> = paths.iter().flat_map(of).collect();
        found.truncate(1);
        found
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (x, y) = (&call.inputs[0], &call.outputs[0]);
        let tensors = Scheme::of(&call.inputs[1..]).map_or(0, |(scheme, ..)| scheme.codes().len());
        let chosen = call.inputs[1 + tensors].last();
        let four = |columns: usize| columns.div_ceil(4) as u32;
        let panels = (self.rows() / panel::ROWS) as u32;
        let (inward, unit, epsilon) = match self.inward() {
            Some((unit, gated, norm)) => (if gated { 1 } else { 2 }, unit as u32, norm.unwrap_or(0.0)),
            None => (0, 0, 0.0),
        };
        let params = vec![
            inward,
            chosen as u32,
            four(chosen),
            self.first as u32,
            self.count as u32,
            panels,
            x.last() as u32,
            four(x.last()),
            four(y.last()),
            x.last().div_ceil(panel::BLOCK) as u32,
            unit,
            epsilon.to_bits(),
            0,
        ];
        // What there is none of is bound to x.
        let there = |at: usize| if at < call.inputs.len() { at } else { 0 };
        let mut operands: Vec<Operand> = (0..tensors + 4).map(|at| Operand::Input(there(at))).collect();
        operands.push(Operand::Output(0));
        Launch { params, grid: [panels, y.rows() as u32, 1], operands }
    }

    fn first_group(&self) -> [Option<usize>; 2] {
        [Some(12), None]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let descs: Vec<Desc> = inputs.iter().map(|t| t.desc.clone()).collect();
        let Some((scheme, _, k)) = Scheme::of(&descs[1..]) else { return Vec::new() };
        let (stack, rest) = inputs[1..].split_at(scheme.codes().len());
        let (places, chosen) = (self.places(rest[0]), rest[0].desc.last());
        let mut x: Vec<f64> = inputs[0].values().into_iter().map(f64::from).collect();
        let factors = rest.get(1).map(|tensor| tensor.values()).unwrap_or_default();
        let weights = scheme.rows(stack);
        let product = |row: usize, x: &[f64]| -> f64 { weights.row(row).iter().zip(x).map(|(w, x)| w * x).sum() };
        let mut y = vec![0.0; outputs[0].len()];
        match self.inward() {
            Some((unit, gated, norm)) => {
                for row in x.chunks_mut(k).filter(|_| norm.is_some()) {
                    let mean = row.iter().map(|v| v * v).sum::<f64>() / k as f64;
                    let factor = 1.0 / (mean + f64::from(norm.unwrap_or(0.0))).sqrt();
                    row.iter_mut().zip(&factors).for_each(|(v, gain)| *v *= factor * f64::from(*gain));
                }
                parallel::rows(&mut y, outputs[0].last(), |choice, out| {
                    let Some(place) = places[choice] else { return };
                    let x = &x[choice / chosen * k..][..k];
                    for (i, out) in out.iter_mut().enumerate() {
                        let row = place * self.rows() + if gated { Dense::gate_row(i) } else { i };
                        let other = if gated { product(row + 16, x) } else { 1.0 };
                        *out = (unit.apply(product(row, x)) * other) as f32;
                    }
                });
            }
            None => {
                let (residual, columns) = (rest[2].values(), self.width());
                parallel::rows(&mut y, columns, |token, out| {
                    for (n, out) in out.iter_mut().enumerate() {
                        let term = |choice: usize| {
                            let found =
                                places[choice].map(|place| product(place * self.rows() + n, &x[choice * k..][..k]));
                            f64::from(factors[choice]) * found.unwrap_or(0.0)
                        };
                        let sum: f64 = (token * chosen..(token + 1) * chosen).map(term).sum();
                        *out = (f64::from(residual[token * columns + n]) + sum) as f32;
                    }
                });
            }
        }
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// Gated units as those of a dense layer; on the way back one sum over the columns of all experts of a token.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let (k, e) = (call.inputs[0].last(), f64::from(f32::EPSILON));
        let sum = |terms: usize| Tolerance::of_sum(terms + 32, Format::F32).relative;
        let relative = match self.inward() {
            None => sum(k * call.inputs[0].shape[1]),
            Some((unit, gated, _)) => {
                let factors = if gated { 2.0 } else { 1.0 };
                let of_unit = match unit {
                    Unit::Linear => 0.0,
                    Unit::Gelu => 12.0 * e + 3.0e-7,
                    _ => 12.0 * e,
                };
                factors * sum(k) + of_unit
            }
        };
        Tolerance { relative }
    }

    /// Of the stack as many experts as there are choices, at most all.
    fn work(&self, call: &Call<'_>) -> Work {
        let tensors = Scheme::of(&call.inputs[1..]).map_or(0, |(scheme, ..)| scheme.codes().len());
        let (stack, rest) = call.inputs[1..].split_at(tensors);
        let choices = rest[0].len();
        let bytes = |descs: &[Desc]| descs.iter().map(|desc| desc.bytes() as f64).sum::<f64>();
        let read = choices.min(self.count) as f64 / self.count as f64;
        let rows = (choices * self.rows()) as f64;
        Work {
            flops: 2.0 * rows * call.inputs[0].last() as f64,
            bytes: bytes(&call.inputs[..1]) + bytes(rest) + bytes(call.outputs) + read * bytes(stack),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Every scheme both ways and alone, sizes round the panels and blocks, one expert, all of them, some of another stack, and
/// the widths of published models.
pub(crate) fn cases() -> Vec<Case> {
    let gated = |width: usize, norm: Option<f32>| Way::In { width, unit: Unit::Silu, norm };
    let alone = |width: usize, norm: Option<f32>| Way::Alone { width, unit: Unit::Silu, norm };
    let out = |columns: usize, _: Option<f32>| Way::Out { columns };
    let ways: [fn(usize, Option<f32>) -> Way; 2] = [gated, out];
    let mut cases = Vec::new();
    // Experts in the stack, from which on, and of how many; tokens and experts of a token; columns and units or columns.
    let mut add = |tier: Tier,
                   scheme: Scheme,
                   [count, first, of]: [usize; 3],
                   [m, chosen]: [usize; 2],
                   [k, n]: [usize; 2],
                   way: fn(usize, Option<f32>) -> Way,
                   format: Format| {
        let norm = (format == Format::F32).then_some(1e-5);
        let kernel = Experts { first, count, way: way(n, norm) };
        let inward = kernel.inward().is_some();
        let shape = if inward { vec![m, k] } else { vec![m, chosen, k] };
        let mut inputs = vec![(Desc::new(format, shape), Fill::Noise)];
        inputs.extend(matrix(scheme, count * kernel.rows(), k));
        // Other experts for each token, none twice, and not in their order.
        let experts = (0..m * chosen).map(|i| ((i / chosen * 7 + chosen - i % chosen) % of) as u32);
        inputs.push((Desc::new(Format::Word, [m, chosen]), Fill::Words(experts.collect())));
        match inward {
            true => inputs.extend(norm.map(|_| (Desc::f32([k]), Fill::Noise))),
            false => {
                inputs.push((Desc::f32([m, chosen]), Fill::Range(0.0, 1.0)));
                inputs.push((Desc::f32([m, n]), Fill::Noise));
            }
        }
        let of_bytes = if format == Format::F32 { "" } else { ".of-block-i8" };
        let summary = kernel.summary().replace(' ', ".");
        let label = format!("{m}x{chosen}of{of}.{k}x{n}.{}{of_bytes}.{summary}", scheme.label());
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    let (f32, bytes) = (Format::F32, Format::BlockI8);
    for scheme in Scheme::ALL {
        let k = if scheme.is_wide() { 292 } else { 68 };
        for way in ways {
            add(Tier::Short, scheme, [4, 0, 4], [3, 2], [k, 21], way, f32);
            add(Tier::Full, scheme, [6, 0, 6], [1, 3], [256, 64], way, f32);
            add(Tier::Full, scheme, [3, 2, 8], [5, 4], [36, 37], way, f32);
            if scheme.is_bytes() {
                add(Tier::Short, scheme, [4, 0, 4], [3, 2], [k, 21], way, bytes);
                add(Tier::Full, scheme, [3, 2, 8], [5, 4], [36, 37], way, bytes);
            }
        }
        add(Tier::Full, scheme, [3, 2, 8], [5, 4], [k, 37], alone, f32);
    }
    for scheme in [Scheme::F16, Scheme::Q8_0, Scheme::Q4K] {
        add(Tier::Model, scheme, [8, 0, 8], [1, 4], [2048, 768], gated, f32);
        add(Tier::Model, scheme, [8, 0, 8], [1, 4], [768, 2048], out, f32);
    }
    add(Tier::Short, Scheme::Q4K, [4, 1, 6], [3, 2], [292, 37], alone, f32);
    add(Tier::Short, Scheme::Q4K, [4, 1, 6], [3, 2], [292, 37], alone, bytes);
    add(
        Tier::Short,
        Scheme::F16,
        [2, 0, 2],
        [2, 2],
        [24, 32],
        |width, norm| Way::Alone { width, unit: Unit::Linear, norm },
        f32,
    );
    for way in ways {
        add(Tier::Short, Scheme::Q8_0, [1, 0, 1], [2, 1], [40, 16], way, f32);
        add(Tier::Short, Scheme::F32, [3, 0, 3], [2, 3], [20, 33], way, f32);
        add(Tier::Short, Scheme::F16, [2, 1, 6], [4, 3], [24, 17], way, f32);
        add(Tier::Model, Scheme::Q4K, [8, 0, 8], [32, 4], [768, 768], way, f32);
        for k in [1, 3, 4, 5, 31, 33, 255, 257] {
            add(Tier::Full, Scheme::F32, [5, 0, 5], [2, 5], [k, 20], way, f32);
            add(Tier::Full, Scheme::Q5_1, [5, 0, 5], [3, 2], [k, 20], way, f32);
        }
        for n in [1, 2, 15, 16, 17, 31, 32, 33, 65] {
            add(Tier::Full, Scheme::F16, [4, 0, 4], [1, 1], [24, n], way, f32);
            add(Tier::Full, Scheme::Q4_0, [4, 0, 4], [9, 2], [24, n], way, f32);
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::Code;

    /// A stack whose weights tell experts and rows apart.
    fn stack(kernel: &Experts, k: usize, weight: impl Fn(usize, usize) -> f32) -> HostTensor {
        let rows = kernel.count * kernel.rows();
        let values: Vec<f32> = (0..rows * k).map(|i| weight(i / k / kernel.rows(), i / k % kernel.rows())).collect();
        HostTensor::from_values(Desc::new(Format::Panel(Code::F32), [rows, k]), &values)
    }

    fn run(kernel: &Experts, inputs: &[&HostTensor]) -> Vec<f32> {
        let descs: Vec<Desc> = inputs.iter().map(|tensor| tensor.desc.clone()).collect();
        kernel.reference(inputs, &kernel.outputs(&descs).unwrap())[0].values()
    }

    #[test]
    fn a_token_meets_its_experts_and_those_of_another_stack_give_nothing() {
        let chosen = HostTensor::from_words(Desc::new(Format::Word, [2, 2]), vec![2, 0, 1, 2]);
        let inward = Experts { first: 1, count: 2, way: Way::In { width: 1, unit: Unit::Linear, norm: Some(0.0) } };
        // Gates are the expert's number, units ten of it; rows of ones have a root mean square of one.
        let w = stack(&inward, 2, |e, row| (e + 1) as f32 * [1.0, 10.0][row / 16]);
        let x = HostTensor::from_values(Desc::f32([2, 2]), &[1.0, 1.0, 1.0, -1.0]);
        let gain = HostTensor::from_values(Desc::f32([2]), &[1.0, 0.5]);
        // The first token's sums are 1.5 times a weight, the second's half of one.
        assert_eq!(run(&inward, &[&x, &w, &chosen, &gain]), [3.0 * 30.0, 0.0, 0.5 * 5.0, 1.0 * 10.0]);

        // Of the same stack the gates alone, as matrices of one row.
        let alone = Experts { first: 1, count: 2, way: Way::Alone { width: 1, unit: Unit::Linear, norm: Some(0.0) } };
        assert_eq!(run(&alone, &[&x, &w, &chosen, &gain]), [3.0, 0.0, 0.5, 1.0]);

        let outward = Experts { first: 1, count: 2, way: Way::Out { columns: 3 } };
        let w = stack(&outward, 1, |e, row| (10 * (e + 1) + row) as f32);
        let x = HostTensor::from_values(Desc::f32([2, 2, 1]), &[1.0, 100.0, 2.0, 3.0]);
        let shares = HostTensor::from_values(Desc::f32([2, 2]), &[0.5, 0.5, 0.25, 1.0]);
        let residual = HostTensor::from_values(Desc::f32([2, 3]), &[0.0, 0.0, 1000.0, 0.0, 0.0, 0.0]);
        let expected = [10.0, 10.5, 1011.0, 65.0, 68.5, 72.0];
        assert_eq!(run(&outward, &[&x, &w, &chosen, &shares, &residual]), expected);
    }

    #[test]
    fn a_stack_that_does_not_fit_is_refused() {
        let kernel = Experts { first: 0, count: 3, way: Way::Out { columns: 33 } };
        let inputs = |rows: usize, chosen: usize| {
            vec![
                Desc::f32([2, 2, 8]),
                Desc::new(Format::Panel(Code::F32), [rows, 8]),
                Desc::new(Format::Word, [2, chosen]),
                Desc::f32([2, chosen]),
                Desc::f32([2, 33]),
            ]
        };
        assert_eq!(kernel.outputs(&inputs(192, 2)).unwrap(), [Desc::f32([2, 33])]);
        assert!(kernel.outputs(&inputs(99, 2)).unwrap_err().to_string().contains("3 matrices of 64 rows"));
        assert!(kernel.outputs(&inputs(192, 3)).unwrap_err().to_string().contains("experts [2, 2]"));
        assert!(kernel.outputs(&inputs(192, 2)[..4]).is_err());
    }
}
