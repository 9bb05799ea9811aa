//! What a session is made with: its room, and how its cache is stored.

use lampyris_engine::kernels::{Caps, Format};
use std::time::Duration;

/// How the keys and values of a session are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CacheFormat {
    /// 32-bit floats: exact.
    #[default]
    F32,
    /// 16-bit floats: half the bytes, rounded to 11 bits.
    F16,
    /// Signed bytes with a scale for each head of each token: little more than a quarter of the bytes, within a 254th of the
    /// largest value of the head. For heads of a multiple of eight columns.
    Q8,
}

impl CacheFormat {
    /// The name on the command line and in files.
    pub fn label(self) -> &'static str {
        match self {
            CacheFormat::F32 => "f32",
            CacheFormat::F16 => "f16",
            CacheFormat::Q8 => "q8",
        }
    }

    /// The format of that name.
    pub fn of_label(label: &str) -> Option<CacheFormat> {
        [CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8].into_iter().find(|format| format.label() == label)
    }

    pub(super) fn format(self) -> Format {
        match self {
            CacheFormat::F32 => Format::F32,
            CacheFormat::F16 => Format::F16,
            CacheFormat::Q8 => Format::ScaledI8,
        }
    }
}

/// How tokens are multiplied with the matrices. Sessions that are continued together are multiplied exactly whatever they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Products {
    /// In 32-bit floats.
    #[default]
    Exact,
    /// In whole numbers, where the weights are such: each 32 columns of a token are first rounded to signed bytes, a 127th of the
    /// largest of them apart. Often faster; the project's `docs/numerics.md` says how far results move. A token after the prompt is
    /// multiplied so only where the adapter has instructions for it.
    Packed,
    /// In 16-bit floats, where the weights are quantized and the adapter is faster with them; sums of more than eight products are
    /// in 32 bits. `docs/numerics.md` says how far results move.
    Half,
}

impl Products {
    /// The name in reports.
    pub fn label(self) -> &'static str {
        match self {
            Products::Exact => "exact",
            Products::Packed => "packed",
            Products::Half => "half",
        }
    }

    /// Whether an adapter with `caps` multiplies prompts so when it is asked to, and the tokens after them: what is asked for is exact
    /// elsewhere. In 16-bit floats it does so where that is measured to be faster.
    pub fn on(self, caps: &Caps) -> [bool; 2] {
        match self {
            Products::Exact => [true; 2],
            Products::Packed => [true, caps.packed_dot],
            Products::Half => [caps.f16 && !caps.software; 2],
        }
    }

    /// How far logits may lie from those of exact products on the CPU executor, relative to the largest; `docs/numerics.md` derives it. For
    /// models without a choice among experts: see [`DecoderConfig::tolerance`](super::DecoderConfig::tolerance).
    pub fn tolerance(self) -> f32 {
        match self {
            Products::Exact => 1e-3,
            Products::Packed => 0.05,
            Products::Half => 0.015,
        }
    }
}

/// How to make a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Tokens it has room for; when absent, as many as the model was made for, up to [`SessionOptions::USUAL_CONTEXT`].
    pub context: Option<usize>,
    /// How its keys and values are stored.
    pub cache: CacheFormat,
    /// What becomes of a full context. When absent, an answer ends there, and a prompt that is longer is refused. A number is how many
    /// of the first tokens are kept, at most half of the context, when the session goes on with them and the newer half of the
    /// room that is left; their keys and values are computed anew (after Xiao et al. 2023, whose sinks these are).
    pub slide: Option<usize>,
    /// How long a submit of a prompt may hold the device; a chunk that takes longer is cut between its steps, and long steps are cut
    /// too where their kernels can be. What a submit will take is known only from earlier ones, so submits are filled to a half, the first
    /// of a session less, and one now and then is longer all the same: when a driver compiles, or the device slows down.
    pub submit_budget: Duration,
    /// How tokens are multiplied with the matrices.
    pub products: Products,
    /// Most tokens of a prompt that one run takes: at least [`Decoder::CHUNK`](super::Decoder::CHUNK), at most
    /// [`SessionOptions::LARGEST_CHUNK`] and the context. Larger runs read the weights less often and fill more of a GPU; their plans take
    /// memory, which [`Decoder::needs`](super::Decoder::needs) counts. When absent, 512 on a discrete GPU, 128 on any other, fewer where such runs
    /// would compute more than 40 MiB or the budget has no room for them, and the least on software adapters, on the CPU executor and in
    /// browsers. Keys and values agree within the tolerance of their kernels whatever it is, and bit for bit where it is the same.
    pub chunk: Option<usize>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            context: None,
            cache: CacheFormat::default(),
            slide: None,
            submit_budget: SessionOptions::USUAL_SUBMIT_BUDGET,
            products: Products::default(),
            chunk: None,
        }
    }
}

impl SessionOptions {
    /// How long a submit of a prompt may take unless asked otherwise.
    pub const USUAL_SUBMIT_BUDGET: Duration = Duration::from_millis(50);

    /// Room that a session has unless asked otherwise, in tokens.
    pub const USUAL_CONTEXT: usize = 4096;

    /// Most tokens of a prompt that a run can take.
    pub const LARGEST_CHUNK: usize = 512;

    /// With room for `tokens`.
    pub fn context(mut self, tokens: usize) -> Self {
        self.context = Some(tokens);
        self
    }

    /// Going on when the context is full, with the first `sinks` tokens and the newest.
    pub fn slide(mut self, sinks: usize) -> Self {
        self.slide = Some(sinks);
        self
    }

    /// With submits of a prompt that hold the device for at most `budget`, or one step.
    pub fn submit_budget(mut self, budget: Duration) -> Self {
        self.submit_budget = budget;
        self
    }

    /// With such products.
    pub fn products(mut self, products: Products) -> Self {
        self.products = products;
        self
    }

    /// With runs of up to `tokens` of a prompt.
    pub fn chunk(mut self, tokens: usize) -> Self {
        self.chunk = Some(tokens);
        self
    }

    /// With keys and values stored as `format`.
    pub fn cache(mut self, format: CacheFormat) -> Self {
        self.cache = format;
        self
    }
}

/// Room for that many tokens.
impl From<usize> for SessionOptions {
    fn from(tokens: usize) -> Self {
        SessionOptions::default().context(tokens)
    }
}
