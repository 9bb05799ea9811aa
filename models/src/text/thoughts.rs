//! The thoughts that some models write before an answer, between `<think>` and `</think>`, told apart from it as they come.

use super::stop::possible_start;

const BEGIN: &str = "<think>";
const END: &str = "</think>";

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Whether it belongs to a thought.
    pub thought: bool,
    /// Text, without the tags.
    pub text: String,
}

/// Splits an answer into the thought that it begins with, if it does, and the rest.
///
/// A tag further on is text: a model may well talk about it.
#[derive(Debug, Clone)]
pub struct Thoughts {
    state: State,
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space has come.
    Start,
    /// The tag, and nothing but white space behind it.
    Opened,
    Thought,
    /// White space behind the thought.
    Between,
    Answer,
}

impl Thoughts {
    /// For an answer that begins in a thought when `open`: some templates write the first tag themselves. See
    /// [`ChatTemplate::opens_thought`](super::ChatTemplate::opens_thought).
    pub fn new(open: bool) -> Thoughts {
        Thoughts { state: if open { State::Opened } else { State::Start }, held: String::new() }
    }

    /// Takes the next piece of the answer and gives the parts that are certain with it.
    pub fn push(&mut self, piece: &str) -> Vec<Part> {
        self.held.push_str(piece);
        let mut parts = Vec::new();
        loop {
            match self.state {
                State::Start => {
                    let begun = self.held.trim_start();
                    if let Some(thought) = begun.strip_prefix(BEGIN) {
                        self.held = thought.to_owned();
                        self.state = State::Opened;
                    } else if BEGIN.starts_with(begun) {
                        return parts;
                    } else {
                        self.state = State::Answer;
                    }
                }
                State::Thought => match self.held.split_once(END) {
                    Some((thought, rest)) => {
                        let (thought, rest) = (thought.trim_end().to_owned(), rest.to_owned());
                        parts.extend(part(true, thought));
                        self.held = rest;
                        self.state = State::Between;
                    }
                    None => {
                        // White space before the end of a thought is no part of it.
                        let certain = possible_start(&self.held, &[END]);
                        let certain = self.held[..certain].trim_end().len();
                        let rest = self.held.split_off(certain);
                        parts.extend(part(true, std::mem::replace(&mut self.held, rest)));
                        return parts;
                    }
                },
                State::Opened => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return parts;
                    }
                    self.state = State::Thought;
                }
                State::Between => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return parts;
                    }
                    self.state = State::Answer;
                }
                State::Answer => {
                    parts.extend(part(false, std::mem::take(&mut self.held)));
                    return parts;
                }
            }
        }
    }

    /// What was held back, when no more comes.
    pub fn finish(self) -> Option<Part> {
        part(self.state == State::Thought, self.held)
    }
}

fn part(thought: bool, text: String) -> Option<Part> {
    (!text.is_empty()).then_some(Part { thought, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thought and the answer of a text that comes in `pieces`.
    fn split(open: bool, pieces: &[&str]) -> [String; 2] {
        let mut thoughts = Thoughts::new(open);
        let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| thoughts.push(piece)).collect();
        parts.extend(thoughts.finish());
        [true, false].map(|thought| parts.iter().filter(|p| p.thought == thought).map(|p| p.text.as_str()).collect())
    }

    #[test]
    fn a_thought_is_told_from_the_answer_however_it_is_cut() {
        for (open, text, expected) in [
            (false, "<think>\nTwo, or\n\nthree?\n</think>\n\nThree.\n", ["Two, or\n\nthree?", "Three.\n"]),
            (true, "Two?\n</think>\n\nThree.", ["Two?", "Three."]),
            (false, "\n<think>\n\n</think>\n\nThree < four", ["", "Three < four"]),
            (false, "The tag <think> and </think>.", ["", "The tag <think> and </think>."]),
            (false, "<thin ice", ["", "<thin ice"]),
            (false, "<think>never </thin", ["never </thin", ""]),
            (false, "<thi", ["", "<thi"]),
        ] {
            for first in 0..text.len() {
                for second in first..text.len() {
                    let pieces = [&text[..first], &text[first..second], &text[second..]];
                    assert_eq!(split(open, &pieces), expected, "{pieces:?}");
                }
            }
        }
    }
}
