//! What a course does with runs that are not its plans', and that whoever asked for them can go on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris_engine::gpu::{Budget, ConstantStore, Course, Event, Few, GpuPlan, Job, VariantChoice, Written, wgpu};
use lampyris_engine::kernels::Desc;
use lampyris_engine::kernels::elementwise::{Function, Unary};
use lampyris_engine::{Error, Gpu, PlanBuilder};
use std::sync::Arc;
use std::time::Duration;
use support::devices;

const WORDS: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);

fn plan(gpu: &Gpu) -> GpuPlan {
    let mut builder = PlanBuilder::new();
    let x = builder.input("x", Desc::f32([1, WORDS]));
    let y = builder.apply("abs", Unary { function: Function::Abs }, &[x]).unwrap();
    builder.output("y", y);
    let plan = Arc::new(builder.finish());
    gpu.block_on(GpuPlan::new(gpu, plan, &ConstantStore::new(), VariantChoice::Best)).unwrap()
}

/// A run whose input are numbers that begin with `-tag`.
fn job(tag: u64) -> Job {
    let words: Vec<u32> = (0..WORDS).map(|at| (-(tag as f32) - at as f32).to_bits()).collect();
    let begin = Few::One([Written { name: "x", at: 0, words: words.into() }]);
    Job { part: 0, tag, begin, again: Few::None, outputs: true, positions: 0 }
}

fn frame(gpu: &Gpu) -> wgpu::CommandEncoder {
    let label = Some("the host's frame");
    gpu.device().unwrap().create_command_encoder(&wgpu::CommandEncoderDescriptor { label })
}

fn submit(gpu: &Gpu, frame: wgpu::CommandEncoder) {
    gpu.queue().unwrap().submit([frame.finish()]);
    gpu.block_on(gpu.idle()).unwrap();
}

/// Runs what is right, and sees that it is.
fn runs(gpu: &Gpu, course: &mut Course, tag: u64) {
    let (mut encoder, mut next) = (frame(gpu), Some(job(tag)));
    assert_eq!(course.record(&mut encoder, &mut Budget::gpu(MINUTE), &mut || next.take()).unwrap(), 1);
    submit(gpu, encoder);
    let Some(Event::Ran { tag: found, outputs }) = course.event().unwrap() else { panic!("nothing ran") };
    let expected: Vec<f32> = (0..WORDS).map(|at| tag as f32 + at as f32).collect();
    assert_eq!((found, outputs[0].values()), (tag, expected));
    course.take_back(outputs);
}

#[test]
fn a_run_that_is_refused_gives_up_what_was_recorded() {
    for gpu in devices() {
        let plan = plan(&gpu);
        let course = Course::new(&gpu, std::slice::from_ref(&plan), Duration::from_secs(1), 4 * WORDS);
        let mut course = gpu.block_on(course).unwrap();
        let written = |name, at, words: usize| Few::One([Written { name, at, words: vec![0; words].into() }]);
        let wrong = [
            Job { begin: written("nowhere", 0, 1), ..job(9) },
            Job { begin: written("y", 0, 1), ..job(9) },
            Job { again: written("x", WORDS, 1), ..job(9) },
            Job { begin: written("x", 0, 4 * WORDS + 1), ..job(9) },
            Job { part: 1, ..job(9) },
        ];
        for wrong in wrong {
            runs(&gpu, &mut course, 3);
            // One is under way when two more are asked for, of which the second is refused.
            let (mut earlier, mut next) = (frame(&gpu), Some(job(4)));
            course.record(&mut earlier, &mut Budget::gpu(MINUTE), &mut || next.take()).unwrap();
            let (mut encoder, mut budget, mut given) = (frame(&gpu), Budget::gpu(MINUTE), 0);
            let refused = course.record(&mut encoder, &mut budget, &mut || {
                given += 1;
                Some(if given == 1 { job(5) } else { wrong.clone() })
            });
            assert!(matches!(refused, Err(Error::Input { .. })), "{refused:?} of {wrong:?}");
            assert_eq!((given, &budget), (2, &Budget::gpu(MINUTE)), "what is not recorded is not paid");
            submit(&gpu, encoder);
            // Nothing is recorded until it was told that all is to be recorded again, for the run that was given is not had again.
            let (mut encoder, mut next) = (frame(&gpu), Some(job(6)));
            assert_eq!(course.record(&mut encoder, &mut Budget::gpu(MINUTE), &mut || next.take()).unwrap(), 0);
            assert!(next.is_some() && course.event().unwrap().is_none());
            submit(&gpu, earlier);
            let told = course.event().unwrap();
            assert!(matches!(told, Some(Event::Broken)), "{told:?} after {wrong:?}");
            assert!(course.event().unwrap().is_none() && course.is_idle());
        }
        runs(&gpu, &mut course, 7);
    }
}
