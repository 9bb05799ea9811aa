//! What the files call a decoder's tensors: Hugging Face's names and GGUF's.

use lampyris_engine::weights::TensorFile;

/// A tensor of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Weights of queries.
    Queries,
    /// Weights of keys.
    Keys,
    /// Weights of values.
    Values,
    /// Weights of queries, keys and values in one.
    FusedAttention,
    /// Weights of the attention's projection.
    Output,
    /// Weights of gates.
    Gate,
    /// Weights of the units they gate.
    Up,
    /// Weights of gates and units in one.
    FusedUnits,
    /// Weights of the units' projection.
    Down,
    /// Weights of what chooses among experts.
    Router,
    /// Gains of the query heads' norm.
    QueryNorm,
    /// Gains of the key heads' norm.
    KeyNorm,
    /// Gains of the norm before the attention.
    AttentionNorm,
    /// Gains of the norm after the attention, before it is added.
    AfterAttention,
    /// Gains of the norm before the gated units.
    UnitsNorm,
    /// Gains of the norm after the units' projection, before it is added.
    AfterUnits,
}

/// Whose names a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// Hugging Face's; with norms after the blocks the norm before the units has another name.
    HuggingFace {
        /// Whether blocks are followed by norms.
        post_norm: bool,
        /// Before every name but the head's, which has its own: `model.`, or the way to the decoder where it is a part of a larger model.
        prefix: &'static str,
    },
    /// llama.cpp's.
    Gguf,
}

/// The way to a decoder's tensors beside an encoder of pictures, as transformers saved them before its version 4.52. Its head lies beside it.
const BEFORE: &str = "language_model.model.";

/// The ways to a decoder's tensors, the usual one first: alone, and beside an encoder of pictures as transformers saves it now and as it did before.
const PREFIXES: [&str; 3] = ["model.", "model.language_model.", BEFORE];

impl Naming {
    /// The naming that a file has, by the table that every file has; the plain one where that is absent.
    pub(super) fn of_file(file: &TensorFile, post_norm: bool) -> Naming {
        if matches!(file, TensorFile::Gguf(_)) {
            return Naming::Gguf;
        }
        let naming = |prefix: &'static str| Naming::HuggingFace { post_norm, prefix };
        let has = |naming: &Naming| file.get(&naming.embedding()).is_some();
        PREFIXES.into_iter().map(naming).find(has).unwrap_or(naming(PREFIXES[0]))
    }

    /// The table of embeddings.
    pub(super) fn embedding(self) -> String {
        match self {
            Naming::HuggingFace { prefix, .. } => format!("{prefix}embed_tokens.weight"),
            Naming::Gguf => "token_embd.weight".to_owned(),
        }
    }

    /// The matrix of the logits, where it is not the table.
    pub(super) fn head(self) -> &'static str {
        match self {
            Naming::HuggingFace { prefix: BEFORE, .. } => "language_model.lm_head.weight",
            Naming::HuggingFace { .. } => "lm_head.weight",
            Naming::Gguf => "output.weight",
        }
    }

    /// Gains of the norm before the head.
    pub(super) fn last_norm(self) -> String {
        match self {
            Naming::HuggingFace { prefix, .. } => format!("{prefix}norm.weight"),
            Naming::Gguf => "output_norm.weight".to_owned(),
        }
    }

    /// What the names of all layers' tensors begin with.
    pub(super) fn layers(self) -> String {
        match self {
            Naming::HuggingFace { prefix, .. } => format!("{prefix}layers."),
            Naming::Gguf => "blk.".to_owned(),
        }
    }

    /// The tensor with the gates, units or projection of an expert, and how many experts' rows precede its own there: Hugging Face
    /// has a tensor for each expert, GGUF one `[experts, rows, columns]` for all of a layer.
    pub(super) fn of_expert(self, layer: usize, part: Part, expert: usize) -> (String, usize) {
        let name = self.of(layer, part);
        match self {
            Naming::HuggingFace { .. } => (name.replace(".mlp.", &format!(".mlp.experts.{expert}.")), 0),
            Naming::Gguf => (name.replace(".weight", "_exps.weight"), expert),
        }
    }

    /// A tensor of a layer.
    pub(super) fn of(self, layer: usize, part: Part) -> String {
        match self {
            Naming::HuggingFace { post_norm, prefix } => {
                let name = match part {
                    Part::Queries => "self_attn.q_proj",
                    Part::Keys => "self_attn.k_proj",
                    Part::Values => "self_attn.v_proj",
                    Part::FusedAttention => "self_attn.qkv_proj",
                    Part::Output => "self_attn.o_proj",
                    Part::Gate => "mlp.gate_proj",
                    Part::Up => "mlp.up_proj",
                    Part::FusedUnits => "mlp.gate_up_proj",
                    Part::Down => "mlp.down_proj",
                    Part::Router => "mlp.gate",
                    Part::QueryNorm => "self_attn.q_norm",
                    Part::KeyNorm => "self_attn.k_norm",
                    Part::AttentionNorm => "input_layernorm",
                    Part::UnitsNorm if post_norm => "pre_feedforward_layernorm",
                    Part::AfterAttention | Part::UnitsNorm => "post_attention_layernorm",
                    Part::AfterUnits => "post_feedforward_layernorm",
                };
                format!("{prefix}layers.{layer}.{name}.weight")
            }
            Naming::Gguf => {
                let name = match part {
                    Part::Queries => "attn_q",
                    Part::Keys => "attn_k",
                    Part::Values => "attn_v",
                    Part::FusedAttention => "attn_qkv",
                    Part::Output => "attn_output",
                    Part::Gate => "ffn_gate",
                    Part::Up | Part::FusedUnits => "ffn_up",
                    Part::Down => "ffn_down",
                    Part::Router => "ffn_gate_inp",
                    Part::QueryNorm => "attn_q_norm",
                    Part::KeyNorm => "attn_k_norm",
                    Part::AttentionNorm => "attn_norm",
                    Part::AfterAttention => "post_attention_norm",
                    Part::UnitsNorm => "ffn_norm",
                    Part::AfterUnits => "post_ffw_norm",
                };
                format!("blk.{layer}.{name}.weight")
            }
        }
    }
}

/// The bias beside a weight.
pub(super) fn bias_of(weight: &str) -> String {
    weight.strip_suffix("weight").unwrap_or(weight).to_owned() + "bias"
}
