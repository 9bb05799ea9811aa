//! What transformers are made of: fully connected layers over weights of any scheme, attention and its cache, embedding, sampling.

crate::kernels! {
    attention,
    dense,
    draw,
    embed,
    norm,
    rope_store,
    sample,
}

mod draw_settings;
mod scheme;

pub use draw_settings::DrawSettings;
pub use scheme::Scheme;

/// What a session's position tensor holds: the tokens in the cache, and how many a run adds to them.
pub const CURSOR_WORDS: usize = 2;
