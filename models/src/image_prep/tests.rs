//! Holds the image preparation against recordings of the libraries whose arithmetic it repeats, bit for bit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first thing that is not as expected")]

use serde_json::Value;

use super::*;
use crate::test_material::{bytes, material};

/// The pictures of the recording script.
fn byte(x: u32, y: u32, c: u32) -> u8 {
    ((x * 37 + y * 101 + c * 59 + (x * y) % 7 * 13 + (x / 3) % 2 * 90) % 256) as u8
}

fn picture(width: u32, height: u32) -> Vec<u8> {
    let pixel = |x, y| [byte(x, y, 0), byte(x, y, 1), byte(x, y, 2), byte(x, y, 3)];
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

fn rgb(rgba: &[u8]) -> Vec<u8> {
    rgba.chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec()).collect()
}

fn digest(data: &[u8]) -> String {
    let step = |value: u64, byte: &u8| (value ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", data.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

fn recorded(part: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../tests/fixtures/resize.json")).unwrap();
    all[part].as_array().unwrap().clone()
}

fn filter(value: &Value) -> Filter {
    match value.as_str().unwrap() {
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        other => panic!("{other}"),
    }
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap() as u32
}

#[test]
fn single_passes_are_pillows() {
    let rows = recorded("rows");
    assert_eq!(rows.len(), 16);
    for row in rows {
        let (source, target) = (number(&row[1]), number(&row[2]));
        let table = ResizeTable::new(filter(&row[0]), source, target, 0, target).unwrap();
        let pixels: Vec<[u8; 4]> = (0..source).map(|x| [byte(x, 0, 0); 4]).collect();
        let found: Vec<u8> = table.rows().map(|(first, row)| weigh(pixels[first..].iter(), row)[0]).collect();
        let expected: Vec<u8> = row[3].as_array().unwrap().iter().map(|value| number(value) as u8).collect();
        assert_eq!(found, expected, "{} {source} -> {target}", row[0]);
    }
}

#[test]
fn resize_and_crop_are_torchvisions() {
    let crops = recorded("crops");
    assert_eq!(crops.len(), 30);
    for case in crops {
        let (width, height) = (number(&case[1]), number(&case[2]));
        let resize = match &case[3] {
            Value::Array(size) => Resize::Exact { width: number(&size[0]), height: number(&size[1]) },
            size => Resize::Shorter(number(size)),
        };
        let preprocess =
            Preprocess { resize, crop: number(&case[4]), filter: filter(&case[0]), ..Preprocess::default() };
        let result = resize_crop_u8(&picture(width, height), width, height, &preprocess).unwrap();
        assert!(result.chunks_exact(4).all(|pixel| pixel[3] == 255));
        assert_eq!(digest(&rgb(&result)), case[5].as_str().unwrap(), "{case}");
    }
}

#[test]
fn recorded_photos_match_bit_for_bit() {
    let Some(folder) = material("recorded_photos_match_bit_for_bit") else {
        return;
    };
    let labels: Value = serde_json::from_slice(&bytes(&folder, "images/labels.json")).unwrap();
    let data = bytes(&folder, "images/pixels.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&data).unwrap();
    let crops = tensors.tensor("crop_u8").unwrap();
    let pixels = tensors.tensor("pixels").unwrap();
    let one = 224 * 224 * 3;
    let preprocess = Preprocess { mean: [0.5; 3], std: [0.5; 3], ..Preprocess::default() };
    let (scale, bias) = preprocess.scale_and_bias();
    let mut compared = 0;
    for (position, file) in labels["pixels"]["images"].as_array().unwrap().iter().enumerate() {
        let decoded = labels["decoded"].as_array().unwrap().iter().find(|entry| entry["file"] == *file);
        let Some(entry) = decoded else { continue };
        let png = bytes(&folder, &format!("images/{}", entry["decoded"].as_str().unwrap()));
        let image = image::load_from_memory(&png).unwrap().to_rgba8();
        let result = rgb(&resize_crop_u8(image.as_raw(), image.width(), image.height(), &preprocess).unwrap());
        assert!(result == crops.data()[position * one..][..one], "{file} differs");
        for (at, &byte) in result.iter().enumerate() {
            let (pixel, colour) = (at / 3, at % 3);
            let bytes = pixels.data()[(position * one + colour * 224 * 224 + pixel) * 4..][..4].try_into().unwrap();
            let difference = f32::from(byte) * scale[colour] + bias[colour] - f32::from_le_bytes(bytes);
            assert!(difference.abs() < 1e-6, "{file}: {difference}");
        }
        compared += 1;
    }
    assert_eq!(compared, 2);
}

#[test]
fn crop_columns_equal_those_of_the_whole() {
    for (input, output) in [(500_u32, 256_u32), (100, 256), (3, 300), (256, 256)] {
        let whole = ResizeTable::new(Filter::Bilinear, input, output, 0, output).unwrap();
        let part = ResizeTable::new(Filter::Bilinear, input, output, 16, 224).unwrap();
        assert_eq!(part.len(), 224);
        let tail: Vec<_> = whole.rows().skip(16).take(224).collect();
        assert!(part.rows().eq(tail), "{input} -> {output}");
        let (from, count) = part.inputs();
        assert!(
            part.first.iter().zip(&part.count).all(|(&first, &taps)| first >= from && first + taps <= from + count)
        );
        assert_eq!(part.coefficients.len(), part.taps * 224);
    }
}

#[test]
fn a_flat_picture_stays_flat() {
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        let preprocess = Preprocess { resize: Resize::Shorter(45), crop: 32, filter, ..Preprocess::default() };
        for level in [0, 1, 127, 254, 255] {
            let result = resize_crop_u8(&vec![level; 97 * 61 * 4], 97, 61, &preprocess).unwrap();
            assert!(rgb(&result).iter().all(|&byte| byte == level));
        }
    }
}

#[test]
fn without_resize_the_centre_is_copied() {
    let preprocess = Preprocess { resize: Resize::Keep, crop: 32, ..Preprocess::default() };
    let result = resize_crop_u8(&picture(40, 37), 40, 37, &preprocess).unwrap();
    // (37 - 32) / 2 = 2.5 rounds to the even 2.
    assert_eq!(&result[..3], [byte(4, 2, 0), byte(4, 2, 1), byte(4, 2, 2)]);
    let last = result.len() - 4;
    assert_eq!(&result[last..last + 3], [byte(35, 33, 0), byte(35, 33, 1), byte(35, 33, 2)]);
}

#[test]
fn impossible_sizes_are_refused() {
    let usual = Preprocess::default();
    let refused = |preprocess: Preprocess, width, height| match preprocess.geometry(width, height) {
        Err(Error::ImageSize { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(usual, 0, 10), "the picture");
    assert_eq!(refused(usual, 10, 0), "the picture");
    assert_eq!(refused(usual, 65_536, 10), "the picture");
    assert_eq!(refused(Preprocess { crop: 0, ..usual }, 10, 10), "the crop");
    assert_eq!(refused(Preprocess { crop: 100, ..usual }, 10, 10), "the crop");
    assert_eq!(refused(Preprocess { crop: !31, ..usual }, 10, 10), "the crop");
    for resize in [
        Resize::Shorter(0),
        Resize::Shorter(u32::MAX),
        Resize::Exact { width: 0, height: 9 },
        Resize::Exact { width: 9, height: 8193 },
    ] {
        assert_eq!(refused(Preprocess { resize, ..usual }, 10, 10), "the size to resize to");
    }
    let lost = Preprocess { resize: Resize::Shorter(1), crop: 8192, ..usual };
    assert!(matches!(Passes::new(&lost, 65_535, 65_535), Err(Error::ImageSize { .. })));
    assert!(matches!(resize_crop_u8(&[0; 7], 2, 1, &usual), Err(Error::Length { found: 7, .. })));
    assert!(ResizeTable::new(Filter::Bilinear, 0, 1, 0, 1).is_err());
    assert!(ResizeTable::new(Filter::Bilinear, 1, 0, 0, 1).is_err());
}

#[test]
fn extreme_pictures_need_little() {
    let passes = Passes::new(&Preprocess::default(), 65_535, 1).unwrap();
    assert_eq!((passes.first_row, passes.rows, passes.horizontal.taps), (0, 1, 2));
    let passes = Passes::new(&Preprocess::default(), 65_535, 65_535).unwrap();
    assert!(passes.horizontal.coefficients.len() < 1 << 17, "{}", passes.horizontal.coefficients.len());
}
