//! The render world's side: the engine on the renderer's device, and what it does in each frame.

use crate::{Ask, Failed, LampyrisPlugin, Named, Said};
use bevy::asset::AssetId;
use bevy::ecs::entity::Entity;
use bevy::ecs::prelude::{Res, Resource};
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

/// What the talk is sure of, as long as it has something to say.
const TALK: f64 = 0.5;

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
    /// The eyes' turn in a frame, then the talk's.
    turns: Scheduler,
    /// The eye that the next look is of, where it is there: the first that had none the last time.
    next: Option<Entity>,
    /// What was wrong with eyes the last time, and was told.
    wrong: Vec<(Entity, String)>,
    /// The eyes of this frame, with their images.
    pub(crate) eyes: Vec<(Entity, AssetId<Image>)>,
    pub(crate) question: Option<Ask>,
    pub(crate) named: Vec<Named>,
    pub(crate) said: Vec<Said>,
    pub(crate) failed: Vec<Failed>,
}

impl Shared {
    pub(crate) fn new(plugin: LampyrisPlugin) -> Shared {
        let mut turns = Scheduler::new();
        turns.add(Priority::FIRST);
        turns.add(Priority::AFTER.share(TALK));
        Shared(Arc::new(Mutex::new(State {
            budget: plugin.budget,
            missing: plugin,
            gpu: None,
            loading: None,
            places: Vec::new(),
            chat: None,
            turns,
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
        shown: impl Fn(AssetId<Image>) -> Option<&'a wgpu::TextureView>,
    ) {
        let mut places = std::mem::take(&mut self.places);
        for place in places.iter_mut().filter(|place| place.eye.is_some()) {
            self.go_on(place, encoder, budget);
        }
        places.sort_by_key(|place| place.eye.is_none());
        let mut eyes = std::mem::take(&mut self.eyes);
        self.wrong.retain(|(at, _)| eyes.iter().any(|(eye, _)| eye == at));
        let first = eyes.iter().position(|(eye, _)| Some(*eye) == self.next).unwrap_or(0);
        eyes.rotate_left(first);
        let mut eyes = eyes.into_iter().filter_map(|(eye, image)| Some((eye, shown(image)?))).peekable();
        'places: for at in 0..places.len() {
            let Place { watching, eye: looking } = &mut places[at];
            while let (None, Some((eye, view))) = (&looking, eyes.peek()) {
                // What is there has first to be done, and a picture's preparation is not cut.
                if budget.fell_short() || budget.left().is_zero() && !budget.is_fresh() {
                    budget.fall_short();
                    break 'places;
                }
                let eye = *eye;
                match watching.look(encoder, budget, Input::texture(view)) {
                    Ok(()) => *looking = Some(eye),
                    // One place after the other goes to another device: the next ones find the weights there.
                    Err(Error::Engine(EngineError::Busy { .. } | EngineError::DeviceLost { .. }) | Error::NotReady) => {
                        break 'places;
                    }
                    // There may be room for fewer looks than there are places.
                    Err(Error::Engine(EngineError::OutOfMemory { .. } | EngineError::Budget { .. })) if at > 0 => {
                        break 'places;
                    }
                    Err(error) => self.fail_at(eye, &error),
                }
                eyes.next();
            }
        }
        self.next = eyes.peek().map(|(eye, _)| *eye);
        drop(eyes);
        self.places = places;
    }

    /// Does what the budget pays for of a look, and takes its answer.
    fn go_on(&mut self, place: &mut Place, encoder: &mut wgpu::CommandEncoder, budget: &mut Budget) {
        let Some(eye) = place.eye else { return };
        match place.watching.tick(encoder, budget) {
            Ok(Tick::Working(_)) => return,
            Ok(Tick::Done(answer)) => {
                self.wrong.retain(|(at, _)| *at != eye);
                self.named.push(Named { eye, answer });
            }
            // The frame did not come about, or went with its device.
            Ok(Tick::Pieces(_) | Tick::Idle | Tick::Lost) | Err(Error::Engine(EngineError::Cancelled)) => {}
            Err(error) => self.fail_at(eye, &error),
        }
        place.eye = None;
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
    fn turns<'a>(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        shown: impl Fn(AssetId<Image>) -> Option<&'a wgpu::TextureView>,
    ) {
        let (mut turns, mut budget) = (std::mem::take(&mut self.turns), Budget::gpu(self.budget));
        let Ok(()) = turns.frame(&mut budget, |who, part| {
            match who {
                EYES => self.look(encoder, part, &shown),
                _ => self.talk(encoder, part),
            }
            Ok::<(), Infallible>(())
        });
        self.turns = turns;
    }
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
    state.turns(&mut encoder, |image| images.get(image).map(|image| &*image.texture_view));
    queue.submit([encoder.finish()]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;
    use bevy::asset::uuid::Uuid;
    use bevy::ecs::world::World;

    /// A device, and a state with a classifier on it.
    fn watching() -> (wgpu::Device, wgpu::Queue, Shared) {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
        let wanted = Gpu::requirements(&adapter);
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            required_features: wanted.features,
            required_limits: wanted.limits,
            ..Default::default()
        }))
        .unwrap();
        let gpu = Gpu::from_device(&adapter, &device, &queue).unwrap();
        let shared = Shared::new(LampyrisPlugin::new(Duration::from_millis(2)));
        let places = super::watching(&pollster::block_on(Classifier::bundled(&gpu)).unwrap()).unwrap();
        shared.lock().places = places.into_iter().map(|watching| Place { watching, eye: None }).collect();
        (device, queue, shared)
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
        let (device, queue, shared) = watching();
        let mut formats = [wgpu::TextureFormat::Rgba8Unorm; 7];
        formats[2] = wgpu::TextureFormat::Rgba8Uint;
        let pictures = pictures(&device, &formats);
        let mut world = World::new();
        let eyes: Vec<_> = pictures.iter().map(|(image, _)| (world.spawn_empty().id(), *image)).collect();
        let mut state = shared.lock();
        let frame = |state: &mut State, eyes: &[(Entity, AssetId<Image>)], budget: Duration| {
            state.eyes = eyes.to_vec();
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let shown = |image| pictures.iter().find(|(at, _)| *at == image).map(|(_, view)| view);
            state.look(&mut encoder, &mut Budget::gpu(budget), shown);
            queue.submit([encoder.finish()]);
        };
        let ample = Duration::from_secs(10);
        for round in 0..10 {
            // Answers come a frame late, so that every other frame finds no place at all.
            for _ in 0..2 {
                frame(&mut state, &eyes, ample);
            }
            assert!(state.places.iter().all(|place| place.eye.is_some()), "round {round}");
            device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        }
        frame(&mut state, &eyes[2..3], ample);
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
            frame(&mut state, &eyes, ample);
            device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        }
        assert_eq!(state.failed.len(), 3, "{:?}", state.failed);
        // A budget that does not pay for a look a frame is spent on one before it is on another, of each eye in turn.
        frame(&mut state, &[], ample);
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
}
