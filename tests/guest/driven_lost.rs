//! A device that disappears between two frames costs a driven answer time and nothing else: on the one that takes its place it goes on
//! with the tokens that it would have had. A picture under way is given up, and the next one is seen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::host::{Host, hosts, quick_hosts};
use crate::support::{fixture, full_tier};
use lampyris::engine::kernels::image::{Yuv, YuvMatrix, YuvRange};
use lampyris::models::decoder::{Decoder, DrivenSession, Session};
use lampyris::wgpu::{CommandEncoderDescriptor, PollType, TextureFormat};
use lampyris::{Budget, Classifier, Error, Gpu, Input, Loading, Sampling, Tick, Watching};
use std::time::Duration;

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
    for mut host in quick_hosts() {
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

/// What had nothing to do stays where it is until it is asked: ticks are idle, and a look is not ready until the budgets of its frames have paid for
/// the way.
#[test]
fn what_was_idle_goes_on_when_it_is_asked() {
    for mut host in hosts() {
        let mut gpu = host.guest();
        let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let prompt: Vec<u32> = (0..30).map(|i| (i * i + 3 * i) % 61).collect();
        let session = gpu.block_on(model.session(100)).unwrap();
        let mut npc = session.driven_generate(&prompt, 6, &Sampling::greedy());
        let (expected, _) = answer(&mut host, &mut gpu, &mut npc, &[]);
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let mut eyes = gpu.block_on(classifier.driven()).unwrap();
        host.device.destroy();
        gpu.notify_lost("the host destroyed it");
        host = host.another();
        gpu.replace_device(&host.adapter, &host.device, &host.queue).unwrap();
        for _ in 0..3 {
            frame(&host, |encoder, budget| {
                assert_eq!(npc.tick(encoder, budget).unwrap(), Tick::Idle, "{}", host.name);
                assert!(matches!(eyes.tick(encoder, budget).unwrap(), Tick::Idle), "{}", host.name);
            });
            gpu.pump();
        }
        let (mut looked, mut frames) = (false, 0);
        while !looked && frames < 200_000 {
            frame(&host, |encoder, budget| {
                let input = Input::rgba8(vec![90; (SIDE * SIDE * 4) as usize], SIDE, SIDE);
                looked = match eyes.look(encoder, budget, input) {
                    Ok(()) => true,
                    Err(Error::NotReady) => false,
                    Err(error) => panic!("{}: {error}", host.name),
                };
            });
            gpu.pump();
            frames += 1;
        }
        assert!(looked && frames > 2, "{}: it looks after {frames} frames", host.name);
        npc.generate(&prompt, 6, &Sampling::greedy());
        assert_eq!(answer(&mut host, &mut gpu, &mut npc, &[]).0, expected, "{}", host.name);
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
            // What was learnt of its steps on a device that is gone goes along.
            let (learnt, clock) = (watching.times().unwrap().is_measured(), gpu.caps().timestamps);
            assert_eq!(learnt, round > 0 && clock, "{}: what is known in round {round}", host.name);
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
        // Made ready, it goes to the next device at once, and looks in the first frame there.
        host.device.destroy();
        gpu.notify_lost("the host destroyed it");
        let input = || Input::rgba8(texels.as_slice(), SIDE, SIDE);
        let refused = gpu.block_on(watching.ready(input()));
        assert!(refused.as_ref().is_err_and(Error::is_device_lost), "{}: {refused:?}", host.name);
        host = host.another();
        gpu.replace_device(&host.adapter, &host.device, &host.queue).unwrap();
        gpu.block_on(watching.ready(input())).unwrap();
        frame(&host, |encoder, budget| watching.look(encoder, budget, input()).unwrap());
    }
}

/// Looks at pictures of bytes and of a texture find what prepares them, and one at two planes compiles a pipeline; on the device that takes the place
/// of a lost one the ticks that go there compile them for all kinds that were seen, one in each.
#[test]
fn a_frame_compiles_one_pipeline_for_a_picture() {
    let yuv = Yuv { matrix: YuvMatrix::Bt601, range: YuvRange::Full };
    for mut host in hosts() {
        let mut gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let mut watching = gpu.block_on(classifier.driven()).unwrap();
        let compiled = |host: &Host| host.objects().iter().find(|(kind, _)| *kind == "pipelines").unwrap().1 as isize;
        let texels: Vec<u8> = (0..SIDE * SIDE * 4).map(|i| (i * 5 + i / 300) as u8).collect();
        let mut look = |host: &Host, gpu: &Gpu, kind: usize| {
            let (plane, half) = ((SIDE * SIDE) as usize, SIDE / 2);
            let view = host.texture(TextureFormat::Rgba8Unorm, &texels, [SIDE; 2]);
            let luma = host.texture(TextureFormat::R8Unorm, &texels[..plane], [SIDE; 2]);
            let chroma = host.texture(TextureFormat::Rg8Unorm, &texels[..plane / 2], [half; 2]);
            let bytes = Input::rgba8(texels.as_slice(), SIDE, SIDE);
            let inputs = [bytes, Input::texture(&view), Input::nv12(&luma, &chroma, yuv)];
            let (before, mut looked) = (compiled(host), Err(Error::NotReady));
            frame(host, |encoder, budget| looked = watching.look(encoder, budget, inputs[kind].clone()));
            let more = compiled(host) - before;
            host.device.poll(PollType::wait_indefinitely()).unwrap();
            gpu.pump();
            watching.cancel();
            match looked {
                Ok(()) => (true, more),
                Err(Error::NotReady) => (false, more),
                Err(error) => panic!("{}: {error}", host.name),
            }
        };
        let found = [0, 1, 2, 2].map(|kind| look(&host, &gpu, kind));
        assert_eq!(found, [(true, 0), (true, 0), (true, 1), (true, 0)], "{}", host.name);
        host.device.destroy();
        gpu.notify_lost("the host destroyed it");
        host = host.another();
        gpu.replace_device(&host.adapter, &host.device, &host.queue).unwrap();
        let mut frames = 0;
        loop {
            let (looked, more) = look(&host, &gpu, 2);
            assert!((0..=1).contains(&more) && frames < 200_000, "{}: {more} in frame {frames}", host.name);
            if looked {
                break;
            }
            frames += 1;
        }
        assert!(frames > 0, "{}", host.name);
        let found = [0, 1, 2].map(|kind| look(&host, &gpu, kind));
        assert_eq!(found, [(true, 0); 3], "{}", host.name);
    }
}

/// A picture that was seen on one device may be too large for the next one, which is no reason not to go there.
#[test]
fn a_picture_too_large_for_the_next_device_holds_nothing_up() {
    const LARGE: u32 = 1100;
    for mut host in hosts() {
        let mut gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let mut watching = gpu.block_on(classifier.driven()).unwrap();
        for side in [SIDE, LARGE] {
            let texels = vec![90; (side * side * 4) as usize];
            gpu.block_on(watching.ready(Input::rgba8(texels, side, side))).unwrap();
        }
        host.device.destroy();
        gpu.notify_lost("the host destroyed it");
        host = host.binding(4 << 20);
        gpu.replace_device(&host.adapter, &host.device, &host.queue).unwrap();
        for side in [SIDE, LARGE] {
            let (mut looked, mut frames) = (false, 0);
            while !looked && frames < 200_000 {
                frame(&host, |encoder, budget| {
                    let texels = vec![90; (side * side * 4) as usize];
                    looked = match watching.look(encoder, budget, Input::rgba8(texels, side, side)) {
                        Ok(()) => true,
                        Err(Error::NotReady) => false,
                        Err(error) => panic!("{}: {error}", host.name),
                    };
                });
                host.device.poll(PollType::wait_indefinitely()).unwrap();
                gpu.pump();
                frames += 1;
            }
            assert!(looked, "{}: it never looks at {side} pixels again", host.name);
            watching.cancel();
        }
    }
}

/// Two models that load only when they are ticked.
fn loading(gpu: &Gpu) -> Loading<(Watching, Session)> {
    let (to, files) = (gpu.clone(), noise(CONFIG, &[], &[]));
    Loading::new(async move {
        let eyes = Classifier::load(&to, fixture("mobilenet_v3_small_w025")).await?.driven().await?;
        let model = Decoder::new(&to, files)?;
        model.load(|_, _| ()).await?;
        Ok((eyes, model.session(200).await?))
    })
}

/// A frame in which something loads.
fn load(
    host: &Host,
    gpu: &Gpu,
    loading: &mut Loading<(Watching, Session)>,
) -> Result<Option<(Watching, Session)>, Error> {
    let tick = loading.load(&mut Budget::gpu(Duration::from_micros(100)));
    host.queue.submit([]);
    gpu.pump();
    tick.map(|tick| if let Tick::Done(loaded) = tick { Some(loaded) } else { None })
}

/// What two models that were loaded see and say.
fn both(host: &mut Host, gpu: &mut Gpu, (mut eyes, session): (Watching, Session)) -> (Vec<f32>, Vec<u32>) {
    let texels: Vec<u8> = (0..SIDE * SIDE * 4).map(|i| (i * 5 + i / 300) as u8).collect();
    let prompt: Vec<u32> = (0..30).map(|i| (i * i + 3 * i) % 61).collect();
    let tokens = answer(host, gpu, &mut session.driven_generate(&prompt, 5, &Sampling::greedy()), &[]).0;
    frame(host, |encoder, budget| eyes.look(encoder, budget, Input::rgba8(texels.as_slice(), SIDE, SIDE)).unwrap());
    for _ in 0..200_000 {
        let mut tick = Tick::Idle;
        frame(host, |encoder, budget| tick = eyes.tick(encoder, budget).unwrap());
        gpu.pump();
        if let Tick::Done(answer) = tick {
            return (answer.logits, tokens);
        }
    }
    panic!("{}: no picture is seen", host.name);
}

/// Whether the engine was told of the loss or has to find out: what was being loaded says that its device is lost, once, and is loaded anew on the
/// next one. Where that has taken the place before the next tick, it may go there by itself.
#[test]
fn what_is_being_loaded_says_that_its_device_is_lost_or_goes_on() {
    for first in quick_hosts() {
        let (mut host, mut gpu) = (first.another(), first.guest());
        let (mut first, mut going, mut ticks) = (first, loading(&gpu), 1);
        let loaded = loop {
            if let Some(loaded) = load(&first, &gpu, &mut going).unwrap() {
                break loaded;
            }
            ticks += 1;
        };
        let expected = both(&mut first, &mut gpu, loaded);
        let (moments, mut went_on) = (if full_tier() { ticks } else { 3 }, 0);
        for moment in 0..moments {
            let (at, told, replaced) = (ticks * moment / moments, moment % 3 != 1, moment % 3 == 0);
            let what = format!("{}: lost after tick {at} of {ticks}, told {told}, replaced {replaced}", host.name);
            let mut gpu = host.guest();
            let mut going = loading(&gpu);
            for _ in 0..at {
                assert!(load(&host, &gpu, &mut going).unwrap().is_none(), "{what}: it is there too soon");
            }
            host.device.destroy();
            if told {
                gpu.notify_lost("the host destroyed it");
            }
            let next = host.another();
            if replaced {
                gpu.replace_device(&next.adapter, &next.device, &next.queue).unwrap();
            }
            // The host draws on the device that there is.
            let frames = if replaced { &next } else { &host };
            let mut taken = at;
            let ended = (0..20 * ticks).find_map(|_| {
                taken += 1;
                load(frames, &gpu, &mut going).transpose()
            });
            let ended = ended.unwrap_or_else(|| panic!("{what}: it is neither loaded nor refused"));
            // Said once; there is nothing left to do.
            let idle = going.load(&mut Budget::gpu(Duration::from_micros(100))).unwrap();
            assert!(matches!(idle, Tick::Idle), "{what}");
            if !replaced {
                gpu.replace_device(&next.adapter, &next.device, &next.queue).unwrap();
            }
            host = next;
            let loaded = match ended {
                Ok(loaded) => {
                    assert!(replaced, "{what}: it is loaded onto a device that is gone");
                    assert!(taken >= ticks, "{what}: no budget holds on the other device: it is there after {taken}");
                    went_on += 1;
                    loaded
                }
                Err(error) => {
                    assert!(error.is_device_lost(), "{what}: {error:?}");
                    let mut again = loading(&gpu.current());
                    let loaded = (0..20 * ticks).find_map(|_| load(&host, &gpu, &mut again).unwrap());
                    loaded.unwrap_or_else(|| panic!("{what}: it is not loaded again"))
                }
            };
            assert!(both(&mut host, &mut gpu, loaded) == expected, "{what}: other answers");
            assert_eq!(host.told(), (0, 0), "{what}: the host heard of the guest");
        }
        eprintln!("{}: {went_on} of {moments} went on by themselves", host.name);
        assert!(went_on > 0, "{}: what had not begun when the device was replaced does not begin", host.name);
    }
}
