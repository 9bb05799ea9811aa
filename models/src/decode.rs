//! Turns a picture file into 8-bit RGBA, the way the reference tools that trained the networks see it, and refuses
//! what is no picture or too large before it takes memory for it.
//!
//! Colours come as the file stores them: alpha is dropped without blending, grayscale and palettes become RGB, 16 bits
//! become 8, CMYK becomes RGB with Adobe's inversion, colour profiles are not applied. The orientation that EXIF states is
//! applied. Of an animation the first frame is taken.

mod jpeg;
#[cfg(test)]
mod tests;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageReader};
use std::error::Error;
use std::io::{self, Cursor, ErrorKind};
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

/// The kinds of file that are read, as messages list them.
const KINDS: &str = "jpeg, png, gif, webp or bmp";

/// A picture in host memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgba8Image {
    /// Pixels in a row, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
    /// Red, green, blue and 255 for each pixel, row by row from the top.
    pub pixels: Vec<u8>,
}

/// How large a picture may be, so that a small file cannot claim all memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels.
    pub pixels: u64,
    /// Most bytes that a file may have, and most bytes of memory that decoding it may take.
    pub bytes: u64,
}

impl Default for Limits {
    /// 100 megapixels and 512 MiB.
    fn default() -> Limits {
        Limits { pixels: 100_000_000, bytes: 512 << 20 }
    }
}

/// Why a picture cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The file cannot be opened or read.
    #[error("{file} cannot be read: {source}")]
    Read {
        /// The file, as the caller named it.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// The path names a folder.
    #[error("{file} is a folder; name the pictures in it one by one")]
    Folder {
        /// The path, as the caller named it.
        file: String,
    },
    /// The path names a pipe or a device, which may never end.
    #[error("{file} is no ordinary file but a pipe or a device; save the picture to a file and name that")]
    NotAFile {
        /// The path, as the caller named it.
        file: String,
    },
    /// The file is larger than the limit.
    #[error("{file} is larger than {limit} bytes, the most that is read; take a smaller file or raise the limit")]
    FileSize {
        /// The file, as the caller named it.
        file: String,
        /// [`Limits::bytes`].
        limit: u64,
    },
    /// The file has no bytes.
    #[error("{file} is empty; expected a picture ({KINDS})")]
    Empty {
        /// The file, as the caller named it.
        file: String,
    },
    /// The first bytes are those of no kind of picture that is read.
    #[error("{file} is not a picture that can be read; expected {KINDS}")]
    NotAPicture {
        /// The file, as the caller named it.
        file: String,
    },
    /// The header claims more pixels than the limit.
    #[error(
        "{file} claims {width} x {height} pixels, over the limit of {limit}; take a smaller picture or raise the limit"
    )]
    Pixels {
        /// The file, as the caller named it.
        file: String,
        /// Pixels in a row, as claimed.
        width: u32,
        /// Rows, as claimed.
        height: u32,
        /// [`Limits::pixels`].
        limit: u64,
    },
    /// Decoding the picture would take more memory than the limit.
    #[error(
        "{file} claims {width} x {height} pixels, and decoding them takes {needed} bytes, over the limit of {limit}; \
         take a smaller picture or raise the limit"
    )]
    Memory {
        /// The file, as the caller named it.
        file: String,
        /// Pixels in a row, as claimed.
        width: u32,
        /// Rows, as claimed.
        height: u32,
        /// Bytes at the peak.
        needed: u64,
        /// [`Limits::bytes`].
        limit: u64,
    },
    /// Something else in the file, such as a compressed text, would take more memory than the limit.
    #[error("{file} holds more than can be decoded within {limit} bytes; take a smaller picture or raise the limit")]
    Contents {
        /// The file, as the caller named it.
        file: String,
        /// [`Limits::bytes`].
        limit: u64,
    },
    /// The picture has no pixels.
    #[error("{file} claims {width} x {height} pixels; a picture needs at least one")]
    NoPixels {
        /// The file, as the caller named it.
        file: String,
        /// Pixels in a row, as claimed.
        width: u32,
        /// Rows, as claimed.
        height: u32,
    },
    /// The file ends before the picture does.
    #[error("{file} ends before its picture is complete; copy or download it again")]
    Truncated {
        /// The file, as the caller named it.
        file: String,
    },
    /// The file uses a feature of its format that is not decoded.
    #[error("{file} cannot be decoded: {source}; save it as an ordinary jpeg or png")]
    Unsupported {
        /// The file, as the caller named it.
        file: String,
        /// Which feature.
        source: ImageError,
    },
    /// The file's contents contradict themselves.
    #[error("{file} is damaged: {source}; copy or save it again")]
    Damaged {
        /// The file, as the caller named it.
        file: String,
        /// Where decoding failed.
        source: ImageError,
    },
}

/// Reads and decodes the picture file at `path`.
///
/// # Errors
/// [`DecodeError`] when there is no such file, when it is no picture, damaged or incomplete, or when it goes over `limits`.
#[cfg(not(target_arch = "wasm32"))]
pub fn decode_file(path: &Path, limits: &Limits) -> Result<Rgba8Image, DecodeError> {
    decode_image(&path.display().to_string(), &read_file(path, limits)?, limits)
}

/// Reads the picture file at `path` without decoding it. A pipe or a device is refused before it is opened, because opening
/// one may wait for ever.
///
/// # Errors
/// [`DecodeError::Read`], [`DecodeError::Folder`], [`DecodeError::NotAFile`] or [`DecodeError::FileSize`].
#[cfg(not(target_arch = "wasm32"))]
pub fn read_file(path: &Path, limits: &Limits) -> Result<Vec<u8>, DecodeError> {
    use std::io::Read;
    let file = path.display().to_string();
    let kind = match std::fs::metadata(path) {
        Ok(facts) => facts.file_type(),
        Err(source) => return Err(DecodeError::Read { file, source }),
    };
    if kind.is_dir() {
        return Err(DecodeError::Folder { file });
    }
    if !kind.is_file() {
        return Err(DecodeError::NotAFile { file });
    }
    // The limit holds for what is read, not for what the system says of the size: some files of the system say nothing.
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|opened| opened.take(limits.bytes.saturating_add(1)).read_to_end(&mut bytes));
    if let Err(source) = read {
        return Err(DecodeError::Read { file, source });
    }
    if bytes.len() as u64 > limits.bytes {
        return Err(DecodeError::FileSize { file, limit: limits.bytes });
    }
    Ok(bytes)
}

/// Pixels in a row and rows that the header of a picture file claims, before its orientation is applied; nothing is decoded.
/// `file` names the file in messages.
///
/// # Errors
/// [`DecodeError`] when the bytes are no picture, when their header is damaged, or when it claims more pixels than `limits`.
pub fn claimed_size(file: &str, bytes: &[u8], limits: &Limits) -> Result<(u32, u32), DecodeError> {
    Ok(decoder(file, bytes, limits)?.0.dimensions())
}

/// Decodes the bytes of a picture file; `file` names it in messages.
///
/// # Errors
/// [`DecodeError`] when the bytes are no picture, damaged or incomplete, or when the picture goes over `limits`.
pub fn decode_image(file: &str, bytes: &[u8], limits: &Limits) -> Result<Rgba8Image, DecodeError> {
    let (mut decoder, coefficient_bytes) = decoder(file, bytes, limits)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    // A sign of orientation that cannot be read is none; viewers show such a picture as it is stored.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let coefficients = coefficient_bytes.saturating_mul(pixels);
    let needed = peak(decoder.total_bytes(), decoder.color_type(), pixels, orientation).saturating_add(coefficients);
    if needed > limits.bytes {
        return Err(DecodeError::Memory { file: file.to_owned(), width, height, needed, limit: limits.bytes });
    }

    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| refusal(file, error, limits))?;
    picture.apply_orientation(orientation);
    let mut picture = picture.into_rgba8();
    for pixel in picture.pixels_mut() {
        pixel.0[3] = u8::MAX;
    }
    Ok(Rgba8Image { width: picture.width(), height: picture.height(), pixels: picture.into_raw() })
}

/// A decoder that has read the header and found it within `limits`, and the bytes of coefficients that a pixel takes.
fn decoder<'a>(
    file: &str,
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<(impl ImageDecoder + use<'a>, u64), DecodeError> {
    let named = || file.to_owned();
    if bytes.is_empty() {
        return Err(DecodeError::Empty { file: named() });
    }
    let format = image::guess_format(bytes).ok().filter(|format| format.reading_enabled());
    let Some(format) = format else {
        return Err(DecodeError::NotAPicture { file: named() });
    };
    let scan = (format == image::ImageFormat::Jpeg).then(|| jpeg::scan(bytes));
    if scan.is_some_and(|scan| !scan.complete) {
        // The decoder would fill what is missing with gray.
        return Err(DecodeError::Truncated { file: named() });
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut library = image::Limits::no_limits();
    library.max_alloc = Some(limits.bytes);
    reader.limits(library);
    let decoder = reader.into_decoder().map_err(|error| refusal(file, error, limits))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(DecodeError::NoPixels { file: named(), width, height });
    }
    if pixels > limits.pixels {
        return Err(DecodeError::Pixels { file: named(), width, height, limit: limits.pixels });
    }
    Ok((decoder, scan.map_or(0, |scan| scan.coefficient_bytes)))
}

/// Bytes of memory when most is taken: what the decoder fills, and beside it the turned picture or the RGBA.
fn peak(decoded: u64, color: ColorType, pixels: u64, orientation: Orientation) -> u64 {
    let turns = !matches!(
        orientation,
        Orientation::NoTransforms | Orientation::Rotate180 | Orientation::FlipHorizontal | Orientation::FlipVertical
    );
    let turned = if turns { decoded } else { 0 };
    let converted = if color == ColorType::Rgba8 { 0 } else { pixels.saturating_mul(4) };
    decoded.saturating_add(turned.max(converted))
}

/// What an error of the decoding library means for the caller.
fn refusal(file: &str, error: ImageError, limits: &Limits) -> DecodeError {
    let file = file.to_owned();
    if ends_early(&error) {
        return DecodeError::Truncated { file };
    }
    match error {
        ImageError::Limits(_) => DecodeError::Contents { file, limit: limits.bytes },
        ImageError::Unsupported(_) => DecodeError::Unsupported { file, source: error },
        _ => DecodeError::Damaged { file, source: error },
    }
}

/// Whether the cause of `error`, however deep, is that there were no more bytes.
fn ends_early(error: &ImageError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = current.source();
    }
    // An input error hides its cause from the chain.
    matches!(error, ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof)
}
