//! What may still be uploaded and compiled in this tick: set on a thread while a [`Loading`](super::Loading) is polled there, and asked by
//! whatever loads on that thread meanwhile, onto whichever device. Nobody else is held back.

use std::cell::Cell;
use std::task::Poll;

/// Bytes of a piece of an upload.
pub(super) const PIECE: u64 = 128 << 10;

/// What loading may still do before it has to wait for the next tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) bytes: u64,
    pub(super) pipelines: u64,
    /// The next piece goes on even if there is not enough left.
    pub(super) first: bool,
    /// One has done so.
    pub(super) ahead: bool,
}

thread_local! {
    static PACE: Cell<Option<Pace>> = const { Cell::new(None) };
}

/// The time in which a pace holds for this thread. It ends with this, also where what was polled has panicked.
#[derive(Debug)]
pub(super) struct Turn {
    before: Option<Pace>,
}

impl Turn {
    pub(super) fn begin(pace: Pace) -> Turn {
        Turn { before: PACE.replace(Some(pace)) }
    }

    /// What is left of the pace.
    pub(super) fn left(&self) -> Option<Pace> {
        PACE.get()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        PACE.set(self.before);
    }
}

pub(super) fn is_set() -> bool {
    PACE.get().is_some()
}

/// Goes on once this many bytes may be uploaded.
pub(super) async fn bytes(bytes: u64) {
    // Whatever comes first in a tick goes on, if its budget is untouched, and uses all of it where it is more than there is.
    when(|pace| {
        let first = std::mem::take(&mut pace.first);
        let paid = take(&mut pace.bytes, bytes);
        if first && !paid {
            (pace.bytes, pace.ahead) = (0, true);
        }
        paid || first
    })
    .await;
}

/// Goes on once a pipeline may be compiled.
pub(super) async fn pipeline() {
    when(|pace| take(&mut pace.pipelines, 1)).await;
}

async fn when(may: impl Fn(&mut Pace) -> bool) {
    std::future::poll_fn(|context| {
        let Some(mut pace) = PACE.get() else { return Poll::Ready(()) };
        let goes_on = may(&mut pace);
        PACE.set(Some(pace));
        if goes_on {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn take(from: &mut u64, wanted: u64) -> bool {
    let left = from.checked_sub(wanted);
    *from = left.unwrap_or(*from);
    left.is_some()
}
