//! Devices that are destroyed at moments without a pattern, while a model loads, reads a prompt, writes and looks at a picture: what comes
//! of it is what comes of a device that lives, bit for bit, on the engine's own device and on a host's, where runs are submitted, recorded
//! whole into its frames or ticked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::host::{Host, hosts, quick_hosts};
use crate::support::{fixture, full_tier, required};
use crate::ticks::cache_of;
use lampyris::engine::Error as EngineError;
use lampyris::engine::kernels::Noise;
use lampyris::models::decoder::{Decoder, DrivenSession, Session, SessionOptions};
use lampyris::wgpu::CommandEncoder;
use lampyris::{
    AdapterChoice, Budget, Classifier, Error, Gpu, GpuOptions, Input, Result, Sampling, Tick, Watching, adapters,
};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const NETWORK: &str = "mobilenet_v3_small_w025";
const SIDE: u32 = 64;
const DECODER: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 61, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;
/// Moments of loss for each adapter and mode.
const SHORT: usize = 4;
const FULL: usize = 100;
/// After this long one moment of loss counts as hung; other programs may keep the machine busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn count() -> usize {
    if full_tier() { FULL } else { SHORT }
}

/// How a program has prompts, tokens and pictures computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Submitted,
    /// Tokens and pictures whole into a frame, prompts submitted.
    Recorded,
    /// As much of everything as a frame pays for.
    Ticked,
}

/// Tokens of an answer.
const MOST: usize = 40;

/// What a program is doing when its device goes.
const PHASES: [&str; 4] = ["loading", "reading a prompt", "writing", "classifying"];

/// What a program sees of the models, from beginning to end.
#[derive(Debug, PartialEq, Clone)]
struct Seen {
    tokens: Vec<u32>,
    saved: Vec<u8>,
    logits: Vec<f32>,
}

/// A program that uses the engine: on its own device, or on the engine's.
struct Program {
    how: How,
    gpu: Gpu,
    host: Option<Host>,
    losses: usize,
    destroyer: Option<JoinHandle<()>>,
    /// The phase in which the device goes, and how long after its beginning.
    goes: Option<(usize, Duration)>,
    took: [Duration; 4],
}

impl Program {
    fn own(index: usize) -> Program {
        let options = GpuOptions::default().adapter(AdapterChoice::Index(index));
        Program::new(How::Submitted, pollster::block_on(Gpu::with(options)).unwrap(), None)
    }

    fn guest(how: How, host: Host) -> Program {
        let gpu = host.guest();
        listen(&host, &gpu);
        Program::new(how, gpu, Some(host))
    }

    fn new(how: How, gpu: Gpu, host: Option<Host>) -> Program {
        Program { how, gpu, host, losses: 0, destroyer: None, goes: None, took: [Duration::ZERO; 4] }
    }

    /// Asks until there is an answer. A host gets itself another device when it hears of a loss; nobody else hears of one.
    fn ask<T>(&mut self, mut call: impl FnMut(&Gpu) -> Result<T>) -> T {
        loop {
            match call(&self.gpu) {
                Ok(answer) => return answer,
                Err(error) => self.hear(&error),
            }
        }
    }

    fn hear(&mut self, error: &Error) {
        assert!(error.is_device_lost(), "{error:?}");
        assert_eq!(self.losses, 0, "one loss is told once, not again of the new device");
        self.replace();
    }

    /// As [`Program::hear`], of what is in a host's frames. What was on its way when the device went may count as given up until the loss is
    /// known, and what goes to another device is not ready before it is there.
    fn hear_in_frame(&mut self, error: &Error) {
        let waits = matches!(
            error,
            Error::NotReady | Error::Engine(EngineError::Busy { .. } | EngineError::Cancelled | EngineError::Taken)
        );
        if !(waits && self.destroyer.is_some()) {
            self.hear(error);
        }
    }

    fn replace(&mut self) {
        let Some(host) = self.host.take() else { panic!("the engine told of a loss that it does not tell") };
        assert_eq!(host.told().0, 0, "{}: the host heard of a mistake on a device that went", host.name);
        self.losses += 1;
        let new = host.another();
        self.gpu.replace_device(&new.adapter, &new.device, &new.queue).unwrap();
        listen(&new, &self.gpu);
        self.host = Some(new);
    }

    fn phase<T>(&mut self, number: usize, work: impl FnOnce(&mut Program) -> T) -> T {
        if let Some((_, delay)) = self.goes.filter(|(phase, _)| *phase == number) {
            let device = self.gpu.current().device().unwrap().clone();
            self.destroyer = Some(std::thread::spawn(move || {
                std::thread::sleep(delay);
                device.destroy();
            }));
        }
        let start = Instant::now();
        let done = work(self);
        self.took[number] = start.elapsed();
        done
    }

    /// Loads two models, reads a prompt, writes, and looks at a picture before and after.
    fn run(&mut self, sampling: &Sampling) -> Seen {
        let text: Vec<u32> = (0..77).map(|i| (i * i + 3 * i) % 61).collect();
        let files = noise(DECODER, &[], &[]);
        let (classifier, mut watching, mut session) = self.phase(0, |program| {
            let classifier = program.ask(|gpu| gpu.block_on(Classifier::load(gpu, &fixture(NETWORK))));
            let ticked = program.how == How::Ticked;
            let watching = ticked.then(|| program.ask(|gpu| gpu.block_on(classifier.driven())));
            let decoder = program.ask(|gpu| Decoder::new(gpu, files.clone()));
            let options = SessionOptions::from(200).submit_budget(Duration::from_millis(1));
            let session = program.ask(|gpu| gpu.block_on(decoder.session(options)));
            (classifier, watching, session)
        });
        let mut tokens = Vec::new();
        if self.how == How::Ticked {
            let mut driven = session.driven_generate(&text, MOST, sampling);
            self.phase(1, |program| while tokens.is_empty() && program.ticks(&mut driven, &mut tokens) {});
            session = self.phase(2, |program| {
                while program.ticks(&mut driven, &mut tokens) {}
                program.settled(driven)
            });
        } else {
            self.phase(1, |program| {
                let fed = program.gpu.block_on(session.feed(&text));
                // The tokens are in the session whatever the device does.
                fed.unwrap_or_else(|error| program.hear(&error));
            });
            self.phase(2, |program| match program.how {
                How::Recorded => program.record_tokens(&mut session, sampling, &mut tokens),
                _ => {
                    let mut generation = session.sample(MOST, sampling).unwrap();
                    while let Some(token) = program.ask(|gpu| gpu.block_on(generation.next())) {
                        tokens.push(token);
                    }
                }
            });
        }
        assert_eq!(tokens.len(), MOST);
        let logits = self.phase(3, |program| {
            let submitted = |gpu: &Gpu| gpu.block_on(classifier.classify(input())).map(|answer| answer.logits);
            let mut look = || match (&mut watching, program.how) {
                (Some(watching), _) => program.watch(watching),
                (None, How::Recorded) => program.record_picture(&classifier),
                (None, _) => program.ask(submitted),
            };
            (0..3).map(|_| look()).reduce(|a, b| if a == b { a } else { panic!("{a:?}, {b:?}") })
        });
        if let Some(destroyer) = self.destroyer.take() {
            destroyer.join().unwrap();
        }
        // Also where the device went when all was done.
        let saved = self.ask(|gpu| gpu.block_on(session.save()));
        self.ask(|gpu| gpu.block_on(session.recover()));
        let again = self.ask(|gpu| gpu.block_on(session.save()));
        assert!(cache_of(&saved) == cache_of(&again));
        assert_eq!(self.ask(|gpu| logits_of(gpu, &mut session)).len(), 61);
        Seen { tokens, saved: cache_of(&saved), logits: logits.unwrap() }
    }
}

/// What a host's program does in its frames.
impl Program {
    /// Draws a frame with a budget of a few steps.
    fn frame<T>(&self, record: impl FnOnce(&mut CommandEncoder, &mut Budget) -> T) -> T {
        let host = self.host.as_ref().unwrap();
        let mut encoder = host.device.create_command_encoder(&Default::default());
        let made = record(&mut encoder, &mut Budget::gpu(Duration::from_micros(400)));
        host.queue.submit([encoder.finish()]);
        self.gpu.pump();
        made
    }

    /// A tick said that the device is gone, which it does until there is another.
    fn tick_lost(&mut self) {
        if self.losses == 0 {
            self.replace();
        }
    }

    /// Ticks an answer once. Gives whether it goes on.
    fn ticks(&mut self, driven: &mut DrivenSession, tokens: &mut Vec<u32>) -> bool {
        match self.frame(|encoder, budget| driven.tick(encoder, budget)) {
            Ok(Tick::Pieces(more)) => tokens.extend(more),
            Ok(Tick::Done(_)) => return false,
            Ok(Tick::Lost) => self.tick_lost(),
            // As a host with a screen would: a busy machine takes its time.
            Ok(Tick::Working(progress)) if progress.steps == 0 => std::thread::sleep(Duration::from_micros(300)),
            Ok(Tick::Working(_)) => {}
            Ok(Tick::Idle) => panic!("idle in the middle of an answer"),
            Err(error) => self.hear_in_frame(&error),
        }
        true
    }

    /// The session of an answer that has come to its end.
    fn settled(&self, mut driven: DrivenSession) -> Session {
        loop {
            match driven.into_session() {
                Ok(session) => return session,
                Err(again) => driven = *again,
            }
            self.frame(|_, _| std::thread::sleep(Duration::from_micros(300)));
        }
    }

    /// Records one token after the other.
    fn record_tokens(&mut self, session: &mut Session, sampling: &Sampling, tokens: &mut Vec<u32>) {
        let mut ready = false;
        while tokens.len() < MOST {
            if !ready {
                self.ask(|gpu| gpu.block_on(session.recover()));
                self.ask(|gpu| gpu.block_on(session.ready_to_step(sampling)));
            }
            let recorded = self.frame(|encoder, _| session.record_step(encoder, sampling));
            let arrived = recorded.and_then(|_| {
                loop {
                    match session.try_step() {
                        Ok(None) => self.frame(|_, _| ()),
                        done => return done,
                    }
                }
            });
            ready = arrived.is_ok();
            match arrived {
                Ok(token) => tokens.extend(token),
                Err(error) => self.hear_in_frame(&error),
            }
        }
    }

    /// Records a picture until one is seen.
    fn record_picture(&mut self, classifier: &Classifier) -> Vec<f32> {
        loop {
            let recorded = self.frame(|encoder, _| classifier.record(encoder, input()));
            let arrived = recorded.and_then(|mut seen| {
                loop {
                    match seen.try_take()? {
                        None => self.frame(|_, _| ()),
                        Some(answer) => return Ok(answer),
                    }
                }
            });
            match arrived {
                Ok(answer) => return answer.logits,
                Err(error) => self.hear_in_frame(&error),
            }
        }
    }

    /// Looks at a picture until one is seen: one that was under way when the device went is given up.
    fn watch(&mut self, watching: &mut Watching) -> Vec<f32> {
        let mut going = false;
        loop {
            if !going {
                match self.frame(|encoder, budget| watching.look(encoder, budget, input())) {
                    Ok(()) => going = true,
                    Err(error) => self.hear_in_frame(&error),
                }
                continue;
            }
            match self.frame(|encoder, budget| watching.tick(encoder, budget)) {
                Ok(Tick::Done(answer)) => return answer.logits,
                Ok(Tick::Working(_)) => {}
                Ok(Tick::Lost) => {
                    self.tick_lost();
                    going = false;
                }
                Ok(_) => going = false,
                Err(error) => {
                    self.hear_in_frame(&error);
                    going = false;
                }
            }
        }
    }
}

/// The host tells the engine when its device is gone.
fn listen(host: &Host, gpu: &Gpu) {
    let told = gpu.loss_notifier();
    host.device.set_device_lost_callback(move |_, reason| told.notify_lost(&reason));
}

fn input() -> Input<'static> {
    let texels: Vec<u8> = (0..SIDE * SIDE * 4).map(|i| (i * 5 + i / 300) as u8).collect();
    Input::rgba8(texels, SIDE, SIDE)
}

fn logits_of(gpu: &Gpu, session: &mut Session) -> Result<Vec<f32>> {
    let last = session.tokens().len() - 1;
    gpu.block_on(session.logits_from(last))
}

fn drawn() -> Sampling {
    Sampling::at(0.9).top_k(20).repetition_penalty(1.1).seed(5)
}

/// Loses the device of a program that `begin` gives, at so many moments.
fn at_moments(name: &str, begin: impl Fn() -> Program) {
    let ways = [Sampling::greedy(), drawn()];
    let healthy = ways.map(|sampling| {
        let mut program = begin();
        let seen = program.run(&sampling);
        (seen, program.took)
    });
    assert_ne!(healthy[0].0.tokens, healthy[1].0.tokens, "{name}: the ways must differ");
    let mut noise = Noise::new(11);
    for at in 0..count() {
        let (phase, way) = (at % PHASES.len(), at / PHASES.len() % ways.len());
        let (expected, took) = &healthy[way];
        let delay = took[phase].mul_f32(noise.real(0.0, 1.0));
        let mut program = begin();
        program.goes = Some((phase, delay));
        let seen = program.run(&ways[way]);
        let what = format!("{name}, moment {at}: lost {delay:?} after the beginning of {}", PHASES[phase]);
        assert_eq!(seen.tokens, expected.tokens, "{what}");
        assert_eq!(seen.logits, expected.logits, "{what}");
        assert!(seen.saved == expected.saved, "{what}: other keys and values");
        assert!(program.gpu.current().check_alive().is_ok(), "{what}");
        assert!(program.host.as_ref().is_none_or(|host| host.told().0 == 0), "{what}: the host heard of a mistake");
        assert!(!program.gpu.is_same_device(&program.gpu.current()) || program.host.is_some(), "{what}: not lost");
        assert!(program.host.is_none() || program.losses == 1, "{what}: not lost");
    }
}

/// Runs a case in a thread of its own, so that a hang fails the test instead of stopping it.
fn in_time(name: String, case: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        case();
        done.send(()).unwrap();
    });
    match finished.recv_timeout(PATIENCE * (count() as u32 + 3)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{name} hangs"),
        _ => thread.join().unwrap_or_else(|_| panic!("the case failed on {name}")),
    }
}

#[test]
fn the_engines_own_device() {
    let found = pollster::block_on(adapters());
    assert!(!found.is_empty() || !required("adapters"), "LAMPYRIS_REQUIRE asks for adapters and there are none");
    for (index, adapter) in found.iter().enumerate() {
        let name = adapter.to_string();
        in_time(name.clone(), move || at_moments(&name, || Program::own(index)));
    }
}

/// Loses the devices of `hosts`.
fn hosts_devices(hosts: Vec<Host>, how: How) {
    for host in hosts {
        let name = format!("{}, {how:?}", host.name);
        in_time(name.clone(), move || at_moments(&name, || Program::guest(how, host.another())));
    }
}

#[test]
fn a_hosts_device() {
    hosts_devices(quick_hosts(), How::Submitted);
}

#[test]
fn a_hosts_device_that_is_recorded_into() {
    hosts_devices(quick_hosts(), How::Recorded);
}

#[test]
fn a_hosts_device_that_is_ticked() {
    hosts_devices(hosts(), How::Ticked);
}
