//! A device that disappears at any moment costs a plan an error that says so: no panic, no hang. Who asks a classifier notices nothing:
//! the engine opens another device, and the same comes of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::{fixture, full_tier, required, without_slow_compilers};
use lampyris::engine::Error as EngineError;
use lampyris::engine::gpu::{GpuPlan, InputData};
use lampyris::models::mobilenet::Pixels;
use lampyris::{
    AdapterChoice, AdapterSummary, Classifier, ClassifierOptions, Error, Gpu, GpuOptions, Input, Result, adapters,
};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const NETWORK: &str = "mobilenet_v3_small_w025";
const SIDE: u32 = 64;
/// After this long a moment of loss counts as hung. It takes a second or two; other programs may keep the machine busy.
const PATIENCE: Duration = Duration::from_secs(25);
/// Moments without a pattern at which a device is lost, in the short tier and in the full one.
const SHORT: u32 = 3;
const FULL: u32 = 24;

fn count() -> u32 {
    if full_tier() { FULL } else { SHORT }
}

/// Runs a case of each adapter, in the short tier of each that compiles quickly, in a thread of its own, so that a hang fails the test instead of stopping it.
fn on_adapters(case: fn(usize)) {
    let found = pollster::block_on(adapters());
    assert!(!found.is_empty() || !required("adapters"), "LAMPYRIS_REQUIRE asks for adapters and there are none");
    if found.is_empty() {
        eprintln!("SKIPPED: no adapter; `cargo xtask test` installs software adapters");
    }
    let named = |(_, adapter): &(usize, &AdapterSummary)| (adapter.name.clone(), adapter.backend.clone());
    for (index, adapter) in without_slow_compilers(found.iter().enumerate().collect(), named) {
        let (done, finished) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            case(index);
            done.send(()).unwrap();
        });
        match finished.recv_timeout(PATIENCE * (count() + 4)) {
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{adapter} hangs"),
            _ => thread.join().unwrap_or_else(|_| panic!("the case failed on {adapter}")),
        }
    }
}

fn open(index: usize) -> Gpu {
    pollster::block_on(Gpu::with(GpuOptions::default().adapter(AdapterChoice::Index(index)))).unwrap()
}

fn picture() -> Vec<u8> {
    (0..SIDE * SIDE * 4).map(|i| (i * 5 + i / 300) as u8).collect()
}

fn logits(gpu: &Gpu, classifier: &Classifier) -> Result<Vec<f32>> {
    Ok(gpu.block_on(classifier.classify(Input::rgba8(picture(), SIDE, SIDE)))?.logits)
}

/// What a healthy device of this adapter says, and how long loading and classifying take.
fn healthy(index: usize) -> (Vec<f32>, Duration, Duration) {
    let gpu = open(index);
    let start = Instant::now();
    let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
    let load = start.elapsed();
    let said = logits(&gpu, &classifier).unwrap();
    let start = Instant::now();
    assert_eq!(logits(&gpu, &classifier).unwrap(), said);
    (said, load, start.elapsed())
}

fn expect_lost<T>(result: Result<T>, when: &str) {
    match result {
        Err(Error::Engine(EngineError::DeviceLost { .. })) => {}
        Err(other) => panic!("{when}: {other:?}"),
        Ok(_) => panic!("{when}: a result from a lost device"),
    }
}

/// A plan on a lost device says so, and all that is asked of a classifier is answered on another one.
fn expect_another(gpu: &Gpu, classifier: &Classifier, plan: Option<&GpuPlan>, expected: &[f32]) {
    assert_eq!(logits(gpu, classifier).unwrap(), expected, "classifying");
    assert_eq!(logits(gpu, classifier).unwrap(), expected, "classifying again");
    let current = gpu.current();
    assert!(!current.is_same_device(gpu) && gpu.check_alive().is_err() && current.check_alive().is_ok());
    assert!(gpu.block_on(classifier.executor(3, Pixels::Rgba8)).unwrap().is_on(&current));
    gpu.block_on(classifier.prepared_pixels(Input::rgba8(picture(), SIDE, SIDE))).unwrap();
    let loaded = gpu.block_on(Classifier::load(gpu, &fixture(NETWORK))).unwrap();
    assert_eq!(logits(gpu, &loaded).unwrap(), expected, "a classifier that is loaded by the handle of the lost device");
    if let Some(plan) = plan {
        let words = vec![0; (SIDE * SIDE) as usize];
        expect_lost(gpu.block_on(plan.run(&[InputData::Words(&words)])).map_err(Error::Engine), "a plan");
    }
}

/// Parts of a duration, spread without a pattern and the same at every run.
fn moments(whole: Duration) -> Vec<Duration> {
    let mut state = 0x2545_f491_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        whole.mul_f64(f64::from(state >> 8) / f64::from(1 << 24))
    };
    (0..count()).map(next).collect()
}

/// Destroys a device after a while, from another thread.
fn destroy_after(gpu: &Gpu, delay: Duration) -> std::thread::JoinHandle<()> {
    let device = gpu.device().unwrap().clone();
    std::thread::spawn(move || {
        std::thread::sleep(delay);
        device.destroy();
    })
}

#[test]
fn before_a_run() {
    on_adapters(|index| {
        let (expected, ..) = healthy(index);
        let gpu = open(index);
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        assert_eq!(logits(&gpu, &classifier).unwrap(), expected);
        let executor = gpu.block_on(classifier.executor(1, Pixels::Rgba8)).unwrap();
        gpu.device().unwrap().destroy();
        expect_another(&gpu, &classifier, Some(executor.gpu_plan().unwrap()), &expected);
    });
}

#[test]
fn while_loading() {
    on_adapters(|index| {
        let (expected, load, _) = healthy(index);
        for share in [0.0, 0.5, 1.0] {
            let gpu = open(index);
            let device = gpu.device().unwrap().clone();
            let mut destroyed = false;
            let path = fixture(NETWORK);
            let loading = Classifier::load_with(&gpu, &path, ClassifierOptions::default(), |arrived| {
                if arrived >= share && !std::mem::replace(&mut destroyed, true) {
                    device.destroy();
                }
            });
            let loaded = gpu.block_on(loading).unwrap();
            assert!(destroyed);
            assert_eq!(logits(&gpu, &loaded).unwrap(), expected, "lost at {share}");
        }
        for delay in moments(load) {
            let gpu = open(index);
            let destroyer = destroy_after(&gpu, delay);
            let loaded = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK)));
            destroyer.join().unwrap();
            expect_another(&gpu, &loaded.unwrap(), None, &expected);
        }
    });
}

#[test]
fn between_submit_and_wait() {
    on_adapters(|index| {
        let (said, _, run) = healthy(index);
        let words: Vec<u32> = picture().chunks_exact(4).map(|p| u32::from_le_bytes(p.try_into().unwrap())).collect();
        for delay in [Duration::ZERO].into_iter().chain(moments(run)) {
            let gpu = open(index);
            let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
            let executor = gpu.block_on(classifier.executor(1, Pixels::Rgba8)).unwrap();
            let plan = executor.gpu_plan().unwrap();
            let plan = plan.clone();
            let expected = gpu.block_on(plan.run(&[InputData::Words(&words)])).unwrap()[0].values();
            let pending = plan.submit(&[InputData::Words(&words)], &[]).unwrap();
            let destroyer = destroy_after(&gpu, delay);
            if delay.is_zero() {
                destroyer.join().unwrap();
                finished_or_lost(gpu.block_on(pending.wait()).map(|o| o[0].values()), &expected, delay);
            } else {
                finished_or_lost(gpu.block_on(pending.wait()).map(|o| o[0].values()), &expected, delay);
                destroyer.join().unwrap();
            }
            expect_another(&gpu, &classifier, Some(&plan), &said);
        }
    });
}

/// A run that was under way when its device was lost either had finished, rightly, or tells of the loss.
fn finished_or_lost(result: Result<Vec<f32>, EngineError>, expected: &[f32], delay: Duration) {
    match result {
        Ok(found) => assert_eq!(found, expected, "lost after {delay:?}: a result, and a wrong one"),
        lost => expect_lost(lost.map_err(Error::Engine), &format!("running, lost after {delay:?}")),
    }
}

#[test]
fn while_a_run_is_polled() {
    on_adapters(|index| {
        let (expected, ..) = healthy(index);
        let gpu = open(index);
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let executor = gpu.block_on(classifier.executor(1, Pixels::Rgba8)).unwrap();
        let words = vec![0; (SIDE * SIDE) as usize];
        let mut pending = executor.gpu_plan().unwrap().submit(&[InputData::Words(&words)], &[]).unwrap();
        gpu.device().unwrap().destroy();
        let result = loop {
            gpu.pump();
            match pending.try_take() {
                Some(result) => break result,
                None => std::thread::yield_now(),
            }
        };
        if result.is_err() {
            expect_lost(result.map_err(Error::Engine), "polling");
        }
        expect_another(&gpu, &classifier, None, &expected);
    });
}
