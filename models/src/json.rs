//! Reads single values out of a JSON object such that an error names the file and the key.

use serde_json::{Map, Value};

use crate::error::{Error, Result, shown};

/// An object in a JSON file, and the way to it.
#[derive(Clone, Copy)]
pub(crate) struct Object<'a> {
    pub(crate) file: &'a str,
    parent: &'a str,
    map: &'a Map<String, Value>,
}

/// Parses a file whose top level must be an object.
pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    let value: Value = serde_json::from_slice(bytes).map_err(|source| Error::Json { file: file.to_owned(), source })?;
    match value {
        Value::Object(map) => Ok(map),
        other => Err(Error::Config {
            file: file.to_owned(),
            key: "(top level)".to_owned(),
            found: described(&other),
            expected: "an object",
        }),
    }
}

/// Parses a file whose top level must be a list of objects.
pub(crate) fn list(file: &str, bytes: &[u8]) -> Result<Vec<Map<String, Value>>> {
    let value: Value = serde_json::from_slice(bytes).map_err(|source| Error::Json { file: file.to_owned(), source })?;
    let wrong = |found: &Value| Error::Config {
        file: file.to_owned(),
        key: "(top level)".to_owned(),
        found: described(found),
        expected: "a list of objects",
    };
    let Value::Array(items) = value else { return Err(wrong(&value)) };
    items.into_iter().map(|item| if let Value::Object(map) = item { Ok(map) } else { Err(wrong(&item)) }).collect()
}

impl<'a> Object<'a> {
    pub(crate) fn top(file: &'a str, map: &'a Map<String, Value>) -> Self {
        Self { file, parent: "", map }
    }

    /// The value of a key; absent and `null` are the same.
    pub(crate) fn get(self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, be it with `null`.
    pub(crate) fn names(self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// An object inside this one. Its errors name `key` as the parent.
    pub(crate) fn object(self, key: &'a str) -> Result<Option<Object<'a>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Object { file: self.file, parent: key, map })),
            Some(other) => Err(self.wrong(key, other, "an object")),
        }
    }

    pub(crate) fn text(self, key: &str) -> Result<Option<&'a str>> {
        self.get(key).map(|value| value.as_str().ok_or_else(|| self.wrong(key, value, "a text"))).transpose()
    }

    pub(crate) fn flag(self, key: &str) -> Result<Option<bool>> {
        self.get(key).map(|value| value.as_bool().ok_or_else(|| self.wrong(key, value, "true or false"))).transpose()
    }

    pub(crate) fn number(
        self,
        key: &str,
        allowed: impl Fn(f64) -> bool,
        expected: &'static str,
    ) -> Result<Option<f64>> {
        let read = |value: &Value| {
            let number = value.as_f64().filter(|number| number.is_finite() && allowed(*number));
            number.ok_or_else(|| self.wrong(key, value, expected))
        };
        self.get(key).map(read).transpose()
    }

    pub(crate) fn count(self, key: &str, allowed: impl Fn(u64) -> bool, expected: &'static str) -> Result<Option<u64>> {
        self.get(key).map(|value| self.whole(key, value, allowed, expected)).transpose()
    }

    /// A whole number; `224.0` is one too.
    pub(crate) fn whole(
        self,
        key: &str,
        value: &Value,
        allowed: impl Fn(u64) -> bool,
        expected: &'static str,
    ) -> Result<u64> {
        let float = || {
            value
                .as_f64()
                .filter(|number| number.fract() == 0.0 && (0.0..1e15).contains(number))
                .map(|number| number as u64)
        };
        let number = value.as_u64().or_else(float).filter(|number| allowed(*number));
        number.ok_or_else(|| self.wrong(key, value, expected))
    }

    /// Three numbers, one for each of red, green and blue.
    pub(crate) fn colours(
        self,
        key: &str,
        allowed: impl Fn(f64) -> bool,
        expected: &'static str,
    ) -> Result<Option<[f64; 3]>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = |item: &Value| item.as_f64().filter(|number| number.is_finite() && allowed(*number));
        let triple = match value.as_array().map(Vec::as_slice) {
            Some([red, green, blue]) => number(red).zip(number(green)).zip(number(blue)).map(|((r, g), b)| [r, g, b]),
            _ => None,
        };
        triple.map(Some).ok_or_else(|| self.wrong(key, value, expected))
    }

    pub(crate) fn entries(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.map.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(crate) fn wrong(self, key: &str, value: &Value, expected: &'static str) -> Error {
        Error::Config { file: self.file.to_owned(), key: self.path(key), found: described(value), expected }
    }

    pub(crate) fn unsupported(self, key: &str, value: &Value, instead: &'static str) -> Error {
        Error::Unsupported { file: self.file.to_owned(), key: self.path(key), found: described(value), instead }
    }

    fn path(self, key: &str) -> String {
        let key = shown(key);
        if self.parent.is_empty() { key } else { format!("{}.{key}", self.parent) }
    }
}

/// A value short enough for an error message.
fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(items) if items.len() > 8 => format!("a list of {} values", items.len()),
        Value::Object(map) => format!("an object with {} keys", map.len()),
        other => shown(&other.to_string()),
    }
}
