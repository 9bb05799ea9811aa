//! The only room that names wgpu: adapters, devices, buffers, pipelines and the GPU executor.

mod adapter;
mod allocate;
mod apart;
mod arrival;
mod budget;
#[cfg(not(target_arch = "wasm32"))]
mod cache;
mod compiled;
#[cfg(not(target_arch = "wasm32"))]
mod costs;
mod course;
mod device;
mod disk;
mod few;
mod fit;
mod flight;
mod job;
mod lent;
mod loading;
mod loss;
mod memory;
mod memory_plan;
mod options;
mod pace;
mod paced;
mod part;
mod pieces;
mod pipeline;
mod poll;
mod profile;
mod record;
#[cfg(not(target_arch = "wasm32"))]
mod roofline;
mod run;
mod scope;
mod seat;
mod states;
mod step_times;
mod store;
mod texture;
mod ticked;
mod timer;
#[cfg(not(target_arch = "wasm32"))]
mod tune;
#[cfg(target_arch = "wasm32")]
#[path = "untuned.rs"]
mod tune;
mod tuning;

pub use adapter::{AdapterChoice, AdapterKind, AdapterSummary, Requirements, adapters};
pub use budget::Budget;
pub use compiled::{GpuPlan, VariantChoice};
#[cfg(not(target_arch = "wasm32"))]
pub use costs::{Costs, alone, costs};
pub use course::Course;
pub use device::{Counts, Gpu};
pub use few::Few;
pub use job::{Event, Job, Written};
pub use loading::{Loading, WarmJob};
pub use loss::LossNotifier;
pub use memory_plan::MemoryPlan;
pub use options::{GpuOptions, LimitTier, Power, VariantSet};
pub use paced::Paced;
pub use profile::{Profile, ProfileMethod, StepProfile};
pub use record::Recorded;
#[cfg(not(target_arch = "wasm32"))]
pub use roofline::{Roofline, roofline};
pub use run::{InputData, Pending};
pub use states::States;
pub use step_times::StepTimes;
pub use store::ConstantStore;
pub use wgpu::{self, Buffer, CommandEncoder, TextureView};
