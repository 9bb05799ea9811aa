//! Frames of a program in a browser whose guests run only when they are ticked: eyes and a teller of stories share each frame's budget.
//! `frames.test.mjs` draws them.

use crate::{device, sketches, told};
use js_sys::Error;
use lampyris::engine::weights::gguf::Gguf;
use lampyris::text_model::DrivenText;
use lampyris::wgpu::{self, Features};
use lampyris::{
    AnswerOptions, Budget, Classifier, Driven, Gpu, Input, Loading, Priority, Sampling, Scheduler, TextModel, Tick,
    Watching,
};
use std::time::Duration;
use wasm_bindgen::prelude::*;

const PROMPT: &str = "Once upon a time";
const CONTEXT: usize = 64;

/// Of the picture that the eyes see.
const SIDE: u32 = 90;

/// What the guests have of a frame while they are loaded.
const LOADING: Duration = Duration::from_micros(200);

type Models = (Classifier, TextModel);

/// The program, and what it has seen and heard.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Frames {
    features: Features,
    device: wgpu::Device,
    queue: wgpu::Queue,
    gpu: Gpu,
    loading: Loading<Models>,
    models: Option<Models>,
    turns: Scheduler,
    guests: Option<(Watching, DrivenText)>,
    seen: Vec<f32>,
    counts: Counts,
}

/// What was found in the frames since the guests were made ready.
#[wasm_bindgen]
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Pictures that were named.
    pub pictures: u32,
    /// Ticks that went on with a picture which an earlier one had begun.
    pub parts: u32,
    /// Ticks that recorded something of the story.
    pub told: u32,
    /// Those that found the device lost.
    pub lost: u32,
}

#[wasm_bindgen]
impl Frames {
    /// Opens a device with WebGPU's default limits and with no features, or timestamps alone, onto which the models are to be loaded.
    pub async fn open(
        timestamps: bool,
        weights: Vec<u8>,
        config: Vec<u8>,
        preprocessor: Vec<u8>,
        story: Vec<u8>,
    ) -> Result<Frames, Error> {
        let features = if timestamps { Features::TIMESTAMP_QUERY } else { Features::empty() };
        let (adapter, device, queue) = device(features).await?;
        let gpu = Gpu::from_device(&adapter, &device, &queue).map_err(told)?;
        pass_on(&device, &gpu);
        let source = sketches(weights, config, preprocessor)?;
        let (to, story) = (gpu.clone(), Gguf::from_bytes("the page's stories", story).map_err(told)?);
        let loading =
            Loading::new(async move { Ok((Classifier::load(&to, source).await?, TextModel::load(&to, story).await?)) });
        let mut turns = Scheduler::new();
        turns.add(Priority::FIRST);
        turns.add(Priority::AFTER.share(0.5));
        let (models, guests, seen, counts) = (None, None, Vec::new(), Counts::default());
        Ok(Frames { features, device, queue, gpu, loading, models, turns, guests, seen, counts })
    }

    /// Whether the guests are told how long the device takes.
    pub fn timestamps(&self) -> bool {
        self.gpu.caps().timestamps
    }

    /// A frame in which the models are loaded, and nothing else. Whether it is not the last.
    pub fn load(&mut self) -> Result<bool, Error> {
        let tick = self.loading.load(&mut Budget::gpu(LOADING)).map_err(told)?;
        self.queue.submit([]);
        self.gpu.pump();
        if let Tick::Done(models) = tick {
            self.models = Some(models);
        }
        Ok(self.models.is_none())
    }

    fn models(&self) -> Result<&Models, Error> {
        self.models.as_ref().ok_or_else(|| told("the models are not loaded"))
    }

    /// The logits of the picture by a run of its own.
    pub async fn classify(&self) -> Result<Vec<f32>, Error> {
        self.models()?.0.classify(picture()).await.map(|answer| answer.logits).map_err(told)
    }

    /// The tokens of a story, with those that it begins with, by runs of its own.
    pub async fn generate(&self, most: usize) -> Result<Vec<u32>, Error> {
        let mut session = self.models()?.1.session(CONTEXT).await.map_err(told)?;
        let mut story = session.generate(PROMPT, most).await.map_err(told)?;
        while story.next().await.map_err(told)?.is_some() {}
        Ok(session.tokens().tokens().to_vec())
    }

    /// Makes the guests ready, measured where there is a clock for it, and asks for a story.
    pub async fn begin(&mut self, most: usize) -> Result<(), Error> {
        let (classifier, text) = self.models()?;
        let mut eyes = classifier.driven().await.map_err(told)?;
        eyes.ready(picture()).await.map_err(told)?;
        eyes.measure().await.map_err(told)?;
        let teller = text.session(CONTEXT).await.map_err(told)?.driven();
        let mut teller = teller.measured(&Sampling::greedy()).await.map_err(told)?;
        teller.generate(PROMPT, most);
        self.guests = Some((eyes, teller));
        (self.seen, self.counts) = (Vec::new(), Counts::default());
        Ok(())
    }

    /// Asks for the story anew: drawn from a seed, or of the likeliest tokens.
    pub fn ask(&mut self, most: usize, seed: Option<u32>) -> Result<(), Error> {
        let Some((_, teller)) = &mut self.guests else { return Err(told("there are no guests")) };
        let sampling = seed.map_or(Sampling::greedy(), |seed| Sampling::at(0.8).seed(seed.into()));
        teller.generate(PROMPT, AnswerOptions::new(most).sampling(sampling));
        Ok(())
    }

    /// A frame of which the guests have so many microseconds, and in which, if it `looks`, the next picture is looked at where the one before was
    /// named. Whether something is left to do.
    pub fn draw(&mut self, micros: u32, looks: bool) -> Result<bool, Error> {
        let Some((eyes, teller)) = &mut self.guests else { return Err(told("there are no guests")) };
        let (seen, counts) = (&mut self.seen, &mut self.counts);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut budget = Budget::gpu(Duration::from_micros(micros.into()));
        let done: lampyris::Result<()> = self.turns.frame(&mut budget, |who, budget| {
            if who == 1 {
                match teller.tick(&mut encoder, budget)? {
                    Tick::Working(progress) => counts.told += u32::from(progress.steps > 0),
                    Tick::Lost => counts.lost += 1,
                    _ => {}
                }
                return Ok(());
            }
            let tick = eyes.tick(&mut encoder, budget)?;
            let next = looks && matches!(tick, Tick::Idle | Tick::Done(_));
            match tick {
                Tick::Working(progress) => counts.parts += u32::from(progress.steps > 0),
                Tick::Done(answer) => {
                    counts.pictures += 1;
                    seen.extend(answer.logits);
                }
                _ => {}
            }
            if next { eyes.look(&mut encoder, budget, picture()) } else { Ok(()) }
        });
        self.queue.submit([encoder.finish()]);
        self.gpu.pump();
        done.map_err(told)?;
        Ok(eyes.has_work() || teller.has_work())
    }

    /// The logits of all pictures that were named, one after the other.
    pub fn seen(&self) -> Vec<f32> {
        self.seen.clone()
    }

    /// The tokens of the story so far, with those that it begins with.
    pub fn told(&self) -> Vec<u32> {
        self.guests.as_ref().map(|(_, teller)| teller.tokens().session().tokens().to_vec()).unwrap_or_default()
    }

    /// What was found.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Records the token that comes after the story whole, and gives it.
    pub async fn step(&mut self) -> Result<u32, Error> {
        let (_, teller) = self.guests.take().ok_or_else(|| told("there are no guests"))?;
        let mut session = teller.into_session().map_err(|_| told("the story is under way"))?;
        let (session, sampling) = (session.tokens_mut(), Sampling::greedy());
        session.ready_to_step(&sampling).await.map_err(told)?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        session.record_step(&mut encoder, &sampling).map_err(told)?;
        self.queue.submit([encoder.finish()]);
        session.step_token().await.map_err(told)?.ok_or_else(|| told("no token was recorded"))
    }

    /// Takes the device away.
    pub fn destroy(&self) {
        self.device.destroy();
    }

    /// Hands over another like it.
    pub async fn replace(&mut self) -> Result<(), Error> {
        let (adapter, device, queue) = device(self.features).await?;
        self.gpu.replace_device(&adapter, &device, &queue).map_err(told)?;
        pass_on(&device, &self.gpu);
        (self.device, self.queue) = (device, queue);
        Ok(())
    }

    /// Lets the eyes go to the other device, and make there what they need.
    pub async fn ready(&mut self) -> Result<(), Error> {
        let Some((eyes, _)) = &mut self.guests else { return Err(told("there are no guests")) };
        eyes.ready(picture()).await.map_err(told)
    }
}

/// Passes on that a device is lost, as the host has to.
fn pass_on(device: &wgpu::Device, gpu: &Gpu) {
    let guest = gpu.loss_notifier();
    device.set_device_lost_callback(move |_, reason| guest.notify_lost(&reason));
}

fn picture() -> Input<'static> {
    let pixels = (0..SIDE * SIDE * 4).map(|at| (at * 5 + at / 300) as u8).collect::<Vec<u8>>();
    Input::rgba8(pixels, SIDE, SIDE)
}
