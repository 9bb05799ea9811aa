//! The render world's side: the engine on the renderer's device, and what it does in each frame.

use crate::{Ask, Failed, LampyrisPlugin, Named, Said, Source};
use bevy::asset::AssetId;
use bevy::ecs::entity::Entity;
use bevy::ecs::prelude::{Local, Res, Resource};
use bevy::image::Image;
use bevy::render::render_asset::RenderAssets;
use bevy::render::renderer::{RenderAdapter, RenderDevice, RenderQueue};
use bevy::render::texture::GpuImage;
use lampyris::engine::Error as EngineError;
use lampyris::text_model::{DrivenText, TextSession};
use lampyris::{Budget, Classifier, Driven, Error, Gpu, Input, Priority, Sampling, Scheduler, Tick, Watching, wgpu};
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

/// How long a dispatch of the talk may take unless that is said otherwise.
const USUAL: Duration = Duration::from_micros(200);

/// Cut finer, a dispatch would take little longer than it takes to begin one.
const LEAST: Duration = Duration::from_micros(10);

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
    /// Why there is no classifier, once none is to be loaded.
    no_classifier: String,
    /// Why there is no chat, once none is to be loaded.
    no_chat: String,
    /// Why there is no device, where it is not only still to come.
    no_device: Option<String>,
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
            no_classifier: not_given("classifier"),
            no_chat: not_given("chat"),
            no_device: None,
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
    fn fail(&mut self, source: Source, error: &impl ToString) {
        self.failed.push(Failed { source, reason: error.to_string() });
    }

    /// Puts a question in the place of the last one, and forgets what has been said to that, or went wrong with it, and was not given out.
    pub(crate) fn ask(&mut self, ask: Ask) {
        self.question = Some(ask);
        self.said.clear();
        self.failed.retain(|failed| failed.source != Source::Talk);
    }

    /// Fails what can never be done: eyes that no classifier is there for nor to come, and a question that nobody can answer, without a device or
    /// with a chat that is neither there nor to come.
    pub(crate) fn refuse(&mut self) {
        if self.places.is_empty() && self.missing.classifier.is_none() {
            let reason = format!("nobody can name what it sees: {}", self.no_classifier);
            self.forget_gone();
            for at in 0..self.eyes.len() {
                self.fail_at(self.eyes[at].0, &reason);
            }
        }
        let comes = self.chat.is_some() || self.missing.chat.is_some();
        let Some(why) = self.no_device.as_ref().or((!comes).then_some(&self.no_chat)) else { return };
        let reason = format!("nobody can answer: {why}");
        if self.question.take().is_some() {
            self.fail(Source::Talk, &reason);
        }
    }

    /// Does without a device until one can be taken, and gives up the answer that is under way.
    pub(crate) fn strand(&mut self, reason: String) {
        self.fail(Source::Device, &reason);
        if let Some(chat) = self.chat.as_mut().filter(|chat| chat.has_work()) {
            chat.cancel();
            self.fail(Source::Talk, &format!("the answer has been given up: {reason}"));
        }
        self.no_device = Some(reason);
    }

    /// Takes the renderer's device, or the one that the renderer has opened after a loss.
    fn adopt(&mut self, adapter: &wgpu::Adapter, device: &wgpu::Device, queue: &wgpu::Queue) {
        let taken = if let Some(gpu) = &mut self.gpu {
            let replaced = gpu.replace_device(adapter, device, queue);
            for place in &mut self.places {
                place.watching.cancel();
                place.eye = None;
            }
            replaced
        } else {
            Gpu::from_device(adapter, device, queue).map(|gpu| self.gpu = Some(gpu))
        };
        match taken {
            Ok(()) => self.no_device = None,
            Err(error) => self.strand(format!("the renderer's device cannot be taken: {error}")),
        }
    }

    /// Forgets what was wrong with eyes that are gone.
    fn forget_gone(&mut self) {
        self.wrong.retain(|(at, _)| self.eyes.iter().any(|(eye, _)| eye == at));
    }

    /// Tells of an eye's mistake, unless it is the one that was told of it the last time.
    fn fail_at(&mut self, eye: Entity, error: &impl ToString) {
        let reason = error.to_string();
        if self.wrong.iter().any(|(at, known)| *at == eye && *known == reason) {
            return;
        }
        self.wrong.retain(|(at, _)| *at != eye);
        self.wrong.push((eye, reason));
        self.fail(Source::Eye(eye), error);
    }

    /// Loads what is missing on a thread of its own, where there is a device and nothing is being loaded.
    fn load(&mut self) {
        let LampyrisPlugin { classifier, chat, .. } = &self.missing;
        if self.loading.is_some() || classifier.is_none() && chat.is_none() {
            return;
        }
        let Some(gpu) = self.gpu.clone().filter(|gpu| gpu.check_alive().is_ok()) else { return };
        let (classifier, chat, budget) = (classifier.clone(), chat.clone(), self.budget);
        self.loading = Some(std::thread::spawn(move || {
            let classifier = classifier.map(|load| load(&gpu).and_then(|it| watching(&it, budget))).transpose();
            (classifier, chat.map(|load| load(&gpu).and_then(|it| measured(it, budget))).transpose())
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
                if let Err(error) = &classifier {
                    self.no_classifier = unloaded("the classifier", error);
                }
                if let Err(error) = &chat {
                    self.no_chat = unloaded("the chat", error);
                }
                if self.brought("the classifier", classifier, |state, watching| {
                    state.places = watching.into_iter().map(|watching| Place { watching, eye: None }).collect();
                }) {
                    self.missing.classifier = None;
                }
                if self.brought("the chat", chat, |state, chat| state.chat = Some(chat)) {
                    self.missing.chat = None;
                }
            }
            Some(Err(_)) => {
                let reason = "the thread that loads the models has panicked";
                if self.missing.classifier.take().is_some() {
                    self.no_classifier = reason.to_owned();
                }
                if self.missing.chat.take().is_some() {
                    self.no_chat = reason.to_owned();
                }
                self.fail(Source::Loading, &reason);
            }
            None => {}
        }
    }

    /// Keeps what was loaded, and says whether it need not be loaded again: because it is there, was not wanted, or cannot be had.
    fn brought<T>(
        &mut self,
        what: &str,
        loaded: lampyris::Result<Option<T>>,
        keep: impl FnOnce(&mut State, T),
    ) -> bool {
        match loaded {
            Ok(Some(model)) => keep(self, model),
            Ok(None) => {}
            Err(error) if error.is_device_lost() => return false,
            Err(error) => self.fail(Source::Loading, &unloaded(what, &error)),
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
        self.forget_gone();
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
        let (Some(chat), None) = (&mut self.chat, &self.no_device) else { return };
        if let Some(ask) = self.question.take() {
            chat.chat(&ask.conversation, ask.options);
        }
        match chat.tick(encoder, budget) {
            Ok(Tick::Pieces(text)) => self.said.push(Said::Piece(text)),
            Ok(Tick::Done(_)) => self.said.push(Said::Done),
            Ok(Tick::Working(_) | Tick::Idle | Tick::Lost) => {}
            Err(error) => self.fail(Source::Talk, &error),
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

/// Places for looks, as many as there is memory for, whose steps are measured so that the first look knows what it can afford, and cut as finely as the
/// budget of a frame needs.
fn watching(classifier: &Classifier, budget: Duration) -> lampyris::Result<Vec<Watching>> {
    let mut places = Vec::new();
    while places.len() < LOOKS {
        let place = pollster::block_on(async {
            let mut watching = classifier.driven().await?.finest(finest(budget)).await?;
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

/// Measures how long the steps of a session take, so that its first tick knows what it can afford; they are cut as finely as the budget of a frame
/// needs.
fn measured(session: TextSession, budget: Duration) -> lampyris::Result<DrivenText> {
    let sampling = session.model().sampling().unwrap_or_else(Sampling::usual);
    pollster::block_on(session.driven().finest(finest(budget)).measured(&sampling))
}

/// How long a dispatch may take within such budgets: a sixth of one, since half a dispatch is what is left over on average.
fn finest(budget: Duration) -> Duration {
    (budget / 6).clamp(LEAST, USUAL)
}

/// That a plugin has no model of this kind, and the way out.
fn not_given(what: &str) -> String {
    format!("the plugin was given no {what}; give it one with LampyrisPlugin::{what}")
}

/// That a model is not there, and why.
fn unloaded(what: &str, error: &Error) -> String {
    format!("{what} could not be loaded: {error}")
}

/// Takes the renderer's device, or the one that the renderer has opened after a loss.
pub(crate) fn adopt(
    shared: Res<Shared>,
    adapter: Res<RenderAdapter>,
    device: Res<RenderDevice>,
    queue: Res<RenderQueue>,
) {
    shared.lock().adopt(&adapter, device.wgpu_device(), &queue);
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
    let descriptor = wgpu::CommandEncoderDescriptor { label: Some("lampyris.bevy") };
    let mut encoder = device.wgpu_device().create_command_encoder(&descriptor);
    state.frame(&mut turns, &mut encoder, |image| {
        images.get(image).map(|image| picture(&image.texture_view, image.texture_view_descriptor.as_ref()))
    });
    queue.submit([encoder.finish()]);
}

#[cfg(test)]
mod tests;
