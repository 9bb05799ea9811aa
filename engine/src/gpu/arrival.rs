//! How it is heard what became of commands in a host's encoder: their result arrives, or they are dropped with the callback they hold.

use super::poll::Mailbox;

/// What became of recorded commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Their result can be read.
    Mapped,
    /// The device refused to give it.
    Failed,
    /// They were dropped.
    Dropped,
}

/// Who hears of it.
pub(super) trait Hears {
    fn hear(&self, arrival: Arrival);
}

impl Hears for Mailbox<Arrival> {
    fn hear(&self, arrival: Arrival) {
        self.put(arrival);
    }
}

/// What the host's encoder holds of recorded commands, whether it is submitted or not.
pub(super) struct Signal<H: Hears> {
    hears: H,
    told: bool,
}

impl<H: Hears> Signal<H> {
    pub(super) fn new(hears: H) -> Signal<H> {
        Signal { hears, told: false }
    }

    pub(super) fn tell(mut self, mapped: bool) {
        self.told = true;
        self.hears.hear(if mapped { Arrival::Mapped } else { Arrival::Failed });
    }
}

impl<H: Hears> Drop for Signal<H> {
    fn drop(&mut self) {
        if !self.told {
            self.hears.hear(Arrival::Dropped);
        }
    }
}
