//! The kernels of Lampyris: WGSL compute shaders, and beside each the Rust twin that says what it must compute.
//!
//! A kernel is a pair of files with one name. The shader is a template that the build expands into complete WGSL
//! variants ([`Source`]) and validates; the twin implements [`Kernel`]. Nothing here knows a device, a model or a file.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once"))]

mod activation;
mod case;
pub mod conv;
pub mod elementwise;
pub mod head;
pub mod image;
mod kernel;
pub mod panel;
pub mod parallel;
pub mod roofline;
mod tensor;
pub mod text;
mod wgsl;

pub use activation::Activation;
pub use case::{Case, Difference, Entry, Fill, Noise, Tier, difference};
pub use kernel::{Binding, Call, Caps, Kernel, Launch, Operand, ShapeError, Source, Tolerance, Work, fitting, traffic};
pub use tensor::{Desc, Format, HostTensor, pad4};
pub use wgsl::Wgsl;

/// The variants that the build linked, one slice a kernel.
pub mod linked {
    include!(concat!(env!("OUT_DIR"), "/linked.rs"));
}

/// Lists the kernels of a family: each name is a file pair in the family's folder; a `cfg` before it says where there is one.
macro_rules! kernels {
    ($($(#[$gate:meta])* $name:ident),* $(,)?) => {
        $($(#[$gate])* mod $name; $(#[$gate])* pub use $name::*;)*
        /// The kernels of this family.
        pub(crate) const FAMILY: &[$crate::Entry] = &[$($(#[$gate])* $crate::Entry {
            name: stringify!($name),
            sources: $name::SOURCES,
            cases: $name::cases,
        }),*];
    };
}
pub(crate) use kernels;

/// Every kernel, family by family.
pub fn all() -> Vec<Entry> {
    [conv::FAMILY, elementwise::FAMILY, head::FAMILY, image::FAMILY, roofline::FAMILY, text::FAMILY].concat()
}

/// Whether `source` is a variant that this crate linked, and that its build therefore validated and its tests ran; anybody
/// may make a [`Source`] of their own.
pub fn is_linked(source: &Source) -> bool {
    source.wgsl.is_linked()
}
