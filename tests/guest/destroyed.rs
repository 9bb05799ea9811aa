//! A host that destroys its device and tells nobody, between any two calls: nothing panics, and no mistake of ours reaches its handlers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::fixture;
use crate::support::host::{Host, hosts, quick_hosts};
use lampyris::engine::Error as EngineError;
use lampyris::models::decoder::{Decoder, Sampling};
use lampyris::{Budget, Classifier, Error, Gpu, Input, Loading, Tick, wgpu};
use std::fmt::Debug;
use std::time::{Duration, Instant};

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 200,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

fn frame(host: &Host) -> wgpu::CommandEncoder {
    host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("the host's frame") })
}

#[test]
fn results_that_have_arrived_outlive_the_device_or_are_told_lost() {
    // The results are still on their way when the device goes, or have arrived and were not taken.
    for pumped in [false, true] {
        for host in hosts() {
            let gpu = host.guest();
            let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
            let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
            let prompt: Vec<u32> = (0..40).map(|i| i % 61).collect();
            let greedy = Sampling::greedy();
            let mut alone = gpu.block_on(model.session(100)).unwrap();
            gpu.block_on(alone.feed(&prompt)).unwrap();
            let mut npc = gpu.block_on(gpu.block_on(model.session(100)).unwrap().driven().measured(&greedy)).unwrap();
            npc.generate(&prompt, 10, &greedy);
            let mut eyes = gpu.block_on(classifier.driven()).unwrap();
            gpu.block_on(eyes.measure()).unwrap();
            let pixels = vec![77; 64 * 64 * 4];
            let input = || Input::rgba8(pixels.as_slice(), 64, 64);
            // One of each on its way.
            let mut commands = frame(&host);
            let mut budget = Budget::gpu(Duration::from_secs(1));
            let mut recorded = classifier.record(&mut commands, input()).unwrap();
            alone.record_step(&mut commands, &greedy).unwrap();
            eyes.look(&mut commands, &mut budget, input()).unwrap();
            npc.tick(&mut commands, &mut Budget::gpu(Duration::from_secs(1))).unwrap();
            host.queue.submit([commands.finish()]);
            if pumped {
                host.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
                gpu.pump();
            }
            host.device.destroy();
            // The host's own loop goes on for some frames before it sees what happened.
            for _ in 0..3 {
                let mut commands = frame(&host);
                let mut budget = Budget::gpu(Duration::from_millis(1));
                // What was on its way may count as such, as given up or as taken, until the loss is known.
                let lost = |error: &lampyris::Error| {
                    let waits = matches!(
                        error,
                        Error::Engine(EngineError::Busy { .. } | EngineError::Cancelled | EngineError::Taken)
                    );
                    assert!(error.is_device_lost() || waits, "{}: {error:?}", host.name);
                };
                let _ = recorded.try_take().inspect_err(lost);
                let _ = alone.try_step().inspect_err(lost);
                let _ = eyes.tick(&mut commands, &mut budget).inspect_err(lost);
                let _ = eyes.look(&mut commands, &mut budget, input()).inspect_err(lost);
                let _ = npc.tick(&mut commands, &mut budget).inspect_err(lost);
                let _ = classifier.record(&mut commands, input()).inspect_err(lost);
                let _ = alone.record_step(&mut commands, &greedy).inspect_err(lost);
                host.queue.submit([commands.finish()]);
                gpu.pump();
            }
            assert!(gpu.check_alive().is_err(), "{}: nobody noticed (pumped: {pumped})", host.name);
            drop((recorded, alone, eyes, npc, classifier, model, gpu));
            assert_eq!(host.told().0, 0, "the host of {} heard of the guest (pumped: {pumped})", host.name);
        }
    }
}

/// A session that alone is left, and makes no buffer by which a loss would be found.
#[test]
fn what_is_only_ticked_hears_of_the_loss_by_its_results() {
    for host in hosts() {
        let gpu = host.guest();
        let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let mut npc = gpu.block_on(model.session(200)).unwrap().driven_generate(
            &(0..40).map(|i| i % 61).collect::<Vec<u32>>(),
            100,
            &Sampling::greedy(),
        );
        let mut tick = || {
            let mut commands = frame(&host);
            let tick = npc.tick(&mut commands, &mut Budget::gpu(Duration::from_millis(1))).unwrap();
            host.queue.submit([commands.finish()]);
            gpu.pump();
            tick
        };
        let begun = (0..200_000).any(|_| matches!(tick(), Tick::Pieces(_)));
        assert!(begun, "{}: it says nothing", host.name);
        host.device.destroy();
        // What is under way takes its time to fail.
        let noticed = (0..20_000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            matches!(tick(), Tick::Lost)
        });
        assert!(noticed, "{}: it is at work for ever", host.name);
        assert_eq!(host.told().0, 0, "the host of {} heard of the guest", host.name);
    }
}

/// Everything that loading does: a picture's classifier, what watches with it, and a session whose steps are measured.
async fn loaded(gpu: Gpu) -> Result<(), Error> {
    let classifier = Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025")).await?;
    let pixels = vec![77; 64 * 64 * 4];
    let mut eyes = classifier.driven().await?;
    eyes.ready(Input::rgba8(pixels.as_slice(), 64, 64)).await?;
    eyes.measure().await?;
    let model = Decoder::new(&gpu, noise(CONFIG, &[], &[]))?;
    model.session(100).await?.driven().measured(&Sampling::greedy()).await?;
    Ok(())
}

/// What has been loaded by the end, or that the device was lost meanwhile; and that the host heard of nothing of ours.
fn loaded_or_lost(host: &Host, ended: Result<(), Error>, moment: &dyn Debug) {
    if let Err(error) = ended {
        assert!(error.is_device_lost(), "{} at {moment:?}: {error:?}", host.name);
    }
    assert_eq!(host.told().0, 0, "the host of {} heard of the guest at {moment:?}", host.name);
}

#[test]
fn what_is_loading_is_told_of_the_loss_and_nobody_else() {
    for host in quick_hosts() {
        // Between two ticks of a loading, the first time after all of it.
        let ticks = |until: usize| {
            let host = host.another();
            let gpu = host.guest();
            let mut loading = Loading::new(loaded(gpu.clone()));
            let mut count = 0;
            let ended = loop {
                if count == until {
                    host.device.destroy();
                }
                count += 1;
                let tick = loading.load(&mut Budget::gpu(Duration::from_micros(66)));
                gpu.pump();
                match tick {
                    Ok(Tick::Done(())) => break Ok(()),
                    Ok(_) => assert!(count < until.saturating_add(100_000), "{}: it loads for ever", host.name),
                    Err(error) => break Err(error),
                }
            };
            assert!(count > until || ended.is_ok(), "{}: lost before tick {until}: {ended:?}", host.name);
            loaded_or_lost(&host, ended, &until);
            count
        };
        let all = ticks(usize::MAX);
        let moments = if std::env::var("LAMPYRIS_TIER").as_deref() == Ok("full") { 100 } else { 6 };
        for moment in 0..moments {
            ticks(moment * all / moments);
        }
        // Within one: another thread destroys it.
        let begun = Instant::now();
        let guest = host.guest();
        guest.block_on(loaded(guest.clone())).unwrap();
        let whole = begun.elapsed();
        for moment in 0..moments {
            let host = host.another();
            let gpu = host.guest();
            let (device, after) = (host.device.clone(), whole.mul_f64(moment as f64 / moments as f64));
            let destroyer = std::thread::spawn(move || {
                std::thread::sleep(after);
                device.destroy();
            });
            let ended = gpu.block_on(loaded(gpu.clone()));
            destroyer.join().unwrap();
            loaded_or_lost(&host, ended, &after);
        }
    }
}
