//! What transformers are made of: fully connected layers over weights of any scheme, attention and its cache, embedding, sampling.

crate::kernels! {
    attention,
    dense,
    embed,
    norm,
    place_norm,
    rope_store,
    sample,
    span_attention,
    span_pool,
}

mod scheme;
mod spans;

pub use scheme::Scheme;
pub use spans::{SPAN_WORDS, spans_desc, spans_of_rows, spans_of_sequences};

/// What a session's position tensor holds: the tokens in the cache, and how many a run adds to them.
pub const CURSOR_WORDS: usize = 2;
