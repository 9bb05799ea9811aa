//! Where two variants are candidates, the faster is measured, remembered and asked for again; a damaged memory is ignored.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use lampyris_engine::gpu::{AdapterChoice, ConstantStore, GpuOptions, GpuPlan, VariantChoice, VariantSet};
use lampyris_engine::kernels::text::{Dense, Scheme};
use lampyris_engine::kernels::{Case, Desc, Format, HostTensor, Tier, conv::Pointwise, difference};
use lampyris_engine::{Gpu, Plan, PlanBuilder};
use std::sync::Arc;

fn plan() -> Plan {
    let mut b = PlanBuilder::new();
    let x = b.input("x", Desc::f32([1, 6, 6, 16]));
    let w = b.input("w", Desc::new(Format::MatrixF32, [16, 20]));
    let a = b.input("a", Desc::f32([1, 20]));
    let y = b.apply("y", Pointwise::default(), &[x, w, a]).unwrap();
    b.output("y", y);
    b.finish()
}

/// A device that measures what a GPU would, and keeps it in `folder`.
fn measuring(folder: &std::path::Path) -> Option<Gpu> {
    let options = GpuOptions::default().variants(VariantSet::RealGpu).cache(folder);
    let gpu = pollster::block_on(Gpu::with(options.adapter(AdapterChoice::Best))).unwrap();
    if gpu.is_cpu_executor() {
        let required = std::env::var("LAMPYRIS_REQUIRE").unwrap_or_default();
        assert!(!required.contains("adapters"), "LAMPYRIS_REQUIRE asks for adapters and there are none");
        eprintln!("SKIPPED: no adapter; `cargo xtask test` installs software adapters");
        return None;
    }
    Some(gpu)
}

fn chosen(folder: &std::path::Path) -> Option<&'static str> {
    let gpu = measuring(folder)?;
    let store = ConstantStore::new();
    let plan = gpu.block_on(GpuPlan::new(&gpu, Arc::new(plan()), &store, VariantChoice::Best)).unwrap();
    Some(plan.sources().next().unwrap().choice("path"))
}

#[test]
fn the_choice_is_measured_once_and_kept_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let Some(first) = chosen(folder.path()) else { return };
    assert!(["tiled", "portable"].contains(&first), "{first}");
    let file = || {
        let mut files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("tuning-")).unwrap()
    };
    let text = std::fs::read_to_string(file()).unwrap();
    assert!(text.contains(first), "{text}");
    // What the file says is believed, so turning it round turns the choice round.
    let other = if first == "tiled" { "portable" } else { "tiled" };
    std::fs::write(file(), text.replace(first, other)).unwrap();
    assert_eq!(chosen(folder.path()), Some(other));
    // A damaged file is not fatal: it is measured again.
    std::fs::write(file(), "{ not json").unwrap();
    assert!(chosen(folder.path()).is_some());
    assert!(std::fs::read_to_string(file()).unwrap().contains("pointwise"));
}

#[test]
fn a_matrix_of_one_token_is_timed_among_copies_and_gives_what_its_twin_gives() {
    let folder = tempfile::tempdir().unwrap();
    let Some(gpu) = measuring(folder.path()) else { return };
    let descs = [vec![Desc::f32([1, 96])], Scheme::Q8_0.descs(40, 96)].concat();
    let case = Case::noise("matrix", Tier::Short, Dense::default(), descs.clone());
    let mut b = PlanBuilder::new();
    let ids: Vec<_> = descs.iter().enumerate().map(|(i, desc)| b.input(format!("{i}"), desc.clone())).collect();
    let y = b.apply("y", Dense::default(), &ids).unwrap();
    b.output("y", y);
    let (plan, store) = (Arc::new(b.finish()), ConstantStore::new());
    let plan = gpu.block_on(GpuPlan::new(&gpu, plan, &store, VariantChoice::Best)).unwrap();
    let path = plan.sources().next().unwrap().choice("path");
    assert!(["pairs", "subgroups", "portable"].contains(&path), "{path}");
    let inputs: Vec<HostTensor> = case.tensors();
    let found = gpu.block_on(plan.run_tensors(&inputs)).unwrap();
    let worst = difference(&case.expected(&inputs).unwrap(), &found).worst;
    assert!(worst < 1e-4, "{path}: {worst:e}");
    let kept = std::fs::read_dir(folder.path()).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
    let kept = kept.map(|file| String::from_utf8_lossy(&file).into_owned()).collect::<String>();
    assert!(kept.contains("dense "), "{kept}");
}
