//! The activations that kernels apply in their epilogues, all as one branch-free formula.

/// An activation function of one value.
///
/// On the GPU each is `clamp(v * a + b, low, high) * (c + d * v)` with the six numbers of
/// [`Activation::coefficients`], so that one pipeline serves every layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Activation {
    /// `v`
    #[default]
    None,
    /// `max(v, 0)`
    Relu,
    /// `min(max(v, 0), 6)` (Krizhevsky 2010)
    Relu6,
    /// `v * min(max(v + 3, 0), 6) / 6` (Howard et al. 2019)
    HardSwish,
    /// `min(max(v + 3, 0), 6) / 6` (Howard et al. 2019)
    HardSigmoid,
}

/// The largest finite bound used where an activation has none; finite, so that no infinity is ever computed with.
const UNBOUNDED: f32 = 3.0e38;

impl Activation {
    /// Every activation.
    pub const ALL: [Activation; 5] =
        [Activation::None, Activation::Relu, Activation::Relu6, Activation::HardSwish, Activation::HardSigmoid];

    /// `[a, b, low, high, c, d]` of the formula above.
    pub fn coefficients(self) -> [f32; 6] {
        match self {
            Activation::None => [1.0, 0.0, -UNBOUNDED, UNBOUNDED, 1.0, 0.0],
            Activation::Relu => [1.0, 0.0, 0.0, UNBOUNDED, 1.0, 0.0],
            Activation::Relu6 => [1.0, 0.0, 0.0, 6.0, 1.0, 0.0],
            Activation::HardSwish => [1.0 / 6.0, 0.5, 0.0, 1.0, 0.0, 1.0],
            Activation::HardSigmoid => [1.0 / 6.0, 0.5, 0.0, 1.0, 1.0, 0.0],
        }
    }

    /// The coefficients as parameter words.
    pub fn words(self) -> [u32; 6] {
        self.coefficients().map(f32::to_bits)
    }

    /// The function itself, as the papers write it.
    pub fn apply(self, v: f64) -> f64 {
        match self {
            Activation::None => v,
            Activation::Relu => v.max(0.0),
            Activation::Relu6 => v.clamp(0.0, 6.0),
            Activation::HardSwish => v * (v + 3.0).clamp(0.0, 6.0) / 6.0,
            Activation::HardSigmoid => (v + 3.0).clamp(0.0, 6.0) / 6.0,
        }
    }

    /// The name in plans.
    pub fn label(self) -> &'static str {
        match self {
            Activation::None => "linear",
            Activation::Relu => "relu",
            Activation::Relu6 => "relu6",
            Activation::HardSwish => "hard_swish",
            Activation::HardSigmoid => "hard_sigmoid",
        }
    }
}
