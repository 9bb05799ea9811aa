//! What the tests share: the adapters of this machine, and the material, or a printed skip.

#![allow(dead_code, unreachable_pub, reason = "each program of tests uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

pub mod adapters;
pub mod bent;
pub mod decoders;
pub mod golden;
pub mod host;
pub mod photos;
#[cfg(target_os = "linux")]
pub mod tracer;

use lampyris::engine::weights::Weights;
use lampyris::{AdapterChoice, Gpu, GpuOptions, LimitTier, VariantSet};
use std::path::{Path, PathBuf};

/// Whether `LAMPYRIS_REQUIRE` asks for `what`.
pub(crate) fn required(what: &str) -> bool {
    std::env::var("LAMPYRIS_REQUIRE").is_ok_and(|list| list.split(',').any(|word| word.trim() == what))
}

/// The image networks of the fixtures.
pub const NETWORKS: [&str; 5] = [
    "mobilenet_v2_w025",
    "mobilenet_v3_small_w025",
    "mobilenet_v3_large_w025",
    "timm_mobilenetv3_small_050",
    "timm_tf_mobilenetv3_small_minimal_100",
];

/// Whether everything is run, or only what a short wait allows: `LAMPYRIS_TIER=full`.
pub fn full_tier() -> bool {
    std::env::var("LAMPYRIS_TIER").is_ok_and(|tier| tier.trim() == "full")
}

/// Worst difference relative to the reference's largest magnitude. What is not a number is infinitely wrong.
pub fn relative(found: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(found.len(), reference.len());
    let largest = reference.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let apart = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
    found.iter().zip(reference).map(apart).fold(0.0f32, f32::max) / largest
}

/// `[images, 3, side, side]` as `[images, side, side, 3]`.
pub fn channels_last(values: &[f32], side: usize) -> Vec<f32> {
    values
        .chunks(3 * side * side)
        .flat_map(|image| (0..side * side).flat_map(move |p| (0..3).map(move |c| image[c * side * side + p])))
        .collect()
}

/// The folder of a recorded network of noise; `tests/fixtures/README.md` says what it holds.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mobilenet").join(name)
}

/// The folder of models, photos and references: `LAMPYRIS_MATERIAL`, or `../shared/material` beside the repository.
pub(crate) fn material() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/material");
    let folder = std::env::var_os("LAMPYRIS_MATERIAL").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(!required("material"), "LAMPYRIS_REQUIRE asks for material and {} is no folder", folder.display());
    eprintln!("SKIPPED: no material at {}; tests/MATERIAL.md says what it is", folder.display());
    None
}

/// Every adapter, lavapipe once more with WebGPU's default limits, and the CPU executor last.
pub(crate) fn devices() -> Vec<(String, Gpu)> {
    let mut devices = Vec::new();
    let found = pollster::block_on(lampyris::adapters());
    adapters::demand(found.iter().map(|it| (it.name.clone(), it.backend.clone())));
    for (index, adapter) in found.iter().enumerate() {
        let options = GpuOptions::default().adapter(AdapterChoice::Index(index)).checked(true);
        devices.push((adapter.to_string(), pollster::block_on(Gpu::with(options.clone())).unwrap()));
        if adapter.backend == "vulkan" && adapter.name.contains("llvmpipe") {
            let clamped = pollster::block_on(Gpu::with(options.limits(LimitTier::WebGpu))).unwrap();
            assert_eq!((clamped.caps().max_storage_buffers, clamped.caps().subgroup), (8, None));
            devices.push((format!("{adapter}, clamped to WebGPU's defaults"), clamped));
        }
    }
    devices.push(("CPU executor".to_owned(), Gpu::cpu_executor()));
    devices
}

/// Those of `devices` that take the case of this number: all in the full tier. In the short one all take the first case, the CPU
/// executors take every one, and each other case has one adapter more, in turn, so that nothing is left out and not all is crossed.
pub fn taking(case: usize, devices: Vec<(String, Gpu)>) -> impl Iterator<Item = (String, Gpu)> {
    let adapters = devices.iter().filter(|(_, gpu)| !gpu.is_cpu_executor()).count();
    let mut place = 0;
    devices.into_iter().filter(move |(_, gpu)| {
        let executor = gpu.is_cpu_executor();
        let turn = executor || case % adapters == place;
        place += usize::from(!executor);
        turn || case == 0 || full_tier()
    })
}

/// Takes from adapters those that compile slowly where their backend has others, of whom the full tier asks the same: SwiftShader
/// takes a tenth of a second for a pipeline, which is nearly all the time of tests that load models again and again.
/// `named` gives an adapter's name and backend.
pub fn without_slow_compilers<T>(adapters: Vec<T>, named: impl Fn(&T) -> (String, String)) -> Vec<T> {
    let slow = |adapter: &T| named(adapter).0.contains("SwiftShader");
    let quick: Vec<String> = adapters.iter().filter(|it| !slow(it)).map(|it| named(it).1).collect();
    adapters.into_iter().filter(|it| full_tier() || !slow(it) || !quick.contains(&named(it).1)).collect()
}

/// The forms and plans for real GPUs on every adapter that Vulkan drives and that compiles quickly; OpenGL's compilers take long for
/// them, too.
pub fn as_gpus() -> Vec<(String, Gpu)> {
    let found = pollster::block_on(lampyris::adapters());
    let vulkan = found.iter().enumerate().filter(|(_, adapter)| adapter.backend == "vulkan").collect();
    let vulkan =
        without_slow_compilers(vulkan, |(_, adapter)| (adapter.name.clone(), adapter.backend.clone())).into_iter();
    let open = |(index, adapter): (usize, _)| {
        let options = GpuOptions::default().adapter(AdapterChoice::Index(index)).variants(VariantSet::RealGpu);
        (format!("{adapter} as a GPU"), pollster::block_on(Gpu::with(options)).unwrap())
    };
    vulkan.map(open).collect()
}

/// Plans for real GPUs by the twins.
pub fn cpu_as_gpu() -> (String, Gpu) {
    let options = GpuOptions::default().adapter(AdapterChoice::Cpu).variants(VariantSet::RealGpu);
    ("CPU executor as a GPU".to_owned(), pollster::block_on(Gpu::with(options)).unwrap())
}

/// A safetensors file of references.
pub(crate) struct Tensors(Weights);

impl Tensors {
    pub(crate) fn open(path: &Path) -> Tensors {
        Tensors(Weights::open(path).unwrap())
    }

    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        self.0.f32(name).unwrap()
    }

    pub fn names(&self) -> Vec<&str> {
        self.0.names().collect()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.bytes(name).unwrap().to_vec()
    }
}
