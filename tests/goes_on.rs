//! Devices that are destroyed at moments without a pattern, while a model loads, reads a prompt, writes and looks at a picture: what comes
//! of it is what comes of a device that lives, bit for bit, on a host's device and on the engine's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::engine::kernels::Noise;
use lampyris::models::decoder::{Decoder, Session, SessionOptions};
use lampyris::{AdapterChoice, Classifier, Error, Gpu, GpuOptions, Input, Result, Sampling, adapters};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::decoders::noise;
use support::host::{Host, hosts};
use support::{fixture, full_tier, required};

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
        Program::new(pollster::block_on(Gpu::with(options)).unwrap(), None)
    }

    fn guest(host: Host) -> Program {
        let gpu = host.guest();
        listen(&host, &gpu);
        Program::new(gpu, Some(host))
    }

    fn new(gpu: Gpu, host: Option<Host>) -> Program {
        Program { gpu, host, losses: 0, destroyer: None, goes: None, took: [Duration::ZERO; 4] }
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
        let Some(host) = self.host.take().filter(|_| error.is_device_lost()) else { panic!("{error:?}") };
        assert_eq!(self.losses, 0, "one loss is told once, not again of the new device");
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
        let (classifier, mut session) = self.phase(0, |program| {
            let classifier = program.ask(|gpu| gpu.block_on(Classifier::load(gpu, &fixture(NETWORK))));
            let decoder = program.ask(|gpu| Decoder::new(gpu, files.clone()));
            let options = SessionOptions::from(200).submit_budget(Duration::from_millis(1));
            let session = program.ask(|gpu| gpu.block_on(decoder.session(options)));
            (classifier, session)
        });
        self.phase(1, |program| {
            let fed = program.gpu.block_on(session.feed(&text));
            // The tokens are in the session whatever the device does.
            fed.unwrap_or_else(|error| program.hear(&error));
        });
        let mut tokens = Vec::new();
        self.phase(2, |program| {
            let mut generation = session.sample(40, sampling).unwrap();
            while let Some(token) = program.ask(|gpu| gpu.block_on(generation.next())) {
                tokens.push(token);
            }
        });
        let logits = self.phase(3, |program| {
            let look = |gpu: &Gpu| gpu.block_on(classifier.classify(Input::rgba8(picture(), SIDE, SIDE)));
            (0..3).map(|_| program.ask(look).logits).reduce(|a, b| if a == b { a } else { panic!("{a:?}, {b:?}") })
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

/// The host tells the engine when its device is gone.
fn listen(host: &Host, gpu: &Gpu) {
    let told = gpu.loss_notifier();
    host.device.set_device_lost_callback(move |_, reason| told.notify_lost(&reason));
}

fn picture() -> Vec<u8> {
    (0..SIDE * SIDE * 4).map(|i| (i * 5 + i / 300) as u8).collect()
}

fn logits_of(gpu: &Gpu, session: &mut Session) -> Result<Vec<f32>> {
    let last = session.tokens().len() - 1;
    gpu.block_on(session.logits_from(last))
}

/// What follows the header of a saved session, whose entries may stand in any order.
fn cache_of(saved: &[u8]) -> Vec<u8> {
    let header = u64::from_le_bytes(saved[..8].try_into().unwrap()) as usize;
    saved[8 + header..].to_vec()
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

#[test]
fn a_hosts_device() {
    for host in hosts() {
        let name = host.name.clone();
        in_time(name.clone(), move || at_moments(&name, || Program::guest(host.another())));
    }
}
