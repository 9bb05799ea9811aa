//! The types of GGUF tensors as data: name, number, and the size of a block.

use std::fmt;

use super::super::Dtype;

/// What the elements of a GGUF tensor are stored as.
///
/// The names are ggml's without underscores before letters: `Q4K` is `Q4_K`. Plain numbers are blocks of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant is a name; `BlockFormat::name` and the sizes say the rest")]
pub enum BlockFormat {
    F32,
    F16,
    BF16,
    F64,
    I8,
    I16,
    I32,
    I64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
    IQ1S,
    IQ1M,
    IQ2XXS,
    IQ2XS,
    IQ2S,
    IQ3XXS,
    IQ3S,
    IQ4NL,
    IQ4XS,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
    Q1_0,
}

impl BlockFormat {
    /// Every format, each once.
    pub const ALL: [Self; 34] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::F64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q8_1,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Q8K,
        Self::IQ1S,
        Self::IQ1M,
        Self::IQ2XXS,
        Self::IQ2XS,
        Self::IQ2S,
        Self::IQ3XXS,
        Self::IQ3S,
        Self::IQ4NL,
        Self::IQ4XS,
        Self::TQ1_0,
        Self::TQ2_0,
        Self::MXFP4,
        Self::NVFP4,
        Self::Q1_0,
    ];

    /// The formats that [`dequantize`](Self::dequantize) knows.
    pub const DECODED: [Self; 16] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::IQ4NL,
        Self::IQ4XS,
        Self::MXFP4,
    ];

    /// The formats that [`quantize`](Self::quantize) knows.
    pub const ENCODED: [Self; 16] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::IQ4NL,
        Self::IQ4XS,
        Self::MXFP4,
    ];

    /// Name, number in a GGUF file, elements of a block, bytes of a block.
    const fn facts(self) -> (&'static str, u32, usize, usize) {
        match self {
            Self::F32 => ("F32", 0, 1, 4),
            Self::F16 => ("F16", 1, 1, 2),
            Self::Q4_0 => ("Q4_0", 2, 32, 18),
            Self::Q4_1 => ("Q4_1", 3, 32, 20),
            Self::Q5_0 => ("Q5_0", 6, 32, 22),
            Self::Q5_1 => ("Q5_1", 7, 32, 24),
            Self::Q8_0 => ("Q8_0", 8, 32, 34),
            Self::Q8_1 => ("Q8_1", 9, 32, 36),
            Self::Q2K => ("Q2_K", 10, 256, 84),
            Self::Q3K => ("Q3_K", 11, 256, 110),
            Self::Q4K => ("Q4_K", 12, 256, 144),
            Self::Q5K => ("Q5_K", 13, 256, 176),
            Self::Q6K => ("Q6_K", 14, 256, 210),
            Self::Q8K => ("Q8_K", 15, 256, 292),
            Self::IQ2XXS => ("IQ2_XXS", 16, 256, 66),
            Self::IQ2XS => ("IQ2_XS", 17, 256, 74),
            Self::IQ3XXS => ("IQ3_XXS", 18, 256, 98),
            Self::IQ1S => ("IQ1_S", 19, 256, 50),
            Self::IQ4NL => ("IQ4_NL", 20, 32, 18),
            Self::IQ3S => ("IQ3_S", 21, 256, 110),
            Self::IQ2S => ("IQ2_S", 22, 256, 82),
            Self::IQ4XS => ("IQ4_XS", 23, 256, 136),
            Self::I8 => ("I8", 24, 1, 1),
            Self::I16 => ("I16", 25, 1, 2),
            Self::I32 => ("I32", 26, 1, 4),
            Self::I64 => ("I64", 27, 1, 8),
            Self::F64 => ("F64", 28, 1, 8),
            Self::IQ1M => ("IQ1_M", 29, 256, 56),
            Self::BF16 => ("BF16", 30, 1, 2),
            Self::TQ1_0 => ("TQ1_0", 34, 256, 54),
            Self::TQ2_0 => ("TQ2_0", 35, 256, 66),
            Self::MXFP4 => ("MXFP4", 39, 32, 17),
            Self::NVFP4 => ("NVFP4", 40, 64, 36),
            Self::Q1_0 => ("Q1_0", 41, 128, 18),
        }
    }

    /// ggml's name, such as `Q4_K`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    /// The number that stands for it in a GGUF file.
    #[must_use]
    pub const fn ggml_type(self) -> u32 {
        self.facts().1
    }

    /// Elements of one block; a row is a multiple of it. 1 for plain numbers.
    #[must_use]
    pub const fn block_elements(self) -> usize {
        self.facts().2
    }

    /// Bytes of one block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        self.facts().3
    }

    /// The format with ggml's name `name`; case matters.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format with ggml's number `number`.
    #[must_use]
    pub fn from_ggml_type(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.ggml_type() == number)
    }

    /// Whether `elements` are whole blocks.
    #[must_use]
    pub const fn divides(self, elements: usize) -> bool {
        elements.is_multiple_of(self.block_elements())
    }

    /// Bytes of `elements` in a row; `None` if they are no whole blocks or too many to count.
    #[must_use]
    pub fn row_bytes(self, elements: usize) -> Option<usize> {
        let blocks = self.divides(elements).then_some(elements / self.block_elements());
        blocks?.checked_mul(self.block_bytes())
    }

    /// The type of a plain number; `None` for a format with blocks of several elements.
    #[must_use]
    pub const fn dtype(self) -> Option<Dtype> {
        match self {
            Self::F32 => Some(Dtype::F32),
            Self::F16 => Some(Dtype::F16),
            Self::BF16 => Some(Dtype::BF16),
            Self::F64 => Some(Dtype::F64),
            Self::I8 => Some(Dtype::I8),
            Self::I16 => Some(Dtype::I16),
            Self::I32 => Some(Dtype::I32),
            Self::I64 => Some(Dtype::I64),
            _ => None,
        }
    }

    /// The names of `formats` as one text.
    pub(in super::super) fn list(formats: &[Self]) -> String {
        let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
        names.join(", ")
    }
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
