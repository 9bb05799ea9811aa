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
    let Some(gpu) = gpu() else { return };
    let (answer, frames) = own_device::run(MODEL, PICTURE).unwrap();
    // One while it loads and one while it looks; through OpenGL a submit returns when all is done, elsewhere the answer comes in a later frame.
    let least = if gpu.summary().backend == "gl" { 2 } else { 3 };
    assert!(frames >= least, "{frames} frames");
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
    let (named, said) = pollster::block_on(guest::run(24, None)).unwrap();
    assert_eq!(named, "circle");
    assert!(said.split_whitespace().count() > 8, "{said}");
    for lost in [0, 3] {
        let again = pollster::block_on(guest::run(24, Some(lost))).unwrap();
        assert_eq!(again, (named.clone(), said.clone()), "where the device is lost before frame {lost}");
    }
}

/// A fenced block of a page behind a heading.
fn block<'a>(page: &'a str, heading: &str, fence: &str) -> &'a str {
    let after = page.split_once(heading).unwrap().1;
    after.split_once(&format!("```{fence}\n")).unwrap().1.split_once("```").unwrap().0
}

/// What the pages show of a host compiles with their documentation's tests; and it is the example, which runs above: the guide shows
/// all of it, the README without what stands around the frames.
#[test]
fn the_pages_show_the_bare_host_as_it_is() {
    let example = include_str!("../examples/guest.rs").split_once("\n\n").unwrap().1;
    assert_eq!(block(include_str!("../docs/guest.md"), "## The whole of it", "rust,no_run"), example);
    let readme = block(include_str!("../README.md"), "## In your game", "rust,no_run");
    assert!(example.starts_with(readme) && readme.contains("npc.tick("), "{readme}");
}

/// The features that the pages tell a guest to ask for are there, and are those that the lines below them need.
#[test]
fn the_pages_name_features_that_there_are() {
    let features = include_str!("../Cargo.toml").split_once("[features]").unwrap().1.split_once("\n[").unwrap().0;
    let there: Vec<&str> = features.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).collect();
    for (page, heading) in
        [(include_str!("../README.md"), "## In your game"), (include_str!("../docs/guest.md"), "## The whole of it")]
    {
        let lines = block(page, heading, "toml");
        let asked = lines.split_once("features = [").unwrap().1.split_once(']').unwrap().0;
        let asked: Vec<&str> = asked.split(", ").map(|name| name.trim_matches('"')).collect();
        assert_eq!(asked, ["bundled", "text"], "{heading}");
        assert!(asked.iter().all(|name| there.contains(name)), "{asked:?} of {there:?}");
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
