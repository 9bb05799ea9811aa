//! What the guest does for Bevy's frames, on a device of the test's own.

#![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

use super::*;
use bevy::asset::uuid::Uuid;
use bevy::ecs::world::World;
use lampyris::engine::gpu::GpuOptions;
use lampyris::text::{Conversation, Message};
use lampyris::{AnswerOptions, TextModel};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// More than any frame takes.
const AMPLE: Duration = Duration::from_secs(10);

/// A host's device.
fn host() -> (wgpu::Adapter, wgpu::Device, wgpu::Queue) {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
    let wanted = Gpu::requirements(&adapter);
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: wanted.features,
        required_limits: wanted.limits,
        ..Default::default()
    }))
    .unwrap();
    (adapter, device, queue)
}

/// A state with a classifier on a device.
fn watching(gpu: &Gpu, budget: Duration) -> Shared {
    let shared = Shared::new(LampyrisPlugin::new(budget));
    let places = super::watching(&pollster::block_on(Classifier::bundled(gpu)).unwrap(), budget).unwrap();
    shared.lock().places = places.into_iter().map(|watching| Place { watching, eye: None }).collect();
    shared
}

/// A state that has loaded on a device what the plugin says.
fn loaded(gpu: &Gpu, plugin: LampyrisPlugin) -> Shared {
    let shared = Shared::new(plugin);
    let mut state = shared.lock();
    state.gpu = Some(gpu.clone());
    state.load();
    while state.loading.is_some() {
        std::thread::sleep(Duration::from_millis(5));
        state.loaded();
    }
    drop(state);
    shared
}

fn chat(gpu: &Gpu) -> lampyris::Result<TextSession> {
    pollster::block_on(TextModel::bundled(gpu)?.session(64))
}

fn ask(options: AnswerOptions) -> Ask {
    Ask { conversation: Conversation::new([Message::user("Tell me a story.")]), options }
}

/// What failed, with its reasons, since the last time.
fn failures(state: &mut State) -> Vec<(Source, String)> {
    state.failed.drain(..).map(|failed| (failed.source, failed.reason)).collect()
}

/// Pictures of this format, each as an image's handle and its view.
fn pictures(device: &wgpu::Device, formats: &[wgpu::TextureFormat]) -> Vec<(AssetId<Image>, wgpu::TextureView)> {
    let picture = |(at, format): (usize, &wgpu::TextureFormat)| {
        let texture = device.create_texture(&wgpu::TextureDescriptor {
            label: Some("what an eye sees"),
            size: wgpu::Extent3d { width: 64, height: 64, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: *format,
            usage: wgpu::TextureUsages::TEXTURE_BINDING,
            view_formats: &[],
        });
        let image = AssetId::Uuid { uuid: Uuid::from_u128(at as u128) };
        (image, texture.create_view(&wgpu::TextureViewDescriptor::default()))
    };
    formats.iter().enumerate().map(picture).collect()
}

#[test]
fn every_eye_has_its_turn_and_a_mistake_is_told_once() {
    let (adapter, device, queue) = host();
    let shared = watching(&Gpu::from_device(&adapter, &device, &queue).unwrap(), Duration::from_millis(2));
    let mut formats = [wgpu::TextureFormat::Rgba8Unorm; 7];
    formats[2] = wgpu::TextureFormat::Rgba8Uint;
    let pictures = pictures(&device, &formats);
    let mut world = World::new();
    let eyes: Vec<_> = pictures.iter().map(|(image, _)| (world.spawn_empty().id(), *image)).collect();
    let mut state = shared.lock();
    let again = |state: &mut State, budget: Duration| {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let shown = |image| pictures.iter().find(|(at, _)| *at == image).map(|(_, view)| picture(view, None));
        state.look(&mut encoder, &mut Budget::gpu(budget), shown);
        queue.submit([encoder.finish()]);
    };
    let frame = |state: &mut State, eyes: &[(Entity, AssetId<Image>)], budget: Duration| {
        state.eyes = eyes.to_vec();
        again(state, budget);
    };
    for round in 0..10 {
        // Answers come a frame late, so that every other frame finds no place at all. Some that find one have no news of the eyes.
        if round % 3 == 0 {
            frame(&mut state, &eyes, AMPLE);
        } else {
            again(&mut state, AMPLE);
        }
        frame(&mut state, &eyes, AMPLE);
        assert!(state.places.iter().all(|place| place.eye.is_some()), "round {round}");
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    }
    frame(&mut state, &eyes[2..3], AMPLE);
    let named = eyes.iter().map(|(eye, _)| state.named.iter().filter(|named| named.eye == *eye).count());
    let named: Vec<usize> = named.collect();
    // Ten times four places, for six eyes that can see.
    assert_eq!((named.iter().sum::<usize>(), named[2]), (40, 0), "{named:?}");
    assert!(named.iter().enumerate().all(|(at, count)| at == 2 || (6..=7).contains(count)), "{named:?}");
    assert_eq!(state.failed.len(), 1, "{:?}", state.failed);
    assert!(state.failed[0].reason.contains("Rgba8Uint"), "{:?}", state.failed);
    assert_eq!(state.failed[0].source, Source::Eye(eyes[2].0));
    // Another eye's mistake is another one, and so is one that comes again after it was mended.
    let mended = (eyes[2].0, eyes[0].1);
    for eyes in [[eyes[2], (eyes[0].0, eyes[2].1)], [mended, eyes[0]], [eyes[2], eyes[0]]] {
        frame(&mut state, &eyes, AMPLE);
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    }
    assert_eq!(state.failed.len(), 3, "{:?}", state.failed);
    // A budget that does not pay for a look a frame is spent on one before it is on another, of each eye in turn.
    frame(&mut state, &[], AMPLE);
    assert!(state.places.iter().all(|place| place.eye.is_none()));
    state.named.clear();
    for _ in 0..10_000 {
        frame(&mut state, &eyes[..2], Duration::from_micros(20));
        assert!(state.places.iter().filter(|place| place.eye.is_some()).count() <= 2);
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        if state.named.len() == 4 {
            break;
        }
    }
    let named: Vec<Entity> = state.named.iter().map(|named| named.eye).collect();
    assert_eq!(named, [eyes[0].0, eyes[1].0, eyes[0].0, eyes[1].0]);
}

/// The same linear light as Bevy writes it through views of all kinds, of a texture's first mip level and of its second.
#[test]
fn an_eye_sees_what_bevy_has_drawn_whatever_the_formats_are() {
    use wgpu::TextureFormat::{Rgba8Unorm, Rgba8UnormSrgb, Rgba16Float};
    const SIDE: u32 = 64;
    let light: Vec<u8> = (0..SIDE * SIDE).flat_map(|at| [[0, 51, 255][(at / 9 % 3) as usize], 128, 9, 255]).collect();
    let encoded: Vec<u8> = light
        .iter()
        .map(|byte| {
            let linear = f32::from(*byte) / 255.0;
            (255.0 * if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 })
                .round() as u8
        })
        .collect();
    let half = |byte: &u8| match f32::from(*byte) / 255.0 {
        0.0 => 0,
        linear => ((linear.to_bits() - (112 << 23)) >> 13) as u16,
    };
    let halves: Vec<u8> = light.iter().flat_map(|byte| half(byte).to_le_bytes()).collect();
    let (adapter, device, queue) = host();
    let gpu = Gpu::from_device(&adapter, &device, &queue).unwrap();
    let classifier = pollster::block_on(Classifier::bundled(&gpu)).unwrap();
    let expected = pollster::block_on(classifier.prepared_pixels(Input::rgba8(&encoded[..], SIDE, SIDE))).unwrap();
    for (format, view_format, texels) in [
        (Rgba8Unorm, None, &light),
        (Rgba8Unorm, Some(Rgba8UnormSrgb), &encoded),
        (Rgba8UnormSrgb, Some(Rgba8Unorm), &light),
        (Rgba8UnormSrgb, None, &encoded),
        (Rgba16Float, None, &halves),
    ] {
        for level in [0, 1] {
            let size = wgpu::Extent3d { width: SIDE, height: SIDE, depth_or_array_layers: 1 };
            let texture = device.create_texture(&wgpu::TextureDescriptor {
                label: Some("what an eye sees"),
                size: wgpu::Extent3d { width: SIDE << level, height: SIDE << level, ..size },
                mip_level_count: 1 + level,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format,
                usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: view_format.as_slice(),
            });
            let target = wgpu::TexelCopyTextureInfo { mip_level: level, ..texture.as_image_copy() };
            let row = Some(texels.len() as u32 / SIDE);
            let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: row, rows_per_image: None };
            queue.write_texture(target, texels, layout, size);
            let described = (level > 0 || view_format.is_some()).then(|| wgpu::TextureViewDescriptor {
                format: view_format,
                base_mip_level: level,
                ..Default::default()
            });
            let view = texture.create_view(&described.clone().unwrap_or_default());
            let seen = picture(&view, described.as_ref());
            let seen = pollster::block_on(classifier.prepared_pixels(seen)).unwrap();
            let apart = seen.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(
                seen.len() == expected.len() && apart <= Some(1),
                "{format:?} as {view_format:?}: {apart:?} levels"
            );
        }
    }
}

#[test]
fn places_without_room_are_given_up_and_a_turn_that_panics_costs_none() {
    let (adapter, device, queue) = host();
    let pictures = pictures(&device, &[wgpu::TextureFormat::Rgba8Unorm; LOOKS]);
    let mut world = World::new();
    let eyes: Vec<_> = pictures.iter().map(|(image, _)| (world.spawn_empty().id(), *image)).collect();
    let frame = |state: &mut State, turns: &mut Turns, goes_on: bool| {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        state.frame(turns, &mut encoder, |image| {
            assert!(goes_on, "this turn panics, as it should");
            pictures.iter().find(|(at, _)| *at == image).map(|(_, view)| picture(view, None))
        });
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    };
    // What the places take, and what each takes more to prepare such a picture. Steps are cut as they were measured, so that they are measured once.
    let cache = std::env::temp_dir().join(format!("lampyris-bevy-{}", std::process::id()));
    let options = || GpuOptions::default().cache(&cache);
    let roomy = Gpu::from_device_with(&adapter, &device, &queue, options()).unwrap();
    let shared = watching(&roomy, AMPLE);
    let places = roomy.held_bytes();
    shared.lock().eyes = eyes[..1].to_vec();
    frame(&mut shared.lock(), &mut Turns::default(), true);
    let more = roomy.held_bytes() - places;
    assert!(more > 1, "{more} bytes");
    drop((shared, roomy));
    let tight = options().budget(places + more + more / 2);
    let shared = watching(&Gpu::from_device_with(&adapter, &device, &queue, tight).unwrap(), AMPLE);
    std::fs::remove_dir_all(cache).unwrap();
    let (mut state, mut turns) = (shared.lock(), Turns::default());
    assert_eq!(state.places.len(), LOOKS);
    state.eyes = eyes.clone();
    catch_unwind(AssertUnwindSafe(|| frame(&mut state, &mut turns, false))).unwrap_err();
    assert_eq!((state.places.len(), state.eyes.len()), (LOOKS, LOOKS));
    frame(&mut state, &mut turns, true);
    let looks = |state: &State| state.places.iter().map(|place| place.eye).collect::<Vec<_>>();
    assert_eq!((looks(&state)[..2].to_vec(), state.crowded), (vec![Some(eyes[0].0), None], Some((1, CROWDED))));
    for _ in 0..2 * LOOKS {
        frame(&mut state, &mut turns, true);
    }
    assert_eq!(state.crowded, Some((1, CROWDED - 2 * LOOKS as u32)));
    let named = eyes.iter().map(|(eye, _)| state.named.iter().filter(|named| named.eye == *eye).count());
    assert_eq!((named.collect::<Vec<_>>(), state.failed.len()), (vec![2; LOOKS], 0), "{:?}", state.failed);
}

#[test]
fn a_question_and_an_eye_fail_once_their_models_could_not_be_loaded() {
    let plugin = LampyrisPlugin::new(AMPLE).classifier(|_| Err(Error::NotReady)).chat(|_| Err(Error::NoTemplate));
    let gpu = Gpu::cpu_executor();
    let shared = loaded(&gpu, plugin.clone());
    let mut state = shared.lock();
    let reasons = [("the classifier", Error::NotReady), ("the chat", Error::NoTemplate)];
    let [classifier, talk] = reasons.map(|(what, error)| format!("{what} could not be loaded: {error}"));
    assert_eq!(failures(&mut state), [(Source::Loading, classifier.clone()), (Source::Loading, talk.clone())]);
    state.refuse();
    assert_eq!(failures(&mut state), [], "nobody has asked or looks");
    state.ask(ask(AnswerOptions::new(8)));
    state.eyes.push((Entity::PLACEHOLDER, AssetId::default()));
    (0..2).for_each(|_| state.refuse());
    let told = [
        (Source::Eye(Entity::PLACEHOLDER), format!("nobody can name what it sees: {classifier}")),
        (Source::Talk, format!("nobody can answer: {talk}")),
    ];
    assert_eq!(failures(&mut state), told);
    state.eyes.clear();
    state.refuse();
    assert_eq!(state.wrong, []);
    let shared = loaded(&gpu, plugin.chat(|_| panic!("this loading panics, as it should")));
    let mut state = shared.lock();
    state.ask(ask(AnswerOptions::new(8)));
    state.eyes.push((Entity::PLACEHOLDER, AssetId::default()));
    state.refuse();
    let failed = failures(&mut state);
    let sources: Vec<Source> = failed.iter().map(|(source, _)| *source).collect();
    assert_eq!(sources, [Source::Loading, Source::Eye(Entity::PLACEHOLDER), Source::Talk], "{failed:?}");
    assert!(failed.iter().all(|(_, reason)| reason.contains("panicked")), "{failed:?}");
}

#[test]
fn talk_that_fails_says_so_and_a_device_that_cannot_be_taken_ends_it_until_there_is_another() {
    let (adapter, device, queue) = host();
    let few = wgpu::Limits { max_storage_buffers_per_shader_stage: 2, ..Default::default() };
    let descriptor = wgpu::DeviceDescriptor { required_limits: few, ..Default::default() };
    let (narrow, narrow_queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    let shared = Shared::new(LampyrisPlugin::new(AMPLE).chat(chat));
    let mut state = shared.lock();
    // The first device of all cannot be taken: questions do not wait for a chat that is not loaded meanwhile.
    state.adopt(&adapter, &narrow, &narrow_queue);
    state.ask(ask(AnswerOptions::new(8)));
    state.refuse();
    let failed = failures(&mut state);
    assert_eq!([failed[0].0, failed[1].0], [Source::Device, Source::Talk], "{failed:?}");
    assert!(failed.iter().all(|(_, reason)| reason.contains("storage buffers")), "{failed:?}");
    state.adopt(&adapter, &device, &queue);
    state.ask(ask(AnswerOptions::new(8)));
    state.refuse();
    assert!(state.question.is_some(), "one that is to be loaded is waited for");
    state.load();
    while state.loading.is_some() {
        std::thread::sleep(Duration::from_millis(5));
        state.loaded();
    }
    assert_eq!(failures(&mut state), []);
    let talk = |state: &mut State| {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        state.talk(&mut encoder, &mut Budget::gpu(AMPLE));
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    };
    let works = |state: &State| state.chat.as_ref().is_some_and(Driven::has_work);
    state.ask(ask(AnswerOptions::new(8).stop("")));
    talk(&mut state);
    let failed = failures(&mut state);
    assert!(failed.len() == 1 && failed[0].0 == Source::Talk && failed[0].1.contains("stop"), "{failed:?}");
    state.ask(ask(AnswerOptions::new(8)));
    talk(&mut state);
    assert!(works(&state) && state.failed.is_empty(), "{:?}", state.failed);
    state.adopt(&adapter, &narrow, &narrow_queue);
    let failed = failures(&mut state);
    assert_eq!(failed.iter().map(|it| it.0).collect::<Vec<_>>(), [Source::Device, Source::Talk], "{failed:?}");
    assert!(!works(&state), "an answer that is not told of any more");
    // The render world may come first.
    state.ask(ask(AnswerOptions::new(8)));
    talk(&mut state);
    state.refuse();
    let failed = failures(&mut state);
    assert!(failed.len() == 1 && failed[0].0 == Source::Talk, "{failed:?}");
    state.adopt(&adapter, &device, &queue);
    state.said.clear();
    state.ask(ask(AnswerOptions::new(8)));
    for _ in 0..10_000 {
        state.refuse();
        talk(&mut state);
        if state.said.last() == Some(&Said::Done) {
            break;
        }
    }
    assert!(state.said.last() == Some(&Said::Done) && state.failed.is_empty(), "{:?}", state.failed);
}

#[test]
fn small_budgets_cut_the_talk_finer() {
    let finest = |micros| super::finest(Duration::from_micros(micros)).as_micros();
    assert_eq!([0, 120, 300, 1200, 2000].map(finest), [10, 20, 50, 200, 200]);
    let (adapter, device, queue) = host();
    let gpu = Gpu::from_device(&adapter, &device, &queue).unwrap();
    // The second time it is known how long the steps of a token take, so that only the budget makes a difference.
    let [usual, fine] = [AMPLE, Duration::from_micros(60)].map(|budget| {
        let shared = loaded(&gpu, LampyrisPlugin::new(budget).chat(chat));
        let state = shared.lock();
        let [_, token] = state.chat.as_ref().unwrap().tokens().times().unwrap();
        token.len()
    });
    assert!(fine > usual, "{fine} pieces of a token, {usual} where the budget is ample");
}
