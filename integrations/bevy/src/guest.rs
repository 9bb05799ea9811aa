//! The render world's side: the engine on the renderer's device, and what it does in each frame.

use crate::{Ask, Failed, LampyrisPlugin, Named, Said};
use bevy::asset::AssetId;
use bevy::ecs::entity::Entity;
use bevy::ecs::prelude::{Local, Res, Resource};
use bevy::image::Image;
use bevy::render::render_asset::RenderAssets;
use bevy::render::renderer::{RenderAdapter, RenderDevice, RenderQueue};
use bevy::render::texture::GpuImage;
use lampyris::engine::Error as EngineError;
use lampyris::text_model::{DrivenText, TextSession};
use lampyris::{Budget, Classifier, Error, Gpu, Input, Priority, Sampling, Scheduler, Tick, Watching, wgpu};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What both worlds share: requests one way, answers the other.
#[derive(Resource, Clone)]
pub(crate) struct Shared(Arc<Mutex<State>>);

/// Looks that may be under way.
const LOOKS: usize = 4;

/// The eyes' number in the frame's turns; the talk's is the next.
const EYES: usize = 0;

/// What the loading thread brings, as far as it was wanted.
type Loaded = (lampyris::Result<Option<Vec<Watching>>>, lampyris::Result<Option<DrivenText>>);

/// Frames in which no more looks are tried than there was memory for.
const CROWDED: u32 = 600;

/// What the talk is sure of, as long as it has something to say.
const TALK: f64 = 0.5;

/// The eyes' turn in a frame, then the talk's. Only the render world has it, so that it outlasts a turn that panics.
pub(crate) struct Turns(Scheduler);

impl Default for Turns {
    fn default() -> Turns {
        let mut turns = Scheduler::new();
        turns.add(Priority::FIRST);
        turns.add(Priority::AFTER.share(TALK));
        Turns(turns)
    }
}

/// A place for a look, and whose it is.
struct Place {
    watching: Watching,
    eye: Option<Entity>,
}

pub(crate) struct State {
    budget: Duration,
    /// What has not been loaded yet.
    missing: LampyrisPlugin,
    gpu: Option<Gpu>,
    loading: Option<JoinHandle<Loaded>>,
    /// Those with a look first, in the order in which the looks began.
    places: Vec<Place>,
    chat: Option<DrivenText>,
    /// For how many looks there was room when there was none for another, and frames until that is tried again.
    crowded: Option<(usize, u32)>,
    /// The eye that the next look is of, where it is there: the first that had none the last time.
    next: Option<Entity>,
    /// What was wrong with eyes the last time, and was told.
    wrong: Vec<(Entity, String)>,
    /// The eyes of the last frame that the main world told of, with their images; the render world may be a frame ahead of it.
    pub(crate) eyes: Vec<(Entity, AssetId<Image>)>,
    question: Option<Ask>,
    pub(crate) named: Vec<Named>,
    pub(crate) said: Vec<Said>,
    pub(crate) failed: Vec<Failed>,
}

impl Shared {
    pub(crate) fn new(plugin: LampyrisPlugin) -> Shared {
        Shared(Arc::new(Mutex::new(State {
            budget: plugin.budget,
            missing: plugin,
            gpu: None,
            loading: None,
            places: Vec::new(),
            chat: None,
            crowded: None,
            next: None,
            wrong: Vec::new(),
            eyes: Vec::new(),
            question: None,
            named: Vec::new(),
            said: Vec::new(),
            failed: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fail(&mut self, error: &impl ToString) {
        self.failed.push(Failed { reason: error.to_string() });
    }

    /// Puts a question in the place of the last one, and forgets what has been said to that and was not given out.
    pub(crate) fn ask(&mut self, ask: Ask) {
        self.question = Some(ask);
        self.said.clear();
    }

    /// Tells of an eye's mistake, unless it is the one that was told of it the last time.
    fn fail_at(&mut self, eye: Entity, error: &impl ToString) {
        let reason = error.to_string();
        if self.wrong.iter().any(|(at, known)| *at == eye && *known == reason) {
            return;
        }
        self.wrong.retain(|(at, _)| *at != eye);
        self.wrong.push((eye, reason));
        self.fail(error);
    }

    /// Loads what is missing on a thread of its own, where there is a device and nothing is being loaded.
    fn load(&mut self) {
        let LampyrisPlugin { classifier, chat, .. } = &self.missing;
        if self.loading.is_some() || classifier.is_none() && chat.is_none() {
            return;
        }
        let Some(gpu) = self.gpu.clone().filter(|gpu| gpu.check_alive().is_ok()) else { return };
        let (classifier, chat) = (classifier.clone(), chat.clone());
        self.loading = Some(std::thread::spawn(move || {
            let classifier = classifier.map(|load| load(&gpu).and_then(|it| watching(&it))).transpose();
            (classifier, chat.map(|load| load(&gpu).and_then(measured)).transpose())
        }));
    }

    /// Takes what the loading thread has brought. What it could not because the device was lost meanwhile stays missing, and is loaded again
    /// once the renderer has another.
    fn loaded(&mut self) {
        if !self.loading.as_ref().is_some_and(JoinHandle::is_finished) {
            return;
        }
        match self.loading.take().map(JoinHandle::join) {
            Some(Ok((classifier, chat))) => {
                if self.brought(classifier, |state, watching| {
                    state.places = watching.into_iter().map(|watching| Place { watching, eye: None }).collect();
                }) {
                    self.missing.classifier = None;
                }
                if self.brought(chat, |state, chat| state.chat = Some(chat)) {
                    self.missing.chat = None;
                }
            }
            Some(Err(_)) => {
                (self.missing.classifier, self.missing.chat) = (None, None);
                self.fail(&"the thread that loads the models has stopped");
            }
            None => {}
        }
    }

    /// Keeps what was loaded, and says whether it need not be loaded again: because it is there, was not wanted, or cannot be had.
    fn brought<T>(&mut self, loaded: lampyris::Result<Option<T>>, keep: impl FnOnce(&mut State, T)) -> bool {
        match loaded {
            Ok(Some(model)) => keep(self, model),
            Ok(None) => {}
            Err(error) if error.is_device_lost() => return false,
            Err(error) => self.fail(&error),
        }
        true
    }

    /// Goes on with the looks that are under way, and begins others where there is a place, with the eye that had none the last time. `shown` gives
    /// what an image shows, where it is on the device already; otherwise a later frame looks at it.
    fn look<'a>(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        budget: &mut Budget,
        shown: impl Fn(AssetId<Image>) -> Option<Input<'a>>,
    ) {
        for at in 0..self.places.len() {
            self.go_on(at, encoder, budget);
        }
        self.places.sort_by_key(|place| place.eye.is_none());
        self.wrong.retain(|(at, _)| self.eyes.iter().any(|(eye, _)| eye == at));
        let first = self.eyes.iter().position(|(eye, _)| Some(*eye) == self.next).unwrap_or(0);
        self.eyes.rotate_left(first);
        self.crowded = self.crowded.and_then(|(looks, frames)| Some((looks, frames.checked_sub(1)?)));
        let room = self.crowded.map_or(usize::MAX, |(looks, _)| looks);
        let (mut at, mut turn) = (0, 0);
        while let (Some(place), Some(&(eye, image)), true) = (self.places.get_mut(at), self.eyes.get(turn), at < room) {
            if place.eye.is_some() {
                at += 1;
                continue;
            }
            let Some(input) = shown(image) else {
                turn += 1;
                continue;
            };
            // What is there has first to be done, and a picture's preparation is not cut.
            if budget.fell_short() || budget.left().is_zero() && !budget.is_fresh() {
                budget.fall_short();
                break;
            }
            match place.watching.look(encoder, budget, input) {
                Ok(()) => place.eye = Some(eye),
                // One place after the other goes to another device: the next ones find the weights there.
                Err(Error::Engine(EngineError::Busy { .. } | EngineError::DeviceLost { .. }) | Error::NotReady) => {
                    break;
                }
                // There is room for fewer looks than there are places.
                Err(Error::Engine(EngineError::OutOfMemory { .. } | EngineError::Budget { .. })) if at > 0 => {
                    self.crowded = Some((at, CROWDED));
                    break;
                }
                Err(error) => self.fail_at(eye, &error),
            }
            turn += 1;
        }
        self.next = self.eyes.get(turn).map(|(eye, _)| *eye);
    }

    /// Does what the budget pays for of the look at a place, and takes its answer.
    fn go_on(&mut self, at: usize, encoder: &mut wgpu::CommandEncoder, budget: &mut Budget) {
        let Some((place, eye)) = self.places.get_mut(at).and_then(|place| place.eye.map(|eye| (place, eye))) else {
            return;
        };
        let ticked = place.watching.tick(encoder, budget);
        if matches!(ticked, Ok(Tick::Working(_))) {
            return;
        }
        place.eye = None;
        match ticked {
            Ok(Tick::Done(answer)) => {
                self.wrong.retain(|(at, _)| *at != eye);
                self.named.push(Named { eye, answer });
            }
            // The frame did not come about, or went with its device.
            Ok(_) | Err(Error::Engine(EngineError::Cancelled)) => {}
            Err(error) => self.fail_at(eye, &error),
        }
    }

    fn talk(&mut self, encoder: &mut wgpu::CommandEncoder, budget: &mut Budget) {
        let Some(chat) = &mut self.chat else { return };
        if let Some(ask) = self.question.take() {
            chat.chat(&ask.conversation, ask.options);
        }
        match chat.tick(encoder, budget) {
            Ok(Tick::Pieces(text)) => self.said.push(Said::Piece(text)),
            Ok(Tick::Done(_)) => self.said.push(Said::Done),
            Ok(Tick::Working(_) | Tick::Idle | Tick::Lost) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// The frame's turns within its budget: first the eyes', then the talk's.
    fn frame<'a>(
        &mut self,
        turns: &mut Turns,
        encoder: &mut wgpu::CommandEncoder,
        shown: impl Fn(AssetId<Image>) -> Option<Input<'a>>,
    ) {
        let Ok(()) = turns.0.frame(&mut Budget::gpu(self.budget), |who, part| {
            match who {
                EYES => self.look(encoder, part, &shown),
                _ => self.talk(encoder, part),
            }
            Ok::<(), Infallible>(())
        });
    }
}

/// What an image shows: the mip level that its view begins with. Bevy writes linear light through a view and expects it when it reads through it,
/// whatever the formats of view and texture are; an `-srgb` view encodes and decodes it on the way.
fn picture<'a>(view: &'a wgpu::TextureView, described: Option<&wgpu::TextureViewDescriptor<'_>>) -> Input<'a> {
    let (texture, level) = (view.texture(), described.map_or(0, |it| it.base_mip_level));
    let size = texture.size().mip_level_size(level, texture.dimension());
    Input::texture_as(view, size.width, size.height, false).linear()
}

/// Places for looks, as many as there is memory for, whose steps are measured so that the first look knows what it can afford.
fn watching(classifier: &Classifier) -> lampyris::Result<Vec<Watching>> {
    let mut places = Vec::new();
    while places.len() < LOOKS {
        let place = pollster::block_on(async {
            let mut watching = classifier.driven().await?;
            watching.measure().await?;
            Ok(watching)
        });
        match place {
            Ok(watching) => places.push(watching),
            Err(error) if places.is_empty() || Error::is_device_lost(&error) => return Err(error),
            Err(_) => break,
        }
    }
    Ok(places)
}

/// Measures how long the steps of a session take, so that its first tick knows what it can afford.
fn measured(session: TextSession) -> lampyris::Result<DrivenText> {
    let sampling = session.model().sampling().unwrap_or_else(Sampling::usual);
    pollster::block_on(session.driven().measured(&sampling))
}

/// Takes the renderer's device, or the one that the renderer has opened after a loss.
pub(crate) fn adopt(
    shared: Res<Shared>,
    adapter: Res<RenderAdapter>,
    device: Res<RenderDevice>,
    queue: Res<RenderQueue>,
) {
    let mut state = shared.lock();
    if let Some(mut gpu) = state.gpu.take() {
        let replaced = gpu.replace_device(&adapter, device.wgpu_device(), &queue);
        for place in &mut state.places {
            place.watching.cancel();
            place.eye = None;
        }
        state.gpu = Some(gpu);
        if let Err(error) = replaced {
            state.fail(&error);
        }
        return;
    }
    match Gpu::from_device(&adapter, device.wgpu_device(), &queue) {
        Ok(gpu) => state.gpu = Some(gpu),
        Err(error) => state.fail(&error),
    }
}

/// Looks and talks, after the frame's cameras have been submitted; in an encoder of the plugin's own, which it submits.
pub(crate) fn think(
    shared: Res<Shared>,
    mut turns: Local<Turns>,
    images: Res<RenderAssets<GpuImage>>,
    device: Res<RenderDevice>,
    queue: Res<RenderQueue>,
) {
    let mut state = shared.lock();
    let Some(gpu) = state.gpu.clone() else { return };
    state.loaded();
    state.load();
    gpu.pump();
    let label = wgpu::CommandEncoderDescriptor { label: Some("lampyris in bevy") };
    let mut encoder = device.wgpu_device().create_command_encoder(&label);
    state.frame(&mut turns, &mut encoder, |image| {
        images.get(image).map(|image| picture(&image.texture_view, image.texture_view_descriptor.as_ref()))
    });
    queue.submit([encoder.finish()]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;
    use bevy::asset::uuid::Uuid;
    use bevy::ecs::world::World;
    use lampyris::engine::gpu::GpuOptions;
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
        let places = super::watching(&pollster::block_on(Classifier::bundled(gpu)).unwrap()).unwrap();
        shared.lock().places = places.into_iter().map(|watching| Place { watching, eye: None }).collect();
        shared
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
        let light: Vec<u8> =
            (0..SIDE * SIDE).flat_map(|at| [[0, 51, 255][(at / 9 % 3) as usize], 128, 9, 255]).collect();
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
}
