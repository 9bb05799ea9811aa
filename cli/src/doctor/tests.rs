//! The certificate can fail: a kernel whose shader is broken on purpose is named, and the exit code is 1.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use super::adapters::{Adapter, table};
use super::certificate::{self, Checked, Extent, verdict};
use super::open;
use crate::failure::Failure;
use lampyris::engine::kernels::{
    Binding, Call, Caps, Case, Desc, Entry, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    traffic,
};
use lampyris::{AdapterChoice, AdapterSummary, Gpu, GpuOptions, adapters, engine};
use std::any::Any;

const HONEST: &str = "
struct Params { words: u32, a: u32, b: u32, c: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < params.words) { y[id.x] = 2.0 * x[id.x]; }
}";

/// As the honest one, but wrong for one element.
const BROKEN: &str = "
struct Params { words: u32, a: u32, b: u32, c: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < params.words) { y[id.x] = 2.0 * x[id.x] + select(0.0, 0.01, id.x == 7u); }
}";

const fn source(label: &'static str, wgsl: &'static str) -> Source {
    Source {
        kernel: "twice",
        label,
        wgsl,
        choices: &[],
        numbers: &[],
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
        subgroup: 0,
        f16: false,
        params_bytes: 16,
        bindings: &[Binding::Params, Binding::Read, Binding::Write],
    }
}

static SOURCES: [Source; 3] =
    [source("honest", HONEST), source("broken", BROKEN), source("not_wgsl", "fn main() -> nonsense { }")];

/// Doubles, with the shader at `SOURCES[self.0]`.
#[derive(Debug)]
struct Twice(usize);

impl Kernel for Twice {
    fn name(&self) -> &'static str {
        "twice"
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        Ok(inputs.to_vec())
    }

    fn sources(&self) -> &'static [Source] {
        &SOURCES
    }

    fn candidates(&self, _: &Call<'_>, _: &Caps) -> Vec<&'static Source> {
        vec![&SOURCES[self.0]]
    }

    fn launch(&self, call: &Call<'_>, _: &Source) -> Launch {
        let words = call.outputs[0].words() as u32;
        Launch::new(call, vec![words, 0, 0, 0], [words.div_ceil(64), 1, 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let doubled: Vec<f32> = inputs[0].values().iter().map(|x| 2.0 * x).collect();
        vec![HostTensor::from_values(outputs[0].clone(), &doubled)]
    }

    fn tolerance(&self, _: &Call<'_>) -> Tolerance {
        Tolerance { relative: 1e-6 }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: call.outputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn entry(cases: fn() -> Vec<Case>) -> Entry {
    Entry { name: "twice", sources: &SOURCES, cases }
}

fn case(at: usize) -> Vec<Case> {
    vec![Case::noise("sixteen", Tier::Short, Twice(at), vec![Desc::f32([16])])]
}

/// Every adapter's device; `LAMPYRIS_REQUIRE=adapters` makes their absence an error.
fn devices() -> Vec<Gpu> {
    let count = pollster::block_on(adapters()).len();
    let required =
        std::env::var("LAMPYRIS_REQUIRE").is_ok_and(|list| list.split(',').any(|word| word.trim() == "adapters"));
    assert!(count > 0 || !required, "LAMPYRIS_REQUIRE asks for adapters and there are none");
    if count == 0 {
        eprintln!("SKIPPED: no adapter");
    }
    let open = |at| pollster::block_on(Gpu::with(GpuOptions::default().adapter(AdapterChoice::Index(at)))).unwrap();
    (0..count).map(open).collect()
}

fn certify(gpu: &Gpu, entries: &[Entry]) -> Checked {
    let again = || pollster::block_on(Gpu::with(gpu.options().clone()));
    certificate::certify(gpu, &again, entries, Extent::Short).unwrap()
}

fn lines(checked: &Checked) -> Vec<serde_json::Value> {
    checked.lines(false).map(|line| serde_json::to_value(line).unwrap()).collect()
}

#[test]
fn a_broken_kernel_is_named_and_fails_the_certificate() {
    for gpu in devices() {
        let honest = certify(&gpu, &[entry(|| case(0))]);
        verdict(&[honest]).unwrap();
        let both = certify(&gpu, &[entry(|| case(0)), entry(|| case(1))]);
        let table = both.table();
        let failure = verdict(&[both]).unwrap_err();
        assert_eq!(failure.code(), 1);
        let Failure::Certificate { failed: 1, total: 2, first } = &failure else { panic!("{failure}") };
        assert!(first.starts_with("twice (broken, case sixteen)"), "{first}");
        assert!(table.contains("FAILED twice broken sixteen") && table.contains("1 FAILED"), "{table}");
    }
}

#[test]
fn a_shader_that_the_driver_refuses_fails_and_leaves_the_rest_to_be_checked() {
    for gpu in devices() {
        let all = [entry(|| case(2)), entry(|| case(0))];
        let checked = certify(&gpu, &all);
        let lines = lines(&checked);
        assert_eq!((&lines[0]["verdict"], &lines[1]["verdict"]), (&"fail".into(), &"pass".into()));
        assert!(lines[0]["worst_error"].is_null() && lines[0]["failure"].is_string(), "{}", lines[0]);
        assert_eq!(verdict(&[checked]).unwrap_err().code(), 1);
    }
}

/// Cases of the honest shader, by number.
fn many() -> Vec<Case> {
    let case = |at| Case::noise(format!("number {at}"), Tier::Short, Twice(0), vec![Desc::f32([16])]);
    (0..6).map(case).collect()
}

#[test]
fn a_check_that_loses_the_device_fails_by_name_and_the_rest_goes_on() {
    for gpu in devices() {
        gpu.notify_lost("the kernel hangs");
        let checked = certify(&gpu, &[entry(many)]);
        let lines = lines(&checked);
        let verdicts: Vec<&str> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
        assert_eq!(verdicts, ["fail", "pass", "pass", "pass", "pass", "pass"]);
        assert!(lines[0]["failure"].as_str().unwrap().contains("the kernel hangs"), "{}", lines[0]);
        assert_eq!(checked.unreached(), None);
        let failure = verdict(&[checked]).unwrap_err();
        let Failure::Certificate { failed: 1, total: 6, first } = &failure else { panic!("{failure}") };
        assert!(first.starts_with("twice (honest, case number 0)") && first.contains("the kernel hangs"), "{first}");
    }
}

#[test]
fn a_device_that_is_always_lost_is_given_up() {
    for gpu in devices() {
        gpu.notify_lost("the driver is gone");
        let again = || Ok(gpu.clone());
        let checked = certificate::certify(&gpu, &again, &[entry(many)], Extent::Short).unwrap();
        let verdicts: Vec<serde_json::Value> = lines(&checked).iter().map(|line| line["verdict"].clone()).collect();
        assert_eq!(verdicts, ["fail", "fail", "fail", "fail", "not reached", "not reached"]);
        let said = checked.unreached().unwrap();
        assert!(
            said.starts_with("2 checks of 1 variants were not reached because the device was lost 4 times"),
            "{said}"
        );
        assert_eq!(verdict(&[checked]).unwrap_err().code(), 1);
    }
}

#[test]
fn an_adapter_that_cannot_be_opened_is_listed_with_the_reason_and_hides_no_other() {
    let named = |name: &str| AdapterSummary { name: name.to_owned(), ..AdapterSummary::cpu_executor() };
    let found = ["first", "second", "third"].map(named);
    let listed = || -> Vec<Adapter> { found.iter().enumerate().map(|(at, one)| Adapter::new(at, one)).collect() };
    let with = |choice: AdapterChoice| match choice {
        AdapterChoice::Index(1) | AdapterChoice::Name(_) => {
            Err(engine::Error::NoDevice { adapter: "second".to_owned(), reason: "it is busy".to_owned() })
        }
        _ => Ok(Gpu::cpu_executor()),
    };
    for (choices, opened) in [
        ((0..3).map(AdapterChoice::Index).collect(), 2),
        (vec![AdapterChoice::Index(1)], 0),
        (vec![AdapterChoice::Name("SECOND".to_owned())], 0),
    ] {
        let mut adapters = listed();
        let (devices, unopened) = open(choices, &found, &mut adapters, &with).unwrap();
        assert_eq!(devices.len(), opened);
        let failure = Failure::from(unopened.unwrap());
        assert!(failure.code() == 1 && failure.to_string().contains("it is busy"), "{failure}");
        let json = serde_json::to_value(&adapters).unwrap();
        assert!(json[1]["failure"].as_str().unwrap().contains("it is busy"), "{json}");
        assert!(json[0].get("failure").is_none() && json[2].get("failure").is_none(), "{json}");
        let text = table(&adapters);
        assert!(text.contains("third") && text.contains("FAILED    adapter second refused"), "{text}");
    }
    // Whoever names none of them has mistyped, and is told so instead of being shown a list.
    assert!(open(vec![AdapterChoice::Name("no such".to_owned())], &found, &mut listed(), &with).is_err());
}
