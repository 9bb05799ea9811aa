//! A device that disappears between two frames costs a driven answer time and nothing else: on the one that takes its place it goes on
//! with the tokens that it would have had. A picture under way is given up, and the next one is seen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::models::decoder::{Decoder, DrivenSession};
use lampyris::wgpu::CommandEncoderDescriptor;
use lampyris::{Budget, Classifier, Gpu, Input, Sampling, Tick};
use std::time::Duration;
use support::decoders::noise;
use support::fixture;
use support::host::{Host, hosts};

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 512,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;
const SIDE: u32 = 64;

/// One frame with a budget of a few steps.
fn frame(host: &Host, mut record: impl FnMut(&mut lampyris::wgpu::CommandEncoder, &mut Budget)) {
    let mut encoder = host.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("the host's frame") });
    record(&mut encoder, &mut Budget::gpu(Duration::from_micros(400)));
    host.queue.submit([encoder.finish()]);
}

/// The tokens of an answer and the frames it took; after the frames of `losses` the device is lost, and replaced three frames later.
fn answer(host: &mut Host, gpu: &mut Gpu, driven: &mut DrivenSession, losses: &[usize]) -> (Vec<u32>, usize) {
    let (mut tokens, mut back) = (Vec::new(), None);
    for number in 0..200_000 {
        let mut tick = Tick::Idle;
        frame(host, |encoder, budget| tick = driven.tick(encoder, budget).unwrap());
        gpu.pump();
        assert!(back.is_none() || tick == Tick::Lost, "{}: {tick:?} of a lost device", host.name);
        match tick {
            Tick::Pieces(more) => tokens.extend(more),
            Tick::Done(_) => return (tokens, number),
            // As a host with a screen would: a busy machine takes its time.
            Tick::Working(progress) if progress.steps == 0 => std::thread::sleep(Duration::from_micros(300)),
            Tick::Working(_) | Tick::Lost => {}
            Tick::Idle => panic!("{}: idle in the middle of an answer", host.name),
        }
        if losses.contains(&number) {
            host.device.destroy();
            gpu.notify_lost("the host destroyed it");
            *host = host.another();
            back = Some(number + 3);
        }
        if back == Some(number) {
            back = None;
            gpu.replace_device(&host.adapter, &host.device, &host.queue).unwrap();
        }
    }
    panic!("{}: no answer", host.name);
}

#[test]
fn an_answer_goes_on_with_the_same_tokens() {
    for mut host in hosts() {
        for sampling in [Sampling::greedy(), Sampling::usual().seed(9)] {
            let mut gpu = host.guest();
            let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
            let prompt: Vec<u32> = (0..75).map(|i| (i * i + 3 * i) % 61).collect();
            let begin = |gpu: &Gpu| {
                let session = gpu.block_on(model.session(200)).unwrap();
                session.driven_generate(&prompt, 20, &sampling)
            };
            let mut driven = begin(&gpu);
            let (expected, frames) = answer(&mut host, &mut gpu, &mut driven, &[]);
            assert_eq!(expected.len(), 20);
            let mut driven = begin(&gpu);
            let losses = [1, frames / 5, frames / 2, frames * 2 / 3, frames - 2];
            let (found, _) = answer(&mut host, &mut gpu, &mut driven, &losses);
            assert_eq!(found, expected, "{}", host.name);
        }
    }
}

#[test]
fn a_picture_is_given_up_and_the_next_one_seen() {
    for mut host in hosts() {
        let mut gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let mut watching = gpu.block_on(classifier.driven()).unwrap();
        let texels: Vec<u8> = (0..SIDE * SIDE * 4).map(|i| (i * 5 + i / 300) as u8).collect();
        let mut seen = Vec::new();
        for round in 0..3 {
            // Until it is on the new device, it cannot look.
            let mut begun = false;
            for _ in 0..200_000 {
                frame(&host, |encoder, budget| {
                    let input = Input::rgba8(texels.clone(), SIDE, SIDE);
                    begun = watching.look(encoder, budget, input).is_ok();
                });
                gpu.pump();
                if begun {
                    break;
                }
            }
            assert!(begun, "{}: it never looks again", host.name);
            if round == 1 {
                frame(&host, |encoder, budget| drop(watching.tick(encoder, budget).unwrap()));
                host.device.destroy();
                gpu.notify_lost("the host destroyed it");
                host = host.another();
                frame(&host, |encoder, budget| {
                    let tick = watching.tick(encoder, budget).unwrap();
                    assert!(matches!(tick, Tick::Lost), "{}: {tick:?}", host.name);
                });
                gpu.replace_device(&host.adapter, &host.device, &host.queue).unwrap();
                continue;
            }
            for _ in 0..200_000 {
                let mut tick = Tick::Idle;
                frame(&host, |encoder, budget| tick = watching.tick(encoder, budget).unwrap());
                gpu.pump();
                if let Tick::Done(answer) = tick {
                    seen.push(answer.logits);
                    break;
                }
            }
        }
        assert_eq!(seen.len(), 2, "{}", host.name);
        assert_eq!(seen[0], seen[1], "{}", host.name);
    }
}
