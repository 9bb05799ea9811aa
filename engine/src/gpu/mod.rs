//! The only room that names wgpu: adapters, devices, buffers, pipelines and the GPU executor.

mod adapter;
#[cfg(not(target_arch = "wasm32"))]
mod cache;
mod compiled;
mod device;
mod disk;
mod fit;
mod memory;
mod options;
mod paced;
mod pipeline;
mod poll;
mod profile;
mod record;
#[cfg(not(target_arch = "wasm32"))]
mod roofline;
mod run;
mod scope;
mod states;
mod store;
mod texture;
mod timer;
#[cfg(not(target_arch = "wasm32"))]
mod tune;
#[cfg(target_arch = "wasm32")]
#[path = "untuned.rs"]
mod tune;
mod tuning;

pub use adapter::{AdapterChoice, AdapterKind, AdapterSummary, Requirements, adapters};
pub use compiled::{GpuPlan, VariantChoice};
pub use device::{Counts, Gpu};
pub use options::{GpuOptions, LimitTier, Power, VariantSet};
pub use paced::{Paced, StepTimes};
pub use profile::{Profile, ProfileMethod, StepProfile};
pub use record::Recorded;
#[cfg(not(target_arch = "wasm32"))]
pub use roofline::{Roofline, roofline};
pub use run::{InputData, Pending};
pub use states::States;
pub use store::ConstantStore;
pub use wgpu::{self, Buffer, CommandEncoder, TextureView};
