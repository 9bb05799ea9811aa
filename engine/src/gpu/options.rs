//! What a caller may ask of a device before it is opened.

use super::AdapterChoice;
use std::path::PathBuf;

/// Which limits to ask a device for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LimitTier {
    /// Everything the adapter has.
    #[default]
    Adapter,
    /// WebGPU's default limits and no feature, asked of the device itself, so that wgpu's validation refuses whatever goes beyond
    /// them: proves the portable tier anywhere.
    WebGpu,
}

/// Which kernel variants to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum VariantSet {
    /// Those for the adapter's kind.
    #[default]
    Adapter,
    /// Those for real GPUs, on a software adapter too: exercises them where no GPU is at hand.
    RealGpu,
}

/// Which adapter to take where there are several and none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Power {
    /// The fastest kind; in a browser, whichever the browser takes.
    #[default]
    Unsaid,
    /// One that spares the battery: an integrated GPU before a discrete one.
    Low,
    /// The fastest kind, in a browser too.
    High,
}

/// How to open a device.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct GpuOptions {
    /// Which adapter.
    pub adapter: AdapterChoice,
    /// Which of several, where none is named; a browser may do otherwise.
    pub power: Power,
    /// Which limits.
    pub limits: LimitTier,
    /// Which kernel variants to choose from.
    pub variants: VariantSet,
    /// Keep the driver's and naga's run-time checks of shaders.
    pub checked: bool,
    /// Most bytes of GPU memory that all plans and constants of the device may hold together; unlimited when absent. Counted are
    /// weights, inputs, activations, states and parameters, until the last plan, store or session that has them is dropped; not
    /// counted are the buffers that results are read from, textures, pipelines, and what the driver keeps for itself.
    pub budget: Option<u64>,
    /// Folder for the pipeline and tuning caches; nothing is kept when absent. They hold nothing of any input. What ticks have learnt
    /// gets there by [`Gpu::save_measurements`](super::Gpu::save_measurements).
    pub cache: Option<PathBuf>,
}

impl GpuOptions {
    /// With this adapter.
    pub fn adapter(mut self, adapter: AdapterChoice) -> Self {
        self.adapter = adapter;
        self
    }

    /// With a preference among several adapters.
    pub fn power(mut self, power: Power) -> Self {
        self.power = power;
        self
    }

    /// With these limits.
    pub fn limits(mut self, limits: LimitTier) -> Self {
        self.limits = limits;
        self
    }

    /// With these kernel variants.
    pub fn variants(mut self, variants: VariantSet) -> Self {
        self.variants = variants;
        self
    }

    /// With or without run-time checks of shaders.
    pub fn checked(mut self, checked: bool) -> Self {
        self.checked = checked;
        self
    }

    /// With a memory budget in bytes.
    pub fn budget(mut self, bytes: u64) -> Self {
        self.budget = Some(bytes);
        self
    }

    /// With a folder for caches.
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }
}
