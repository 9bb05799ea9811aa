//! Which adapters a machine has, which one to use, and what to ask of it.

use super::options::Power;
use crate::{Error, Result};
use lampyris_shaders::Caps;
use std::fmt;
use std::str::FromStr;

/// Which adapter to open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AdapterChoice {
    /// The best there is: discrete, integrated, virtual, then software; the CPU executor when there is none.
    #[default]
    Best,
    /// By position in [`adapters`].
    Index(usize),
    /// By a part of its name, driver or backend, whatever the case.
    Name(String),
    /// No adapter: the CPU executor.
    Cpu,
}

impl FromStr for AdapterChoice {
    type Err = Error;

    /// `best`, `cpu`, an index or a name.
    ///
    /// # Errors
    /// [`Error::BlankAdapter`] when there is nothing in it.
    fn from_str(text: &str) -> Result<AdapterChoice> {
        Ok(match text.trim() {
            "" => return Err(Error::BlankAdapter),
            "best" => AdapterChoice::Best,
            "cpu" => AdapterChoice::Cpu,
            text => text.parse().map_or_else(|_| AdapterChoice::Name(text.to_owned()), AdapterChoice::Index),
        })
    }
}

impl AdapterChoice {
    /// Which of `adapters`, as [`adapters`] lists them, is meant; `None` where none is, for a blank name, and for the CPU executor.
    pub fn position(&self, adapters: &[AdapterSummary]) -> Option<usize> {
        match self {
            AdapterChoice::Cpu => None,
            AdapterChoice::Best => (!adapters.is_empty()).then_some(0),
            AdapterChoice::Index(index) => (*index < adapters.len()).then_some(*index),
            AdapterChoice::Name(name) => {
                let name = name.trim().to_lowercase();
                let named = |s: &AdapterSummary| {
                    !name.is_empty()
                        && [&s.name, &s.driver, &s.backend].iter().any(|text| text.to_lowercase().contains(&name))
                };
                adapters.iter().position(named)
            }
        }
    }
}

impl fmt::Display for AdapterChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdapterChoice::Best => f.write_str("best"),
            AdapterChoice::Index(index) => write!(f, "{index}"),
            AdapterChoice::Name(name) => f.write_str(name),
            AdapterChoice::Cpu => f.write_str("cpu"),
        }
    }
}

/// What kind of adapter it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AdapterKind {
    /// Its own memory.
    Discrete,
    /// Shares the host's memory.
    Integrated,
    /// Belongs to a virtual machine.
    Virtual,
    /// Not told by the driver.
    Unknown,
    /// A program on the CPU, such as lavapipe or SwiftShader: right, but no GPU.
    Software,
    /// The CPU executor: no adapter at all.
    CpuExecutor,
}

impl AdapterKind {
    /// The name in reports.
    pub fn label(self) -> &'static str {
        match self {
            AdapterKind::Discrete => "discrete GPU",
            AdapterKind::Integrated => "integrated GPU",
            AdapterKind::Virtual => "virtual GPU",
            AdapterKind::Unknown => "unknown kind",
            AdapterKind::Software => "software adapter",
            AdapterKind::CpuExecutor => "CPU executor",
        }
    }

    /// Where it comes among the kinds, best first.
    fn rank(self, power: Power) -> usize {
        match (self, power) {
            (AdapterKind::Discrete, Power::Low) => AdapterKind::Integrated as usize,
            (AdapterKind::Integrated, Power::Low) => AdapterKind::Discrete as usize,
            (kind, _) => kind as usize,
        }
    }

    fn of(info: &wgpu::AdapterInfo) -> AdapterKind {
        // Some drivers call their software adapter something else; their names are well known.
        let name = info.name.to_lowercase();
        if ["llvmpipe", "swiftshader", "softpipe", "basic render"].iter().any(|known| name.contains(known)) {
            return AdapterKind::Software;
        }
        match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Unknown,
        }
    }
}

/// An adapter as reports name it.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSummary {
    /// Name, as the driver gives it.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// Vulkan, Metal, Dx12, Gl or BrowserWebGpu; `cpu` for the CPU executor.
    pub backend: String,
    /// Kind.
    pub kind: AdapterKind,
    /// What it can do when everything it has is asked for.
    pub caps: Caps,
}

impl AdapterSummary {
    /// The summary of the CPU executor.
    pub fn cpu_executor() -> AdapterSummary {
        AdapterSummary {
            name: "CPU executor".to_owned(),
            driver: "the kernels' CPU twins".to_owned(),
            backend: "cpu".to_owned(),
            kind: AdapterKind::CpuExecutor,
            caps: Caps { software: true, shared_memory: true, ..Caps::WEBGPU_DEFAULT },
        }
    }

    pub(super) fn of(info: &wgpu::AdapterInfo, features: wgpu::Features, limits: &wgpu::Limits) -> AdapterSummary {
        let kind = AdapterKind::of(info);
        AdapterSummary {
            name: info.name.clone(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            backend: info.backend.to_string(),
            kind,
            caps: caps(info, kind, features, limits),
        }
    }
}

impl fmt::Display for AdapterSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == AdapterKind::CpuExecutor {
            return write!(f, "{} (no GPU: {})", self.name, self.driver);
        }
        write!(f, "{} ({}, {}", self.name, self.backend, self.kind.label())?;
        if !self.driver.is_empty() && !self.name.contains(&self.driver) {
            write!(f, ", {}", self.driver)?;
        }
        f.write_str(")")
    }
}

/// Mesa's major version, where a driver says that it is of Mesa.
fn mesa(driver: &str) -> Option<u32> {
    driver.split("Mesa ").nth(1)?.split('.').next()?.parse().ok()
}

fn caps(info: &wgpu::AdapterInfo, kind: AdapterKind, features: wgpu::Features, limits: &wgpu::Limits) -> Caps {
    let has = |feature| features.contains(feature);
    Caps {
        subgroup: has(wgpu::Features::SUBGROUP).then_some((info.subgroup_min_size, info.subgroup_max_size)),
        f16: has(wgpu::Features::SHADER_F16),
        // wgpu does not tell whether dot4I8Packed is native; desktop GPUs of the last years have it.
        packed_dot: matches!(kind, AdapterKind::Discrete | AdapterKind::Integrated),
        timestamps: has(wgpu::Features::TIMESTAMP_QUERY),
        immediates: if has(wgpu::Features::IMMEDIATES) { limits.max_immediate_size } else { 0 },
        software: kind == AdapterKind::Software,
        slow_arrays: kind == AdapterKind::Software && mesa(&info.driver_info).is_some_and(|version| version < 23),
        shared_memory: matches!(kind, AdapterKind::Software | AdapterKind::Integrated),
        max_invocations: limits.max_compute_invocations_per_workgroup,
        max_workgroup: [
            limits.max_compute_workgroup_size_x,
            limits.max_compute_workgroup_size_y,
            limits.max_compute_workgroup_size_z,
        ],
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        max_groups: limits.max_compute_workgroups_per_dimension,
    }
}

/// Features and limits to ask a device for, so that the engine can use all that an adapter has.
#[derive(Debug, Clone)]
pub struct Requirements {
    /// Features; none is experimental.
    pub features: wgpu::Features,
    /// Limits: those of the adapter.
    pub limits: wgpu::Limits,
}

impl Requirements {
    /// What the engine can use of `adapter`.
    pub fn of(adapter: &wgpu::Adapter) -> Requirements {
        let useful = wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::PIPELINE_CACHE;
        Requirements { features: adapter.features() & useful, limits: adapter.limits() }
    }

    /// WebGPU's default limits and no feature.
    pub fn webgpu() -> Requirements {
        Requirements { features: wgpu::Features::empty(), limits: wgpu::Limits::default() }
    }
}

/// Drivers of every backend, without validation layers, surfaces or indirect-call checks.
pub(super) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

/// All adapters of `instance`, best first.
pub(super) async fn enumerate(instance: &wgpu::Instance, power: Power) -> Vec<wgpu::Adapter> {
    let asked = wgpu::RequestAdapterOptions {
        power_preference: match power {
            Power::Unsaid => wgpu::PowerPreference::None,
            Power::Low => wgpu::PowerPreference::LowPower,
            Power::High => wgpu::PowerPreference::HighPerformance,
        },
        ..Default::default()
    };
    // A browser shows one adapter, and chooses it by what it is asked.
    let mut adapters = match cfg!(target_arch = "wasm32") {
        true => Vec::new(),
        false => instance.enumerate_adapters(wgpu::Backends::all()).await,
    };
    if adapters.is_empty()
        && let Ok(adapter) = instance.request_adapter(&asked).await
    {
        adapters.push(adapter);
    }
    adapters.retain(|a| {
        a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
            && a.limits().max_storage_buffers_per_shader_stage >= 4
    });
    adapters.sort_by_key(|adapter| {
        let info = adapter.get_info();
        (AdapterKind::of(&info).rank(power), info.backend == wgpu::Backend::Gl)
    });
    adapters
}

/// The adapters of this machine, best first; positions are what `--adapter` takes.
pub async fn adapters() -> Vec<AdapterSummary> {
    enumerate(&instance(), Power::Unsaid).await.iter().map(summary).collect()
}

pub(super) fn summary(adapter: &wgpu::Adapter) -> AdapterSummary {
    let wanted = Requirements::of(adapter);
    AdapterSummary::of(&adapter.get_info(), wanted.features, &wanted.limits)
}

/// The adapters that `choice` means, to be tried in this order; none for the CPU executor.
pub(super) async fn choose(
    instance: &wgpu::Instance,
    (choice, power): (&AdapterChoice, Power),
) -> Result<Vec<wgpu::Adapter>> {
    match choice {
        AdapterChoice::Cpu => return Ok(Vec::new()),
        AdapterChoice::Name(name) if name.trim().is_empty() => return Err(Error::BlankAdapter),
        _ => {}
    }
    // Positions are counted in the order that `adapters` gives.
    let power = if *choice == AdapterChoice::Best { power } else { Power::Unsaid };
    let mut adapters = enumerate(instance, power).await;
    if *choice == AdapterChoice::Best {
        return Ok(adapters);
    }
    let summaries: Vec<AdapterSummary> = adapters.iter().map(summary).collect();
    if let Some(position) = choice.position(&summaries) {
        return Ok(vec![adapters.swap_remove(position)]);
    }
    let found = summaries.iter().enumerate().map(|(i, s)| format!("{i}: {} ({})", s.name, s.backend));
    Err(Error::NoAdapter { wanted: choice.to_string(), found: found.collect() })
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, GpuOptions};

    #[test]
    fn a_sparing_choice_takes_the_integrated_gpu_first_and_no_software_before_it() {
        use AdapterKind::{Discrete, Integrated, Software, Unknown};
        let sorted = |power| {
            let mut kinds = [Software, Unknown, Integrated, Discrete];
            kinds.sort_by_key(|kind| kind.rank(power));
            kinds
        };
        assert_eq!(sorted(Power::Low), [Integrated, Discrete, Unknown, Software]);
        assert_eq!(sorted(Power::Unsaid), [Discrete, Integrated, Unknown, Software]);
        assert_eq!(sorted(Power::High), sorted(Power::Unsaid));
    }

    #[test]
    fn mesa_s_version_is_read_from_what_its_vulkan_and_opengl_say() {
        for (said, version) in [
            ("Mesa 22.3.6 (LLVM 15.0.6)", Some(22)),
            ("Mesa 25.0.7-2~bpo12+1 (LLVM 15.0.6)", Some(25)),
            ("4.5 (Core Profile) Mesa 22.3.6", Some(22)),
            ("SwiftShader driver-5.0.0", None),
            ("Mesa", None),
            ("", None),
        ] {
            assert_eq!(mesa(said), version, "{said:?}");
        }
    }

    #[test]
    fn a_blank_name_is_no_adapter() {
        for text in ["", "  ", "\t"] {
            assert!(matches!(text.parse::<AdapterChoice>(), Err(Error::BlankAdapter)), "{text:?}");
            let name = AdapterChoice::Name(text.to_owned());
            assert_eq!(name.position(&[AdapterSummary::cpu_executor()]), None, "{text:?}");
            let named = GpuOptions::default().adapter(name);
            assert!(matches!(pollster::block_on(Gpu::with(named)), Err(Error::BlankAdapter)), "{text:?}");
        }
        for (text, choice) in
            [("best", AdapterChoice::Best), (" cpu ", AdapterChoice::Cpu), ("2", AdapterChoice::Index(2))]
        {
            assert_eq!(text.parse::<AdapterChoice>().unwrap(), choice);
        }
    }
}
