//! A classifier that runs only when a host ticks it: one picture at a time, cut into what the budgets of frames pay for.

use crate::mobilenet::Pixels;
use crate::prepare::PictureKind;
use crate::tick::{Driven, FINEST, Progress, Tick};
use crate::{Answer, Classifier, Error, Input, Result};
use lampyris_engine::Plan;
use lampyris_engine::gpu::{
    Budget, CommandEncoder, Course, Event, Few, GpuPlan, InputData, Job, Loading, StepTimes, VariantChoice,
};
use lampyris_engine::kernels::Format;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Runs that steps are measured in.
const MEASURED: usize = 3;

/// Kinds of pictures whose preparation is kept.
const KINDS: usize = 4;

/// A kind of pictures and the plan that prepares them, wherever that runs.
type Known = (PictureKind, Arc<Plan>);

/// What prepares pictures of a kind.
#[derive(Debug, Clone)]
struct Preparing {
    kind: PictureKind,
    plan: GpuPlan,
    times: Arc<StepTimes>,
}

impl Preparing {
    /// For a network's first input.
    async fn make(network: &GpuPlan, kind: PictureKind, plan: Arc<Plan>) -> Result<Preparing> {
        let plan = GpuPlan::feeding(network.gpu(), plan, network, 0).await?;
        Ok(Preparing { kind, times: Arc::new(StepTimes::known(&plan)), plan })
    }
}

/// A [`Classifier`] that runs only when it is ticked, in temporaries of its own: what the classifier does beside it does not matter.
#[derive(Debug)]
pub struct Watching {
    classifier: Classifier,
    plan: GpuPlan,
    course: Course,
    /// What prepares the kinds of pictures seen last.
    preparing: VecDeque<Preparing>,
    /// The same for the kind of the last look, while it is being made.
    making: Option<(PictureKind, Loading<Preparing, Error>)>,
    going: bool,
    run: u64,
    /// How long a dispatch may take that can be cut.
    finest: Duration,
    /// The same on the device that has taken the place of a lost one, while it is being made.
    moving: Option<Box<Loading<Watching, Error>>>,
}

impl Classifier {
    /// The classifier as something that runs only when it is ticked. It shares the weights, and takes temporaries of its own. Pipelines that prepare
    /// pictures of bytes and of one texture are compiled here.
    ///
    /// # Errors
    /// [`Error::Engine`] with `NoCommands` on the CPU executor, and when the device has no room.
    pub async fn driven(&self) -> Result<Watching> {
        self.driven_in(FINEST).await
    }

    async fn driven_in(&self, finest: Duration) -> Result<Watching> {
        let numbered = self.numbered(1, Pixels::Rgba8).await?;
        let plan = Arc::new(self.device_plan(&numbered.executor)?.plan().clone());
        let gpu = self.gpu().alive().await?;
        let plan = GpuPlan::new(&gpu, plan, self.store(), VariantChoice::Best).await?;
        let mut course = Course::new(&gpu, std::slice::from_ref(&plan), finest, 0).await?;
        if gpu.owns_device() {
            course.measure_part(0, &[InputData::Bound], MEASURED).await?;
        }
        // A look should find what it needs, whatever the size of the pictures.
        let side = self.preprocess().crop;
        let usual = |format| PictureKind::whole(format, [side; 2]).plan(self.preprocess());
        gpu.warm_plans(&[usual(Format::Rgba8)?, usual(Format::Texture)?]).await?;
        let preparing = VecDeque::with_capacity(KINDS);
        let classifier = self.clone();
        Ok(Watching { classifier, plan, course, preparing, making: None, going: false, run: 0, finest, moving: None })
    }

    /// As [`Classifier::driven`], and ready for the kinds of pictures that were seen on a device that is gone.
    async fn driven_for(&self, known: Vec<Known>, finest: Duration) -> Result<Watching> {
        let mut fresh = self.driven_in(finest).await?;
        for (kind, plan) in known {
            match Preparing::make(&fresh.plan, kind, plan).await {
                Ok(made) => fresh.preparing.push_back(made),
                Err(error) if error.is_device_lost() => return Err(error),
                // This device may have no room for what another had; who looks at such a picture again is told.
                Err(_) => {}
            }
        }
        Ok(fresh)
    }
}

impl Watching {
    /// The same with dispatches that take so long, where their kernels can be cut; a fifth of a millisecond otherwise. Half of it is what a budget has
    /// left on average, so a sixth of the smallest budget is a good choice. A picture that is under way is given up.
    ///
    /// # Errors
    /// As [`Classifier::driven`]; it is gone then.
    pub async fn finest(self, finest: Duration) -> Result<Watching> {
        self.course.remember();
        let (classifier, known) = (self.classifier.clone(), self.known());
        // Its temporaries make room for the next.
        drop(self);
        classifier.driven_for(known, finest).await
    }

    /// The kinds of pictures that it can prepare, and how.
    fn known(&self) -> Vec<Known> {
        self.preparing.iter().map(|made| (made.kind, Arc::new(made.plan.plan().clone()))).collect()
    }

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

    /// Makes what [`Watching::look`] needs for pictures of this kind and size, so that the first frames with one do not have to. Where another
    /// device has taken the place of a lost one it goes there first, and gives a picture up that was under way.
    ///
    /// # Errors
    /// As [`Classifier::ready`].
    pub async fn ready<'a>(&mut self, input: impl Into<Input<'a>>) -> Result<()> {
        let input = input.into();
        let classifier = self.classifier.clone();
        let picture = classifier.picture(&input)?;
        let (kind, _) = classifier.fitted(&picture)?;
        if self.plan.gpu().check_alive().is_err() {
            self.course.remember();
            let known = self.known();
            *self = Watching { run: self.run, ..classifier.driven_for(known, self.finest).await? };
        }
        self.making = None;
        if !self.knows(kind) {
            let plan = Arc::new(kind.plan(classifier.preprocess())?);
            self.keep(Preparing::make(&self.plan, kind, plan).await?);
        }
        Ok(())
    }

    /// Whether pictures of a kind can be prepared; it is then the one seen last.
    fn knows(&mut self, kind: PictureKind) -> bool {
        let Some(at) = self.preparing.iter().position(|known| known.kind == kind) else { return false };
        self.preparing.make_contiguous()[..=at].rotate_right(1);
        true
    }

    /// Those seen last are kept.
    fn keep(&mut self, made: Preparing) {
        self.preparing.truncate(KINDS - 1);
        self.preparing.push_front(made);
    }

    /// What prepares pictures of a kind. Where it has to be made that compiles at most one pipeline each time this is called; what another kind has
    /// begun is made first.
    fn prepared(&mut self, kind: PictureKind, budget: &mut Budget) -> Result<Preparing> {
        if let Some((of, making)) = self.making.take() {
            self.make(of, making, budget).or_else(|error| if of == kind { Err(error) } else { Ok(()) })?;
        }
        if !self.knows(kind) {
            if self.making.is_some() {
                return Err(Error::NotReady);
            }
            let (network, plan) = (self.plan.clone(), Arc::new(kind.plan(self.classifier.preprocess())?));
            let making = Loading::new(async move { Preparing::make(&network, kind, plan).await });
            self.make(kind, making, budget)?;
        }
        self.preparing.front().cloned().filter(|made| made.kind == kind).ok_or(Error::NotReady)
    }

    /// Goes on with what prepares pictures of a kind.
    fn make(&mut self, kind: PictureKind, mut making: Loading<Preparing, Error>, budget: &mut Budget) -> Result<()> {
        match making.tick_uploading(budget)? {
            Some(made) => self.keep(made),
            None => self.making = Some((kind, making)),
        }
        Ok(())
    }

    /// Begins with a picture: records its preparation, so that a texture is read in this frame and no other, and what the budget pays
    /// for of the rest. The ticks that follow do what is left. Everything is checked before the first command, and nothing waits.
    ///
    /// # Errors
    /// As [`Classifier::record`]; [`Error::Engine`] with `Busy` while another picture is under way, [`Error::NotReady`] while it moves to
    /// the device that has taken the place of a lost one, and in browsers for some frames of pictures of a kind that [`Watching::ready`] has not
    /// seen. Elsewhere a look compiles what is missing for them, which is one pipeline at most, and none for bytes.
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
        let (kind, bytes) = classifier.fitted(&picture)?;
        let preparing = self.prepared(kind, budget)?;
        let data = picture.data(&kind, bytes.as_deref());
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
            self.course.remember();
            let (classifier, known, finest) = (self.classifier.clone(), self.known(), self.finest);
            self.moving = Some(Box::new(Loading::new(async move { classifier.driven_for(known, finest).await })));
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
    /// [`Error::Engine`] with `Cancelled` when an encoder with a part of it came in another order or was dropped, unless that part can be
    /// recorded again: look again; what else the device says. It is idle afterwards.
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
