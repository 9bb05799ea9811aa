//! A kernel of one's own: a shader, its twin in plain Rust, and the certificate that they agree on this machine's adapter.
//! Nothing in Lampyris knows it, and it runs in a plan like those that Lampyris knows.
//!
//! `cargo run --release --example custom_kernel`

use lampyris::Gpu;
use lampyris::engine::certify::{Prepared, Verdict};
use lampyris::engine::gpu::ConstantStore;
use lampyris::engine::kernels::elementwise::{Function, Unary};
use lampyris::engine::kernels::{
    Activation, Binding, Call, Caps, Case, Desc, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, traffic,
};
use lampyris::engine::{Executor, PlanBuilder};
use std::any::Any;
use std::error::Error;
use std::sync::Arc;

/// Four values an invocation; the pad at the end of a row is computed like everything else.
const WGSL: &str = "
struct Params { fours: u32, threshold: f32, pad0: u32, pad1: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.fours {
        let v = x[id.x];
        y[id.x] = sign(v) * max(abs(v) - params.threshold, vec4<f32>());
    }
}
";

/// What the shader says of itself. One variant is enough: it fits WebGPU's default limits.
static SOURCES: [Source; 1] = [Source {
    kernel: "soft_threshold",
    label: "portable",
    wgsl: WGSL,
    choices: &[],
    numbers: &[],
    workgroup: [64, 1, 1],
    workgroup_bytes: 0,
    subgroup: 0,
    f16: false,
    params_bytes: 16,
    bindings: &[Binding::Params, Binding::Read, Binding::Write],
}];

/// `y = sign(x) max(|x| - threshold, 0)`, value by value (Donoho 1995)
///
/// Input: `[.., n]` in F32. Output: the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SoftThreshold {
    /// What is taken off every magnitude.
    pub(crate) threshold: f32,
}

impl Kernel for SoftThreshold {
    fn name(&self) -> &'static str {
        "soft_threshold"
    }

    fn summary(&self) -> String {
        self.threshold.to_string()
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        match inputs {
            [x] if *x == Desc::f32(x.shape.clone()) && !x.is_empty() => Ok(vec![x.clone()]),
            [x] => {
                let expected = "a tensor in f32, not empty".to_owned();
                Err(ShapeError::Input { kernel, position: 0, expected, found: x.clone() })
            }
            _ => Err(ShapeError::Count { kernel, expected: "one tensor", found: inputs.len() }),
        }
    }

    fn sources(&self) -> &'static [Source] {
        &SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(&SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let fours = (call.inputs[0].words() / 4) as u32;
        Launch::new(call, vec![fours, self.threshold.to_bits(), 0, 0], [fours.div_ceil(64), 1, 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let shrunk = |v: f32| (f64::from(v.abs()) - f64::from(self.threshold)).max(0.0).copysign(f64::from(v)) as f32;
        let values: Vec<f32> = inputs[0].values().into_iter().map(shrunk).collect();
        vec![HostTensor::from_values(outputs[0].clone(), &values)]
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        // One subtraction, rounded once.
        Tolerance { relative: f64::from(f32::EPSILON) }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 2.0 * call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sizes below, on and beyond a workgroup.
fn cases() -> Vec<Case> {
    let sizes = [[1, 3], [4, 64], [5, 61], [37, 129]];
    let kernel = SoftThreshold { threshold: 0.25 };
    let label = |[rows, columns]: [usize; 2]| format!("{rows}x{columns}");
    sizes.map(|size| Case::noise(label(size), Tier::Short, kernel, vec![Desc::f32(size)])).into()
}

fn main() -> Result<(), Box<dyn Error>> {
    let gpu = pollster::block_on(Gpu::new())?;
    println!("on {}", gpu.summary());
    for verdict in certify(&gpu)? {
        let word = if verdict.passed() { "agrees" } else { "FAILS" };
        println!(
            "{} {}: {word}, {:.1e} of {:.1e}",
            verdict.kernel, verdict.case, verdict.worst_error, verdict.tolerance
        );
    }
    println!("{:?} becomes {:?}", PICTURE, run(&gpu)?);
    Ok(())
}

/// Every case on the device against the twin.
pub(crate) fn certify(gpu: &Gpu) -> Result<Vec<Verdict>, Box<dyn Error>> {
    let mut verdicts = Vec::new();
    if gpu.is_cpu_executor() {
        return Ok(verdicts);
    }
    for case in cases() {
        let prepared = Prepared::new(&case)?;
        for source in prepared.variants(gpu)? {
            verdicts.push(gpu.block_on(prepared.check(gpu, source))?);
        }
    }
    Ok(verdicts)
}

/// Six values to run the plan on.
pub(crate) const PICTURE: [f32; 6] = [-2.0, -0.5, -0.125, 0.0, 0.25, 1.5];

/// The kernel in a plan, before one of Lampyris' own.
pub(crate) fn run(gpu: &Gpu) -> Result<Vec<f32>, Box<dyn Error>> {
    let mut builder = PlanBuilder::new();
    let x = builder.input("x", Desc::f32([2, 3]));
    let y = builder.apply("shrink", SoftThreshold { threshold: 0.25 }, &[x])?;
    let relu = Unary { function: Function::Activation(Activation::Relu) };
    let y = builder.apply("relu", relu, &[y])?;
    builder.output("y", y);
    let store = ConstantStore::new();
    let executor = gpu.block_on(Executor::new(gpu, Arc::new(builder.finish()), &store, |_| ()))?;
    let found = gpu.block_on(executor.run(&[HostTensor::from_values(Desc::f32([2, 3]), &PICTURE)]))?;
    Ok(found[0].values())
}
