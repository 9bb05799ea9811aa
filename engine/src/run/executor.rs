//! One way to run a plan, whichever executor the machine has.

use super::CpuPlan;
use crate::gpu::{ConstantStore, Gpu, GpuPlan, InputData, States, VariantChoice};
use crate::plan::Plan;
use crate::{Error, Result};
use lampyris_shaders::HostTensor;
use std::sync::Arc;

/// A plan ready to run: on the device of a [`Gpu`], or by the twins where it has none. Cheap to clone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Executor {
    /// On a device.
    Gpu(GpuPlan),
    /// By the twins.
    Cpu(CpuPlan),
}

impl Executor {
    /// Makes `plan` ready for `gpu`; `progress` is told the bytes of each constant as it arrives.
    ///
    /// # Errors
    /// As [`GpuPlan::new`] and [`CpuPlan::new`].
    pub async fn new(
        gpu: &Gpu,
        plan: Arc<Plan>,
        store: &ConstantStore,
        mut progress: impl FnMut(u64),
    ) -> Result<Executor> {
        if gpu.is_cpu_executor() {
            let cpu = CpuPlan::with_store(plan, store)?;
            cpu.plan().constants.iter().for_each(|c| progress(c.desc.bytes()));
            return Ok(Executor::Cpu(cpu));
        }
        Ok(Executor::Gpu(GpuPlan::with_progress(gpu, plan, store, progress).await?))
    }

    /// As [`Executor::new`], for a plan that keeps tensors between runs: `states` holds them.
    ///
    /// # Errors
    /// As [`GpuPlan::with_states`] and [`CpuPlan::new`].
    pub async fn with_states(
        gpu: &Gpu,
        plan: Arc<Plan>,
        store: &ConstantStore,
        states: &States,
        progress: impl FnMut(u64),
    ) -> Result<Executor> {
        if gpu.is_cpu_executor() {
            return Ok(Executor::Cpu(CpuPlan::with_store(plan, store)?.with_states(states)));
        }
        let choice = VariantChoice::Best;
        Ok(Executor::Gpu(GpuPlan::with_states(gpu, plan, store, states, choice, progress).await?))
    }

    /// Makes the fastest of `plans` ready for `gpu`, as [`GpuPlan::fastest`]; the twins run the first.
    ///
    /// # Errors
    /// As [`GpuPlan::fastest`] and [`CpuPlan::new`].
    pub async fn fastest(
        gpu: &Gpu,
        plans: Vec<Arc<Plan>>,
        store: &ConstantStore,
        progress: impl FnMut(u64),
    ) -> Result<Executor> {
        if gpu.is_cpu_executor()
            && let Some(plan) = plans.first()
        {
            return Executor::new(gpu, plan.clone(), store, progress).await;
        }
        Ok(Executor::Gpu(GpuPlan::fastest(gpu, &plans, store, progress).await?))
    }

    /// Whether it runs where `gpu` does, rather than on a device whose place that one has taken.
    pub fn is_on(&self, gpu: &Gpu) -> bool {
        match self {
            Executor::Gpu(plan) => plan.gpu().is_same_device(gpu),
            Executor::Cpu(_) => gpu.is_cpu_executor(),
        }
    }

    /// The plan it runs.
    pub fn plan(&self) -> &Plan {
        match self {
            Executor::Gpu(plan) => plan.plan(),
            Executor::Cpu(plan) => plan.plan(),
        }
    }

    /// Runs the plan on host tensors and gives its outputs in order.
    ///
    /// # Errors
    /// [`Error::Input`] when the inputs are not the plan's; [`Error::DeviceLost`] when the device is gone.
    pub async fn run(&self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>> {
        match self {
            Executor::Gpu(plan) => {
                super::cpu::check_inputs(plan.plan(), inputs)?;
                let data: Vec<InputData<'_>> = inputs.iter().map(|t| InputData::Words(&t.words)).collect();
                plan.run(&data).await
            }
            Executor::Cpu(plan) => plan.run(inputs),
        }
    }

    /// The device plan, for what only a device can do.
    ///
    /// # Errors
    /// [`Error::NoTexture`] on the CPU executor.
    pub fn gpu_plan(&self) -> Result<&GpuPlan> {
        match self {
            Executor::Gpu(plan) => Ok(plan),
            Executor::Cpu(_) => Err(Error::NoTexture { adapter: "the CPU executor".to_owned() }),
        }
    }
}
