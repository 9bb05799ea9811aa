//! What both kinds of weight files share in giving out numbers: rows, room for them, and the look for what is not finite.

use std::ops::Range;

use super::WeightsError;

/// A tensor's data as rows: runs of the innermost dimension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    /// How many there are; 0 where a dimension is.
    pub(super) count: usize,
    /// Bytes of all.
    bytes: u64,
}

impl Rows {
    /// The rows of a tensor of `shape` in `bytes`.
    pub(super) fn of(shape: &[usize], bytes: u64) -> Self {
        let outer = shape.split_last().map_or(&[][..], |(_, outer)| outer);
        // With no element there may be any numbers beside the 0.
        let count = if shape.contains(&0) { 0 } else { outer.iter().product() };
        Self { count, bytes }
    }

    /// Where `rows` are, in bytes from the start of the data.
    pub(super) fn bytes(self, file: &str, tensor: &str, rows: Range<usize>) -> Result<Range<u64>, WeightsError> {
        let outside = || WeightsError::RowsOutside {
            file: file.to_owned(),
            tensor: tensor.to_owned(),
            rows: rows.clone(),
            count: self.count,
        };
        if rows.start > rows.end || rows.end > self.count {
            return Err(outside());
        }
        if self.count == 0 {
            return Ok(0..0);
        }
        if !self.bytes.is_multiple_of(self.count as u64) {
            // Packed elements whose rows end inside a byte can be had together only.
            return if rows == (0..self.count) { Ok(0..self.bytes) } else { Err(outside()) };
        }
        let row = self.bytes / self.count as u64;
        Ok(row * rows.start as u64..row * rows.end as u64)
    }
}

/// An empty vector with room for `count` elements.
pub(super) fn room<T>(file: &str, tensor: &str, count: usize) -> Result<Vec<T>, WeightsError> {
    let mut values = Vec::new();
    match values.try_reserve_exact(count) {
        Ok(()) => Ok(values),
        Err(_) => Err(WeightsError::OutOfMemory {
            file: file.to_owned(),
            tensor: tensor.to_owned(),
            size: count.saturating_mul(size_of::<T>()),
        }),
    }
}

/// The error that `bad` makes of the first of `values` that is not a finite number.
pub(super) fn finite(values: &[f32], bad: impl FnOnce(usize) -> WeightsError) -> Result<(), WeightsError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(bad(index)),
    }
}
