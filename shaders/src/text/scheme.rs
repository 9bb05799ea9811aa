//! The schemes of weights: which tensors stand for one matrix, and what number each weight is.

use crate::panel::{self, Code};
use crate::{Desc, Format, HostTensor};

/// How a matrix of weights `[n, k]` is stored: as floats, or as codes with a 16-bit scale for each block of 32 columns.
///
/// The quantized schemes hold the numbers of the GGUF types of the same names exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scheme {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 16-bit brain floats.
    Bf16,
    /// `d * q`, `q` a signed byte.
    Q8_0,
    /// `d * (q - 8)`, `q` of 4 bits.
    Q4_0,
    /// `d * q + m`, `q` of 4 bits.
    Q4_1,
    /// `d * (q - 16)`, `q` of 5 bits.
    Q5_0,
    /// `d * q + m`, `q` of 5 bits.
    Q5_1,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Scheme; 8] =
        [Scheme::F32, Scheme::F16, Scheme::Bf16, Scheme::Q8_0, Scheme::Q4_0, Scheme::Q4_1, Scheme::Q5_0, Scheme::Q5_1];

    /// The name in plans and on the `scheme` axis of shaders.
    pub fn label(self) -> &'static str {
        match self {
            Scheme::F32 => "f32",
            Scheme::F16 => "f16",
            Scheme::Bf16 => "bf16",
            Scheme::Q8_0 => "q8_0",
            Scheme::Q4_0 => "q4_0",
            Scheme::Q4_1 => "q4_1",
            Scheme::Q5_0 => "q5_0",
            Scheme::Q5_1 => "q5_1",
        }
    }

    /// What the tensors of a matrix hold, in the order in which kernels take them.
    pub fn codes(self) -> &'static [Code] {
        match self {
            Scheme::F32 => &[Code::F32],
            Scheme::F16 => &[Code::F16],
            Scheme::Bf16 => &[Code::Bf16],
            Scheme::Q8_0 => &[Code::I8, Code::Scale],
            Scheme::Q4_0 => &[Code::U4, Code::Scale],
            Scheme::Q4_1 => &[Code::U4, Code::ScaleMin],
            Scheme::Q5_0 => &[Code::U4, Code::U1, Code::Scale],
            Scheme::Q5_1 => &[Code::U4, Code::U1, Code::ScaleMin],
        }
    }

    /// The tensors of a matrix of `n` rows by `k` columns.
    pub fn descs(self, n: usize, k: usize) -> Vec<Desc> {
        let blocks = k.div_ceil(panel::BLOCK);
        let columns = |code: &Code| match code {
            Code::Scale => blocks,
            Code::ScaleMin => 2 * blocks,
            _ => k,
        };
        self.codes().iter().map(|code| Desc::new(Format::Panel(*code), [n, columns(code)])).collect()
    }

    /// The scheme of which `inputs`, which may go on with other tensors, are the matrix, with its rows and columns.
    pub fn of(inputs: &[Desc]) -> Option<(Scheme, usize, usize)> {
        let [n, k] = inputs.first()?.shape[..] else { return None };
        let fits = |scheme: &Scheme| inputs.get(..scheme.codes().len()) == Some(&scheme.descs(n, k)[..]);
        Some((Scheme::ALL.into_iter().find(fits)?, n, k))
    }

    /// The weights of `rows`, one after another, as real numbers: what the twins compute with.
    pub fn row(self, tensors: &[&HostTensor], row: usize) -> Vec<f64> {
        let k = tensors[0].desc.last();
        let value = |at: usize, column: usize| match tensors[at].desc.format {
            Format::Panel(code) => {
                f64::from(panel::get(code, &tensors[at].words, tensors[at].desc.last(), (row, column)))
            }
            _ => f64::NAN,
        };
        let number = |c: usize| {
            let q = value(0, c);
            let b = c / panel::BLOCK;
            match self {
                Scheme::F32 | Scheme::F16 | Scheme::Bf16 => q,
                Scheme::Q8_0 => value(1, b) * q,
                Scheme::Q4_0 => value(1, b) * (q - 8.0),
                Scheme::Q4_1 => value(1, 2 * b) * q + value(1, 2 * b + 1),
                Scheme::Q5_0 => value(2, b) * (q + 16.0 * value(1, c) - 16.0),
                Scheme::Q5_1 => value(2, 2 * b) * (q + 16.0 * value(1, c)) + value(2, 2 * b + 1),
            }
        };
        (0..k).map(number).collect()
    }
}
