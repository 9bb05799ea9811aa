//! Pipelines: made once per shader variant, in parallel where threads are allowed, and kept on disk where the driver can.

use super::Gpu;
use super::adapter::AdapterSummary;
use super::options::GpuOptions;
#[cfg(not(target_arch = "wasm32"))]
use super::scope::now;
use crate::Error;
use lampyris_shaders::{Binding, Source};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// A compiled variant with the layout its bind groups need.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

/// All pipelines of a device.
#[derive(Debug)]
pub(super) struct Pipelines {
    made: Mutex<HashMap<Source, Arc<Pipeline>>>,
    checked: bool,
    #[cfg(not(target_arch = "wasm32"))]
    disk: super::cache::PipelineCache,
}

impl Pipelines {
    pub(super) fn new(device: &wgpu::Device, summary: &AdapterSummary, options: &GpuOptions) -> Pipelines {
        #[cfg(target_arch = "wasm32")]
        let _ = (device, summary);
        Pipelines {
            made: Mutex::default(),
            checked: options.checked,
            #[cfg(not(target_arch = "wasm32"))]
            disk: super::cache::PipelineCache::open(device, summary, options),
        }
    }

    /// The pipeline of a variant, compiled if it is new.
    pub(super) fn get(&self, device: &wgpu::Device, source: &Source) -> Arc<Pipeline> {
        let made = |map: &HashMap<Source, Arc<Pipeline>>| map.get(source).cloned();
        if let Some(pipeline) = made(&self.made.lock().unwrap_or_else(PoisonError::into_inner)) {
            return pipeline;
        }
        let pipeline = Arc::new(self.compile(device, source));
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(*source, pipeline.clone());
        pipeline
    }

    /// Whether a variant is compiled already.
    pub(super) fn has(&self, source: &Source) -> bool {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).contains_key(source)
    }

    /// Compiles the variants that are new: on this machine's threads when `threads`, one after the other otherwise. `done`
    /// hears of each. Gives the errors of those that could not be made, of which nothing is kept; on the web they are the caller's error
    /// scope's.
    pub(super) fn warm(
        &self,
        (gpu, device): (&Gpu, &wgpu::Device),
        sources: &[Source],
        threads: bool,
        done: &(dyn Fn() + Sync),
    ) -> Vec<Error> {
        let fresh: HashSet<&Source> = sources.iter().filter(|s| !self.has(s)).collect();
        let fresh: Vec<&Source> = fresh.into_iter().collect();
        if fresh.is_empty() {
            return Vec::new();
        }
        #[cfg(not(target_arch = "wasm32"))]
        {
            let workers = if threads { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 };
            let next = std::sync::atomic::AtomicUsize::new(0);
            let refused = Mutex::new(Vec::new());
            let work = || {
                while let Some(source) = fresh.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    if let Err(error) = self.make(gpu, device, source) {
                        refused.lock().unwrap_or_else(PoisonError::into_inner).push(error);
                    }
                    done();
                }
            };
            if workers > 1 && fresh.len() > 1 {
                std::thread::scope(|scope| {
                    for _ in 0..workers.min(fresh.len()) {
                        scope.spawn(work);
                    }
                });
            } else {
                work();
            }
            self.disk.save();
            refused.into_inner().unwrap_or_else(PoisonError::into_inner)
        }
        #[cfg(target_arch = "wasm32")]
        {
            let _ = (gpu, threads);
            for source in fresh {
                self.get(device, source);
                done();
            }
            Vec::new()
        }
    }

    /// Compiles a variant under error scopes of this thread, for they are not those of the thread that waits.
    #[cfg(not(target_arch = "wasm32"))]
    fn make(&self, gpu: &Gpu, device: &wgpu::Device, source: &Source) -> Result<(), Error> {
        let doing = format!("compiling {} ({})", source.kernel, source.label);
        gpu.allocating(&doing)?;
        let (made, refused) = gpu.hearing(device, &doing, || {
            let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
            let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
            let made = self.compile(device, source);
            let (validation, internal) = (now(validation.pop()), now(internal.pop()));
            Ok((made, validation.or(internal)))
        })?;
        if let Some(error) = refused {
            return Err(Error::Driver { adapter: gpu.summary().name.clone(), doing, reason: error.to_string() });
        }
        self.made.lock().unwrap_or_else(PoisonError::into_inner).entry(*source).or_insert_with(|| Arc::new(made));
        Ok(())
    }

    /// Forgets variants of which some could not be made: a browser does not say which.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn forget(&self, sources: &[Source]) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().for_each(|source| drop(made.remove(source)));
    }

    fn compile(&self, device: &wgpu::Device, source: &Source) -> Pipeline {
        let label = format!("lampyris.{}.{}", source.kernel, source.label);
        let entries: Vec<wgpu::BindGroupLayoutEntry> = source
            .bindings
            .iter()
            .enumerate()
            .map(|(binding, kind)| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: binding_type(*kind, source.params_bytes),
                count: None,
            })
            .collect();
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(&label), entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(&label), source: wgpu::ShaderSource::Wgsl(source.wgsl.text()) };
        // What did not come from our build is nobody's promise: it keeps the checks that WebGPU asks for.
        let checked = self.checked || !lampyris_shaders::is_linked(source);
        let module = if checked { device.create_shader_module(descriptor) } else { trusted(device, descriptor) };
        #[cfg(not(target_arch = "wasm32"))]
        let cache = self.disk.handle();
        #[cfg(target_arch = "wasm32")]
        let cache = None;
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: checked,
            },
            cache,
        });
        Pipeline { pipeline, layout }
    }
}

#[allow(
    unsafe_code,
    reason = "our own shaders clamp every address and bound every loop; the tests run them checked too"
)]
fn trusted(device: &wgpu::Device, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
    // SAFETY: the kernels are linked and validated at build time, index only within what the plan bound, and every
    // kernel passes its cases with the checks on.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

fn binding_type(kind: Binding, params_bytes: u32) -> wgpu::BindingType {
    let buffer = |ty, min: u64| wgpu::BindingType::Buffer {
        ty,
        has_dynamic_offset: false,
        min_binding_size: std::num::NonZeroU64::new(min),
    };
    match kind {
        Binding::Params => buffer(wgpu::BufferBindingType::Uniform, u64::from(params_bytes)),
        Binding::Write => buffer(wgpu::BufferBindingType::Storage { read_only: false }, 0),
        Binding::Texture => wgpu::BindingType::Texture {
            sample_type: wgpu::TextureSampleType::Float { filterable: false },
            view_dimension: wgpu::TextureViewDimension::D2,
            multisampled: false,
        },
        _ => buffer(wgpu::BufferBindingType::Storage { read_only: true }, 0),
    }
}
