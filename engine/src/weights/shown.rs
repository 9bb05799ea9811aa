//! Prints what a file holds so that it can neither flood nor steer a terminal.

use std::fmt;

/// At most this many characters of a name, and of a parser's reason, are printed.
const SHOWN_CHARS: usize = 160;
/// At most this many dimensions of a shape are printed.
const SHOWN_DIMS: usize = 8;

/// A string out of a file, escaped, shortened and quoted.
pub(super) struct Shown<'a>(pub(super) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", shortened(self.0))
    }
}

/// A shape as `[3, 224, 224]`, shortened.
pub(super) struct Dims<'a>(pub(super) &'a [u64]);

impl fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.0.iter().take(SHOWN_DIMS).enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{dim}")?;
        }
        if self.0.len() > SHOWN_DIMS {
            write!(f, ", ... {} dimensions", self.0.len())?;
        }
        f.write_str("]")
    }
}

/// `text` with everything unprintable escaped and a long tail left out.
pub(super) fn shortened(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(SHOWN_CHARS) {
        match c {
            '"' | '\'' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}
