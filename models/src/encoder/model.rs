//! An encoder with its weights on a device, and the runs that a list of sequences is cut into.

use super::network::{self, EncoderPlan};
use super::pooling::{Modules, read_pooling};
use super::weights::Tensors;
use super::{EncoderConfig, EncoderFiles, Pooled};
use crate::{Error, Result};
use lampyris_engine::gpu::{ConstantStore, InputData, Pending};
use lampyris_engine::kernels::text::{
    SPAN_WORDS, push_spans_of_rows, push_spans_of_sequences, spans_desc, spans_of_rows, spans_of_sequences,
};
use lampyris_engine::kernels::{Desc, Format, HostTensor};
use lampyris_engine::weights::TensorFile;
use lampyris_engine::{Executor, Gpu, Plan};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tokens of a run, unless one sequence alone has more.
const RUN_ROWS: usize = 512;

/// Sequences of a run, at most.
const RUN_SEQUENCES: usize = 64;

/// Runs that are submitted before the result of the first is waited for.
const AHEAD: usize = 2;

/// Executors that are kept, each for a number of tokens: those used last.
const KEPT: usize = 4;

/// How to load an encoder.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct EncoderOptions {
    /// Matrices that the file stores in 32 bits are held in 16, which halves their bytes; others stay as they are.
    pub half: bool,
}

impl EncoderOptions {
    /// With matrices of 32 bits held in 16, or not.
    pub fn half(mut self, half: bool) -> Self {
        self.half = half;
        self
    }
}

/// A network that makes one vector of a sequence of tokens. Cheap to clone; clones share the weights.
#[derive(Debug, Clone)]
pub struct TokenEncoder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    gpu: Gpu,
    tensors: Tensors,
    pooled: Pooled,
    store: ConstantStore,
    /// Those used last, the latest at the end.
    kept: Mutex<Vec<(EncoderPlan, Executor)>>,
    /// The words of the sequence that was recorded last, whose memory the next one takes.
    words: Mutex<Vec<u32>>,
}

impl TokenEncoder {
    /// Checks the files; the weights go to the device with the first run, or with [`TokenEncoder::load`].
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::Config`] or [`Error::Unsupported`] for the small files; [`Error::Incomplete`] for the weights.
    pub fn new(gpu: &Gpu, files: EncoderFiles, options: EncoderOptions) -> Result<TokenEncoder> {
        let (config, pooled) = match &files.weights {
            TensorFile::Gguf(gguf) => EncoderConfig::of_gguf(gguf)?,
            _ => {
                let config = EncoderConfig::read("config.json", files.config.as_deref().unwrap_or_default())?;
                let pooled = pooled(&files, config.hidden)?;
                (config, pooled)
            }
        };
        let tensors = Tensors::new(files.weights, config, options.half)?;
        let (gpu, store) = (gpu.clone(), ConstantStore::fed_by(tensors.feed()));
        let (kept, words) = (Mutex::default(), Mutex::default());
        Ok(TokenEncoder { inner: Arc::new(Inner { gpu, tensors, pooled, store, kept, words }) })
    }

    /// Brings the weights to the device and compiles the kernels, telling `progress` the bytes of weights that have arrived, and all of
    /// them.
    ///
    /// # Errors
    /// [`Error::Engine`] when the device cannot take them.
    pub async fn load(&self, mut progress: impl FnMut(u64, u64)) -> Result<()> {
        match self.load_there(&mut progress).await {
            Err(error) if self.outlives(&error) => self.load_there(&mut progress).await,
            loaded => loaded,
        }
    }

    async fn load_there(&self, mut progress: impl FnMut(u64, u64)) -> Result<()> {
        let gpu = self.inner.gpu.alive().await?;
        let request = request(1);
        let plan = Arc::new(self.plan(request)?);
        let (total, mut arrived) = (plan.bytes().weights, 0);
        let executor = Executor::new(&gpu, plan, &self.inner.store, |bytes| {
            arrived += bytes;
            progress(arrived, total);
        });
        let executor = executor.await?;
        self.keep(request, executor);
        Ok(())
    }

    /// The description.
    pub fn config(&self) -> &EncoderConfig {
        self.inner.tensors.config()
    }

    /// What is made of the rows of a sequence.
    pub fn pooled(&self) -> Pooled {
        self.inner.pooled
    }

    /// The device that it was made for; [`Gpu::current`] of it is the one that has taken its place, if one has.
    pub fn gpu(&self) -> &Gpu {
        &self.inner.gpu
    }

    /// Values of an embedding.
    pub fn dimension(&self) -> usize {
        self.config().hidden
    }

    /// Bytes of weights, once whatever the number of plans.
    pub fn weight_bytes(&self) -> u64 {
        self.inner.store.bytes()
    }

    /// The plan of a run.
    ///
    /// # Errors
    /// [`Error::Engine`] when a kernel refuses a shape.
    pub fn plan(&self, request: EncoderPlan) -> Result<Plan> {
        let gpu = self.inner.gpu.current();
        let caps = gpu.caps();
        let limit = caps.max_binding_bytes.min(caps.max_buffer_bytes);
        network::plan(&self.inner.tensors, self.inner.pooled, request, limit)
    }

    /// The embedding of each sequence, computed in as few runs as hold them. An empty sequence gives zeros.
    ///
    /// # Errors
    /// [`Error::Context`] for a sequence that is too long and [`Error::Token`] for a token that the network does not know, both before
    /// anything is computed; [`Error::NotFinite`] when an embedding has values that are no numbers; [`Error::Engine`] from the device.
    pub async fn embed(&self, sequences: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        sequences.iter().try_for_each(|sequence| self.config().check(sequence))?;
        match self.embed_there(sequences).await {
            Err(error) if self.outlives(&error) => self.embed_there(sequences).await,
            embeddings => embeddings,
        }
    }

    /// Whether the work that ended in `error` can be done again at once: the device is lost, and the engine opens another.
    fn outlives(&self, error: &Error) -> bool {
        error.is_device_lost() && self.inner.gpu.reopens()
    }

    async fn embed_there(&self, sequences: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let mut found = Vec::with_capacity(sequences.len());
        let mut under_way = VecDeque::with_capacity(AHEAD + 1);
        for run in runs(&lengths) {
            let request = request(lengths[run.clone()].iter().sum());
            let executor = match self.executor(request).await {
                Err(Error::Engine(lampyris_engine::Error::Budget { .. })) => {
                    self.collect(&mut under_way, 0, &mut found).await?;
                    self.kept().clear();
                    self.executor(request).await?
                }
                executor => executor?,
            };
            let (inputs, count) = (inputs(&sequences[run.clone()], request), run.len());
            match &executor {
                Executor::Gpu(plan) => {
                    let words: Vec<InputData<'_>> = inputs.iter().map(|t| InputData::Words(&t.words)).collect();
                    under_way.push_back((plan.submit(&words, &[])?, count));
                    self.collect(&mut under_way, AHEAD, &mut found).await?;
                }
                other => self.take(&other.run(&inputs).await?, count, &mut found)?,
            }
        }
        self.collect(&mut under_way, 0, &mut found).await?;
        Ok(found)
    }

    /// What the last layer makes of each token of one sequence, `[tokens, hidden]` row by row.
    ///
    /// # Errors
    /// As [`TokenEncoder::embed`].
    pub async fn rows(&self, sequence: &[u32]) -> Result<Vec<f32>> {
        self.config().check(sequence)?;
        let request = EncoderPlan { rows: bucket(sequence.len()), sequences: None };
        let executor = self.executor(request).await?;
        let outputs = executor.run(&inputs(&[sequence.to_vec()], request)).await?;
        let mut values = outputs.first().map(HostTensor::values).unwrap_or_default();
        values.truncate(sequence.len() * self.dimension());
        self.finite(&values)?;
        Ok(values)
    }

    fn finite(&self, values: &[f32]) -> Result<()> {
        let finite = values.iter().all(|value| value.is_finite());
        if finite { Ok(()) } else { Err(Error::NotFinite { network: self.inner.tensors.file().to_owned() }) }
    }

    /// Adds the first `count` rows of a run's embeddings to those found.
    pub(super) fn take(&self, outputs: &[HostTensor], count: usize, found: &mut Vec<Vec<f32>>) -> Result<()> {
        let values = outputs.first().map(HostTensor::values).unwrap_or_default();
        for row in values.chunks_exact(self.dimension()).take(count) {
            self.finite(row)?;
            found.push(row.to_vec());
        }
        Ok(())
    }

    /// Waits until at most `left` runs are under way.
    async fn collect(
        &self,
        under_way: &mut VecDeque<(Pending, usize)>,
        left: usize,
        found: &mut Vec<Vec<f32>>,
    ) -> Result<()> {
        while under_way.len() > left {
            let Some((pending, count)) = under_way.pop_front() else { break };
            self.take(&pending.wait().await?, count, found)?;
        }
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(EncoderPlan, Executor)>> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `take` the inputs of a run of one sequence; takes no memory of its own after the longest.
    pub(super) fn with_inputs<T>(
        &self,
        sequence: &[u32],
        request: EncoderPlan,
        take: impl FnOnce([&[u32]; 3]) -> T,
    ) -> T {
        let mut words = self.inner.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.clear();
        words.extend(sequence);
        words.resize(request.rows, 0);
        push_spans_of_rows(&mut words, &[sequence.len()], request.rows);
        push_spans_of_sequences(&mut words, &[sequence.len()], request.sequences.unwrap_or(0));
        let (tokens, spans) = words.split_at(request.rows);
        let (of_rows, of_sequences) = spans.split_at(request.rows * SPAN_WORDS);
        take([tokens, of_rows, of_sequences])
    }

    /// Keeps an executor as the one used last.
    fn keep(&self, request: EncoderPlan, executor: Executor) {
        let mut kept = self.kept();
        kept.retain(|(known, _)| *known != request);
        kept.push((request, executor));
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    pub(super) async fn executor(&self, request: EncoderPlan) -> Result<Executor> {
        let gpu = self.inner.gpu.alive().await?;
        self.kept().retain(|(_, executor)| executor.is_on(&gpu));
        let known = self.kept().iter().find(|(known, _)| *known == request).map(|(_, executor)| executor.clone());
        let executor = match known {
            Some(executor) => executor,
            None => {
                let plan = Arc::new(self.plan(request)?);
                Executor::new(&gpu, plan, &self.inner.store, |_| ()).await?
            }
        };
        self.keep(request, executor.clone());
        Ok(executor)
    }
}

/// What the small files say of the rows of a text, for a network of `hidden` columns.
fn pooled(files: &EncoderFiles, hidden: usize) -> Result<Pooled> {
    let Some(bytes) = &files.modules else { return Ok(Pooled::default()) };
    let modules = Modules::read("modules.json", bytes)?;
    let file = format!("{}/config.json", modules.pooling);
    let file = file.trim_start_matches('/');
    let Some(bytes) = &files.pooling else { return Err(Error::Missing { path: file.to_owned() }) };
    Ok(Pooled { pooling: read_pooling(file, bytes, hidden)?, normalize: modules.normalize })
}

/// The size that a run of so many tokens gets, so that a few plans serve all: a power of two from 8 on, or one and a half of it.
fn bucket(rows: usize) -> usize {
    let power = rows.max(8).next_power_of_two();
    if rows.max(8) <= power / 4 * 3 { power / 4 * 3 } else { power }
}

/// The plan of a run of so many tokens.
pub(super) fn request(rows: usize) -> EncoderPlan {
    let rows = bucket(rows);
    EncoderPlan { rows, sequences: Some(rows.min(RUN_SEQUENCES)) }
}

/// Cuts sequences of these lengths into runs, in their order.
fn runs(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut rows = 0;
    for (at, length) in lengths.iter().enumerate() {
        match runs.last_mut() {
            // No more sequences than the plan for so many tokens takes.
            Some(run) if rows + length <= RUN_ROWS && run.len() < RUN_SEQUENCES.min(bucket(rows + length)) => {
                rows += length;
                run.end = at + 1;
            }
            _ => {
                rows = *length;
                runs.push(at..at + 1);
            }
        }
    }
    runs
}

/// The inputs of a run: tokens, where each row's sequence lies, and where each sequence does.
fn inputs(sequences: &[Vec<u32>], request: EncoderPlan) -> Vec<HostTensor> {
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let mut tokens = sequences.concat();
    tokens.resize(request.rows, 0);
    let spans = spans_of_rows(&lengths, request.rows);
    let mut inputs = vec![
        HostTensor::from_words(Desc::new(Format::Word, [request.rows]), tokens),
        HostTensor::from_words(spans_desc(request.rows), spans),
    ];
    inputs.extend(
        request.sequences.map(|count| HostTensor::from_words(spans_desc(count), spans_of_sequences(&lengths, count))),
    );
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_holds_its_sequences_and_wastes_at_most_a_third() {
        for rows in 0..5000 {
            let size = bucket(rows);
            assert!(
                size >= rows.max(8) && size.is_multiple_of(4) && (rows < 9 || 2 * size <= 3 * rows),
                "{rows}: {size}"
            );
        }
        let mixed: Vec<usize> = (0..1000).map(|i| (i * i + 7) % 300).collect();
        for lengths in [vec![], vec![0; 200], vec![1; 200], vec![600, 1, 2, 511], vec![512, 0, 0], mixed] {
            let mut next = 0;
            for run in runs(&lengths) {
                assert_eq!(run.start, next);
                next = run.end;
                let rows: usize = lengths[run.clone()].iter().sum();
                assert!(
                    run.len() <= request(rows).sequences.unwrap() && (rows <= RUN_ROWS || run.len() == 1),
                    "{run:?}"
                );
            }
            assert_eq!(next, lengths.len());
        }
        assert_eq!(runs(&[600, 1, 2, 511]), [0..1, 1..3, 3..4]);
    }
}
