//! Operations on pairs of tensors that may have to be stretched to a common shape.

use super::layout::{broadcast, coordinates, filled, grid, index_of, require_f32, stretched, strides};
use crate::{
    Call, Caps, Case, Desc, Fill, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting, parallel,
    traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::BINARY;

/// An operation on two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// `a` to the power of `b`; a negative `a` needs a whole `b`.
    Pow,
    /// The larger one.
    Max,
    /// The smaller one.
    Min,
}

impl Operation {
    /// Every operation, in the order of the shader's choices.
    pub const ALL: [Operation; 7] = [
        Operation::Add,
        Operation::Sub,
        Operation::Mul,
        Operation::Div,
        Operation::Pow,
        Operation::Max,
        Operation::Min,
    ];

    /// The name in plans.
    pub fn label(self) -> &'static str {
        ["add", "sub", "mul", "div", "pow", "max", "min"][self as usize]
    }

    fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Operation::Add => a + b,
            Operation::Sub => a - b,
            Operation::Mul => a * b,
            Operation::Div => a / b,
            Operation::Pow => a.powf(b),
            Operation::Max => a.max(b),
            Operation::Min => a.min(b),
        }
    }
}

/// `y = operation(a, b)`, value by value, with numpy's broadcasting
///
/// Inputs: two tensors in F32 rows of at most six axes, whose shapes, aligned at the last axis, agree or are one.
/// Output: the common shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binary {
    /// Which operation.
    pub operation: Operation,
}

impl Kernel for Binary {
    fn name(&self) -> &'static str {
        "binary"
    }

    fn summary(&self) -> String {
        self.operation.label().to_owned()
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [a, b] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "two tensors", found: inputs.len() });
        };
        require_f32(kernel, inputs)?;
        match broadcast(&[&a.shape, &b.shape]) {
            Some(shape) => Ok(vec![Desc::f32(shape)]),
            None => {
                let expected = format!("a shape that goes together with {a}");
                Err(ShapeError::Input { kernel, position: 1, expected, found: b.clone() })
            }
        }
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let ([a, b], y) = ([&call.inputs[0], &call.inputs[1]], &call.outputs[0]);
        let last4 = y.last().div_ceil(4);
        let count = y.rows() * last4;
        let (grid, width) = grid(count.div_ceil(64), source);
        let mut params = Vec::new();
        for axis in 1..6 {
            let extent = y.shape.len().checked_sub(axis + 1).map_or(1, |at| y.shape[at]);
            let step = |x: &Desc| (stretched(&x.shape, &strides(x), axis) / 4) as u32;
            params.extend([extent as u32, step(a), step(b), 0]);
        }
        let single = |x: &Desc| u32::from(x.last() == 1 && y.last() != 1);
        params.extend([count as u32, width, y.last() as u32, last4 as u32, single(a), single(b), self.operation as u32]);
        filled(Launch::new(call, params, grid), source)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (a, b) = (inputs[0].values(), inputs[1].values());
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, 1, |i, value| {
            let place = coordinates(&outputs[0].shape, i);
            let p = a[index_of(&inputs[0].desc.shape, &place)];
            let q = b[index_of(&inputs[1].desc.shape, &place)];
            value[0] = self.operation.apply(f64::from(p), f64::from(q)) as f32;
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    /// One rounding; a division may be off by 2.5 units in the last place. A power goes through `exp2(b * log2 a)`: the logarithm
    /// has 3 units, which its product with `b` carries to the exponent as `|b log2 a|` times as many, and `exp2` adds `3 + 2 |..|`;
    /// bounded for exponents of two up to 8, that is results up to 256.
    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        let units = match self.operation {
            Operation::Max | Operation::Min => 0.0,
            Operation::Add | Operation::Sub | Operation::Mul => 1.0,
            Operation::Div => 2.5,
            Operation::Pow => 3.0 + 8.0 * (3.0 + 1.0 + 2.0),
        };
        Tolerance { relative: units * f64::from(f32::EPSILON) }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: call.outputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Every operation, and every way of stretching with one to six axes.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, operation: Operation, a: &[usize], b: &[usize]| {
        let size = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let label = format!("{}.{}.{}", size(a), size(b), operation.label());
        let fill = match operation {
            Operation::Div | Operation::Pow => Fill::Range(0.25, 3.0),
            _ => Fill::Range(-3.0, 3.0),
        };
        let inputs = vec![(Desc::f32(a), fill.clone()), (Desc::f32(b), fill)];
        cases.push(Case { label, kernel: Arc::new(Binary { operation }), inputs, tier });
    };
    for operation in Operation::ALL {
        add(Tier::Short, operation, &[3, 4, 5], &[3, 4, 5]);
        add(Tier::Short, operation, &[2, 3, 7], &[7]);
        add(Tier::Full, operation, &[2, 1, 5], &[3, 1]);
    }
    for (a, b) in [
        (&[][..], &[][..]),
        (&[1], &[9]),
        (&[64], &[1]),
        (&[255], &[255]),
        (&[257], &[]),
        (&[4, 1], &[1, 6]),
        (&[2, 1, 3, 1, 2, 5], &[1, 4, 1, 3, 2, 1]),
        (&[2, 2, 2, 2, 2, 2], &[2, 1, 2]),
        (&[1, 56, 56, 24], &[1, 56, 56, 24]),
        (&[2, 28, 28, 40], &[2, 1, 1, 40]),
    ] {
        add(Tier::Full, Operation::Sub, a, b);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_a_hand_computed_pair() {
        let a = HostTensor::from_values(Desc::f32([2, 1]), &[10.0, 20.0]);
        let b = HostTensor::from_values(Desc::f32([3]), &[1.0, 2.0, 3.0]);
        let kernel = Binary { operation: Operation::Sub };
        let outputs = kernel.outputs(&[a.desc.clone(), b.desc.clone()]).unwrap();
        assert_eq!(kernel.reference(&[&a, &b], &outputs)[0].values(), [9.0, 8.0, 7.0, 19.0, 18.0, 17.0]);
        assert!(kernel.outputs(&[Desc::f32([2, 3]), Desc::f32([2])]).is_err());
    }

    #[test]
    fn negative_bases_have_whole_powers() {
        assert_eq!(Operation::Pow.apply(-2.0, 3.0), -8.0);
        assert_eq!(Operation::Pow.apply(-2.0, 2.0), 4.0);
        assert_eq!(Operation::Pow.apply(0.0, 0.0), 1.0);
    }
}
