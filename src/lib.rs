//! Neural networks as WGSL compute shaders through wgpu: on any GPU, inside somebody else's frame, or in the browser.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let gpu = lampyris::Gpu::new().await?; // the best adapter; the CPU executor if there is none, and it says so
//! println!("on {}", gpu.summary());
//! let model = lampyris::Classifier::load(&gpu, "mobilenet_v3_small/").await?;
//! let (pixels, width, height) = (vec![128u8; 640 * 480 * 4], 640, 480);
//! let answer = model.classify(lampyris::Input::rgba8(pixels, width, height)).await?;
//! for p in answer.top(3) {
//!     println!("{:5.1} %  {}", 100.0 * p.probability, p.label);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Every kernel has a CPU twin, and [`engine::certify`] holds the two against each other on the adapter in front of you.

pub use lampyris_engine as engine;
pub use lampyris_engine::gpu::wgpu;
pub use lampyris_engine::gpu::{
    AdapterChoice, AdapterKind, AdapterSummary, Budget, Gpu, GpuOptions, LimitTier, LossNotifier, MemoryPlan, Power,
    VariantSet, WarmJob, adapters,
};
pub use lampyris_models as models;
#[cfg(feature = "bundled")]
pub use lampyris_models::bundled;
pub use lampyris_models::input::{Area, Quarter, Yuv, YuvMatrix, YuvRange};
pub use lampyris_models::record::Seen;
pub use lampyris_models::{
    Answer, Classifier, ClassifierNeeds, ClassifierOptions, Driven, Error, Input, Loading, Prediction, Priority,
    Progress, Result, Scheduler, Source, Summary, Tick, Watching,
};
#[cfg(feature = "tokens")]
pub use lampyris_models::{
    Encoder, FilesFrom, TextModel, decoder::Sampling, encoder::Embedding, text, text_model, text_model::AnswerOptions,
    text_model::DrivenText,
};

/// The README's example, compiled with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The guide's examples, compiled with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../docs/guest.md")]
struct Guide;
