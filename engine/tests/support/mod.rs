//! What the engine's device tests share: the devices of this machine, and a small network.

#![allow(dead_code, reason = "each test is a crate of its own and uses its part")]

#[path = "../../../tests/support/adapters.rs"]
pub(crate) mod named;

use lampyris_engine::Gpu;
use lampyris_engine::gpu::{AdapterChoice, GpuOptions, adapters};
use lampyris_engine::kernels::conv::{Depthwise, Padding, Pointwise};
use lampyris_engine::kernels::{Activation, Desc, Format, HostTensor, Kernel, Noise};
use lampyris_engine::plan::{Plan, PlanBuilder, TensorId};
use std::sync::Arc;

/// A device of every adapter, shader checks on; none where there is no adapter, unless one is required.
pub(crate) fn devices() -> Vec<Gpu> {
    let found = pollster::block_on(adapters());
    named::demand(found.iter().map(|it| (it.name.clone(), it.backend.clone())));
    let open = |index| {
        let options = GpuOptions::default().adapter(AdapterChoice::Index(index)).checked(true);
        pollster::block_on(Gpu::with(options)).unwrap()
    };
    (0..found.len()).map(open).collect()
}

/// Noise in `desc`, the same every time.
pub(crate) fn noise(desc: &Desc, seed: u64) -> HostTensor {
    let mut noise = Noise::new(seed);
    let values: Vec<f32> = (0..desc.len()).map(|_| noise.real(-1.0, 1.0)).collect();
    HostTensor::from_values(desc.clone(), &values)
}

/// The input of [`network`].
pub(crate) fn picture() -> HostTensor {
    noise(&Desc::f32([1, 9, 11, 8]), 1)
}

/// An inverted residual block and a strided one, with `suspect` between them when it is given.
pub(crate) fn network(suspect: Option<Arc<dyn Kernel>>) -> Plan {
    let mut builder = PlanBuilder::new();
    let x = builder.input("x", picture().desc);
    let constant = |builder: &mut PlanBuilder, name: &str, desc: Desc| {
        let (seed, made) = (name.bytes().map(u64::from).sum(), desc.clone());
        builder.constant(name, desc, Arc::new(move || Ok(noise(&made, seed))))
    };
    let pointwise = |builder: &mut PlanBuilder, name: &str, from: &[TensorId], n: usize, kernel: Pointwise| {
        let k = builder.desc(from[0]).last();
        let w = constant(builder, &format!("{name}.weight"), Desc::new(Format::MatrixF32, [k, n]));
        let bias = constant(builder, &format!("{name}.bias"), Desc::f32([1, n]));
        let inputs = [&[from[0], w, bias], &from[1..]].concat();
        builder.apply(name, kernel, &inputs).unwrap()
    };
    let depthwise = |builder: &mut PlanBuilder, name: &str, from: TensorId, stride: u32| {
        let c = builder.desc(from).last();
        let w = constant(builder, &format!("{name}.weight"), Desc::f32([9, c]));
        let bias = constant(builder, &format!("{name}.bias"), Desc::f32([1, c]));
        let padding = Padding::all(1);
        let kernel = Depthwise { kernel: 3, stride, padding, activation: Activation::HardSwish, pool: false };
        builder.apply(name, kernel, &[from, w, bias]).unwrap()
    };
    let relu6 = Pointwise { activation: Activation::Relu6, ..Pointwise::default() };
    let linear = Pointwise::default();
    let h = pointwise(&mut builder, "expand", &[x], 24, relu6);
    let h = depthwise(&mut builder, "filter", h, 1);
    let mut y = pointwise(&mut builder, "project", &[h, x], 8, Pointwise { residual: true, ..linear });
    if let Some(kernel) = suspect {
        y = builder.apply_shared("suspect".to_owned(), kernel, &[y]).unwrap()[0];
    }
    let h = depthwise(&mut builder, "reduce", y, 2);
    let out = pointwise(&mut builder, "features", &[h], 20, linear);
    builder.output("features", out);
    builder.finish()
}
