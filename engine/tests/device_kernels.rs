//! Every kernel, every variant, every case, on every adapter of this machine, against the twin.
//!
//! `LAMPYRIS_TIER=full` runs all cases; `LAMPYRIS_KERNEL=name` runs one kernel's. Shader checks are on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

#[path = "../../tests/support/adapters.rs"]
mod named;

use lampyris_engine::Gpu;
use lampyris_engine::certify::Prepared;
use lampyris_engine::gpu::{AdapterChoice, GpuOptions, LimitTier, adapters};
use lampyris_engine::kernels::{self, Tier};

fn devices() -> Vec<(String, Gpu)> {
    let found = pollster::block_on(adapters());
    named::demand(found.iter().map(|it| (it.name.clone(), it.backend.clone())));
    let mut devices = Vec::new();
    for (index, adapter) in found.iter().enumerate() {
        let options = GpuOptions::default().adapter(AdapterChoice::Index(index)).checked(true);
        devices.push((adapter.to_string(), pollster::block_on(Gpu::with(options.clone())).unwrap()));
        if adapter.backend == "vulkan" && adapter.name.contains("llvmpipe") {
            let clamped = options.limits(LimitTier::WebGpu);
            let gpu = pollster::block_on(Gpu::with(clamped)).unwrap();
            assert_eq!(gpu.caps().max_storage_buffers, 8);
            devices.push((format!("{adapter} clamped to WebGPU's defaults"), gpu));
        }
    }
    devices
}

#[test]
fn an_adapter_that_is_required_by_name_is_missed() {
    let found = [("llvmpipe (LLVM 15)", "vulkan"), ("llvmpipe (LLVM 15)", "gl")].map(|(a, b)| (a.into(), b.into()));
    assert_eq!(named::missing("adapters, lavapipe,opengl,swiftshader,material", &found), ["swiftshader"]);
    assert_eq!(named::missing("lavapipe,opengl", &found[1..]), ["lavapipe"]);
    assert_eq!(named::missing("opengl,adapters", &found[..1]), ["opengl"]);
    assert_eq!(named::missing("adapters,python", &[]), ["adapters"]);
    assert_eq!(
        named::missing("adapter", &found),
        ["adapter"],
        "a word without meaning asks for something all the same"
    );
    assert!(named::missing("", &[]).is_empty());
}

#[test]
fn every_variant_agrees_with_its_twin() {
    let full = std::env::var("LAMPYRIS_TIER").is_ok_and(|tier| tier == "full");
    let only = std::env::var("LAMPYRIS_KERNEL").ok();
    let devices = devices();
    let (mut checks, mut failures) = (0, Vec::new());
    for entry in kernels::all() {
        if only.as_deref().is_some_and(|name| name != entry.name) {
            continue;
        }
        for case in (entry.cases)().iter().filter(|c| full || c.tier == Tier::Short) {
            let prepared = Prepared::new(case).unwrap();
            for (name, gpu) in &devices {
                for source in prepared.variants(gpu).unwrap() {
                    let verdict = gpu.block_on(prepared.check(gpu, source)).unwrap();
                    checks += 1;
                    if !verdict.passed() {
                        failures.push(format!(
                            "{name}: {}[{}] {}: worst error {:e}, tolerance {:e} {}",
                            verdict.kernel,
                            verdict.variant,
                            verdict.case,
                            verdict.worst_error,
                            verdict.tolerance,
                            verdict.failure.unwrap_or_default()
                        ));
                    }
                }
            }
        }
    }
    eprintln!("{checks} checks on {} devices: {:?}", devices.len(), devices.iter().map(|d| &d.0).collect::<Vec<_>>());
    assert!(failures.is_empty(), "{} of {checks} checks failed:\n{}", failures.len(), failures.join("\n"));
}
