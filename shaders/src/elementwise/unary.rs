//! Functions of single values, for where no other kernel applies them in its epilogue.

use super::layout::{filled, grid};
use crate::{
    Activation, Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, parallel, traffic,
};
use std::any::Any;
use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::UNARY;

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Function {
    /// One of the activations that other kernels apply as epilogues: identity, ReLU, ReLU6, hard swish, hard sigmoid.
    Activation(Activation),
    /// `v` above zero and `alpha * v` below.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `min(max(v, low), high)`; the upper bound wins where they cross.
    Clip {
        /// Lower bound.
        low: f32,
        /// Upper bound.
        high: f32,
    },
    /// `min(max(alpha * v + beta, 0), 1)`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `-v`
    Neg,
    /// `|v|`
    Abs,
    /// `sqrt(v)`
    Sqrt,
    /// `1 / v`
    Reciprocal,
    /// `1 / (1 + exp(-v))`
    Sigmoid,
    /// `tanh(v)`
    Tanh,
    /// The error function.
    Erf,
    /// `v * (1 + erf(v / sqrt 2)) / 2` (Hendrycks and Gimpel 2016)
    Gelu,
    /// The same with `tanh(sqrt(2 / pi) (v + 0.044715 v^3))` for the error function.
    GeluTanh,
    /// `exp(v)`
    Exp,
    /// `log(v)`
    Log,
}

impl Function {
    /// The name in plans.
    pub fn label(self) -> &'static str {
        match self {
            Function::Activation(activation) => activation.label(),
            Function::LeakyRelu { .. } => "leaky_relu",
            Function::Clip { .. } => "clip",
            Function::HardSigmoid { .. } => "hard_sigmoid",
            Function::Neg => "neg",
            Function::Abs => "abs",
            Function::Sqrt => "sqrt",
            Function::Reciprocal => "reciprocal",
            Function::Sigmoid => "sigmoid",
            Function::Tanh => "tanh",
            Function::Erf => "erf",
            Function::Gelu => "gelu",
            Function::GeluTanh => "gelu_tanh",
            Function::Exp => "exp",
            Function::Log => "log",
        }
    }

    /// The shader's group, the choice in it, and the six numbers of its formula.
    fn encoding(self) -> (&'static str, u32, [f32; 6]) {
        let algebraic = |choice, numbers| ("algebraic", choice, numbers);
        let transcendental = |choice| ("transcendental", choice, [0.0; 6]);
        let [a, b, low, high, c, d] = Activation::None.coefficients();
        match self {
            Function::Activation(activation) => algebraic(0, activation.coefficients()),
            Function::Clip { low, high } => algebraic(0, [a, b, low, high, c, d]),
            Function::HardSigmoid { alpha, beta } => algebraic(0, [alpha, beta, 0.0, 1.0, c, d]),
            Function::Neg => algebraic(0, [-1.0, b, low, high, c, d]),
            Function::LeakyRelu { alpha } => algebraic(1, [alpha, b, low, high, c, d]),
            Function::Sqrt => algebraic(2, [0.0; 6]),
            Function::Abs => algebraic(3, [0.0; 6]),
            Function::Reciprocal => algebraic(4, [0.0; 6]),
            Function::Sigmoid => transcendental(0),
            Function::Tanh => transcendental(1),
            Function::Erf => transcendental(2),
            Function::Gelu => transcendental(3),
            Function::GeluTanh => transcendental(4),
            Function::Exp => transcendental(5),
            Function::Log => transcendental(6),
        }
    }

    /// The function itself.
    pub fn apply(self, v: f64) -> f64 {
        match self {
            Function::Activation(activation) => activation.apply(v),
            Function::LeakyRelu { alpha } => if v < 0.0 { v * f64::from(alpha) } else { v },
            Function::Clip { low, high } => v.max(f64::from(low)).min(f64::from(high)),
            Function::HardSigmoid { alpha, beta } => (v * f64::from(alpha) + f64::from(beta)).clamp(0.0, 1.0),
            Function::Neg => -v,
            Function::Abs => v.abs(),
            Function::Sqrt => v.sqrt(),
            Function::Reciprocal => v.recip(),
            Function::Sigmoid => 1.0 / (1.0 + (-v).exp()),
            Function::Tanh => v.tanh(),
            Function::Erf => erf(v),
            Function::Gelu => 0.5 * v * (1.0 + erf(v * FRAC_1_SQRT_2)),
            Function::GeluTanh => 0.5 * v * (1.0 + ((2.0 / PI).sqrt() * (v + 0.044_715 * v * v * v)).tanh()),
            Function::Exp => v.exp(),
            Function::Log => v.ln(),
        }
    }

    /// Units of rounding allowed, relative to the largest result.
    ///
    /// WGSL grants `exp(v)` an error of `3 + 2 |v|` units in the last place, a division 2.5, `sqrt` what `1 / inverseSqrt`
    /// may have (4.5), and `log` 3, or 2^-21 (4 units) between one half and two. `exp` of what is not positive times its error is
    /// at most 3 units of one. So: sigmoid 3 + 1 + 2.5; tanh twice 3, two roundings and a division; the error function 2.6e-8
    /// of its fit, 3, and the roundings of its polynomial and division; GELU half of that and two products.
    /// `exp` itself is bounded for arguments up to 10.
    fn units(self) -> f64 {
        match self {
            Function::Activation(Activation::HardSwish | Activation::HardSigmoid) | Function::HardSigmoid { .. } => 3.0,
            Function::Activation(_) | Function::Clip { .. } | Function::Neg | Function::Abs => 0.0,
            Function::LeakyRelu { .. } => 1.0,
            Function::Reciprocal => 2.5,
            Function::Sqrt => 4.5,
            Function::Log => 7.0,
            Function::Sigmoid => 6.5,
            Function::Tanh => 10.5,
            Function::Erf | Function::Gelu => 8.0,
            Function::GeluTanh => 9.0,
            Function::Exp => 23.0,
        }
    }
}

/// The error function by its series of positive terms, `2 / sqrt(pi) exp(-v^2) sum_n 2^n v^(2n+1) / (2n+1)!!`.
fn erf(v: f64) -> f64 {
    let size = v.abs();
    if size > 6.0 {
        return v.signum();
    }
    let (mut term, mut sum, mut n) = (size, 0.0, 0.0);
    while term > sum * 1e-18 {
        sum += term;
        n += 1.0;
        term *= 2.0 * size * size / (2.0 * n + 1.0);
    }
    v.signum() * 2.0 / PI.sqrt() * (-size * size).exp() * sum
}

/// `y = function(x)`, value by value
///
/// Input: any shape in F32 or F16 rows. Output: the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unary {
    /// Which function.
    pub function: Function,
}

impl Kernel for Unary {
    fn name(&self) -> &'static str {
        "unary"
    }

    fn summary(&self) -> String {
        match self.function {
            Function::LeakyRelu { alpha } => format!("leaky_relu {alpha}"),
            Function::Clip { low, high } => format!("clip {low} {high}"),
            Function::HardSigmoid { alpha, beta } => format!("hard_sigmoid {alpha} {beta}"),
            function => function.label().to_owned(),
        }
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        match inputs {
            [x] if matches!(x.format, Format::F32 | Format::F16) && !x.is_empty() => Ok(vec![x.clone()]),
            [x] => {
                let expected = "a tensor in f32 or f16, not empty".to_owned();
                Err(ShapeError::Input { kernel, position: 0, expected, found: x.clone() })
            }
            _ => Err(ShapeError::Count { kernel, expected: "one tensor", found: inputs.len() }),
        }
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let choices = [("group", self.function.encoding().0), ("storage", call.inputs[0].format.label())];
        fitting(SOURCES, &choices, caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let x = &call.inputs[0];
        let last4 = x.last().div_ceil(4);
        let count = x.rows() * last4;
        let (grid, width) = grid(count.div_ceil(64), source);
        let (_, choice, numbers) = self.function.encoding();
        let mut params = vec![count as u32, width, x.last() as u32, last4 as u32, choice];
        params.extend(numbers.map(f32::to_bits));
        filled(Launch::new(call, params, grid), source)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let mut y = inputs[0].values();
        parallel::rows(&mut y, 1024, |_, values| {
            for v in values {
                *v = self.function.apply(f64::from(*v)) as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let stored = if call.outputs[0].format == Format::F16 && self.function.units() > 0.0 { 1.0 / 1024.0 } else { 0.0 };
        Tolerance { relative: self.function.units() * f64::from(f32::EPSILON) + stored }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Every function on sizes round the workgroup, over the part of the line where it bends.
pub(crate) fn cases() -> Vec<Case> {
    let mut functions: Vec<Function> = Activation::ALL.map(Function::Activation).into();
    functions.extend([
        Function::LeakyRelu { alpha: 0.1 },
        Function::Clip { low: -1.5, high: 2.0 },
        Function::Clip { low: 2.0, high: 1.0 },
        Function::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Function::Neg,
        Function::Abs,
        Function::Sqrt,
        Function::Reciprocal,
        Function::Sigmoid,
        Function::Tanh,
        Function::Erf,
        Function::Gelu,
        Function::GeluTanh,
        Function::Exp,
        Function::Log,
    ]);
    let mut cases = Vec::new();
    let mut add = |tier: Tier, shape: &[usize], format: Format, (low, high): (f32, f32), function: Function| {
        let kernel = Unary { function };
        let size = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let label = format!("{size}.{}.{}", format.label(), kernel.summary().replace(' ', "_"));
        let inputs = vec![(Desc::new(format, shape), Fill::Range(low, high))];
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    for function in functions {
        let range = match function {
            Function::Sqrt | Function::Log => (0.01, 9.0),
            Function::Reciprocal => (0.25, 8.0),
            _ => (-9.0, 9.0),
        };
        // A single value is compared with itself, so it lies where no function loses digits by cancellation.
        add(Tier::Full, &[1], Format::F32, (3.0, 6.0), function);
        for format in [Format::F32, Format::F16] {
            add(Tier::Short, &[2, 3, 37], format, range, function);
            for shape in [&[5][..], &[256], &[257], &[1, 56, 56, 21]] {
                add(Tier::Full, shape, format, range, function);
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
        near(erf(0.5), 0.520_499_877_813_046_5);
        near(erf(-2.0), -0.995_322_265_018_952_7);
        near(erf(4.5), 0.999_999_999_803_384);
        near(erf(0.0), 0.0);
        near(Function::Gelu.apply(1.0), 0.841_344_746_068_542_9);
        near(Function::Sigmoid.apply(0.0), 0.5);
        near(Function::LeakyRelu { alpha: 0.5 }.apply(-3.0), -1.5);
        near(Function::Clip { low: 2.0, high: 1.0 }.apply(5.0), 1.0);
        assert!((Function::GeluTanh.apply(1.0) - 0.841_192).abs() < 1e-6);
    }

    #[test]
    fn the_formula_of_every_algebraic_function_is_the_function() {
        for case in cases() {
            let kernel = case.kernel.as_any().downcast_ref::<Unary>().unwrap();
            if let ("algebraic", 0, [a, b, low, high, c, d]) = kernel.function.encoding() {
                for v in [-7.0f32, -3.0, -0.5, 0.0, 0.5, 1.7, 3.0, 8.0] {
                    let found = (v * a + b).max(low).min(high) * (c + d * v);
                    assert!((f64::from(found) - kernel.function.apply(f64::from(v))).abs() < 1e-6, "{:?}", kernel.function);
                }
            }
        }
    }
}
