//! A driver that has no memory left in truth: this program may have no more address space, so that what software adapters take from it is refused
//! by the system. Each refusal is a typed error, of which the host hears nothing, and everything else goes on. A program of its own, since all of
//! it has no more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![cfg(target_os = "linux")]

mod support;

use lampyris::engine::Error as EngineError;
use lampyris::engine::gpu::{ConstantStore, GpuPlan, InputData, VariantChoice};
use lampyris::engine::kernels::elementwise::{Function, Unary};
use lampyris::engine::kernels::{Desc, HostTensor};
use lampyris::engine::plan::{Plan, PlanBuilder};
use lampyris::{Classifier, Input, wgpu};
use std::process::Command;
use std::sync::Arc;
use support::fixture;
use support::host::{Host, hosts};

/// Values of a tensor of 48 MiB: the system is asked for as much, whatever the allocators on the way have left.
const LARGE: usize = 12 << 20;

/// Bytes that this program may take more than it has, enough for all that is small.
const ROOM: u64 = 24 << 20;

/// Calls `prlimit` for this program, and gives what it prints.
fn prlimit(arguments: &[&str]) -> String {
    let id = std::process::id().to_string();
    let output = Command::new("prlimit").args(["--pid", &id]).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("prlimit, of util-linux, cannot be started: {error}"));
    assert!(output.status.success(), "prlimit {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What `work` gives while there is no room for anything large.
fn without_room<T>(work: impl FnOnce() -> T) -> T {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let taken = size.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024;
    let before = prlimit(&["--as", "--output=SOFT", "--noheadings", "--raw"]);
    prlimit(&[&format!("--as={}:", taken + ROOM)]);
    let done = work();
    prlimit(&[&format!("--as={before}:")]);
    done
}

/// One step from a large tensor to another.
fn plan() -> Arc<Plan> {
    let mut builder = PlanBuilder::new();
    let input = builder.input("x", Desc::f32([LARGE]));
    let output = builder.apply("abs", Unary { function: Function::Abs }, &[input]).unwrap();
    builder.output("y", output);
    Arc::new(builder.finish())
}

#[test]
fn what_a_driver_refuses_is_an_error_and_no_more() {
    // A GPU has memory of its own. OpenGL takes it only when something is first done with a buffer, and tells nobody that there was none.
    let of_this_program = |host: &Host| {
        let info = host.adapter.get_info();
        info.device_type == wgpu::DeviceType::Cpu && info.backend != wgpu::Backend::Gl
    };
    for host in hosts().into_iter().filter(of_this_program) {
        let gpu = host.guest();
        let bystander = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let look = || gpu.block_on(bystander.classify(Input::rgba8(vec![90; 64 * 64 * 4], 64, 64))).unwrap().logits;
        let expected = look();
        let store = ConstantStore::new();
        let make = || gpu.block_on(GpuPlan::new(&gpu, plan(), &store, VariantChoice::Best));
        let refused = |what: &str, error: Option<EngineError>| {
            assert!(matches!(error, Some(EngineError::OutOfMemory { .. })), "{}: {what}: {error:?}", host.name);
        };
        let held = gpu.held_bytes();
        let (made, seen) = without_room(|| (make().map(|_| ()), look()));
        refused("a plan", made.err());
        assert_eq!((seen == expected, gpu.held_bytes()), (true, held), "{}", host.name);

        // With its buffers made before, what it needs to be recorded is refused.
        let large = make().unwrap();
        let values: Vec<f32> = (0..LARGE).map(|at| at as f32 - 1e6).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let frame = || host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let record = |frame: &mut wgpu::CommandEncoder| large.record(frame, &[InputData::Bytes(&bytes)], &[]);
        let mut without = frame();
        let (recorded, seen) = without_room(|| (record(&mut without).map(|_| ()), look()));
        refused("a run", recorded.err());
        assert_eq!(seen, expected, "{}", host.name);
        host.queue.submit([without.finish()]);

        // And afterwards it is right.
        let mut with = frame();
        let recorded = record(&mut with).unwrap();
        host.queue.submit([with.finish()]);
        let found: Vec<HostTensor> = gpu.block_on(recorded.wait()).unwrap();
        let right = found[0].values().iter().zip(&values).all(|(found, value)| *found == value.abs());
        assert!(right && look() == expected, "{}: a run after the refusals", host.name);
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}
