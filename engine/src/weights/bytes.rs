//! Where a file's bytes come from: memory, a memory map, or a source that hands out one range at a time.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use super::Feed;

/// The bytes of one file, by range.
///
/// Everything that is bytes already (`Vec<u8>`, `Arc<[u8]>`, `&'static [u8]`, a memory map) is one. A source that fetches
/// ranges from elsewhere implements [`size`](Self::size) and [`read`](Self::read) and leaves [`whole`](Self::whole) alone.
pub trait ByteSource: Send + Sync {
    /// Bytes of the file.
    fn size(&self) -> u64;

    /// The bytes in `range`, as many as it is long.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] for a range beyond the end, and whatever keeps the source from reading.
    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>>;

    /// The whole file, if it lies in memory.
    fn whole(&self) -> Option<&[u8]> {
        None
    }

    /// Says that `range` is about to be read in parts, so that a source that fetches it does so at once.
    ///
    /// # Errors
    /// As [`read`](Self::read), where that would fail.
    fn expect(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    /// What fetches the bytes that [`read`](Self::read) lacks, if they come later.
    fn feed(&self) -> Option<&Feed> {
        None
    }
}

impl<T: AsRef<[u8]> + Send + Sync> ByteSource for T {
    fn size(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let ends = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let found = ends.and_then(|(start, end)| self.as_ref().get(start..end));
        found.map(Cow::Borrowed).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn whole(&self) -> Option<&[u8]> {
        Some(self.as_ref())
    }
}
