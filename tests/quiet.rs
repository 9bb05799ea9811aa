//! A guest starts no thread, takes no handler of its host's, and gets on by `pump` alone. A program of its own: threads are counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]
#![cfg(target_os = "linux")]

mod support;

use lampyris::models::decoder::{Decoder, Sampling};
use lampyris::{Budget, Classifier, Input, Tick, wgpu};
use std::collections::BTreeSet;
use std::time::Duration;
use support::decoders::noise;
use support::fixture;
use support::host::{Host, hosts};

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

#[test]
fn a_guest_is_quiet() {
    for host in hosts() {
        warm(&host);
        let before = threads();
        let gpu = host.guest();
        // Everything of ours, with nothing that blocks: each future is polled until it is done, and `pump` alone makes progress.
        let classifier = pumped(&gpu, Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let mut eyes = pumped(&gpu, classifier.driven()).unwrap();
        pumped(&gpu, eyes.measure()).unwrap();
        let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let session = pumped(&gpu, model.session(200)).unwrap();
        let prompt: Vec<u32> = (0..75).map(|i| i % 61).collect();
        let mut npc = pumped(&gpu, session.driven().measured(&Sampling::greedy())).unwrap();
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
        let after = threads();
        // Mesa writes its cache of shaders by a thread of its own, which the first large one starts.
        let new: Vec<&String> = after.difference(&before).filter(|name| !name.ends_with(":disk$0")).collect();
        assert!(new.is_empty(), "{}: threads that were not there: {new:?}", host.name);

        // The host's own handlers still hear what is the host's.
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
        host.blunder();
        assert_eq!(host.told(), (1, 0), "{}: the host's own handler is gone", host.name);
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

/// What a future gives that nobody waits for: it is polled, and the device pumped, in turn.
fn pumped<T>(gpu: &lampyris::Gpu, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..10_000_000 {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        gpu.pump();
    }
    panic!("no progress by `pump` alone");
}
