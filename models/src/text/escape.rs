//! Keeps special tokens that a user typed from being recognized after a template has put the user's text into its own.
//!
//! A private character that occurs nowhere else is put behind every character of the conversation that could begin a special
//! token, the template is rendered, and the private characters are taken out again; where they stood, no special token may lie
//! across. That outlives whatever templates do with a text: trimming, splitting, joining, JSON.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::TextError;
use super::tags::tags;

/// Unicode's last plane of private characters.
const PRIVATE: std::ops::RangeInclusive<char> = '\u{100000}'..='\u{10FFFD}';

/// How the strings of one conversation are escaped.
#[derive(Debug)]
pub(super) struct Escape<'a> {
    mark: char,
    /// First characters of special tokens, but for letters, digits and spaces.
    firsts: BTreeSet<char>,
    /// Special tokens that begin with a letter, a digit or a space, and are looked for as a whole.
    whole: Vec<&'a str>,
    /// What the template itself looks for in a text, where that is no danger; the longest first.
    literals: Vec<String>,
}

impl<'a> Escape<'a> {
    /// Prepares for the special tokens of a vocabulary and for a template's source.
    pub(super) fn new(mark: char, special: &[&'a str], source: &str) -> Self {
        let first = |token: &&str| token.chars().next();
        let plain = |character: char| character.is_alphanumeric() || character.is_whitespace();
        let firsts: BTreeSet<char> = special.iter().filter_map(first).filter(|it| !plain(*it)).collect();
        let whole = special.iter().filter(|token| first(token).is_some_and(plain)).copied().collect();
        let harmless = |literal: &String| {
            let starts = literal.char_indices().map(|(at, _)| &literal[at..]);
            let mut ends =
                starts.filter(|end| special.iter().any(|token| token.starts_with(end) || end.starts_with(token)));
            literal.starts_with(|first| firsts.contains(&first)) && ends.next().is_none()
        };
        let mut literals: Vec<String> =
            tags(source).into_iter().flat_map(|tag| tag.literals).filter(harmless).collect();
        literals.sort_by_key(|literal| std::cmp::Reverse(literal.len()));
        Self { mark, firsts, whole, literals }
    }

    /// Escapes every string below a value, names of members included.
    pub(super) fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text, true),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(members) => {
                let escaped = std::mem::take(members).into_iter().map(|(name, mut member)| {
                    match &mut member {
                        // What templates compare with their own words.
                        Value::String(word) if name == "role" || name == "type" => *word = self.text(word, false),
                        other => self.value(other),
                    }
                    (self.text(&name, false), member)
                });
                *members = escaped.collect::<Map<String, Value>>();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Escapes one string.
    fn text(&self, text: &str, whole: bool) -> String {
        let mut escaped = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let literal = self.literals.iter().find(|literal| rest.starts_with(literal.as_str()));
            let taken = literal.map_or(first.len_utf8(), String::len);
            escaped.push_str(&rest[..taken]);
            let token = || whole && self.whole.iter().any(|token| rest.starts_with(token));
            if literal.is_none() && (self.firsts.contains(&first) || token()) {
                escaped.push(self.mark);
            }
            rest = &rest[taken..];
        }
        escaped
    }

    /// Takes the marks out of a rendering: the text without them, and the bytes of it at which they stood.
    pub(super) fn undo(&self, rendered: &str) -> (String, Vec<usize>) {
        let mut text = String::with_capacity(rendered.len());
        let mut breaks = Vec::new();
        for character in rendered.chars() {
            if character == self.mark {
                breaks.push(text.len());
            } else {
                text.push(character);
            }
        }
        (text, breaks)
    }
}

/// Private characters that occur neither in a template nor in what it is given.
pub(super) fn free_characters<const COUNT: usize>(
    source: &str,
    variables: &Map<String, Value>,
) -> Result<[char; COUNT], TextError> {
    let mut used: BTreeSet<char> = source.chars().filter(|it| PRIVATE.contains(it)).collect();
    for (name, value) in variables {
        used.extend(name.chars().filter(|it| PRIVATE.contains(it)));
        collect(value, &mut used);
    }
    let free: Vec<char> = PRIVATE.filter(|it| !used.contains(it)).take(COUNT).collect();
    free.try_into().map_err(|_| TextError::NoFreeCharacter { count: PRIVATE.count() })
}

fn collect(value: &Value, used: &mut BTreeSet<char>) {
    match value {
        Value::String(text) => used.extend(text.chars().filter(|it| PRIVATE.contains(it))),
        Value::Array(items) => items.iter().for_each(|item| collect(item, used)),
        Value::Object(members) => {
            for (name, member) in members {
                used.extend(name.chars().filter(|it| PRIVATE.contains(it)));
                collect(member, used);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
