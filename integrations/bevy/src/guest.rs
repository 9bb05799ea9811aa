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
use lampyris::models::record::Seen;
use lampyris::text_model::{DrivenText, TextSession};
use lampyris::{Budget, Classifier, Error, Gpu, Input, Sampling, Tick, wgpu};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What both worlds share: requests one way, answers the other.
#[derive(Resource, Clone)]
pub(crate) struct Shared(Arc<Mutex<State>>);

pub(crate) struct State {
    budget: Duration,
    /// What has not been loaded yet.
    missing: LampyrisPlugin,
    gpu: Option<Gpu>,
    loading: Option<JoinHandle<(lampyris::Result<Option<Classifier>>, lampyris::Result<Option<DrivenText>>)>>,
    classifier: Option<Classifier>,
    chat: Option<DrivenText>,
    looks: Vec<(Entity, Seen)>,
    /// The eyes of this frame, with their images.
    pub(crate) eyes: Vec<(Entity, AssetId<Image>)>,
    pub(crate) question: Option<Ask>,
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
            classifier: None,
            chat: None,
            looks: Vec::new(),
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

    /// Loads what is missing on a thread of its own, where there is a device and nothing is being loaded.
    fn load(&mut self) {
        let LampyrisPlugin { classifier, chat, .. } = &self.missing;
        if self.loading.is_some() || classifier.is_none() && chat.is_none() {
            return;
        }
        let Some(gpu) = self.gpu.clone().filter(|gpu| gpu.check_alive().is_ok()) else { return };
        let (classifier, chat) = (classifier.clone(), chat.clone());
        self.loading = Some(std::thread::spawn(move || {
            let classifier = classifier.map(|load| load(&gpu)).transpose();
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
                if self.brought(classifier, |state, classifier| state.classifier = Some(classifier)) {
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

    /// Takes the answers that have arrived.
    fn seen(&mut self) {
        let (named, failed) = (&mut self.named, &mut self.failed);
        self.looks.retain_mut(|(eye, seen)| match seen.try_take() {
            Ok(None) => true,
            Ok(Some(answer)) => {
                named.push(Named { eye: *eye, answer });
                false
            }
            // The frame did not come about, or went with its device.
            Err(Error::Engine(EngineError::Cancelled | EngineError::DeviceLost { .. })) => false,
            Err(error) => {
                failed.push(Failed { reason: error.to_string() });
                false
            }
        });
    }

    fn look(&mut self, encoder: &mut wgpu::CommandEncoder, images: &RenderAssets<GpuImage>) {
        let Some(classifier) = self.classifier.clone() else { return };
        for (eye, image) in std::mem::take(&mut self.eyes) {
            // An image that is not on the device yet is looked at in a later frame.
            let Some(image) = images.get(image) else { continue };
            match classifier.record(encoder, Input::texture(&image.texture_view)) {
                Ok(seen) => self.looks.push((eye, seen)),
                // Answers are under way in all places there are; the next frame has one again.
                Err(Error::Engine(EngineError::Busy { .. } | EngineError::DeviceLost { .. }) | Error::NotReady) => {}
                Err(error) => self.fail(&error),
            }
        }
    }

    fn talk(&mut self, encoder: &mut wgpu::CommandEncoder) {
        let Some(chat) = &mut self.chat else { return };
        if let Some(ask) = self.question.take() {
            chat.chat(&ask.conversation, ask.options);
        }
        match chat.tick(encoder, &mut Budget::gpu(self.budget)) {
            Ok(Tick::Pieces(text)) => self.said.push(Said::Piece(text)),
            Ok(Tick::Done(_)) => self.said.push(Said::Done),
            Ok(Tick::Working(_) | Tick::Idle | Tick::Lost) => {}
            Err(error) => self.fail(&error),
        }
    }
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
    state.seen();
    let label = wgpu::CommandEncoderDescriptor { label: Some("lampyris in bevy") };
    let mut encoder = device.wgpu_device().create_command_encoder(&label);
    state.look(&mut encoder, &images);
    state.talk(&mut encoder);
    queue.submit([encoder.finish()]);
}
