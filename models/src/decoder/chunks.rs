//! What computes a prompt chunk by chunk: in submits of bounded time on a device, by the twins elsewhere.

use crate::Result;
use lampyris_engine::Executor;
use lampyris_engine::gpu::Paced;
use lampyris_engine::kernels::HostTensor;
use std::task::Poll;
use std::time::Duration;

/// What computes a prompt chunk by chunk.
#[derive(Debug)]
pub(super) enum Chunks {
    /// In submits of bounded time.
    Paced(Box<Paced>),
    /// By the twins.
    Whole(Executor),
}

impl Chunks {
    pub(super) fn new(executor: Executor, budget: Duration) -> Chunks {
        match executor {
            Executor::Gpu(plan) => Chunks::Paced(Box::new(Paced::new(&plan, budget))),
            other => Chunks::Whole(other),
        }
    }

    /// What runs a chunk.
    pub(super) fn executor(&self) -> Executor {
        match self {
            Chunks::Paced(paced) => Executor::Gpu(paced.plan().clone()),
            Chunks::Whole(executor) => executor.clone(),
        }
    }

    /// Submits a chunk, after which the first `positions` of the cache are in use, and gives its outputs once they have come where there are
    /// any.
    pub(super) async fn run(&mut self, positions: usize) -> Result<Vec<HostTensor>> {
        match self {
            Chunks::Paced(paced) => match paced.run(positions).await? {
                Some(pending) => Ok(pending.wait().await?),
                None => Ok(Vec::new()),
            },
            Chunks::Whole(executor) => {
                let outputs = executor.run(&[]).await?;
                breathe().await;
                Ok(outputs)
            }
        }
    }
}

/// Hands control back once, so that whoever drives the future can give it up: the twins never wait for anything.
async fn breathe() {
    let mut handed = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut handed, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
