//! What can be wrong with numbers in blocks.

use super::BlockFormat;

/// Why numbers could not be decoded from blocks or encoded into them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// A format that is known by name and size only.
    #[error("{format} is not decoded here, only {}; get the model in one of those", BlockFormat::list(&BlockFormat::DECODED))]
    NotDecoded {
        /// The format.
        format: BlockFormat,
    },
    /// A format that nothing is encoded in.
    #[error("nothing is encoded as {format} here, only as {}; choose one of those", BlockFormat::list(&BlockFormat::ENCODED))]
    NotEncoded {
        /// The format.
        format: BlockFormat,
    },
    /// The lengths do not fit the format.
    #[error(
        "{elements} elements in {bytes} bytes are no whole blocks of {format} ({} elements in {} bytes each); hand over whole rows",
        format.block_elements(), format.block_bytes()
    )]
    Length {
        /// The format.
        format: BlockFormat,
        /// Bytes handed over; 0 where they were to be made.
        bytes: usize,
        /// Elements handed over, or room for them.
        elements: usize,
    },
    /// A value that no block can hold.
    #[error(
        "{value} at element {index} cannot be stored as {format}: it is not finite, or too large for a scale in half precision; store the tensor as F32 or BF16"
    )]
    NotFinite {
        /// The format.
        format: BlockFormat,
        /// The element.
        index: usize,
        /// Its value.
        value: f32,
    },
}
