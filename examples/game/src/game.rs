//! One frame of the game: what the robot sees is drawn, looked at and named, then everything is drawn for whoever plays.

use crate::Result;
use crate::args::Args;
use crate::bars::Bars;
use crate::eyes::Eyes;
use crate::frames::Frames;
use crate::host::{Host, colour};
use crate::hud::{self, Shown};
use crate::overlay::Overlay;
use crate::scene::{Moment, Scene};
use crate::stage::Stage;
use crate::talk::Talk;
use crate::timer::{MARKS, Timer};
use glam::{Vec2, vec2};
use lampyris::models::{Priority, Scheduler};
use lampyris::{Budget, Gpu, wgpu};
use serde_json::{Value, json};
use std::thread::JoinHandle;
use std::time::Duration;

/// The models, once they are loaded, and what is drawn from them.
#[derive(Debug)]
struct Minds {
    eyes: Eyes,
    talk: Talk,
    bars: Bars,
    /// Whose turn it is in a frame: the eye's, then the talk's.
    turns: Scheduler,
}

/// The eye's number in the frame's turns; the talk's is the next.
const EYE: usize = 0;

/// What the loading thread brings.
type Loaded = (Eyes, Talk);

/// The game on one device.
#[derive(Debug)]
pub struct Game {
    pub host: Host,
    /// The guest on the host's device.
    gpu: Gpu,
    args: Args,
    scene: Scene,
    stage: Stage,
    overlay: Overlay,
    timer: Timer,
    pub frames: Frames,
    loading: Option<JoinHandle<Result<Loaded>>>,
    minds: Option<Minds>,
    adapter: String,
    size: [u32; 2],
    drawn: usize,
    /// How often a device was lost, and another took its place.
    losses: usize,
    /// A line at the bottom, such as which keys there are.
    pub note: &'static str,
}

impl Game {
    /// Begins to load the models on a thread of the game's; frames can be drawn meanwhile.
    pub fn new(host: Host, args: &Args, size: [u32; 2]) -> Result<Game> {
        let gpu = Gpu::from_device(&host.adapter, &host.device, &host.queue)?;
        host.tell_losses_to(&gpu);
        let scene = Scene::new();
        let stage = Stage::new(&host, &scene, size);
        let overlay = Overlay::new(&host, stage.eye());
        let timer = Timer::new(&host);
        let adapter = host.adapter.get_info().name;
        let (args, frames) = (args.clone(), Frames::new(args.hz));
        let mut game = Game {
            host,
            gpu,
            args,
            scene,
            stage,
            overlay,
            timer,
            frames,
            loading: None,
            minds: None,
            adapter,
            size,
            drawn: 0,
            losses: 0,
            note: "",
        };
        game.load();
        Ok(game)
    }

    /// Loads the models on a thread of its own, where that is not done or under way and there is a device.
    fn load(&mut self) {
        if self.minds.is_some() || self.loading.is_some() || self.gpu.check_alive().is_err() {
            return;
        }
        let (gpu, options) = (self.gpu.clone(), self.args.clone());
        let (seen, drawings) = (self.stage.eye().clone(), self.scene.drawings.len());
        let load = async move {
            let eyes = Eyes::load(&gpu, &options, &seen, drawings).await?;
            Ok((eyes, Talk::load(&gpu).await?))
        };
        self.loading = Some(std::thread::spawn(move || pollster::block_on(load)));
    }

    /// Draws for a window of another size from now on.
    pub fn resize(&mut self, size: [u32; 2]) {
        self.size = size;
        self.stage.resize(&self.host, size);
    }

    /// Waits until the models are loaded, on another device where this one is lost meanwhile.
    pub fn wait(&mut self) -> Result<()> {
        while self.minds.is_none() {
            self.recover()?;
            self.load();
            self.take_loaded()?;
        }
        Ok(())
    }

    /// Takes what the loading thread brings, and waits for it. What it could not because the device was lost is left to be loaded again.
    fn take_loaded(&mut self) -> Result<()> {
        let Some(loading) = self.loading.take() else { return Ok(()) };
        let loaded = loading.join().map_err(|_| "loading the models has failed")?;
        match loaded.and_then(|loaded| self.seat(loaded)) {
            Err(error) if error.downcast_ref().is_some_and(lampyris::Error::is_device_lost) => Ok(()),
            seated => seated,
        }
    }

    /// Gives the models that were loaded their places in the frame, and goes to the device of now with them.
    fn seat(&mut self, (eyes, talk): Loaded) -> Result<()> {
        eyes.rejoin(self.stage.eye())?;
        let (buffer, offset, bytes) = eyes.probabilities()?;
        let bars = Bars::new(&self.host, (&buffer, offset, bytes));
        let mut turns = Scheduler::new();
        turns.add(Priority::FIRST);
        turns.add(Priority::AFTER);
        self.minds = Some(Minds { eyes, talk, bars, turns });
        Ok(())
    }

    /// Draws the scene as it is at a time in seconds, and submits it.
    pub fn frame(&mut self, time: f32, onto: &wgpu::TextureView) -> Result<()> {
        if self.loading.as_ref().is_some_and(JoinHandle::is_finished) {
            self.take_loaded()?;
        }
        self.load();
        let moment = self.scene.at(time);
        self.stage.place(&self.host, &moment);
        let label = wgpu::CommandEncoderDescriptor { label: Some("game.frame") };
        let mut encoder = self.host.device.create_command_encoder(&label);
        self.stage.draw_eye(&mut encoder);
        self.timer.mark(&mut encoder, 0);
        self.think(&mut encoder, &moment)?;
        self.stage.draw_main(&mut encoder, onto);
        self.draw_hud(&mut encoder, onto, &moment);
        self.host.queue.submit([encoder.finish()]);
        self.timer.submitted();
        self.drawn += 1;
        self.look_round()
    }

    /// Lets the models have their part of the frame: first the eye, whole, then as much of the talk as is left for.
    fn think(&mut self, encoder: &mut wgpu::CommandEncoder, moment: &Moment) -> Result<()> {
        let budget_ms = self.args.budget_ms;
        // What a look takes is what the last ones took, or half of everything where nobody has measured it.
        let look_ms = self.frames.recent_models().map_or(0.5 * budget_ms, |[eye, _]| eye);
        self.timer.mark(encoder, 0);
        let Some(minds) = &mut self.minds else {
            (1..MARKS).for_each(|number| self.timer.mark(encoder, number));
            return Ok(());
        };
        let Minds { eyes, talk, turns, .. } = minds;
        let (timer, stage, drawn) = (&mut self.timer, &self.stage, self.drawn);
        let mut budget = Budget::gpu(Duration::from_secs_f32(budget_ms / 1000.0));
        turns.frame(&mut budget, |who, part| {
            if who == EYE {
                if eyes.look(encoder, stage.eye(), (drawn, moment.before))? {
                    part.take(Duration::from_secs_f32(look_ms / 1000.0));
                }
                timer.mark(encoder, 1);
                return Ok(());
            }
            talk.tick(encoder, part, drawn)
        })?;
        self.timer.mark(encoder, 2);
        Ok(())
    }

    /// Destroys the device, as a driver does that starts anew. The next frame finds another.
    pub fn lose_device(&mut self) -> Result<()> {
        self.host.device.destroy();
        self.host.device.poll(wgpu::PollType::Poll)?;
        Ok(())
    }

    /// Opens another device in the place of the lost one, and says whether that was needed. What the game has on it is made again;
    /// the models' weights and the talk go there by themselves, and what was still being loaded is loaded there.
    pub fn recover(&mut self) -> Result<bool> {
        if self.gpu.check_alive().is_ok() {
            return Ok(false);
        }
        self.host = self.host.again()?;
        let host = &self.host;
        self.gpu.replace_device(&host.adapter, &host.device, &host.queue)?;
        host.tell_losses_to(&self.gpu);
        self.stage = Stage::new(host, &self.scene, self.size);
        self.overlay = Overlay::new(host, self.stage.eye());
        self.timer = Timer::new(host);
        if let Some(minds) = &mut self.minds {
            minds.eyes.rejoin(self.stage.eye())?;
            let (buffer, offset, bytes) = minds.eyes.probabilities()?;
            minds.bars = Bars::new(host, (&buffer, offset, bytes));
        }
        self.losses += 1;
        Ok(true)
    }

    /// Asks the robot the next question; `false` while it still answers the last one, or cannot talk yet.
    pub fn ask(&mut self) -> bool {
        let Some(minds) = self.minds.as_mut().filter(|minds| minds.talk.is_silent()) else { return false };
        minds.talk.ask(self.drawn);
        true
    }

    /// Takes what has arrived since it was asked for.
    pub fn look_round(&mut self) -> Result<()> {
        self.gpu.pump();
        if let Some(minds) = &mut self.minds {
            minds.eyes.take(self.drawn)?;
        }
        self.frames.models.extend(self.timer.arrived());
        Ok(())
    }

    fn draw_hud(&self, encoder: &mut wgpu::CommandEncoder, onto: &wgpu::TextureView, moment: &Moment) {
        let minds = self.minds.as_ref();
        let answer = minds.and_then(|minds| minds.eyes.answer.as_ref());
        let (sheet, chart) = hud::compose(&Shown {
            size: self.size,
            adapter: &self.adapter,
            frames: &self.frames,
            budget_ms: self.args.budget_ms,
            answer,
            late: minds.map_or(0, |minds| minds.eyes.late),
            grid: minds.map(|minds| minds.bars.grid()),
            speech: minds.and_then(|minds| minds.talk.speech()),
            mouth: self.on_screen(moment),
            note: if minds.is_none() { "loading the models" } else { self.note },
        });
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("game.hud"),
            color_attachments: &[colour(onto, None, wgpu::LoadOp::Load)],
            ..Default::default()
        });
        self.overlay.draw(&self.host, &mut pass, &sheet, self.size);
        if let (Some(minds), Some(place)) = (minds, chart) {
            minds.bars.draw(&self.host, &mut pass, place, self.size);
        }
    }

    /// Where the robot's mouth is, in pixels.
    fn on_screen(&self, moment: &Moment) -> Vec2 {
        let [width, height] = self.size.map(|side| side as f32);
        let clip = moment.view.matrix(width / height).project_point3(moment.mouth);
        vec2(0.5 + 0.5 * clip.x, 0.5 - 0.5 * clip.y) * vec2(width, height)
    }

    /// What happened, as data.
    pub fn report(&self) -> Value {
        let mut report = self.frames.report();
        let labels: Vec<&str> = self.scene.drawings.iter().map(|drawing| drawing.label).collect();
        report["adapter"] = json!(self.adapter);
        report["size"] = json!(self.size);
        report["budget_ms"] = json!(self.args.budget_ms);
        report["devices_lost"] = json!(self.losses);
        report["timestamps"] = json!(self.timer.measures());
        if let Some(minds) = &self.minds {
            report["drawings"] = minds.eyes.report(&labels);
            report["said"] = minds.talk.report();
            report["answer_after_frames"] = json!(minds.eyes.late);
            report["frames_not_looked_at"] = json!(minds.eyes.skipped);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;
    use crate::host::view;
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::time::Instant;

    /// Holds other games back: what one says within its time depends on who else computes.
    fn one_game() -> MutexGuard<'static, ()> {
        static ONE: Mutex<()> = Mutex::new(());
        ONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A game without a window that begins to load, and what it draws on.
    fn begun() -> (Game, wgpu::Texture) {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let host = Host::open(&instance, None, None).unwrap();
        let words = ["--headless", "--size", "320x320", "--budget-ms", "20"].map(str::to_owned);
        let args = Args::parse(words.into_iter()).unwrap().unwrap();
        let game = Game::new(host, &args, args.size).unwrap();
        let target = game.host.target("game.target", args.size, 1, wgpu::TextureUsages::empty());
        (game, target)
    }

    /// Frames as the window has them, until the eye has named something and the robot has said something.
    fn play(game: &mut Game, target: &mut wgpu::Texture) {
        let begun = Instant::now();
        let spoken = |game: &Game| {
            let minds = game.minds.as_ref()?;
            minds.eyes.answer.as_ref()?;
            minds.talk.speech().map(|(_, answer)| answer.len())
        };
        while spoken(game).unwrap_or(0) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(300), "nothing was said");
            if game.recover().unwrap() {
                *target = game.host.target("game.target", game.size, 1, wgpu::TextureUsages::empty());
            }
            game.ask();
            game.frame(0.1, &view(target)).unwrap();
            game.host.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            game.look_round().unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_device_that_is_lost_while_the_models_load_is_not_the_end() {
        let _one = one_game();
        for pause in [0, 40, 300] {
            let (mut game, mut target) = begun();
            std::thread::sleep(Duration::from_millis(pause));
            game.lose_device().unwrap();
            play(&mut game, &mut target);
            assert_eq!(game.losses, 1, "after {pause} ms");
        }
    }

    #[test]
    fn what_was_not_loaded_for_the_loss_of_a_device_is_loaded_again_and_other_errors_are_told() {
        let _one = one_game();
        let lost = |game: &Game| {
            let gpu = game.gpu.clone();
            gpu.notify_lost("for the test");
            let error: lampyris::Error = gpu.check_alive().unwrap_err().into();
            Some(std::thread::spawn(move || Err(error.into())))
        };
        // The thread hears of the loss after the game has another device already.
        let (mut game, mut target) = begun();
        game.wait().unwrap();
        game.minds = None;
        game.loading = lost(&game);
        game.recover().unwrap();
        target = game.host.target("game.target", game.size, 1, target.usage());
        game.take_loaded().unwrap();
        assert!(game.minds.is_none() && game.loading.is_none());
        play(&mut game, &mut target);
        // The thread hears of it before the game.
        game.minds = None;
        game.loading = lost(&game);
        game.wait().unwrap();
        assert!(game.minds.is_some());
        assert_eq!(game.losses, 2);
        game.minds = None;
        game.loading = Some(std::thread::spawn(|| Err("no such file".into())));
        assert_eq!(game.wait().unwrap_err().to_string(), "no such file");
    }
}
