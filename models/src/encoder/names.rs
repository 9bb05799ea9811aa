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

/// How a file of Hugging Face's names its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Naming {
    /// Before every name: nothing, or the network's name where it is a part of a larger one.
    prefix: &'static str,
    /// Norms have a `gamma` and a `beta`, as in the first releases.
    greek: bool,
}

impl Naming {
    /// The naming that a file has, by the tensors that every file has; the plain one when they are absent.
    pub(super) fn of(file: &TensorFile) -> Naming {
        let has = |prefix: &str| file.get(&format!("{prefix}embeddings.word_embeddings.weight")).is_some();
        let prefix = ["", "bert.", "roberta."].into_iter().find(|prefix| has(prefix)).unwrap_or_default();
        let greek = file.get(&format!("{prefix}embeddings.LayerNorm.gamma")).is_some();
        Naming { prefix, greek }
    }

    /// A table of embeddings.
    pub(super) fn table(&self, table: Table) -> String {
        let name = match table {
            Table::Words => "word_embeddings",
            Table::Places => "position_embeddings",
            Table::Types => "token_type_embeddings",
        };
        format!("{}embeddings.{name}.weight", self.prefix)
    }

    /// The weight and the bias of a part.
    pub(super) fn of_part(&self, part: Part) -> [String; 2] {
        let (layer, name) = match part {
            Part::FirstNorm => (None, "embeddings.LayerNorm"),
            Part::Queries(layer) => (Some(layer), "attention.self.query"),
            Part::Keys(layer) => (Some(layer), "attention.self.key"),
            Part::Values(layer) => (Some(layer), "attention.self.value"),
            Part::Output(layer) => (Some(layer), "attention.output.dense"),
            Part::AttentionNorm(layer) => (Some(layer), "attention.output.LayerNorm"),
            Part::Units(layer) => (Some(layer), "intermediate.dense"),
            Part::Down(layer) => (Some(layer), "output.dense"),
            Part::UnitsNorm(layer) => (Some(layer), "output.LayerNorm"),
        };
        let layer = layer.map(|layer| format!("encoder.layer.{layer}.")).unwrap_or_default();
        let ends = if self.greek && part.is_norm() { ["gamma", "beta"] } else { ["weight", "bias"] };
        ends.map(|end| format!("{}{layer}{name}.{end}", self.prefix))
    }
}
