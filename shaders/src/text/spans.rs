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
    let mut words = vec![0; count * SPAN_WORDS];
    let mut first = 0;
    for (length, span) in lengths.iter().zip(words.chunks_exact_mut(SPAN_WORDS)) {
        span.copy_from_slice(&[first as u32, (first + length) as u32]);
        first += length;
    }
    words
}

/// The span of the sequence that each of `rows` rows belongs to, `[rows, 2]` words; a row beyond the sequences is one of its own.
pub fn spans_of_rows(lengths: &[usize], rows: usize) -> Vec<u32> {
    let mut words = Vec::with_capacity(rows * SPAN_WORDS);
    for length in lengths {
        let first = words.len() / SPAN_WORDS;
        for _ in 0..(*length).min(rows - first) {
            words.extend([first as u32, (first + length).min(rows) as u32]);
        }
    }
    for row in words.len() / SPAN_WORDS..rows {
        words.extend([row as u32, row as u32 + 1]);
    }
    words
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
    }
}
