//! The robot's eye: each frame's picture goes from its texture into the classifier, and the names come some frames later.

use crate::Result;
use crate::args::Args;
use lampyris::models::record::Seen;
use lampyris::{Answer, Classifier, Gpu, Input, wgpu};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// A picture that is being looked at.
#[derive(Debug)]
struct Look {
    seen: Seen,
    frame: usize,
    before: Option<usize>,
}

/// What was said of one drawing while the robot stood before it.
#[derive(Debug, Default, Clone)]
struct Tally {
    answers: usize,
    names: BTreeMap<String, usize>,
}

/// The classifier and what it has said.
#[derive(Debug)]
pub struct Eyes {
    classifier: Classifier,
    under_way: VecDeque<Look>,
    tallies: Vec<Tally>,
    /// The newest answer.
    pub answer: Option<Answer>,
    /// Frames from the picture to its answer, of the newest one.
    pub late: usize,
    /// Frames in which all places for answers were taken, or the device was lost before the next frame could find another.
    pub skipped: usize,
}

impl Eyes {
    /// Loads the bundled classifier, or the one in the folder.
    pub async fn load(gpu: &Gpu, args: &Args, seen: &wgpu::TextureView, drawings: usize) -> Result<Eyes> {
        let classifier = match &args.model {
            None => Classifier::bundled(gpu).await?,
            Some(folder) => Classifier::load(gpu, folder.as_path()).await?,
        };
        classifier.ready(Input::texture(seen)).await?;
        let tallies = vec![Tally::default(); drawings];
        Ok(Eyes { classifier, under_way: VecDeque::new(), tallies, answer: None, late: 0, skipped: 0 })
    }

    /// Goes on with pictures of the device that has taken the place of a lost one.
    pub fn rejoin(&self, seen: &wgpu::TextureView) -> Result<()> {
        Ok(pollster::block_on(self.classifier.ready(Input::texture(seen)))?)
    }

    /// Where the probabilities lie, for the game's own shader.
    pub fn probabilities(&self) -> Result<(wgpu::Buffer, u64, u64)> {
        Ok(self.classifier.probabilities_buffer()?)
    }

    /// Records the look at a picture, taken while the robot stood `before` a drawing; whether it did, for as many as may be are under way, or the
    /// device is lost.
    pub fn look(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        picture: &wgpu::TextureView,
        (frame, before): (usize, Option<usize>),
    ) -> Result<bool> {
        match self.classifier.record(encoder, Input::texture(picture)) {
            Ok(seen) => {
                self.under_way.push_back(Look { seen, frame, before });
                Ok(true)
            }
            Err(error) if error.is_transient() => {
                self.skipped += 1;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what has arrived.
    pub fn take(&mut self, frame: usize) -> Result<()> {
        while let Some(look) = self.under_way.front_mut() {
            let answer = match look.seen.try_take() {
                Ok(Some(answer)) => answer,
                Ok(None) => break,
                // The frame was dropped, or went with its device.
                Err(error) if error.is_transient() => {
                    self.under_way.pop_front();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.late = frame - look.frame;
            if let Some(tally) = look.before.and_then(|at| self.tallies.get_mut(at)) {
                tally.answers += 1;
                *tally.names.entry(name(&answer).0).or_default() += 1;
            }
            self.answer = Some(answer);
            self.under_way.pop_front();
        }
        Ok(())
    }

    /// How often each drawing was named rightly, and what it was called most.
    pub fn report(&self, labels: &[&str]) -> Value {
        let drawing = |(label, tally): (&&str, &Tally)| {
            let most = tally.names.iter().max_by_key(|(_, count)| **count).map(|(name, _)| name);
            let right = tally.names.get(*label).copied().unwrap_or(0);
            json!({ "drawn": label, "answers": tally.answers, "right": right, "named": most })
        };
        let seen = labels.iter().zip(&self.tallies).filter(|(_, tally)| tally.answers > 0);
        Value::Array(seen.map(drawing).collect())
    }
}

/// The likeliest name, and how likely it is.
pub fn name(answer: &Answer) -> (String, f32) {
    answer.top(1).pop().map_or((String::new(), 0.0), |best| (best.label, best.probability))
}
