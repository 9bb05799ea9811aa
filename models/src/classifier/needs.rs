//! What a classifier will take, known from the shapes of its tensors before a weight is read or anything is allocated.

use super::{Classifier, ClassifierOptions, TOP, open_network, resized};
use crate::Result;
use crate::image_prep::Preprocess;
use crate::mobilenet::{Pixels, PlanRequest};
use crate::prepare::PictureKind;
use crate::source::Source;
use lampyris_engine::Plan;
use lampyris_engine::gpu::Course;
use lampyris_engine::kernels::Format;
use lampyris_engine::plan::PlanBytes;

/// What a [`Classifier`] takes on the device, in bytes. Where two forms of the network are timed against each other, this is the larger
/// one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClassifierNeeds {
    /// Pictures of a run.
    pub images: usize,
    /// Weights, shared by all runs.
    pub weights: u64,
    /// What the run computes, its inputs and its parameters.
    pub work: u64,
    /// What resizes the pictures that [`ClassifierNeeds::pictures`] was told of; nothing before.
    pub preparing: u64,
    /// Where recorded runs put their inputs and results, as far as [`ClassifierNeeds::recorded()`] was asked for it.
    pub recorded: u64,
    /// The temporaries of a [`Watching`](crate::Watching), the buffers of its ticks and of its pictures, as far as [`ClassifierNeeds::driven()`]
    /// was asked for them.
    pub driven: u64,
    /// Where the pieces begin that its ticks cut long steps into, likewise; the most that it may be.
    pub cut: u64,
    /// The largest tensor: its name and its bytes. It has to fit a binding.
    pub largest: (String, u64),
    /// The plan of the run.
    pub plan: Plan,
    preprocess: Preprocess,
    /// What resizes one of the pictures, and what that takes in recorded runs.
    one_preparing: u64,
    slots: u64,
    /// Temporaries for one picture, and what ticks of such a run take.
    one: u64,
    ticks: PlanBytes,
}

impl ClassifierNeeds {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.weights + self.work + self.preparing + self.recorded + self.driven + self.cut
    }

    /// With what resizes pictures of so many pixels, each given as bytes; one given as a texture takes no more. Each further size
    /// in use at the same time takes its own, and this counts one.
    ///
    /// # Errors
    /// [`Error::Crop`](crate::Error::Crop) for a picture without pixels, and those of sizes beyond what is resized.
    pub fn pictures(mut self, width: u32, height: u32) -> Result<ClassifierNeeds> {
        let plan = self.preparing_plan(width, height)?;
        self.one_preparing = plan.bytes().total();
        self.preparing = self.images as u64 * self.one_preparing;
        self.slots = plan.recorded_bytes();
        let (recorded, driven) = (self.recorded > 0, self.driven > 0);
        self = if recorded { self.recorded() } else { self };
        Ok(if driven { self.driven() } else { self })
    }

    /// With the buffers of recorded runs, of which up to four may be under way; `record` makes them as they are needed. Pictures that are
    /// given as bytes lie in them too: [`ClassifierNeeds::pictures`] says how large those are.
    #[must_use]
    pub fn recorded(mut self) -> ClassifierNeeds {
        self.recorded = self.plan.recorded_bytes() + self.slots;
        self
    }

    /// With what [`Classifier::driven`] takes beside the classifier: temporaries of its own, what resizes its pictures, of which
    /// [`ClassifierNeeds::pictures`] says how large they are, and the buffers of its ticks.
    #[must_use]
    pub fn driven(mut self) -> ClassifierNeeds {
        // A classifier that was made for other numbers of pictures makes a run for one first. Of four recorded pictures one is under way.
        let temporaries = if self.images == 1 { self.one } else { 2 * self.one };
        self.driven = temporaries + self.one_preparing + self.slots / 4 + self.ticks.activations;
        self.cut = self.ticks.params;
        self
    }

    fn preparing_plan(&self, width: u32, height: u32) -> Result<Plan> {
        PictureKind::whole(Format::Rgba8, [width, height]).plan(&self.preprocess)
    }
}

impl From<&ClassifierNeeds> for PlanBytes {
    fn from(needs: &ClassifierNeeds) -> PlanBytes {
        let activations = needs.work + needs.preparing + needs.recorded + needs.driven;
        PlanBytes { weights: needs.weights, activations, params: needs.cut, ..PlanBytes::default() }
    }
}

impl Classifier {
    /// What [`Classifier::load`] of this source will take, for one picture at a time. Only headers and configuration are read, no device is
    /// needed, and nothing is allocated on one.
    ///
    /// # Errors
    /// Whatever is wrong with the files, as [`Classifier::load`] has it.
    pub fn needs(source: impl Into<Source>) -> Result<ClassifierNeeds> {
        Classifier::needs_with(source, ClassifierOptions::default(), 1)
    }

    /// As [`Classifier::needs`], with options, for so many pictures in a run.
    ///
    /// # Errors
    /// As [`Classifier::needs`].
    pub fn needs_with(source: impl Into<Source>, options: ClassifierOptions, images: usize) -> Result<ClassifierNeeds> {
        let network = open_network(&source.into())?;
        let mut preprocess = network.settings().preprocess;
        if let Some(side) = options.side {
            preprocess = resized(preprocess, side)?;
        }
        let form = |images: usize, fuse_depthwise: bool| -> Result<Plan> {
            let (side, precision) = (preprocess.crop as usize, options.precision);
            network.plan(PlanRequest { images, side, pixels: Pixels::Rgba8, precision, top: TOP, fuse_depthwise })
        };
        let work = |plan: &Plan| plan.bytes().total() - plan.bytes().weights;
        let single = [form(1, false)?, form(1, true)?];
        let one = single.iter().map(work).max().unwrap_or_default();
        let ticks = single.iter().map(|plan| Course::bytes([plan], 0)).max_by_key(|bytes| bytes.total());
        let (plain, fused) = (form(images, false)?, form(images, true)?);
        let plan = if fused.bytes().total() > plain.bytes().total() { fused } else { plain };
        let largest = plan.tensors.iter().max_by_key(|tensor| tensor.desc.bytes());
        let largest = largest.map(|tensor| (tensor.name.clone(), tensor.desc.bytes())).unwrap_or_default();
        let bytes = plan.bytes();
        Ok(ClassifierNeeds {
            images,
            weights: bytes.weights,
            work: work(&plan),
            preparing: 0,
            recorded: 0,
            driven: 0,
            cut: 0,
            largest,
            plan,
            preprocess,
            one_preparing: 0,
            slots: 0,
            one,
            ticks: ticks.unwrap_or_default(),
        })
    }
}
