//! The schemes of weights: which tensors stand for one matrix, and what number each weight is.

use crate::panel::{self, Code, Layout};
use crate::{Desc, Format, HostTensor};

/// How a matrix of weights `[n, k]` is stored: as floats, or as codes with a scale for each block of 32 columns, which schemes of
/// super-blocks keep as whole numbers under a 16-bit float for 256 columns.
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
    /// `d * s * q - m * t`, `q` of 2 bits, `s` and `t` of 4 bits for 16 columns each.
    Q2K,
    /// `d * (s - 32) * (q - 4)`, `q` of 3 bits, `s` of 6 bits for 16 columns each.
    Q3K,
    /// `d * s * q - m * t`, `q` of 4 bits, `s` and `t` of 6 bits for a block each.
    Q4K,
    /// `d * s * q - m * t`, `q` of 5 bits, `s` and `t` of 6 bits for a block each.
    Q5K,
    /// `d * s * (q - 32)`, `q` of 6 bits, `s` a signed byte for 16 columns each.
    Q6K,
    /// `d * level(q)`, one of 16 uneven levels.
    Iq4Nl,
    /// `d * (s - 32) * level(q)`, one of 16 uneven levels, `s` of 6 bits for a block each.
    Iq4Xs,
    /// `2^(e - 128) * level(q)`, twice the numbers of the 4-bit floats of the OCP microscaling formats (2023).
    Mxfp4,
}

/// The levels of IQ4_NL and IQ4_XS.
const LEVELS: [f64; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

/// Twice the numbers of a float of a sign, two bits of exponent and one digit (E2M1).
const FLOATS: [f64; 16] = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, -0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

impl Scheme {
    /// Every scheme.
    pub const ALL: [Scheme; 16] = [
        Scheme::F32,
        Scheme::F16,
        Scheme::Bf16,
        Scheme::Q8_0,
        Scheme::Q4_0,
        Scheme::Q4_1,
        Scheme::Q5_0,
        Scheme::Q5_1,
        Scheme::Q2K,
        Scheme::Q3K,
        Scheme::Q4K,
        Scheme::Q5K,
        Scheme::Q6K,
        Scheme::Iq4Nl,
        Scheme::Iq4Xs,
        Scheme::Mxfp4,
    ];

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
            Scheme::Q2K => "q2_k",
            Scheme::Q3K => "q3_k",
            Scheme::Q4K => "q4_k",
            Scheme::Q5K => "q5_k",
            Scheme::Q6K => "q6_k",
            Scheme::Iq4Nl => "iq4_nl",
            Scheme::Iq4Xs => "iq4_xs",
            Scheme::Mxfp4 => "mxfp4",
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
            Scheme::Q2K => &[Code::U2, Code::Scales16x8],
            Scheme::Q3K => &[Code::U2, Code::U1, Code::Scales16x6],
            Scheme::Q4K => &[Code::U4, Code::Scales16x6],
            Scheme::Q5K => &[Code::U4, Code::U1, Code::Scales16x6],
            Scheme::Q6K => &[Code::U4, Code::U2, Code::Scales16x8],
            Scheme::Iq4Nl => &[Code::Level4, Code::Scale],
            Scheme::Iq4Xs => &[Code::Level4, Code::Scales8x6],
            Scheme::Mxfp4 => &[Code::U4, Code::Exponent],
        }
    }

    /// Whether blocks share something of a super-block of 256 columns.
    pub fn is_wide(self) -> bool {
        self.codes().iter().any(|code| matches!(code, Code::Scales16x6 | Code::Scales16x8 | Code::Scales8x6))
    }

    /// Whether weights are whole numbers of at most eight bits times a scale, which can be multiplied with inputs in bytes
    /// ([`Format::BlockI8`]).
    pub fn is_bytes(self) -> bool {
        !matches!(self, Scheme::F32 | Scheme::F16 | Scheme::Bf16)
    }

    /// The tensors of a matrix of `n` rows by `k` columns.
    pub fn descs(self, n: usize, k: usize) -> Vec<Desc> {
        self.codes().iter().map(|code| Desc::new(Format::Panel(*code), [n, code.columns(k)])).collect()
    }

    /// The scheme of which `inputs`, which may go on with other tensors, are the matrix, with its rows and columns.
    pub fn of(inputs: &[Desc]) -> Option<(Scheme, usize, usize)> {
        let [n, k] = inputs.first()?.shape[..] else { return None };
        let fits = |scheme: &Scheme| inputs.get(..scheme.codes().len()) == Some(&scheme.descs(n, k)[..]);
        Some((Scheme::ALL.into_iter().find(fits)?, n, k))
    }

    /// The rows of the matrix that `tensors`, which [`codes`](Self::codes) names, stand for.
    pub fn rows<'a>(self, tensors: &[&'a HostTensor]) -> Rows<'a> {
        let layout = |(code, tensor): (&Code, &&'a HostTensor)| (Layout::new(*code, tensor.desc.last()), *tensor);
        Rows { scheme: self, tensors: self.codes().iter().zip(tensors).map(layout).collect() }
    }
}

/// A matrix of weights, whose rows are read as real numbers: what the twins compute with.
#[derive(Debug)]
pub struct Rows<'a> {
    scheme: Scheme,
    tensors: Vec<(Layout, &'a HostTensor)>,
}

impl Rows<'_> {
    /// The weights of a row, one after another.
    pub fn row(&self, row: usize) -> Vec<f64> {
        let held: Vec<Vec<f32>> = self.tensors.iter().map(|(layout, tensor)| layout.row(&tensor.words, row)).collect();
        let (scheme, k) = (self.scheme, held[0].len());
        let value = |at: usize, column: usize| value(&held, at, column);
        // Number `i` of `count` of six bits each, the first at column `first`.
        let six = |at: usize, first: usize, count: usize, i: usize| {
            value(at, first + i) + 16.0 * value(at, first + count + i)
        };
        let number = |c: usize| {
            let q = value(0, c);
            let (b, wide, part, half) =
                (c / panel::BLOCK, c / panel::SUPER, c % panel::SUPER / 32, c % panel::SUPER / 16);
            match scheme {
                Scheme::F32 | Scheme::F16 | Scheme::Bf16 => q,
                Scheme::Q8_0 => value(1, b) * q,
                Scheme::Q4_0 => value(1, b) * (q - 8.0),
                Scheme::Q4_1 => value(1, 2 * b) * q + value(1, 2 * b + 1),
                Scheme::Q5_0 => value(2, b) * (q + 16.0 * value(1, c) - 16.0),
                Scheme::Q5_1 => value(2, 2 * b) * (q + 16.0 * value(1, c)) + value(2, 2 * b + 1),
                Scheme::Q2K => {
                    let both = value(1, 18 * wide + 2 + half);
                    value(1, 18 * wide) * (both % 16.0) * q - value(1, 18 * wide + 1) * (both / 16.0).floor()
                }
                Scheme::Q3K => {
                    let scale = six(2, 34 * wide + 2, 16, half) - 32.0;
                    value(2, 34 * wide) * scale * (q + 4.0 * value(1, c) - 4.0)
                }
                Scheme::Q4K | Scheme::Q5K => {
                    let (at, q) = if scheme == Scheme::Q4K { (1, q) } else { (2, q + 16.0 * value(1, c)) };
                    let [scale, minimum] =
                        [0, 1].map(|i| value(at, 34 * wide + i) * six(at, 34 * wide + 2, 16, 2 * part + i));
                    scale * q - minimum
                }
                Scheme::Q6K => {
                    let scale = f64::from(value(2, 18 * wide + 2 + half) as u8 as i8);
                    value(2, 18 * wide) * scale * (q + 16.0 * value(1, c) - 32.0)
                }
                Scheme::Iq4Nl => value(1, b) * LEVELS[q as usize],
                Scheme::Iq4Xs => value(1, 17 * wide) * (six(1, 17 * wide + 1, 8, part) - 32.0) * LEVELS[q as usize],
                Scheme::Mxfp4 => (value(1, b) - 128.0).exp2() * FLOATS[q as usize],
            }
        };
        (0..k).map(number).collect()
    }
}

/// The value in a column of one of a row's tensors. A call of its own, as its many uses would each have the body in a browser's module.
#[inline(never)]
fn value(held: &[Vec<f32>], at: usize, column: usize) -> f64 {
    f64::from(held[at][column])
}
