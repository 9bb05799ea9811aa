//! What Hugging Face's templates expect of their environment beyond Jinja itself.

use std::fmt::Write as _;
use std::sync::Arc;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};

use super::WallClock;
use super::json_text::{display, dump};
use super::work::{Work, count};

/// Most bytes of a tag that marks what the model says.
const MARK: usize = 256;

/// What a letter of a time's pattern becomes, in bytes.
const LONGEST_TIME: usize = 32;

/// An environment with the settings, functions, filters and tests that templates were written for. What filters and methods do is
/// added to `work`.
pub(super) fn environment(now: Option<WallClock>, fuel: u64, work: &Arc<Work>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    let shown = work.clone();
    environment.set_formatter(move |out, _, value| {
        let text = display(value);
        shown.add(text.len())?;
        out.write_str(&text).map_err(Error::from)
    });
    environment.set_fuel(Some(fuel));
    environment.add_function("raise_exception", raise_exception);
    // What Python's templates do not have, and what would make values of values without end.
    environment.add_function("debug", || -> Result<Value, Error> { Err(refused("there is no function `debug`")) });
    for filter in ["chain", "zip"] {
        environment.remove_filter(filter);
    }
    let own = vec![
        ("tojson", Value::from_function(tojson)),
        ("string", Value::from_function(|value: &Value| display(value))),
        ("trim", Value::from_function(|value: &Value, characters: Option<String>| trim(&display(value), characters))),
    ];
    count(&mut environment, own, work);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_sequence);
    if let Some(now) = now {
        let work = work.clone();
        environment.add_function("strftime_now", move |pattern: &str| {
            work.add(pattern.len().saturating_mul(LONGEST_TIME))?;
            now.format(pattern).map_err(refused)
        });
    }
    environment
}

/// Templates mark what the model says with `{% generation %}`, for training. It has no effect here, and becomes a block that
/// is always shown, so that the spaces around it are treated alike.
pub(super) fn without_generation_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag)) = rest.split_once("{%") {
        text.push_str(before);
        text.push_str("{%");
        rest = tag;
        // As far as a mark's tag may reach, so that one without an end is not looked for in the whole text.
        let reach = (0..=MARK.min(tag.len())).rev().find(|at| tag.is_char_boundary(*at)).unwrap_or_default();
        let Some(at) = tag[..reach].find("%}") else { continue };
        let (inside, after) = (&tag[..at], &tag[at + 2..]);
        let name = inside.trim_start_matches(['-', '+']);
        let (open, inside) = inside.split_at(inside.len() - name.len());
        let (inside, close) = inside.split_at(inside.trim_end_matches(['-', '+']).len());
        let instead = match inside.trim() {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "{open} {instead} {close}%}}");
        rest = after;
    }
    text.push_str(rest);
    text
}

fn refused(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(refused(display(message)))
}

/// Strings, lists and mappings can all be counted and walked in Python; a mapping by its keys.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)
}

/// `trim(value, chars=None)`, of any value's text.
fn trim(text: &str, characters: Option<String>) -> String {
    match characters {
        Some(characters) => text.trim_matches(|it| characters.contains(it)).to_owned(),
        None => text.trim().to_owned(),
    }
}

/// The widest indent of JSON.
const MOST_INDENT: usize = 64;

/// `tojson(indent=None, ensure_ascii=False, sort_keys=False)`.
fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<Value, Error> {
    let indent = indent.or(options.get::<Option<usize>>("indent")?);
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    if indent.is_some_and(|indent| indent > MOST_INDENT) {
        return Err(refused(format!("an indent of more than {MOST_INDENT} is too wide")));
    }
    if value.is_undefined() {
        return Err(refused("an undefined value cannot be written as JSON"));
    }
    let mut plain = serde_json::to_value(value).map_err(|error| refused(error.to_string()))?;
    if sorted {
        plain.sort_all_objects();
    }
    let text = dump(&plain, indent).map_err(refused)?;
    Ok(Value::from(if ascii { escape_ascii(&text) } else { text }))
}

/// Writes characters beyond ASCII as JSON escapes of UTF-16 units.
fn escape_ascii(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}
