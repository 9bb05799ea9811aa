//! What the files call an encoder's tensors.

use lampyris_engine::weights::TensorFile;

/// A matrix or a norm of the network: a weight and a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The norm of the embeddings.
    FirstNorm,
    /// Queries of a layer.
    Queries(usize),
    /// Keys of a layer.
    Keys(usize),
    /// Values of a layer.
    Values(usize),
    /// The projection of a layer's attention.
    Output(usize),
    /// The norm after a layer's attention.
    AttentionNorm(usize),
    /// Units of a layer.
    Units(usize),
    /// The projection of a layer's units.
    Down(usize),
    /// The norm after a layer's units.
    UnitsNorm(usize),
}

impl Part {
    fn is_norm(self) -> bool {
        matches!(self, Part::FirstNorm | Part::AttentionNorm(_) | Part::UnitsNorm(_))
    }
}

/// A table of embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// Of tokens.
    Words,
    /// Of positions.
    Places,
    /// Of token types.
    Types,
}

/// Whose names a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// Hugging Face's.
    HuggingFace {
        /// Before every name: nothing, or the network's name where it is a part of a larger one.
        prefix: &'static str,
        /// Norms have a `gamma` and a `beta`, as in the first releases.
        greek: bool,
    },
    /// llama.cpp's.
    Gguf,
}

impl Naming {
    /// The naming that a file has, by the tensors that every file has; the plain one when they are absent.
    pub(super) fn of(file: &TensorFile) -> Naming {
        if matches!(file, TensorFile::Gguf(_)) {
            return Naming::Gguf;
        }
        let has = |prefix: &str| file.get(&format!("{prefix}embeddings.word_embeddings.weight")).is_some();
        let prefix = ["", "bert.", "roberta."].into_iter().find(|prefix| has(prefix)).unwrap_or_default();
        let greek = file.get(&format!("{prefix}embeddings.LayerNorm.gamma")).is_some();
        Naming::HuggingFace { prefix, greek }
    }

    /// A table of embeddings.
    pub(super) fn table(self, table: Table) -> String {
        let [name, gguf] = match table {
            Table::Words => ["word_embeddings", "token_embd"],
            Table::Places => ["position_embeddings", "position_embd"],
            Table::Types => ["token_type_embeddings", "token_types"],
        };
        match self {
            Naming::HuggingFace { prefix, .. } => format!("{prefix}embeddings.{name}.weight"),
            Naming::Gguf => format!("{gguf}.weight"),
        }
    }

    /// The weight and the bias of a part.
    pub(super) fn of_part(self, part: Part) -> [String; 2] {
        let (layer, name, gguf) = match part {
            Part::FirstNorm => (None, "embeddings.LayerNorm", "token_embd_norm"),
            Part::Queries(layer) => (Some(layer), "attention.self.query", "attn_q"),
            Part::Keys(layer) => (Some(layer), "attention.self.key", "attn_k"),
            Part::Values(layer) => (Some(layer), "attention.self.value", "attn_v"),
            Part::Output(layer) => (Some(layer), "attention.output.dense", "attn_output"),
            Part::AttentionNorm(layer) => (Some(layer), "attention.output.LayerNorm", "attn_output_norm"),
            Part::Units(layer) => (Some(layer), "intermediate.dense", "ffn_up"),
            Part::Down(layer) => (Some(layer), "output.dense", "ffn_down"),
            Part::UnitsNorm(layer) => (Some(layer), "output.LayerNorm", "layer_output_norm"),
        };
        let below = |folder: &str| layer.map(|layer| format!("{folder}.{layer}.")).unwrap_or_default();
        let plain = ["weight", "bias"];
        match self {
            Naming::HuggingFace { prefix, greek } => {
                let ends = if greek && part.is_norm() { ["gamma", "beta"] } else { plain };
                ends.map(|end| format!("{prefix}{}{name}.{end}", below("encoder.layer")))
            }
            Naming::Gguf => plain.map(|end| format!("{}{gguf}.{end}", below("blk"))),
        }
    }
}
