//! Counts the bytes that the operators, filters, methods and tests of a template work on, because a step of a template may be any number of
//! them. Operators are counted by way of the filters that [`super::guard`] puts beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, filters, functions, tests};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::cut::{cut, range};
use super::guard::{COUNTED, KEPT, SLICE, SOUGHT, TIMES, WALKED};

/// What the entry of a list counts beside its text, in bytes.
const ENTRY: usize = 32;

/// Lists and mappings in one another. The engine works through them with a call for each, also when it drops them.
const DEPTH: usize = 64;

/// Largest width and most digits of a number that is written out.
const DIGITS: usize = u16::MAX as usize;

/// What counts a value.
type Count = fn(&Work, &Value) -> Result<(), Error>;

/// The bytes of text that one run of a template has given to operators, filters and methods, and got from them.
#[derive(Debug, Default)]
pub(super) struct Work(AtomicUsize);

impl Work {
    /// Bytes in one run. Published templates work on each message some twenty times.
    pub(super) const MOST: usize = 1 << 28;

    /// Whether a run was refused for it.
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) > Work::MOST
    }

    /// Counts `bytes`.
    pub(super) fn add(&self, bytes: usize) -> Result<(), Error> {
        let add = |before: usize| Some(before.saturating_add(bytes));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        if self.is_over() {
            return Err(refused("its operators, filters and methods work on too much text"));
        }
        Ok(())
    }

    /// Counts what is in a list or a mapping, and refuses one that is too deep. What lies in another value is neither a macro nor a
    /// namespace: those hold others in ways that are not seen here.
    fn check_depth(&self, value: &Value, depth: usize) -> Result<(), Error> {
        let map = value.kind() == ValueKind::Map;
        match value.kind() {
            _ if depth > 0 && holds_unseen(value) => {
                return Err(refused("a namespace, a macro or a loop is put into a list, a mapping or a namespace"));
            }
            ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => {}
            _ => return Ok(()),
        }
        if depth > DEPTH {
            return Err(refused("its lists and mappings lie too deep in one another"));
        }
        for entry in value.try_iter()? {
            self.add(ENTRY)?;
            self.check_depth(&entry, depth + 1)?;
            if map {
                self.check_depth(&value.get_item(&entry)?, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Counts a value with all that is in it.
    fn count(&self, value: &Value) -> Result<(), Error> {
        self.add(size(value))?;
        self.check_depth(value, 0)
    }

    /// Counts what it takes to walk over a value, or to append to it: a list is shared.
    fn walk(&self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => self.add(value.len().unwrap_or(0).saturating_add(ENTRY)),
            ValueKind::Map => self.add(value.len().unwrap_or(0).saturating_mul(ENTRY)),
            _ => self.add(size(value)),
        }
    }

    /// Counts what it takes to look for something in a value.
    fn seek(&self, value: &Value) -> Result<(), Error> {
        if value.kind() == ValueKind::Map { self.add(ENTRY) } else { self.count(value) }
    }

    /// The product of two numbers, or a text or a list so many times.
    fn product(&self, one: &Value, other: &Value) -> Result<Value, Error> {
        let (many, times) = if one.as_i64().is_some() { (other, one) } else { (one, other) };
        if one.is_number() && other.is_number() {
            return Ok(match (i128::try_from(one.clone()), i128::try_from(other.clone())) {
                (Ok(a), Ok(b)) if one.is_integer() && other.is_integer() => {
                    Value::from(a.checked_mul(b).ok_or_else(|| refused("a product is too large"))?)
                }
                _ => Value::from(f64::try_from(one.clone())? * f64::try_from(other.clone())?),
            });
        }
        let times =
            times.as_i64().ok_or_else(|| refused("only numbers, texts and lists can be multiplied, and by numbers"))?;
        let times = usize::try_from(times).unwrap_or(0);
        self.add(size(many).saturating_mul(times))?;
        match (many.as_str(), many.kind()) {
            (Some(text), _) => Ok(Value::from(text.repeat(times))),
            (None, ValueKind::Seq | ValueKind::Iterable) => {
                let all: Vec<Value> = many.try_iter()?.collect();
                let made = Value::from(std::iter::repeat_n(all, times).flatten().collect::<Vec<_>>());
                self.check_depth(&made, 0)?;
                Ok(made)
            }
            _ => Err(refused("only numbers, texts and lists can be multiplied, and by numbers")),
        }
    }

    /// A part of a text or a list.
    fn slice(&self, value: &Value, [start, stop, step]: [&Value; 3]) -> Result<Value, Error> {
        self.walk(value)?;
        let made = cut(value, start, stop, step)?;
        self.add(size(&made))?;
        Ok(made)
    }

    /// Does `call` with the bytes counted that `name` takes and makes. What would be made bit by bit is made at once.
    fn counted(
        &self,
        (name, arguments): (&str, &[Value]),
        call: impl FnOnce() -> Result<Value, Error>,
    ) -> Result<Value, Error> {
        let of_text = arguments.first().is_none_or(|value| value.as_str().is_some());
        // These look at no more than one entry of a list or a mapping, and give it back as it is.
        let glance = match name {
            "length" | "count" => !of_text && arguments.len() == 1,
            "first" | "last" => arguments.first().is_some_and(|value| value.kind() == ValueKind::Seq),
            "get" => !of_text,
            _ => false,
        };
        if glance {
            self.add(ENTRY)?;
            return call();
        }
        match name {
            // These compare entries.
            "count" | "index" if !of_text => arguments.iter().try_for_each(|value| self.count(value))?,
            _ => self.add(arguments.iter().map(size).fold(0, usize::saturating_add))?,
        }
        self.add(added(name, arguments))?;
        // More digits than these end the standard library's formatting.
        if name == "format" && arguments.iter().filter_map(Value::as_str).any(|text| widths(text) > DIGITS) {
            return Err(refused("a width or a precision is too large"));
        }
        let mut made = call()?;
        if made.kind() == ValueKind::Iterable {
            let mut all = Vec::new();
            for entry in made.try_iter()? {
                self.add(ENTRY)?;
                all.push(entry);
            }
            made = Value::from(all);
        }
        self.count(&made)?;
        Ok(made)
    }
}

pub(super) fn refused(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// Whether a value is one of the engine's own objects that hold values in ways that are not seen from outside. What they are is told by their
/// type alone, and a test holds the names.
fn holds_unseen(value: &Value) -> bool {
    let name = value.as_object().map_or("", |object| object.type_name());
    name.contains("::vm::") || name.contains("::namespace_object::")
}

/// Registers what counts operators, the functions that make mappings, and the tests that compare.
fn count_operators(environment: &mut Environment<'static>, work: &Arc<Work>) {
    let counts: [(&'static str, Count); 4] = [
        (COUNTED, Work::count),
        (WALKED, Work::walk),
        (SOUGHT, Work::seek),
        (KEPT, |work, value| work.check_depth(value, 1)),
    ];
    for (name, count) in counts {
        let work = work.clone();
        environment.add_filter(name, move |value: Value| count(&work, &value).map(|()| value));
    }
    let times = work.clone();
    environment.add_filter(TIMES, move |one: &Value, other: &Value| times.product(one, other));
    let slices = work.clone();
    environment.add_filter(SLICE, move |value: &Value, start: &Value, stop: &Value, step: &Value| {
        slices.slice(value, [start, stop, step])
    });
    let made =
        [("dict", Value::from_function(functions::dict)), ("namespace", Value::from_function(functions::namespace))];
    environment.add_function("range", range);
    for (name, function) in made {
        let work = work.clone();
        environment.add_function(name, move |state: &State<'_, '_>, arguments: Rest<Value>| {
            let made = function.call(state, &arguments)?;
            work.count(&made).map(|()| made)
        });
    }
    environment.add_test("divisibleby", |value: &Value, by: &Value| -> Result<bool, Error> {
        match (i128::try_from(value.clone()), i128::try_from(by.clone())) {
            (Ok(value), Ok(by)) => match value.checked_rem(by) {
                Some(rest) => Ok(rest == 0),
                None => Err(refused("a number cannot be divisible by nothing")),
            },
            _ => Ok(f64::try_from(value.clone())? % f64::try_from(by.clone())? == 0.0),
        }
    });
    let comparing: [(&[&'static str], Value); 9] = [
        (&["eq", "equalto", "=="], Value::from_function(tests::is_eq)),
        (&["ne", "!="], Value::from_function(tests::is_ne)),
        (&["lt", "lessthan", "<"], Value::from_function(tests::is_lt)),
        (&["le", "<="], Value::from_function(tests::is_le)),
        (&["gt", "greaterthan", ">"], Value::from_function(tests::is_gt)),
        (&["ge", ">="], Value::from_function(tests::is_ge)),
        (&["in"], Value::from_function(tests::is_in)),
        (&["startingwith"], Value::from_function(tests::is_startingwith)),
        (&["endingwith"], Value::from_function(tests::is_endingwith)),
    ];
    for (names, test) in comparing {
        for name in names {
            let (work, test) = (work.clone(), test.clone());
            environment.add_test(*name, move |state: &State<'_, '_>, arguments: Rest<Value>| -> Result<bool, Error> {
                arguments.iter().try_for_each(|value| work.seek(value))?;
                Ok(test.call(state, &arguments)?.is_true())
            });
        }
    }
}

/// Registers the methods of Python's texts, lists and mappings, and a filter under each of its names, all of them counted.
pub(super) fn count(environment: &mut Environment<'static>, own: Vec<(&'static str, Value)>, work: &Arc<Work>) {
    count_operators(environment, work);
    let methods = work.clone();
    environment.set_unknown_method_callback(move |state, value, method, arguments| {
        let all: Vec<Value> = std::iter::once(value).chain(arguments).cloned().collect();
        methods.counted((method, &all), || match (method, value.as_str(), arguments) {
            // The nothing between characters is where a search would never get on.
            ("count", Some(text), [nothing]) if nothing.as_str() == Some("") => {
                Ok(Value::from(text.chars().count() + 1))
            }
            _ => unknown_method_callback(state, value, method, arguments),
        })
    });
    let builtin = [
        ("escape", Value::from_function(filters::escape)),
        ("e", Value::from_function(filters::escape)),
        ("lower", Value::from_function(filters::lower)),
        ("upper", Value::from_function(filters::upper)),
        ("title", Value::from_function(filters::title)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("replace", Value::from_function(filters::replace)),
        ("length", Value::from_function(filters::length)),
        ("count", Value::from_function(filters::length)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("reverse", Value::from_function(filters::reverse)),
        ("join", Value::from_function(filters::join)),
        ("split", Value::from_function(filters::split)),
        ("lines", Value::from_function(filters::lines)),
        ("first", Value::from_function(filters::first)),
        ("last", Value::from_function(filters::last)),
        ("min", Value::from_function(filters::min)),
        ("max", Value::from_function(filters::max)),
        ("sort", Value::from_function(filters::sort)),
        ("list", Value::from_function(filters::list)),
        ("batch", Value::from_function(filters::batch)),
        ("slice", Value::from_function(filters::slice)),
        ("sum", Value::from_function(filters::sum)),
        ("indent", Value::from_function(filters::indent)),
        ("groupby", Value::from_function(filters::groupby)),
        ("unique", Value::from_function(filters::unique)),
        ("items", Value::from_function(filters::items)),
        ("map", Value::from_function(filters::map)),
        ("select", Value::from_function(filters::select)),
        ("reject", Value::from_function(filters::reject)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("pprint", Value::from_function(filters::pprint)),
        ("format", Value::from_function(filters::format)),
    ];
    for (name, filter) in builtin.into_iter().chain(own) {
        let work = work.clone();
        environment.add_filter(name, move |state: &State<'_, '_>, arguments: Rest<Value>| {
            work.counted((name, &arguments), || filter.call(state, &arguments))
        });
    }
}

/// The bytes of a value's text, or of the texts in a list.
fn size(value: &Value) -> usize {
    let entry = |value: &Value| value.as_str().map_or(ENTRY, |text| text.len().saturating_add(ENTRY));
    match value.kind() {
        ValueKind::Seq => value.try_iter().map_or(ENTRY, |all| all.map(|it| entry(&it)).sum()),
        // Joined lists, and numbers that are not written out.
        ValueKind::Iterable => value.len().unwrap_or(1).saturating_mul(ENTRY),
        _ => entry(value),
    }
}

/// The bytes that a filter or a method makes beyond those that it takes.
fn added(name: &str, arguments: &[Value]) -> usize {
    let texts = || arguments.iter().filter_map(Value::as_str);
    let text = |at: usize| arguments.get(at).and_then(Value::as_str).unwrap_or_default();
    match name {
        "replace" => {
            let places = if text(1).is_empty() { text(0).len() + 1 } else { text(0).matches(text(1)).count() };
            places.saturating_mul(text(2).len())
        }
        // The text between the entries of a list.
        "join" => {
            let lists = arguments.iter().filter(|it| it.as_str().is_none()).filter_map(Value::len);
            let longest = texts().map(str::len).max().unwrap_or_default();
            lists.max().unwrap_or_default().saturating_mul(longest)
        }
        "indent" => numbers(arguments).saturating_mul(text(0).lines().count() + 1),
        "batch" | "slice" => numbers(arguments).saturating_mul(ENTRY),
        // Widths, in the text or among what is put in.
        "format" => texts().map(widths).fold(numbers(arguments), usize::saturating_add),
        _ => 0,
    }
}

/// The sum of the whole numbers among arguments, named ones with them.
fn numbers(arguments: &[Value]) -> usize {
    let whole = |value: &Value| match i128::try_from(value.clone()) {
        Ok(number) if value.is_integer() && number > 0 => usize::try_from(number).unwrap_or(usize::MAX),
        _ => 0,
    };
    let named = |value: &Value| -> usize {
        let keys = (value.kind() == ValueKind::Map).then(|| value.try_iter().ok()).flatten();
        let each = |key: Value| value.get_item(&key).map_or(0, |it| whole(&it));
        keys.map_or(0, |keys| keys.map(each).fold(0, usize::saturating_add))
    };
    arguments.iter().map(|value| whole(value).saturating_add(named(value))).fold(0, usize::saturating_add)
}

/// The sum of the numbers that are written in a text.
fn widths(text: &str) -> usize {
    let number = |digits: &str| if digits.is_empty() { 0 } else { digits.parse().unwrap_or(usize::MAX) };
    text.split(|it: char| !it.is_ascii_digit()).map(number).fold(0, usize::saturating_add)
}
