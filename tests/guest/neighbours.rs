//! Engines of one program beside each other: two on one device, a third on another, in the same frames, each as if it were alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::fixture;
use crate::support::host::{Host, quick_hosts};
use crate::ticks::{cache_of, settled, uncut};
use lampyris::models::decoder::{Decoder, DrivenSession, Sampling};
use lampyris::models::record::Seen;
use lampyris::wgpu::{self, TextureFormat, TextureView};
use lampyris::{Budget, Classifier, Gpu, Input, Tick};
use std::time::Duration;

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;
const NETWORK: &str = "mobilenet_v3_small_w025";
const SIDE: u32 = 120;
const MOST: usize = 12;
const MOST_FRAMES: usize = 100_000;

fn picture(seed: usize) -> Vec<u8> {
    (0..(SIDE * SIDE) as usize).flat_map(|p| [p * 7 + seed, p * (13 + seed), p / 3, 255].map(|it| it as u8)).collect()
}

fn prompt(seed: usize) -> Vec<u32> {
    (0..40 + 9 * seed as u32).map(|i| (i * i + 3 * i + seed as u32) % 61).collect()
}

fn drawn(seed: usize) -> Sampling {
    Sampling::at(0.9).seed(seed as u64)
}

/// An engine with its models, and what has come of them.
struct Engine {
    gpu: Gpu,
    classifier: Classifier,
    camera: TextureView,
    npc: DrivenSession,
    seen: Option<Seen>,
    looks: Vec<Vec<f32>>,
    tokens: Vec<u32>,
    over: bool,
}

impl Engine {
    fn new(host: &Host, seed: usize) -> Engine {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let session = gpu.block_on(Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap().session(200)).unwrap();
        let npc = session.driven_generate(&prompt(seed), MOST, &drawn(seed));
        let camera = host.texture(TextureFormat::Rgba8Unorm, &picture(seed), [SIDE; 2]);
        Engine { gpu, classifier, camera, npc, seen: None, looks: Vec::new(), tokens: Vec::new(), over: false }
    }

    fn record(&mut self, frame: &mut wgpu::CommandEncoder) {
        if self.seen.is_none() {
            self.seen = Some(self.classifier.record(frame, Input::texture(&self.camera)).unwrap());
        }
        match self.npc.tick(frame, &mut Budget::gpu(Duration::from_millis(1))).unwrap() {
            Tick::Pieces(more) => self.tokens.extend(more),
            Tick::Done(_) => self.over = true,
            _ => {}
        }
    }

    fn hear(&mut self) {
        self.gpu.pump();
        if let Some(answer) = self.seen.as_mut().and_then(|seen| seen.try_take().unwrap()) {
            self.looks.push(answer.logits);
            self.seen = None;
        }
    }

    fn is_done(&self) -> bool {
        self.over && self.looks.len() > 3
    }
}

/// What an engine that is alone says by runs of its own, and what its session's cache holds then.
fn alone(host: &Host, seed: usize) -> (Vec<f32>, (Vec<u32>, Vec<u8>)) {
    let gpu = host.guest();
    let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
    let answer = gpu.block_on(classifier.classify(Input::rgba8(picture(seed), SIDE, SIDE))).unwrap();
    let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
    (answer.logits, uncut(&gpu, &model, 200.into(), (&prompt(seed), MOST, &drawn(seed))))
}

#[test]
fn engines_that_share_a_device_and_one_beside_are_each_as_alone() {
    for host in quick_hosts() {
        let expected = [0, 1, 2].map(|seed| alone(&host.another(), seed));
        assert!(
            expected[0].0 != expected[1].0 && expected[0].1.0 != expected[1].1.0,
            "{}: all say the same",
            host.name
        );
        let beside = host.another();
        let mut engines = [Engine::new(&host, 0), Engine::new(&host, 1), Engine::new(&beside, 2)];
        for _ in 0..MOST_FRAMES {
            let mut frames = [&host, &beside].map(|host| host.device.create_command_encoder(&Default::default()));
            for (engine, frame) in engines.iter_mut().zip([0, 0, 1]) {
                engine.record(&mut frames[frame]);
            }
            for (host, frame) in [&host, &beside].into_iter().zip(frames) {
                host.queue.submit([frame.finish()]);
            }
            engines.iter_mut().for_each(Engine::hear);
            if engines.iter().all(Engine::is_done) {
                break;
            }
        }
        for (at, (engine, (logits, (tokens, _)))) in engines.iter().zip(&expected).enumerate() {
            assert!(engine.is_done(), "engine {at} on {} starves", host.name);
            assert_eq!(&engine.tokens, tokens, "engine {at} on {}", host.name);
            assert!(engine.looks.iter().all(|look| look == logits), "engine {at} on {}: other logits", host.name);
        }
        assert_eq!([host.told(), beside.told()], [(0, 0); 2], "the hosts of {} heard of the guests", host.name);

        let mut caches = expected.iter().map(|(_, (_, cache))| cache).zip([&host, &host, &beside]);
        let [first, second, third] = engines.map(|Engine { gpu, npc, .. }| {
            let (cache, host) = caches.next().unwrap();
            let session = settled(host, &gpu, npc);
            assert!(cache_of(&gpu.block_on(session.save()).unwrap()) == *cache, "{}: another cache", host.name);
            gpu
        });
        // A loss is told each engine by itself; the device beside is none of it.
        first.notify_lost("for the test");
        assert!(first.check_alive().is_err() && second.check_alive().is_ok() && third.check_alive().is_ok());
    }
}
