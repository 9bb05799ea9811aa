//! Models that are loaded only when a host ticks them.

use crate::tick::{Driven, Progress, Tick};
use crate::{Error, Result};
use lampyris_engine::gpu::{self, Budget, CommandEncoder};
use std::convert::Infallible;

/// A model, or whatever else a future loads, in the gaps between frames.
///
/// ```no_run
/// # fn example(gpu: lampyris_engine::Gpu) {
/// use lampyris_models::{Classifier, Loading};
/// let loading = Loading::new(async move { Classifier::load(&gpu, "mobilenet_v3_small/").await });
/// # let _ = loading;
/// # }
/// ```
#[derive(Debug)]
pub struct Loading<T>(gpu::Loading<T, Error>);

impl<T> Loading<T> {
    /// Whatever `future` loads, onto whichever device. It is polled by ticks alone.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(future: impl Future<Output = Result<T>> + Send + 'static) -> Loading<T> {
        Loading(gpu::Loading::new(future))
    }

    /// Whatever `future` loads, onto whichever device. It is polled by ticks alone.
    #[cfg(target_arch = "wasm32")]
    pub fn new(future: impl Future<Output = Result<T>> + 'static) -> Loading<T> {
        Loading(gpu::Loading::new(future))
    }

    /// Uploads what the budget pays for, and compiles at most one pipeline; see [`gpu::Loading::tick`]. Nothing is recorded.
    ///
    /// # Errors
    /// Those of what is loaded. It is idle afterwards.
    pub fn load(&mut self, budget: &mut Budget) -> Result<Tick<Infallible, T>> {
        if !self.0.has_work() {
            return Ok(Tick::Idle);
        }
        Ok(self.0.tick(budget)?.map_or(Tick::Working(Progress::default()), Tick::Done))
    }
}

impl<T> Driven for Loading<T> {
    type Piece = Infallible;
    type Done = T;

    fn tick(&mut self, _encoder: &mut CommandEncoder, budget: &mut Budget) -> Result<Tick<Infallible, T>> {
        self.load(budget)
    }

    fn has_work(&self) -> bool {
        self.0.has_work()
    }
}
