//! How much memory there is for a model: what the user allows, and what the machine has where the adapter works in its memory.

use lampyris::Gpu;
use serde::Serialize;
use sysinfo::System;

/// What a model's bytes are held against.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Room {
    /// Bytes that `--budget` allows on a device; nothing holds the CPU executor to it.
    budget: Option<u64>,
    /// Bytes that the machine can give now, where the adapter has none of its own. The others do not tell what they have.
    memory_bytes: Option<u64>,
    #[serde(skip)]
    on_cpu: bool,
}

impl Room {
    pub(super) fn of(gpu: &Gpu) -> Room {
        let on_cpu = gpu.is_cpu_executor();
        Room {
            budget: gpu.options().budget.filter(|_| !on_cpu),
            memory_bytes: gpu.caps().shared_memory.then(available).flatten(),
            on_cpu,
        }
    }

    /// Whether as many bytes may be taken and are there, as far as is known.
    pub(super) fn holds(&self, bytes: u64) -> bool {
        self.reasons(bytes).next().is_none()
    }

    /// Why not.
    pub(super) fn reasons(&self, bytes: u64) -> impl Iterator<Item = String> {
        let over = |most: &u64| bytes > *most;
        let budget = self.budget.filter(over).map(|most| format!("{bytes} bytes are needed, and the budget is {most}"));
        let memory = self.memory_bytes.filter(over);
        let memory = memory.map(|free| format!("{bytes} bytes are needed, and this machine has {free} bytes left"));
        budget.into_iter().chain(memory)
    }

    /// Whether a model fits that `reasons` speak against: not known where nothing does and nobody says how much there is.
    pub(super) fn verdict(&self, reasons: &[String]) -> Option<bool> {
        let known = self.budget.is_some() || self.memory_bytes.is_some();
        if reasons.is_empty() { known.then_some(true) } else { Some(false) }
    }

    /// What can be said of a model in another format that nothing speaks against.
    pub(super) fn promise(&self) -> &'static str {
        if self.verdict(&[]).is_some() { "it would" } else { "the adapter can bind it" }
    }

    /// The same in a few words, for people who are about to fetch it.
    #[cfg(feature = "pull")]
    pub(super) fn summary(&self) -> String {
        match (self.budget, self.memory_bytes) {
            (Some(budget), _) => format!("it fits the budget of {budget} bytes"),
            (None, Some(free)) => format!("it fits the {free} bytes that this machine has left"),
            (None, None) => "the adapter can bind all of it; how much memory it has, adapters do not tell".to_owned(),
        }
    }

    /// What there is, for people.
    pub(super) fn lines(&self) -> String {
        let budget = match self.budget {
            Some(budget) => format!("  budget    {budget:>14} bytes\n"),
            None if self.on_cpu => {
                "  budget               none: on the CPU executor nothing is held to one\n".to_owned()
            }
            None => "  budget               none: --budget BYTES sets a bound\n".to_owned(),
        };
        let memory = match self.memory_bytes {
            Some(free) => format!("  memory    {free:>14} bytes left on this machine, in which the adapter works\n"),
            None => "  memory               not known: adapters do not tell theirs\n".to_owned(),
        };
        budget + &memory
    }
}

/// Bytes that no program uses, in a container no more than that may have; `None` where the system does not say. What only caches files counts as free, for
/// the system gives it to whoever asks.
fn available() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let unused = system.total_memory().saturating_sub(system.used_memory());
    let free = Some(system.available_memory().min(unused)).filter(|bytes| *bytes > 0)?;
    let container = system.cgroup_limits().map(|limits| limits.total_memory.saturating_sub(limits.rss));
    Some(container.unwrap_or(free).min(free))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;

    #[test]
    fn both_what_is_allowed_and_what_is_there_bound_a_model() {
        let said = |budget: Option<u64>, memory_bytes: Option<u64>| {
            let room = Room { budget, memory_bytes, on_cpu: false };
            let reasons: Vec<String> = room.reasons(100).collect();
            assert_eq!(room.holds(100), reasons.is_empty());
            (room.verdict(&reasons), reasons)
        };
        assert_eq!(said(None, None), (None, vec![]));
        assert_eq!(said(Some(100), None), (Some(true), vec![]));
        assert_eq!(said(None, Some(100)), (Some(true), vec![]));
        let (fits, reasons) = said(None, Some(99));
        assert_eq!((fits, reasons.len()), (Some(false), 1));
        assert!(reasons[0].contains("100 bytes") && reasons[0].contains("99 bytes left"), "{reasons:?}");
        let (fits, reasons) = said(Some(98), Some(99));
        assert_eq!((fits, reasons.len()), (Some(false), 2));
        assert_eq!(said(Some(98), Some(200)).0, Some(false));
    }

    #[test]
    fn the_machine_says_what_it_has() {
        assert!(available().unwrap() > 1 << 24);
    }
}
