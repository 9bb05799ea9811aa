//! The comparison with the twins: a sound network agrees step by step, and a step with a wrong shader is named.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris_engine::gpu::ConstantStore;
use lampyris_engine::kernels::{
    Binding, Call, Caps, Desc, HostTensor, Kernel, Launch, ShapeError, Source, Tolerance, Work, traffic,
};
use lampyris_engine::run::{Worst, compare};
use lampyris_engine::{CpuPlan, Error, Gpu};
use std::any::Any;
use std::sync::Arc;
use support::{devices, network, picture};

/// Says that it copies, and adds a hundredth to the word at `AT`.
#[derive(Debug)]
struct Broken;

const AT: usize = 37;

const BROKEN: &[Source] = &[Source {
    kernel: "broken",
    label: "portable",
    wgsl: "struct Params { count: u32, at: u32 }
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(1) var<storage, read> x: array<f32>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < params.count { y[id.x] = x[id.x] + select(0.0, 0.01, id.x == params.at); }
        }",
    choices: &[],
    numbers: &[],
    workgroup: [64, 1, 1],
    workgroup_bytes: 0,
    subgroup: 0,
    f16: false,
    params_bytes: 8,
    bindings: &[Binding::Params, Binding::Read, Binding::Write],
}];

impl Kernel for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        Ok(inputs.to_vec())
    }

    fn sources(&self) -> &'static [Source] {
        BROKEN
    }

    fn candidates(&self, _call: &Call<'_>, _caps: &Caps) -> Vec<&'static Source> {
        BROKEN.iter().collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let words = call.inputs[0].words() as u32;
        Launch::new(call, vec![words, AT as u32], [words.div_ceil(64), 1, 1])
    }

    fn reference(&self, inputs: &[&HostTensor], _outputs: &[Desc]) -> Vec<HostTensor> {
        vec![inputs[0].clone()]
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance::EXACT
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 0.0, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[test]
fn a_sound_network_agrees_step_by_step() {
    let plan = network(None);
    let expected = CpuPlan::new(Arc::new(plan.clone())).unwrap().run(&[picture()]).unwrap();
    assert!(expected[0].values().iter().any(|v| *v != 0.0), "a network of zeros would agree whatever ran");
    for gpu in devices() {
        let report = gpu.block_on(compare(&gpu, &plan, &ConstantStore::new(), &[picture()])).unwrap();
        assert!(report.agrees(), "{report}");
        assert_eq!(report.steps.len(), plan.steps.len());
        assert!(report.steps.iter().all(|step| step.error.is_finite()));
        assert!(report.to_string().contains(&gpu.summary().name), "{report}");
    }
}

#[test]
fn the_step_with_a_wrong_shader_is_named_and_those_after_it_are_not() {
    let plan = network(Some(Arc::new(Broken)));
    for gpu in devices() {
        let report = gpu.block_on(compare(&gpu, &plan, &ConstantStore::new(), &[picture()])).unwrap();
        let wrong: Vec<&str> = report.steps.iter().filter(|s| !s.agrees()).map(|s| s.step.as_str()).collect();
        assert_eq!(wrong, ["suspect"], "{report}");
        let first = report.first_divergence().unwrap();
        let Worst { output, index, expected, found } = first.worst.clone().unwrap();
        let shape = &first.outputs[0].shape;
        let (columns, channels) = (shape[2], shape[3]);
        assert_eq!((output, index), (0, vec![0, AT / channels / columns, AT / channels % columns, AT % channels]));
        assert!((found - expected - 0.01).abs() < 1e-6, "{report}");
        let text = report.to_string();
        for part in ["suspect", "broken[portable]", gpu.summary().name.as_str()] {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
        eprintln!("{text}");
    }
}

#[test]
fn inputs_of_another_shape_are_refused() {
    let gpu = devices().into_iter().next().unwrap_or_else(Gpu::cpu_executor);
    let wrong = HostTensor::zeros(Desc::f32([1, 2, 2, 4]));
    let refused = gpu.block_on(compare(&gpu, &network(None), &ConstantStore::new(), &[wrong]));
    assert!(matches!(refused, Err(Error::Input { .. })), "{refused:?}");
}
