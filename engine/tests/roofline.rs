//! The limits of every adapter of this machine: found, finite, and found quickly.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use lampyris_engine::gpu::{AdapterChoice, GpuOptions, adapters};
use lampyris_engine::kernels::text::{Dense, Scheme};
use lampyris_engine::kernels::{Desc, HostTensor};
use lampyris_engine::measure::{alone, costs, roofline};
use lampyris_engine::{Error, Gpu, PlanBuilder};
use std::sync::Arc;
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

/// A matrix of `[n, 256]` and one of half as many rows, of weights that nobody may ask for.
fn plan(n: usize) -> lampyris_engine::Plan {
    let mut builder = PlanBuilder::new();
    let mut x = builder.input("x", Desc::f32([1, 256]));
    for rows in [n, n / 2] {
        let nobody = || -> Result<HostTensor, String> { panic!("the weights were asked for") };
        let w = Scheme::F32.descs(rows, 256).remove(0);
        let w = builder.constant(format!("w{rows}"), w, Arc::new(nobody));
        let first = builder.apply(format!("dense{rows}"), Dense::default(), &[x, w]).unwrap();
        builder.output(format!("y{rows}"), first);
        x = builder.input(format!("x{rows}"), Desc::f32([1, 256]));
    }
    builder.finish()
}

#[test]
fn a_step_is_timed_without_its_weights() {
    for index in 0..pollster::block_on(adapters()).len() {
        let options = GpuOptions::default().adapter(AdapterChoice::Index(index));
        let gpu = pollster::block_on(Gpu::with(options)).unwrap();
        let found = gpu.block_on(costs(&gpu)).unwrap();
        eprintln!("{}: {found:?}", gpu.summary());
        let figures = [found.read_gbytes, found.dispatch_micros, found.submit_micros];
        assert!(figures.iter().all(|figure| figure.is_finite() && *figure > 0.0), "{found:?}");
        let before = gpu.held_bytes();
        let seconds = [0, 1].map(|at| gpu.block_on(alone(&gpu, &plan(32 << 10), at, |_| None)).unwrap().unwrap());
        eprintln!("32 Ki rows and half of them alone: {seconds:?}");
        // Twice the rows, on a machine that others use too.
        assert!(seconds[0] > 1.1 * seconds[1] && seconds[0] < 1.0, "{seconds:?}");
        assert_eq!(gpu.held_bytes(), before, "what was timed is gone");
    }
}

#[test]
fn the_cpu_executor_has_none() {
    let gpu = Gpu::cpu_executor();
    assert!(matches!(gpu.block_on(roofline(&gpu)), Err(Error::NoDevice { .. })));
    assert!(matches!(gpu.block_on(costs(&gpu)), Err(Error::NoDevice { .. })));
    assert!(matches!(gpu.block_on(alone(&gpu, &plan(64), 0, |_| None)), Err(Error::NoDevice { .. })));
}
