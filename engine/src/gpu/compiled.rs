//! The GPU executor: a plan with its pipelines, buffers and bind groups made once, ready to run.

use super::allocate::Wanted;
use super::apart::Apart;
use super::fit::{check_memory, launch};
use super::memory::Held;
use super::pipeline::Pipeline;
use super::poll::Mailbox;
use super::record::Ring;
use super::store::Shared;
use super::{ConstantStore, Gpu, InputData, States, tune};
use crate::plan::{PARAMS_STRIDE, Place, Plan, PlanBytes, Step, TensorId};
use crate::{Error, Result};
use lampyris_shaders::{Call, Launch, Operand, Source};
use std::sync::{Arc, Mutex, OnceLock};

/// Decides which variant a step runs.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum VariantChoice<'a> {
    /// The kernel's best guess for the adapter, or what was measured to be faster.
    Best,
    /// The caller's: given the step and the candidates, best guess first. What it gives must fit the adapter.
    By(&'a (dyn Fn(&Step, &[&'static Source]) -> Option<&'static Source> + Sync)),
}

/// A piece of a buffer.
#[derive(Debug, Clone)]
pub(super) struct Region {
    pub(super) buffer: wgpu::Buffer,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Region {
    fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offset,
            size: std::num::NonZeroU64::new(self.bytes),
        })
    }
}

/// One dispatch, ready to be encoded.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) pipeline: Arc<Pipeline>,
    /// Absent when the step reads a texture, which is bound at every run.
    pub(super) bind_group: Option<wgpu::BindGroup>,
    pub(super) operands: Vec<Operand>,
    pub(super) grid: [u32; 3],
    pub(super) source: &'static Source,
    /// What its bind groups are called.
    label: String,
}

/// A plan on a device. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GpuPlan {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) gpu: Gpu,
    pub(super) plan: Arc<Plan>,
    pub(super) dispatches: Vec<Dispatch>,
    /// Where each tensor lives; absent for textures.
    pub(super) regions: Vec<Option<Region>>,
    pub(super) params: wgpu::Buffer,
    /// Buffers that earlier runs were read from, and what heard of their mapping, free for the next.
    pub(super) staging: Mutex<Vec<(wgpu::Buffer, Mailbox<bool>)>>,
    pub(super) result_bytes: u64,
    /// The slots of runs in a host's encoders.
    pub(super) ring: Mutex<Ring>,
    /// Where the inputs of submitted runs lie once there are recorded ones too.
    pub(super) apart: OnceLock<Apart>,
    /// Its constants, whose buffers lie in `regions` too.
    _constants: Vec<Shared>,
    _held: Held,
}

impl GpuPlan {
    /// Compiles `plan` for `gpu`: chooses variants, compiles pipelines, uploads constants that are new to `store`,
    /// allocates the slots and makes every bind group.
    ///
    /// # Errors
    /// [`Error::Budget`], [`Error::TooLarge`], [`Error::Grid`] or [`Error::NoVariant`] before anything is allocated;
    /// [`Error::OutOfMemory`], [`Error::Driver`], [`Error::DeviceLost`] from the driver.
    pub async fn new(gpu: &Gpu, plan: Arc<Plan>, store: &ConstantStore, choice: VariantChoice<'_>) -> Result<GpuPlan> {
        GpuPlan::bound(gpu, plan, store, choice, &[], |_| ()).await
    }

    /// As [`GpuPlan::new`], telling `progress` the bytes of each constant as it arrives.
    ///
    /// # Errors
    /// As [`GpuPlan::new`].
    pub async fn with_progress(
        gpu: &Gpu,
        plan: Arc<Plan>,
        store: &ConstantStore,
        progress: impl FnMut(u64),
    ) -> Result<GpuPlan> {
        GpuPlan::bound(gpu, plan, store, VariantChoice::Best, &[], progress).await
    }

    /// As [`GpuPlan::new`], with the plan's first output written to item `item` of `target`'s first input: what
    /// prepares one image of a batch.
    ///
    /// # Errors
    /// As [`GpuPlan::new`].
    pub async fn feeding(gpu: &Gpu, plan: Arc<Plan>, target: &GpuPlan, item: usize) -> Result<GpuPlan> {
        let output = plan.outputs.first().map(|(_, id)| *id);
        let input = target.inner.plan.inputs.first().and_then(|id| target.inner.regions[id.0].clone());
        let (Some(output), Some(input)) = (output, input) else {
            return Err(Error::Input {
                name: "target".to_owned(),
                expected: "a plan with an input buffer".to_owned(),
                found: "none".to_owned(),
            });
        };
        let bytes = plan.tensor(output).desc.bytes();
        let region = Region { buffer: input.buffer, offset: input.offset + item as u64 * bytes, bytes };
        GpuPlan::bound(gpu, plan, &ConstantStore::new(), VariantChoice::Best, &[(output, region)], |_| ()).await
    }

    /// As [`GpuPlan::with_progress`], for a plan that keeps tensors between runs: `states` holds them.
    ///
    /// # Errors
    /// As [`GpuPlan::new`]; [`Error::Input`] when `states` lacks one or holds it in another shape.
    pub async fn with_states(
        gpu: &Gpu,
        plan: Arc<Plan>,
        store: &ConstantStore,
        states: &States,
        choice: VariantChoice<'_>,
        progress: impl FnMut(u64),
    ) -> Result<GpuPlan> {
        let given = states.regions(&plan)?;
        GpuPlan::bound(gpu, plan, store, choice, &given, progress).await
    }

    async fn bound(
        gpu: &Gpu,
        plan: Arc<Plan>,
        store: &ConstantStore,
        choice: VariantChoice<'_>,
        given: &[(TensorId, Region)],
        progress: impl FnMut(u64),
    ) -> Result<GpuPlan> {
        check_memory(gpu, &plan)?;
        let given_already = |at: usize| given.iter().any(|(id, _)| id.0 == at);
        let missing = |(at, tensor): &(usize, &crate::plan::PlanTensor)| {
            matches!(tensor.place, Place::State(_)) && !given_already(*at)
        };
        if let Some((_, tensor)) = plan.tensors.iter().enumerate().find(missing) {
            let (expected, found) = ("a state".to_owned(), "nothing".to_owned());
            return Err(Error::Input { name: tensor.name.clone(), expected, found });
        }
        // States are on the account of those who made them.
        let wanted = || PlanBytes { weights: store.missing(gpu, &plan.constants), states: 0, ..plan.bytes() };
        gpu.account().check(wanted())?;
        let (mut launches, mut measured) = (Vec::with_capacity(plan.steps.len()), false);
        for step in &plan.steps {
            let (inputs, outputs) = plan.descs(step);
            let call = Call { inputs: &inputs, outputs: &outputs };
            let candidates = step.kernel.candidates(&call, gpu.caps());
            let source = match choice {
                VariantChoice::Best => {
                    let (source, new) = tune::fastest(gpu, step, &call, &candidates).await?;
                    measured |= new;
                    source
                }
                VariantChoice::By(choose) => choose(step, &candidates),
            };
            launches.push(launch(gpu, step, &call, source)?);
        }
        if measured && let Some(tuning) = gpu.tuning() {
            tuning.save();
        }
        let sources: Vec<Source> = launches.iter().map(|(source, _)| **source).collect();
        if let Some(error) = gpu.compile(&sources, &|| ()).await?.into_iter().next() {
            return Err(error);
        }
        let mut held = gpu.account().take(wanted())?;
        let constants = store.upload(gpu, &plan.constants, &mut held, progress).await?;
        // Constants that another thread has uploaded meanwhile are on its account.
        let bytes = plan.bytes();
        let held = held.split(bytes.activations + bytes.params);
        let result_bytes = plan.outputs.iter().map(|(_, id)| plan.tensor(*id).desc.bytes()).sum();
        let inner = gpu
            .guarded("allocating a plan", |device| {
                assemble(gpu, device, plan, launches, (constants, held), given, result_bytes)
            })
            .await??;
        Ok(GpuPlan { inner: Arc::new(inner) })
    }

    /// The plan it runs.
    pub fn plan(&self) -> &Plan {
        &self.inner.plan
    }

    /// The device it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.inner.gpu
    }

    /// The variant of each step.
    pub fn sources(&self) -> impl Iterator<Item = &'static Source> {
        self.inner.dispatches.iter().map(|d| d.source)
    }

    /// Bytes of GPU buffers it holds, constants shared with other plans included.
    pub fn bytes(&self) -> u64 {
        self.inner.plan.bytes().total()
    }
}

/// Allocates the slots and parameters and makes the bind groups.
fn assemble(
    gpu: &Gpu,
    device: &wgpu::Device,
    plan: Arc<Plan>,
    launches: Vec<(&'static Source, Launch)>,
    (constants, held): (Vec<Shared>, Held),
    given: &[(TensorId, Region)],
    result_bytes: u64,
) -> Result<Inner> {
    let doing = "allocating a plan";
    let buffer = |label: &str, bytes: u64| {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let label = format!("lampyris.{label}");
        gpu.buffer(device, doing, Wanted { label: &label, size: bytes.max(4), usage })
    };
    let slots = plan.slots.iter().enumerate().map(|(i, bytes)| buffer(&format!("slot{i}"), *bytes));
    let slots: Vec<wgpu::Buffer> = slots.collect::<Result<_>>()?;
    let region_of = |(at, tensor): (usize, &crate::plan::PlanTensor)| {
        if let Some((_, region)) = given.iter().find(|(id, _)| id.0 == at) {
            return Ok(Some(region.clone()));
        }
        if tensor.desc.format.is_texture() {
            return Ok(None);
        }
        let bytes = tensor.desc.bytes().max(4);
        let buffer = match tensor.place {
            Place::Input(_) => Some(buffer(&tensor.name, bytes)?),
            Place::Constant(at) => constants.get(at).map(|constant| constant.buffer.clone()),
            Place::Slot(at) => slots.get(at).cloned(),
            Place::State(_) => None,
        };
        Ok(buffer.map(|buffer| Region { buffer, offset: 0, bytes }))
    };
    let regions: Vec<Option<Region>> = plan.tensors.iter().enumerate().map(region_of).collect::<Result<_>>()?;
    let size = (launches.len() as u64).max(1) * PARAMS_STRIDE;
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let params = gpu.buffer(device, doing, Wanted { label: "lampyris.params", size, usage })?;
    let mut blocks = vec![0u32; launches.len().max(1) * PARAMS_STRIDE as usize / 4];
    let mut dispatches = Vec::with_capacity(launches.len());
    for (at, (source, launch)) in launches.into_iter().enumerate() {
        let start = at * PARAMS_STRIDE as usize / 4;
        blocks[start..start + launch.params.len()].copy_from_slice(&launch.params);
        let pipeline = match gpu.pipelines() {
            Some(pipelines) => pipelines.get(device, source),
            None => continue,
        };
        let label = format!("lampyris.{}", plan.steps[at].name);
        let mut dispatch =
            Dispatch { pipeline, bind_group: None, operands: launch.operands, grid: launch.grid, source, label };
        gpu.allocating(doing)?;
        dispatch.bind_group = bind(device, &plan.steps[at], &plan, &dispatch, &regions, (&params, at), &[]);
        dispatches.push(dispatch);
    }
    if let Some(queue) = gpu.queue() {
        gpu.write(queue, doing, (&params, 0), bytemuck::cast_slice(&blocks))?;
    }
    Ok(Inner {
        gpu: gpu.clone(),
        plan,
        dispatches,
        regions,
        params,
        staging: Mutex::default(),
        result_bytes,
        ring: Mutex::default(),
        apart: OnceLock::new(),
        _constants: constants,
        _held: held,
    })
}

/// Most bindings of a kernel: its parameters, and as many buffers and textures as WebGPU gives to a shader everywhere.
const MOST_BINDINGS: usize = 1 + 8 + 16;

/// The bind group of a step; `None` when it reads a texture that `inputs` do not give. Takes no memory of its own, for those with textures are
/// made in every frame.
pub(super) fn bind(
    device: &wgpu::Device,
    step: &Step,
    plan: &Plan,
    dispatch: &Dispatch,
    regions: &[Option<Region>],
    (params, at): (&wgpu::Buffer, usize),
    inputs: &[InputData<'_>],
) -> Option<wgpu::BindGroup> {
    let params = Region {
        buffer: params.clone(),
        offset: at as u64 * PARAMS_STRIDE,
        bytes: u64::from(dispatch.source.params_bytes).max(16),
    };
    let mut entries: [_; MOST_BINDINGS] =
        std::array::from_fn(|_| wgpu::BindGroupEntry { binding: 0, resource: params.binding() });
    for (i, operand) in dispatch.operands.iter().enumerate() {
        let id = match operand {
            Operand::Input(at) => step.inputs[*at],
            Operand::Output(at) => step.outputs[*at],
        };
        let resource = match (&regions[id.0], plan.tensor(id).place) {
            (Some(region), _) => region.binding(),
            (None, Place::Input(position)) => match inputs.get(position) {
                Some(InputData::Texture(view)) => wgpu::BindingResource::TextureView(view),
                _ => return None,
            },
            (None, _) => return None,
        };
        *entries.get_mut(i + 1)? = wgpu::BindGroupEntry { binding: i as u32 + 1, resource };
    }
    let label = &dispatch.label;
    debug_assert!(label.starts_with("lampyris."), "{label} does not say whose it is");
    Some(device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(label),
        layout: &dispatch.pipeline.layout,
        entries: entries.get(..=dispatch.operands.len())?,
    }))
}
