//! A classifier keeps what the batches used last need and no more, and gives the same answers with what it makes again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::models::mobilenet::Pixels;
use lampyris::{Classifier, GpuOptions, Input};
use support::{devices, fixture};

const NETWORK: &str = "mobilenet_v3_small_w025";
/// How many batch sizes are kept.
const KEPT: usize = 4;

#[test]
fn only_the_batch_sizes_used_last_are_kept() {
    for (name, gpu) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        let before = gpu.held_bytes();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let side = classifier.preprocess().crop as usize;
        for images in 1..=KEPT + 2 {
            gpu.block_on(classifier.classify_normalized(&vec![0.5; images * side * side * 3])).unwrap();
        }
        let alone = |images: usize| {
            let bytes = classifier.plan(images, Pixels::Normalized).unwrap().bytes();
            bytes.total() - bytes.weights
        };
        let kept: u64 = (3..=KEPT + 2).map(alone).sum();
        assert_eq!(gpu.held_bytes() - before, classifier.weight_bytes() + kept, "{name}");
        drop(classifier);
        assert_eq!(gpu.held_bytes(), before, "{name}");
    }
}

#[test]
fn what_is_made_again_gives_the_same_answers() {
    let pixels: Vec<u8> = (0..90 * 70 * 4).map(|i| (i * 7 + i / 90) as u8).collect();
    for (name, gpu) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let logits = |images: usize| {
            let inputs = vec![Input::rgba8(pixels.as_slice(), 90, 70); images];
            let answers = gpu.block_on(classifier.classify_batch(&inputs)).unwrap();
            answers.into_iter().map(|answer| answer.logits).collect::<Vec<_>>()
        };
        let first = logits(1);
        (2..=KEPT + 1).for_each(|images| assert_eq!(logits(images).len(), images));
        assert_eq!(logits(1), first, "{name}");
    }
}

#[test]
fn a_guest_is_held_to_its_options() {
    for host in support::host::hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let needed = gpu.held_bytes();
        drop(classifier);
        let cache = tempfile::tempdir().unwrap();
        for (budget, enough) in [(needed, true), (needed - 1, false)] {
            let options = GpuOptions::default().budget(budget).cache(cache.path());
            let gpu = lampyris::Gpu::from_device_with(&host.adapter, &host.device, &host.queue, options).unwrap();
            let loaded = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK)));
            assert_eq!(loaded.is_ok(), enough, "{}: {budget} bytes", host.name);
        }
        let keeps = host.device.features().contains(lampyris::wgpu::Features::PIPELINE_CACHE);
        let kept = std::fs::read_dir(cache.path()).unwrap().count();
        assert_eq!(kept > 0, keeps, "{}: {kept} files of compiled kernels", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// What prepares pictures is made for a size of them, and a classifier has that for sixteen sizes, what it drives for four.
#[test]
fn what_prepares_the_sizes_used_last_is_kept() {
    const SIZES: u32 = 16;
    for (name, gpu) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let picture = |side: u32| Input::rgba8(vec![90; (side * side * 4) as usize], side, side);
        let made = |side: u32| {
            let before = gpu.allocations();
            gpu.block_on(classifier.classify(picture(side))).unwrap();
            gpu.allocations() - before
        };
        made(40);
        let known = made(40);
        // A camera's pictures between twice as many others.
        for other in 41..=40 + 2 * SIZES {
            assert!(made(other) > known, "{name}: {other} was there already");
            assert_eq!(made(40), known, "{name}: the camera's went for {other}");
        }
        assert_eq!(made(40 + 2 * SIZES), known, "{name}: the last one is kept");
        assert!(made(41) > known, "{name}: the first one is not");

        let Ok(mut eyes) = gpu.block_on(classifier.driven()) else { panic!("no driven classifier on {name}") };
        let mut made = |side: u32| {
            let before = gpu.allocations();
            gpu.block_on(eyes.ready(picture(side))).unwrap();
            gpu.allocations() - before
        };
        // Of four, 42 is the one that was not used for longest when a fifth comes.
        for side in [40, 41, 42, 43, 40, 41, 44] {
            made(side);
        }
        assert_eq!([40, 41, 43, 44].map(&mut made), [0; 4], "{name}: these are kept");
        assert!(made(42) > 0, "{name}: this is not");
    }
}
