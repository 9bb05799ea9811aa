//! What computes a prompt chunk by chunk: in submits of bounded time on a device, by the twins elsewhere; in large chunks while enough of
//! it is left to fill them.

use super::{Decoder, SessionOptions};
use crate::Result;
use lampyris_engine::Executor;
use lampyris_engine::gpu::{AdapterKind, GpuPlan, Paced};
use lampyris_engine::kernels::HostTensor;
use std::task::Poll;
use std::time::Duration;

/// Bytes that runs of more than [`Decoder::CHUNK`] tokens may compute unless such runs were asked for, those of all sessions of a batch
/// together: what a session may take beside weights and cache is 64 MiB.
pub(super) const MOST_BYTES: u64 = 40 << 20;

/// Most tokens of a prompt's run on an adapter of this kind unless asked otherwise. Steps are not cut in browsers, so there a large run might
/// hold the device for too long; software adapters keep the size that their kernels were measured with.
pub(super) fn usual(kind: AdapterKind) -> usize {
    match kind {
        _ if cfg!(target_arch = "wasm32") => Decoder::CHUNK,
        AdapterKind::Software | AdapterKind::CpuExecutor => Decoder::CHUNK,
        AdapterKind::Discrete => SessionOptions::LARGEST_CHUNK,
        _ => SessionOptions::LARGEST_CHUNK / 4,
    }
}

/// Tokens of the plans of a prompt, fewest first, in a session with room for `context` whose runs have up to `most`: the least, and where
/// that is more, a quarter of the most and the most.
pub(super) fn sizes(most: usize, context: usize) -> Vec<usize> {
    let most = most.min(context);
    let larger = [most / 4, most].into_iter().filter(|tokens| *tokens > Decoder::CHUNK);
    [Decoder::CHUNK.min(context)].into_iter().chain(larger).collect()
}

/// How many of `left` tokens the next run takes: those of the largest plan that they fill to three quarters, or of the smallest.
pub(super) fn share(sizes: &[usize], left: usize) -> usize {
    let filled = sizes.iter().rev().find(|tokens| 4 * left >= 3 * **tokens);
    left.min(filled.or(sizes.first()).copied().unwrap_or(1))
}

/// The plan for a run of `count` tokens: the smallest that takes them.
pub(super) fn plan_for(sizes: &[usize], count: usize) -> usize {
    sizes.iter().position(|tokens| count <= *tokens).unwrap_or_default()
}

/// What computes a prompt: for each size of its runs a plan, the smallest first.
#[derive(Debug)]
pub(super) struct Prefill {
    sizes: Vec<usize>,
    plans: Vec<Chunks>,
}

impl Prefill {
    /// `executors` are of runs of as many tokens as `sizes` says.
    pub(super) fn new(sizes: Vec<usize>, executors: Vec<Executor>, budget: Duration) -> Prefill {
        let plans = executors.into_iter().map(|executor| Chunks::new(executor, budget)).collect();
        Prefill { sizes, plans }
    }

    /// Bounds the submits from now on by another time.
    pub(super) fn bound(&mut self, budget: Duration) {
        for chunks in &mut self.plans {
            if let Chunks::Paced(paced) = chunks {
                paced.bound(budget);
            }
        }
    }

    /// Tokens of each plan's runs.
    pub(super) fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// What runs each plan.
    pub(super) fn executors(&self) -> Vec<Executor> {
        self.plans.iter().map(Chunks::executor).collect()
    }

    /// The plans, where they are a device's.
    pub(super) fn gpu_plans(&self) -> Vec<GpuPlan> {
        let plan = |chunks: &Chunks| if let Chunks::Paced(paced) = chunks { Some(paced.plan().clone()) } else { None };
        self.plans.iter().filter_map(plan).collect()
    }

    /// Submits a run of `count` tokens from number `first` on.
    pub(super) async fn run(&mut self, first: usize, count: usize) -> Result<()> {
        let next = plan_for(&self.sizes, count);
        for (at, chunks) in self.plans.iter_mut().enumerate() {
            // What one plan has on its way the other does not count.
            if let Chunks::Paced(paced) = chunks
                && at != next
            {
                paced.settled().await?;
            }
        }
        match self.plans.get_mut(next) {
            Some(chunks) => chunks.run(first + count).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Waits for all runs, and gives the longest that a submit of theirs took since this was last asked.
    pub(super) async fn longest(&mut self) -> Result<Option<Duration>> {
        let mut longest = None;
        for chunks in &mut self.plans {
            if let Chunks::Paced(paced) = chunks {
                longest = longest.max(paced.longest().await?);
            }
        }
        Ok(longest)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_fills_large_chunks_and_the_rest_goes_in_small_ones() {
        let runs = |sizes: &[usize], tokens: usize| {
            let (mut left, mut runs) = (tokens, Vec::new());
            while left > 0 {
                let count = share(sizes, left);
                runs.push(count);
                left -= count;
            }
            runs
        };
        let all = sizes(512, 4096);
        assert_eq!(all, [32, 128, 512]);
        assert_eq!(runs(&all, 1111), [512, 512, 32, 32, 23]);
        assert_eq!(runs(&all, 1408), [512, 512, 384]);
        assert_eq!(runs(&all, 511), [511]);
        assert_eq!(runs(&all, 383), [128, 128, 127]);
        assert_eq!(runs(&all, 95), [32, 32, 31]);
        assert_eq!(runs(&all, 1), [1]);
        assert_eq!(runs(&[32], 70), [32, 32, 6]);
        assert_eq!(runs(&[5], 4), [4]);
    }

    #[test]
    fn no_run_is_larger_than_the_context_or_than_asked() {
        for (most, context, found) in [
            (32, 4096, [32].as_slice()),
            (128, 4096, &[32, 128]),
            (256, 4096, &[32, 64, 256]),
            (512, 20, &[20]),
            (512, 100, &[32, 100]),
            (512, 300, &[32, 75, 300]),
        ] {
            assert_eq!(sizes(most, context), found);
        }
    }

    /// What is computed again on another device knows the tokens of each run, and finds the plan that ran them, in one run again.
    #[test]
    fn a_run_has_one_plan_which_it_fills_to_three_quarters() {
        for most in 32..=512 {
            let sizes = sizes(most, 512);
            for left in 1..=600 {
                let count = share(&sizes, left);
                let plan = sizes[plan_for(&sizes, count)];
                let filled = plan == Decoder::CHUNK || 4 * count >= 3 * plan;
                assert!((1..=plan).contains(&count) && filled, "{left} of {sizes:?}: {count} by {plan}");
                assert_eq!(share(&sizes, count), count, "{left} of {sizes:?}");
            }
        }
    }

    #[test]
    fn gpus_take_large_runs_and_programs_that_act_as_one_do_not() {
        use AdapterKind::{CpuExecutor, Discrete, Integrated, Software, Unknown, Virtual};
        let kinds = [Discrete, Integrated, Virtual, Unknown, Software, CpuExecutor];
        assert_eq!(kinds.map(usual), [512, 128, 128, 128, 32, 32]);
    }
}
