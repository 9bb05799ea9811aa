//! A matrix of a network as the panels its kernels read: rows of several tensors joined, gates beside their units, blocks unpacked
//! into codes and scales without a change of any number.

use lampyris_engine::kernels::panel::{self, BLOCK, Code};
use lampyris_engine::kernels::text::{Dense, Scheme};
use lampyris_engine::kernels::{Desc, Format, HostTensor};
use lampyris_engine::weights::blocks::BlockFormat;
use lampyris_engine::weights::{Dtype, Storage, TensorFile};

/// How the rows of a matrix come from tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// One tensor's after another's.
    Stacked,
    /// The first half of them all are gates of the second, in panels of 16 and 16.
    Gated,
}

/// Rows of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The tensor.
    pub(super) tensor: String,
    /// Its rows.
    pub(super) rows: usize,
    /// The size of heads whose two halves the file interleaves, row by row.
    pub(super) interleaved: Option<usize>,
}

/// A matrix of the network: some tensors `[rows, columns]` of the file.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    /// Its name in plans.
    pub(super) name: String,
    /// Where its rows come from.
    pub(super) pieces: Vec<Piece>,
    /// Its columns.
    pub(super) columns: usize,
    /// How they are put together.
    pub(super) rows: Rows,
}

/// The scheme that holds exactly what the file stores; f32 holds what has no scheme of its own.
fn scheme_of(storage: Storage) -> Scheme {
    match storage {
        Storage::Plain(Dtype::F16) => Scheme::F16,
        Storage::Plain(Dtype::BF16) => Scheme::Bf16,
        Storage::Blocks(BlockFormat::Q8_0) => Scheme::Q8_0,
        Storage::Blocks(BlockFormat::Q4_0) => Scheme::Q4_0,
        Storage::Blocks(BlockFormat::Q4_1) => Scheme::Q4_1,
        Storage::Blocks(BlockFormat::Q5_0) => Scheme::Q5_0,
        Storage::Blocks(BlockFormat::Q5_1) => Scheme::Q5_1,
        _ => Scheme::F32,
    }
}

impl Matrix {
    /// How the matrix is stored: as its tensors are if they agree, and else in f32, which holds all of them exactly.
    pub(super) fn scheme(&self, file: &TensorFile) -> Scheme {
        let stored = |piece: &Piece| file.get(&piece.tensor).map_or(Scheme::F32, |tensor| scheme_of(tensor.storage));
        let mut schemes = self.pieces.iter().map(stored);
        let first = schemes.next().unwrap_or(Scheme::F32);
        if schemes.all(|other| other == first) { first } else { Scheme::F32 }
    }

    fn total(&self) -> usize {
        self.pieces.iter().map(|piece| piece.rows).sum()
    }

    /// Rows, those that pad a panel of gates included.
    pub(super) fn height(&self) -> usize {
        match self.rows {
            Rows::Stacked => self.total(),
            Rows::Gated => Dense::gated_rows(self.total() / 2),
        }
    }

    /// Where row `row` of piece `at` goes.
    pub(super) fn place(&self, at: usize, row: usize) -> usize {
        let row = match self.pieces[at].interleaved {
            Some(head) => row / head * head + row % 2 * (head / 2) + row % head / 2,
            None => row,
        };
        let row = self.pieces[..at].iter().map(|piece| piece.rows).sum::<usize>() + row;
        let width = self.total() / 2;
        match self.rows {
            Rows::Stacked => row,
            Rows::Gated if row < width => Dense::gate_row(row),
            Rows::Gated => Dense::gate_row(row - width) + 16,
        }
    }

    /// The panel that `desc` says, from the file.
    pub(super) fn tensor(&self, file: &TensorFile, desc: &Desc) -> Result<HostTensor, String> {
        let Format::Panel(code) = desc.format else { return Err(format!("{desc} is no panel")) };
        let mut tensor = HostTensor::zeros(desc.clone());
        let scheme = self.scheme(file);
        for (at, piece) in self.pieces.iter().enumerate() {
            for row in 0..piece.rows {
                let place = self.place(at, row);
                let fail = |error: lampyris_engine::weights::WeightsError| error.to_string();
                match block_bytes(scheme) {
                    None => {
                        let values = file.f32_rows(&piece.tensor, row..row + 1).map_err(fail)?;
                        for (column, value) in values.iter().enumerate() {
                            panel::put(code, &mut tensor.words, self.columns, (place, column), *value);
                        }
                    }
                    Some(bytes) => {
                        let stored = file.rows(&piece.tensor, row..row + 1).map_err(fail)?;
                        for (block, bytes) in stored.chunks_exact(bytes).enumerate() {
                            unpack(scheme, code, bytes, &mut tensor, (place, block));
                        }
                    }
                }
            }
        }
        Ok(tensor)
    }
}

/// Bytes of a block of 32 columns in the file, for schemes that have blocks.
fn block_bytes(scheme: Scheme) -> Option<usize> {
    match scheme {
        Scheme::Q8_0 => Some(34),
        Scheme::Q4_0 => Some(18),
        Scheme::Q4_1 => Some(20),
        Scheme::Q5_0 => Some(22),
        Scheme::Q5_1 => Some(24),
        _ => None,
    }
}

/// Puts what `code` says of one block into a panel: a scale and an offset of 16 bits, then for 5-bit numbers a word of fifth bits,
/// then 32 signed bytes, or 16 bytes whose low halves are the first 16 numbers and whose high halves the others.
fn unpack(scheme: Scheme, code: Code, bytes: &[u8], tensor: &mut HostTensor, (row, block): (usize, usize)) {
    let columns = tensor.desc.last();
    let mut put = |column: usize, bits: u32| {
        let (word, shift) = panel::place(code, columns, (row, column));
        tensor.words[word] |= bits << shift;
    };
    let half = |at: usize| u32::from(bytes[at]) | u32::from(bytes[at + 1]) << 8;
    let (offset, fifth) =
        (matches!(scheme, Scheme::Q4_1 | Scheme::Q5_1), matches!(scheme, Scheme::Q5_0 | Scheme::Q5_1));
    let after = if offset { 4 } else { 2 };
    let codes = &bytes[if fifth { after + 4 } else { after }..];
    match code {
        Code::Scale => put(block, half(0)),
        Code::ScaleMin => {
            put(2 * block, half(0));
            put(2 * block + 1, half(2));
        }
        Code::U1 => (0..BLOCK).for_each(|c| put(block * BLOCK + c, u32::from(bytes[after + c / 8] >> (c % 8) & 1))),
        Code::I8 => (0..BLOCK).for_each(|c| put(block * BLOCK + c, u32::from(codes[c]))),
        _ => (0..BLOCK).for_each(|c| put(block * BLOCK + c, u32::from(codes[c % 16] >> (4 * (c / 16)) & 15))),
    }
}
