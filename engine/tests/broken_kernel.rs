//! Kernels from outside: one that is right runs beside the engine's own and is certified, and one that is wrong, in a constant
//! or in what it says of itself, is caught by name. A run on a device never calls a twin.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use lampyris_engine::certify::{Prepared, Verdict};
use lampyris_engine::gpu::{AdapterChoice, ConstantStore, GpuOptions, GpuPlan, InputData, VariantChoice, adapters};
use lampyris_engine::kernels::elementwise::{Function, Unary};
use lampyris_engine::kernels::{
    Activation, Binding, Call, Caps, Case, Desc, Entry, HostTensor, Kernel, Launch, ShapeError, Source, Tier,
    Tolerance, Work, difference, fitting,
};
use lampyris_engine::{CpuPlan, Gpu, Plan, PlanBuilder};
use std::any::Any;
use std::sync::Arc;

/// `y = sign(x) max(|x| - threshold, 0)`, and after it what a test adds.
macro_rules! shader {
    ($threshold:literal, $extra:literal) => {
        concat!(
            "var<workgroup> table: array<f32, 64>;
             struct Params { count: u32, p0: u32, p1: u32, p2: u32 }
             @group(0) @binding(0) var<uniform> params: Params;
             @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
             @group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
             @compute @workgroup_size(64)
             fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                 let i = id.x;
                 if i < params.count {
                     y[i] = sign(x[i]) * max(abs(x[i]) - ",
            $threshold,
            ", vec4<f32>());
                 }
                 ",
            $extra,
            "
             }"
        )
    };
}

const fn source(label: &'static str, wgsl: &'static str, bindings: &'static [Binding]) -> Source {
    Source {
        kernel: "shrink",
        label,
        wgsl,
        choices: &[],
        numbers: &[],
        workgroup: [64, 1, 1],
        workgroup_bytes: 256,
        subgroup: 0,
        f16: false,
        params_bytes: 16,
        bindings,
    }
}

const BINDINGS: &[Binding] = &[Binding::Params, Binding::Read, Binding::Write];
static RIGHT: [Source; 1] = [source("right", shader!("0.25", ""), BINDINGS)];
static WRONG_CONSTANT: [Source; 1] = [source("wrong", shader!("0.2501", ""), BINDINGS)];
static WRONG_BINDINGS: [Source; 1] = [source("unbound", shader!("0.25", ""), &[Binding::Params, Binding::Read])];
static NOT_WGSL: [Source; 1] = [source("nonsense", "fn main( {", BINDINGS)];
static FAR_STORE: [Source; 1] = [source(
    "far",
    shader!(
        "0.25",
        "table[id.x + 1000000u * params.count] = 7.0; y[id.x + 4000000u * params.count] = table[id.x % 64u] * x[0];"
    ),
    BINDINGS,
)];

/// Soft thresholding at one quarter (Donoho 1995), with the shader that a test gives it.
#[derive(Debug, Clone, Copy)]
struct Shrink {
    sources: &'static [Source],
    /// The twin must not be called.
    no_twin: bool,
}

impl Kernel for Shrink {
    fn name(&self) -> &'static str {
        "shrink"
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        match inputs {
            [x] if *x == Desc::f32(x.shape.clone()) && !x.is_empty() => Ok(vec![x.clone()]),
            _ => Err(ShapeError::Count { kernel: "shrink", expected: "one f32 tensor", found: inputs.len() }),
        }
    }

    fn sources(&self) -> &'static [Source] {
        self.sources
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(self.sources, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let count = (call.inputs[0].words() / 4) as u32;
        let mut launch = Launch::new(call, vec![count, 0, 0, 0], [count.div_ceil(64), 1, 1]);
        launch.operands.truncate(source.bindings.len() - 1);
        launch
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        assert!(!self.no_twin, "a run on a device called the twin");
        let shrunk = |v: &f32| (f64::from(v.abs()) - 0.25).max(0.0).copysign(f64::from(*v)) as f32;
        let values: Vec<f32> = inputs[0].values().iter().map(shrunk).collect();
        vec![HostTensor::from_values(outputs[0].clone(), &values)]
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance { relative: 2.0 * f64::from(f32::EPSILON) }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 2.0 * call.inputs[0].len() as f64, bytes: lampyris_engine::kernels::traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn shrink(sources: &'static [Source]) -> Shrink {
    Shrink { sources, no_twin: false }
}

fn case(sources: &'static [Source]) -> Case {
    Case::noise("9x70", Tier::Short, shrink(sources), vec![Desc::f32([9, 70])])
}

/// Every adapter; with the engine's own shaders unchecked, as programs run them.
fn devices() -> Vec<Gpu> {
    let count = pollster::block_on(adapters()).len();
    let required = std::env::var("LAMPYRIS_REQUIRE").unwrap_or_default();
    assert!(count > 0 || !required.contains("adapters"), "LAMPYRIS_REQUIRE asks for adapters and there are none");
    if count == 0 {
        eprintln!("SKIPPED: no adapter; `cargo xtask test` installs software adapters");
    }
    let open = |index| Gpu::with(GpuOptions::default().adapter(AdapterChoice::Index(index)));
    (0..count).map(|index| pollster::block_on(open(index)).unwrap()).collect()
}

/// The certificate of some kernels on one device.
fn certified(gpu: &Gpu, entries: &[Entry]) -> Vec<Verdict> {
    let cases = entries.iter().flat_map(|entry| (entry.cases)()).filter(|case| case.tier == Tier::Short);
    let mut verdicts = Vec::new();
    for case in cases {
        let prepared = Prepared::new(&case).unwrap();
        for source in prepared.variants(gpu).unwrap() {
            verdicts.push(gpu.block_on(prepared.check(gpu, source)).unwrap());
        }
    }
    verdicts
}

/// The engine's own kernel, the one from outside, the engine's again.
fn plan(kernel: Shrink) -> Arc<Plan> {
    let mut builder = PlanBuilder::new();
    let x = builder.input("x", Desc::f32([3, 70]));
    let clip = Unary { function: Function::Clip { low: -0.7, high: 0.9 } };
    let y = builder.apply("clip", clip, &[x]).unwrap();
    let y = builder.apply("shrink", kernel, &[y]).unwrap();
    let relu = Unary { function: Function::Activation(Activation::Relu) };
    let z = builder.apply("relu", relu, &[y]).unwrap();
    builder.output("shrunk", y);
    builder.output("positive", z);
    Arc::new(builder.finish())
}

fn run(gpu: &Gpu, plan: &Arc<Plan>, input: &HostTensor) -> Vec<HostTensor> {
    let store = ConstantStore::new();
    let compiled = gpu.block_on(GpuPlan::new(gpu, plan.clone(), &store, VariantChoice::Best)).unwrap();
    gpu.block_on(compiled.run(&[InputData::Words(&input.words)])).unwrap()
}

#[test]
fn a_kernel_from_outside_runs_beside_the_engines_own() {
    let input =
        HostTensor::from_values(Desc::f32([3, 70]), &(0..210).map(|i| i as f32 / 105.0 - 1.0).collect::<Vec<_>>());
    let plan = plan(shrink(&RIGHT));
    let expected = CpuPlan::new(plan.clone()).unwrap().run(std::slice::from_ref(&input)).unwrap();
    assert_eq!(expected[0].values()[0], -0.45);
    for gpu in devices() {
        let found = run(&gpu, &plan, &input);
        let worst = difference(&expected, &found);
        assert!(worst.worst < 1e-6, "{}: {worst:?}", gpu.summary());
    }
}

#[test]
fn a_run_on_a_device_never_calls_a_twin() {
    let plan = plan(Shrink { sources: &RIGHT, no_twin: true });
    let input = HostTensor::from_values(Desc::f32([3, 70]), &[0.5; 210]);
    for gpu in devices() {
        let found = run(&gpu, &plan, &input);
        assert_eq!(found[0].values(), [0.25; 210], "{}", gpu.summary());
    }
}

#[test]
#[should_panic(expected = "called the twin")]
fn the_cpu_executor_does_call_it() {
    let input = HostTensor::from_values(Desc::f32([3, 70]), &[0.5; 210]);
    CpuPlan::new(plan(Shrink { sources: &RIGHT, no_twin: true })).unwrap().run(&[input]).unwrap();
}

#[test]
fn a_wrong_constant_is_caught_by_name_among_kernels_that_are_right() {
    let mut entries: Vec<Entry> = lampyris_engine::kernels::all();
    entries.retain(|entry| ["reshape", "softmax"].contains(&entry.name));
    entries.push(Entry { name: "shrink", sources: &RIGHT, cases: || vec![case(&RIGHT)] });
    for gpu in devices() {
        let right = certified(&gpu, &entries);
        assert!(right.len() > 3 && right.iter().all(Verdict::passed), "{}: {right:?}", gpu.summary());
        let broken = Entry { name: "shrink", sources: &WRONG_CONSTANT, cases: || vec![case(&WRONG_CONSTANT)] };
        let all = certified(&gpu, &[entries.clone(), vec![broken]].concat());
        let failed: Vec<&Verdict> = all.iter().filter(|verdict| !verdict.passed()).collect();
        let [verdict] = failed[..] else { panic!("{}: {failed:?}", gpu.summary()) };
        assert_eq!((&*verdict.kernel, &*verdict.variant, &*verdict.case), ("shrink", "wrong", "9x70"));
        assert!(verdict.failure.is_none() && verdict.worst_error > 1e-5 && verdict.worst_error < 1e-3, "{verdict:?}");
    }
}

#[test]
fn a_shader_that_is_not_what_it_says_is_a_verdict_and_the_device_lives_on() {
    for gpu in devices() {
        for sources in [&WRONG_BINDINGS, &NOT_WGSL] {
            let broken = Prepared::new(&case(sources)).unwrap();
            let verdict = gpu.block_on(broken.check(&gpu, &sources[0])).unwrap();
            assert!(!verdict.passed() && verdict.failure.is_some(), "{}: {verdict:?}", gpu.summary());
        }
        let right = Prepared::new(&case(&RIGHT)).unwrap();
        let verdict = gpu.block_on(right.check(&gpu, &RIGHT[0])).unwrap();
        assert!(verdict.passed(), "{}: {verdict:?}", gpu.summary());
    }
}

/// The engine runs its own shaders without run-time checks; nobody has promised that somebody else's need none. Without them
/// this test ends its process. (wgpu has no checks to offer on OpenGL.)
#[test]
fn a_kernel_from_outside_keeps_its_checks() {
    let prepared = Prepared::new(&case(&FAR_STORE)).unwrap();
    for gpu in devices().into_iter().filter(|gpu| gpu.summary().backend != "gl") {
        let found = gpu.block_on(prepared.run(&gpu, &FAR_STORE[0])).unwrap();
        let expected = case(&RIGHT).expected(&case(&RIGHT).tensors()).unwrap();
        let (found, expected) = (found[0].values(), expected[0].values());
        // A store beyond the end is dropped, or lands in the last four values.
        let worst =
            found.iter().zip(&expected).take(expected.len() - 4).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-6, "{}: {worst}", gpu.summary());
    }
}
