//! Every executor of this machine, opened once.

use crate::network::{Answer, Network};
use lampyris_engine::gpu::{AdapterChoice, ConstantStore, GpuOptions, LimitTier, States, adapters};
use lampyris_engine::{Executor, Gpu, Result};

/// An opened adapter, or the CPU executor.
pub(crate) struct Device {
    pub(crate) name: String,
    gpu: Gpu,
}

impl Device {
    /// Runs a network and gives its outputs.
    pub(crate) fn run(&self, network: &Network) -> Result<Vec<Answer>> {
        let plan = network.plan();
        let states = pollster::block_on(States::new(&self.gpu, &[&plan]))?;
        let store = ConstantStore::new();
        let executor = pollster::block_on(Executor::with_states(&self.gpu, plan, &store, &states, |_| {}))?;
        let outputs = pollster::block_on(executor.run(network.inputs()))?;
        Ok(network.answers(&outputs))
    }
}

/// The CPU executor, every adapter, and each Vulkan lavapipe once more with WebGPU's default limits. Where no adapter is found a
/// skip is printed, unless `LAMPYRIS_REQUIRE` lists `adapters`: then the test fails.
pub(crate) fn all() -> Vec<Device> {
    let mut devices = vec![Device { name: "the CPU executor".to_owned(), gpu: Gpu::cpu_executor() }];
    for (index, adapter) in pollster::block_on(adapters()).iter().enumerate() {
        let options = GpuOptions::default().adapter(AdapterChoice::Index(index)).checked(true);
        let gpu = pollster::block_on(Gpu::with(options.clone())).unwrap();
        devices.push(Device { name: adapter.to_string(), gpu });
        if adapter.backend == "vulkan" && adapter.name.contains("llvmpipe") {
            let gpu = pollster::block_on(Gpu::with(options.limits(LimitTier::WebGpu))).unwrap();
            devices.push(Device { name: format!("{adapter} with WebGPU's default limits"), gpu });
        }
    }
    if devices.len() == 1 {
        assert!(!crate::vector::required("adapters"), "LAMPYRIS_REQUIRE asks for adapters and there are none");
        eprintln!("skipped: no adapter, so the CPU executor runs alone; `cargo xtask test` installs software adapters");
    }
    devices
}
