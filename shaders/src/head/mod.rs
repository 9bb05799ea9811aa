//! What follows the last convolution of an image network, and the gates inside it.

crate::kernels! {
    global_pool,
    linear,
    softmax_top_k,
    squeeze_excite,
}
