//! Fusion turns the plain operations of a network into the kernels that do several at once, gives the same numbers, and
//! leaves alone what somebody else still reads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use lampyris_engine::kernels::conv::{Conv, Depthwise, Padding, Pointwise, Stem};
use lampyris_engine::kernels::elementwise::{Binary, Function, Operation, Unary};
use lampyris_engine::kernels::head::{GlobalPool, Linear, SqueezeExcite};
use lampyris_engine::kernels::{Activation, Desc, Format, HostTensor, Kernel, Noise, difference};
use lampyris_engine::plan::{FusionOptions, TensorId};
use lampyris_engine::{CpuPlan, Plan, PlanBuilder};
use std::sync::Arc;

const DEPTHWISE_TOO: FusionOptions = FusionOptions { neighbours: true, depthwise_into_pointwise: true };

/// A builder with made-up weights.
#[derive(Default)]
struct Draft(PlanBuilder);

impl Draft {
    fn input(&mut self, shape: [usize; 4]) -> TensorId {
        self.0.input("x", Desc::f32(shape))
    }

    fn weight(&mut self, name: &str, desc: Desc) -> TensorId {
        let (label, shape) = (name.to_owned(), desc.clone());
        let make = move || {
            let mut noise = Noise::new(label.bytes().map(u64::from).sum());
            let values: Vec<f32> = (0..shape.len()).map(|_| noise.real(-0.5, 0.5)).collect();
            Ok(HostTensor::from_values(shape.clone(), &values))
        };
        self.0.constant(name, desc, Arc::new(make))
    }

    fn last(&self, x: TensorId) -> usize {
        self.0.desc(x).last()
    }

    fn apply(&mut self, name: &str, kernel: impl Kernel, inputs: &[TensorId]) -> TensorId {
        self.0.apply(name, kernel, inputs).unwrap()
    }

    /// Inputs of a layer with a matrix: `x`, the matrix, the bias.
    fn with_matrix(&mut self, name: &str, x: TensorId, channels: usize) -> Vec<TensorId> {
        let w = self.weight(&format!("{name}.w"), Desc::new(Format::MatrixF32, [self.last(x), channels]));
        let bias = self.weight(&format!("{name}.b"), Desc::f32([1, channels]));
        vec![x, w, bias]
    }

    fn pointwise(&mut self, name: &str, x: TensorId, channels: usize) -> TensorId {
        let inputs = self.with_matrix(name, x, channels);
        self.apply(name, Pointwise::default(), &inputs)
    }

    fn linear(&mut self, name: &str, x: TensorId, channels: usize) -> TensorId {
        let inputs = self.with_matrix(name, x, channels);
        self.apply(name, Linear::default(), &inputs)
    }

    fn depthwise_inputs(&mut self, name: &str, x: TensorId) -> Vec<TensorId> {
        let channels = self.last(x);
        let w = self.weight(&format!("{name}.w"), Desc::f32([9, channels]));
        let bias = self.weight(&format!("{name}.b"), Desc::f32([1, channels]));
        vec![x, w, bias]
    }

    fn depthwise(&mut self, name: &str, x: TensorId) -> TensorId {
        let inputs = self.depthwise_inputs(name, x);
        self.apply(name, DEPTHWISE, &inputs)
    }

    fn activation(&mut self, x: TensorId, activation: Activation) -> TensorId {
        self.apply("activation", Unary { function: Function::Activation(activation) }, &[x])
    }

    fn binary(&mut self, operation: Operation, a: TensorId, b: TensorId) -> TensorId {
        self.apply("binary", Binary { operation }, &[a, b])
    }

    /// The plan with `outputs` as its results.
    fn plan(mut self, outputs: &[TensorId], fusion: FusionOptions) -> Plan {
        for (i, id) in outputs.iter().enumerate() {
            self.0.output(format!("y{i}"), *id);
        }
        self.0.finish_with(fusion)
    }
}

const DEPTHWISE: Depthwise = Depthwise {
    kernel: 3,
    stride: 1,
    padding: Padding { top: 1, left: 1, bottom: 1, right: 1 },
    activation: Activation::None,
    pool: false,
};

/// The kernels of a plan, in order, each with its parameters.
fn kernels(plan: &Plan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| format!("{} {}", step.kernel.name(), step.kernel.summary()).trim().to_owned())
        .collect()
}

fn run(plan: Plan) -> Vec<HostTensor> {
    let mut noise = Noise::new(7);
    let inputs: Vec<HostTensor> = plan
        .inputs
        .iter()
        .map(|id| {
            let desc = plan.tensor(*id).desc.clone();
            let values: Vec<f32> = (0..desc.len()).map(|_| noise.real(-3.0, 3.0)).collect();
            HostTensor::from_values(desc, &values)
        })
        .collect();
    CpuPlan::new(Arc::new(plan)).unwrap().run(&inputs).unwrap()
}

/// Builds a network twice, checks that fusion changes no number and gives the kernels of the fused plan.
fn fused(build: impl Fn(&mut Draft) -> Vec<TensorId>, fusion: FusionOptions) -> Vec<String> {
    let plan = |fusion| {
        let mut draft = Draft::default();
        let outputs = build(&mut draft);
        draft.plan(&outputs, fusion)
    };
    let (plain, fast) = (plan(FusionOptions::NONE), plan(fusion));
    let found = kernels(&fast);
    let worst = difference(&run(plain), &run(fast)).worst;
    assert!(worst < 1e-6, "fusion changed the result by {worst:e}: {found:?}");
    found
}

/// An inverted residual block as Howard et al. 2019 draw it, one operation at a time.
fn block_of_plain_operations(d: &mut Draft) -> Vec<TensorId> {
    let x = d.input([2, 6, 5, 8]);
    let wide = d.pointwise("expand", x, 24);
    let wide = d.activation(wide, Activation::HardSwish);
    let filtered = d.depthwise("filter", wide);
    let filtered = d.activation(filtered, Activation::HardSwish);
    let mean = d.apply("mean", GlobalPool::default(), &[filtered]);
    let hidden = d.linear("squeeze", mean, 8);
    let hidden = d.activation(hidden, Activation::Relu);
    let gate = d.linear("gate", hidden, 24);
    let gate = d.activation(gate, Activation::HardSigmoid);
    let scaled = d.binary(Operation::Mul, filtered, gate);
    let narrow = d.pointwise("project", scaled, 8);
    vec![d.binary(Operation::Add, narrow, x)]
}

/// The same block as the four kernels that are made for it.
fn block_of_four_kernels(d: &mut Draft) -> Vec<TensorId> {
    let activation = Activation::HardSwish;
    let x = d.input([2, 6, 5, 8]);
    let inputs = d.with_matrix("expand", x, 24);
    let wide = d.apply("expand", Pointwise { activation, ..Pointwise::default() }, &inputs);
    let inputs = d.depthwise_inputs("filter", wide);
    let filtered = d.0.apply_all("filter", Depthwise { activation, pool: true, ..DEPTHWISE }, &inputs).unwrap();
    let squeeze = d.weight("squeeze.w", Desc::new(Format::MatrixF32, [24, 8]));
    let squeeze_bias = d.weight("squeeze.b", Desc::f32([1, 8]));
    let excite = d.weight("gate.w", Desc::new(Format::MatrixF32, [8, 24]));
    let excite_bias = d.weight("gate.b", Desc::f32([1, 24]));
    let kernel = SqueezeExcite { pixels: Some(30), ..SqueezeExcite::default() };
    let gate = d.apply("gate", kernel, &[filtered[1], squeeze, squeeze_bias, excite, excite_bias]);
    let mut inputs = d.with_matrix("project", filtered[0], 8);
    inputs.extend([x, gate]);
    vec![d.apply("project", Pointwise { residual: true, scaled: true, ..Pointwise::default() }, &inputs)]
}

#[test]
fn a_block_of_plain_operations_becomes_the_plan_of_its_four_kernels() {
    let plan = |build: fn(&mut Draft) -> Vec<TensorId>, fusion| {
        let mut draft = Draft::default();
        let outputs = build(&mut draft);
        draft.plan(&outputs, fusion)
    };
    let by_hand = plan(block_of_four_kernels, FusionOptions::NONE);
    assert_eq!(by_hand.steps.len(), 4);
    let found = plan(block_of_plain_operations, FusionOptions::default());
    assert_eq!(found.to_string(), by_hand.to_string());
    assert_eq!(found.bytes(), by_hand.bytes());
    assert_eq!(plan(block_of_four_kernels, DEPTHWISE_TOO).to_string(), by_hand.to_string());
    assert_eq!(plan(block_of_plain_operations, FusionOptions::NONE).steps.len(), 12);
    assert_eq!(fused(block_of_plain_operations, FusionOptions::default()), kernels(&by_hand));
}

#[test]
fn activations_move_into_every_kernel_with_an_epilogue() {
    let relu6 = Unary { function: Function::Clip { low: 0.0, high: 6.0 } };
    let found = fused(
        |d| {
            let x = d.input([1, 5, 5, 3]);
            let w = d.weight("stem.w", Desc::f32([27, 8]));
            let bias = d.weight("stem.b", Desc::f32([1, 8]));
            let x = d.apply("stem", Stem::default(), &[x, w, bias]);
            let x = d.apply("clip", relu6, &[x]);
            let w = d.weight("conv.w", Desc::f32([3, 3, 8, 12]));
            let bias = d.weight("conv.b", Desc::f32([1, 12]));
            let x = d.apply("conv", Conv { padding: Padding::all(1), ..Conv::default() }, &[x, w, bias]);
            let x = d.activation(x, Activation::Relu);
            let x = d.depthwise("filter", x);
            let x = d.apply("clip", relu6, &[x]);
            let x = d.linear("linear", x, 4);
            vec![d.apply("gate", Unary { function: Function::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 } }, &[x])]
        },
        FusionOptions::default(),
    );
    assert_eq!(found.len(), 4, "{found:?}");
    for (kernel, activation) in found.iter().zip(["relu6", "relu", "relu6", "hard_sigmoid"]) {
        assert!(kernel.split(' ').any(|word| word == activation), "{kernel} has no {activation}");
    }
}

#[test]
fn the_activation_before_a_sum_stays_before_it() {
    let found = fused(
        |d| {
            let x = d.input([1, 4, 4, 8]);
            let y = d.pointwise("p", x, 8);
            let y = d.activation(y, Activation::Relu);
            vec![d.binary(Operation::Add, x, y)]
        },
        FusionOptions::default(),
    );
    assert_eq!(found, ["pointwise relu +residual"]);
}

#[test]
fn the_later_of_two_convolutions_takes_their_sum() {
    let build = |d: &mut Draft| {
        let x = d.input([1, 4, 4, 8]);
        let a = d.pointwise("a", x, 8);
        let b = d.pointwise("b", x, 8);
        vec![d.binary(Operation::Add, a, b)]
    };
    assert_eq!(fused(build, FusionOptions::default()), ["pointwise linear", "pointwise linear +residual"]);
}

#[test]
fn a_depthwise_convolution_moves_into_the_pointwise_one_only_when_asked() {
    let build = |d: &mut Draft| {
        let x = d.input([1, 6, 6, 8]);
        let y = d.depthwise("filter", x);
        let y = d.activation(y, Activation::Relu6);
        let y = d.pointwise("project", y, 8);
        vec![d.binary(Operation::Add, y, x)]
    };
    let kept = ["depthwise k3 s1 p1 relu6", "pointwise linear +residual"];
    assert_eq!(fused(build, FusionOptions::default()), kept);
    assert_eq!(fused(build, DEPTHWISE_TOO), ["depthwise_pointwise k3 s1 p1 relu6 +residual"]);
}

/// Every network here looks like one that can be fused and must stay as it is.
#[test]
fn what_somebody_else_reads_or_no_kernel_does_stays() {
    type Build = fn(&mut Draft) -> Vec<TensorId>;
    let networks: [(&str, Build); 12] = [
        ("the sum is wanted as well", |d| {
            let x = d.input([1, 4, 4, 8]);
            let y = d.pointwise("p", x, 8);
            vec![y, d.activation(y, Activation::Relu)]
        }),
        ("two steps read it", |d| {
            let x = d.input([1, 4, 4, 8]);
            let y = d.pointwise("p", x, 8);
            let a = d.activation(y, Activation::Relu);
            vec![a, d.activation(y, Activation::Relu6)]
        }),
        ("it has an activation", |d| {
            let x = d.input([1, 4, 4, 8]);
            let inputs = d.with_matrix("p", x, 8);
            let y = d.apply("p", Pointwise { activation: Activation::HardSwish, ..Pointwise::default() }, &inputs);
            vec![d.activation(y, Activation::Relu)]
        }),
        ("the residual comes before the activation", |d| {
            let x = d.input([1, 4, 4, 8]);
            let mut inputs = d.with_matrix("p", x, 8);
            inputs.push(x);
            let y = d.apply("p", Pointwise { residual: true, ..Pointwise::default() }, &inputs);
            vec![d.activation(y, Activation::Relu)]
        }),
        ("the sums of its rows would be of other values", |d| {
            let x = d.input([1, 4, 4, 8]);
            let inputs = d.depthwise_inputs("f", x);
            let both = d.0.apply_all("f", Depthwise { pool: true, ..DEPTHWISE }, &inputs).unwrap();
            vec![d.activation(both[0], Activation::Relu), both[1]]
        }),
        ("no kernel has it as its end", |d| {
            let x = d.input([1, 4, 4, 8]);
            let y = d.pointwise("p", x, 8);
            vec![d.apply("gelu", Unary { function: Function::Gelu }, &[y])]
        }),
        ("the sum stretches the convolution", |d| {
            let (x, r) = (d.input([1, 1, 1, 8]), d.input([1, 4, 4, 8]));
            let y = d.pointwise("p", x, 8);
            vec![d.binary(Operation::Add, y, r)]
        }),
        ("it is a difference", |d| {
            let x = d.input([1, 4, 4, 8]);
            let y = d.pointwise("p", x, 8);
            vec![d.binary(Operation::Sub, y, x)]
        }),
        ("it is added to itself", |d| {
            let x = d.input([1, 4, 4, 8]);
            let y = d.pointwise("p", x, 8);
            vec![d.binary(Operation::Add, y, y)]
        }),
        ("the factor is a whole image", |d| {
            let (x, g) = (d.input([1, 4, 4, 8]), d.input([1, 4, 4, 8]));
            let y = d.binary(Operation::Mul, x, g);
            vec![d.pointwise("p", y, 8)]
        }),
        ("a classifier is no gate", |d| {
            let x = d.input([1, 4, 4, 8]);
            let y = d.apply("mean", GlobalPool::default(), &[x]);
            let y = d.linear("hidden", y, 8);
            vec![d.linear("classes", y, 8)]
        }),
        ("the mean is wanted as well", |d| {
            let x = d.input([1, 4, 4, 8]);
            let mean = d.apply("mean", GlobalPool::default(), &[x]);
            let hidden = d.linear("hidden", mean, 8);
            let gate = d.linear("gate", hidden, 8);
            let mut inputs = d.with_matrix("p", x, 8);
            inputs.push(gate);
            let scaled = d.apply("p", Pointwise { scaled: true, ..Pointwise::default() }, &inputs);
            vec![scaled, mean]
        }),
    ];
    for (why, build) in networks {
        let mut draft = Draft::default();
        let outputs = build(&mut draft);
        let plain = kernels(&draft.plan(&outputs, FusionOptions::NONE));
        assert_eq!(fused(build, DEPTHWISE_TOO), plain, "{why}");
    }
}

#[test]
fn a_squeeze_excite_that_fits_no_workgroup_stays_three_kernels() {
    let build = |d: &mut Draft| {
        let x = d.input([1, 2, 2, 8]);
        let mean = d.apply("mean", GlobalPool::default(), &[x]);
        let hidden = d.linear("squeeze", mean, SqueezeExcite::MAX_HIDDEN + 4);
        let gate = d.linear("gate", hidden, 8);
        let scaled = d.binary(Operation::Mul, x, gate);
        vec![d.pointwise("project", scaled, 8)]
    };
    let found = fused(build, FusionOptions::default());
    assert_eq!(found, ["global_pool mean", "linear linear", "linear linear", "pointwise linear scaled"]);
}
