//! What a kernel or a plan from outside can get wrong is refused by name, and what is unusual but right works.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris_engine::gpu::{ConstantStore, GpuPlan, InputData, VariantChoice};
use lampyris_engine::kernels::{
    Binding, Call, Caps, Desc, Format, HostTensor, Kernel, Launch, Operand, ShapeError, Source, Tolerance, Work,
    fitting,
};
use lampyris_engine::{CpuPlan, Error, Gpu, Plan, PlanBuilder};
use std::any::Any;
use std::sync::Arc;
use support::{devices, noise};

/// `y = factor x`, of a buffer or of the red bytes of a texture.
macro_rules! shader {
    ($x:literal, $read:literal) => {
        concat!(
            "struct Params { count: u32, width: u32, p0: u32, p1: u32 }
             @group(0) @binding(0) var<uniform> params: Params;
             @group(0) @binding(1) var",
            $x,
            ";
             @group(0) @binding(2) var<storage, read_write> y: array<f32>;
             @compute @workgroup_size(64)
             fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                 let i = id.x;
                 if i < params.count {
                     y[i] = ",
            $read,
            ";
                 }
             }"
        )
    };
}

const fn source(label: &'static str, wgsl: &'static str, bindings: &'static [Binding]) -> Source {
    Source {
        kernel: "scale",
        label,
        wgsl,
        choices: &[],
        numbers: &[],
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
        subgroup: 0,
        f16: false,
        params_bytes: 16,
        bindings,
    }
}

const BUFFER: &[Binding] = &[Binding::Params, Binding::Read, Binding::Write];
const TEXTURE: &[Binding] = &[Binding::Params, Binding::Texture, Binding::Write];
static HALF: [Source; 1] = [source("half", shader!("<storage, read> x: array<f32>", "0.5 * x[i]"), BUFFER)];
static ONE: [Source; 1] = [source("one", shader!("<storage, read> x: array<f32>", "1.0 * x[i]"), BUFFER)];
static QUARTER: [Source; 1] = [source("quarter", shader!("<storage, read> x: array<f32>", "0.25 * x[i]"), BUFFER)];
static NEARLY: [Source; 1] = [source("nearly", shader!("<storage, read> x: array<f32>", "0.2501 * x[i]"), BUFFER)];
/// The first is what a kernel would choose by itself, and it doubles what the others read.
static OF_TEXTURE: [Source; 3] = [
    source(
        "doubled",
        shader!(" x: texture_2d<f32>", "2.0 * textureLoad(x, vec2(i % params.width, i / params.width), 0).r"),
        TEXTURE,
    ),
    source(
        "rows",
        shader!(" x: texture_2d<f32>", "textureLoad(x, vec2(i % params.width, i / params.width), 0).x"),
        TEXTURE,
    ),
    source(
        "plain",
        shader!(" x: texture_2d<f32>", "textureLoad(x, vec2(i % params.width, i / params.width), 0).r"),
        TEXTURE,
    ),
];

/// Scales by what its shader says, and launches as a test wants.
#[derive(Debug, Clone)]
struct Scale {
    sources: &'static [Source],
    outputs: usize,
    params: usize,
    operands: Option<Vec<Operand>>,
}

fn scale(sources: &'static [Source]) -> Scale {
    Scale { sources, outputs: 1, params: 4, operands: None }
}

impl Kernel for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        Ok(vec![Desc::f32([1, inputs[0].len()]); self.outputs])
    }

    fn sources(&self) -> &'static [Source] {
        self.sources
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(self.sources, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (count, width) = (call.inputs[0].len() as u32, call.inputs[0].last() as u32);
        let mut params = vec![count, width];
        params.resize(self.params, 0);
        let launch = Launch::new(call, params, [count.div_ceil(64), 1, 1]);
        Launch { operands: self.operands.clone().unwrap_or(launch.operands.clone()), ..launch }
    }

    fn reference(&self, _inputs: &[&HostTensor], _outputs: &[Desc]) -> Vec<HostTensor> {
        panic!("nothing here asks the twin")
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance { relative: 1e-6 }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: call.inputs[0].len() as f64, bytes: lampyris_engine::kernels::traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The kernels one after the other, on a tensor of this shape.
fn plan(desc: Desc, kernels: &[Scale]) -> Arc<Plan> {
    let mut builder = PlanBuilder::new();
    let mut x = builder.input("x", desc);
    for (at, kernel) in kernels.iter().enumerate() {
        x = builder.apply(format!("step{at}"), kernel.clone(), &[x]).unwrap();
    }
    builder.output("y", x);
    Arc::new(builder.finish())
}

fn compiled(gpu: &Gpu, plan: Arc<Plan>) -> Result<GpuPlan, Error> {
    gpu.block_on(GpuPlan::new(gpu, plan, &ConstantStore::new(), VariantChoice::Best))
}

#[test]
fn a_launch_that_would_reach_beyond_its_step_is_refused() {
    let odd = |params: usize, operands: &[Operand]| {
        let operands = (!operands.is_empty()).then(|| operands.to_vec());
        plan(Desc::f32([1, 8]), &[scale(&ONE), Scale { params, operands, ..scale(&HALF) }])
    };
    for gpu in devices() {
        let error = compiled(&gpu, odd(65, &[])).unwrap_err();
        assert!(
            matches!(&error, Error::Params { kernel, bytes: 260, limit: 256 } if kernel == "scale (half)"),
            "{error:?}"
        );
        let wrong: [&[Operand]; 4] = [
            &[Operand::Input(0)],
            &[Operand::Input(0), Operand::Output(0), Operand::Output(0)],
            &[Operand::Input(1), Operand::Output(0)],
            &[Operand::Input(0), Operand::Output(7)],
        ];
        for operands in wrong {
            let error = compiled(&gpu, odd(4, operands)).unwrap_err();
            let right =
                matches!(&error, Error::Operands { kernel, step, .. } if kernel == "scale (half)" && step == "step1");
            assert!(right, "{operands:?}: {error:?}");
        }
        let input = HostTensor::from_values(Desc::f32([1, 8]), &[4.0; 8]);
        let found = gpu.block_on(compiled(&gpu, odd(64, &[])).unwrap().run(&[InputData::Words(&input.words)])).unwrap();
        assert_eq!(found[0].values(), [2.0; 8], "a block that is just full, on {}", gpu.summary());
    }
}

#[test]
fn a_kernel_without_outputs_gives_no_tensor() {
    let mut builder = PlanBuilder::new();
    let x = builder.input("x", Desc::f32([1, 8]));
    let error = builder.apply("nothing", Scale { outputs: 0, ..scale(&ONE) }, &[x]).unwrap_err();
    assert!(matches!(&error, Error::Shape { step, .. } if step == "nothing"), "{error:?}");
}

#[test]
fn a_constant_can_be_an_output() {
    let desc = Desc::f32([3, 5]);
    let constant = noise(&desc, 7);
    let made = constant.clone();
    let mut builder = PlanBuilder::new();
    let x = builder.input("x", Desc::f32([1, 4]));
    let kept = builder.constant("kept", desc, Arc::new(move || Ok(made.clone())));
    builder.output("kept", kept);
    builder.output("x", x);
    let plan = Arc::new(builder.finish());
    let input = noise(&Desc::f32([1, 4]), 8);
    let expected = [constant, input.clone()];
    assert_eq!(CpuPlan::new(plan.clone()).unwrap().run(std::slice::from_ref(&input)).unwrap(), expected);
    for gpu in devices() {
        let found = gpu.block_on(compiled(&gpu, plan.clone()).unwrap().run(&[InputData::Words(&input.words)])).unwrap();
        assert_eq!(found, expected, "{}", gpu.summary());
    }
}

#[test]
fn a_texture_is_no_output() {
    let mut builder = PlanBuilder::new();
    let x = builder.input("x", Desc::new(Format::Texture, [1, 4, 4]));
    builder.output("seen", x);
    let plan = Arc::new(builder.finish());
    for gpu in devices() {
        let error = compiled(&gpu, plan.clone()).unwrap_err();
        assert!(matches!(&error, Error::TextureOutput { name } if name == "seen"), "{error:?}");
    }
}

#[test]
fn a_result_is_given_once_and_its_memory_can_be_used_again() {
    let input = HostTensor::from_values(Desc::f32([1, 8]), &[4.0; 8]);
    for gpu in devices() {
        let plan = compiled(&gpu, plan(Desc::f32([1, 8]), &[scale(&HALF)])).unwrap();
        let mut pending = plan.submit(&[InputData::Words(&input.words)], &[]).unwrap();
        let found = loop {
            gpu.pump();
            if let Some(found) = pending.try_take() {
                break found.unwrap();
            }
        };
        assert_eq!(found[0].values(), [2.0; 8]);
        assert!(matches!(gpu.block_on(pending.wait()), Err(Error::Taken)), "{}", gpu.summary());
        let mut outputs = vec![HostTensor::zeros(Desc::f32([1, 8])), HostTensor::zeros(Desc::f32([2, 2]))];
        let before = outputs[0].words.as_ptr();
        let pending = plan.submit(&[InputData::Words(&input.words)], &[]).unwrap();
        gpu.block_on(pending.wait_into(&mut outputs)).unwrap();
        assert_eq!(outputs, found);
        assert_eq!(outputs[0].words.as_ptr(), before, "other memory was taken");
    }
}

#[test]
fn a_form_that_disagrees_is_not_used_however_fast_it_is() {
    let desc = || Desc::f32([64, 1024]);
    let steps = [&HALF, &HALF, &ONE, &ONE, &ONE, &ONE].map(|sources| scale(sources));
    let (slow, right, wrong) =
        (plan(desc(), &steps), plan(desc(), &[scale(&QUARTER)]), plan(desc(), &[scale(&NEARLY)]));
    for gpu in devices() {
        let steps = |forms: &[Arc<Plan>]| {
            let store = ConstantStore::new();
            gpu.block_on(GpuPlan::fastest(&gpu, forms, &store, |_| ())).unwrap().plan().steps.len()
        };
        assert_eq!(steps(&[slow.clone(), wrong.clone()]), 6, "{}: a wrong form was taken", gpu.summary());
        assert_eq!(steps(&[slow.clone(), right.clone()]), 1, "{}: the right form is faster", gpu.summary());
    }
}

#[test]
fn variants_that_read_a_texture_are_held_against_each_other_on_one() {
    let texels = HostTensor::noise(&Desc::new(Format::Texture, [1, 12, 16]), 3);
    let expected: Vec<f32> = texels.words.iter().map(|word| (word & 255) as f32 / 255.0).collect();
    for gpu in devices() {
        let plan = compiled(&gpu, plan(texels.desc.clone(), &[scale(&OF_TEXTURE)])).unwrap();
        let chosen = plan.sources().next().unwrap().label;
        assert!(["rows", "plain"].contains(&chosen), "{}: {chosen} was taken", gpu.summary());
        let found = gpu.block_on(plan.run_tensors(std::slice::from_ref(&texels))).unwrap()[0].values();
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-6, "{}: {worst}", gpu.summary());
    }
}
