//! Gives out the data of a GGUF file's tensors: blocks as they lie, by row, or decoded to numbers.

use std::borrow::Cow;
use std::ops::Range;

use super::super::rows::{Rows, finite, room};
use super::super::{Feed, WeightsError};
use super::{Gguf, GgufTensor};

impl GgufTensor {
    /// The number of elements: the product of the shape.
    #[must_use]
    pub fn elements(&self) -> usize {
        // Not multiplied out with a 0 in it: the other dimensions may be any numbers.
        if self.shape.contains(&0) { 0 } else { self.shape.iter().product() }
    }

    /// How the data divides into rows.
    fn rows(&self) -> Rows {
        let bytes = self.range.end - self.range.start;
        Rows::of(&self.shape, bytes)
    }
}

impl Gguf {
    /// The blocks of `name`, row after row.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is no such tensor, [`Io`](WeightsError::Io) if the source cannot be read.
    pub fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, WeightsError> {
        let tensor = self.find(name)?;
        self.read(tensor, tensor.range.clone())
    }

    /// The blocks of some rows of `name`. A row is one run of the innermost dimension; there are as many as the other
    /// dimensions' product.
    ///
    /// # Errors
    /// As [`Gguf::bytes`], and [`WeightsError::RowsOutside`].
    pub fn rows(&self, name: &str, rows: Range<usize>) -> Result<Cow<'_, [u8]>, WeightsError> {
        let tensor = self.find(name)?;
        let within = tensor.rows().bytes(self.file_of(tensor), name, rows)?;
        self.read(tensor, tensor.range.start + within.start..tensor.range.start + within.end)
    }

    /// Says that these rows of `name` are about to be read one after another.
    ///
    /// # Errors
    /// As [`Gguf::rows`].
    pub fn expect_rows(&self, name: &str, rows: Range<usize>) -> Result<(), WeightsError> {
        let tensor = self.find(name)?;
        let within = tensor.rows().bytes(self.file_of(tensor), name, rows)?;
        let expected = self.inner.parts[tensor.part]
            .source
            .expect(tensor.range.start + within.start..tensor.range.start + within.end);
        let file = || self.file_of(tensor).to_owned();
        expected.map_err(|source| WeightsError::Io { file: file(), action: "read a tensor", source })
    }

    /// What fetches the bytes that a read lacks, if they come later.
    #[must_use]
    pub fn feed(&self) -> Option<&Feed> {
        self.inner.parts.iter().find_map(|part| part.source.feed())
    }

    /// The elements of `name` as single precision, row after row.
    ///
    /// # Errors
    /// As [`Gguf::bytes`]; [`WeightsError::Blocks`] for a format that is not decoded, [`NotFinite`](WeightsError::NotFinite)
    /// for the first element that is not a number or infinite, [`OutOfMemory`](WeightsError::OutOfMemory) if there is no room
    /// for the result.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let tensor = self.find(name)?;
        self.decode(tensor, 0..tensor.rows().count)
    }

    /// Some rows of `name`, as [`Gguf::rows`] counts them, as single precision.
    ///
    /// # Errors
    /// As [`Gguf::f32`] and [`Gguf::rows`].
    pub fn f32_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightsError> {
        let tensor = self.find(name)?;
        self.decode(tensor, rows)
    }

    fn decode(&self, tensor: &GgufTensor, rows: Range<usize>) -> Result<Vec<f32>, WeightsError> {
        let (file, name) = (self.file_of(tensor), tensor.name.as_str());
        let first = rows.start;
        let within = tensor.rows().bytes(file, name, rows)?;
        let start = tensor.range.start + within.start;
        let bytes = self.read(tensor, start..tensor.range.start + within.end)?;
        let count = bytes.len() / tensor.format.block_bytes() * tensor.format.block_elements();
        let mut values = room(file, name, count)?;
        values.resize(count, 0.0);
        let blocks = |source| WeightsError::Blocks { file: file.to_owned(), tensor: name.to_owned(), source };
        tensor.format.dequantize(&bytes, &mut values).map_err(blocks)?;
        let row = tensor.shape.last().copied().unwrap_or(1);
        finite(&values, |at| WeightsError::NotFinite {
            file: file.to_owned(),
            tensor: name.to_owned(),
            index: first * row + at,
            offset: (start as usize) + at / tensor.format.block_elements() * tensor.format.block_bytes(),
            value: values[at].into(),
        })?;
        Ok(values)
    }

    /// The file that has `tensor`.
    fn file_of(&self, tensor: &GgufTensor) -> &str {
        self.inner.parts.get(tensor.part).map_or(self.file(), |part| &part.name)
    }

    fn find(&self, name: &str) -> Result<&GgufTensor, WeightsError> {
        self.get(name).ok_or_else(|| WeightsError::Missing {
            file: self.file().to_owned(),
            tensor: name.to_owned(),
            count: self.inner.tensors.len(),
        })
    }

    /// Bytes of the file that has `tensor`.
    fn read(&self, tensor: &GgufTensor, range: Range<u64>) -> Result<Cow<'_, [u8]>, WeightsError> {
        let file = || self.file_of(tensor).to_owned();
        let part = &self.inner.parts[tensor.part];
        let needed = range.end - range.start;
        let bytes = part.source.read(range);
        let bytes = bytes.map_err(|source| WeightsError::Io { file: file(), action: "read a tensor", source })?;
        if bytes.len() as u64 != needed {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(WeightsError::Io { file: file(), action: "read a whole tensor", source });
        }
        Ok(bytes)
    }
}
