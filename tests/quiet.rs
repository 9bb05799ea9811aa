//! A guest starts no thread, takes no handler of its host's, never waits for the device and gets on by `pump` alone. A program of its own:
//! threads are counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![cfg(target_os = "linux")]

#[path = "support/bert.rs"]
mod bert;
mod support;

use lampyris::engine::Error as EngineError;
use lampyris::engine::kernels::{self, Call, Source};
use lampyris::models::decoder::{Decoder, Sampling, Session};
use lampyris::models::encoder::Embedding;
use lampyris::models::record::Seen;
use lampyris::text_model::DrivenText;
use lampyris::{Budget, Classifier, Encoder, Error, Gpu, Input, TextModel, Tick, Watching, wgpu};
use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use support::decoders::noise;
use support::host::{Host, hosts};
use support::{devices, fixture};

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

/// The threads of this program.
fn threads() -> BTreeSet<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let named = tasks.map(|task| {
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        format!("{} {}", task.file_name().unwrap().to_string_lossy(), name.trim())
    });
    named.collect()
}

fn encoder(host: &Host) -> wgpu::CommandEncoder {
    host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("the host's frame") })
}

/// What a driver starts its threads for: a pipeline and a dispatch of the host's own.
fn warm(host: &Host) {
    let source = wgpu::ShaderSource::Wgsl("@compute @workgroup_size(64) fn main() {}".into());
    let module = host.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("host"), source });
    let pipeline = host.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("host"),
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let mut frame = encoder(host);
    {
        let mut pass = frame.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.dispatch_workgroups(64, 1, 1);
    }
    host.queue.submit([frame.finish()]);
    host.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
}

/// What the guests of a host's frames are.
struct Guests {
    classifier: Classifier,
    eyes: Watching,
    npc: DrivenText,
    lore: Encoder,
    /// A character whose tokens are recorded one by one.
    other: Session,
}

impl Guests {
    /// Frames of the host until everybody has answered, with nothing that blocks: what was told, and how many frames.
    fn frames(&mut self, host: &Host, gpu: &Gpu) -> (String, u64) {
        let greedy = Sampling::greedy();
        self.npc.generate("Once upon a time", 6);
        let (mut told, mut over, mut seen, mut tokens) = (String::new(), false, false, 0);
        let (mut looks, mut vectors, mut frames) = (Vec::new(), Vec::new(), 0);
        let pixels = vec![77; 64 * 64 * 4];
        let input = || Input::rgba8(pixels.as_slice(), 64, 64);
        while !over || !seen || tokens < 2 || !looks.is_empty() || !vectors.is_empty() {
            let mut frame = encoder(host);
            let mut budget = Budget::gpu(Duration::from_millis(1));
            match self.eyes.tick(&mut frame, &mut budget).unwrap() {
                Tick::Done(_) => seen = true,
                Tick::Idle => match self.eyes.look(&mut frame, &mut budget, input()) {
                    // It moves to the device that has taken the other's place.
                    Ok(()) | Err(Error::NotReady) => {}
                    Err(error) => panic!("{error} on {}", host.name),
                },
                _ => {}
            }
            match self.npc.tick(&mut frame, &mut budget).unwrap() {
                Tick::Pieces(text) => told += &text,
                Tick::Done(_) => over = true,
                _ => {}
            }
            if frames < 3 {
                looks.push(self.classifier.record(&mut frame, input()).unwrap());
                vectors.push(self.lore.record(&mut frame, "a cat on the roof").unwrap());
            }
            if tokens < 2 && self.other.try_step().unwrap().is_some() {
                tokens += 1;
            }
            if tokens < 2 {
                match self.other.record_step(&mut frame, &greedy) {
                    Ok(_) | Err(Error::Engine(EngineError::Busy { .. })) => {}
                    Err(error) => panic!("{error} on {}", host.name),
                }
            }
            host.queue.submit([frame.finish()]);
            gpu.pump();
            looks.retain_mut(|it: &mut Seen| it.try_take().unwrap().is_none());
            vectors.retain_mut(|it: &mut Embedding| it.try_take().unwrap().is_none());
            frames += 1;
            // Frames that follow one another at once outrun a software adapter on a busy machine.
            std::thread::sleep(Duration::from_micros(300));
            assert!(frames < 100_000, "no progress by `pump` alone on {}", host.name);
        }
        (told, frames)
    }
}

/// Everything of ours is loaded, used, saved, restored and moved to another device, in frames of a host that blocks nowhere.
#[test]
fn no_guest_ever_waits_for_the_device() {
    let texts = tempfile::tempdir().unwrap();
    bert::write(texts.path());
    for host in hosts() {
        let mut gpu = host.guest();
        let classifier = pumped((&host, &gpu), Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let eyes = pumped((&host, &gpu), classifier.driven()).unwrap();
        let model = TextModel::bundled(&gpu).unwrap();
        let greedy = Sampling::greedy();
        let session = pumped((&host, &gpu), model.session(60)).unwrap();
        let npc = pumped((&host, &gpu), session.driven().measured(&greedy)).unwrap();
        let lore = pumped((&host, &gpu), Encoder::load(&gpu, texts.path())).unwrap();
        pumped((&host, &gpu), lore.embed(["a cat", "the house"])).unwrap();
        // A character that was saved, restored, forked and rewound.
        let decoder = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let mut first = pumped((&host, &gpu), decoder.session(60)).unwrap();
        pumped((&host, &gpu), first.feed(&[3, 1, 4, 1, 5])).unwrap();
        let saved = pumped((&host, &gpu), first.save()).unwrap();
        let restored = pumped((&host, &gpu), decoder.restore(&saved, 60)).unwrap();
        let mut other = pumped((&host, &gpu), restored.fork()).unwrap();
        other.rewind(4);
        pumped((&host, &gpu), other.logits()).unwrap();
        let mut guests = Guests { classifier, eyes, npc, lore, other };
        let before = gpu.counts().polls;
        let (told, frames) = guests.frames(&host, &gpu);
        let counts = gpu.counts();
        // Loading polls too, and each frame does.
        assert!(before > 0 && counts.polls - before >= frames, "{}: {counts:?} in {frames} frames", host.name);
        assert_eq!(counts.waits, 0, "{}: {counts:?}", host.name);

        // The device goes, and the host hands over another.
        host.device.destroy();
        gpu.notify_lost("the host destroyed it");
        let next = host.another();
        gpu.replace_device(&next.adapter, &next.device, &next.queue).unwrap();
        pumped((&next, &gpu), guests.classifier.ready(Input::rgba8(vec![77; 64 * 64 * 4], 64, 64))).unwrap();
        pumped((&next, &gpu), guests.lore.embed(["a cat on the roof"])).unwrap();
        pumped((&next, &gpu), guests.other.recover()).unwrap();
        assert_eq!(guests.frames(&next, &gpu).0, told, "{}: another answer on another device", host.name);
        let moved = gpu.current().counts();
        assert!(moved.waits == 0 && moved.polls > 10, "{}: {moved:?}", host.name);

        // The counter can count: a program that blocks on what is not there at once waits.
        let mut asked = false;
        gpu.block_on(std::future::poll_fn(|_| match std::mem::replace(&mut asked, true) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }));
        assert_eq!(gpu.current().counts().waits, 1, "{}", host.name);
        // Of what the hosts did wrong themselves meanwhile their own handlers have heard, and of nothing else.
        let blunders = [&host, &next].map(Host::blunders);
        eprintln!("{}: {blunders:?} errors of the hosts' own while futures were under way", host.name);
        // OpenGL's futures are there when they are first polled.
        let waits = !host.name.ends_with("(gl)");
        assert!(!waits || blunders.iter().all(|it| *it > 0), "{}: {blunders:?}", host.name);
        assert_eq!(
            (host.told().0, next.told()),
            (blunders[0], (blunders[1], 0)),
            "{}: somebody heard of it",
            host.name
        );
    }
}

#[test]
fn a_guest_is_quiet() {
    let texts = tempfile::tempdir().unwrap();
    bert::write(texts.path());
    for host in hosts() {
        warm(&host);
        let before = threads();
        let gpu = host.guest();
        // Everything of ours, with nothing that blocks: each future is polled until it is done, and `pump` alone makes progress.
        let classifier = pumped((&host, &gpu), Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let mut eyes = pumped((&host, &gpu), classifier.driven()).unwrap();
        pumped((&host, &gpu), eyes.measure()).unwrap();
        let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let session = pumped((&host, &gpu), model.session(200)).unwrap();
        let prompt: Vec<u32> = (0..75).map(|i| i % 61).collect();
        let mut npc = pumped((&host, &gpu), session.driven().measured(&Sampling::greedy())).unwrap();
        npc.generate(&prompt, 10, &Sampling::greedy());
        let pixels = vec![77; 64 * 64 * 4];
        let input = || Input::rgba8(pixels.as_slice(), 64, 64);
        let (mut over, mut seen, mut recorded) = (false, 0, Vec::new());
        let mut polls = 0;
        while !over || seen < 3 || !recorded.is_empty() {
            let mut frame = encoder(&host);
            let mut budget = Budget::gpu(Duration::from_millis(1));
            match eyes.tick(&mut frame, &mut budget).unwrap() {
                Tick::Done(_) => seen += 1,
                Tick::Idle => eyes.look(&mut frame, &mut budget, input()).unwrap(),
                _ => {}
            }
            if polls < 3 {
                recorded.push(classifier.record(&mut frame, input()).unwrap());
            }
            over |= matches!(npc.tick(&mut frame, &mut budget).unwrap(), Tick::Done(_));
            host.queue.submit([frame.finish()]);
            gpu.pump();
            polls += 1;
            recorded.retain_mut(|it| it.try_take().unwrap().is_none());
            assert!(polls < 100_000, "no progress by `pump` alone on {}", host.name);
        }
        // A language model and a sentence encoder, whose tokenizers are other people's work.
        let story = TextModel::bundled(&gpu).unwrap();
        let mut told = pumped((&host, &gpu), story.session(60)).unwrap().driven_generate("Once upon a time", 4);
        let lore = pumped((&host, &gpu), Encoder::load(&gpu, texts.path())).unwrap();
        pumped((&host, &gpu), lore.embed(["a cat", "the house"])).unwrap();
        loop {
            let mut frame = encoder(&host);
            let tick = told.tick(&mut frame, &mut Budget::gpu(Duration::from_millis(5))).unwrap();
            host.queue.submit([frame.finish()]);
            gpu.pump();
            if matches!(tick, Tick::Done(_)) {
                break;
            }
        }
        assert_eq!(gpu.counts().waits, 0, "{}", host.name);
        let after = threads();
        // Mesa writes its cache of shaders by a thread of its own, which the first large one starts.
        let new: Vec<&String> = after.difference(&before).filter(|name| !name.ends_with(":disk$0")).collect();
        assert!(new.is_empty(), "{}: threads that were not there: {new:?}", host.name);

        // The host's own handlers still hear what is the host's.
        let blunders = host.blunders();
        assert_eq!(host.told(), (blunders, 0), "the host of {} heard of the guest", host.name);
        host.blunder();
        assert_eq!(host.told(), (blunders + 1, 0), "{}: the host's own handler is gone", host.name);
        host.device.destroy();
        // wgpu tells of the loss once what was under way is done.
        for _ in 0..10_000 {
            gpu.pump();
            if host.told().1 > 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(host.told().1, 1, "{}: the host's own handler is gone", host.name);
    }
}

/// The first variants of two kernels that are compiled quickly.
fn two_variants(gpu: &Gpu) -> Vec<Source> {
    let quick = kernels::all().into_iter().filter(|entry| ["norm", "embed"].contains(&entry.name));
    let first = |entry: kernels::Entry| {
        let case = (entry.cases)().swap_remove(0);
        let (inputs, outputs) = (case.descs(), case.outputs().unwrap());
        *case.kernel.candidates(&Call { inputs: &inputs, outputs: &outputs }, gpu.caps())[0]
    };
    quick.map(first).collect()
}

/// Threads that are gone again before anybody counts are seen by what they call: on a device of the engine's own pipelines are compiled by
/// as many as there are cores, on a host's by the one that asks.
#[test]
fn a_guest_compiles_on_the_thread_that_asks() {
    let callers = |gpu: &Gpu| {
        let callers = Mutex::new(HashSet::new());
        let note = || {
            callers.lock().unwrap().insert(std::thread::current().id());
        };
        pollster::block_on(gpu.warm(&two_variants(gpu), &note)).unwrap();
        callers.into_inner().unwrap()
    };
    let asks = HashSet::from([std::thread::current().id()]);
    for host in hosts() {
        assert_eq!(callers(&host.guest()), asks, "{}: a guest compiled on other threads", host.name);
    }
    let alone = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    for (name, own) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
        assert!(alone || callers(&own).is_disjoint(&asks), "{name}: other threads would not have been seen");
    }
}

/// A host's mistake ends the host as it would without a guest, and is not taken for a driver's.
#[test]
fn a_panic_of_a_hosts_callback_is_the_hosts() {
    let heard = |host: &Host, poll: &dyn Fn()| {
        host.queue.submit([encoder(host).finish()]);
        host.queue.on_submitted_work_done(|| panic!("the host's own"));
        let polls = || {
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(60) {
                poll();
                std::thread::sleep(Duration::from_micros(100));
            }
        };
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(polls)).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"the host's own"), "{}", host.name);
    };
    for host in hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let look = || gpu.block_on(classifier.classify(Input::rgba8(vec![77; 64 * 64 * 4], 64, 64))).unwrap().logits;
        let seen = look();
        heard(&host, &|| gpu.pump());
        heard(&host, &|| gpu.block_on(gpu.idle()).unwrap());
        gpu.check_alive().unwrap();
        assert_eq!(look(), seen, "{}", host.name);
    }
}

/// What a future gives that nobody waits for: it is polled, and the device pumped, in turn. Meanwhile the host makes an error of its own, which its
/// own handler has to hear: an error scope that was open from one poll to the next would take it for the guest's.
fn pumped<T>((host, gpu): (&Host, &Gpu), future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..10_000_000 {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        host.blunder();
        let (heard, made) = (host.told().0, host.blunders());
        assert_eq!(heard, made, "{}: an error of the host's own did not reach its handler", host.name);
        gpu.pump();
    }
    panic!("no progress by `pump` alone");
}
