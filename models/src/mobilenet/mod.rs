//! MobileNets: everything about one that can be known before a weight is read.
//!
//! [`recognize`] turns tensor names and shapes into a [`NetworkSpec`]; [`ModelConfig`] reads what the json files beside the
//! weights say, and [`Settings`] settles what they leave open; [`fold`] holds the pure arithmetic on the weights.

pub mod config;
pub mod fold;
pub mod network;
#[cfg(not(target_arch = "wasm32"))]
pub mod quantize;
mod reader;
mod recognize;
pub mod spec;
mod tables;
mod tensors;

#[cfg(test)]
mod tests;

pub use config::{ModelConfig, Settings};
pub use fold::Padding;
pub use network::{Network, Pixels, PlanRequest, Precision};
pub use recognize::{TensorIndex, recognize};
pub use spec::{
    Activation, Architecture, BatchNormNames, BlockSpec, ConvKind, ConvSpec, LinearSpec, Naming, NetworkSpec,
    SqueezeExciteSpec,
};
