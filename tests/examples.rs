//! The examples do what they say: each runs here, on the best adapter of this machine, with a network of noise.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

#[allow(dead_code, reason = "the example's own main")]
#[path = "../examples/bisect.rs"]
mod bisect;
#[allow(dead_code, reason = "the example's own main")]
#[path = "../examples/classify.rs"]
mod classify;
#[allow(dead_code, reason = "the example's own main")]
#[path = "../examples/custom_kernel.rs"]
mod custom_kernel;
#[allow(dead_code, reason = "the example's own main")]
#[path = "../examples/guest.rs"]
mod guest;
#[allow(dead_code, reason = "the example's own main")]
#[path = "../examples/own_device.rs"]
mod own_device;
#[allow(dead_code, reason = "the example's own main")]
#[path = "../examples/story.rs"]
mod story;

use lampyris::engine::certify::Verdict;
use lampyris::{AdapterChoice, Classifier, Gpu, GpuOptions};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/mobilenet/mobilenet_v3_small_w025");
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/picture.png");

/// The best adapter, or nothing and a printed skip.
fn gpu() -> Option<Gpu> {
    let gpu = pollster::block_on(Gpu::new()).unwrap();
    if gpu.is_cpu_executor() {
        assert!(!support::required("adapters"), "LAMPYRIS_REQUIRE asks for adapters and there are none");
        eprintln!("SKIPPED: no adapter; `cargo xtask test` installs software adapters");
        return None;
    }
    Some(gpu)
}

#[test]
fn classify_lists_five_classes() {
    let text = pollster::block_on(classify::run(MODEL, PICTURE)).unwrap();
    let shares: Vec<f64> = text.lines().map(|line| line.split('%').next().unwrap().trim().parse().unwrap()).collect();
    assert_eq!(shares.len(), 5, "{text}");
    assert!(shares.is_sorted_by(|a, b| a >= b) && shares[0] > 10.0, "{text}");
    let missing = pollster::block_on(classify::run("no-such-model", PICTURE)).unwrap_err().to_string();
    assert!(missing.contains("no-such-model"), "{missing}");
}

/// A texture of the host's device gives what the same pixels give in memory, and the host went on drawing.
#[test]
fn a_guest_on_the_hosts_device_sees_what_the_host_sees() {
    if gpu().is_none() {
        return;
    }
    let (answer, frames) = own_device::run(MODEL, PICTURE).unwrap();
    assert!(frames > 2, "{frames} frames");
    let cpu = pollster::block_on(Gpu::with(GpuOptions::default().adapter(AdapterChoice::Cpu))).unwrap();
    let classifier = pollster::block_on(Classifier::load(&cpu, MODEL)).unwrap();
    let expected = pollster::block_on(classifier.classify(&image::open(PICTURE).unwrap())).unwrap();
    let worst =
        answer.probabilities.iter().zip(&expected.probabilities).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4, "{worst}");
    assert_eq!(answer.top(1)[0].index, expected.top(1)[0].index);
}

/// The bare host of the README: its picture is named and its character talks, in frames that it submits itself.
#[test]
fn a_bare_host_sees_answers_in_its_own_frames() {
    if gpu().is_none() {
        return;
    }
    let outcome = pollster::block_on(guest::run(24)).unwrap();
    assert_eq!(outcome.named, "fish");
    assert!(outcome.said.split_whitespace().count() > 8 && outcome.frames > 2, "{outcome:?}");
}

/// What the README shows of a host, line by line, is what the example does.
#[test]
fn the_readme_shows_lines_of_the_bare_host() {
    let example = include_str!("../examples/guest.rs").lines().map(str::trim).collect::<Vec<_>>();
    for (page, section) in
        [(include_str!("../README.md"), "## In your game"), (include_str!("../docs/guest.md"), "## The whole of it")]
    {
        let after = page.split_once(section).unwrap().1;
        let block = after.split_once("```rust,ignore\n").unwrap().1.split_once("```").unwrap().0;
        let shown: Vec<&str> = block.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert!(shown.len() >= 10, "{shown:?}");
        let mut from = 0;
        for line in shown {
            let found = example[from..].iter().position(|other| *other == line);
            from +=
                found.unwrap_or_else(|| panic!("{section}: '{line}' is not in the example, or not in this place")) + 1;
        }
    }
}

#[test]
fn bisect_finds_no_step_that_differs() {
    let Some(gpu) = gpu() else { return };
    let comparison = bisect::run(&gpu, MODEL).unwrap();
    assert!(comparison.agrees(), "{comparison}");
    assert_eq!(comparison.steps.len(), 47);
}

#[test]
fn a_kernel_of_ones_own_is_certified_and_runs() {
    let cpu = pollster::block_on(Gpu::with(GpuOptions::default().adapter(AdapterChoice::Cpu))).unwrap();
    for gpu in [Some(cpu), gpu()].into_iter().flatten() {
        let verdicts = custom_kernel::certify(&gpu).unwrap();
        assert_eq!(verdicts.len(), if gpu.is_cpu_executor() { 0 } else { 4 });
        assert!(verdicts.iter().all(Verdict::passed), "{verdicts:?}");
        assert_eq!(custom_kernel::run(&gpu).unwrap(), [0.0, 0.0, 0.0, 0.0, 0.0, 1.25]);
    }
}

#[test]
fn a_story_is_told_without_any_file() {
    let cpu = Gpu::cpu_executor();
    let text = pollster::block_on(story::run(&cpu, "Tell me a story.", 24)).unwrap();
    assert!(text.split_whitespace().count() > 8, "{text}");
}
