//! A classifier that runs only when a host ticks it: one picture at a time, cut into what the budgets of frames pay for.

use crate::image_prep::Preprocess;
use crate::mobilenet::Pixels;
use crate::prepare;
use crate::record::at_once;
use crate::tick::{Driven, FINEST, Progress, Tick};
use crate::{Answer, Classifier, Error, Input, Result};
use lampyris_engine::gpu::{
    Budget, CommandEncoder, Course, Event, Few, GpuPlan, InputData, Job, Loading, StepTimes, VariantChoice,
};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

/// Runs that steps are measured in.
const MEASURED: usize = 3;

/// Kinds of pictures whose preparation is kept.
const KINDS: usize = 4;

/// What prepares pictures of a kind.
#[derive(Debug, Clone)]
struct Preparing {
    kind: prepare::PictureKind,
    plan: GpuPlan,
    times: Arc<StepTimes>,
}

/// A [`Classifier`] that runs only when it is ticked, in temporaries of its own: what the classifier does beside it does not matter.
#[derive(Debug)]
pub struct Watching {
    classifier: Classifier,
    plan: GpuPlan,
    course: Course,
    /// What prepares the kinds of pictures seen last.
    preparing: VecDeque<Preparing>,
    going: bool,
    run: u64,
    /// The same on the device that has taken the place of a lost one, while it is being made.
    moving: Option<Box<Loading<Watching, Error>>>,
}

impl Classifier {
    /// The classifier as something that runs only when it is ticked. It shares the weights, and takes temporaries of its own.
    ///
    /// # Errors
    /// [`Error::Engine`] with `NoCommands` on the CPU executor, and when the device has no room.
    pub async fn driven(&self) -> Result<Watching> {
        let numbered = self.numbered(1, Pixels::Rgba8).await?;
        let plan = Arc::new(self.device_plan(&numbered.executor)?.plan().clone());
        let gpu = self.gpu().alive().await?;
        let plan = GpuPlan::new(&gpu, plan, self.store(), VariantChoice::Best).await?;
        let mut course = Course::new(&gpu, std::slice::from_ref(&plan), FINEST, 0).await?;
        if gpu.owns_device() {
            course.measure_part(0, &[InputData::Bound], MEASURED).await?;
        }
        let preparing = VecDeque::with_capacity(KINDS);
        Ok(Watching { classifier: self.clone(), plan, course, preparing, going: false, run: 0, moving: None })
    }
}

impl Watching {
    /// Measures its steps alone, unless that is known, so that its ticks know from the first what they can afford. Submits runs of its
    /// own: for the time of loading, on a host's device; on an own one it is done already.
    ///
    /// # Errors
    /// [`Error::Engine`] with `Busy` while a picture is under way, and from the device.
    pub async fn measure(&mut self) -> Result<()> {
        Ok(self.course.measure_part(0, &[InputData::Bound], MEASURED).await?)
    }

    /// How long the dispatches of its network are expected to take.
    pub fn times(&self) -> Option<&StepTimes> {
        self.course.times(0)
    }

    /// The classifier.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// Makes what [`Watching::look`] needs for pictures of this kind and size, so that the first frame with one does not have to; in browsers it
    /// cannot. Where another device has taken the place of a lost one it goes there first, and gives a picture up that was under way.
    ///
    /// # Errors
    /// As [`Classifier::ready`].
    pub async fn ready<'a>(&mut self, input: impl Into<Input<'a>>) -> Result<()> {
        let input = input.into();
        let classifier = self.classifier.clone();
        let picture = classifier.picture(&input)?;
        let (kind, preprocess, _) = classifier.fitted(&picture)?;
        if self.plan.gpu().check_alive().is_err() {
            *self = Watching { run: self.run, ..classifier.driven().await? };
        }
        self.preparing(kind, &preprocess).await.map(|_| ())
    }

    /// What prepares pictures of a kind.
    async fn preparing(&mut self, kind: prepare::PictureKind, preprocess: &Preprocess) -> Result<Preparing> {
        if let Some(at) = self.preparing.iter().position(|known| known.kind == kind) {
            // Those seen last are kept.
            self.preparing.make_contiguous()[..=at].rotate_right(1);
            return Ok(self.preparing[0].clone());
        }
        let made = Arc::new(kind.plan(preprocess)?);
        let plan = GpuPlan::feeding(self.plan.gpu(), made, &self.plan, 0).await?;
        let made = Preparing { kind, times: Arc::new(StepTimes::known(&plan)), plan };
        self.preparing.truncate(KINDS - 1);
        self.preparing.push_front(made.clone());
        Ok(made)
    }

    /// Begins with a picture: records its preparation, so that a texture is read in this frame and no other, and what the budget pays
    /// for of the rest. The ticks that follow do what is left. Everything is checked before the first command, and nothing waits.
    ///
    /// # Errors
    /// As [`Classifier::record`]; [`Error::Engine`] with `Busy` while another picture is under way, [`Error::NotReady`] while it moves to
    /// the device that has taken the place of a lost one.
    pub fn look<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        budget: &mut Budget,
        input: impl Into<Input<'a>>,
    ) -> Result<()> {
        if !self.rejoin(budget, true)? {
            if self.moving.is_none() {
                self.plan.gpu().current().check_alive()?;
            }
            return Err(Error::NotReady);
        }
        self.settle()?;
        if self.going || !self.course.is_idle() {
            return Err(Error::Engine(lampyris_engine::Error::Busy { runs: 1 }));
        }
        let input = input.into();
        let classifier = self.classifier.clone();
        let picture = classifier.picture(&input)?;
        let (kind, preprocess, bytes) = classifier.fitted(&picture)?;
        let preparing = at_once(self.preparing(kind, &preprocess))?;
        let data = picture.data(bytes.as_deref());
        self.run += 1;
        let mut job =
            Some(Job { part: 0, tag: self.run, begin: Few::None, again: Few::None, outputs: true, positions: 0 });
        self.course
            .record_after(encoder, budget, Some((&preparing.plan, &preparing.times, &*data)), &mut || job.take())?;
        self.going = true;
        Ok(())
    }

    /// Goes to the device that has taken the place of a lost one, where there is one and a picture was under way or is `wanted`, loading as
    /// the budget pays for; the picture that was under way is given up. Never waits, and says whether it is on a device that is there.
    fn rejoin(&mut self, budget: &mut Budget, wanted: bool) -> Result<bool> {
        if let Some(moving) = &mut self.moving {
            let moved = moving.tick(budget);
            if let Ok(None) = moved {
                return Ok(false);
            }
            self.moving = None;
            match moved {
                Ok(Some(fresh)) => *self = Watching { run: self.run, ..fresh },
                Err(error) if !error.is_device_lost() => return Err(error),
                _ => return Ok(false),
            }
        }
        let here = self.plan.gpu();
        if here.check_alive().is_ok() {
            return Ok(true);
        }
        let wanted = std::mem::take(&mut self.going) || wanted;
        if wanted && self.is_replaced() {
            let classifier = self.classifier.clone();
            let moving = Loading::new(async move { classifier.driven().await });
            self.moving = Some(Box::new(moving));
        }
        Ok(false)
    }

    /// Whether another device has taken, or will take, the place of a lost one.
    fn is_replaced(&self) -> bool {
        let here = self.plan.gpu();
        here.reopens() || here.current().check_alive().is_ok()
    }

    /// Takes what is left of a run that nobody waits for any more.
    fn settle(&mut self) -> Result<()> {
        while !self.going {
            if self.course.event()?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Gives up the picture that is under way.
    pub fn cancel(&mut self) {
        if self.going {
            self.course.give_up();
        }
        self.going = false;
    }

    /// Records into the host's encoder what the budget pays for, and gives the answer once it has arrived. Never waits. A picture that is
    /// under way when the device is lost is given up: look again once it was replaced.
    ///
    /// # Errors
    /// [`Error::Engine`] with `Cancelled` when an encoder with a part of it was dropped or came in another order: look again; what else
    /// the device says. It is idle afterwards.
    pub fn tick(&mut self, encoder: &mut CommandEncoder, budget: &mut Budget) -> Result<Tick<Infallible, Answer>> {
        if !self.rejoin(budget, false)? {
            return Ok(match (&self.moving, self.is_replaced()) {
                (Some(_), _) => Tick::Working(Progress::default()),
                (None, true) => Tick::Idle,
                (None, false) => Tick::Lost,
            });
        }
        if !self.going {
            return Ok(Tick::Idle);
        }
        let event = match self.course.event().map_err(Error::from) {
            // What a lost device was given is looked for where another takes its place.
            Err(error) if error.is_device_lost() => return Ok(Tick::Lost),
            event => event?,
        };
        match event {
            Some(Event::Ran { outputs, .. }) => {
                self.going = false;
                let answer = self.classifier.answer(&outputs).map(Tick::Done);
                self.course.take_back(outputs);
                return answer;
            }
            Some(_) => {
                self.going = false;
                return Err(Error::Engine(lampyris_engine::Error::Cancelled));
            }
            None => {}
        }
        match self.course.record(encoder, budget, &mut || None).map_err(Error::from) {
            Ok(steps) => Ok(Tick::Working(Progress { steps, ..Progress::default() })),
            Err(error) if error.is_device_lost() => Ok(Tick::Lost),
            Err(error) => {
                self.going = false;
                Err(error)
            }
        }
    }
}

impl Driven for Watching {
    type Piece = Infallible;
    type Done = Answer;

    fn tick(&mut self, encoder: &mut CommandEncoder, budget: &mut Budget) -> Result<Tick<Infallible, Answer>> {
        Watching::tick(self, encoder, budget)
    }

    fn has_work(&self) -> bool {
        self.going || self.moving.is_some()
    }
}
