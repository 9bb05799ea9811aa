//! Kernels whose launches may be cut: however many pieces one is recorded in, it gives the bits of the whole, on every adapter.
//!
//! Each variant that an adapter would run, once, and each that only a newer driver's would; with `LAMPYRIS_TIER=full` all of them in all cases;
//! `LAMPYRIS_KERNEL=name` those of one kernel.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris_engine::Gpu;
use lampyris_engine::certify::Prepared;
use lampyris_engine::gpu::{Budget, Course, Event, Few, GpuPlan, Job, StepTimes, Written, wgpu};
use lampyris_engine::kernels::{self, Call, Caps, HostTensor, Source, Tier};
use std::collections::BTreeSet;
use std::time::Duration;
use support::devices;

const NAMES: [&str; 12] = [
    "input0", "input1", "input2", "input3", "input4", "input5", "input6", "input7", "input8", "input9", "input10",
    "input11",
];

/// Runs a plan of one step in as many pieces as are `wanted`, or as there can be, one a submit, and gives how many these were and its outputs.
fn in_pieces(gpu: &Gpu, plan: &GpuPlan, inputs: &[HostTensor], wanted: u32) -> (usize, Vec<HostTensor>) {
    let words = inputs.iter().map(|tensor| tensor.words.len()).sum();
    let finest = StepTimes::known(plan).of(0..1) / (f64::from(wanted) - 0.5);
    let course = Course::new(gpu, std::slice::from_ref(plan), Duration::from_secs_f64(finest), words);
    let mut course = gpu.block_on(course).unwrap();
    let written =
        NAMES.iter().zip(inputs).map(|(name, tensor)| Written { name, at: 0, words: tensor.words.clone().into() });
    let begin = written.collect();
    let mut job = Some(Job { part: 0, tag: 1, begin, again: Few::None, outputs: true, positions: 0 });
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

/// Most pieces of a step.
const MOST: u32 = 64;

#[test]
fn a_launch_in_pieces_gives_the_bits_of_the_whole() {
    let full = std::env::var("LAMPYRIS_TIER").is_ok_and(|tier| tier == "full");
    let only = std::env::var("LAMPYRIS_KERNEL").ok();
    let (devices, mut cut) = (devices(), BTreeSet::new());
    for entry in kernels::all().into_iter().filter(|entry| only.as_deref().is_none_or(|name| name == entry.name)) {
        let mut cases = (entry.cases)();
        // In the short tier a case of the full one where no other has more than one workgroup along an axis.
        cases.retain(|case| case.kernel.first_group() != [None; 2] && case.tier != Tier::Model);
        cases.sort_by_key(|case| case.tier != Tier::Short);
        for case in &cases {
            let (descs, kernel) = (case.descs(), &case.kernel);
            let outputs = kernel.outputs(&descs).unwrap();
            let call = Call { inputs: &descs, outputs: &outputs };
            let mut prepared = None;
            for (at, gpu) in devices.iter().enumerate() {
                let sources = match full {
                    true => prepared.get_or_insert_with(|| Prepared::new(case).unwrap()).variants(gpu).unwrap(),
                    false => {
                        let mut own = kernel.candidates(&call, gpu.caps());
                        // Where all drivers are old, what newer ones would run: of one width of heads, as old ones compile others for half a minute.
                        let newer = kernel.candidates(&call, &Caps { slow_arrays: false, ..gpu.caps().clone() });
                        let elsewhere =
                            |it: &&Source| devices.iter().any(|gpu| kernel.candidates(&call, gpu.caps()).contains(it));
                        let wide = |it: &&Source| ["h128", "h256"].contains(&it.choice("most"));
                        own.extend(newer.into_iter().filter(|it| !elsewhere(it) && !wide(it)));
                        own
                    }
                };
                for source in sources {
                    let launch = kernel.launch(&call, source);
                    let firsts = kernel.first_group();
                    for first in firsts.into_iter().flatten() {
                        assert_eq!(launch.params.get(first), Some(&0), "{}: a whole launch begins at 0", entry.name);
                    }
                    let [x, y, _] = launch.grid;
                    // Along x as many as there are; so many that they are along y where there are more.
                    let axes = [x > 1 && firsts[0].is_some(), y > x && x < MOST && firsts[1].is_some()];
                    for axis in (0..2).filter(|axis| axes[*axis]) {
                        let (groups, known) = (launch.grid[axis].min(MOST), (entry.name, at, source.label, axis));
                        if !full && cut.contains(&known) {
                            continue;
                        }
                        let prepared = prepared.get_or_insert_with(|| Prepared::new(case).unwrap());
                        let plan = gpu.block_on(prepared.load(gpu, source)).unwrap();
                        let inputs = prepared.inputs();
                        let blank: Vec<HostTensor> =
                            inputs.iter().map(|it| HostTensor::zeros(it.desc.clone())).collect();
                        let whole = gpu.block_on(plan.run_tensors(&inputs)).unwrap();
                        // Where a piece is missing, something else is found.
                        gpu.block_on(plan.run_tensors(&blank)).unwrap();
                        let (pieces, found) = in_pieces(gpu, &plan, &inputs, if axis == 0 { groups } else { MOST });
                        let along = ["x", "y"][axis];
                        let what = format!("{}[{}] {} on {}", entry.name, source.label, case.label, gpu.summary());
                        assert!(found == whole, "{what}: other bits in {pieces} pieces along {along}");
                        // As many as there are workgroups, but for the most pieces that a step may have.
                        let all = launch.grid[axis] <= MOST && pieces == groups as usize;
                        assert!(all || pieces > 32, "{what}: {pieces} pieces of {groups} workgroups along {along}");
                        cut.insert(known);
                    }
                }
            }
        }
    }
    eprintln!("{} variants cut on {} devices", cut.len(), devices.len());
    if only.is_none() && !devices.is_empty() {
        let of = |axis: usize| -> BTreeSet<&str> { cut.iter().filter(|it| it.3 == axis).map(|it| it.0).collect() };
        let in_rows = ["conv", "depthwise", "depthwise_pointwise", "pointwise", "stem"];
        let in_columns = ["attention", "dense", "experts", "grouped_experts"].into_iter().chain(in_rows);
        assert_eq!([of(0), of(1)], [in_columns.collect(), BTreeSet::from(in_rows)]);
    }
}
