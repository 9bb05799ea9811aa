//! The vectors that do not run, each with its reason. An entry that applies to no vector fails the test, so the list cannot
//! outlive its reasons unnoticed.

use crate::vector::Vector;
use lampyris_engine::weights::Dtype;
use std::collections::BTreeSet;

const ROUNDED: &str =
    "every step was rounded to a 16-bit float, by more than the vector's tolerance; the engine computes in f32";
const QUOTIENT: &str = "a quotient is a real number, and nothing cuts its fraction off";

/// Single vectors.
const NAMES: &[(&str, &str)] = &[
    ("test_batchnorm_epsilon_training_mode", "nothing is trained"),
    ("test_batchnorm_example_training_mode", "nothing is trained"),
    ("test_attention_4d_attn_mask_causal_bf16", ROUNDED),
    ("test_attention_4d_gqa_with_past_and_present_fp16", ROUNDED),
    ("test_attention_4d_padded_kv_bf16", ROUNDED),
    ("test_div_int16", QUOTIENT),
    ("test_div_int32_trunc", QUOTIENT),
    ("test_div_int8", QUOTIENT),
    ("test_edge_pad", "padding is a constant"),
    ("test_reflect_pad", "padding is a constant"),
    ("test_wrap_pad", "padding is a constant"),
    ("test_maxpool_with_argmax_2d_precomputed_pads", "pooling does not say where the largest value was"),
];

const EMPTY: &str = "no tensor is empty";

/// Gives reasons and remembers which were needed.
pub(crate) struct Reasons {
    needed: BTreeSet<&'static str>,
}

impl Reasons {
    pub(crate) fn new() -> Reasons {
        Reasons { needed: BTreeSet::new() }
    }

    /// Why `vector` does not run, if it does not.
    pub(crate) fn of(&mut self, vector: &Vector) -> Option<&'static str> {
        if let Some((key, reason)) = NAMES.iter().find(|(name, _)| *name == vector.name) {
            self.needed.insert(key);
            return Some(reason);
        }
        if vector.tensors().any(|tensor| tensor.shape.contains(&0)) && !omitted_axes(vector) {
            self.needed.insert(EMPTY);
            return Some(EMPTY);
        }
        None
    }

    /// Entries that no vector needed.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &'static str> {
        let listed = NAMES.iter().map(|(key, _)| *key);
        listed.chain([EMPTY]).filter(|key| !self.needed.contains(key))
    }
}

/// An empty list of axes is no empty tensor, it is an omitted list.
fn omitted_axes(vector: &Vector) -> bool {
    let empty = |tensor: &&crate::vector::Tensor| tensor.shape.contains(&0);
    vector.tensors().filter(empty).all(|tensor| tensor.dtype == Dtype::I64 && tensor.shape == [0])
        && vector.op.starts_with("Reduce")
}
