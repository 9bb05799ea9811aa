//! Turns stored elements into the numbers the engine computes with, and stops those that would poison a network.

use std::ops::Range;

use half::{bf16, f16};

use super::rows::{finite, room};
use super::{Dtype, TensorInfo, Weights, WeightsError};

impl Weights {
    /// The elements of `name` as single precision, in row-major order. Stored as F32, F16, BF16 or F64; the last is rounded
    /// to the nearest.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is no such tensor, [`WrongDtype`](WeightsError::WrongDtype) if it is stored as
    /// something else, [`NotFinite`](WeightsError::NotFinite) for the first element that is not a number, infinite, or too
    /// large for single precision, [`OutOfMemory`](WeightsError::OutOfMemory) if there is no room for the result.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let (info, bytes) = self.find(name)?;
        self.floats(info, 0, &bytes)
    }

    /// Some rows of `name`, as [`Weights::rows`] counts them, as single precision.
    ///
    /// # Errors
    /// As [`Weights::f32`] and [`Weights::rows`].
    pub fn f32_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightsError> {
        let (start, info) = (rows.start, self.info(name)?);
        // Before anything is fetched; nor do all that are refused end their rows with a byte.
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
            return Err(self.no_float(info));
        }
        let bytes = self.rows(name, rows)?;
        let first = start * info.shape.last().copied().unwrap_or(1);
        self.floats(info, first, &bytes)
    }

    /// The elements of `info` in `bytes`, of which the first is its element `first`.
    fn floats(&self, info: &TensorInfo, first: usize, bytes: &[u8]) -> Result<Vec<f32>, WeightsError> {
        match info.dtype {
            Dtype::F32 => self.decode(info, first, bytes, f32::from_le_bytes, |value| value),
            Dtype::F16 => self.decode(info, first, bytes, f16::from_le_bytes, f16::to_f32),
            Dtype::BF16 => self.decode(info, first, bytes, bf16::from_le_bytes, bf16::to_f32),
            Dtype::F64 => self.decode(info, first, bytes, f64::from_le_bytes, |value| value as f32),
            _ => Err(self.no_float(info)),
        }
    }

    fn no_float(&self, info: &TensorInfo) -> WeightsError {
        self.wrong_dtype(info, "F32, F16, BF16 or F64")
    }

    /// The elements of `name`, stored as I8, in row-major order.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is no such tensor, [`WrongDtype`](WeightsError::WrongDtype) if it is stored as
    /// something else, [`OutOfMemory`](WeightsError::OutOfMemory) if there is no room for the result.
    pub fn i8(&self, name: &str) -> Result<Vec<i8>, WeightsError> {
        let (info, bytes) = self.find(name)?;
        if info.dtype != Dtype::I8 {
            return Err(self.wrong_dtype(info, "I8"));
        }
        let mut values = room(self.file_of(info), &info.name, info.elements())?;
        values.extend_from_slice(bytemuck::cast_slice(&bytes));
        Ok(values)
    }

    /// The elements of `info` in `bytes`, each read from its `N` bytes and narrowed; `first` counts those before.
    fn decode<const N: usize, T: Copy + Into<f64>>(
        &self,
        info: &TensorInfo,
        first: usize,
        bytes: &[u8],
        read: impl Fn([u8; N]) -> T,
        narrow: impl Fn(T) -> f32,
    ) -> Result<Vec<f32>, WeightsError> {
        let (elements, _) = bytes.as_chunks::<N>();
        let mut values = room(self.file_of(info), &info.name, elements.len())?;
        values.extend(elements.iter().map(|&element| narrow(read(element))));
        finite(&values, |index| WeightsError::NotFinite {
            file: self.file_of(info).to_owned(),
            tensor: info.name.clone(),
            index: first + index,
            offset: info.range.start + (first + index) * N,
            value: read(elements[index]).into(),
        })?;
        Ok(values)
    }

    fn wrong_dtype(&self, info: &TensorInfo, wanted: &'static str) -> WeightsError {
        WeightsError::WrongDtype {
            file: self.file_of(info).to_owned(),
            tensor: info.name.clone(),
            found: info.dtype,
            wanted,
        }
    }
}
