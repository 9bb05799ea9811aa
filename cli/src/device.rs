//! From the command line's wishes to an open device, and what is said about it.

use crate::args::{DeviceArguments, Limits};
use crate::failure::Failure;
use crate::output;
use lampyris::{AdapterChoice, AdapterKind, Gpu, GpuOptions, LimitTier};
use std::path::PathBuf;

/// The adapter that was asked for; opening it refuses a blank name. A variable that is set to nothing asks for nothing.
pub(crate) fn choice(arguments: &DeviceArguments) -> AdapterChoice {
    let unset = std::env::var_os("LAMPYRIS_ADAPTER").is_some_and(|value| value.is_empty());
    match arguments.adapter.as_deref() {
        None => AdapterChoice::Best,
        Some("") if unset => AdapterChoice::Best,
        Some(text) => text.parse().unwrap_or_else(|_| AdapterChoice::Name(text.to_owned())),
    }
}

/// The options of a device on the adapter `choice`.
pub(crate) fn options(arguments: &DeviceArguments, choice: AdapterChoice) -> GpuOptions {
    let limits = match arguments.limits {
        Limits::Adapter => LimitTier::Adapter,
        Limits::Webgpu => LimitTier::WebGpu,
    };
    let mut options = GpuOptions::default().adapter(choice).limits(limits).checked(arguments.checked);
    if let Some(bytes) = arguments.budget {
        options = options.budget(bytes);
    }
    match cache_folder() {
        Some(folder) if !arguments.no_cache => options.cache(folder),
        _ => options,
    }
}

/// Opens the device that was asked for.
pub(crate) fn open(arguments: &DeviceArguments) -> Result<Gpu, Failure> {
    Ok(pollster::block_on(Gpu::with(options(arguments, choice(arguments))))?)
}

/// Says what is not a GPU, so that nobody takes its speed for one's.
pub(crate) fn say_kind(gpu: &Gpu) {
    let summary = gpu.summary();
    match summary.kind {
        AdapterKind::Software => output::note(&format!("{summary} is a program on the CPU, not a GPU")),
        AdapterKind::CpuExecutor => output::note("no GPU: the kernels' twins run on the CPU, which is slow"),
        _ => {}
    }
}

/// `lampyris` in the user's folder for caches, where the system has one.
fn cache_folder() -> Option<PathBuf> {
    let folder = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    };
    caches.map(|folder| folder.join("lampyris"))
}
