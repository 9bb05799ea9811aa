//! Files that somebody else fetches: a reader asks for a range and fails while it is not there, and is asked again once it is.
//!
//! Everything that reads weights is synchronous, because a memory map is. Where bytes come by promises, as in a browser, a read of
//! bytes that are not there notes what it wanted and fails; [`Feed::until_there`] waits for it and tries again. No tensor is held
//! twice, and no more is held than the work in hand has touched and a window before it.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::ByteSource;

/// Least bytes that are asked for at once: tensors that lie together are small and many. Not many more either, because what is made of
/// them is made in one go, on the thread that draws a page.
const LEAST: u64 = 512 << 10;

/// Bytes that are kept beside those that the work in hand has touched.
const WINDOW: u64 = 16 << 20;

/// The files of one model, fetched by range. Cheap to clone; clones share what is there.
#[derive(Debug, Clone, Default)]
pub struct Feed {
    state: Arc<Mutex<State>>,
}

/// One file of a [`Feed`].
#[derive(Debug, Clone)]
pub struct FedFile {
    feed: Feed,
    file: usize,
    size: u64,
}

/// What a reader waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wanted {
    /// The file, by the order in which [`Feed::file`] was called.
    pub file: usize,
    /// The bytes.
    pub range: Range<u64>,
}

#[derive(Debug, Default)]
struct State {
    sizes: Vec<u64>,
    pieces: Vec<Piece>,
    wanted: Option<Wanted>,
    /// Whether somebody fetches what is wanted.
    under_way: bool,
    failure: Option<String>,
    waiting: Vec<Waker>,
    /// The work in hand, by number.
    work: u64,
}

#[derive(Debug)]
struct Piece {
    file: usize,
    start: u64,
    bytes: Vec<u8>,
    /// The work that touched it last.
    touched: u64,
}

impl Feed {
    /// No file yet.
    pub fn new() -> Feed {
        Feed::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a file of `size` bytes.
    pub fn file(&self, size: u64) -> FedFile {
        let mut state = self.state();
        state.sizes.push(size);
        FedFile { feed: self.clone(), file: state.sizes.len() - 1, size }
    }

    /// What is wanted and not yet under way; it is under way from now on. [`supply`](Self::supply) or [`fail`](Self::fail) answers.
    pub fn take_wanted(&self) -> Option<Wanted> {
        let mut state = self.state();
        if state.under_way {
            return None;
        }
        state.under_way = state.wanted.is_some();
        state.wanted.clone()
    }

    /// Hands over the bytes that [`take_wanted`](Self::take_wanted) gave the range of. Fewer or more of them are a failure.
    pub fn supply(&self, wanted: &Wanted, bytes: Vec<u8>) {
        let expected = wanted.range.end - wanted.range.start;
        if bytes.len() as u64 != expected {
            let (start, found) = (wanted.range.start, bytes.len());
            return self.fail(format!("{found} bytes came for the {expected} from byte {start} on"));
        }
        let mut state = self.state();
        let touched = state.work;
        // What the work in hand has touched stays, so that every attempt gets further; of the rest the oldest goes.
        let mut spare: u64 = state.pieces.iter().filter(|p| p.touched < touched).map(|p| p.bytes.len() as u64).sum();
        state.pieces.retain(|piece| {
            let goes = piece.touched < touched && spare > WINDOW;
            spare -= if goes { piece.bytes.len() as u64 } else { 0 };
            !goes
        });
        state.pieces.push(Piece { file: wanted.file, start: wanted.range.start, bytes, touched });
        state.settle();
    }

    /// Says that what is wanted will not come; everything that waits for this feed fails.
    pub fn fail(&self, reason: String) {
        let mut state = self.state();
        state.failure = Some(reason);
        state.settle();
    }

    /// Forgets a failure, and all bytes with it: the next attempt fetches anew. Without a failure nothing changes.
    pub fn reset(&self) {
        let mut state = self.state();
        if state.failure.take().is_some() {
            (state.wanted, state.under_way) = (None, false);
            state.pieces.clear();
        }
    }

    /// Lets go of all bytes; what is read again is fetched again.
    pub fn forget(&self) {
        self.state().pieces.clear();
    }

    /// Bytes that are there.
    pub fn held(&self) -> u64 {
        self.state().pieces.iter().map(|piece| piece.bytes.len() as u64).sum()
    }

    /// Tries again as often as bytes arrive that an attempt was lacking, and gives the first result that lacks none.
    ///
    /// # Errors
    /// The attempt's own; of a feed that has [failed](Self::fail), that of the attempt which lacked something.
    pub async fn until_there<T, E>(&self, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        loop {
            {
                // An attempt before this one may have been given up with its bytes on their way.
                let mut state = self.state();
                (state.wanted, state.under_way) = (None, false);
            }
            let result = attempt();
            let lacked = self.state().wanted.is_some();
            if result.is_ok() || !lacked {
                self.state().work += 1;
                return result;
            }
            if !self.arrival().await {
                return result;
            }
        }
    }

    /// Waits until what is wanted has come; whether it has.
    fn arrival(&self) -> impl Future<Output = bool> + '_ {
        std::future::poll_fn(|context| {
            let mut state = self.state();
            match (&state.failure, &state.wanted) {
                (Some(_), _) => Poll::Ready(false),
                (None, None) => Poll::Ready(true),
                (None, Some(_)) => {
                    state.waiting.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

impl State {
    /// Ends what was wanted and wakes who waits for it.
    fn settle(&mut self) {
        (self.wanted, self.under_way) = (None, false);
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl FedFile {
    /// The piece that has all of `range`, touched; or what is wanted is noted.
    fn find<'a>(&self, state: &'a mut State, range: &Range<u64>) -> io::Result<&'a Piece> {
        if range.start > range.end || range.end > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(reason) = &state.failure {
            return Err(io::Error::other(reason.clone()));
        }
        let has =
            |p: &Piece| p.file == self.file && p.start <= range.start && range.end <= p.start + p.bytes.len() as u64;
        let Some(at) = state.pieces.iter().position(has) else {
            let end = range.end.max(range.start.saturating_add(LEAST)).min(self.size);
            state.wanted = Some(Wanted { file: self.file, range: range.start..end });
            return Err(io::ErrorKind::WouldBlock.into());
        };
        state.pieces[at].touched = state.work;
        Ok(&state.pieces[at])
    }
}

impl ByteSource for FedFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        if range.is_empty() && range.end <= self.size {
            return Ok(Cow::Borrowed(&[]));
        }
        let mut state = self.feed.state();
        let piece = self.find(&mut state, &range)?;
        let (from, to) = (range.start - piece.start, range.end - piece.start);
        Ok(Cow::Owned(piece.bytes[from as usize..to as usize].to_vec()))
    }

    fn expect(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.find(&mut self.feed.state(), &range).map(|_| ())
    }

    fn feed(&self) -> Option<&Feed> {
        Some(&self.feed)
    }
}
