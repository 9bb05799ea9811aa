//! Lampyris as a guest of Bevy: what cameras see is named, and characters talk, on the renderer's own device and within a budget.
//!
//! Add [`LampyrisPlugin`] after `DefaultPlugins`, give an entity an [`Eye`] for the `Image` that a camera renders to, and read
//! [`Named`] messages; write [`Ask`] messages, and read [`Said`].

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
/// bytes that are encoded already belong into a view of an `-srgb` format. Of a view of several mip levels it is the first.
#[derive(Component, Debug, Clone)]
pub struct Eye {
    /// The image.
    pub image: Handle<Image>,
}

/// What an [`Eye`] saw some frames ago.
#[derive(Message, Debug, Clone)]
pub struct Named {
    /// The entity with the eye.
    pub eye: Entity,
    /// The classes with their probabilities.
    pub answer: Answer,
}

/// Asks for an answer to the last message of a conversation; one that is under way is given up.
#[derive(Message, Debug, Clone)]
pub struct Ask {
    /// The messages so far.
    pub conversation: Conversation,
    /// How long the answer may be, and how its tokens are chosen.
    pub options: AnswerOptions,
}

/// A part of the answer to the last [`Ask`], in the frames that come after that.
#[derive(Message, Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// More text, whole characters.
    Piece(String),
    /// All of it has been said.
    Done,
}

/// What went wrong in loading, looking or talking, once for each mistake: that of an eye comes again only after it has seen, or made another.
#[derive(Message, Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The error in words.
    pub reason: String,
}

impl Plugin for LampyrisPlugin {
    fn build(&self, app: &mut App) {
        let shared = Shared::new(self.clone());
        app.add_message::<Named>().add_message::<Ask>().add_message::<Said>().add_message::<Failed>();
        app.insert_resource(shared.clone()).add_systems(First, deliver).add_systems(Last, request);
        // Without a renderer there is no device, and nothing ever answers.
        if let Some(render) = app.get_sub_app_mut(RenderApp) {
            render
                .insert_resource(shared)
                .add_systems(RenderStartup, guest::adopt)
                .add_systems(RenderGraph, guest::think.after(RenderGraphSystems::Submit));
        }
    }
}

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
    named.write_batch(state.named.drain(..));
    said.write_batch(state.said.drain(..));
    failed.write_batch(state.failed.drain(..));
}

#[cfg(test)]
mod tests {
    use super::*;
    use bevy::app::Update;
    use bevy::ecs::message::Messages;
    use bevy::ecs::prelude::Local;
    use lampyris::text::Message;

    /// Without a renderer, whose part is played here: what it says between a question and the next is of the old answer.
    #[test]
    fn what_was_said_to_a_question_is_not_given_out_once_the_next_is_put() {
        let mut app = App::new();
        app.add_plugins(LampyrisPlugin::new(Duration::from_millis(2)));
        let heard = |app: &mut App| -> Vec<Said> { app.world_mut().resource_mut::<Messages<Said>>().drain().collect() };
        let put = |mut questions: MessageWriter<Ask>, shared: Res<Shared>, mut frames: Local<u32>| {
            *frames += 1;
            shared.lock().said.push(Said::Piece(format!("in frame {}", *frames)));
            if *frames == 2 {
                shared.lock().said.push(Said::Done);
                let conversation = Conversation::new([Message::user("And then?")]);
                questions.write(Ask { conversation, options: AnswerOptions::new(8) });
            }
        };
        app.add_systems(Update, put);
        let said: Vec<_> = (0..4)
            .map(|_| {
                app.update();
                heard(&mut app)
            })
            .collect();
        let piece = |text: &str| vec![Said::Piece(text.to_owned())];
        assert_eq!(said, [vec![], piece("in frame 1"), vec![], piece("in frame 3")]);
    }
}
