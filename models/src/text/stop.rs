//! Strings that end an answer, found although they arrive in pieces.

/// Holds text back while it may be the beginning of a stop string.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stops {
    stops: Vec<String>,
    held: String,
}

impl Stops {
    /// `stops` are not empty texts.
    pub(crate) fn new(stops: Vec<String>) -> Stops {
        Stops { stops, held: String::new() }
    }

    /// Takes the next piece; gives what can be shown, and whether a stop string has come. It and what follows are never shown.
    pub(crate) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            let mut shown = std::mem::take(&mut self.held);
            shown.truncate(at);
            return (shown, true);
        }
        let at = possible_start(&self.held, &self.stops);
        let rest = self.held.split_off(at);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The text that was held back, when no more comes.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The first byte from which `text` could be the beginning of one of `marks`; its length if none could begin in it.
pub(super) fn possible_start<T: AsRef<str>>(text: &str, marks: &[T]) -> usize {
    let begins = |at: &usize| marks.iter().any(|mark| mark.as_ref().starts_with(&text[*at..]));
    text.char_indices().map(|(at, _)| at).find(begins).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of a text that comes in `pieces`, and whether it was stopped.
    fn shown(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut stops = Stops::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut all = String::new();
        for piece in pieces {
            let (text, stopped) = stops.push(piece);
            all += &text;
            if stopped {
                return (all, true);
            }
        }
        (all + &stops.finish(), false)
    }

    #[test]
    fn a_stop_string_is_found_however_it_is_cut() {
        let text = "Ünder the séa. END of it";
        let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for first in &cuts {
            for second in cuts.iter().filter(|second| *second >= first) {
                let pieces = [&text[..*first], &text[*first..*second], &text[*second..]];
                assert_eq!(shown(&["END"], &pieces), ("Ünder the séa. ".into(), true), "{pieces:?}");
                assert_eq!(shown(&["of", "séa"], &pieces), ("Ünder the ".into(), true), "{pieces:?}");
                assert_eq!(shown(&["ENDE", "it!"], &pieces), (text.into(), false), "{pieces:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_stop_string_is_shown_at_once() {
        let mut stops = Stops::new(vec!["\n\nQ:".into()]);
        assert_eq!(stops.push("one\n"), ("one".into(), false));
        assert_eq!(stops.push("two\n\n"), ("\ntwo".into(), false));
        assert_eq!(stops.push("\nQ"), ("\n".into(), false));
        assert_eq!(stops.push(": x"), (String::new(), true));
    }
}
