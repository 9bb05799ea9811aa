//! What the metadata of a GGUF file says of an encoder.

use super::{EncoderConfig, Pooled};
use crate::Result;
use crate::decoder::config_gguf::Metadata;
use lampyris_engine::kernels::text::{Pooling, SpanAttention, Unit};
use lampyris_engine::weights::gguf::{Gguf, Value};

impl EncoderConfig {
    /// Reads the metadata of a GGUF file, whose table of positions begins with that of the first token, also where RoBERTa's family has
    /// others before it: converters leave them out. Embeddings are normalized, which such files leave to their reader; so are the units'
    /// function, which is GELU, and the exact one here.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for what is missing or out of range; [`crate::Error::Unsupported`] for an architecture or a setting
    /// this library does not know.
    pub fn of_gguf(gguf: &Gguf) -> Result<(EncoderConfig, Pooled)> {
        let architecture = match gguf.value("general.architecture") {
            Some(Value::String(name)) => name,
            _ => "",
        };
        let of = Metadata { gguf, architecture };
        if architecture != "bert" {
            let instead = "of sentence encoders in GGUF files bert is known";
            return Err(of.unsupported("general.architecture", architecture, instead));
        }
        let pooling = match of.value("pooling_type").map(|value| value.integer()) {
            None | Some(Some(1)) => Pooling::Mean,
            Some(Some(2)) => Pooling::First,
            Some(Some(3)) => Pooling::Last,
            Some(_) => return Err(of.wrong("pooling_type", "1 (mean), 2 (first token) or 3 (last token)")),
        };
        let (hidden, heads) = (of.needed("embedding_length")?, of.needed("attention.head_count")?);
        let head = hidden / heads;
        if hidden % heads != 0 || head % 4 != 0 || head > SpanAttention::MAX_HEAD {
            let expected = "a divisor of embedding_length that leaves heads of a multiple of 4 columns, at most 128";
            return Err(of.wrong("attention.head_count", expected));
        }
        let Some([vocabulary, _]) = of.rows("token_embd.weight") else {
            return Err(of.unsupported("token_embd.weight", "missing or no matrix", "it is the table of embeddings"));
        };
        let config = EncoderConfig {
            model_type: architecture.to_owned(),
            hidden,
            intermediate: of.needed("feed_forward_length")?,
            layers: of.needed("block_count")?,
            heads,
            vocabulary: *vocabulary,
            context: of.size("context_length")?.unwrap_or(512),
            first_position: 0,
            types: of.rows("token_types.weight").map_or(0, rows),
            epsilon: of.number("attention.layer_norm_epsilon")?.unwrap_or(1e-12) as f32,
            unit: Unit::Gelu,
        };
        Ok((config, Pooled { pooling, normalize: true }))
    }
}

/// Rows of a table, of which a file that was written by ggml has one dimension only if it has one row.
fn rows(shape: &[usize]) -> usize {
    match shape {
        [rows, _] => *rows,
        _ => 1,
    }
}
