//! What models cost a host whose encoder they record into: no allocation beyond those of the plans that they record, which
//! `engine/tests/overhead.rs` holds against wgpu alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

#[path = "support/bert.rs"]
mod bert;
#[path = "../engine/tests/support/counting.rs"]
mod counting;
mod support;

use counting::{least, without_backtraces};
use lampyris::engine::gpu::{ConstantStore, GpuPlan, InputData, Recorded, States, VariantChoice};
use lampyris::engine::kernels::image::{Area, ResizeColumns, ResizeRows, ResizeTexture, Turn, table};
use lampyris::engine::kernels::text::{DrawSettings, spans_of_rows, spans_of_sequences};
use lampyris::engine::kernels::{Desc, Format, HostTensor};
use lampyris::engine::plan::{Plan, PlanBuilder};
use lampyris::models::decoder::{CacheFormat, Decoder, Head, PlanRequest, Products};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, EncoderPlan, TokenEncoder};
use lampyris::models::image_prep::Passes;
use lampyris::models::mobilenet::Pixels;
use lampyris::wgpu::{self, TextureFormat};
use lampyris::{Classifier, Gpu, Input, Sampling};
use std::cell::RefCell;
use std::sync::Arc;
use support::decoders::noise;
use support::fixture;
use support::host::hosts;

const DECODER: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 61, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;
const SIDE: u32 = 90;

/// Allocations of a frame in which something is recorded whose result is there when the device is idle.
fn made<T>(gpu: &Gpu, mut record: impl FnMut(&mut wgpu::CommandEncoder) -> T, mut take: impl FnMut(T)) -> usize {
    let under_way = RefCell::new(None);
    least(
        gpu,
        |encoder| *under_way.borrow_mut() = Some(record(encoder)),
        || take(under_way.borrow_mut().take().unwrap()),
    )
    .0
}

fn taken(mut recorded: Recorded) {
    assert!(recorded.try_take().unwrap().is_some());
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
    let area = Area { x: 0, y: 0, width: SIDE, height: SIDE };
    let pixels = if format.is_texture() {
        let kernel = ResizeTexture { area, turn: Turn::default(), planes: None };
        builder.apply("resize", kernel, &[picture, columns, rows]).unwrap()
    } else {
        let first = ResizeRows::new(area, passes.first_row, passes.rows);
        let middle = builder.apply("rows", first, &[picture, columns]).unwrap();
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
            let input = || match format {
                Format::Rgba8 => Input::rgba8(bytes.as_slice(), SIDE, SIDE),
                _ => Input::texture(&view),
            };
            let of_pictures = made(
                &gpu,
                |encoder| classifier.record(encoder, input()).unwrap(),
                |mut seen| assert!(seen.try_take().unwrap().is_some()),
            );
            let preparing = Arc::new(preparing(&classifier, format));
            let preparing = gpu.block_on(GpuPlan::feeding(&gpu, preparing, plan, 0)).unwrap();
            let given = match format {
                Format::Rgba8 => [InputData::Bytes(&bytes)],
                _ => [InputData::Texture(&view)],
            };
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
                |()| assert!(session.borrow_mut().try_step().unwrap().is_some()),
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

#[test]
fn what_models_record_costs_what_their_plans_do() {
    without_backtraces();
    a_recorded_picture_costs_what_its_plans_do();
    a_recorded_vector_costs_what_its_plan_does();
    a_recorded_token_costs_what_its_plan_and_its_words_do();
}
