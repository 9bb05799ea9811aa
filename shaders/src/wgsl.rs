//! The text of a shader. That of the linked variants is stored as numbers of lines: hundreds of variants have a few thousand lines
//! between them, and whole they would be most of a program for browsers.

use std::borrow::Cow;
use std::sync::OnceLock;

/// Every line of the linked variants, once.
const LINES: &str = include_str!(concat!(env!("OUT_DIR"), "/lines.txt"));

/// A complete shader in WGSL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wgsl(Stored);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stored {
    Whole(&'static str),
    /// Which lines, one after another: how far each lies from the one after the line before it.
    Lines(&'static [i16]),
}

impl Wgsl {
    /// A shader of somebody's own.
    pub const fn new(text: &'static str) -> Wgsl {
        Wgsl(Stored::Whole(text))
    }

    /// A shader that the build validated before it took it apart.
    pub(crate) const fn linked(lines: &'static [i16]) -> Wgsl {
        Wgsl(Stored::Lines(lines))
    }

    /// Whether it is one of this crate's.
    pub(crate) fn is_linked(self) -> bool {
        matches!(self.0, Stored::Lines(_))
    }

    /// The text.
    pub fn text(self) -> Cow<'static, str> {
        static TABLE: OnceLock<Vec<&str>> = OnceLock::new();
        let lines = match self.0 {
            Stored::Whole(text) => return Cow::Borrowed(text),
            Stored::Lines(lines) => lines,
        };
        let table = TABLE.get_or_init(|| LINES.split('\n').collect());
        let mut next = 0_usize;
        let text = lines.iter().flat_map(|step| {
            let line = next.wrapping_add_signed(isize::from(*step));
            next = line + 1;
            [table[line], "\n"]
        });
        Cow::Owned(text.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linked_text_is_what_the_build_wrote_line_by_line() {
        for source in crate::all().iter().flat_map(|entry| entry.sources) {
            let file = format!("{}/{}.{}.wgsl", env!("OUT_DIR"), source.kernel, source.label);
            assert_eq!(source.wgsl.text(), std::fs::read_to_string(&file).unwrap(), "{file}");
            assert!(source.wgsl.is_linked());
        }
        assert!(!Wgsl::new("fn main() {}").is_linked());
    }
}
