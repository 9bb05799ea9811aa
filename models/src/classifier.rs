//! A classifier: a model's files in, the names of what is in a picture out.

mod answer;
mod needs;
mod picture;

pub use answer::{Answer, Prediction};
pub use needs::ClassifierNeeds;
pub(crate) use picture::Picture;

use crate::image_prep::{MAX_TARGET_SIDE, Preprocess, Resize};
use crate::input::{self, Input};
use crate::kept::{Kept, Numbered};
use crate::labels::Labels;
use crate::mobilenet::{Network, Pixels, PlanRequest, Precision, Settings, TensorIndex, recognize};
use crate::prepare::{self, Given, PictureKind};
use crate::source::Source;
use crate::{Error, Result};
use lampyris_engine::gpu::{ConstantStore, Gpu, GpuPlan, InputData};
use lampyris_engine::kernels::image::Area;
use lampyris_engine::kernels::{Desc, Format, HostTensor};
use lampyris_engine::weights::Weights;
use lampyris_engine::{Executor, Plan};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Classes that a plan lists.
const TOP: usize = 5;

/// How to load a classifier.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ClassifierOptions {
    /// How activations are stored.
    pub precision: Precision,
    /// Side of the network's input in pixels, a multiple of 32; what the model's files say when absent.
    pub side: Option<u32>,
}

impl ClassifierOptions {
    /// With this storage of activations.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// With another input size, in pixels; the resize before the crop stays in proportion, from 1 to 8192 pixels.
    pub fn side(mut self, pixels: u32) -> Self {
        self.side = Some(pixels);
        self
    }
}

/// A network on a device, or on the CPU executor. Cheap to clone.
///
/// What a batch needs beside the weights is made when a batch of its size is first given, and kept for the four sizes used last;
/// batches that vary more are best padded to a few sizes. A budget may leave room for fewer.
#[derive(Debug, Clone)]
pub struct Classifier {
    inner: Arc<Inner>,
}

/// How a picture is prepared, and its bytes when it is not a texture.
pub(crate) type Fitted<'a> = (PictureKind, Option<Cow<'a, [u8]>>);

#[derive(Debug)]
struct Inner {
    gpu: Gpu,
    network: Network,
    preprocess: Preprocess,
    labels: Mutex<Arc<Labels>>,
    precision: Precision,
    store: ConstantStore,
    kept: Kept,
}

impl TensorIndex for Weights {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(|info| info.shape.as_slice())
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(Weights::names(self))
    }
}

impl Classifier {
    /// Loads a MobileNet: the weights go to the device, and the kernels are compiled.
    ///
    /// # Errors
    /// Whatever is wrong with the files, with the file, tensor or key; [`Error::Engine`] when the device cannot take it.
    pub async fn load(gpu: &Gpu, source: impl Into<Source>) -> Result<Classifier> {
        Classifier::load_with(gpu, source, ClassifierOptions::default(), |_| ()).await
    }

    /// As [`Classifier::load`], with options, telling `progress` the share of the weights that has arrived, from 0 to 1.
    ///
    /// # Errors
    /// As [`Classifier::load`].
    pub async fn load_with(
        gpu: &Gpu,
        source: impl Into<Source>,
        options: ClassifierOptions,
        progress: impl FnMut(f64),
    ) -> Result<Classifier> {
        Classifier::with_network(gpu, open_network(&source.into())?, options, progress).await
    }

    /// As [`Classifier::load_with`], with what [`open_network`] gave: whoever must not be kept long does other things between.
    ///
    /// # Errors
    /// As [`Classifier::load`].
    pub async fn with_network(
        gpu: &Gpu,
        network: Network,
        options: ClassifierOptions,
        mut progress: impl FnMut(f64),
    ) -> Result<Classifier> {
        let mut preprocess = network.settings().preprocess;
        if let Some(side) = options.side {
            preprocess = resized(preprocess, side)?;
        }
        let feed = network.weights().feed().cloned();
        let inner = Inner {
            gpu: gpu.clone(),
            labels: Mutex::new(Arc::new(network.settings().labels.clone())),
            network,
            preprocess,
            precision: options.precision,
            store: ConstantStore::fed_by(feed),
            kept: Kept::default(),
        };
        let classifier = Classifier { inner: Arc::new(inner) };
        match classifier.bring_there(&mut progress).await {
            Err(error) if classifier.outlives(&error) => classifier.bring_there(&mut progress).await?,
            brought => brought?,
        }
        Ok(classifier)
    }

    /// Brings the weights to the device that is there now, and compiles for one picture.
    async fn bring_there(&self, mut progress: impl FnMut(f64)) -> Result<()> {
        let gpu = self.inner.gpu.alive().await?;
        let plans = self.candidates(1, Pixels::Rgba8)?;
        // A page has its turn while this waits: planning and the first of compiling together would keep its thread for long.
        #[cfg(target_arch = "wasm32")]
        gpu.idle().await?;
        let (total, mut arrived) = (plans[0].bytes().weights.max(1), 0);
        let executor = Executor::fastest(&gpu, plans, &self.inner.store, |bytes| {
            arrived += bytes;
            progress(arrived as f64 / total as f64);
        });
        let executor = executor.await?;
        self.inner.kept.keep_executor(&gpu, 1, Pixels::Rgba8, executor);
        Ok(())
    }

    /// Whether the work that ended in `error` can be done again at once: the device is lost, and the engine opens another.
    fn outlives(&self, error: &Error) -> bool {
        error.is_device_lost() && self.inner.gpu.reopens()
    }

    /// Names the classes by `labels`, one for each class or one for each class after the background.
    ///
    /// # Errors
    /// [`Error::LabelCount`] when the count does not fit.
    pub fn set_labels(&self, file: &str, labels: Vec<String>) -> Result<()> {
        let offset = self.inner.network.settings().label_offset;
        let labels = Labels::fit(file, labels, self.inner.network.spec().classes, offset)?;
        *lock(&self.inner.labels) = Arc::new(labels);
        Ok(())
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.inner.network
    }

    /// The resize, crop and normalization.
    pub fn preprocess(&self) -> &Preprocess {
        &self.inner.preprocess
    }

    pub(crate) fn store(&self) -> &ConstantStore {
        &self.inner.store
    }

    /// The device that it was loaded onto; [`Gpu::current`] of it is the one that has taken its place, if one has.
    pub fn gpu(&self) -> &Gpu {
        &self.inner.gpu
    }

    /// Bytes of weights on the device, once whatever the number of plans.
    pub fn weight_bytes(&self) -> u64 {
        self.inner.store.bytes()
    }

    /// The plan for a batch.
    ///
    /// # Errors
    /// [`Error::Engine`] when a kernel refuses a shape.
    pub fn plan(&self, images: usize, pixels: Pixels) -> Result<Plan> {
        self.plan_with(images, pixels, false)
    }

    fn plan_with(&self, images: usize, pixels: Pixels, fuse_depthwise: bool) -> Result<Plan> {
        let side = self.inner.preprocess.crop as usize;
        let precision = self.inner.precision;
        self.inner.network.plan(PlanRequest { images, side, pixels, precision, top: TOP, fuse_depthwise })
    }

    /// The plans worth timing against each other on this adapter. On software adapters the fused depthwise form measured
    /// slower at every width that matters, and compiling it costs them seconds.
    fn candidates(&self, images: usize, pixels: Pixels) -> Result<Vec<Arc<Plan>>> {
        let mut plans = vec![Arc::new(self.plan(images, pixels)?)];
        if !self.inner.gpu.current().caps().software {
            plans.push(Arc::new(self.plan_with(images, pixels, true)?));
        }
        Ok(plans)
    }

    /// The executor for a batch: one of those used last, or a new one.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub async fn executor(&self, images: usize, pixels: Pixels) -> Result<Executor> {
        Ok(self.numbered(images, pixels).await?.executor)
    }

    /// Keeps what a host has a buffer of.
    pub(crate) fn lend(&self, executor: &Numbered) {
        self.inner.kept.lend(executor);
    }

    pub(crate) async fn numbered(&self, images: usize, pixels: Pixels) -> Result<Numbered> {
        let gpu = self.inner.gpu.alive().await?;
        self.inner.kept.keep_on(&gpu);
        if let Some(kept) = self.inner.kept.executor(images, pixels) {
            return Ok(kept);
        }
        let plans = self.candidates(images, pixels)?;
        let make = || Executor::fastest(&gpu, plans.clone(), &self.inner.store, |_| ());
        let executor = match make().await {
            Err(lampyris_engine::Error::Budget { .. }) => {
                self.inner.kept.make_room(None);
                make().await?
            }
            executor => executor?,
        };
        Ok(self.inner.kept.keep_executor(&gpu, images, pixels, executor))
    }

    /// What is in a picture.
    ///
    /// # Errors
    /// [`Error::PixelBytes`] or [`Error::Crop`] for a picture that is not what it says; [`Error::Engine`] from the device, and
    /// for a texture that it cannot read.
    pub async fn classify<'a>(&self, input: impl Into<Input<'a>>) -> Result<Answer> {
        let input = input.into();
        let mut answers = self.classify_batch(std::slice::from_ref(&input)).await?;
        answers.pop().ok_or_else(|| self.no_answer(1, 0))
    }

    /// What is in each of some pictures, all in one run.
    ///
    /// # Errors
    /// As [`Classifier::classify`].
    pub async fn classify_batch(&self, inputs: &[Input<'_>]) -> Result<Vec<Answer>> {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        match self.classify_there(inputs).await {
            Err(error) if self.outlives(&error) => self.classify_there(inputs).await,
            answers => answers,
        }
    }

    async fn classify_there(&self, inputs: &[Input<'_>]) -> Result<Vec<Answer>> {
        let pictures = inputs.iter().map(|input| self.picture(input)).collect::<Result<Vec<_>>>()?;
        let Numbered { number, executor, .. } = self.numbered(inputs.len(), Pixels::Rgba8).await?;
        let outputs = match &executor {
            Executor::Gpu(plan) => self.run_on_device((plan, number), &pictures).await?,
            _ => {
                let mut words = Vec::new();
                for picture in &pictures {
                    let side = self.inner.preprocess.crop;
                    let prepared = picture.to_crop(&self.inner.preprocess, &self.inner.gpu)?;
                    debug_assert_eq!(prepared.len() as u32, side * side * 4);
                    words.extend(prepare::words(&prepared));
                }
                let side = self.inner.preprocess.crop as usize;
                let desc = Desc::new(Format::Rgba8, [inputs.len(), side, side]);
                executor.run(&[HostTensor::from_words(desc, words)]).await?
            }
        };
        self.answers(&outputs, inputs.len())
    }

    /// What is in pictures that are normalized already: `[images, side, side, 3]` values.
    ///
    /// # Errors
    /// [`Error::Length`] when there are not whole images; [`Error::Engine`] from the device.
    pub async fn classify_normalized(&self, values: &[f32]) -> Result<Vec<Answer>> {
        let side = self.inner.preprocess.crop as usize;
        let images = (values.len() / (side * side * 3)).max(1);
        let desc = Desc::f32([images, side, side, 3]);
        if desc.len() != values.len() {
            let what = "the normalized pixels".to_owned();
            return Err(Error::Length { what, shape: desc.shape, found: values.len() });
        }
        let tensor = [HostTensor::from_values(desc, values)];
        let run = async || Ok(self.executor(images, Pixels::Normalized).await?.run(&tensor).await?);
        let outputs = match run().await {
            Err(error) if self.outlives(&error) => run().await?,
            outputs => outputs?,
        };
        self.answers(&outputs, images)
    }

    /// The vector that the network hands to its head.
    ///
    /// # Errors
    /// As [`Classifier::classify`].
    pub async fn features<'a>(&self, input: impl Into<Input<'a>>) -> Result<Vec<f32>> {
        Ok(self.classify(input).await?.features)
    }

    async fn run_on_device(
        &self,
        (plan, number): (&GpuPlan, u64),
        pictures: &[Picture<'_>],
    ) -> Result<Vec<HostTensor>> {
        let mut given = Vec::with_capacity(pictures.len());
        let mut kinds = Vec::with_capacity(pictures.len());
        for picture in pictures {
            let (kind, bytes) = self.fitted(picture)?;
            kinds.push(kind);
            given.push(bytes);
        }
        let mut plans = Vec::with_capacity(pictures.len());
        for (item, kind) in kinds.iter().enumerate() {
            plans.push(self.preparing(kind, (plan, number), (pictures.len(), item)).await?);
        }
        let given = pictures.iter().zip(kinds.iter().zip(&given));
        let data: Vec<Given<'_>> = given.map(|(picture, (kind, bytes))| picture.data(kind, bytes.as_deref())).collect();
        let before: Vec<(&GpuPlan, &[InputData<'_>])> =
            plans.iter().zip(&data).map(|(plan, data)| (plan, &**data)).collect();
        Ok(plan.submit(&[InputData::Bound], &before)?.wait().await?)
    }

    /// How a picture is prepared on the device: as it is, or, when the device cannot bind so large a picture, resized on the CPU first.
    pub(crate) fn fitted<'a>(&self, picture: &'a Picture<'_>) -> Result<Fitted<'a>> {
        let input::Pixels::Rgba8(bytes) = &picture.input.pixels else {
            return Ok((picture.kind, None));
        };
        let gpu = self.inner.gpu.current();
        let limit = gpu.caps().max_binding_bytes.min(gpu.caps().max_buffer_bytes);
        if bytes.len() as u64 <= limit {
            return Ok((picture.kind, Some(bytes.as_ref().into())));
        }
        let preprocess = &self.inner.preprocess;
        let kind = PictureKind { resized: true, ..PictureKind::whole(Format::Rgba8, [preprocess.crop; 2]) };
        Ok((kind, Some(picture.to_crop(preprocess, &self.inner.gpu)?.into())))
    }

    /// The plan that prepares one picture of a batch, kept for the next of its kind.
    pub(crate) async fn preparing(
        &self,
        kind: &PictureKind,
        (target, number): (&GpuPlan, u64),
        (images, item): (usize, usize),
    ) -> Result<GpuPlan> {
        let key = (*kind, number, item);
        if let Some(plan) = self.inner.kept.preparing(&key) {
            return Ok(plan);
        }
        let preparing = Arc::new(kind.plan(self.preprocess())?);
        let make = || GpuPlan::feeding(target.gpu(), preparing.clone(), target, item);
        let plan = match make().await {
            Err(lampyris_engine::Error::Budget { .. }) => {
                self.inner.kept.make_room(Some(number));
                make().await?
            }
            plan => plan?,
        };
        self.inner.kept.keep_preparing(key, plan.clone(), images);
        Ok(plan)
    }

    pub(crate) fn picture<'a>(&self, input: &'a Input<'a>) -> Result<Picture<'a>> {
        let (format, planes) = match &input.pixels {
            input::Pixels::Rgba8(bytes) => {
                input.check_bytes(bytes.len() as u64, |found, expected| found == expected)?;
                (Format::Rgba8, None)
            }
            #[cfg(not(target_arch = "wasm32"))]
            input::Pixels::Buffer(buffer, _) => {
                input.check_bytes(buffer.size(), |found, expected| found >= expected)?;
                (Format::Rgba8, None)
            }
            input::Pixels::Texture(view, format) => {
                self.inner.gpu.current().check_texture(view, input.width, input.height)?;
                (*format, None)
            }
            input::Pixels::Planes([luma, chroma], yuv) => {
                let (gpu, halves) =
                    (self.inner.gpu.current(), [input.width, input.height].map(|side| side.div_ceil(2)));
                gpu.check_plane(luma, input.width, input.height, Format::TextureLuma.channels())?;
                gpu.check_plane(chroma, halves[0], halves[1], Format::TextureChroma.channels())?;
                (Format::TextureLuma, Some(*yuv))
            }
        };
        let (width, height, turn) = (input.width, input.height, input.turn);
        let Area { x, y, width: wide, height: high } = input.area();
        let kind = PictureKind { format, width, height, part: [wide, high], turn, planes, resized: false };
        kind.check([x, y])?;
        Ok(Picture { input, kind, corner: [x, y] })
    }

    pub(crate) fn answers(&self, outputs: &[HostTensor], pictures: usize) -> Result<Vec<Answer>> {
        let [logits, probabilities, features] = [0, 1, 4].map(|at: usize| outputs.get(at));
        let (Some(logits), Some(probabilities), Some(features)) = (logits, probabilities, features) else {
            return Err(self.no_answer(pictures, 0));
        };
        let labels = lock(&self.inner.labels).clone();
        let split = |tensor: &HostTensor| {
            let values = tensor.values();
            values.chunks((values.len() / pictures.max(1)).max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        let logits = split(logits);
        if logits.iter().flatten().any(|v| !v.is_finite()) {
            return Err(Error::NotFinite { network: self.inner.network.weights().file().to_owned() });
        }
        let rows = logits.into_iter().zip(split(probabilities)).zip(split(features));
        let answer =
            |((logits, probabilities), features)| Answer { logits, probabilities, features, labels: labels.clone() };
        let answers: Vec<Answer> = rows.map(answer).collect();
        if answers.len() == pictures { Ok(answers) } else { Err(self.no_answer(pictures, answers.len())) }
    }

    pub(crate) fn no_answer(&self, pictures: usize, answers: usize) -> Error {
        Error::Answers { network: self.inner.network.weights().file().to_owned(), pictures, answers }
    }
}

/// Opens a model's files and recognizes the network.
///
/// # Errors
/// As [`Classifier::load`].
pub fn open_network(source: &Source) -> Result<Network> {
    let (weights, said) = source.open()?;
    let spec = recognize(weights.file(), &weights, said.architecture)?;
    let settings = Settings::new(&said, &spec)?;
    Ok(Network::new(spec, settings, weights))
}

/// `preprocess` for another input size, its resize in proportion.
fn resized(preprocess: Preprocess, side: u32) -> Result<Preprocess> {
    if side == 0 || !side.is_multiple_of(32) || side > MAX_TARGET_SIDE {
        return Err(Error::Unsupported {
            file: "the options".to_owned(),
            key: "side".to_owned(),
            found: side.to_string(),
            instead: "an input side is a multiple of 32 from 32 to 8192",
        });
    }
    let resize = match preprocess.resize {
        Resize::Shorter(pixels) => {
            let pixels = u64::from(pixels) * u64::from(side) / u64::from(preprocess.crop.max(1));
            Resize::Shorter(pixels.clamp(1, MAX_TARGET_SIDE.into()) as u32)
        }
        Resize::Exact { .. } => Resize::Exact { width: side, height: side },
        Resize::Keep => Resize::Keep,
    };
    Ok(Preprocess { resize, crop: side, ..preprocess })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
