//! What models cost a host whose encoder they record into: no allocation beyond those of the plans that they record, which
//! `engine/tests/overhead.rs` holds against wgpu alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

#[path = "support/bert.rs"]
mod bert;
#[path = "../engine/tests/support/counting.rs"]
mod counting;
mod support;

use counting::{steady, without_backtraces};
use lampyris::engine::gpu::{
    ConstantStore, Course, Event, Few, GpuPlan, InputData, Job, Recorded, States, StepTimes, VariantChoice, Written,
};
use lampyris::engine::kernels::image::{ResizeColumns, ResizeRows, ResizeTexture, Turn, corner, table};
use lampyris::engine::kernels::text::{DrawSettings, spans_of_rows, spans_of_sequences};
use lampyris::engine::kernels::{Desc, Format, HostTensor};
use lampyris::engine::plan::{Plan, PlanBuilder};
use lampyris::models::decoder::{CacheFormat, Decoder, DrivenSession, Head, PlanRequest, Products};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, EncoderPlan, TokenEncoder};
use lampyris::models::image_prep::Passes;
use lampyris::models::mobilenet::Pixels;
use lampyris::wgpu::{self, TextureFormat};
use lampyris::{Budget, Classifier, Gpu, Input, Sampling, Tick};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use support::decoders::noise;
use support::fixture;
use support::host::{Host, hosts};

const DECODER: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 61, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;
const SIDE: u32 = 90;
const HOST: wgpu::CommandEncoderDescriptor<'static> = wgpu::CommandEncoderDescriptor { label: Some("host") };

/// Allocations of a frame in which something is recorded whose result is there when the device is idle.
fn made<T>(gpu: &Gpu, mut record: impl FnMut(&mut wgpu::CommandEncoder) -> T, mut take: impl FnMut(T)) -> usize {
    let under_way = RefCell::new(None);
    steady(
        gpu,
        |encoder| *under_way.borrow_mut() = Some(record(encoder)),
        || take(under_way.borrow_mut().take().unwrap()),
    )
    .0
}

fn taken(mut recorded: Recorded) {
    assert!(recorded.try_take().unwrap().is_some());
}

/// A picture of `SIDE` pixels a side, as bytes or as a texture.
fn picture<'a>(format: Format, bytes: &'a [u8], view: &'a wgpu::TextureView) -> Input<'a> {
    match format {
        Format::Rgba8 => Input::rgba8(bytes, SIDE, SIDE),
        _ => Input::texture(view),
    }
}

/// What prepares a picture of such a format, as the classifier's own plans do.
fn preparing(classifier: &Classifier, format: Format) -> Plan {
    let passes = Passes::new(classifier.preprocess(), SIDE, SIDE).unwrap();
    let mut builder = PlanBuilder::new();
    let picture = builder.input("picture", Desc::new(format, [1, SIDE as usize, SIDE as usize]));
    let [columns, rows] = [("columns", &passes.horizontal), ("rows", &passes.vertical)].map(|(name, from)| {
        let tensor: HostTensor = table(&from.first, &from.count, &from.coefficients, from.taps);
        builder.constant(name, tensor.desc.clone(), Arc::new(move || Ok(tensor.clone())))
    });
    let (size, begins) = ([SIDE; 2], builder.input("corner", corner(0, 0).desc));
    let pixels = if format.is_texture() {
        let kernel = ResizeTexture { size, turn: Turn::default(), planes: None };
        builder.apply("resize", kernel, &[picture, columns, rows, begins]).unwrap()
    } else {
        let first = ResizeRows::new(size, passes.first_row, passes.rows);
        let middle = builder.apply("rows", first, &[picture, columns, begins]).unwrap();
        builder.apply("columns", ResizeColumns { first_row: passes.first_row }, &[middle, rows]).unwrap()
    };
    builder.output("pixels", pixels);
    builder.finish()
}

fn a_recorded_picture_costs_what_its_plans_do() {
    for host in hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let executor = gpu.block_on(classifier.executor(1, Pixels::Rgba8)).unwrap();
        let plan = executor.gpu_plan().unwrap();
        let bytes: Vec<u8> = (0..SIDE * SIDE * 4).map(|at| (at * 7) as u8).collect();
        let view = host.texture(TextureFormat::Rgba8Unorm, &bytes, [SIDE, SIDE]);
        for format in [Format::Texture, Format::Rgba8] {
            // wgpu keeps lists as long as the highest number of a buffer: those to compare with are made last.
            let input = || picture(format, &bytes, &view);
            let of_pictures = made(
                &gpu,
                |encoder| classifier.record(encoder, input()).unwrap(),
                |mut seen| assert!(seen.try_take().unwrap().is_some()),
            );
            let preparing = Arc::new(preparing(&classifier, format));
            let preparing = gpu.block_on(GpuPlan::feeding(&gpu, preparing, plan, 0)).unwrap();
            let pixels = match format {
                Format::Rgba8 => InputData::Bytes(&bytes),
                _ => InputData::Texture(&view),
            };
            let given = [pixels, InputData::Words(&[0, 0])];
            let of_plans = made(
                &gpu,
                |encoder| plan.record(encoder, &[InputData::Bound], &[(&preparing, &given)]).unwrap(),
                taken,
            );
            eprintln!("{}: {of_plans} allocations by plans, {of_pictures} of a picture ({format:?})", host.name);
            assert!(of_pictures <= of_plans, "{}: {of_pictures} for {of_plans} ({format:?})", host.name);
        }
    }
}

fn a_recorded_vector_costs_what_its_plan_does() {
    let folder = tempfile::tempdir().unwrap();
    bert::write(folder.path());
    for host in hosts() {
        let gpu = host.guest();
        let files = EncoderFiles::open(folder.path()).unwrap();
        let sentences = TokenEncoder::new(&gpu, files, EncoderOptions::default()).unwrap();
        let sequence = [2, 7, 9, 11, 3];
        let of_vectors = made(
            &gpu,
            |encoder| sentences.record(encoder, &sequence).unwrap(),
            |mut vector| assert!(vector.try_take().unwrap().is_some()),
        );
        let plan = Arc::new(sentences.plan(EncoderPlan { rows: 8, sequences: Some(8) }).unwrap());
        let plan = gpu.block_on(GpuPlan::new(&gpu, plan, &ConstantStore::new(), VariantChoice::Best)).unwrap();
        let tokens = [&sequence[..], &[0; 3]].concat();
        let inputs = [tokens, spans_of_rows(&[5], 8), spans_of_sequences(&[5], 8)];
        let words: Vec<InputData<'_>> = inputs.iter().map(|words| InputData::Words(words)).collect();
        let of_plan = made(&gpu, |encoder| plan.record(encoder, &words, &[]).unwrap(), taken);
        eprintln!("{}: {of_plan} allocations by the plan, {of_vectors} of a vector", host.name);
        assert!(of_vectors <= of_plan, "{}: {of_vectors} for {of_plan}", host.name);
    }
}

fn a_recorded_token_costs_what_its_plan_and_its_words_do() {
    for host in hosts() {
        let gpu = host.guest();
        let decoder = Decoder::new(&gpu, noise(DECODER, &[], &[])).unwrap();
        for (how, head) in [(Sampling::greedy(), Head::Sample), (Sampling::at(0.9).seed(3), Head::Draw)] {
            let (context, cache, products) = (80, CacheFormat::F32, Products::Exact);
            let mut session = gpu.block_on(decoder.session(context)).unwrap();
            gpu.block_on(session.feed(&[5, 9, 30, 7])).unwrap();
            gpu.block_on(session.ready_to_step(&how)).unwrap();
            let session = RefCell::new(session);
            let of_tokens = made(
                &gpu,
                |encoder| session.borrow_mut().record_step(encoder, &how).unwrap(),
                |_| assert!(session.borrow_mut().try_step().unwrap().is_some()),
            );
            let plan = decoder.plan(PlanRequest { context, cache, tokens: 1, head, products }).unwrap();
            let states = gpu.block_on(States::new(&gpu, &[&plan])).unwrap();
            let (store, best) = (ConstantStore::new(), VariantChoice::Best);
            let plan = gpu.block_on(GpuPlan::with_states(&gpu, plan, &store, &states, best, |_| ())).unwrap();
            let settings = DrawSettings { temperature: 0.9, ..DrawSettings::GREEDY }.words();
            let of_plan = made(
                &gpu,
                |encoder| {
                    let recorded = plan.record(encoder, &[], &[]).unwrap();
                    // Where the token stands, and how it is drawn.
                    states.write("cursor", 0, &[3, 1]).unwrap();
                    if head == Head::Draw {
                        states.write("sampling", 0, &settings).unwrap();
                    }
                    recorded
                },
                taken,
            );
            eprintln!("{}: {of_plan} allocations by the plan and its words, {of_tokens} of a token", host.name);
            assert!(of_tokens <= of_plan, "{}: {of_tokens} for {of_plan}", host.name);
        }
    }
}

/// The engine on another device of the host's adapter, whose clock it does not see: nothing is learnt there, so ticks cut alike every time.
fn without_clock(host: &Host) -> Gpu {
    let wanted = Gpu::requirements(&host.adapter);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("the host's without a clock"),
        required_features: wanted.features.difference(wgpu::Features::TIMESTAMP_QUERY),
        required_limits: wanted.limits,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(host.adapter.request_device(&descriptor)).unwrap();
    let gpu = Gpu::from_device(&host.adapter, &device, &queue).unwrap();
    assert!(!gpu.caps().timestamps);
    gpu
}

/// What a course of one plan allocates that is ticked with one whole run a frame, beginning with taking what the last one brought; as
/// `before` says with a picture before it, whose answer is taken when the frame is over.
fn of_a_course(
    gpu: &Gpu,
    plan: &GpuPlan,
    again: impl Fn() -> Few<Written>,
    before: Option<(&GpuPlan, &[InputData<'_>])>,
) -> usize {
    let course = gpu.block_on(Course::new(gpu, std::slice::from_ref(plan), Duration::from_micros(500), 64)).unwrap();
    let (course, times) = (RefCell::new(course), before.map(|(plan, _)| StepTimes::known(plan)));
    let take = || {
        let mut course = course.borrow_mut();
        let Some(Event::Ran { outputs, .. }) = course.event().unwrap() else { return };
        course.take_back(outputs);
    };
    steady(
        gpu,
        |encoder| {
            take();
            let (begin, again) = (Few::None, again());
            let mut job = Some(Job { part: 0, tag: 1, begin, again, outputs: true, positions: 10 });
            let mut budget = Budget::gpu(Duration::from_secs(60));
            let before = before.zip(times.as_ref()).map(|((plan, inputs), times)| (plan, times, inputs));
            let steps = course.borrow_mut().record_after(encoder, &mut budget, before, &mut || job.take()).unwrap();
            assert!(steps >= plan.plan().steps.len());
        },
        || {
            if before.is_some() {
                take();
            }
        },
    )
    .0
}

fn a_ticked_picture_costs_what_its_plans_do() {
    for host in hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let bytes: Vec<u8> = (0..SIDE * SIDE * 4).map(|at| (at * 7) as u8).collect();
        let view = host.texture(TextureFormat::Rgba8Unorm, &bytes, [SIDE, SIDE]);
        for format in [Format::Texture, Format::Rgba8] {
            let input = || picture(format, &bytes, &view);
            let eyes = RefCell::new(gpu.block_on(classifier.driven()).unwrap());
            let (of_pictures, _) = steady(
                &gpu,
                |encoder| {
                    let mut budget = Budget::gpu(Duration::from_secs(60));
                    eyes.borrow_mut().look(encoder, &mut budget, input()).unwrap();
                },
                || {
                    // What an answer holds is the caller's.
                    let mut encoder = host.device.create_command_encoder(&HOST);
                    let tick = eyes.borrow_mut().tick(&mut encoder, &mut Budget::gpu(Duration::ZERO)).unwrap();
                    assert!(matches!(tick, Tick::Done(_)), "{tick:?}");
                },
            );
            let executor = gpu.block_on(classifier.executor(1, Pixels::Rgba8)).unwrap();
            let plan = Arc::new(executor.gpu_plan().unwrap().plan().clone());
            let plan = gpu.block_on(GpuPlan::new(&gpu, plan, &ConstantStore::new(), VariantChoice::Best)).unwrap();
            let preparing = Arc::new(preparing(&classifier, format));
            let preparing = gpu.block_on(GpuPlan::feeding(&gpu, preparing, &plan, 0)).unwrap();
            let pixels = match format {
                Format::Rgba8 => InputData::Bytes(&bytes),
                _ => InputData::Texture(&view),
            };
            let given = [pixels, InputData::Words(&[0, 0])];
            let of_plans = of_a_course(&gpu, &plan, || Few::None, Some((&preparing, &given)));
            eprintln!("{}: {of_plans} allocations by a course, {of_pictures} of a look ({format:?})", host.name);
            assert!(of_pictures <= of_plans, "{}: {of_pictures} for {of_plans} ({format:?})", host.name);
        }
    }
}

fn a_ticked_token_costs_what_its_plan_does() {
    for host in hosts() {
        let gpu = without_clock(&host);
        let decoder = Decoder::new(&gpu, noise(DECODER, &[], &[])).unwrap();
        for (how, head) in [(Sampling::greedy(), Head::Sample), (Sampling::at(0.9).seed(3), Head::Draw)] {
            let (context, cache, products) = (80, CacheFormat::F32, Products::Exact);
            let session = gpu.block_on(decoder.session(context)).unwrap();
            let mut driven = session.driven_generate(&[5, 9, 30, 7], 70, &how);
            let (device, queue) = (gpu.device().unwrap(), gpu.queue().unwrap());
            // One step a tick until the first token is there, with which the first step of the next is recorded; then the rest of that.
            let rest = |driven: &DrivenSession, first: usize| {
                driven.times().map_or(Duration::ZERO, |[_, token]| {
                    // What is left then is less than the first step of the run after.
                    Duration::from_secs_f64(token.of(first..token.len()) + 0.5 * token.of(0..1))
                })
            };
            let mut arrived = false;
            for _ in 0..10_000 {
                let (first, mut encoder) = (arrived, device.create_command_encoder(&HOST));
                let time = if first { rest(&driven, 1) } else { Duration::ZERO };
                let tick = driven.tick(&mut encoder, &mut Budget::gpu(time)).unwrap();
                queue.submit([encoder.finish()]);
                gpu.block_on(gpu.idle()).unwrap();
                arrived = matches!(tick, Tick::Pieces(_));
                if first {
                    break;
                }
            }
            let mut tokens = 0;
            let (of_tokens, _) = steady(
                &gpu,
                |encoder| {
                    let mut budget = Budget::gpu(rest(&driven, 0));
                    match driven.tick(encoder, &mut budget).unwrap() {
                        Tick::Pieces(more) => tokens += more.len(),
                        other => panic!("{other:?} on {}", host.name),
                    }
                },
                || (),
            );
            assert_eq!(tokens, 50, "{}: one a tick", host.name);
            let plan = decoder.plan(PlanRequest { context, cache, tokens: 1, head, products }).unwrap();
            let states = gpu.block_on(States::new(&gpu, &[&plan])).unwrap();
            let (store, best) = (ConstantStore::new(), VariantChoice::Best);
            let plan = gpu.block_on(GpuPlan::with_states(&gpu, plan, &store, &states, best, |_| ())).unwrap();
            let again = || Few::One([Written { name: "cursor", at: 0, words: Few::Two([3, 1]) }]);
            let of_plan = of_a_course(&gpu, &plan, again, None);
            eprintln!("{}: {of_plan} allocations by a course, {of_tokens} of a ticked token", host.name);
            assert!(of_tokens <= of_plan, "{}: {of_tokens} for {of_plan}", host.name);
        }
    }
}

#[test]
fn what_models_record_costs_what_their_plans_do() {
    without_backtraces();
    a_recorded_picture_costs_what_its_plans_do();
    a_recorded_vector_costs_what_its_plan_does();
    a_recorded_token_costs_what_its_plan_and_its_words_do();
    a_ticked_picture_costs_what_its_plans_do();
    a_ticked_token_costs_what_its_plan_does();
}
