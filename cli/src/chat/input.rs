//! What a person types: lines, one by one, of bounded length, and Ctrl-C.

use crate::output;
use std::io::{BufRead, Read, Result};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The longest line that is taken, in bytes.
const MOST_LINE: u64 = 16 << 20;

/// The next line without its end; the reason where it cannot be taken; `None` when the input has ended.
pub(super) fn line(input: &mut impl BufRead) -> Result<Option<std::result::Result<String, String>>> {
    let mut bytes = Vec::new();
    if input.by_ref().take(MOST_LINE + 1).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    let whole = bytes.last() == Some(&b'\n');
    if !whole && bytes.len() as u64 > MOST_LINE {
        input.skip_until(b'\n')?;
        return Ok(Some(Err(format!("a line of more than {MOST_LINE} bytes was passed over"))));
    }
    if whole {
        bytes.pop();
    }
    Ok(Some(String::from_utf8(bytes).map_err(|_| "a line that is no UTF-8 text was passed over".to_owned())))
}

/// How often Ctrl-C was pressed since the last answer began or ended.
#[derive(Debug, Default)]
pub(super) struct Presses {
    answering: AtomicBool,
    count: AtomicUsize,
}

impl Presses {
    /// An answer begins, or has ended.
    pub(super) fn answering(&self, answering: bool) {
        self.answering.store(answering, Ordering::SeqCst);
        self.count.store(0, Ordering::SeqCst);
    }

    /// Whether the answer is to end.
    pub(super) fn stopped(&self) -> bool {
        self.answering.load(Ordering::SeqCst) && self.count.load(Ordering::SeqCst) > 0
    }

    /// Ctrl-C was pressed. Ends the program at the second press while no answer is written. While one is, a press ends that; a step that
    /// takes long, as those of the CPU executor may, is not waited for by whoever presses three times.
    pub(super) fn press(&self) {
        let answering = self.answering.load(Ordering::SeqCst);
        match (answering, self.count.fetch_add(1, Ordering::SeqCst)) {
            (true, 0) => {}
            (true, 1) => output::note("the answer ends after the step under way; Ctrl-C once more ends the program"),
            (false, 0) => output::note("Ctrl-C once more ends the program, and so does /quit"),
            _ => std::process::exit(130),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;

    #[test]
    fn lines_that_cannot_be_taken_are_passed_over_whole() {
        let long = vec![b'a'; MOST_LINE as usize];
        let bytes = [b"one\n\xff\xfe\n", &long[..], b"\n", &long[..], b"ab\nlast"].concat();
        let mut input = &bytes[..];
        let mut next = || line(&mut input).unwrap();
        assert_eq!(next(), Some(Ok("one".to_owned())));
        assert!(next().unwrap().unwrap_err().contains("UTF-8"));
        assert_eq!(next().unwrap().unwrap().len(), long.len());
        assert!(next().unwrap().unwrap_err().contains("more than"));
        assert_eq!((next(), next()), (Some(Ok("last".to_owned())), None));
    }

    #[test]
    fn a_press_stops_only_an_answer() {
        let presses = Presses::default();
        presses.press();
        assert!(!presses.stopped());
        presses.answering(true);
        assert!(!presses.stopped());
        presses.press();
        presses.press();
        assert!(presses.stopped());
        presses.answering(false);
        assert!(!presses.stopped());
    }
}
