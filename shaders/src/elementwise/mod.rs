//! Operators on whole tensors, for networks that are more than convolutions: plain, portable, complete.

pub(crate) mod layout;

crate::kernels! {
    binary,
    concat,
    matmul,
    pool2d,
    rearrange,
    reduce,
    reshape,
    softmax,
    unary,
}
