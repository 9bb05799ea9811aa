//! What `config.json` says of an encoder: sizes, heads, norms and positions, each read with the file's and the key's name at hand.

use crate::json::{self, Object};
use crate::{Error, Result};
use lampyris_engine::kernels::text::{SpanAttention, Unit};

/// An encoder of the BERT family, complete.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EncoderConfig {
    /// The file's `model_type`.
    pub model_type: String,
    /// Columns of the residual stream, and of an embedding.
    pub hidden: usize,
    /// Units of a layer.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of attention; they divide the columns.
    pub heads: usize,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Tokens that a sequence may have.
    pub context: usize,
    /// The row of the position table that belongs to the first token.
    pub first_position: usize,
    /// Rows of the table of token types, of which the first is used; no table when 0.
    pub types: usize,
    /// Added to the variance in norms.
    pub epsilon: f32,
    /// What units compute.
    pub unit: Unit,
}

/// The most any size may be: far above every model, far below what overflows.
const MOST: u64 = 1 << 24;

const SIZE: &str = "a whole number from 1 to 16777216";

fn sane(value: u64) -> bool {
    (1..=MOST).contains(&value)
}

impl EncoderConfig {
    /// The values of `model_type` that are known.
    pub const KNOWN: [&str; 4] = ["bert", "roberta", "xlm-roberta", "camembert"];

    /// Reads `config.json`, whose name in errors is `file`.
    ///
    /// # Errors
    /// [`Error::Json`] or [`Error::Config`] for what cannot be read; [`Error::Unsupported`] for a model or a setting this library
    /// does not know.
    pub fn read(file: &str, bytes: &[u8]) -> Result<EncoderConfig> {
        let map = json::parse(file, bytes)?;
        let top = Object::top(file, &map);
        let model_type = top.text("model_type")?.unwrap_or("bert").to_owned();
        if !Self::KNOWN.contains(&model_type.as_str()) {
            let instead = "sentence encoders are known as bert, roberta, xlm-roberta and camembert";
            return Err(top.unsupported("model_type", &model_type.into(), instead));
        }
        match top.text("position_embedding_type")? {
            None | Some("absolute") => {}
            Some(other) => {
                return Err(top.unsupported(
                    "position_embedding_type",
                    &other.into(),
                    "only absolute positions are known",
                ));
            }
        }
        for key in ["is_decoder", "add_cross_attention"] {
            if top.flag(key)? == Some(true) {
                return Err(top.unsupported(key, &true.into(), "an encoder sees whole texts and no others"));
            }
        }
        let needed = |key: &str| -> Result<usize> {
            let value = top.count(key, sane, SIZE)?;
            value.map(|v| v as usize).ok_or_else(|| top.wrong(key, &serde_json::Value::Null, SIZE))
        };
        let (hidden, heads) = (needed("hidden_size")?, needed("num_attention_heads")?);
        let head = hidden / heads;
        if hidden % heads != 0 || head % 4 != 0 || head > SpanAttention::MAX_HEAD {
            let expected = "a divisor of hidden_size that leaves heads of a multiple of 4 columns, at most 128";
            return Err(top.wrong("num_attention_heads", &heads.into(), expected));
        }
        let unit = match top.text("hidden_act")?.unwrap_or("gelu") {
            "gelu" | "gelu_python" => Unit::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Unit::GeluTanh,
            "relu" => Unit::Relu,
            "silu" | "swish" => Unit::Silu,
            other => {
                let instead = "known are gelu, gelu_new, gelu_pytorch_tanh, relu and silu";
                return Err(top.unsupported("hidden_act", &other.into(), instead));
            }
        };
        // The positions of RoBERTa's family begin behind that of padding.
        let first_position = match model_type.as_str() {
            "bert" => 0,
            _ => top.count("pad_token_id", |v| v < MOST, "a token")?.unwrap_or(1) as usize + 1,
        };
        let positions = top.count("max_position_embeddings", sane, SIZE)?.unwrap_or(512) as usize;
        if positions <= first_position {
            let expected = "more positions than pad_token_id leaves out";
            return Err(top.wrong("max_position_embeddings", &positions.into(), expected));
        }
        let epsilon = top.number("layer_norm_eps", |v| v > 0.0 && v < 1.0, "a number above 0 and below 1")?;
        Ok(EncoderConfig {
            hidden,
            intermediate: needed("intermediate_size")?,
            layers: needed("num_hidden_layers")?,
            heads,
            vocabulary: needed("vocab_size")?,
            context: positions - first_position,
            first_position,
            types: top.count("type_vocab_size", |v| v <= MOST, "a whole number up to 16777216")?.unwrap_or(2) as usize,
            epsilon: epsilon.unwrap_or(1e-12) as f32,
            unit,
            model_type,
        })
    }

    /// Columns of a head.
    pub fn head(&self) -> usize {
        self.hidden / self.heads
    }

    /// Refuses a sequence that the network cannot read.
    ///
    /// # Errors
    /// [`Error::Context`] when it is too long; [`Error::Token`] for a token that is not in the table.
    pub(super) fn check(&self, sequence: &[u32]) -> Result<()> {
        if sequence.len() > self.context {
            return Err(Error::Context { tokens: sequence.len(), context: self.context });
        }
        match sequence.iter().copied().find(|token| *token as usize >= self.vocabulary) {
            Some(token) => Err(Error::Token { token, vocabulary: self.vocabulary }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"model_type": "bert", "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 512"#;

    fn read(more: &str) -> Result<EncoderConfig> {
        EncoderConfig::read("config.json", format!("{SMALL}{more}}}").as_bytes())
    }

    #[test]
    fn what_is_not_said_has_the_published_defaults() {
        let config = read("").unwrap();
        assert_eq!((config.head(), config.context, config.first_position, config.types), (12, 512, 0, 2));
        assert_eq!((config.unit, config.epsilon), (Unit::Gelu, 1e-12));
        for (name, unit) in [("gelu_python", Unit::Gelu), ("gelu_fast", Unit::GeluTanh), ("swish", Unit::Silu)] {
            assert_eq!(read(&format!(r#", "hidden_act": "{name}""#)).unwrap().unit, unit);
        }
        let other = SMALL.replace("bert", "xlm-roberta") + r#", "max_position_embeddings": 514, "type_vocab_size": 1}"#;
        let config = EncoderConfig::read("config.json", other.as_bytes()).unwrap();
        assert_eq!((config.context, config.first_position, config.types), (512, 2, 1));
    }

    #[test]
    fn what_is_wrong_or_unknown_is_named() {
        for (more, named) in [
            (r#", "position_embedding_type": "relative_key""#, "position_embedding_type"),
            (r#", "is_decoder": true"#, "is_decoder"),
            (r#", "hidden_act": "mish""#, "hidden_act"),
            (r#", "layer_norm_eps": 0"#, "layer_norm_eps"),
            (r#", "max_position_embeddings": 0"#, "max_position_embeddings"),
            (r#", "type_vocab_size": -1"#, "type_vocab_size"),
        ] {
            let error = read(more).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("config.json"), "{error}");
        }
        for (from, to, named) in [
            ("\"bert\"", "\"mpnet\"", "mpnet"),
            ("_heads\": 4", "_heads\": 5", "num_attention_heads"),
            ("_heads\": 4", "_heads\": 24", "num_attention_heads"),
            ("_size\": 48", "_size\": 1048576", "num_attention_heads"),
            ("\"vocab_size\"", "\"vocabulary\"", "vocab_size"),
            ("_layers\": 2", "_layers\": 99999999999", "num_hidden_layers"),
        ] {
            let text = SMALL.replace(from, to) + "}";
            let error = EncoderConfig::read("config.json", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(named), "{named} is not in: {error}");
        }
    }

    #[test]
    fn a_sequence_must_fit() {
        let config = read(r#", "max_position_embeddings": 3"#).unwrap();
        config.check(&[0, 511, 7]).unwrap();
        assert!(matches!(config.check(&[0; 4]), Err(Error::Context { tokens: 4, context: 3 })));
        assert!(matches!(config.check(&[1, 512]), Err(Error::Token { token: 512, vocabulary: 512 })));
    }
}
