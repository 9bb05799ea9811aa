//! Fully connected layer of a transformer: every matrix of it, with the norm before it and what follows it folded in.

use super::Scheme;
use crate::{
    Call, Caps, Desc, Format, HostTensor, Kernel, Launch, Operand, ShapeError, Source, Tolerance, Work, fitting,
    parallel, traffic,
};
use std::any::Any;

mod cases;

pub(crate) use cases::cases;
pub(super) use cases::matrix;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::DENSE;

/// Tokens beyond which a GPU may write weights out in workgroup memory: fewer fill too little of a tile.
const TILED: usize = 8;

/// Tokens up to which a GPU may read weights twice instead.
const TWICE: usize = 2 * TILED;

/// Tokens beyond which a tile may be of 64.
const WIDE: usize = 32;

/// Workgroups that tiles of 64 by 64 should come to before they are the first guess: fewer leave most of a large GPU idle.
const ENOUGH: usize = 64;

/// What a layer's units compute of their sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Unit {
    /// `v`
    #[default]
    Linear,
    /// `v / (1 + exp(-v))` (Elfwing et al. 2017)
    Silu,
    /// `v / 2 (1 + tanh(sqrt(2 / pi) (v + 0.044715 v^3)))` (Hendrycks and Gimpel 2016)
    GeluTanh,
    /// `v / 2 (1 + erf(v / sqrt(2)))` (Hendrycks and Gimpel 2016)
    Gelu,
    /// `max(v, 0)`
    Relu,
}

impl Unit {
    /// Every unit.
    pub const ALL: [Unit; 5] = [Unit::Linear, Unit::Silu, Unit::GeluTanh, Unit::Gelu, Unit::Relu];

    /// The name in plans.
    pub fn label(self) -> &'static str {
        match self {
            Unit::Linear => "linear",
            Unit::Silu => "silu",
            Unit::GeluTanh => "gelu_tanh",
            Unit::Gelu => "gelu",
            Unit::Relu => "relu",
        }
    }

    /// The twin of `unit.wgsl`.
    pub(super) fn apply(self, v: f64) -> f64 {
        match self {
            Unit::Linear => v,
            Unit::Silu => v / (1.0 + (-v).exp()),
            Unit::GeluTanh => {
                0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v)).tanh())
            }
            Unit::Gelu => 0.5 * v * (1.0 + erf(v / std::f64::consts::SQRT_2)),
            Unit::Relu => v.max(0.0),
        }
    }
}

/// The error function, by its Maclaurin series below 3 and its continued fraction above (Abramowitz and Stegun 7.1.6, 7.1.14).
fn erf(v: f64) -> f64 {
    let z = v.abs();
    let value = if z < 3.0 {
        let (mut term, mut sum, mut n) = (z, z, 0.0);
        while term > 1e-18 * sum {
            n += 1.0;
            term *= 2.0 * z * z / (2.0 * n + 1.0);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-z * z).exp() * sum
    } else {
        let fraction = (1..40).rev().fold(z, |f, n| z + f64::from(n) / 2.0 / f);
        1.0 - (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    value.copysign(v)
}

/// `y[t, n] = unit(sum_k norm(x)[t, k] * w[n, k] + bias[n]) + residual[t, n]`
///
/// Inputs: `x [m, k]`, the tensors of `w [n, k]` ([`Scheme::descs`]), then those asked for: `gain [k]` of the norm, `bias [n]`,
/// `residual [m, n]`. Output `[m, n]`, all in f32; `x` may also be bytes with scales ([`Format::BlockI8`], see [`super::Quantize`]) if
/// there is no norm and [`Scheme::is_bytes`], and products are then those of whole numbers. With `gated` the rows of `w` come in panels of 16 gates and the 16 units
/// they gate, `y[t, i] = unit(gate_i) * up_i` (Shazeer 2020), the bias in the same order, and the output has `gated` columns. The norm is
/// `x / sqrt(mean(x^2) + epsilon) * gain` (Zhang and Sennrich 2019).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Dense {
    /// The epsilon of a root-mean-square norm of `x`, when there is one.
    pub norm: Option<f32>,
    /// A bias is added to the sums.
    pub bias: bool,
    /// What each unit computes.
    pub unit: Unit,
    /// Columns of the output when the units are gated.
    pub gated: Option<usize>,
    /// The last input is added to the result.
    pub residual: bool,
    /// The bound `c` of the units' results, which become `c tanh(v / c)`; not for gated units.
    pub softcap: Option<f32>,
    /// Products may be those of 16-bit floats, where weights are quantized and an adapter is faster with them; sums of a block of columns
    /// are added up in 32 bits all the same. Without it results are as exact as 32-bit floats make them.
    pub half: bool,
}

impl Dense {
    /// Rows of the weights of a gated layer of `width` columns: whole panels of gates and units.
    pub fn gated_rows(width: usize) -> usize {
        width.div_ceil(16) * 32
    }

    /// Which row of a gated layer's weights holds gate `i`; its unit lies 16 rows further.
    pub fn gate_row(i: usize) -> usize {
        i / 16 * 32 + i % 16
    }

    /// Positions of gain, bias and residual among the inputs, when the matrix takes `tensors` of them.
    fn extras(&self, tensors: usize) -> [Option<usize>; 3] {
        let mut next = 1 + tensors;
        [self.norm.is_some(), self.bias, self.residual].map(|there| {
            there.then(|| {
                next += 1;
                next - 1
            })
        })
    }
}

impl Kernel for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn summary(&self) -> String {
        let mut text = self.unit.label().to_owned();
        for (on, word) in [
            (self.gated.is_some(), " gated"),
            (self.norm.is_some(), " normed"),
            (self.bias, " +bias"),
            (self.residual, " +residual"),
            (self.softcap.is_some(), " capped"),
            (self.half, " half"),
        ] {
            if on {
                text.push_str(word);
            }
        }
        text
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let refuse = |position: usize, expected: String| match inputs.get(position) {
            Some(found) => ShapeError::Input { kernel, position, expected, found: found.clone() },
            None => ShapeError::Count {
                kernel,
                expected: "x, w, and gain, bias and residual if it has them",
                found: inputs.len(),
            },
        };
        let [m, k] = inputs.first().map_or(&[][..], |x| &x.shape[..]) else {
            return Err(refuse(0, "rows [tokens, columns]".into()));
        };
        let packed = inputs[0].format == Format::BlockI8 && self.norm.is_none();
        if !(packed || inputs[0].format == Format::F32) || inputs[0].is_empty() {
            return Err(refuse(0, "rows [tokens, columns] in f32, or without a norm in block-i8, not empty".into()));
        }
        let Some((scheme, n, columns)) = Scheme::of(&inputs[1..]) else {
            return Err(refuse(1, "the tensors of a matrix in panels".into()));
        };
        if packed && !scheme.is_bytes() {
            return Err(refuse(1, "a matrix of whole numbers, because the input is".into()));
        }
        if columns != *k {
            return Err(refuse(1, format!("a matrix of {k} columns")));
        }
        let width = self.gated.unwrap_or(n);
        if self.gated.is_some_and(|width| Dense::gated_rows(width) != n)
            || (self.gated.is_some() && (self.residual || self.softcap.is_some()))
        {
            let reason = format!("{n} rows of weights are not {width} gated units without residual and cap");
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let output = Desc::f32([*m, width]);
        let wanted = [Desc::f32([*k]), Desc::f32([n]), output.clone()];
        let mut count = 1 + scheme.codes().len();
        for (position, wanted) in self.extras(scheme.codes().len()).into_iter().zip(wanted) {
            let Some(position) = position else { continue };
            count = position + 1;
            if inputs.get(position) != Some(&wanted) {
                return Err(refuse(position, wanted.to_string()));
            }
        }
        if inputs.len() != count {
            return Err(refuse(inputs.len(), String::new()));
        }
        Ok(vec![output])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let (scheme, n) = Scheme::of(&call.inputs[1..]).map_or(("", 0), |(scheme, n, _)| (scheme.label(), n));
        let packed = call.inputs[0].format == Format::BlockI8;
        let (rows, x) = (call.inputs[0].rows(), if packed { "i8" } else { "f32" });
        // A single token in bytes is for GPUs.
        let tokens = if rows == 1 && !(packed && caps.software) { "one" } else { "few" };
        let of = |path: &'static str, tokens: &'static str, x: &'static str| {
            let choices = [("path", path), ("tokens", tokens), ("x", x), ("scheme", scheme)];
            fitting(SOURCES, &choices, caps).collect::<Vec<_>>()
        };
        if caps.software {
            let paths = ["subgroup8", "subgroup4", "alike", "portable"];
            // Numbers that need no unpacking are bound by their loads, which more tokens then share.
            let mut found = if rows > 4 { of("subgroup8", "several", x) } else { Vec::new() };
            found.extend(paths.iter().flat_map(|path| of(path, tokens, x)));
            found.truncate(1);
            return found;
        }
        // The build has none of these for browsers.
        let native = |path, tokens| if cfg!(target_arch = "wasm32") { Vec::new() } else { of(path, tokens, x) };
        let tiled = || [native("sliced", "many"), of("tiled", "many", x)].concat();
        let halves = if self.half && !packed { "f16" } else { "" };
        let first = match rows {
            // Exact ones first: where nothing is measured, nobody is given less exactness for nothing.
            1 => [native("pairs", "one"), of("subgroups", "one", x), of("portable", "one", halves)].concat(),
            2..=4 => native("quads", "few"),
            5..=TILED => native("quads", "several"),
            rows if rows <= TWICE => [tiled(), native("quads", "several"), of("tiled", "many", halves)].concat(),
            rows if rows <= WIDE => [tiled(), of("tiled", "many", halves)].concat(),
            _ => {
                let (wide, tiled) = (native("wide", "more"), tiled());
                let large = n.div_ceil(64) * rows.div_ceil(64) >= ENOUGH;
                let both = if large { [wide, tiled] } else { [tiled, wide] };
                [both.concat(), of("tiled", "many", halves)].concat()
            }
        };
        [first, of("portable", tokens, x)].concat()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (x, y) = (&call.inputs[0], &call.outputs[0]);
        let (tensors, n) = Scheme::of(&call.inputs[1..]).map_or((0, 0), |(scheme, n, _)| (scheme.codes().len(), n));
        let extras = self.extras(tensors);
        let flags = [extras[0].is_some(), extras[1].is_some(), extras[2].is_some(), self.gated.is_some()];
        let flags: u32 = flags.iter().enumerate().map(|(bit, on)| u32::from(*on) << bit).sum();
        let four = |columns: usize| columns.div_ceil(4) as u32;
        let params = vec![
            x.rows() as u32,
            x.last() as u32,
            four(x.last()),
            four(y.last()),
            x.last().div_ceil(32) as u32,
            flags,
            self.unit as u32,
            self.norm.unwrap_or(0.0).to_bits(),
            self.softcap.unwrap_or(0.0).to_bits(),
            0,
        ];
        let mut operands: Vec<Operand> = (0..=tensors).map(Operand::Input).collect();
        operands.extend(extras.map(|position| Operand::Input(position.unwrap_or(0))));
        operands.push(Operand::Output(0));
        // Rows of a workgroup: where the variant does not say, those of its only subgroup, or a panel.
        let of_subgroup = source.number("R") * source.subgroup;
        let rows = [source.number("ROWS"), of_subgroup, 32].into_iter().find(|rows| *rows > 0).unwrap_or(32);
        let across = (n.next_multiple_of(32) as u32).div_ceil(rows);
        Launch { params, grid: [across, (x.rows() as u32).div_ceil(source.number("TM")), 1], operands }
    }

    fn first_group(&self) -> [Option<usize>; 2] {
        [Some(9), None]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let descs: Vec<Desc> = inputs.iter().map(|t| t.desc.clone()).collect();
        let Some((scheme, n, k)) = Scheme::of(&descs[1..]) else { return Vec::new() };
        let tensors = scheme.codes().len();
        let extra = |at: usize| self.extras(tensors)[at].map(|position| inputs[position].values());
        let (gain, bias, residual) = (extra(0), extra(1), extra(2));
        let (m, width) = (inputs[0].desc.rows(), outputs[0].last());
        let mut x: Vec<f64> = inputs[0].values().into_iter().map(f64::from).collect();
        if let (Some(epsilon), Some(gain)) = (self.norm, gain) {
            for row in x.chunks_mut(k) {
                let mean = row.iter().map(|v| v * v).sum::<f64>() / k as f64;
                let factor = 1.0 / (mean + f64::from(epsilon)).sqrt();
                row.iter_mut().zip(&gain).for_each(|(v, g)| *v *= factor * f64::from(*g));
            }
        }
        // Column by column: `sums` is [n, m].
        let mut sums = vec![0.0f32; n * m];
        let weights = scheme.rows(&inputs[1..=tensors]);
        let exact = |row: usize| -> Vec<f64> {
            let w = weights.row(row);
            let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias[row]));
            x.chunks(k).map(|x| x.iter().zip(&w).map(|(x, w)| x * w).sum::<f64>() + bias).collect()
        };
        let y: Vec<f32> = if self.gated.is_some() {
            let mut y = vec![0.0f32; width * m];
            parallel::rows(&mut y, m, |i, row| {
                let (gate, up) = (exact(Dense::gate_row(i)), exact(Dense::gate_row(i) + 16));
                for (t, out) in row.iter_mut().enumerate() {
                    *out = (self.unit.apply(gate[t]) * up[t]) as f32;
                }
            });
            y
        } else {
            parallel::rows(&mut sums, m, |n_at, row| {
                for (t, (out, sum)) in row.iter_mut().zip(exact(n_at)).enumerate() {
                    let added = residual.as_ref().map_or(0.0, |r| f64::from(r[t * n + n_at]));
                    let v = self.unit.apply(sum);
                    let bounded = self.softcap.map_or(v, |cap| f64::from(cap) * (v / f64::from(cap)).tanh());
                    *out = (bounded + added) as f32;
                }
            });
            sums
        };
        let rows: Vec<f32> = (0..m * width).map(|i| y[i % width * m + i / width]).collect();
        vec![HostTensor::from_values(outputs[0].clone(), &rows)]
    }

    /// A sum of `k` products; a gate multiplies two of them, and the units' own functions add a few units in the last place:
    /// `exp` and the division 6, the five terms of the approximated error function 1.5e-7, an absolute bound that the
    /// largest output is taken to be no smaller than. Products of 16-bit floats err by `24 * 2^-11`, see `docs/numerics.md`.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let halves = if self.half { 24.0 / 2048.0 } else { 0.0 };
        let sum = Tolerance::of_sum(call.inputs[0].last() + 32, Format::F32).relative + halves;
        let unit = match self.unit {
            Unit::Linear | Unit::Relu => 0.0,
            Unit::Silu | Unit::GeluTanh => 12.0 * f64::from(f32::EPSILON),
            Unit::Gelu => 12.0 * f64::from(f32::EPSILON) + 3.0e-7,
        };
        let unit = unit + self.softcap.map_or(0.0, |_| 12.0 * f64::from(f32::EPSILON));
        let factors = if self.gated.is_some() { 2.0 } else { 1.0 };
        Tolerance { relative: factors * sum + unit }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let (n, k) = Scheme::of(&call.inputs[1..]).map_or((0, 0), |(_, n, k)| (n, k));
        Work { flops: 2.0 * call.inputs[0].rows() as f64 * (k * n) as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::Code;

    #[test]
    fn workgroups_are_as_many_as_the_rows_take() {
        for (n, rows, found) in [
            (33, 1, [("pairs", 4), ("subgroups", 2), ("portable", 2)].as_slice()),
            (33, 3, &[("quads", 2), ("portable", 2)]),
            (97, 33, &[("sliced", 4), ("tiled", 4), ("wide", 2), ("portable", 4)]),
            (4096, 128, &[("wide", 64), ("sliced", 128), ("tiled", 128), ("portable", 128)]),
            // A prompt's chunk on a discrete GPU: tiles of 64 are the first guess for the narrowest matrices of published models.
            (576, 512, &[("wide", 9), ("sliced", 18), ("tiled", 18), ("portable", 18)]),
            (256, 512, &[("sliced", 8), ("tiled", 8), ("wide", 4), ("portable", 8)]),
        ] {
            let inputs = [vec![Desc::f32([rows, 64])], Scheme::Q4_0.descs(n, 64)].concat();
            let outputs = [Desc::f32([rows, n])];
            let (call, kernel) = (Call { inputs: &inputs, outputs: &outputs }, Dense::default());
            let candidates = kernel.candidates(&call, &Caps { subgroup: Some((32, 32)), ..Caps::WEBGPU_DEFAULT });
            let groups = |source: &&Source| (source.choice("path"), kernel.launch(&call, source).grid[0]);
            assert_eq!(candidates.iter().map(groups).collect::<Vec<_>>(), found);
        }
    }

    #[test]
    fn the_error_function_has_its_known_values() {
        for (v, expected) in
            [(0.0, 0.0), (0.5, 0.520_499_877_813_046_5), (1.0, 0.842_700_792_949_714_9), (3.5, 0.999_999_256_901_627_7)]
        {
            assert!((erf(v) - expected).abs() < 1e-14, "{v}");
            assert!((erf(-v) + expected).abs() < 1e-14, "{v}");
        }
    }

    #[test]
    fn products_of_16_bit_floats_are_for_those_who_ask() {
        let gpu = Caps { f16: true, subgroup: Some((32, 32)), ..Caps::WEBGPU_DEFAULT };
        let software = Caps { software: true, ..gpu.clone() };
        for rows in [1, 33] {
            let inputs = [vec![Desc::f32([rows, 64])], Scheme::Q4_0.descs(32, 64)].concat();
            let outputs = [Desc::f32([rows, 32])];
            let call = Call { inputs: &inputs, outputs: &outputs };
            let chosen = |half: bool, caps: &Caps| -> Vec<bool> {
                let kernel = Dense { half, ..Dense::default() };
                kernel.candidates(&call, caps).iter().map(|source| source.f16).collect()
            };
            assert!(chosen(false, &gpu).iter().all(|f16| !f16));
            let asked = chosen(true, &gpu);
            assert!(!asked[0] && asked.iter().filter(|f16| **f16).count() == 1, "{asked:?}");
            assert!(chosen(true, &Caps { f16: false, ..gpu.clone() }).iter().all(|f16| !f16));
            assert_eq!(chosen(true, &software), [false]);
        }
    }

    #[test]
    fn a_norm_divides_by_the_root_mean_square_and_a_gate_multiplies() {
        let x = HostTensor::from_values(Desc::f32([1, 2]), &[3.0, 4.0]);
        let mut rows = vec![0.0f32; 64];
        (rows[0], rows[32 + 1]) = (2.0, 5.0);
        let w = HostTensor::from_values(Desc::new(Format::Panel(Code::F32), [32, 2]), &rows);
        let gain = HostTensor::from_values(Desc::f32([2]), &[1.0, 1.0]);
        let kernel = Dense { norm: Some(0.0), gated: Some(1), ..Dense::default() };
        let descs = [x.desc.clone(), w.desc.clone(), gain.desc.clone()];
        let y = kernel.reference(&[&x, &w, &gain], &kernel.outputs(&descs).unwrap());
        // The mean square of 3 and 4 is 12.5.
        assert!((y[0].values()[0] - 6.0 * 20.0 / 12.5).abs() < 1e-6);
    }
}
