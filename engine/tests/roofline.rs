//! The limits of every adapter of this machine: found, finite, and found quickly.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use lampyris_engine::gpu::{AdapterChoice, GpuOptions, adapters};
use lampyris_engine::measure::roofline;
use lampyris_engine::{Error, Gpu};
use std::time::Instant;

#[test]
fn every_adapter_has_limits() {
    for index in 0..pollster::block_on(adapters()).len() {
        let options = GpuOptions::default().adapter(AdapterChoice::Index(index));
        let gpu = pollster::block_on(Gpu::with(options)).unwrap();
        let start = Instant::now();
        let found = gpu.block_on(roofline(&gpu)).unwrap();
        eprintln!("{found}\nmeasured in {:.1} s\n", start.elapsed().as_secs_f64());
        let figures = [found.copy_gbytes, found.read_gbytes, found.gflops, found.gops, found.dispatch_micros];
        assert!(figures.iter().all(|figure| figure.is_finite() && *figure > 0.0), "{found}");
        assert!(found.submit_micros > 0.0 && found.buffer_bytes >= 1 << 20, "{found}");
        // A software adapter runs on these very cores: what no processor does is a clock that is misread.
        if gpu.caps().software {
            assert!(found.gflops < 20e3 && found.read_gbytes < 20e3, "{found}");
        }
    }
}

#[test]
fn the_cpu_executor_has_none() {
    let gpu = Gpu::cpu_executor();
    assert!(matches!(gpu.block_on(roofline(&gpu)), Err(Error::NoDevice { .. })));
}
