//! Convolutions of image networks.

crate::kernels! {
    pointwise,
}
