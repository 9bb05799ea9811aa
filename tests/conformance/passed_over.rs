//! The vectors that do not run, each with its reason. An entry that applies to no vector fails the test, so the list cannot
//! outlive its reasons unnoticed.

use crate::vector::Vector;
use lampyris_engine::weights::Dtype;
use std::collections::BTreeSet;

/// Operators that the engine does not have.
const OPERATORS: &[(&str, &str)] = &[
    ("Attention", "attention reads a session's cache by its position, with no mask and no keys of another layout"),
    ("RotaryEmbedding", "positions are turned on their way into a session's cache, not by themselves"),
    ("GroupNormalization", "there is no norm over groups of channels"),
    ("TensorScatter", "only a session's position says where a cache is written"),
    ("Gather", "rows are looked up by a session's tokens only"),
    ("GatherND", "rows are looked up by a session's tokens only"),
    ("Resize", "only pictures are resampled, as their decoder left them"),
    ("Where", "there are no tensors of truth values"),
    ("QuantizeLinear", "tensors are quantized by the file writer, never at run time"),
    ("DequantizeLinear", "quantized weights are never expanded"),
    ("DynamicQuantizeLinear", "activations are not quantized"),
    ("QLinearConv", "activations are not quantized"),
    ("QLinearMatMul", "activations are not quantized"),
    ("ConvInteger", "activations are not quantized"),
    ("MatMulInteger", "activations are not quantized"),
    ("TopK", "the best classes come with their probabilities, not with the values they were chosen by"),
];

/// Single vectors.
const NAMES: &[(&str, &str)] = &[
    ("test_argmax_default_axis_example_select_last_index", "among equals the first is chosen"),
    ("test_argmax_default_axis_random_select_last_index", "among equals the first is chosen"),
    ("test_argmax_keepdims_example_select_last_index", "among equals the first is chosen"),
    ("test_argmax_keepdims_random_select_last_index", "among equals the first is chosen"),
    ("test_argmax_negative_axis_keepdims_example_select_last_index", "among equals the first is chosen"),
    ("test_argmax_negative_axis_keepdims_random_select_last_index", "among equals the first is chosen"),
    ("test_argmax_no_keepdims_example_select_last_index", "among equals the first is chosen"),
    ("test_batchnorm_epsilon_training_mode", "nothing is trained"),
    ("test_batchnorm_example_training_mode", "nothing is trained"),
    ("test_maxpool_with_argmax_2d_precomputed_pads", "pooling does not say where the largest value was"),
];

/// Why a vector is passed over: its operator, its name, or what its tensors are.
const INTEGERS: &str = "the engine computes with reals: tensors of other types are indices or weights";
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
        let listed = OPERATORS.iter().find(|(op, _)| *op == vector.op);
        let listed = listed.or_else(|| NAMES.iter().find(|(name, _)| *name == vector.name));
        if let Some((key, reason)) = listed {
            self.needed.insert(key);
            return Some(reason);
        }
        if vector.tensors().any(|tensor| tensor.shape.contains(&0)) && !omitted_axes(vector) {
            self.needed.insert(EMPTY);
            return Some(EMPTY);
        }
        // A result of indices is one; what is computed with must be real, except exponents, which convert exactly.
        let computed = vector.outputs().into_iter().chain(vector.optional(0));
        if vector.op != "ArgMax" && computed.into_iter().any(|tensor| tensor.dtype != Dtype::F32) {
            self.needed.insert(INTEGERS);
            return Some(INTEGERS);
        }
        None
    }

    /// Entries that no vector needed.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &'static str> {
        let listed = OPERATORS.iter().chain(NAMES).map(|(key, _)| *key);
        listed.chain([EMPTY, INTEGERS]).filter(|key| !self.needed.contains(key))
    }
}

/// An empty list of axes is no empty tensor, it is an omitted list.
fn omitted_axes(vector: &Vector) -> bool {
    let empty = |tensor: &&crate::vector::Tensor| tensor.shape.contains(&0);
    vector.tensors().filter(empty).all(|tensor| tensor.dtype == Dtype::I64 && tensor.shape == [0])
        && vector.op.starts_with("Reduce")
}
