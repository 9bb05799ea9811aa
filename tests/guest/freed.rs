//! A device that a host lent is freed once the host and what ran on it let go of it: the host's callback for a loss does not keep it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::fixture;
use crate::support::host::{Host, hosts};
use lampyris::models::decoder::{Decoder, Sampling};
use lampyris::wgpu::{self, TextureFormat};
use lampyris::{Budget, Classifier, Gpu, Input};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 200,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;
const SIDE: u32 = 64;

/// Runs a classifier and a decoder on a host's device, and drops them while a frame with both is under way.
fn use_it(host: &Host, gpu: &Gpu) {
    let classifier = gpu.block_on(Classifier::load(gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
    let model = Decoder::new(gpu, noise(CONFIG, &[], &[])).unwrap();
    let mut npc = gpu.block_on(model.session(100)).unwrap().driven();
    npc.generate(&(0..40).collect::<Vec<u32>>(), 10, &Sampling::greedy());
    let view = host.texture(TextureFormat::Rgba8Unorm, &vec![77; (4 * SIDE * SIDE) as usize], [SIDE; 2]);
    gpu.block_on(classifier.classify(Input::texture(&view))).unwrap();
    for _ in 0..3 {
        let mut frame = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        npc.tick(&mut frame, &mut Budget::gpu(Duration::from_millis(2))).unwrap();
        let _ = classifier.record(&mut frame, Input::texture(&view)).unwrap();
        host.queue.submit([frame.finish()]);
        gpu.pump();
    }
}

/// Whether a device of the host's adapter is still there after everybody but its own callback has dropped it. The callback is what `listen` gives.
fn outlives_its_users<F: Fn(&str) + Send + 'static>(host: &Host, listen: impl FnOnce(&Gpu) -> F) -> bool {
    let before = host.objects();
    let lender = host.another();
    let gpu = lender.guest();
    let (callback, held) = (listen(&gpu), Arc::new(()));
    let with_it = held.clone();
    lender.device.set_device_lost_callback(move |_, reason| {
        std::hint::black_box(&with_it);
        callback(&reason);
    });
    use_it(&lender, &gpu);
    assert!(gpu.check_alive().is_ok() && Arc::strong_count(&held) == 2, "{}: lost before its time", host.name);
    drop((lender, gpu));
    let there = Arc::strong_count(&held) == 2;
    assert_eq!(there, host.objects() != before, "{}: the device and its objects go together", host.name);
    there
}

#[test]
fn a_notifier_does_not_keep_the_device() {
    for host in hosts() {
        let told = |gpu: &Gpu| {
            let guest = gpu.loss_notifier();
            move |reason: &str| guest.notify_lost(reason)
        };
        assert!(!outlives_its_users(&host, told), "{}: the callback keeps the device", host.name);
    }
}

/// What the notifier is for: such a callback and its device hold each other until somebody comes between them.
#[test]
fn a_callback_that_holds_the_engine_keeps_the_device() {
    for host in hosts() {
        let before = host.objects();
        let between = Arc::new(Mutex::new(None));
        let told = |gpu: &Gpu| {
            *between.lock().unwrap() = Some(gpu.clone());
            let between = between.clone();
            move |reason: &str| {
                if let Some(gpu) = &*between.lock().unwrap() {
                    gpu.notify_lost(reason);
                }
            }
        };
        assert!(
            outlives_its_users(&host, told),
            "{}: nothing keeps the device, so the other test proves nothing",
            host.name
        );
        let kept = between.lock().unwrap().take();
        drop(kept);
        assert_eq!(host.objects(), before, "{}: something else keeps it", host.name);
    }
}

#[test]
fn a_notifier_tells_of_its_own_device_alone() {
    for host in hosts() {
        let (first, second) = (host.another(), host.another());
        let mut gpu = first.guest();
        let guest = gpu.loss_notifier();
        let early = guest.clone();
        first.device.set_device_lost_callback(move |_, reason| guest.notify_lost(&reason));
        first.device.destroy();
        let _ = first.device.poll(wgpu::PollType::Poll);
        assert!(gpu.check_alive().is_err(), "{}: nobody was told", host.name);
        gpu.replace_device(&second.adapter, &second.device, &second.queue).unwrap();
        early.notify_lost("it is the old one that is meant");
        assert!(gpu.check_alive().is_ok(), "{}: the new device is taken for the old one", host.name);
        gpu.loss_notifier().notify_lost("this one");
        assert!(gpu.check_alive().is_err(), "{}: nobody was told of the second", host.name);
    }
}
