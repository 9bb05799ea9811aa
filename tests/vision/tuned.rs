//! The forms meant for real GPUs, run where there is none: a network with measured variants, and with the depthwise
//! convolutions fused into the projections, gives the recorded logits too.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{Tensors, channels_last, fixture, relative};
use lampyris::engine::Executor;
use lampyris::engine::gpu::ConstantStore;
use lampyris::engine::kernels::{Desc, HostTensor};
use lampyris::models::mobilenet::{Pixels, PlanRequest, Precision};
use lampyris::{AdapterChoice, Classifier, Gpu, GpuOptions, VariantSet, adapters};
use std::sync::Arc;

const SIDE: usize = 64;
const NETWORK: &str = "mobilenet_v2_w025";

fn reference() -> (Vec<f32>, Vec<f32>) {
    let pixels = channels_last(&Tensors::open(&fixture("pixels.safetensors")).f32("pixels"), SIDE);
    (pixels, Tensors::open(&fixture(NETWORK).join("reference.safetensors")).f32("logits"))
}

#[test]
fn measured_choices_give_the_recorded_logits() {
    let (pixels, logits) = reference();
    for index in 0..pollster::block_on(adapters()).len() {
        let cache = tempfile::tempdir().unwrap();
        let options = GpuOptions::default().variants(VariantSet::RealGpu).cache(cache.path());
        let gpu = pollster::block_on(Gpu::with(options.adapter(AdapterChoice::Index(index)))).unwrap();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let answers = gpu.block_on(classifier.classify_normalized(&pixels)).unwrap();
        let found: Vec<f32> = answers.iter().flat_map(|answer| answer.logits.clone()).collect();
        let error = relative(&found, &logits);
        assert!(error <= 1e-3, "{}: {error:e} off", gpu.summary());
        let kept = std::fs::read_dir(cache.path()).unwrap().map(|file| file.unwrap().path());
        let kept = kept.filter_map(|file| std::fs::read_to_string(file).ok()).collect::<String>();
        assert!(kept.contains("\"plans "), "{}: no whole plan was timed: {kept}", gpu.summary());
    }
}

#[test]
fn fused_depthwise_gives_the_recorded_logits_in_fewer_dispatches() {
    let (pixels, logits) = reference();
    let network = lampyris::models::classifier::open_network(&(&fixture(NETWORK)).into()).unwrap();
    let request = PlanRequest {
        images: 2,
        side: SIDE,
        pixels: Pixels::Normalized,
        precision: Precision::F32,
        top: 5,
        fuse_depthwise: true,
    };
    let fused = Arc::new(network.plan(request).unwrap());
    let apart = network.plan(PlanRequest { fuse_depthwise: false, ..request }).unwrap();
    assert_eq!((apart.steps.len(), fused.steps.len()), (55, 38));
    let input = HostTensor::from_values(Desc::f32([2, SIDE, SIDE, 3]), &pixels);
    for (name, gpu) in crate::support::devices() {
        let store = ConstantStore::new();
        let executor = gpu.block_on(Executor::new(&gpu, fused.clone(), &store, |_| ())).unwrap();
        let outputs = gpu.block_on(executor.run(std::slice::from_ref(&input))).unwrap();
        let error = relative(&outputs[0].values(), &logits);
        assert!(error <= 1e-3, "{name}: {error:e} off");
    }
}
