//! Architectures as code.
