//! The profile of a small network: every step has a time, with timestamps and without.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris_engine::gpu::{
    AdapterChoice, ConstantStore, GpuOptions, GpuPlan, InputData, LimitTier, ProfileMethod, VariantChoice,
};
use lampyris_engine::{Error, Gpu};
use std::sync::Arc;
use support::{devices, network, picture};

fn loaded(gpu: &Gpu) -> GpuPlan {
    let plan = Arc::new(network(None));
    gpu.block_on(GpuPlan::new(gpu, plan, &ConstantStore::new(), VariantChoice::Best)).unwrap()
}

#[test]
fn every_step_takes_time_and_a_run_gives_the_same_afterwards() {
    for gpu in devices() {
        let (plan, picture) = (loaded(&gpu), picture());
        let inputs = [InputData::Words(&picture.words)];
        let before = gpu.block_on(plan.run(&inputs)).unwrap();
        let profile = gpu.block_on(plan.profile(&inputs, 3)).unwrap();
        eprintln!("{profile}");
        let names: Vec<&str> = profile.steps.iter().map(|s| s.step.as_str()).collect();
        assert_eq!(names, ["expand", "filter", "project", "reduce", "features"]);
        let flops = 2.0 * 99.0 * 8.0 * 24.0;
        assert_eq!(profile.steps[0].flops, flops);
        assert!(profile.micros() > 0.0, "{profile}");
        assert!(profile.steps.iter().all(|s| s.micros >= 0.0 && s.micros < 5e6), "{profile}");
        assert_eq!(gpu.block_on(plan.run(&inputs)).unwrap(), before);
    }
}

#[test]
fn without_timestamps_the_host_s_clock_is_used_and_named() {
    if devices().is_empty() {
        return;
    }
    let options = GpuOptions::default().adapter(AdapterChoice::Best).limits(LimitTier::WebGpu);
    let gpu = pollster::block_on(Gpu::with(options)).unwrap();
    assert!(!gpu.caps().timestamps);
    let (plan, picture) = (loaded(&gpu), picture());
    let inputs = [InputData::Words(&picture.words)];
    let profile = gpu.block_on(plan.profile(&inputs, 2)).unwrap();
    eprintln!("{profile}");
    assert_eq!(profile.method, ProfileMethod::WallClock);
    assert!(profile.to_string().contains("no timestamps"), "{profile}");
    assert!(profile.micros() > 0.0);
}

#[test]
fn more_repetitions_take_longer() {
    for gpu in devices() {
        let (plan, picture) = (loaded(&gpu), picture());
        let inputs = [InputData::Words(&picture.words)];
        let time = |repeats| gpu.block_on(plan.time(&inputs, repeats)).unwrap();
        time(1);
        let (few, many) = (time(1), time(200));
        assert!(many > few, "{}: {few} s for one run, {many} s for 200", gpu.summary());
    }
}

#[test]
fn inputs_of_another_size_are_refused() {
    for gpu in devices() {
        let plan = loaded(&gpu);
        let refused = gpu.block_on(plan.profile(&[InputData::Words(&[0; 4])], 1));
        assert!(matches!(refused, Err(Error::Input { .. })), "{refused:?}");
    }
}
