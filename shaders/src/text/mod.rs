//! What transformers are made of: fully connected layers over weights of any scheme, attention and its cache, embedding, sampling.

crate::kernels! {
    attention,
    attention_join,
    dense,
    draw,
    embed,
    #[cfg(not(target_arch = "wasm32"))]
    expert_sum,
    #[cfg(not(target_arch = "wasm32"))]
    expert_tiles,
    experts,
    #[cfg(not(target_arch = "wasm32"))]
    grouped_experts,
    norm,
    place_norm,
    quantize,
    rope_store,
    route,
    sample,
    span_attention,
    span_pool,
}

mod draw_settings;
mod scheme;
mod spans;

pub use draw_settings::DrawSettings;
pub use scheme::Scheme;
pub use spans::{
    SPAN_WORDS, push_spans_of_rows, push_spans_of_sequences, spans_desc, spans_of_rows, spans_of_sequences,
};

/// The storage of keys and values, in words.
const CACHES: &str = "f32, f16 or scaled-i8";

/// The option of the `cache` axis for keys and values stored as `format`.
fn cache_choice(format: crate::Format) -> Option<&'static str> {
    match format {
        crate::Format::F32 => Some("f32"),
        crate::Format::F16 => Some("f16"),
        crate::Format::ScaledI8 => Some("q8"),
        _ => None,
    }
}

/// What a session's position tensor holds: the tokens in the cache, and how many a run adds to them.
pub const CURSOR_WORDS: usize = 2;
