//! A matrix of a network as the panels its kernels read: rows of several tensors joined, gates beside their units, blocks unpacked
//! into codes and scales without a change of any number.

use super::unpack::{self, Unpacking};
use crate::error::shown;
use lampyris_engine::kernels::panel::{self, Layout};
use lampyris_engine::kernels::text::{Dense, Scheme};
use lampyris_engine::kernels::{Desc, Format, HostTensor};
use lampyris_engine::weights::{Dtype, Storage, TensorFile};
use std::ops::Range;

/// How the rows of a matrix come from tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// One tensor's after another's.
    Stacked,
    /// The first half of them all are gates of the second, in panels of 16 and 16.
    Gated,
}

/// Rows of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The tensor.
    pub(crate) tensor: String,
    /// The first of its rows that belong to the piece.
    pub(crate) first: usize,
    /// How many do.
    pub(crate) rows: usize,
    /// How heads lie in it, where that is not one half of a head after the other.
    pub(crate) heads: Option<Heads>,
}

/// How the rows of heads lie in a file: kernels turn a row of a head's first half with the same one of its second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heads {
    /// The halves of heads of so many rows are interleaved, row by row.
    Interleaved(usize),
    /// Positions turn the first `turned` rows of heads of `head` only, one half of those with the other.
    Partial {
        /// Rows of a head.
        head: usize,
        /// Those that are turned.
        turned: usize,
    },
}

impl Heads {
    /// Rows of a head.
    fn size(self) -> usize {
        let (Heads::Interleaved(head) | Heads::Partial { head, .. }) = self;
        head
    }

    /// The place of row `row` of the file where each head is one half after the other. Rows that are not turned come last in each half.
    fn place(self, row: usize) -> usize {
        match self {
            Heads::Interleaved(head) => of_halves(row, head),
            Heads::Partial { head, turned } => {
                let (before, at) = (row / head * head, row % head);
                let (pairs, others) = (turned / 2, (head - turned) / 2);
                let (half, place) = match at.checked_sub(turned) {
                    None => (at / pairs, at % pairs),
                    Some(at) => (at / others, pairs + at % others),
                };
                before + half * (head / 2) + place
            }
        }
    }
}

/// A matrix of the network: some tensors `[rows, columns]` of the file.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    /// Its name in plans.
    pub(crate) name: String,
    /// Where its rows come from.
    pub(crate) pieces: Vec<Piece>,
    /// Its columns.
    pub(crate) columns: usize,
    /// How they are put together.
    pub(crate) rows: Rows,
    /// Where it is a stack of matrices with panels of their own: how many, each of as many pieces.
    pub(crate) stack: Option<usize>,
}

/// The scheme that holds exactly what the file stores; f32 holds what has no scheme of its own.
fn scheme_of(storage: Storage) -> Scheme {
    match storage {
        Storage::Plain(Dtype::F16) => Scheme::F16,
        Storage::Plain(Dtype::BF16) => Scheme::Bf16,
        Storage::Blocks(format) => unpack::scheme_of(format).unwrap_or(Scheme::F32),
        _ => Scheme::F32,
    }
}

/// The scheme that holds exactly what the file stores as a tensor.
pub(crate) fn stored(file: &TensorFile, tensor: &str) -> Scheme {
    file.get(tensor).map_or(Scheme::F32, |tensor| scheme_of(tensor.storage))
}

/// The place of row `row` of heads whose halves are interleaved row by row among the same rows with one half after the other; heads have
/// `head` rows.
pub(crate) fn of_halves(row: usize, head: usize) -> usize {
    row / head * head + row % 2 * (head / 2) + row % head / 2
}

impl Matrix {
    /// The rows of some tensors, one after another: `(tensor, rows)`.
    pub(crate) fn stacked(name: impl Into<String>, tensors: Vec<(String, usize)>, columns: usize) -> Matrix {
        let piece = |(tensor, rows)| Piece { tensor, first: 0, rows, heads: None };
        let pieces = tensors.into_iter().map(piece).collect();
        Matrix { name: name.into(), pieces, columns, rows: Rows::Stacked, stack: None }
    }

    /// How the matrix is stored: as its tensors are, which agree in what [`Matrix::alike`] gives; in f32, which holds all exactly, if they
    /// do not.
    pub(crate) fn scheme(&self, file: &TensorFile) -> Scheme {
        let mut schemes = self.pieces.iter().map(|piece| stored(file, &piece.tensor));
        let first = schemes.next().unwrap_or(Scheme::F32);
        if schemes.all(|other| other == first) { first } else { Scheme::F32 }
    }

    /// The pieces one after another in as few matrices as the file stores alike, `(the first piece, the matrix)`.
    pub(crate) fn alike(&self, file: &TensorFile) -> Vec<(usize, Matrix)> {
        let mut first = 0;
        let same = |a: &Piece, b: &Piece| stored(file, &a.tensor) == stored(file, &b.tensor);
        let run = |pieces: &[Piece]| {
            first += pieces.len();
            (first - pieces.len(), Matrix { pieces: pieces.to_vec(), rows: Rows::Stacked, ..self.clone() })
        };
        self.pieces.chunk_by(same).map(run).collect()
    }

    /// The matrix in parts of consecutive rows, or of gates with their units, no tensor of which takes more than `limit` bytes where a
    /// panel does not. The whole where it fits.
    pub(crate) fn parts(&self, file: &TensorFile, limit: u64) -> Vec<Matrix> {
        self.parts_in(self.scheme(file), limit)
    }

    /// [`Matrix::parts`] of the matrix when it is stored as `scheme`.
    pub(crate) fn parts_in(&self, scheme: Scheme, limit: u64) -> Vec<Matrix> {
        let descs = scheme.descs(self.height(), self.columns);
        let bytes = descs.iter().map(Desc::bytes).max().unwrap_or(0);
        if self.stack.is_some() || bytes <= limit {
            return vec![self.clone()];
        }
        let (all, step) = match self.rows {
            Rows::Stacked => (self.total(), panel::ROWS),
            Rows::Gated => (self.total() / 2, panel::ROWS / 2),
        };
        // A head whose rows change places stays whole.
        let heads = self.pieces.iter().filter_map(|piece| piece.heads).map(Heads::size);
        let step = heads.fold(step, |step, head| {
            (1..=head).map(|times| step * times).find(|rows| rows.is_multiple_of(head)).unwrap_or(step)
        });
        let each = bytes.div_ceil(all as u64).max(1);
        let share = ((limit / each) as usize / step * step).max(step);
        let part = |first: usize| {
            let rows = first..all.min(first + share);
            let mut pieces = self.slice(rows.clone());
            if self.rows == Rows::Gated {
                pieces.extend(self.slice(all + rows.start..all + rows.end));
            }
            Matrix { name: format!("{}.{}-{}", self.name, rows.start, rows.end - 1), pieces, ..self.clone() }
        };
        (0..all).step_by(share).map(part).collect()
    }

    /// What the pieces have of some of their rows, counted through all of them.
    fn slice(&self, rows: Range<usize>) -> Vec<Piece> {
        let mut before = 0;
        let mut pieces = Vec::new();
        for piece in &self.pieces {
            let (begin, end) = (rows.start.max(before), rows.end.min(before + piece.rows));
            if begin < end {
                pieces.push(Piece { first: piece.first + begin - before, rows: end - begin, ..piece.clone() });
            }
            before += piece.rows;
        }
        pieces
    }

    /// Gated units.
    pub(crate) fn units(&self) -> usize {
        self.total() / 2
    }

    /// The pieces of each matrix of the stack, or all of them.
    fn share(&self) -> usize {
        self.pieces.len() / self.stack.unwrap_or(1)
    }

    /// Rows of each matrix of the stack, or of the one.
    fn total(&self) -> usize {
        self.pieces[..self.share()].iter().map(|piece| piece.rows).sum()
    }

    /// Rows, those that pad a panel of gates and each matrix of a stack included.
    pub(crate) fn height(&self) -> usize {
        let rows = match self.rows {
            Rows::Stacked => self.total(),
            Rows::Gated => Dense::gated_rows(self.total() / 2),
        };
        self.stack.map_or(rows, |count| count * rows.next_multiple_of(panel::ROWS))
    }

    /// Where row `row` of piece `at` goes.
    pub(crate) fn place(&self, at: usize, row: usize) -> usize {
        let row = self.pieces[at].heads.map_or(row, |heads| heads.place(row));
        let (before, at) = (at / self.share(), at % self.share());
        let row = self.pieces[..at].iter().map(|piece| piece.rows).sum::<usize>() + row;
        let width = self.total() / 2;
        let start = before * (self.height() / self.stack.unwrap_or(1));
        start
            + match self.rows {
                Rows::Stacked => row,
                Rows::Gated if row < width => Dense::gate_row(row),
                Rows::Gated => Dense::gate_row(row - width) + 16,
            }
    }

    /// The panel that `desc` says, from the file.
    pub(crate) fn tensor(&self, file: &TensorFile, desc: &Desc) -> Result<HostTensor, String> {
        let Format::Panel(code) = desc.format else { return Err(format!("{desc} is no panel")) };
        let mut tensor = HostTensor::zeros(desc.clone());
        let (scheme, layout) = (self.scheme(file), Layout::new(code, self.columns));
        for (at, piece) in self.pieces.iter().enumerate() {
            let format = match file.get(&piece.tensor).map(|tensor| tensor.storage) {
                Some(Storage::Blocks(format)) if unpack::scheme_of(format) == Some(scheme) => Some(format),
                _ => None,
            };
            let unpacking = format.map(|format| (format, Unpacking::new(format, code, desc.last())));
            let read = piece.first..piece.first + piece.rows;
            file.expect_rows(&piece.tensor, read).map_err(|error| error.to_string())?;
            for row in 0..piece.rows {
                let (place, row) = (self.place(at, row), piece.first + row);
                let fail = |error: lampyris_engine::weights::WeightsError| error.to_string();
                match &unpacking {
                    None => {
                        let values = file.f32_rows(&piece.tensor, row..row + 1).map_err(fail)?;
                        layout.put(&mut tensor.words, place, &values);
                    }
                    Some((format, unpacking)) => {
                        let stored = file.rows(&piece.tensor, row..row + 1).map_err(fail)?;
                        if !unpack::is_finite(*format, &stored) {
                            let (file, name) = (file.file(), shown(&piece.tensor));
                            return Err(format!(
                                "{file}: `{name}`, row {row}: a block's scale is not finite, or too large for f32"
                            ));
                        }
                        unpacking.row(&stored, &mut tensor, place);
                    }
                }
            }
        }
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;
    use lampyris_engine::weights::blocks::BlockFormat;
    use lampyris_engine::weights::gguf::{Gguf, NewBlocks, gguf_bytes};

    #[test]
    fn rows_that_are_turned_lie_half_a_head_apart() {
        // Of eight rows six are turned: 0 with 3, 1 with 4, 2 with 5; 6 and 7 are not.
        let heads = Heads::Partial { head: 8, turned: 6 };
        let places: Vec<usize> = (0..16).map(|row| heads.place(row)).collect();
        assert_eq!(places, [0, 1, 2, 4, 5, 6, 3, 7, 8, 9, 10, 12, 13, 14, 11, 15]);
        let whole: Vec<usize> = (0..8).map(|row| Heads::Partial { head: 8, turned: 8 }.place(row)).collect();
        assert_eq!(whole, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn blocks_with_a_scale_that_is_no_number_are_refused_by_file_and_tensor() {
        for format in BlockFormat::ALL.into_iter().filter(|format| unpack::scheme_of(*format).is_some()) {
            // The largest code, so that the largest exponent shows.
            let filled: u8 = if format == BlockFormat::MXFP4 { 0x77 } else { 0 };
            let good = vec![filled; 2 * format.row_bytes(256).unwrap()];
            let made = |bytes: &[u8]| {
                let tensor = NewBlocks { name: "w", format, shape: &[2, 256], bytes };
                let none: [(&str, lampyris_engine::weights::gguf::MetadataValue); 0] = [];
                let gguf = Gguf::from_bytes("f.gguf", gguf_bytes("f.gguf", &none, &[tensor]).unwrap()).unwrap();
                let (file, matrix) = (TensorFile::Gguf(gguf), Matrix::stacked("m", vec![("w".to_owned(), 2)], 256));
                let desc = matrix.scheme(&file).descs(2, 256).remove(0);
                matrix.tensor(&file, &desc)
            };
            assert!(made(&good).is_ok(), "{format}");
            let mut refused = 0;
            for at in 0..format.block_bytes() {
                let mut bad = good.clone();
                let last = bad.len() - format.block_bytes() + at;
                bad[last] = if format == BlockFormat::MXFP4 { 0xff } else { 0x7c };
                let mut values = vec![0.0; 512];
                format.dequantize(&bad, &mut values).unwrap();
                // Noughts times infinity are no numbers.
                if values.iter().all(|value| value.is_finite()) {
                    assert!(made(&bad).is_ok(), "{format}, byte {at}");
                    continue;
                }
                refused += 1;
                let error = made(&bad).unwrap_err();
                for part in ["f.gguf", "`w`", "row 1", "scale"] {
                    assert!(error.contains(part), "{format}: {error}");
                }
            }
            assert!(refused > 0, "{format}");
        }
    }
}
