//! Kernels whose launches may be cut: however many pieces one is recorded in, it gives the bits of the whole, on every adapter.
//!
//! Each variant that an adapter would run, once; with `LAMPYRIS_TIER=full` all of them in all cases; `LAMPYRIS_KERNEL=name` those of one kernel.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris_engine::Gpu;
use lampyris_engine::certify::Prepared;
use lampyris_engine::gpu::{Budget, Course, Event, GpuPlan, Job, Written, wgpu};
use lampyris_engine::kernels::{self, Call, HostTensor, Tier};
use std::collections::BTreeSet;
use std::time::Duration;
use support::devices;

const NAMES: [&str; 12] = [
    "input0", "input1", "input2", "input3", "input4", "input5", "input6", "input7", "input8", "input9", "input10",
    "input11",
];

/// Runs a plan in pieces of as few workgroups as there may be, one piece a submit, and gives how many these were and its outputs.
fn in_pieces(gpu: &Gpu, plan: &GpuPlan, inputs: &[HostTensor]) -> (usize, Vec<HostTensor>) {
    let words = inputs.iter().map(|tensor| tensor.words.len()).sum();
    let course = Course::new(gpu, std::slice::from_ref(plan), Duration::from_nanos(1), words);
    let mut course = gpu.block_on(course).unwrap();
    let written = NAMES.iter().zip(inputs).map(|(name, tensor)| Written { name, at: 0, words: tensor.words.clone() });
    let begin = written.collect();
    let mut job = Some(Job { part: 0, tag: 1, begin, again: Vec::new(), outputs: true, positions: 0 });
    let (device, queue, mut pieces) = (gpu.device().unwrap(), gpu.queue().unwrap(), 0);
    loop {
        let label = Some("the host's frame");
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        // Nothing fits into it, so a single piece is begun.
        let mut budget = Budget::gpu(Duration::from_nanos(1));
        pieces += course.record(&mut encoder, &mut budget, &mut || job.take()).unwrap();
        queue.submit([encoder.finish()]);
        gpu.block_on(gpu.idle()).unwrap();
        match course.event().unwrap() {
            Some(Event::Ran { outputs, .. }) => return (pieces, outputs),
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
}

#[test]
fn a_launch_in_pieces_gives_the_bits_of_the_whole() {
    let full = std::env::var("LAMPYRIS_TIER").is_ok_and(|tier| tier == "full");
    let only = std::env::var("LAMPYRIS_KERNEL").ok();
    let (devices, mut cut) = (devices(), BTreeSet::new());
    for entry in kernels::all().into_iter().filter(|entry| only.as_deref().is_none_or(|name| name == entry.name)) {
        let mut cases = (entry.cases)();
        // In the short tier a case of the full one where no other has more than one workgroup in x.
        cases.retain(|case| case.kernel.first_group().is_some() && case.tier != Tier::Model);
        cases.sort_by_key(|case| case.tier != Tier::Short);
        for case in &cases {
            let (descs, kernel) = (case.descs(), &case.kernel);
            let outputs = kernel.outputs(&descs).unwrap();
            let call = Call { inputs: &descs, outputs: &outputs };
            let mut prepared = None;
            for (at, gpu) in devices.iter().enumerate() {
                let sources = match full {
                    true => prepared.get_or_insert_with(|| Prepared::new(case).unwrap()).variants(gpu).unwrap(),
                    false => kernel.candidates(&call, gpu.caps()),
                };
                for source in sources {
                    let launch = kernel.launch(&call, source);
                    let first = kernel.first_group().and_then(|at| launch.params.get(at));
                    assert_eq!(first, Some(&0), "{}: the first workgroup of a whole launch", entry.name);
                    let groups = launch.grid[0] as usize;
                    if groups == 1 || !full && cut.contains(&(entry.name, at, source.label)) {
                        continue;
                    }
                    let prepared = prepared.get_or_insert_with(|| Prepared::new(case).unwrap());
                    let plan = gpu.block_on(prepared.load(gpu, source)).unwrap();
                    let inputs = prepared.inputs();
                    let blank: Vec<HostTensor> = inputs.iter().map(|it| HostTensor::zeros(it.desc.clone())).collect();
                    let whole = gpu.block_on(plan.run_tensors(&inputs)).unwrap();
                    // Where a piece is missing, something else is found.
                    gpu.block_on(plan.run_tensors(&blank)).unwrap();
                    let (pieces, found) = in_pieces(gpu, &plan, &inputs);
                    let what = format!("{}[{}] {} on {}", entry.name, source.label, case.label, gpu.summary());
                    assert!(found == whole, "{what}: other bits in {pieces} pieces");
                    // As many as there are workgroups, but for the most pieces that a step may have.
                    assert!(pieces == groups || pieces > 32, "{what}: {pieces} pieces of {groups} workgroups");
                    cut.insert((entry.name, at, source.label));
                }
            }
        }
    }
    eprintln!("{} variants cut on {} devices", cut.len(), devices.len());
    if only.is_none() && !devices.is_empty() {
        let expected =
            ["attention", "conv", "dense", "depthwise", "depthwise_pointwise", "experts", "pointwise", "stem"];
        assert!(expected.iter().all(|name| cut.iter().any(|(kernel, ..)| kernel == name)), "{cut:?}");
    }
}
