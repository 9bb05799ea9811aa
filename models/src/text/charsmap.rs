//! Checks the binary table of a SentencePiece normalizer, which the crate that reads it trusts.
//!
//! The table is a length in bytes, a double-array trie of 32-bit units, and replacements that end with a zero byte. A walk
//! through the trie ends in an index into the replacements; every index on every walk has to lie inside.

use std::collections::HashSet;

use serde_json::Value;

/// The longest replacement, in bytes: a longer one for a common letter would make much of a short text. Unicode's own longest has 33.
const LONGEST: usize = 256;

/// Checks every `precompiled_charsmap` below a normalizer.
pub(super) fn check_charsmaps(normalizer: &Value) -> Result<(), String> {
    match normalizer {
        Value::Array(items) => items.iter().try_for_each(check_charsmaps),
        Value::Object(members) => {
            if members.get("type").is_some_and(|kind| kind == "Precompiled") {
                let table =
                    members.get("precompiled_charsmap").and_then(Value::as_str).and_then(|it| base64::decode(it).ok());
                return table
                    .and_then(|table| check(&table))
                    .ok_or_else(|| "the table of its normalizer is damaged".to_owned());
            }
            members.values().try_for_each(check_charsmaps)
        }
        _ => Ok(()),
    }
}

/// `None` where a walk would leave the table, or a replacement is longer than any that is needed.
pub(super) fn check(table: &[u8]) -> Option<()> {
    let (length, rest) = table.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()? / 4 * 4;
    let (trie, replacements) = rest.split_at_checked(length)?;
    let replacements = std::str::from_utf8(replacements).ok()?;
    let units: Vec<u32> = trie.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let unit = |at: u32| units.get(usize::try_from(at).ok()?).copied();
    let offset = |unit: u32| (unit >> 10).checked_shl((unit & (1 << 9)) >> 6).unwrap_or(u32::MAX);

    let mut walks = vec![offset(unit(0)?)];
    let mut seen = HashSet::new();
    while let Some(place) = walks.pop() {
        if !seen.insert(place) {
            continue;
        }
        for byte in 1..=255 {
            let at = place ^ byte;
            let found = unit(at)?;
            if found & (1 << 31 | 0xFF) != byte {
                continue;
            }
            let next = at ^ offset(found);
            if found & (1 << 8) != 0 {
                let start = usize::try_from(unit(next)? & !(1 << 31)).ok()?;
                // An entry ends at a zero byte or with the text, so its end is a boundary whenever its start is.
                let entry = replacements.get(start..)?.as_bytes();
                let ends = entry.len() <= LONGEST || entry[..=LONGEST].contains(&0);
                ends.then_some(())?;
            }
            walks.push(next);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that writes `replacement` for `a`.
    fn table(replacement: &str) -> Vec<u8> {
        let mut units = [0u32; 768];
        units[0] = 256 << 10;
        units[256 ^ 97] = 97 | 1 << 8 | ((256 ^ 97 ^ 512) << 10);
        units[512] = 1 << 31;
        let units = units.iter().flat_map(|unit| unit.to_le_bytes());
        (4 * 768u32).to_le_bytes().into_iter().chain(units).chain(replacement.bytes()).collect()
    }

    #[test]
    fn a_replacement_ends_soon() {
        assert!(check(&table(&"x".repeat(LONGEST))).is_some());
        assert!(check(&table(&("x".repeat(LONGEST) + "\0and more"))).is_some());
        assert!(check(&table(&"x".repeat(LONGEST + 1))).is_none());
        assert!(check(&table(&("x".repeat(LONGEST + 1) + "\0"))).is_none());
    }
}
