//! What an output of a classifier is called, whether or not the network counts a background class before the first label.

use crate::error::{Error, Result};

/// The labels of a network with a known number of classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    names: Vec<String>,
    offset: usize,
    classes: usize,
}

/// What the outputs before the first label are called.
const BACKGROUND: &str = "background";

impl Labels {
    /// Fits a list of labels to a network with `classes` outputs.
    ///
    /// With as many labels as classes, each output has its own label (a list of 1001 that names the background itself, for
    /// example). With `offset` fewer, the outputs before the first label are the background. `source` names the list in errors.
    ///
    /// # Errors
    /// [`Error::LabelCount`] if neither holds.
    pub fn fit(source: &str, names: Vec<String>, classes: usize, offset: usize) -> Result<Self> {
        if names.len() == classes {
            return Ok(Self { names, offset: 0, classes });
        }
        if names.len().checked_add(offset) == Some(classes) {
            return Ok(Self { names, offset, classes });
        }
        Err(Error::LabelCount { file: source.to_owned(), labels: names.len(), classes, offset })
    }

    /// Labels for a network that came with none: `class 0`, `class 1`, ... as counted after the offset.
    pub fn numbered(classes: usize, offset: usize) -> Self {
        let names = (0..classes.saturating_sub(offset)).map(|class| format!("class {class}")).collect();
        Self { names, offset: offset.min(classes), classes }
    }

    /// The label of an output; `None` if the network has no such output.
    pub fn get(&self, index: usize) -> Option<&str> {
        if index >= self.classes {
            return None;
        }
        match index.checked_sub(self.offset) {
            Some(position) => self.names.get(position).map(String::as_str),
            None => Some(BACKGROUND),
        }
    }

    /// How many outputs the network has.
    pub fn classes(&self) -> usize {
        self.classes
    }
}

/// Reads a label file: UTF-8 text with one label on each line, in the order of the classes.
///
/// A byte order mark, carriage returns and empty lines at the end are passed over. `file` names it in errors.
///
/// # Errors
/// [`Error::LabelLine`] for text that is not UTF-8, an empty line between labels (it would shift every label after it) and a
/// file without any label.
pub fn parse_labels(file: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let wrong = |line: usize, problem: &'static str| Error::LabelLine { file: file.to_owned(), line, problem };
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.iter().take(error.valid_up_to()).filter(|&&byte| byte == b'\n').count();
        wrong(before + 1, "not UTF-8")
    })?;
    let labels: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    if labels.is_empty() {
        return Err(wrong(1, "no label at all"));
    }
    match labels.iter().position(String::is_empty) {
        Some(position) => Err(wrong(position + 1, "an empty line")),
        None => Ok(labels),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first thing that is not as expected")]

    use super::*;

    fn three() -> Vec<String> {
        ["tench", "goldfish", "white shark"].map(str::to_owned).to_vec()
    }

    #[test]
    fn lines_are_labels() {
        assert_eq!(parse_labels("l.txt", b"tench\r\ngoldfish\nwhite shark\n\n").unwrap(), three());
        assert_eq!(parse_labels("l.txt", "\u{feff}tench\ngoldfish\n white shark".as_bytes()).unwrap(), three());
    }

    #[test]
    fn bad_lines_are_named() {
        let line = |bytes: &[u8]| match parse_labels("l.txt", bytes).unwrap_err() {
            Error::LabelLine { file, line, problem } => (file, line, problem),
            other => panic!("{other}"),
        };
        assert_eq!(line(b"tench\n\ngoldfish\n"), ("l.txt".to_owned(), 2, "an empty line"));
        assert_eq!(line(b"tench\ngold\xff\n"), ("l.txt".to_owned(), 2, "not UTF-8"));
        assert_eq!(line(b" \n\n"), ("l.txt".to_owned(), 1, "no label at all"));
        assert_eq!(line(b""), ("l.txt".to_owned(), 1, "no label at all"));
    }

    #[test]
    fn offset_shifts_labels() {
        let labels = Labels::fit("l.txt", three(), 4, 1).unwrap();
        assert_eq!(
            (labels.get(0), labels.get(1), labels.get(3), labels.get(4)),
            (Some("background"), Some("tench"), Some("white shark"), None)
        );
        let labels = Labels::fit("l.txt", three(), 3, 1).unwrap();
        assert_eq!((labels.get(0), labels.get(2), labels.get(3)), (Some("tench"), Some("white shark"), None));
    }

    #[test]
    fn wrong_counts_say_the_figures() {
        let message = Labels::fit("l.txt", three(), 5, 1).unwrap_err().to_string();
        assert!(message.contains("l.txt has 3 labels for 5 classes with a label offset of 1"), "{message}");
        assert!(matches!(Labels::fit("l.txt", three(), 4, 0), Err(Error::LabelCount { .. })));
        assert!(matches!(Labels::fit("l.txt", three(), 2, usize::MAX), Err(Error::LabelCount { .. })));
    }

    #[test]
    fn without_labels_outputs_are_numbered() {
        let labels = Labels::numbered(3, 1);
        assert_eq!(
            (labels.get(0), labels.get(1), labels.get(2), labels.get(3)),
            (Some("background"), Some("class 0"), Some("class 1"), None)
        );
        assert_eq!(Labels::numbered(1, 5).get(0), Some("background"));
    }
}
