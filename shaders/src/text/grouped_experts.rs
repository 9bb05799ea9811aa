//! The matrices of a mixture of experts for many tokens at once: those that go to one expert are gathered, so that its weights are read once
//! for all of a tile of them.

use super::{ExpertTiles, Experts, Scheme, Unit, Way, dense::matrix};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, panel, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::GROUPED_EXPERTS;

/// The products of tokens with the matrices of the experts chosen for them, as [`Experts`] gives them, but without a norm, and those on
/// the way back one by one: [`super::ExpertSum`] adds them up.
///
/// Inputs: `x [m, k]` for [`Way::In`] and `[m, chosen, k]` for [`Way::Out`], the tensors of the stack, the tiles of [`ExpertTiles`]. Output
/// `[m, chosen, width]` or `[m, chosen, columns]`, in f32. `x` is in f32, or in bytes with scales ([`Format::BlockI8`]) if [`Scheme::is_bytes`], and products are
/// then those of whole numbers. Experts outside the stack count as zero. (Gale et al. 2022.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupedExperts {
    /// The number of the first expert in the stack.
    pub first: usize,
    /// Experts in the stack.
    pub count: usize,
    /// Experts of a token.
    pub chosen: usize,
    /// Experts that there are, in all stacks.
    pub experts: usize,
    /// Which product.
    pub way: Way,
}

impl GroupedExperts {
    /// The same products of one choice after another; on the way back each choice is a row of its own.
    fn singly(&self) -> Experts {
        let way = match self.way {
            Way::Out { columns } => Way::Alone { width: columns, unit: Unit::Linear, norm: None },
            inward => inward,
        };
        Experts { first: self.first, count: self.count, way }
    }

    /// What each gate computes; nothing on the way back.
    fn gated(&self) -> Option<Unit> {
        match self.way {
            Way::In { unit, .. } => Some(unit),
            Way::Alone { .. } | Way::Out { .. } => None,
        }
    }
}

impl Kernel for GroupedExperts {
    fn name(&self) -> &'static str {
        "grouped_experts"
    }

    fn summary(&self) -> String {
        let last = self.first + self.count;
        match self.gated() {
            Some(unit) => format!("{} gated {}..{last} of {}", unit.label(), self.first, self.experts),
            None => format!("{}..{last} of {}", self.first, self.experts),
        }
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let refuse = |position: usize, expected: String| match inputs.get(position) {
            Some(found) => ShapeError::Input { kernel, position, expected, found: found.clone() },
            None => ShapeError::Count { kernel, expected: "x, w and tiles", found: inputs.len() },
        };
        let inward = match self.way {
            Way::In { norm: Some(_), .. } => {
                let reason = "it has no norm; what goes in is normalized beforehand".to_owned();
                return Err(ShapeError::Parameter { kernel, reason });
            }
            Way::Alone { .. } => {
                let reason = "gates are computed with the units that they gate".to_owned();
                return Err(ShapeError::Parameter { kernel, reason });
            }
            Way::In { .. } => true,
            Way::Out { .. } => false,
        };
        let fits = |x: &&Desc| matches!(x.format, Format::F32 | Format::BlockI8) && !x.is_empty();
        let (m, k) = match inputs.first().filter(fits).map(|x| &x.shape[..]) {
            Some([m, k]) if inward => (*m, *k),
            Some([m, chosen, k]) if !inward && *chosen == self.chosen => (*m, *k),
            _ => {
                let wanted =
                    if inward { "[tokens, columns]".to_owned() } else { format!("[tokens, {}, columns]", self.chosen) };
                return Err(refuse(0, format!("rows {wanted} in f32 or block-i8, not empty")));
            }
        };
        let Some((scheme, rows, columns)) = Scheme::of(&inputs[1..]) else {
            return Err(refuse(1, "the tensors of a stack of matrices in panels".into()));
        };
        if inputs[0].format == Format::BlockI8 && !scheme.is_bytes() {
            return Err(refuse(1, "a stack of matrices of whole numbers, because the input is".into()));
        }
        let each = self.singly().rows();
        if columns != k || self.count == 0 || rows != self.count * each || self.singly().width() == 0 {
            return Err(refuse(1, format!("{} matrices of {each} rows and {k} columns", self.count)));
        }
        if self.chosen == 0 || self.first + self.count > self.experts {
            let Self { first, count, chosen, experts, .. } = self;
            let reason = format!("experts {first} to {} and {chosen} for each token, of {experts}", first + count);
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let at = 1 + scheme.codes().len();
        let wanted = ExpertTiles { experts: self.experts }.desc(m * self.chosen);
        if inputs.get(at) != Some(&wanted) {
            return Err(refuse(at, wanted.to_string()));
        }
        if inputs.len() != at + 1 {
            return Err(refuse(inputs.len(), String::new()));
        }
        Ok(vec![Desc::f32([m, self.chosen, self.singly().width()])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let scheme = Scheme::of(&call.inputs[1..]).map_or("", |(scheme, ..)| scheme.label());
        let x = if call.inputs[0].format == Format::BlockI8 { "i8" } else { "f32" };
        fitting(SOURCES, &[("x", x), ("scheme", scheme)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (x, y) = (&call.inputs[0], &call.outputs[0]);
        let tensors = Scheme::of(&call.inputs[1..]).map_or(0, |(scheme, ..)| scheme.codes().len());
        let four = |columns: usize| columns.div_ceil(4) as u32;
        let panels = (self.singly().rows() / panel::ROWS) as u32;
        let (gated, unit) = self.gated().map_or((0, 0), |unit| (1, unit as u32));
        let params = vec![
            gated,
            self.chosen as u32,
            x.rows() as u32,
            self.first as u32,
            self.count as u32,
            panels,
            four(x.last()),
            four(y.last()),
            x.last().div_ceil(panel::BLOCK) as u32,
            unit,
            0,
        ];
        Launch::new(call, params, [panels, call.inputs[1 + tensors].rows() as u32, 1])
    }

    fn first_group(&self) -> [Option<usize>; 2] {
        [Some(10), None]
    }

    /// Those of [`Experts`], with the choices of the tiles in their own order.
    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (Some((tiles, rest)), rows) = (inputs.split_last(), outputs[0].rows()) else { return Vec::new() };
        let mut chosen = vec![ExpertTiles::NONE; rows];
        for tile in tiles.words.chunks(ExpertTiles::TILE + 1) {
            for choice in &tile[1..] {
                if let Some(own) = chosen.get_mut(*choice as usize) {
                    *own = tile[0];
                }
            }
        }
        let each = if self.gated().is_some() { self.chosen } else { 1 };
        let chosen = HostTensor::from_words(Desc::new(Format::Word, [rows / each, each]), chosen);
        self.singly().reference(&[rest, &[&chosen]].concat(), outputs)
    }

    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        self.singly().tolerance(call)
    }

    /// Of the stack as many experts as there are choices, at most all, and as much of the sums as of all experts.
    fn work(&self, call: &Call<'_>) -> Work {
        let tensors = Scheme::of(&call.inputs[1..]).map_or(0, |(scheme, ..)| scheme.codes().len());
        let choices = call.outputs[0].rows();
        let stack: f64 = call.inputs[1..=tensors].iter().map(|desc| desc.bytes() as f64).sum();
        let read = choices.min(self.count) as f64 / self.count as f64;
        let share = self.count as f64 / self.experts.max(self.count) as f64;
        let rows = share * (choices * self.singly().rows()) as f64;
        Work { flops: 2.0 * rows * call.inputs[0].last() as f64, bytes: traffic(call) - (1.0 - read) * stack }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The tiles of choices that go to all experts of `of` in turn, none twice for a token.
fn tiles_of([m, chosen]: [usize; 2], of: usize) -> Vec<u32> {
    let experts = (0..m * chosen).map(|i| ((i / chosen * 7 + chosen - i % chosen) % of) as u32).collect();
    let experts = HostTensor::from_words(Desc::new(Format::Word, [m, chosen]), experts);
    let kernel = ExpertTiles { experts: of };
    kernel.reference(&[&experts], &[kernel.desc(m * chosen)]).remove(0).words
}

/// Every scheme both ways, sizes round the panels, blocks and tiles, one expert, all of them, some of another stack, and the widths of
/// published models.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Experts in the stack, from which on, and of how many; tokens and experts of a token; columns, and units or columns.
    let mut add = |tier: Tier,
                   scheme: Scheme,
                   [count, first, of]: [usize; 3],
                   [m, chosen]: [usize; 2],
                   [k, n]: [usize; 2],
                   (inward, format): (bool, Format)| {
        let way = match inward {
            true => Way::In { width: n, unit: Unit::Silu, norm: None },
            false => Way::Out { columns: n },
        };
        let kernel = GroupedExperts { first, count, chosen, experts: of, way };
        let shape = if inward { vec![m, k] } else { vec![m, chosen, k] };
        let mut inputs = vec![(Desc::new(format, shape), Fill::Noise)];
        inputs.extend(matrix(scheme, count * kernel.singly().rows(), k));
        let tiles = ExpertTiles { experts: of }.desc(m * chosen);
        inputs.push((tiles, Fill::Words(tiles_of([m, chosen], of))));
        let of_bytes = if format == Format::F32 { "" } else { ".of-block-i8" };
        let summary = kernel.summary().replace(' ', ".");
        let label = format!("{m}x{chosen}.{k}x{n}.{}{of_bytes}.{summary}", scheme.label());
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    let (f32, bytes) = (Format::F32, Format::BlockI8);
    for scheme in Scheme::ALL {
        let k = if scheme.is_wide() { 292 } else { 68 };
        // Tiles are slow to compile: of the schemes one of each kind.
        let short = |few: &[Scheme]| if few.contains(&scheme) { Tier::Short } else { Tier::Full };
        for inward in [true, false] {
            let tier = short(&[Scheme::F32, Scheme::Q4_0, Scheme::Q2K]);
            add(tier, scheme, [4, 0, 4], [37, 2], [k, 21], (inward, f32));
            add(Tier::Full, scheme, [3, 2, 8], [5, 4], [36, 37], (inward, f32));
            if scheme.is_bytes() {
                add(short(&[Scheme::Q5K]), scheme, [4, 0, 4], [37, 2], [k, 21], (inward, bytes));
                add(Tier::Full, scheme, [3, 2, 8], [5, 4], [36, 37], (inward, bytes));
            }
        }
    }
    for inward in [true, false] {
        add(Tier::Short, Scheme::F32, [2, 1, 6], [9, 3], [24, 17], (inward, f32));
        add(Tier::Full, Scheme::Q8_0, [1, 0, 1], [70, 1], [40, 16], (inward, f32));
        add(Tier::Full, Scheme::F32, [3, 0, 3], [2, 3], [20, 33], (inward, f32));
        for k in [1, 3, 4, 31, 33, 257] {
            add(Tier::Full, Scheme::F32, [5, 0, 5], [33, 5], [k, 20], (inward, f32));
            add(Tier::Full, Scheme::Q5_1, [5, 0, 5], [33, 2], [k, 20], (inward, f32));
        }
        for n in [1, 15, 16, 17, 32, 33, 65] {
            add(Tier::Full, Scheme::F16, [4, 0, 4], [31, 1], [24, n], (inward, f32));
            add(Tier::Full, Scheme::Q4_0, [4, 0, 4], [9, 2], [24, n], (inward, f32));
            add(Tier::Full, Scheme::Q4_0, [4, 0, 4], [9, 2], [24, n], (inward, bytes));
        }
    }
    for format in [f32, bytes] {
        add(Tier::Model, Scheme::Q4K, [16, 0, 16], [64, 4], [2048, 768], (true, format));
        add(Tier::Model, Scheme::Q4K, [16, 0, 16], [64, 4], [768, 2048], (false, format));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::super::{ExpertSum, Experts, Norm};
    use super::*;

    /// Together with the sum of shares they are what experts give one token after another, by another reference.
    #[test]
    fn gathered_tokens_get_what_single_ones_get() {
        let ([m, chosen], [k, n], of) = ([37, 3], [20, 24], 7);
        let noise = |desc: Desc, seed: u64| HostTensor::noise(&desc, seed);
        let choices: Vec<u32> = (0..m * chosen).map(|i| ((i / chosen * 7 + chosen - i % chosen) % of) as u32).collect();
        let experts = HostTensor::from_words(Desc::new(Format::Word, [m, chosen]), choices);
        let tiles = HostTensor::from_words(ExpertTiles { experts: of }.desc(m * chosen), tiles_of([m, chosen], of));
        // The first two experts lie in another stack.
        let (first, count) = (2, of - 2);
        let run = |kernel: &dyn Kernel, inputs: &[&HostTensor]| {
            let descs: Vec<Desc> = inputs.iter().map(|tensor| tensor.desc.clone()).collect();
            kernel.reference(inputs, &kernel.outputs(&descs).unwrap()).remove(0)
        };
        let near = |a: &HostTensor, b: &HostTensor| {
            assert_eq!(a.desc, b.desc);
            let apart = |(a, b): (f32, f32)| (a - b).abs() <= 1e-5 * (1.0 + a.abs());
            assert!(a.values().into_iter().zip(b.values()).all(apart));
        };
        let way = |norm: Option<f32>| Way::In { width: n, unit: Unit::Silu, norm };
        let single = Experts { first, count, way: way(Some(1e-5)) };
        let grouped = GroupedExperts { first, count, chosen, experts: of, way: way(None) };
        let (x, gain) = (noise(Desc::f32([m, k]), 1), noise(Desc::f32([k]), 2));
        let w = noise(Scheme::F32.descs(count * single.rows(), k).remove(0), 3);
        let norm = Norm { epsilon: 1e-5, centered: false, bias: false, residual: false };
        let normed = run(&norm, &[&x, &gain]);
        let units = run(&single, &[&x, &w, &experts, &gain]);
        near(&run(&grouped, &[&normed, &w, &tiles]), &units);

        let way = Way::Out { columns: k };
        let single = Experts { first, count, way };
        let grouped = GroupedExperts { first, count, chosen, experts: of, way };
        let w = noise(Scheme::F32.descs(count * single.rows(), n).remove(0), 4);
        let (shares, residual) = (noise(Desc::f32([m, chosen]), 5), noise(Desc::f32([m, k]), 6));
        let each = run(&grouped, &[&units, &w, &tiles]);
        let sum = run(&ExpertSum, &[&each, &shares, &residual]);
        near(&sum, &run(&single, &[&units, &w, &experts, &shares, &residual]));
    }
    #[test]
    fn what_does_not_fit_is_refused() {
        let way = Way::Out { columns: 33 };
        let kernel = GroupedExperts { first: 1, count: 3, chosen: 2, experts: 4, way };
        let inputs = |rows: usize, chosen: usize| {
            let w = Desc::new(Format::Panel(crate::panel::Code::F32), [rows, 8]);
            vec![Desc::f32([9, chosen, 8]), w, ExpertTiles { experts: 4 }.desc(18)]
        };
        assert_eq!(kernel.outputs(&inputs(192, 2)).unwrap(), [Desc::f32([9, 2, 33])]);
        let refused = |kernel: &GroupedExperts, inputs: &[Desc]| kernel.outputs(inputs).unwrap_err().to_string();
        assert!(refused(&kernel, &inputs(99, 2)).contains("3 matrices of 64 rows"));
        assert!(refused(&kernel, &inputs(192, 3)).contains("[tokens, 2, columns]"));
        assert!(refused(&kernel, &inputs(192, 2)[..2]).contains("x, w and tiles"));
        let beyond = GroupedExperts { first: 2, ..kernel };
        assert!(refused(&beyond, &inputs(192, 2)).contains("experts 2 to 5"));
        let normed = GroupedExperts { way: Way::In { width: 33, unit: Unit::Silu, norm: Some(0.0) }, ..kernel };
        assert!(refused(&normed, &inputs(192, 2)).contains("normalized beforehand"));
        let alone = GroupedExperts { way: Way::Alone { width: 33, unit: Unit::Silu, norm: None }, ..kernel };
        assert!(refused(&alone, &inputs(192, 2)).contains("with the units that they gate"));
    }
}
