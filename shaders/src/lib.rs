//! The kernels and their twins.
