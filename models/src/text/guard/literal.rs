//! How long the texts and numbers are that are written out in a template, by the engine's own rules.

/// The bytes of the text in quotes at the beginning of `source`, with them.
pub(super) fn quoted(source: &str) -> Option<usize> {
    let quote = source.chars().next()?;
    let mut characters = source.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            it if it == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The bytes of the number at the beginning of `source`, 0 where there is none, and whether it is one with a point or an exponent.
pub(super) fn number(source: &str) -> (usize, bool) {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum State {
        Radix,
        Whole,
        Fraction,
        Exponent,
        Signed,
    }
    let bytes = source.as_bytes();
    if !bytes.first().is_some_and(u8::is_ascii_digit) {
        return (0, false);
    }
    let radix = matches!(bytes.get(..2), Some(b"0b" | b"0B" | b"0o" | b"0O" | b"0x" | b"0X"));
    let hexadecimal = matches!(bytes.get(1), Some(b'x' | b'X'));
    let (mut state, mut length) = if radix { (State::Radix, 2) } else { (State::Whole, 0) };
    while let Some(byte) = bytes.get(length) {
        state = match (byte, state) {
            (b'0'..=b'9', State::Exponent) => State::Signed,
            (b'0'..=b'9' | b'_', state) => state,
            (b'a'..=b'f' | b'A'..=b'F', State::Radix) if hexadecimal => state,
            (b'.', State::Whole) => {
                let after = &source[length + 1..];
                let exponent = after.strip_prefix(['e', 'E']);
                let exponent =
                    exponent.is_some_and(|it| it.starts_with(|it: char| it.is_ascii_digit() || "+-".contains(it)));
                if !exponent && after.starts_with(|it: char| it.is_alphabetic() || it == '_') {
                    break;
                }
                State::Fraction
            }
            (b'e' | b'E', State::Whole | State::Fraction) => State::Exponent,
            (b'+' | b'-', State::Exponent) => State::Signed,
            _ => break,
        };
        length += 1;
    }
    (length, !matches!(state, State::Radix | State::Whole))
}
