//! Decoding against the reference's own pixels where they are at hand, and against files made to do harm.

use super::{DecodeError, Limits, Rgba8Image, decode_file, decode_image};
use crate::test_material::{bytes, material};
use image::{DynamicImage, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};
use std::io::Cursor;
use std::path::Path;

fn decode(bytes: &[u8]) -> Result<Rgba8Image, DecodeError> {
    decode_image("some.file", bytes, &Limits::default())
}

/// A smooth picture of 40 x 30 pixels that every encoder takes.
fn scene() -> RgbImage {
    RgbImage::from_fn(40, 30, |x, y| Rgb([(x * 6) as u8, (y * 8) as u8, (255 - x * 3 - y * 3) as u8]))
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// Largest and mean difference of the colours of two pictures of one size.
fn difference(found: &Rgba8Image, expected: &Rgba8Image) -> (u8, f64) {
    assert_eq!((found.width, found.height), (expected.width, expected.height));
    let colours = |image: &Rgba8Image| -> Vec<u8> { image.pixels.chunks(4).flat_map(|p| p[..3].to_vec()).collect() };
    let apart: Vec<u8> = colours(found).iter().zip(colours(expected)).map(|(f, e)| f.abs_diff(e)).collect();
    let mean = apart.iter().map(|d| f64::from(*d)).sum::<f64>() / apart.len() as f64;
    (apart.into_iter().max().unwrap(), mean)
}

#[test]
fn jpegs_come_within_a_few_levels_of_the_reference() {
    let Some(folder) = material("jpegs_come_within_a_few_levels_of_the_reference") else {
        return;
    };
    // Both round differently where colours are converted and chroma is enlarged; gray has neither.
    for (jpeg, png, most, mean) in [
        ("0680_n03825788_nipple.jpg", "0680_n03825788_nipple.png", 4, 0.5),
        ("0710_n03908714_pencil_sharpener.jpg", "0710_n03908714_pencil_sharpener.png", 2, 0.05),
        ("odd/cmyk.jpg", "cmyk.png", 2, 0.05),
        ("odd/exif6.jpg", "exif6.png", 4, 0.5),
        ("odd/gray.jpg", "gray.png", 2, 0.05),
        ("odd/progressive.jpg", "progressive.png", 4, 0.5),
    ] {
        let found = decode(&bytes(&folder, &format!("images/{jpeg}"))).unwrap();
        let expected = decode(&bytes(&folder, &format!("images/decoded/{png}"))).unwrap();
        let (worst, average) = difference(&found, &expected);
        eprintln!("{jpeg}: at most {worst} levels, {average:.4} on average");
        assert!(worst <= most && average <= mean, "{jpeg}: at most {worst} levels, {average} on average");
        assert!(found.pixels.chunks(4).all(|pixel| pixel[3] == 255));
    }
}

#[test]
fn alpha_is_dropped_and_palettes_are_resolved() {
    let Some(folder) = material("alpha_is_dropped_and_palettes_are_resolved") else {
        return;
    };
    let mean = |image: &Rgba8Image| {
        let pixels = f64::from(image.width * image.height);
        [0, 1, 2].map(|c| image.pixels.chunks(4).map(|pixel| f64::from(pixel[c])).sum::<f64>() / pixels)
    };
    let original = mean(&decode(&bytes(&folder, "images/0080_n01795545_black_grouse.jpg")).unwrap());
    let alpha = decode(&bytes(&folder, "images/odd/alpha.png")).unwrap();
    let palette = decode(&bytes(&folder, "images/odd/palette.png")).unwrap();
    // Both are the photo in two thirds of its size; blending a ramp of alpha would halve the colours.
    for picture in [&alpha, &palette] {
        assert_eq!((picture.width, picture.height), (333, 250));
        let found = mean(picture);
        eprintln!("mean colour {found:.2?}, of the original {original:.2?}");
        assert!(found.iter().zip(original).all(|(f, o)| (f - o).abs() < 1.5), "{found:?}, expected {original:?}");
    }
    let (worst, average) = difference(&palette, &alpha);
    eprintln!("palette.png: at most {worst} levels from alpha.png, {average:.4} on average");
    assert!(average <= 8.0, "at most {worst}, {average} on average");
}

#[test]
fn all_photos_decode() {
    let Some(folder) = material("all_photos_decode") else {
        return;
    };
    let photos: Vec<_> = std::fs::read_dir(folder.join("images"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "jpg"))
        .collect();
    assert_eq!(photos.len(), 100);
    for photo in photos {
        let picture = decode_file(&photo, &Limits::default()).unwrap();
        assert_eq!(picture.pixels.len(), picture.width as usize * picture.height as usize * 4);
    }
}

#[test]
fn every_kind_of_picture_gives_its_colours() {
    let scene = scene();
    let expected: Vec<u8> = scene.pixels().flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        let found = decode(&encoded(scene.clone(), format)).unwrap();
        assert_eq!((found.width, found.height), (40, 30));
        assert_eq!(found.pixels, expected, "{format:?}");
    }
    let flat = Rgba8Image { width: 40, height: 30, pixels: expected };
    for (format, mean) in [(ImageFormat::Jpeg, 3.0), (ImageFormat::Gif, 8.0)] {
        let (worst, average) = difference(&decode(&encoded(scene.clone(), format)).unwrap(), &flat);
        assert!(average < mean, "{format:?}: at most {worst} levels, {average} on average");
    }
}

#[test]
fn every_kind_of_pixel_becomes_rgb() {
    let first = |picture: DynamicImage| decode(&encoded(picture, ImageFormat::Png)).unwrap().pixels[..4].to_vec();
    let clear = image::RgbaImage::from_pixel(2, 2, Rgba([10, 20, 30, 0]));
    assert_eq!(first(clear.into()), [10, 20, 30, 255]);
    let gray = image::ImageBuffer::from_pixel(2, 2, Luma([77u8]));
    assert_eq!(first(gray.into()), [77, 77, 77, 255]);
    let clear_gray = image::ImageBuffer::from_pixel(2, 2, LumaA([77u8, 3]));
    assert_eq!(first(clear_gray.into()), [77, 77, 77, 255]);
    let deep = image::ImageBuffer::from_pixel(2, 2, Rgb([257u16 * 200, 257 * 100, 257]));
    assert_eq!(first(deep.into()), [200, 100, 1, 255]);
    let deep_gray = image::ImageBuffer::from_pixel(2, 2, Luma([257u16 * 9]));
    assert_eq!(first(deep_gray.into()), [9, 9, 9, 255]);
}

/// `jpeg` with a segment of EXIF after its first marker that states `orientation` (TIFF 6.0, tag 0x112).
fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn every_orientation_is_applied() {
    let jpeg = encoded(scene(), ImageFormat::Jpeg);
    let upright = decode(&jpeg).unwrap();
    let at = |picture: &Rgba8Image, x: u32, y: u32| {
        let from = (y as usize * picture.width as usize + x as usize) * 4;
        picture.pixels[from..from + 3].to_vec()
    };
    let (right, bottom) = (39, 29);
    // Which stored corner is shown at the top left, and whether the sides change places.
    for (orientation, x, y, swapped) in [
        (1, 0, 0, false),
        (2, right, 0, false),
        (3, right, bottom, false),
        (4, 0, bottom, false),
        (5, 0, 0, true),
        (6, 0, bottom, true),
        (7, right, bottom, true),
        (8, right, 0, true),
        (9, 0, 0, false),
    ] {
        let found = decode(&turned(&jpeg, orientation)).unwrap();
        let size = if swapped { (30, 40) } else { (40, 30) };
        assert_eq!((found.width, found.height), size, "orientation {orientation}");
        assert_eq!(at(&found, 0, 0), at(&upright, x, y), "orientation {orientation}");
    }
}

/// A PNG header that claims a size, with its checksum, and no data.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        let sum = body.iter().fold(!0u32, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |s, _| (s >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(s & 1)))
        });
        [&(data.len() as u32).to_be_bytes()[..], &body, &(!sum).to_be_bytes()].concat()
    };
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [&size[..], &[8, 2, 0, 0, 0]].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"IDAT", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

#[test]
fn a_claim_over_the_limit_is_refused_with_its_size() {
    let error = decode(&claiming(60_000, 60_000)).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, DecodeError::Pixels { width: 60_000, height: 60_000, limit: 100_000_000, .. }),
        "{error:?}"
    );
    assert_eq!(
        text,
        "some.file claims 60000 x 60000 pixels, over the limit of 100000000; take a smaller picture or raise the limit"
    );
    let error = decode(&claiming(9_999, 10_000)).unwrap_err();
    assert!(matches!(error, DecodeError::Memory { needed: 699_930_000, limit: 536_870_912, .. }), "{error:?}");
    let error = decode(&claiming(u32::MAX >> 1, u32::MAX >> 1)).unwrap_err();
    // Too wide for the library to say how wide.
    assert!(matches!(error, DecodeError::Contents { .. }), "{error:?}");
    assert!(decode(&claiming(0, 5)).is_err());
    // Within the limits it is its missing rows that are refused.
    assert!(matches!(decode(&claiming(50, 50)), Err(DecodeError::Truncated { .. } | DecodeError::Damaged { .. })));

    let small = Limits { pixels: 1_199, bytes: 1 << 20 };
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp] {
        let file = encoded(scene(), format);
        assert!(matches!(decode_image("f", &file, &small), Err(DecodeError::Pixels { .. })), "{format:?}");
        let small = Limits { pixels: 1_200, bytes: 4_000 };
        let error = decode_image("f", &file, &small).unwrap_err();
        assert!(matches!(error, DecodeError::Memory { .. } | DecodeError::Contents { .. }), "{format:?}: {error:?}");
    }
}

#[test]
fn coefficients_of_a_progressive_jpeg_count() {
    let Some(folder) = material("coefficients_of_a_progressive_jpeg_count") else {
        return;
    };
    let pixels = 500 * 376;
    let file = bytes(&folder, "images/odd/progressive.jpg");
    let limits = Limits { bytes: pixels * (3 + 4 + 6), ..Limits::default() };
    assert!(decode_image("p", &file, &limits).is_ok());
    let limits = Limits { bytes: limits.bytes - 1, ..limits };
    let error = decode_image("p", &file, &limits).unwrap_err();
    assert!(matches!(error, DecodeError::Memory { needed, .. } if needed == pixels * 13), "{error:?}");
    let sequential = bytes(&folder, "images/0080_n01795545_black_grouse.jpg");
    assert!(decode_image("s", &sequential, &Limits { bytes: pixels * 7, ..limits }).is_ok());
}

#[test]
fn an_incomplete_file_is_never_taken_for_a_picture() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp] {
        let file = encoded(scene(), format);
        // Up to the last byte that carries pixels; what follows may be a trailer that no decoder asks for.
        for length in (4..file.len() * 3 / 4).step_by(7) {
            let error = decode(&file[..length]).unwrap_err();
            assert!(!error.to_string().is_empty());
        }
        let error = decode(&file[..file.len() / 2]).unwrap_err();
        // The libraries for the other two only say that they could not go on.
        let vague =
            matches!(format, ImageFormat::Gif | ImageFormat::WebP) && matches!(error, DecodeError::Damaged { .. });
        let named = vague || matches!(error, DecodeError::Truncated { .. });
        assert!(named, "{format:?}: {error:?}");
    }
    let jpeg = encoded(scene(), ImageFormat::Jpeg);
    for length in jpeg.len() - 200..jpeg.len() {
        assert!(matches!(decode(&jpeg[..length]), Err(DecodeError::Truncated { .. })), "{length} of {}", jpeg.len());
    }
    // What follows the end does no harm.
    assert!(decode(&[&jpeg[..], b"and more"].concat()).is_ok());
}

#[test]
fn damage_gives_an_error_or_a_picture_of_the_right_size() {
    let mut noise = 0x2545_f491_4f6c_dd1du64;
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp] {
        let file = encoded(scene(), format);
        for _ in 0..300 {
            let mut damaged = file.clone();
            for _ in 0..3 {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                let at = noise as usize % damaged.len();
                damaged[at] = (noise >> 40) as u8;
            }
            let limits = Limits { pixels: 1 << 20, bytes: 16 << 20 };
            if let Ok(picture) = decode_image("damaged", &damaged, &limits) {
                assert_eq!(picture.pixels.len() as u64, u64::from(picture.width) * u64::from(picture.height) * 4);
            }
        }
    }
}

#[test]
fn what_is_no_picture_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, contents: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    };
    let file = |path: &Path| decode_file(path, &Limits::default()).unwrap_err();
    let empty = file(&at("empty.jpg", b""));
    assert!(matches!(empty, DecodeError::Empty { .. }) && empty.to_string().contains("empty.jpg is empty"));
    let text = file(&at("letter.png", b"Dear reader, this is no picture at all."));
    assert!(
        matches!(text, DecodeError::NotAPicture { .. }) && text.to_string().contains("letter.png is not a picture")
    );
    let tiff = file(&at("scan.tif", b"II*\0\x08\0\0\0\0\0\0\0\0\0\0\0"));
    assert!(matches!(tiff, DecodeError::NotAPicture { .. }), "{tiff:?}");
    let a_folder = file(folder.path());
    assert!(matches!(a_folder, DecodeError::Folder { .. }) && a_folder.to_string().contains("is a folder"));
    let missing = file(&folder.path().join("missing.png"));
    assert!(matches!(missing, DecodeError::Read { .. }) && missing.to_string().contains("missing.png cannot be read"));
    let large = at("large.bmp", &encoded(scene(), ImageFormat::Bmp));
    let error = decode_file(&large, &Limits { bytes: 3_000, ..Limits::default() }).unwrap_err();
    assert!(matches!(error, DecodeError::FileSize { limit: 3_000, .. }), "{error:?}");
}
