//! Parts of texts and lists, and ranges of numbers, as Python has them: what the engine has of its own leaves lists to be cut when they are
//! walked over, one in another without an end, and stops the program at some numbers.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, functions};

use super::work::refused;

/// The largest number of a range.
const FARTHEST: isize = 1 << 30;

/// `value[start:stop:step]`, as a text or a list of its own. What is not there has no entries.
pub(super) fn cut(value: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value, Error> {
    let number = |value: &Value| match value.is_none() {
        true => Ok(None),
        false => value.as_i64().map(Some).ok_or_else(|| refused("the bounds of a cut are whole numbers")),
    };
    let (start, stop, step) = (number(start)?, number(stop)?, number(step)?.unwrap_or(1));
    if step == 0 {
        return Err(refused("the steps of a cut are not 0"));
    }
    if let Some(text) = value.as_str() {
        let characters: Vec<char> = text.chars().collect();
        let places = places(characters.len(), start, stop, step);
        return Ok(Value::from(places.filter_map(|at| characters.get(at)).collect::<String>()));
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Ok(Value::from(Vec::<Value>::new())),
        ValueKind::Seq | ValueKind::Iterable => {
            let entries: Vec<Value> = value.try_iter()?.collect();
            let places = places(entries.len(), start, stop, step);
            Ok(Value::from(places.filter_map(|at| entries.get(at).cloned()).collect::<Vec<_>>()))
        }
        _ => Err(refused("only texts and lists can be cut")),
    }
}

/// The entries, of so many, that a cut has. `step` is not 0.
fn places(count: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    // The ends of what can be walked over: one behind the last where the walk goes down.
    let (least, most) = if step > 0 { (0, count) } else { (-1, count - 1) };
    let bound = |at: i64| if at < 0 { at.saturating_add(count) } else { at }.clamp(least, most);
    let first = start.map_or(if step > 0 { least } else { most }, bound);
    let end = stop.map_or(if step > 0 { most } else { least }, bound);
    let inside = move |at: &i64| if step > 0 { *at < end } else { *at > end };
    let next = move |at: &i64| at.checked_add(step);
    std::iter::successors(Some(first), next).take_while(inside).filter_map(|at| usize::try_from(at).ok())
}

/// `range(lower, upper, step)`.
pub(super) fn range(lower: isize, upper: Option<isize>, step: Option<isize>) -> Result<Value, Error> {
    let far = |number: isize| !(-FARTHEST..=FARTHEST).contains(&number);
    if [Some(lower), upper, step].into_iter().flatten().any(far) {
        return Err(refused("a range has no more than 30 bits"));
    }
    functions::range(lower, upper, step)
}

#[cfg(test)]
mod tests {
    use super::places;

    /// What Python 3 gives for `list(range(count))[start:stop:step]`.
    #[test]
    fn cuts_are_those_of_python() {
        for (count, start, stop, step, expected) in [
            (5, None, None, 1, vec![0, 1, 2, 3, 4]),
            (5, Some(1), None, 1, vec![1, 2, 3, 4]),
            (5, Some(-2), None, 1, vec![3, 4]),
            (5, None, Some(-1), 2, vec![0, 2]),
            (5, None, None, -1, vec![4, 3, 2, 1, 0]),
            (5, None, Some(0), -1, vec![4, 3, 2, 1]),
            (5, Some(1), Some(3), -1, vec![]),
            (5, Some(3), Some(0), -2, vec![3, 1]),
            (5, Some(9), Some(-9), -3, vec![4, 1]),
            (5, Some(-9), Some(9), 3, vec![0, 3]),
            (0, None, None, -1, vec![]),
            (1, None, None, i64::MIN, vec![0]),
            (3, Some(i64::MIN), Some(i64::MAX), i64::MAX, vec![0]),
        ] {
            let found: Vec<usize> = places(count, start, stop, step).collect();
            assert_eq!(found, expected, "{count}: {start:?}, {stop:?}, {step}");
        }
    }
}
