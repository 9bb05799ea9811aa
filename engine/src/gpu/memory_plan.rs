//! Several models on one device: whether all of them fit, before any of them is loaded.

use super::Gpu;
use crate::plan::PlanBytes;
use crate::{Error, Result};

/// What several models will take together, by name.
#[derive(Debug, Clone, Default)]
pub struct MemoryPlan {
    models: Vec<(String, PlanBytes)>,
}

impl MemoryPlan {
    /// Of nothing yet.
    pub fn new() -> MemoryPlan {
        MemoryPlan::default()
    }

    /// With a model that takes so much: [`crate::Plan::bytes`], or what a model says that it needs.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, bytes: impl Into<PlanBytes>) -> MemoryPlan {
        self.models.push((name.into(), bytes.into()));
        self
    }

    /// The models with what each takes.
    pub fn models(&self) -> impl Iterator<Item = (&str, PlanBytes)> {
        self.models.iter().map(|(name, bytes)| (name.as_str(), *bytes))
    }

    /// The sum of all.
    pub fn bytes(&self) -> u64 {
        self.models.iter().map(|(_, bytes)| bytes.total()).fold(0, u64::saturating_add)
    }

    /// Refuses what does not fit beside what the device that is there now holds already, as [`super::GpuOptions::budget`] counts it. Where there
    /// is no budget nothing is refused: wgpu does not tell how much memory an adapter has.
    ///
    /// # Errors
    /// [`Error::Together`] with the figures of each model.
    pub fn check(&self, gpu: &Gpu) -> Result<()> {
        let gpu = gpu.current();
        let (needed, held) = (self.bytes(), gpu.held_bytes());
        match gpu.options().budget {
            Some(budget) if !gpu.is_cpu_executor() && needed.saturating_add(held) > budget => {
                let models = self.models().map(|(name, bytes)| (name.to_owned(), bytes.total())).collect();
                Err(Error::Together { models, needed, held, budget })
            }
            _ => Ok(()),
        }
    }
}
