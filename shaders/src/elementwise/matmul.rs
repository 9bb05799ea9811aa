//! Products of tensors as batches of matrices, where both sides are activations.

use super::layout::{broadcast, coordinates, filled, index_of, require_f32, stretched, strides};
use crate::{
    Call, Caps, Case, Desc, Format, HostTensor, Kernel, Launch, Operand, ShapeError, Source, Tier, Tolerance, Work, fitting,
    parallel, traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::MATMUL;

/// `y[.., m, n] = alpha * sum_k a[.., m, k] * b[.., k, n] + beta * c[m, n]`
///
/// Inputs, all in F32 rows: `a [.., m, k]` (or `[.., k, m]` transposed), `b [.., k, n]` (or `[.., n, k]`), whose up to four outer axes are
/// stretched to a common shape as numpy does, and if `added`, `c`, which stretches to `[m, n]`. Output: `[.., m, n]`. With `alpha`,
/// `beta` and `c` it is the `Gemm` of BLAS. Weights known beforehand are better packed as a matrix for
/// [`Linear`](crate::head::Linear) or [`Pointwise`](crate::conv::Pointwise).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matmul {
    /// The last two axes of `a` are swapped.
    pub transpose_a: bool,
    /// The last two axes of `b` are swapped.
    pub transpose_b: bool,
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of `c`.
    pub beta: f32,
    /// A third input is added.
    pub added: bool,
}

impl Default for Matmul {
    fn default() -> Matmul {
        Matmul { transpose_a: false, transpose_b: false, alpha: 1.0, beta: 1.0, added: false }
    }
}

/// The outer axes, and the last two, swapped if asked.
fn split(desc: &Desc, swapped: bool) -> Option<(&[usize], usize, usize)> {
    let (outer, inner) = desc.shape.split_at_checked(desc.shape.len().checked_sub(2)?)?;
    Some(if swapped { (outer, inner[1], inner[0]) } else { (outer, inner[0], inner[1]) })
}

impl Kernel for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn summary(&self) -> String {
        let letter = |swapped: bool, letter: &str| if swapped { format!("{letter}^t") } else { letter.to_owned() };
        let product = format!("{} {}", letter(self.transpose_a, "a"), letter(self.transpose_b, "b"));
        if self.added { format!("{} {product} + {} c", self.alpha, self.beta) } else { format!("{} {product}", self.alpha) }
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        if inputs.len() != 2 + usize::from(self.added) {
            return Err(ShapeError::Count { kernel, expected: "a, b, and c if it is added", found: inputs.len() });
        }
        require_f32(kernel, inputs)?;
        let refuse =
            |position: usize, expected: String| ShapeError::Input { kernel, position, expected, found: inputs[position].clone() };
        let Some((outer_a, m, k)) = split(&inputs[0], self.transpose_a) else {
            return Err(refuse(0, "two axes or more".into()));
        };
        let Some((outer_b, n)) = split(&inputs[1], self.transpose_b).filter(|(_, own, _)| *own == k).map(|(o, _, n)| (o, n)) else {
            return Err(refuse(1, format!("matrices that share an extent of {k} with {}", inputs[0])));
        };
        let Some(mut shape) = broadcast(&[outer_a, outer_b]) else {
            return Err(refuse(1, format!("outer axes that go together with {}", inputs[0])));
        };
        shape.extend([m, n]);
        if self.added && broadcast(&[&inputs[2].shape, &[m, n]]) != Some(vec![m, n]) {
            return Err(refuse(2, format!("a shape that stretches to {m}x{n}")));
        }
        Ok(vec![Desc::f32(shape)])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (a, b, y) = (&call.inputs[0], &call.inputs[1], &call.outputs[0]);
        let (m, n) = (y.shape[y.shape.len() - 2], y.last());
        let k = split(a, self.transpose_a).map_or(0, |(_, _, k)| k);
        let steps = |x: &Desc, swapped: bool| {
            let strides = strides(x);
            let (row, column) = (strides[strides.len() - 2] as u32, 1);
            if swapped { [column, row] } else { [row, column] }
        };
        let mut params = Vec::new();
        for axis in 2..6 {
            let extent = y.shape.len().checked_sub(axis + 1).map_or(1, |at| y.shape[at]);
            let step = |x: &Desc| stretched(&x.shape, &strides(x), axis) as u32;
            params.extend([extent as u32, step(a), step(b), 0]);
        }
        params.extend([m, n, k].map(|extent| extent as u32));
        params.extend(steps(a, self.transpose_a));
        params.extend(steps(b, self.transpose_b));
        let added = call.inputs.get(2).map(|c| [1, 0].map(|axis| stretched(&c.shape, &strides(c), axis) as u32));
        params.extend(added.unwrap_or([0, 0]));
        params.extend([self.alpha.to_bits(), self.beta.to_bits(), u32::from(self.added)]);
        let grid = [n.div_ceil(4).div_ceil(8) as u32, m.div_ceil(4).div_ceil(8) as u32, (y.len() / (m * n)) as u32];
        let c = Operand::Input(if self.added { 2 } else { 0 });
        let operands = vec![Operand::Input(0), Operand::Input(1), c, Operand::Output(0)];
        filled(Launch { params, grid, operands }, source)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (a, b) = (inputs[0].values(), inputs[1].values());
        let c = inputs.get(2).map(|c| (c.values(), &c.desc.shape));
        let shape = &outputs[0].shape;
        let axes = shape.len();
        let (m, n) = (shape[axes - 2], shape[axes - 1]);
        let (shape_a, shape_b) = (&inputs[0].desc.shape, &inputs[1].desc.shape);
        let k = shape_a[shape_a.len() - if self.transpose_a { 2 } else { 1 }];
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, n, |row, values| {
            let outer = coordinates(&shape[..axes - 2], row / m);
            let first = |shape: &[usize]| index_of(&shape[..shape.len() - 2], &outer) * shape[shape.len() - 2] * shape[shape.len() - 1];
            let (first_a, first_b, i) = (first(shape_a), first(shape_b), row % m);
            for (j, value) in values.iter_mut().enumerate() {
                let term = |l: usize| {
                    let p = if self.transpose_a { l * m + i } else { i * k + l };
                    let q = if self.transpose_b { j * k + l } else { l * n + j };
                    f64::from(a[first_a + p]) * f64::from(b[first_b + q])
                };
                let mut sum = f64::from(self.alpha) * (0..k).map(term).sum::<f64>();
                if let Some((c, shape)) = &c {
                    sum += f64::from(self.beta) * f64::from(c[index_of(shape, &[i, j])]);
                }
                *value = sum as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        Tolerance::of_sum(split(&call.inputs[0], self.transpose_a).map_or(0, |(_, _, k)| k), Format::F32)
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let k = split(&call.inputs[0], self.transpose_a).map_or(0, |(_, _, k)| k);
        Work { flops: 2.0 * (call.outputs[0].len() * k) as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sizes round the tile, transposes, stretched batches and addends.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, kernel: Matmul, shapes: &[&[usize]]| {
        let size = |shape: &&[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let sizes = shapes.iter().map(size).collect::<Vec<_>>().join(".");
        let label = format!("{sizes}.{}", kernel.summary().replace(' ', "_"));
        cases.push(Case::noise(label, tier, kernel, shapes.iter().map(|shape| Desc::f32(*shape)).collect()));
    };
    let plain = Matmul::default();
    let gemm = Matmul { transpose_a: true, transpose_b: true, alpha: 0.25, beta: 0.5, added: true };
    add(Tier::Short, plain, &[&[2, 5, 7], &[2, 7, 6]]);
    add(Tier::Short, gemm, &[&[7, 5], &[6, 7], &[6]]);
    for (m, n, k) in [(1, 1, 1), (4, 4, 4), (31, 33, 5), (32, 32, 8), (33, 31, 9), (3, 130, 17)] {
        add(Tier::Full, plain, &[&[m, k], &[k, n]]);
        add(Tier::Full, Matmul { transpose_a: true, ..plain }, &[&[k, m], &[k, n]]);
        add(Tier::Full, Matmul { transpose_b: true, ..plain }, &[&[m, k], &[n, k]]);
    }
    for c in [&[][..], &[1], &[5, 1], &[1, 6], &[5, 6]] {
        add(Tier::Full, Matmul { added: true, beta: -2.0, ..plain }, &[&[5, 3], &[3, 6], c]);
    }
    add(Tier::Full, plain, &[&[2, 1, 3, 5, 4], &[4, 1, 4, 6]]);
    add(Tier::Full, plain, &[&[2, 3, 2, 3, 5, 4], &[4, 6]]);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplies_hand_computed_matrices() {
        let a = HostTensor::from_values(Desc::f32([2, 2]), &[1.0, 2.0, 3.0, 4.0]);
        let b = HostTensor::from_values(Desc::f32([2, 2]), &[5.0, 6.0, 7.0, 8.0]);
        let c = HostTensor::from_values(Desc::f32([2, 1]), &[10.0, 20.0]);
        let run = |kernel: Matmul, inputs: &[&HostTensor]| {
            let descs: Vec<Desc> = inputs.iter().map(|t| t.desc.clone()).collect();
            kernel.reference(inputs, &kernel.outputs(&descs).unwrap()).remove(0).values()
        };
        let plain = Matmul::default();
        assert_eq!(run(plain, &[&a, &b]), [19.0, 22.0, 43.0, 50.0]);
        assert_eq!(run(Matmul { transpose_a: true, ..plain }, &[&a, &b]), [26.0, 30.0, 38.0, 44.0]);
        assert_eq!(run(Matmul { transpose_b: true, ..plain }, &[&a, &b]), [17.0, 23.0, 39.0, 53.0]);
        let gemm = Matmul { alpha: 2.0, beta: 0.5, added: true, ..plain };
        assert_eq!(run(gemm, &[&a, &b, &c]), [43.0, 49.0, 96.0, 110.0]);
    }

    #[test]
    fn refuses_matrices_that_do_not_meet() {
        let plain = Matmul::default();
        assert!(plain.outputs(&[Desc::f32([2, 3]), Desc::f32([2, 3])]).is_err());
        assert!(plain.outputs(&[Desc::f32([3]), Desc::f32([3, 2])]).is_err());
        assert!(plain.outputs(&[Desc::f32([2, 2, 3]), Desc::f32([3, 3, 2])]).is_err());
        let added = Matmul { added: true, ..plain };
        assert!(added.outputs(&[Desc::f32([2, 3]), Desc::f32([3, 2]), Desc::f32([3])]).is_err());
    }
}
