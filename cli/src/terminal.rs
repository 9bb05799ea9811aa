//! How text is laid out for people: emphasis where the terminal shows it, and lines that end before its edge.

use std::io::IsTerminal;

/// What the terminal behind stdout shows. Elsewhere, as in a pipe, everything is plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether words may be bold or dim.
    emphasis: bool,
    /// Whether pictures can be drawn with braille characters.
    pub(crate) draws: bool,
}

impl Style {
    /// Asks stdout and the environment: `NO_COLOR`, `TERM` and the locale.
    pub(crate) fn of_stdout() -> Style {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        Style::of(std::io::stdout().is_terminal(), cfg!(windows), variable)
    }

    fn of(terminal: bool, windows: bool, variable: impl Fn(&str) -> String) -> Style {
        let term = variable("TERM");
        // Windows' older console shows neither; what sets these does.
        let modern = !windows || !variable("WT_SESSION").is_empty() || !term.is_empty();
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(&variable).into_iter().find(|value| !value.is_empty());
        let unicode = locale.is_some_and(|value| {
            let value = value.to_lowercase();
            value.contains("utf-8") || value.contains("utf8")
        });
        Style {
            emphasis: terminal && modern && term != "dumb" && variable("NO_COLOR").is_empty(),
            // The kernel's own console has no such characters.
            draws: terminal && modern && (unicode || windows) && !["linux", "dumb"].contains(&term.as_str()),
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.emphasis { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text that comes in pieces, broken into lines between words, with a margin of two spaces.
#[derive(Debug)]
pub(crate) struct Wrapped {
    width: usize,
    /// Characters of the line so far; 0 where none is begun.
    column: usize,
    /// Spaces that stand before the next word.
    spaces: usize,
    /// The word that has begun and may go on with the next piece.
    word: String,
}

impl Wrapped {
    const MARGIN: usize = 2;

    /// Lines of at most `width` characters; a longer word has a line of its own.
    pub(crate) fn new(width: usize) -> Wrapped {
        Wrapped { width, column: 0, spaces: 0, word: String::new() }
    }

    /// What can be shown once `piece` is there: all words that have ended.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        let mut shown = String::new();
        for c in piece.chars() {
            match c {
                '\n' => {
                    shown += &self.finish();
                    shown.push('\n');
                    (self.column, self.spaces) = (0, 0);
                }
                c if c.is_whitespace() => {
                    shown += &self.finish();
                    self.spaces += 1;
                }
                c => self.word.push(c),
            }
        }
        shown
    }

    /// The word that was begun last.
    pub(crate) fn finish(&mut self) -> String {
        let word = std::mem::take(&mut self.word);
        let length = word.chars().count();
        if length == 0 {
            return word;
        }
        let spaces = std::mem::take(&mut self.spaces);
        let fresh = self.column == 0;
        if !fresh && self.column + spaces + length <= self.width {
            self.column += spaces + length;
            return format!("{}{word}", " ".repeat(spaces));
        }
        self.column = Wrapped::MARGIN + length;
        format!("{}{}{word}", if fresh { "" } else { "\n" }, " ".repeat(Wrapped::MARGIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(terminal: bool, windows: bool, variables: &[(&str, &str)]) -> (bool, bool) {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
        let style = Style::of(terminal, windows, |name| value(name).to_owned());
        (style.emphasis, style.draws)
    }

    #[test]
    fn plain_where_nobody_looks_or_nobody_wants_it() {
        let usual = [("TERM", "xterm-256color"), ("LANG", "en_GB.UTF-8")];
        assert_eq!(style(true, false, &usual), (true, true));
        assert_eq!(style(false, false, &usual), (false, false));
        assert_eq!(style(true, false, &[("TERM", "xterm"), ("LANG", "C.utf8"), ("NO_COLOR", "1")]), (false, true));
        assert_eq!(style(true, false, &[("TERM", "xterm"), ("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]), (true, false));
        assert_eq!(style(true, false, &[("TERM", "linux"), ("LANG", "en_GB.UTF-8")]), (true, false));
        assert_eq!(style(true, false, &[("TERM", "dumb"), ("LANG", "en_GB.UTF-8")]), (false, false));
        assert_eq!(style(true, true, &[]), (false, false));
        assert_eq!(style(true, true, &[("WT_SESSION", "1")]), (true, true));
        let bold = Style { emphasis: false, draws: false }.bold("a");
        assert_eq!(bold, "a");
    }

    /// The text that comes of pieces.
    fn wrapped(width: usize, pieces: &[&str]) -> String {
        let mut page = Wrapped::new(width);
        let mut text: String = pieces.iter().map(|piece| page.push(piece)).collect();
        text += &page.finish();
        text
    }

    #[test]
    fn lines_end_between_words_wherever_the_pieces_do() {
        let whole = wrapped(12, &["Once upon a time there was"]);
        assert_eq!(whole, "  Once upon\n  a time\n  there was");
        assert_eq!(wrapped(12, &["On", "ce up", "on a ti", "me", " there was"]), whole);
        assert_eq!(wrapped(9, &["a\n\nextraordinary b"]), "  a\n\n  extraordinary\n  b");
        assert_eq!(wrapped(80, &["two  spaces "]), "  two  spaces");
        assert_eq!(wrapped(80, &["", " "]), "");
    }
}
