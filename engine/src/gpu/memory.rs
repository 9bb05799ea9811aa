//! The account of GPU memory: what plans and constants hold of a device, and what a budget leaves.

use crate::plan::PlanBytes;
use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are held of one device, and the most that may be. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Account {
    held: Arc<AtomicU64>,
    budget: Option<u64>,
}

/// Some bytes of an account, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    account: Account,
    bytes: u64,
}

impl Account {
    pub(super) fn new(budget: Option<u64>) -> Account {
        Account { held: Arc::default(), budget }
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Refuses what the budget does not leave room for, without taking it.
    pub(super) fn check(&self, wanted: PlanBytes) -> Result<()> {
        self.after(self.held(), wanted).map(|_| ())
    }

    /// Takes bytes, all or none of them.
    pub(super) fn take(&self, wanted: PlanBytes) -> Result<Held> {
        let mut held = self.held();
        loop {
            let after = self.after(held, wanted)?;
            match self.held.compare_exchange_weak(held, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(Held { account: self.clone(), bytes: wanted.total() }),
                Err(now) => held = now,
            }
        }
    }

    /// What would be held in all.
    fn after(&self, held: u64, wanted: PlanBytes) -> Result<u64> {
        let (needed, after) = (wanted.total(), held.saturating_add(wanted.total()));
        match self.budget {
            Some(budget) if after > budget => {
                let PlanBytes { weights, activations, states, params } = wanted;
                Err(Error::Budget { needed, weights, activations: activations + params, states, held, budget })
            }
            _ => Ok(after),
        }
    }
}

impl Held {
    /// Splits off `bytes`, or as many as there are.
    pub(super) fn split(&mut self, bytes: u64) -> Held {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Held { account: self.account.clone(), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(weights: u64, activations: u64) -> PlanBytes {
        PlanBytes { weights, activations, states: 0, params: 0 }
    }

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let account = Account::new(Some(100));
        let mut first = account.take(bytes(50, 20)).unwrap();
        let weights = first.split(50);
        assert_eq!(account.held(), 70);
        account.check(bytes(30, 0)).unwrap();
        let error = account.take(bytes(0, 31)).unwrap_err();
        let right = matches!(error, Error::Budget { needed: 31, activations: 31, held: 70, budget: 100, .. });
        assert!(right, "{error:?}");
        drop(first);
        assert_eq!(account.held(), 50);
        drop(weights);
        drop(account.take(bytes(0, 100)).unwrap());
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn threads_together_never_take_more_than_the_budget() {
        let account = Account::new(Some(10));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Ok(held) = account.take(bytes(0, 3)) {
                            assert!(account.held() <= 10);
                            drop(held);
                        }
                    }
                });
            }
        });
        assert_eq!(account.held(), 0);
    }
}
