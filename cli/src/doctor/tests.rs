//! The certificate can fail: a kernel whose shader is broken on purpose is named, and the exit code is 1.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use super::certificate::{Extent, certify, verdict};
use crate::failure::Failure;
use lampyris::engine::kernels::{
    Binding, Call, Caps, Case, Desc, Entry, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    traffic,
};
use lampyris::{AdapterChoice, Gpu, GpuOptions, adapters};
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

#[test]
fn a_broken_kernel_is_named_and_fails_the_certificate() {
    for gpu in devices() {
        let honest = certify(&gpu, &[entry(|| case(0))], Extent::Short).unwrap();
        verdict(&[honest]).unwrap();
        let both = certify(&gpu, &[entry(|| case(0)), entry(|| case(1))], Extent::Short).unwrap();
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
        let checked = certify(&gpu, &all, Extent::Short).unwrap();
        let lines: Vec<serde_json::Value> =
            checked.lines(false).map(|line| serde_json::to_value(line).unwrap()).collect();
        assert_eq!((&lines[0]["verdict"], &lines[1]["verdict"]), (&"fail".into(), &"pass".into()));
        assert!(lines[0]["worst_error"].is_null() && lines[0]["failure"].is_string(), "{}", lines[0]);
        assert_eq!(verdict(&[checked]).unwrap_err().code(), 1);
    }
}
