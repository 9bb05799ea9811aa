//! A classifier keeps what the batches used last need and no more, and gives the same answers with what it makes again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{devices, fixture};
use lampyris::engine::gpu::Loading;
use lampyris::models::mobilenet::Pixels;
use lampyris::{Budget, Classifier, Gpu, GpuOptions, Input};
use std::time::Duration;

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
    for host in crate::support::host::hosts() {
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

/// A picture that is too large for the device is made as small as the network's input beforehand, and is not one that was so small from the beginning.
#[test]
fn what_was_resized_before_is_not_resized_again() {
    const LARGE: u32 = 1100;
    for host in crate::support::host::hosts() {
        let (free, tight) = (host.guest(), host.binding(4 << 20));
        let fresh = |gpu: &Gpu| gpu.block_on(Classifier::load(gpu, &fixture(NETWORK))).unwrap();
        let side = fresh(&free).preprocess().crop;
        let picture = |side: u32| {
            Input::rgba8((0..side * side * 4).map(|i| (i * 7 + i / 90) as u8).collect::<Vec<u8>>(), side, side)
        };
        let [small, large] = [side, LARGE].map(picture);
        let logits = |classifier: &Classifier, input: &Input<'_>| {
            classifier.gpu().block_on(classifier.classify(input.clone())).unwrap().logits
        };
        let gpu = tight.guest();
        let expected = [&small, &large].map(|input| logits(&fresh(&gpu), input));
        assert_ne!(expected[0], expected[1], "{}", host.name);
        for order in [[0, 1, 0], [1, 0, 1]] {
            let classifier = fresh(&gpu);
            for which in order {
                let found = logits(&classifier, [&small, &large][which]);
                assert_eq!(found, expected[which], "{}: {which} of {order:?}", host.name);
            }
        }
    }
}

/// A host binds the probabilities in its own shader once, and they are the last picture's whatever else is classified meanwhile: on its first
/// device, and on another one where they are asked for while the classifier goes there in the gaps between frames.
#[test]
fn the_buffer_of_the_probabilities_stays() {
    for mut host in crate::support::host::hosts() {
        let mut gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let picture = |shade: u8| Input::rgba8(vec![shade; 90 * 70 * 4], 90, 70);
        for round in 0..2 {
            if round == 1 {
                host.device.destroy();
                gpu.notify_lost("the host destroyed it");
                host = host.another();
                gpu.replace_device(&host.adapter, &host.device, &host.queue).unwrap();
            }
            let eyes = classifier.clone();
            let mut loading = Loading::new(async move { eyes.ready(Input::rgba8(vec![0; 90 * 70 * 4], 90, 70)).await });
            let first = loading.tick(&mut Budget::gpu(Duration::from_micros(20))).unwrap();
            assert!(first.is_none() || round == 0, "{}: it goes there in a single tick", host.name);
            let (buffer, offset, bytes) = classifier.probabilities_buffer().unwrap();
            while loading.has_work() {
                loading.tick(&mut Budget::gpu(Duration::from_micros(20))).unwrap();
            }
            for images in 2..=KEPT + 2 {
                gpu.block_on(classifier.classify_batch(&vec![picture(9); images])).unwrap();
            }
            let expected = gpu.block_on(classifier.classify(picture(200))).unwrap().probabilities;
            let found = host.read((&buffer, offset, bytes));
            let found: Vec<f32> = found.chunks_exact(4).map(|it| f32::from_le_bytes(it.try_into().unwrap())).collect();
            assert_eq!(found[..expected.len()], expected, "{}, device {round}", host.name);
        }
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
