//! Lampyris as a guest of Bevy: what cameras see is named, and characters talk, on the renderer's own device and within a budget.
//!
//! Add [`LampyrisPlugin`] with `DefaultPlugins`, before or after them, give an entity an [`Eye`] for the `Image` that a camera renders to, and
//! read [`Named`] messages; write [`Ask`] messages, and read [`Said`]. [`Failed`] says what went wrong, and with what.
//!
//! Native programs only: models load on a thread that waits for the GPU, which a browser has not.

#[cfg(target_arch = "wasm32")]
compile_error!(
    "lampyris-bevy loads on a thread that waits for the GPU: it is for native programs, use lampyris itself here"
);

mod guest;

use bevy::app::{App, First, Last, Plugin};
use bevy::asset::Handle;
use bevy::ecs::entity::Entity;
use bevy::ecs::message::{Message, MessageReader, MessageWriter};
use bevy::ecs::prelude::{Component, IntoScheduleConfigs, Query, Res};
use bevy::image::Image;
use bevy::render::renderer::{RenderGraph, RenderGraphSystems};
use bevy::render::{RenderApp, RenderStartup};
use guest::Shared;
use lampyris::text::Conversation;
use lampyris::text_model::TextSession;
use lampyris::{Answer, AnswerOptions, Classifier, Gpu};
use std::sync::Arc;
use std::time::Duration;

/// The library itself, for what the plugin is given and gives.
pub use lampyris;

/// What is loaded, and how much of a frame it may have.
///
/// Loading runs on a thread of its own while frames go on; what fails is told by a [`Failed`] message.
#[derive(Clone)]
pub struct LampyrisPlugin {
    budget: Duration,
    classifier: Option<Load<Classifier>>,
    chat: Option<Load<TextSession>>,
}

/// Loads a model for a device.
type Load<T> = Arc<dyn Fn(&Gpu) -> lampyris::Result<T> + Send + Sync>;

impl LampyrisPlugin {
    /// Nothing yet, within so much GPU time a frame, of which the talk is sure of half.
    pub fn new(budget: Duration) -> LampyrisPlugin {
        LampyrisPlugin { budget, classifier: None, chat: None }
    }

    /// The classifier of all eyes.
    #[must_use]
    pub fn classifier(mut self, load: impl Fn(&Gpu) -> lampyris::Result<Classifier> + Send + Sync + 'static) -> Self {
        self.classifier = Some(Arc::new(load));
        self
    }

    /// The session that answers what is asked.
    #[must_use]
    pub fn chat(mut self, load: impl Fn(&Gpu) -> lampyris::Result<TextSession> + Send + Sync + 'static) -> Self {
        self.chat = Some(Arc::new(load));
        self
    }
}

/// Has what an image shows named in every frame, or as often as the budget and four looks that are under way at a time let all eyes have their turn:
/// one that a camera renders to, in a format that reads as floats. As Bevy does itself, it takes what its view reads for linear light, from 0 to 1:
/// bytes that are encoded already belong into a view of an `-srgb` format. Of a view of several mip levels it is the first. Where there is no classifier nor one to come,
/// a [`Failed`] of [`Source::Eye`] says why.
#[derive(Component, Debug, Clone)]
pub struct Eye {
    /// The image.
    pub image: Handle<Image>,
}

/// What an [`Eye`] saw some frames ago.
#[derive(Message, Debug, Clone)]
#[non_exhaustive]
pub struct Named {
    /// The entity with the eye.
    pub eye: Entity,
    /// The classes with their probabilities.
    pub answer: Answer,
}

/// Asks for an answer to the last message of a conversation; one that is under way is given up. Waits while the chat loads. Where nobody can answer, a
/// [`Failed`] of [`Source::Talk`] says why.
#[derive(Message, Debug, Clone)]
pub struct Ask {
    /// The messages so far.
    pub conversation: Conversation,
    /// How long the answer may be, and how its tokens are chosen.
    pub options: AnswerOptions,
}

/// A part of the answer to the last [`Ask`], in the frames that come after that.
#[derive(Message, Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Said {
    /// More text, whole characters.
    Piece(String),
    /// All of it has been said.
    Done,
}

/// What went wrong in loading, looking or talking, once for each mistake: that of an eye comes again only after it has seen, or made another.
#[derive(Message, Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failed {
    /// What it went wrong with.
    pub source: Source,
    /// The error in words.
    pub reason: String,
}

/// What a [`Failed`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The device: there is no renderer, or what it has opened cannot be used. Until it opens another, nothing is named or said.
    Device,
    /// The classifier or the chat, which could not be loaded; the reason says which. It is not tried again.
    Loading,
    /// The eye of this entity.
    Eye(Entity),
    /// The answer to the last [`Ask`], of which nothing more is said.
    Talk,
}

impl Plugin for LampyrisPlugin {
    fn build(&self, app: &mut App) {
        let shared = Shared::new(self.clone());
        app.add_message::<Named>().add_message::<Ask>().add_message::<Said>().add_message::<Failed>();
        app.insert_resource(shared.clone()).add_systems(First, deliver).add_systems(Last, request);
    }

    /// Once all plugins are there, in whatever order they came: the renderer, and the log that hears of its lack.
    fn finish(&self, app: &mut App) {
        let Some(shared) = app.world().get_resource::<Shared>().cloned() else { return };
        if let Some(render) = app.get_sub_app_mut(RenderApp) {
            render
                .insert_resource(shared)
                .add_systems(RenderStartup, guest::adopt)
                .add_systems(RenderGraph, guest::think.after(RenderGraphSystems::Submit));
        } else {
            tracing::warn!("LampyrisPlugin will name and say nothing: {NO_RENDERER}");
            shared.lock().strand(NO_RENDERER.to_owned());
        }
    }
}

/// Why there is no device where Bevy draws nothing, and the way out.
const NO_RENDERER: &str = "the app has no renderer; add DefaultPlugins, or RenderPlugin with a backend";

/// Tells the render world what is to be looked at and answered in the frame that comes.
fn request(shared: Res<Shared>, eyes: Query<(Entity, &Eye)>, mut questions: MessageReader<Ask>) {
    let mut state = shared.lock();
    state.eyes.clear();
    state.eyes.extend(eyes.iter().map(|(entity, eye)| (entity, eye.image.id())));
    if let Some(ask) = questions.read().last() {
        state.ask(ask.clone());
    }
}

/// Gives out what has arrived.
fn deliver(
    shared: Res<Shared>,
    mut named: MessageWriter<Named>,
    mut said: MessageWriter<Said>,
    mut failed: MessageWriter<Failed>,
) {
    let mut state = shared.lock();
    state.refuse();
    named.write_batch(state.named.drain(..));
    said.write_batch(state.said.drain(..));
    failed.write_batch(state.failed.drain(..));
}

/// The README's program, compiled with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;
    use bevy::app::{SubApp, Update};
    use bevy::ecs::message::Messages;
    use bevy::ecs::prelude::Local;
    use lampyris::text::Message;
    use std::fmt::Debug;
    use std::sync::{Mutex, PoisonError};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    /// A log that keeps what it is warned of.
    #[derive(Clone, Default)]
    struct Warnings(Arc<Mutex<Vec<String>>>);

    impl Warnings {
        fn of(act: impl FnOnce()) -> Vec<String> {
            let kept = Warnings::default();
            tracing::subscriber::with_default(kept.clone(), act);
            kept.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    impl Subscriber for Warnings {
        fn enabled(&self, event: &Metadata<'_>) -> bool {
            *event.level() == Level::WARN && event.target().starts_with("lampyris_bevy")
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    impl Visit for Warnings {
        fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{value:?}"));
        }
    }

    fn ask() -> Ask {
        let conversation = Conversation::new([Message::user("And then?")]);
        Ask { conversation, options: AnswerOptions::new(8) }
    }

    /// What fails in three frames of which the first has a question.
    fn failures(app: &mut App) -> Vec<Failed> {
        app.world_mut().write_message(ask());
        let frame = |_| {
            app.update();
            app.world_mut().resource_mut::<Messages<Failed>>().drain().collect::<Vec<_>>()
        };
        (0..3).flat_map(frame).collect()
    }

    #[test]
    fn a_question_to_a_plugin_without_a_chat_fails_once_and_waits_for_one_that_is_to_come() {
        let plugin = LampyrisPlugin::new(Duration::from_millis(2));
        let mut app = App::new();
        app.add_plugins(plugin.clone());
        for _ in 0..2 {
            let failed = failures(&mut app);
            assert!(failed.len() == 1 && failed[0].source == Source::Talk, "{failed:?}");
            assert!(failed[0].reason.contains("LampyrisPlugin::chat"), "{failed:?}");
        }
        let mut app = App::new();
        app.add_plugins(plugin.chat(|_| Err(lampyris::Error::NotReady)));
        assert_eq!(failures(&mut app), []);
    }

    #[test]
    fn an_eye_of_a_plugin_without_a_classifier_fails_once_and_waits_for_one_that_is_to_come() {
        let plugin = LampyrisPlugin::new(Duration::from_millis(2)).chat(|_| Err(lampyris::Error::NotReady));
        let failures = |plugin: LampyrisPlugin| {
            let mut app = App::new();
            app.add_plugins(plugin);
            let eye = app.world_mut().spawn(Eye { image: Handle::default() }).id();
            (eye, failures(&mut app))
        };
        let (eye, failed) = failures(plugin.clone());
        assert!(failed.len() == 1 && failed[0].source == Source::Eye(eye), "{failed:?}");
        assert!(failed[0].reason.contains("LampyrisPlugin::classifier"), "{failed:?}");
        assert_eq!(failures(plugin.classifier(|_| Err(lampyris::Error::NotReady))).1, []);
    }

    #[test]
    fn the_plugin_may_come_before_the_renderer_and_says_where_there_is_none() {
        for is_there in [false, true] {
            let mut app = App::new();
            app.add_plugins(LampyrisPlugin::new(Duration::from_millis(2)).chat(|_| Err(lampyris::Error::NotReady)));
            if is_there {
                app.insert_sub_app(RenderApp, SubApp::new());
            }
            let warnings = Warnings::of(|| app.finish());
            assert_eq!(app.get_sub_app(RenderApp).is_some_and(|it| it.world().contains_resource::<Shared>()), is_there);
            assert_eq!(warnings.len(), usize::from(!is_there), "{warnings:?}");
            if !is_there {
                assert!(warnings[0].contains("no renderer; add DefaultPlugins"), "{warnings:?}");
                let failed = failures(&mut app);
                let sources: Vec<Source> = failed.iter().map(|failed| failed.source).collect();
                assert_eq!(sources, [Source::Device, Source::Talk], "{failed:?}");
                assert!(failed.iter().all(|failed| failed.reason.contains(NO_RENDERER)), "{failed:?}");
            }
        }
    }

    /// Without a renderer, whose part is played here: what it says between a question and the next is of the old answer.
    #[test]
    fn what_was_said_to_a_question_is_not_given_out_once_the_next_is_put() {
        let mut app = App::new();
        app.add_plugins(LampyrisPlugin::new(Duration::from_millis(2)).chat(|_| Err(lampyris::Error::NotReady)));
        let heard = |app: &mut App| -> Vec<Said> { app.world_mut().resource_mut::<Messages<Said>>().drain().collect() };
        let put = |mut questions: MessageWriter<Ask>, shared: Res<Shared>, mut frames: Local<u32>| {
            *frames += 1;
            shared.lock().said.push(Said::Piece(format!("in frame {}", *frames)));
            if *frames == 2 {
                shared.lock().said.push(Said::Done);
                let failed = |source| Failed { source, reason: "for the test".to_owned() };
                shared.lock().failed.extend([Source::Talk, Source::Loading].map(failed));
                questions.write(ask());
            }
        };
        app.add_systems(Update, put);
        let mut failed = Vec::new();
        let said: Vec<_> = (0..4)
            .map(|_| {
                app.update();
                failed.extend(app.world_mut().resource_mut::<Messages<Failed>>().drain().map(|it| it.source));
                heard(&mut app)
            })
            .collect();
        let piece = |text: &str| vec![Said::Piece(text.to_owned())];
        assert_eq!(said, [vec![], piece("in frame 1"), vec![], piece("in frame 3")]);
        assert_eq!(failed, [Source::Loading], "what does not belong to the question stays");
    }
}
