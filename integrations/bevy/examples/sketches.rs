//! Two drawings before a camera that renders to an image, and a story: headless, until both are named and the story is told.
//!
//! Ends with 1 where a drawing was named wrongly. `cargo run --example sketches --ignore-rust-version`; with `-- --destroy` the renderer's
//! device is destroyed while the models load, and again in the middle of the story.

use bevy::camera::RenderTarget;
use bevy::image::Image;
use bevy::prelude::*;
use bevy::render::error_handler::{RenderErrorHandler, RenderErrorPolicy};
use bevy::render::render_resource::TextureFormat;
use bevy::render::renderer::RenderDevice;
use bevy::render::settings::RenderCreation;
use bevy::render::{Render, RenderApp, RenderSystems};
use bevy::window::ExitCondition;
use lampyris_bevy::lampyris::text::{Conversation, Message};
use lampyris_bevy::lampyris::wgpu::PollType;
use lampyris_bevy::lampyris::{AnswerOptions, Classifier, TextModel};
use lampyris_bevy::{Ask, Eye, Failed, LampyrisPlugin, Named, Said};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How far the drawings lie from each other, in pixels, and a side of the picture.
const APART: f32 = 1000.0;
const SIDE: u32 = 256;
/// Frames in which a drawing is looked at, and frames after which it gives up.
const LOOK: usize = 12;
const MOST: usize = 200_000;

/// The classifier's words for what is drawn.
const DRAWN: [&str; 2] = ["house", "star"];

/// Frames after which the device is destroyed for the first time, and letters of the story after which it is for the second.
const DESTROYED: [usize; 2] = [2, 40];

/// That the renderer's device is to be destroyed: said in the main world, done in the render world.
#[derive(Resource, Clone, Default)]
struct Destroy(Arc<AtomicBool>);

/// What has come so far.
#[derive(Resource, Default)]
struct Heard {
    /// How often the drawing before the camera was named, and how often rightly.
    looks: usize,
    right: usize,
    /// Which drawing that is.
    at: usize,
    wrong: usize,
    story: String,
    told: bool,
    failed: Option<String>,
}

fn main() -> ExitCode {
    let mut app = App::new();
    // There are no windows, and nothing should end for the lack of them.
    let windows = WindowPlugin { primary_window: None, exit_condition: ExitCondition::DontExit, ..Default::default() };
    let guest = LampyrisPlugin::new(Duration::from_millis(4))
        .classifier(|gpu| pollster::block_on(Classifier::bundled(gpu)))
        .chat(|gpu| pollster::block_on(TextModel::bundled(gpu)?.session(400)));
    app.add_plugins((DefaultPlugins.set(windows), guest))
        .insert_resource(ClearColor(Color::srgb(0.96, 0.95, 0.9)))
        .init_resource::<Heard>()
        .add_systems(Startup, setup)
        .add_systems(Update, (hear, redraw));
    if let Some(render) = app.get_sub_app_mut(RenderApp) {
        render.add_systems(Render, keep_up.after(RenderSystems::Cleanup));
    }
    let destroy = Destroy::default();
    if std::env::args().any(|argument| argument == "--destroy") {
        // A renderer of Bevy's ends the program unless it is told to open another device.
        app.insert_resource(RenderErrorHandler(|_, _, _| RenderErrorPolicy::Recover(RenderCreation::default())));
        if let Some(render) = app.get_sub_app_mut(RenderApp) {
            render.insert_resource(destroy.clone()).add_systems(Render, lose.in_set(RenderSystems::Cleanup));
        }
    }
    let mut losses = 0;
    while app.plugins_state() == bevy::app::PluginsState::Adding {
        bevy::tasks::tick_global_task_pools_on_main_thread();
    }
    app.finish();
    app.cleanup();
    for frame in 0..MOST {
        app.update();
        let heard = app.world().resource::<Heard>();
        if let Some(reason) = &heard.failed {
            eprintln!("sketches: {reason}");
            return ExitCode::FAILURE;
        }
        let reached = [frame, heard.story.len()];
        if losses < DESTROYED.len() && reached[losses] >= DESTROYED[losses] {
            destroy.0.store(true, Ordering::Relaxed);
            losses += 1;
        }
        if heard.told && heard.at == DRAWN.len() {
            println!("{frame} frames; told: {}", heard.story);
            return if heard.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    }
    eprintln!("sketches: nothing came in {MOST} frames");
    ExitCode::FAILURE
}

/// Waits for the frame, as a screen would: else frames are submitted faster than a software adapter draws them, and answers come ever later.
fn keep_up(device: Res<RenderDevice>) {
    // A device that is lost has nothing to wait for.
    let _ = device.wgpu_device().poll(PollType::wait_indefinitely());
}

/// Destroys the device where that is asked.
fn lose(destroy: Res<Destroy>, device: Res<RenderDevice>) {
    if destroy.0.swap(false, Ordering::Relaxed) {
        device.wgpu_device().destroy();
    }
}

fn setup(
    mut commands: Commands,
    mut images: ResMut<Assets<Image>>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
    mut questions: MessageWriter<Ask>,
) {
    let image = images.add(Image::new_target_texture(SIDE, SIDE, TextureFormat::Rgba8UnormSrgb, None));
    commands.spawn((Camera2d, RenderTarget::from(image.clone()), Eye { image }));
    let ink = materials.add(ColorMaterial::from(Color::srgb(0.1, 0.12, 0.2)));
    let round = meshes.add(Circle::new(5.0));
    for (k, drawing) in [house(), star()].into_iter().enumerate() {
        for pair in drawing.iter().flat_map(|stroke| stroke.windows(2)) {
            let [a, b] = [pair[0], pair[1]].map(|p| p + Vec2::X * APART * k as f32);
            let turn = Quat::from_rotation_z((b - a).to_angle());
            let place = Transform::from_translation((0.5 * (a + b)).extend(0.0)).with_rotation(turn);
            commands.spawn((
                Mesh2d(meshes.add(Rectangle::new(a.distance(b), 10.0))),
                MeshMaterial2d(ink.clone()),
                place,
            ));
            for end in [a, b] {
                let place = Transform::from_translation(end.extend(0.0));
                commands.spawn((Mesh2d(round.clone()), MeshMaterial2d(ink.clone()), place));
            }
        }
    }
    let conversation = Conversation::new([Message::user("Tell me a story about a fox and a lantern.")]);
    questions.write(Ask { conversation, options: AnswerOptions::new(60) });
}

/// Marks every stroke as changed: what has not changed Bevy does not draw on another device than the first, and the picture would stay empty.
fn redraw(mut strokes: Query<&mut Mesh2d>) {
    strokes.iter_mut().for_each(|mut stroke| stroke.set_changed());
}

/// Takes what the guest says, and goes on to the next drawing.
fn hear(
    mut heard: ResMut<Heard>,
    mut camera: Query<&mut Transform, With<Eye>>,
    mut named: MessageReader<Named>,
    mut said: MessageReader<Said>,
    mut failed: MessageReader<Failed>,
) {
    if let Some(failure) = failed.read().last() {
        heard.failed = Some(format!("{:?}: {}", failure.source, failure.reason));
    }
    for part in said.read() {
        match part {
            Said::Piece(text) => heard.story += text,
            Said::Done => heard.told = true,
            _ => {}
        }
    }
    for Named { answer, .. } in named.read() {
        let Some(best) = answer.top(1).pop() else { continue };
        let Some(drawn) = DRAWN.get(heard.at) else { continue };
        heard.looks += 1;
        // The first looks may have been at what was before the camera earlier.
        if heard.looks > LOOK / 2 && best.label == *drawn {
            heard.right += 1;
        }
        if heard.looks == LOOK {
            let right = 2 * heard.right > LOOK - LOOK / 2;
            println!("{drawn}: {} at last, {} of {} looks right", best.label, heard.right, LOOK - LOOK / 2);
            heard.wrong += usize::from(!right);
            (heard.looks, heard.right, heard.at) = (0, 0, heard.at + 1);
            camera.iter_mut().for_each(|mut place| place.translation.x = APART * heard.at as f32);
        }
    }
}

/// Strokes from the left upper corner of a square of side one, y downwards, as pixels about a centre.
fn pixels(strokes: &[&[(f32, f32)]]) -> Vec<Vec<Vec2>> {
    let at = |(x, y): &(f32, f32)| 200.0 * Vec2::new(x - 0.5, 0.5 - y);
    strokes.iter().map(|stroke| stroke.iter().map(at).collect()).collect()
}

fn house() -> Vec<Vec<Vec2>> {
    pixels(&[
        &[(0.16, 0.46), (0.84, 0.46), (0.84, 0.92), (0.16, 0.92), (0.16, 0.46)],
        &[(0.1, 0.46), (0.5, 0.12), (0.9, 0.46)],
        &[(0.42, 0.92), (0.42, 0.66), (0.58, 0.66), (0.58, 0.92)],
    ])
}

fn star() -> Vec<Vec<Vec2>> {
    let at = |k: usize| {
        let reach = if k.is_multiple_of(2) { 92.0 } else { 40.0 };
        reach * Vec2::from_angle((90.0 + 36.0 * k as f32).to_radians())
    };
    vec![(0..=10).map(at).collect()]
}
