//! A device without memory, at each moment at which any is asked for: every allocation of loading, compiling, writing, running, recording,
//! forking, reading and moving to another device fails once in turn. Each is a typed error; nothing stays behind, everything else goes on,
//! and the next run is right.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::lives::{DECODER, Life, NETWORK, SIDE, bits, picture};
use crate::support::decoders::noise;
use crate::support::host::{Host, hosts, quick_hosts};
use crate::support::{fixture, full_tier};
use lampyris::engine::Error as EngineError;
use lampyris::engine::gpu::{ConstantStore, GpuPlan, InputData, VariantChoice};
use lampyris::engine::kernels::Desc;
use lampyris::engine::kernels::elementwise::{Function, Unary};
use lampyris::engine::plan::PlanBuilder;
use lampyris::models::decoder::{Decoder, DrivenSession, SessionOptions};
use lampyris::models::encoder::{EncoderFiles, EncoderOptions, TokenEncoder};
use lampyris::wgpu;
use lampyris::{Budget, Classifier, Error, Gpu, Input, Result, Sampling, Tick, Watching};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that the driver's allocator has given out, where wgpu keeps such a book. Words that wait for a submit are written first.
fn allocated(host: &Host) -> Option<u64> {
    host.queue.submit([]);
    host.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    host.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
}

#[test]
fn every_allocation_in_turn() {
    for host in quick_hosts() {
        let gpu = host.guest();
        let bystander = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        let look = || gpu.block_on(bystander.classify(Input::rgba8(picture(7), SIDE, SIDE))).unwrap().logits;
        let seen = look();
        // How many allocations are refused in the short tier, of those that a life has.
        let lives: [(&str, Life, u64); 9] = [
            ("classifying", crate::lives::classifying, 40),
            ("writing", crate::lives::writing, 40),
            ("embedding", crate::lives::embedding, 40),
            ("as guests", crate::lives::as_guests, 40),
            ("restoring", crate::lives::restoring, 8),
            ("loading in ticks", crate::lives::loading_in_ticks, 8),
            ("measuring", crate::lives::measuring, 8),
            ("side by side", crate::lives::side_by_side, 8),
            ("telling", crate::lives::telling, 6),
        ];
        for (name, life, points) in lives {
            let what = format!("{name} on {}", host.name);
            // Once for what is compiled and stays.
            let expected = life(&host, &gpu).unwrap();
            let (held, taken) = (gpu.held_bytes(), allocated(&host));
            let objects = host.objects();
            let counted = || {
                let before = gpu.allocations();
                assert!(life(&host, &gpu).unwrap() == expected, "{what}");
                gpu.allocations() - before
            };
            // What goes by ticks asks for more where it takes longer.
            let count = counted().min(counted());
            assert!(count > 20, "{what}: only {count} allocations");
            let step = if full_tier() { 1 } else { 1 + count / points };
            // A step that took less time than before is cut in fewer pieces, and fewer ticks do what took less: the last allocation is the
            // one that three lives in a row did not come to.
            let (mut refused, mut spared) = (0, 0);
            while spared < 3 {
                let began = gpu.allocations();
                gpu.refuse_allocation(refused);
                let found = life(&host, &gpu);
                if gpu.allocations() - began <= refused {
                    assert!(found.unwrap() == expected, "{what}: {refused} allocations sufficed");
                    gpu.refuse_allocation(u64::MAX / 2);
                    spared += 1;
                    continue;
                }
                spared = 0;
                let typed = matches!(found, Err(Error::Engine(EngineError::OutOfMemory { .. })));
                assert!(typed, "{what}: without allocation {refused} of {count}: {found:?}");
                // What was recorded beside it holds its places until the device is done.
                host.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
                assert_eq!(gpu.held_bytes(), held, "{what}: allocation {refused} of {count} leaves something behind");
                if refused % (8 * step) == 0 {
                    assert_eq!(look(), seen, "{what}: a model beside it, without allocation {refused}");
                }
                refused += step;
            }
            eprintln!("{what}: {count} allocations, each {step}. of the first {refused} refused");
            assert!(
                10 * count.saturating_sub(refused) <= count,
                "{what}: only {refused} of {count} were asked for again"
            );
            assert!(life(&host, &gpu).unwrap() == expected, "{what}: the run after all refusals");
            assert_eq!(gpu.held_bytes(), held, "{what}");
            assert_eq!(allocated(&host), taken, "{what}: the driver's bytes");
            assert_eq!(host.objects(), objects, "{what}: objects of wgpu");
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// A session, an encoder and a classifier of which one call fails go on as if it had not been made.
#[test]
fn what_is_loaded_goes_on_after_a_refusal() {
    for host in hosts() {
        let gpu = host.guest();
        let decoder = Decoder::new(&gpu, noise(DECODER, &[], &[])).unwrap();
        let run = |refused: Option<u64>| -> (u64, Vec<u32>) {
            let mut session = gpu.block_on(decoder.session(SessionOptions::from(120))).unwrap();
            let before = gpu.allocations();
            if let Some(refused) = refused {
                gpu.refuse_allocation(refused);
            }
            let failed = gpu.block_on(session.feed(&(0..50).map(|i| i * i % 61).collect::<Vec<u32>>())).is_err();
            let mut generation = session.sample(12, &Sampling::at(0.9).seed(3)).unwrap();
            let (mut tokens, mut failures) = (Vec::new(), u32::from(failed));
            loop {
                match gpu.block_on(generation.next()) {
                    Ok(Some(token)) => tokens.push(token),
                    Ok(None) => break,
                    Err(Error::Engine(EngineError::OutOfMemory { .. })) => failures += 1,
                    Err(other) => panic!("{}: {other:?}", host.name),
                }
            }
            assert_eq!(failures, u32::from(refused.is_some()), "{}: {refused:?}", host.name);
            (gpu.allocations() - before, tokens)
        };
        let _ = run(None);
        let (count, expected) = run(None);
        assert!(count > 0, "{}: nothing is allocated", host.name);
        for refused in (0..count).step_by(if full_tier() { 1 } else { 2 }) {
            assert_eq!(run(Some(refused)).1, expected, "{}: without allocation {refused} of {count}", host.name);
        }
    }
}

/// Ticks of a driven session until it has given `most` tokens behind `prompt`; when one fails it is asked to go on from what has come. How
/// often that was, and the tokens.
fn ticked(host: &Host, gpu: &Gpu, driven: &mut DrivenSession, prompt: &[u32], most: usize) -> (usize, Vec<u32>) {
    let (sampling, mut tokens, mut failures) = (Sampling::at(0.9).seed(3), Vec::new(), 0);
    driven.generate(prompt, most, &sampling);
    for _ in 0..100_000 {
        let mut frame = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let tick = driven.tick(&mut frame, &mut Budget::gpu(Duration::from_millis(2)));
        host.queue.submit([frame.finish()]);
        gpu.block_on(gpu.idle()).unwrap();
        match tick {
            Ok(Tick::Pieces(new)) => tokens.extend(new),
            Ok(Tick::Done(_)) => return (failures, tokens),
            Ok(_) => {}
            Err(Error::Engine(EngineError::OutOfMemory { .. })) => {
                failures += 1;
                driven.generate(&[prompt, &tokens].concat(), most - tokens.len(), &sampling);
            }
            Err(other) => panic!("{}: {other:?}", host.name),
        }
    }
    panic!("no answer on {}", host.name);
}

/// The same in a host's frames, whose next frame asks for what is left; the tokens that had come with a tick are given before its error.
#[test]
fn what_is_ticked_goes_on_after_a_refusal() {
    for host in hosts() {
        let gpu = host.guest();
        let decoder = Decoder::new(&gpu, noise(DECODER, &[], &[])).unwrap();
        let prompt: Vec<u32> = (0..40).map(|i| i * i % 61).collect();
        let run = |refused: Option<u64>| {
            let mut driven = gpu.block_on(decoder.session(SessionOptions::from(120))).unwrap().driven();
            let before = gpu.allocations();
            gpu.refuse_allocation(refused.unwrap_or(u64::MAX / 2));
            let (failures, tokens) = ticked(&host, &gpu, &mut driven, &prompt, 8);
            let asked = refused.is_some_and(|refused| gpu.allocations() - before > refused);
            assert_eq!(failures, usize::from(asked), "{}: {refused:?}", host.name);
            // What it has is told to the device with the next run of the session.
            let mut session = driven.into_session().unwrap();
            gpu.refuse_allocation(0);
            assert!(gpu.block_on(session.sample(1, &Sampling::greedy()).unwrap().next()).is_err(), "{}", host.name);
            let mut next = session.sample(4, &Sampling::at(0.9).seed(3)).unwrap();
            let more: Vec<u32> = std::iter::from_fn(|| gpu.block_on(next.next()).unwrap()).collect();
            (asked, tokens, more)
        };
        let (_, expected, more) = run(None);
        assert_eq!((expected.len(), more.len()), (8, 4));
        let step = if full_tier() { 1 } else { 9 };
        for refused in (0..).step_by(step) {
            let (asked, tokens, after) = run(Some(refused));
            assert_eq!((&tokens, &after), (&expected, &more), "{}: without allocation {refused}", host.name);
            if !asked {
                assert!(refused > 10, "{}: only {refused} allocations", host.name);
                break;
            }
        }
    }
}

/// What goes from a lost device to the next: a classifier, an encoder, a session, and a classifier and a session that are ticked. Of each
/// call, how many allocations it needs there; every `step`th of them is refused first, if that is told.
fn moved(host: &Host, steps: Option<&[u64]>) -> (Vec<u64>, Vec<u32>, u64) {
    let folder = tempfile::tempdir().unwrap();
    crate::bert::write(folder.path());
    let mut lent = host.guest();
    let gpu = &lent;
    let prompt: Vec<u32> = (0..40).map(|i| i * i % 61).collect();
    let of = |seed| Input::rgba8(picture(seed), SIDE, SIDE);
    let classifier = gpu.block_on(Classifier::load(gpu, &fixture(NETWORK))).unwrap();
    let mut eyes = gpu.block_on(classifier.driven()).unwrap();
    let files = EncoderFiles::open(folder.path()).unwrap();
    let encoder = TokenEncoder::new(gpu, files, EncoderOptions::default()).unwrap();
    gpu.block_on(encoder.load(|_, _| ())).unwrap();
    let decoder = Decoder::new(gpu, noise(DECODER, &[], &[])).unwrap();
    let mut session = gpu.block_on(decoder.session(120)).unwrap();
    gpu.block_on(session.feed(&prompt)).unwrap();
    gpu.block_on(session.sample(2, &Sampling::at(0.9).seed(3)).unwrap().next()).unwrap();
    let mut driven = gpu.block_on(session.fork()).unwrap().driven();
    ticked(host, gpu, &mut driven, &prompt, 2);

    host.device.destroy();
    gpu.notify_lost("the host destroyed it");
    let next = host.another();
    lent.replace_device(&next.adapter, &next.device, &next.queue).unwrap();
    let gpu = lent.current();
    let (mut counts, mut all) = (Vec::new(), Vec::new());
    let mut each = |call: &mut dyn FnMut() -> Result<Vec<u32>>| {
        let step = steps.map(|steps| steps[counts.len()]);
        for refused in (0..).step_by(step.unwrap_or(1) as usize) {
            let before = gpu.allocations();
            gpu.refuse_allocation(step.map_or(u64::MAX / 2, |_| refused));
            match call() {
                Ok(found) => {
                    gpu.refuse_allocation(u64::MAX / 2);
                    counts.push(gpu.allocations() - before);
                    all.extend(found);
                    break;
                }
                Err(Error::Engine(EngineError::OutOfMemory { .. })) if step.is_some() => {
                    assert!(gpu.allocations() - before > refused, "{}: {refused} were not asked for", host.name);
                }
                Err(other) => panic!("{}, without allocation {refused}: {other:?}", host.name),
            }
        }
    };
    each(&mut || Ok(bits(&gpu.block_on(classifier.classify(of(1)))?.logits).collect()));
    each(&mut || Ok(gpu.block_on(encoder.embed(&[vec![2, 7, 9, 3]]))?.iter().flat_map(|it| bits(it)).collect()));
    each(&mut || gpu.block_on(session.recover()).map(|_| Vec::new()));
    each(&mut || Ok(gpu.block_on(session.sample(1, &Sampling::at(0.9).seed(3))?.next())?.into_iter().collect()));
    each(&mut || looked(&next, &gpu, &mut eyes, of(2)));
    let again = [&prompt[..], &[3]].concat();
    // A ticked session fails once in the midst of its move, and is asked again.
    let before = gpu.allocations();
    gpu.refuse_allocation(steps.map_or(u64::MAX / 2, |_| 5));
    let (failures, tokens) = ticked(&next, &gpu, &mut driven, &again, 4);
    assert_eq!(failures, usize::from(steps.is_some()), "{}: of {}", host.name, gpu.allocations() - before);
    all.extend(tokens);
    drop((classifier, eyes, encoder, session, driven));
    next.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    assert_eq!((host.told().0, next.told()), (0, (0, 0)), "the host of {} heard of the guest", host.name);
    drop(decoder);
    (counts, all, gpu.held_bytes())
}

/// Frames until a picture is seen, of a classifier that moves to another device first.
fn looked(host: &Host, gpu: &Gpu, eyes: &mut Watching, input: Input<'_>) -> Result<Vec<u32>> {
    let mut going = false;
    for _ in 0..100_000 {
        let mut frame = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut budget = Budget::gpu(Duration::from_millis(2));
        let tick = match going {
            true => eyes.tick(&mut frame, &mut budget),
            false => eyes.look(&mut frame, &mut budget, input.clone()).map(|()| Tick::Idle),
        };
        host.queue.submit([frame.finish()]);
        gpu.block_on(gpu.idle())?;
        match tick {
            Ok(Tick::Done(answer)) => return Ok(bits(&answer.logits).collect()),
            Ok(_) => going = true,
            Err(Error::NotReady) => {}
            Err(error) => return Err(error),
        }
    }
    panic!("no answer on {}", host.name);
}

/// On the way to the device that takes a lost one's place there is no memory either, each time at a later one of the allocations that are left;
/// the call after the one that failed goes on there.
#[test]
fn a_move_goes_on_after_refusals() {
    // Each device compiles everything again, so one adapter has to do in the short tier.
    let some = if full_tier() { usize::MAX } else { 1 };
    for host in hosts().into_iter().rev().take(some) {
        let [first, second] = [0, 1].map(|_| host.another());
        let (counts, expected, held) = moved(&first, None);
        let steps: Vec<u64> = counts.iter().map(|count| if full_tier() { 1 } else { 1 + count / 6 }).collect();
        let (_, found, after) = moved(&second, Some(&steps));
        assert!(found == expected, "{}: another device gives something else after refusals", host.name);
        assert_eq!(after, held, "{}", host.name);
    }
}

/// A kernel for which there is no memory is compiled by the next plan that needs it, and nothing stands in its place until then.
#[test]
fn what_could_not_be_compiled_is_compiled_later() {
    for host in hosts() {
        for refused in 0.. {
            let gpu = host.guest();
            let plan = || {
                let mut builder = PlanBuilder::new();
                let x = builder.input("x", Desc::f32([1, 4]));
                let x = builder.apply("abs", Unary { function: Function::Abs }, &[x]).unwrap();
                let y = builder.apply("sqrt", Unary { function: Function::Sqrt }, &[x]).unwrap();
                builder.output("y", y);
                let plan = Arc::new(builder.finish());
                gpu.block_on(GpuPlan::new(&gpu, plan, &ConstantStore::new(), VariantChoice::Best))
            };
            gpu.refuse_allocation(refused);
            let found = plan();
            let doing = match &found {
                Err(EngineError::OutOfMemory { doing, .. }) => Some(doing.clone()),
                Err(other) => panic!("{}: {other:?}", host.name),
                Ok(_) => None,
            };
            drop(found);
            gpu.refuse_allocation(u64::MAX / 2);
            let compiles = doing.as_ref().is_some_and(|doing| doing.starts_with("compiling"));
            assert!(compiles || refused > 0, "{}: {doing:?}", host.name);
            let x = [-1.0f32, 4.0, -9.0, 0.25].map(f32::to_bits);
            let y = gpu.block_on(plan().unwrap().run(&[InputData::Words(&x)])).unwrap();
            assert_eq!(y[0].values(), [1.0, 2.0, 3.0, 0.5], "{}", host.name);
            if doing.is_none() {
                break;
            }
        }
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}

/// A run that the driver refuses makes the engine ask whether the device is lost; without memory for that the device is not taken for lost.
#[test]
fn a_device_without_memory_is_not_taken_for_lost() {
    for host in hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture(NETWORK))).unwrap();
        // What prepares such pictures is made once.
        let view = host.texture(wgpu::TextureFormat::Rgba8Unorm, &picture(1), [SIDE, SIDE]);
        gpu.block_on(classifier.classify(&view)).unwrap();
        let mut asked = false;
        for refused in 0.. {
            let view = host.texture(wgpu::TextureFormat::Rgba8Unorm, &picture(1), [SIDE, SIDE]);
            view.texture().destroy();
            gpu.refuse_allocation(refused);
            match gpu.block_on(classifier.classify(&view)) {
                Err(Error::Engine(EngineError::OutOfMemory { doing, .. })) => asked |= doing.contains("is lost"),
                Err(Error::Engine(EngineError::Texture { .. })) => break,
                other => panic!("{}, without allocation {refused}: {other:?}", host.name),
            }
            gpu.check_alive().unwrap();
        }
        gpu.refuse_allocation(u64::MAX / 2);
        assert!(asked, "{}: nobody asked whether the device is lost", host.name);
        gpu.block_on(classifier.classify(Input::rgba8(picture(1), SIDE, SIDE))).unwrap();
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}
