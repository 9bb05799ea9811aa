//! What the library promises of its public types before and beside any run: what several models take is known before one is
//! loaded, every handle goes to any thread, an answer is a stream, and whatever a host's device has gives the same answers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::fixture;
use crate::support::host::{Host, hosts, quick_hosts};
use futures_core::Stream;
use lampyris::engine::gpu::{ConstantStore, Course, GpuPlan, Paced, Pending, Recorded, States, StepTimes};
use lampyris::engine::plan::PlanBytes;
use lampyris::engine::weights::TensorFile;
use lampyris::engine::weights::gguf::Gguf;
use lampyris::engine::{Error as EngineError, Executor, Plan};
use lampyris::models::decoder::{
    Decoder, DecoderFiles, DrivenSession, Generation, Needs, Products, Session, SessionOptions, StepBuffers,
};
use lampyris::models::encoder::{Embedding, EncoderFiles, EncoderNeeds, EncoderOptions, TokenEncoder};
use lampyris::models::record::Seen;
use lampyris::text_model::{Choice, DrivenText, TextFiles, TextGeneration, TextPieces, TextSession};
use lampyris::wgpu::{CommandEncoderDescriptor, DeviceDescriptor, Features, Limits, PollType};
use lampyris::{
    Answer, AnswerOptions, Budget, Classifier, ClassifierNeeds, ClassifierOptions, Encoder, Error, FilesFrom, Gpu,
    GpuOptions, Input, Loading, MemoryPlan, Prediction, Sampling, Scheduler, Source, TextModel, Tick, WarmJob,
    Watching, text,
};
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const NETWORK: &str = "mobilenet_v3_small_w025";
const PICTURE: [u32; 2] = [64, 48];
/// Tokens of the text that is embedded, and of the conversation.
const TEXT: usize = 8;
const CONTEXT: usize = 200;

/// A detector, a character that talks and a memory of texts, none of which is loaded, on the device.
fn planned(gpu: &Gpu, texts: &Path) -> (MemoryPlan, TextModel, Encoder) {
    let eyes = Classifier::needs(fixture(NETWORK)).unwrap();
    let eyes = eyes.recorded().pictures(PICTURE[0], PICTURE[1]).unwrap();
    let npc = TextModel::bundled(gpu).unwrap();
    let talk = npc.decoder().needs(talking()).unwrap();
    let lore = Encoder::new(gpu, EncoderFiles::open(texts).unwrap(), EncoderOptions::default()).unwrap();
    let meaning = lore.network().needs(TEXT).unwrap().recorded();
    let plan = MemoryPlan::new().with("eyes", &eyes).with("npc", &talk).with("lore", &meaning);
    assert_eq!(plan.bytes(), eyes.total() + talk.total() + meaning.total());
    (plan, npc, lore)
}

fn talking() -> SessionOptions {
    SessionOptions::from(CONTEXT).chunk(32)
}

fn under(host: &Host, budget: u64) -> Gpu {
    let options = GpuOptions::default().budget(budget);
    Gpu::from_device_with(&host.adapter, &host.device, &host.queue, options).unwrap()
}

/// Loads all three under a budget and has each do what was planned, comparing what is held with what was said of it.
fn loaded(host: &Host, budget: u64, texts: &Path) {
    let gpu = under(host, budget);
    let (plan, npc, lore) = planned(&gpu, texts);
    plan.check(&gpu).unwrap();
    assert_eq!(gpu.held_bytes(), 0, "{}: planning took something", host.name);
    let said: Vec<u64> = plan.models().map(|(_, bytes)| bytes.total()).collect();
    let held = |models: usize| {
        let (held, said) = (gpu.held_bytes(), said[..models].iter().sum());
        // On a GPU the form of a network that is faster may be the smaller one.
        let right = if gpu.caps().software { held == said } else { held <= said };
        assert!(right, "{}: {held} bytes are held and {said} were said of {models} models", host.name);
    };
    let mut frame = host.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("the host's frame") });
    let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
    let pixels = vec![99; (PICTURE[0] * PICTURE[1] * 4) as usize];
    let looks: Vec<_> = (0..4)
        .map(|_| classifier.record(&mut frame, Input::rgba8(pixels.as_slice(), PICTURE[0], PICTURE[1])).unwrap())
        .collect();
    held(1);
    let mut session = gpu.block_on(npc.decoder().session(talking())).unwrap();
    // What draws tokens is made when it is first asked for.
    gpu.block_on(session.ready_to_step(&Sampling::usual())).unwrap();
    held(2);
    gpu.block_on(lore.network().load(|_, _| ())).unwrap();
    let vectors: Vec<_> = (0..4).map(|_| lore.record(&mut frame, "a cat").unwrap()).collect();
    held(3);
    host.queue.submit([frame.finish()]);
    for look in looks {
        gpu.block_on(look.wait()).unwrap();
    }
    for vector in vectors {
        gpu.block_on(vector.wait()).unwrap();
    }
    assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
}

#[test]
fn three_models_fit_as_it_was_said_before_or_are_refused_with_the_figures() {
    let texts = tempfile::tempdir().unwrap();
    crate::bert::write(texts.path());
    for host in hosts() {
        let (plan, ..) = planned(&host.guest(), texts.path());
        let all = plan.bytes();
        loaded(&host, all, texts.path());

        let gpu = under(&host, all - 1);
        let error = planned(&gpu, texts.path()).0.check(&gpu).unwrap_err();
        let expected: Vec<(String, u64)> =
            plan.models().map(|(name, bytes)| (name.to_owned(), bytes.total())).collect();
        let right = matches!(&error, EngineError::Together { models, needed, held: 0, budget }
            if *models == expected && *needed == all && *budget == all - 1);
        assert!(right && error.to_string().contains("lore"), "{}: {error}", host.name);
        assert_eq!(gpu.held_bytes(), 0, "{}: something was loaded", host.name);
    }
}

/// Frames of a host in which a picture is looked at and a few words are said, both by ticks. A budget that is too small is told by
/// whatever would go beyond it.
fn ticked(host: &Host, (mut eyes, mut npc): (Option<Watching>, Option<DrivenText>)) -> lampyris::Result<String> {
    let pixels = vec![99; (PICTURE[0] * PICTURE[1] * 4) as usize];
    let (mut looked, mut said) = (0, String::new());
    if let Some(npc) = &mut npc {
        npc.generate("Once upon a time", AnswerOptions::new(8).sampling(Sampling::at(0.7).seed(5)));
    }
    for _ in 0..100_000 {
        let mut frame = host.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("a frame") });
        let mut budget = Budget::gpu(Duration::from_millis(1));
        if let Some(eyes) = &mut eyes {
            match eyes.tick(&mut frame, &mut budget)? {
                Tick::Done(answer) => {
                    assert_eq!(answer.top(1).len(), 1);
                    looked += 1;
                }
                Tick::Idle => {
                    eyes.look(&mut frame, &mut budget, Input::rgba8(pixels.as_slice(), PICTURE[0], PICTURE[1]))?
                }
                _ => {}
            }
        }
        let mut over = npc.is_none();
        if let Some(npc) = &mut npc {
            match npc.tick(&mut frame, &mut budget)? {
                Tick::Pieces(text) => said += &text,
                Tick::Done(_) | Tick::Idle => over = true,
                Tick::Working(_) | Tick::Lost => {}
            }
        }
        host.queue.submit([frame.finish()]);
        host.device.poll(PollType::wait_indefinitely()).unwrap();
        if over && (eyes.is_none() || looked >= 3) {
            return Ok(said);
        }
    }
    panic!("{}: nothing came of it, but {looked} looks and '{said}'", host.name);
}

/// Loads a classifier under a budget, which prepares a picture for itself too, and watches.
fn watching(host: &Host, gpu: &Gpu) -> lampyris::Result<()> {
    let classifier = gpu.block_on(Classifier::load(gpu, &fixture(NETWORK)))?;
    let pixels = vec![9; (PICTURE[0] * PICTURE[1] * 4) as usize];
    gpu.block_on(classifier.classify(Input::rgba8(pixels, PICTURE[0], PICTURE[1])))?;
    let mut eyes = gpu.block_on(classifier.driven())?;
    gpu.block_on(eyes.measure())?;
    ticked(host, (Some(eyes), None)).map(|_| ())
}

/// Makes a session under a budget that cuts long steps as finely as is asked for, and lets it talk.
fn talks(host: &Host, gpu: &Gpu, finest: Duration) -> lampyris::Result<u64> {
    let session = gpu.block_on(TextModel::bundled(gpu)?.session(talking()))?;
    let npc = gpu.block_on(session.driven().finest(finest).measured(&Sampling::at(0.7)))?;
    let held = gpu.held_bytes();
    let said = ticked(host, (None, Some(npc)))?;
    assert!(said.split_whitespace().count() > 2, "{}: '{said}'", host.name);
    Ok(held)
}

fn beyond<T: std::fmt::Debug>(result: lampyris::Result<T>) -> bool {
    matches!(result, Err(Error::Engine(EngineError::Budget { .. })))
}

#[test]
fn what_is_driven_fits_as_it_was_said_before_or_is_refused() {
    for host in quick_hosts() {
        let name = &host.name;
        let planning = host.guest();
        let eyes = Classifier::needs(fixture(NETWORK)).unwrap().driven().pictures(PICTURE[0], PICTURE[1]).unwrap();
        let npc = TextModel::bundled(&planning).unwrap().decoder().needs(talking()).unwrap().driven();
        assert!(eyes.driven > eyes.work && eyes.cut > 0 && npc.driven > 0 && npc.cut > 0, "{eyes:?}");
        let plan = MemoryPlan::new().with("eyes", &eyes).with("npc", &npc);
        assert_eq!(plan.bytes(), eyes.total() + npc.total());

        // Together, by the plan: all of it is enough, a byte less is refused before anything is loaded.
        let gpu = under(&host, plan.bytes());
        plan.check(&gpu).unwrap();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let watching_too = gpu.block_on(classifier.driven()).unwrap();
        let session = gpu.block_on(TextModel::bundled(&gpu).unwrap().session(talking())).unwrap();
        let talking_too = gpu.block_on(session.driven().measured(&Sampling::at(0.7))).unwrap();
        ticked(&host, (Some(watching_too), Some(talking_too))).unwrap();
        let error = plan.check(&under(&host, plan.bytes() - 1)).unwrap_err();
        assert!(matches!(error, EngineError::Together { held: 0, .. }), "{name}: {error}");

        // Each alone. How finely steps are cut is known afterwards; what is said of the rest is exact.
        watching(&host, &under(&host, eyes.total())).unwrap();
        talks(&host, &under(&host, npc.total()), Duration::from_nanos(1)).unwrap();
        let uncut = Duration::from_secs(3600);
        let [eyes, npc] = [eyes.total() - eyes.cut, npc.total() - npc.cut];
        let held = talks(&host, &under(&host, npc), uncut).unwrap();
        if planning.caps().software {
            assert_eq!(held, npc, "{name}");
            assert!(beyond(talks(&host, &under(&host, npc - 1), uncut)), "{name}");
            assert!(beyond(watching(&host, &under(&host, eyes - 1))), "{name}");
        } else {
            assert!(held <= npc, "{name}: {held} of {npc}");
        }
        assert_eq!(host.told(), (0, 0), "the host of {name} heard of the guest");
    }
}

#[test]
fn a_classifier_says_what_it_takes_without_a_device() {
    let one = Classifier::needs(fixture(NETWORK)).unwrap();
    let many = Classifier::needs_with(fixture(NETWORK), ClassifierOptions::default(), 8).unwrap();
    assert_eq!((one.images, many.images, one.weights), (1, 8, many.weights));
    assert!(many.work > 4 * one.work, "{} and {}", many.work, one.work);
    // A picture's bytes are in what its preparation takes, and four times in what is recorded.
    let [width, height] = [320, 200];
    let pictures = one.clone().pictures(width, height).unwrap();
    let bytes = u64::from(width * height * 4);
    assert!((bytes..2 * bytes).contains(&pictures.preparing), "{}", pictures.preparing);
    let recorded = pictures.clone().recorded();
    assert_eq!(recorded.recorded, one.recorded().pictures(width, height).unwrap().recorded);
    assert!(recorded.recorded > 4 * bytes && PlanBytes::from(&recorded).total() == recorded.total());
    let missing = Classifier::needs("no/such/folder").unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing}");
}

#[test]
fn every_handle_goes_where_a_host_wants_it() {
    fn anywhere<T: Send + Sync + 'static>() {}
    // What a program loads and keeps.
    anywhere::<Gpu>();
    anywhere::<GpuOptions>();
    anywhere::<Classifier>();
    anywhere::<ClassifierOptions>();
    anywhere::<ClassifierNeeds>();
    anywhere::<StepBuffers>();
    anywhere::<Source>();
    anywhere::<TextModel>();
    anywhere::<TextFiles>();
    anywhere::<TextSession>();
    anywhere::<Encoder>();
    anywhere::<EncoderFiles>();
    anywhere::<EncoderNeeds>();
    anywhere::<TokenEncoder>();
    anywhere::<Decoder>();
    anywhere::<DecoderFiles>();
    anywhere::<Needs>();
    anywhere::<Session>();
    anywhere::<SessionOptions>();
    anywhere::<Sampling>();
    anywhere::<AnswerOptions>();
    anywhere::<text::Tokenizer>();
    anywhere::<text::TextStream>();
    anywhere::<text::ChatTemplate>();
    anywhere::<text::Conversation>();
    anywhere::<text::Thoughts>();
    // What is under way, and what comes of it.
    anywhere::<Seen>();
    anywhere::<Answer>();
    anywhere::<Prediction>();
    anywhere::<Embedding>();
    anywhere::<Choice>();
    anywhere::<Generation<'static>>();
    anywhere::<TextGeneration<'static>>();
    anywhere::<Input<'static>>();
    anywhere::<Loading<Classifier>>();
    anywhere::<Loading<TextModel>>();
    anywhere::<WarmJob>();
    // What is driven.
    anywhere::<DrivenSession>();
    anywhere::<DrivenText>();
    anywhere::<Watching>();
    anywhere::<Scheduler>();
    anywhere::<Budget>();
    anywhere::<MemoryPlan>();
    anywhere::<Tick<String>>();
    anywhere::<Error>();
    // The engine's own, which a model is made of.
    anywhere::<ConstantStore>();
    anywhere::<Executor>();
    anywhere::<Plan>();
    anywhere::<GpuPlan>();
    anywhere::<Pending>();
    anywhere::<Recorded>();
    anywhere::<States>();
    anywhere::<Course>();
    anywhere::<StepTimes>();
    anywhere::<Paced>();
    anywhere::<EngineError>();

    // Futures may be polled by any thread of a host's.
    fn sent<T: Send>(_: &T) {}
    let gpu = Gpu::cpu_executor();
    sent(&Classifier::load(&gpu, "nowhere"));
    sent(&TextModel::load(&gpu, "nowhere"));
    sent(&Encoder::load(&gpu, "nowhere"));
    fn spawned<T: Send + 'static>() {}
    spawned::<TextPieces<'static>>();
}

/// An answer's pieces, taken as whoever has `StreamExt` takes them.
async fn told(mut pieces: impl Stream<Item = lampyris::Result<String>> + Unpin + Send) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(piece) = poll_fn(|context| Pin::new(&mut pieces).poll_next(context)).await {
        all.push(piece.unwrap());
    }
    assert!(poll_fn(|context| Pin::new(&mut pieces).poll_next(context)).await.is_none(), "it goes on behind its end");
    all
}

#[test]
fn an_answer_is_a_stream_of_its_pieces() {
    for (name, gpu) in crate::support::devices() {
        let model = TextModel::bundled(&gpu).unwrap();
        let mut session = gpu.block_on(model.session(60)).unwrap();
        let mut answer = gpu.block_on(session.generate("Once upon a time", 12)).unwrap();
        let mut expected = Vec::new();
        while let Some(piece) = gpu.block_on(answer.next()).unwrap() {
            expected.push(piece);
        }
        assert!(expected.len() > 4, "{name}: {expected:?}");
        let answer = gpu.block_on(session.generate("Once upon a time", 12)).unwrap();
        assert_eq!(gpu.block_on(told(answer.into_stream())), expected, "{name}");

        // Looked at without waiting, and dropped in the middle; what was given stays.
        let answer = gpu.block_on(session.generate("Once upon a time", 12)).unwrap();
        let (mut pieces, mut context) = (answer.into_stream(), Context::from_waker(Waker::noop()));
        let mut first = Vec::new();
        while first.len() < 2 {
            if let Poll::Ready(piece) = Pin::new(&mut pieces).poll_next(&mut context) {
                first.push(piece.unwrap().unwrap());
            }
            gpu.pump();
        }
        let _ = Pin::new(&mut pieces).poll_next(&mut context);
        drop(pieces);
        assert_eq!(first, expected[..2], "{name}");
        let answer = gpu.block_on(session.generate("Once upon a time", 12)).unwrap();
        assert_eq!(gpu.block_on(told(answer.into_stream())), expected, "{name}");
    }
}

/// A model's bytes load as its path does.
#[test]
fn models_load_from_memory_as_from_paths() {
    let texts = tempfile::tempdir().unwrap();
    crate::bert::write(texts.path());
    let gpu = Gpu::cpu_executor();
    let gguf = texts.path().join("story.gguf");
    std::fs::write(&gguf, include_bytes!("../../models/bundled/storyteller/storyteller.gguf")).unwrap();
    let tell = |source: FilesFrom<TextFiles>| {
        let model = gpu.block_on(TextModel::load(&gpu, source)).unwrap();
        let mut session = gpu.block_on(model.session(30)).unwrap();
        let answer = gpu.block_on(session.generate("Once", 4)).unwrap();
        gpu.block_on(told(answer.into_stream())).concat()
    };
    let bytes = std::fs::read(&gguf).unwrap();
    let expected = tell(gguf.as_path().into());
    assert_eq!(tell(Gguf::from_bytes("story.gguf", bytes.clone()).unwrap().into()), expected);
    assert_eq!(tell(TextFiles::new(TensorFile::from_bytes("it", bytes).unwrap(), None).into()), expected);
    assert_eq!(tell(gguf.display().to_string().into()), expected);
    let embed = |source: FilesFrom<EncoderFiles>| {
        let encoder = gpu.block_on(Encoder::load(&gpu, source)).unwrap();
        gpu.block_on(encoder.embed(["a cat"])).unwrap()
    };
    let expected = embed(texts.path().into());
    assert_eq!(embed(EncoderFiles::open(texts.path()).unwrap().into()), expected);
}

const DECODER: &str = r#"{"model_type": "qwen3", "hidden_size": 96, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 3000, "max_position_embeddings": 2000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

/// What a picture's logits, a text's logits by exact and by 16-bit products, and a vector are.
fn judged(gpu: &Gpu, texts: &Path) -> [Vec<f32>; 4] {
    let classifier = gpu.block_on(Classifier::load(gpu, &fixture(NETWORK))).unwrap();
    let pixels: Vec<u8> = (0..PICTURE[0] * PICTURE[1] * 4).map(|i| (i * 7 + i / 300) as u8).collect();
    let answer = gpu.block_on(classifier.classify(Input::rgba8(pixels, PICTURE[0], PICTURE[1]))).unwrap();
    let decoder = Decoder::new(gpu, crate::support::decoders::noise(DECODER, &[], &[])).unwrap();
    let text: Vec<u32> = (0..50).map(|i| (i * i * 97 + 3 * i) % 3000).collect();
    let logits = |products: Products| {
        let options = SessionOptions::from(64).products(products);
        let mut session = gpu.block_on(decoder.session(options)).unwrap();
        gpu.block_on(session.feed(&text)).unwrap();
        gpu.block_on(session.logits_from(text.len() - 2)).unwrap()
    };
    let encoder = gpu.block_on(Encoder::load(gpu, texts)).unwrap();
    let vector = gpu.block_on(encoder.embed(["a cat on the roof"])).unwrap().remove(0);
    [answer.logits, logits(Products::Exact), logits(Products::Half), vector]
}

/// A host has asked for what its own program needs, which is neither all that the engine could use nor nothing.
#[test]
fn whatever_a_host_has_asked_for_the_answers_are_the_same() {
    let texts = tempfile::tempdir().unwrap();
    crate::bert::write(texts.path());
    for host in hosts() {
        let (expected, all) = (judged(&host.guest(), texts.path()), Gpu::requirements(&host.adapter));
        let (subgroups, halves) = (Features::SUBGROUP, Features::SHADER_F16);
        let with = |change: fn(&mut Limits)| {
            let mut limits = all.limits.clone();
            change(&mut limits);
            limits
        };
        let whole = all.limits.clone();
        let kinds = [
            ("16-bit floats without subgroups", halves, all.features - subgroups, whole.clone()),
            ("subgroups without 16-bit floats", subgroups, all.features - halves, whole.clone()),
            ("neither of them", Features::empty(), all.features - subgroups - halves, whole.clone()),
            ("both, with no clock", subgroups | halves, subgroups | halves, whole),
            (
                "nine storage buffers",
                Features::empty(),
                all.features,
                with(|it| it.max_storage_buffers_per_shader_stage = 9),
            ),
            (
                "bindings of 64 MiB",
                Features::empty(),
                all.features,
                with(|it| it.max_storage_buffer_binding_size = 64 << 20),
            ),
            // The table of tokens is cut there.
            (
                "bindings of 1 MiB",
                Features::empty(),
                all.features,
                with(|it| it.max_storage_buffer_binding_size = 1 << 20),
            ),
            (
                "300 invocations",
                Features::empty(),
                all.features,
                with(|it| it.max_compute_invocations_per_workgroup = it.max_compute_invocations_per_workgroup.min(300)),
            ),
            (
                "20 KiB a workgroup",
                Features::empty(),
                all.features,
                with(|it| it.max_compute_workgroup_storage_size = 20 << 10),
            ),
        ];
        let mut tried = 0;
        for (kind, needed, required_features, required_limits) in kinds {
            if !all.features.contains(needed) {
                continue;
            }
            let descriptor =
                DeviceDescriptor { label: Some(kind), required_features, required_limits, ..Default::default() };
            let (device, queue) = pollster::block_on(host.adapter.request_device(&descriptor)).unwrap();
            let gpu = Gpu::from_device(&host.adapter, &device, &queue).unwrap();
            assert_eq!(gpu.caps().f16, required_features.contains(halves), "{}: {kind}", host.name);
            let found = judged(&gpu, texts.path());
            let allowed = [1e-4, 1e-4, Products::Half.tolerance(), 1e-4];
            for ((found, expected), allowed) in found.iter().zip(&expected).zip(allowed) {
                let apart = crate::support::relative(found, expected);
                assert!(apart <= allowed, "{} with {kind}: {apart:.1e} of the largest apart", host.name);
            }
            tried += 1;
        }
        eprintln!("{}: {tried} kinds of hosts", host.name);
        assert!(tried >= 6, "{}: {tried}", host.name);
    }
}
