//! Ragged batches: sequences of different lengths whose rows lie one after another, and where each begins and ends.

use crate::{Desc, Format};

/// Words that describe a span of rows: the first, and the one after the last.
pub const SPAN_WORDS: usize = 2;

/// The description of `count` spans.
pub fn spans_desc(count: usize) -> Desc {
    Desc::new(Format::Word, [count, SPAN_WORDS])
}

/// Where sequences of these lengths lie, `[count, 2]` words; spans beyond the sequences are empty.
pub fn spans_of_sequences(lengths: &[usize], count: usize) -> Vec<u32> {
    let mut words = Vec::with_capacity(count * SPAN_WORDS);
    push_spans_of_sequences(&mut words, lengths, count);
    words
}

/// As [`spans_of_sequences`], behind what `words` holds.
pub fn push_spans_of_sequences(words: &mut Vec<u32>, lengths: &[usize], count: usize) {
    let end = words.len() + count * SPAN_WORDS;
    let mut first = 0;
    for length in lengths.iter().take(count) {
        words.extend([first as u32, (first + length) as u32]);
        first += length;
    }
    words.resize(end, 0);
}

/// The span of the sequence that each of `rows` rows belongs to, `[rows, 2]` words; a row beyond the sequences is one of its own.
pub fn spans_of_rows(lengths: &[usize], rows: usize) -> Vec<u32> {
    let mut words = Vec::with_capacity(rows * SPAN_WORDS);
    push_spans_of_rows(&mut words, lengths, rows);
    words
}

/// As [`spans_of_rows`], behind what `words` holds.
pub fn push_spans_of_rows(words: &mut Vec<u32>, lengths: &[usize], rows: usize) {
    let mut first = 0;
    for length in lengths {
        let end = (first + length).min(rows);
        words.extend((first..end).flat_map(|_| [first as u32, end as u32]));
        first = end;
    }
    words.extend((first..rows).flat_map(|row| [row as u32, row as u32 + 1]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_sequences_lie_one_after_another() {
        assert_eq!(spans_of_sequences(&[2, 0, 1], 4), [0, 2, 2, 2, 2, 3, 0, 0]);
        assert_eq!(spans_of_rows(&[2, 0, 1], 5), [0, 2, 0, 2, 2, 3, 3, 4, 4, 5]);
        // What does not fit is cut, and no span reaches beyond the rows.
        assert_eq!(spans_of_rows(&[1, 9], 3), [0, 1, 1, 3, 1, 3]);
        let mut words = vec![7];
        push_spans_of_sequences(&mut words, &[2, 1, 9], 2);
        push_spans_of_rows(&mut words, &[1], 2);
        assert_eq!(words, [7, 0, 2, 2, 3, 0, 1, 1, 2]);
    }
}
