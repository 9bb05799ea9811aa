//! Where does a device go wrong? Runs a model step by step beside the kernels' twins and names the first step that differs
//! by more than its kernel allows: `cargo run --release --example bisect MODEL`.

use lampyris::engine::gpu::ConstantStore;
use lampyris::engine::kernels::{Desc, HostTensor, Noise};
use lampyris::engine::run::{Comparison, compare};
use lampyris::models::classifier::open_network;
use lampyris::models::mobilenet::{Pixels, PlanRequest, Precision};
use lampyris::{Gpu, Source};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).ok_or("usage: bisect MODEL")?;
    let gpu = pollster::block_on(Gpu::new())?;
    println!("{}", run(&gpu, &model)?);
    Ok(())
}

/// Every step of a run over noise, beside its twin.
pub(crate) fn run(gpu: &Gpu, model: &str) -> Result<Comparison, Box<dyn Error>> {
    let network = open_network(&Source::from(model))?;
    let side = network.settings().preprocess.crop as usize;
    let plan = network.plan(PlanRequest {
        images: 1,
        side,
        pixels: Pixels::Normalized,
        precision: Precision::F32,
        top: 5,
        fuse_depthwise: false,
    })?;
    let mut noise = Noise::new(1);
    let values: Vec<f32> = (0..side * side * 3).map(|_| noise.real(-2.0, 2.0)).collect();
    let picture = HostTensor::from_values(Desc::f32([1, side, side, 3]), &values);
    Ok(gpu.block_on(compare(gpu, &plan, &ConstantStore::new(), &[picture]))?)
}
