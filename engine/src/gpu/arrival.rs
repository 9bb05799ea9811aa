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

/// What the host's encoder holds of recorded commands, whether it is submitted or not.
pub(super) struct Signal {
    mailbox: Mailbox<Arrival>,
    told: bool,
}

impl Signal {
    pub(super) fn new(mailbox: Mailbox<Arrival>) -> Signal {
        Signal { mailbox, told: false }
    }

    pub(super) fn tell(mut self, mapped: bool) {
        self.told = true;
        self.mailbox.put(if mapped { Arrival::Mapped } else { Arrival::Failed });
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        if !self.told {
            self.mailbox.put(Arrival::Dropped);
        }
    }
}
