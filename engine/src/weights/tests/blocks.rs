//! Blocks written by hand decode to what their layout says, and what is encoded comes back as closely as its bits allow.

use half::f16;
use proptest::prelude::*;

use super::super::Dtype;
use super::super::blocks::{BlockError, BlockFormat};

/// Decodes one block.
fn decoded(format: BlockFormat, block: &[u8]) -> Vec<f32> {
    let mut values = vec![f32::NAN; format.block_elements()];
    format.dequantize(block, &mut values).unwrap();
    values
}

fn half(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

/// Asserts that `block`, which holds zeros but for what `edit` writes, is all `rest` but for the elements listed.
fn assert_elements(format: BlockFormat, edit: impl Fn(&mut [u8]), rest: f32, elements: &[(usize, f32)]) {
    let mut block = vec![0; format.block_bytes()];
    edit(&mut block);
    for (i, value) in decoded(format, &block).into_iter().enumerate() {
        let expected = elements.iter().find(|(at, _)| *at == i).map_or(rest, |(_, value)| *value);
        assert_eq!(value, expected, "{format}, element {i}");
    }
}

#[test]
fn formats_of_32_elements_lie_as_their_layout_says() {
    let scale = |block: &mut [u8]| block[..2].copy_from_slice(&half(0.5));
    assert_elements(BlockFormat::Q4_0, |b| (scale(b), b[3] = 0x9f).0, -4.0, &[(1, 3.5), (17, 0.5)]);
    let affine = |block: &mut [u8]| {
        scale(block);
        block[2..4].copy_from_slice(&half(-3.0));
    };
    assert_elements(BlockFormat::Q4_1, |b| (affine(b), b[19] = 0x21).0, -3.0, &[(15, -2.5), (31, -2.0)]);
    let fifth = |b: &mut [u8]| (scale(b), b[2] = 2, b[5] = 0x80, b[7] = 0xf3).0;
    assert_elements(BlockFormat::Q5_0, fifth, -8.0, &[(1, 1.5), (17, -0.5), (31, 0.0)]);
    let fifth = |b: &mut [u8]| (affine(b), b[4] = 2, b[9] = 0xf3).0;
    assert_elements(BlockFormat::Q5_1, fifth, -3.0, &[(1, 6.5), (17, 4.5)]);
    assert_elements(BlockFormat::Q8_0, |b| (scale(b), b[2] = 128, b[33] = 127).0, 0.0, &[(0, -64.0), (31, 63.5)]);
    assert_elements(BlockFormat::IQ4NL, |b| (scale(b), b[2] = 0xf0).0, -63.5, &[(16, 56.5)]);
}

#[test]
fn k_formats_lie_as_their_layout_says() {
    // Sub-block 3 of 16: scale 5 and minimum 2; its element 0 is byte 16 of the first 32, second pair of bits.
    let q2 = |b: &mut [u8]| {
        b[80..84].copy_from_slice(&[half(1.0), half(0.5)].concat());
        (b[3], b[16 + 16]) = (0x25, 0b1100);
    };
    let rest: Vec<(usize, f32)> = (49..64).map(|i| (i, -1.0)).chain([(48, 14.0)]).collect();
    assert_elements(BlockFormat::Q2K, q2, 0.0, &rest);
    // All scales are -32; of the first 16, 33 - 32 = 1. Element 2: third bit and 3.
    let q3 = |b: &mut [u8]| {
        b[108..110].copy_from_slice(&half(1.0));
        (b[96], b[104], b[2], b[32 + 2]) = (1, 2, 1, 3);
    };
    let first: Vec<(usize, f32)> = (0..16).map(|i| (i, if i == 2 { 3.0 } else { -4.0 })).collect();
    assert_elements(BlockFormat::Q3K, q3, 128.0, &first);
    // Sub-block 5 of 32: scale 0b11_0001, minimum 0b10_0010; element 4 is the high half of byte 2 * 32 + 4.
    let head = |b: &mut [u8]| {
        b[..4].copy_from_slice(&[half(1.0), half(2.0)].concat());
        (b[4 + 9], b[4 + 1], b[4 + 5]) = (0x21, 0xc0, 0x80);
    };
    let fifth = |high: f32| (160..192).map(move |i| (i, -68.0 + if i == 164 { 49.0 * high } else { 0.0 }));
    let q4 = |b: &mut [u8]| (head(b), b[16 + 68] = 0x70).0;
    assert_elements(BlockFormat::Q4K, q4, 0.0, &fifth(7.0).collect::<Vec<_>>());
    let q5 = |b: &mut [u8]| (head(b), b[16 + 4] = 1 << 5, b[48 + 68] = 0x70).0;
    assert_elements(BlockFormat::Q5K, q5, 0.0, &fifth(23.0).collect::<Vec<_>>());
    // Sub-block 12 of 16 is element 192: high half of byte 64 of the low bits, bits 4 and 5 of byte 32 of the high ones.
    let q6 = |b: &mut [u8]| {
        b[208..210].copy_from_slice(&half(0.5));
        (b[192 + 12], b[64], b[128 + 32]) = (0xfe, 0xa0, 0x30);
    };
    let twelfth: Vec<(usize, f32)> = (192..208).map(|i| (i, if i == 192 { -26.0 } else { 32.0 })).collect();
    assert_elements(BlockFormat::Q6K, q6, 0.0, &twelfth);
    // Sub-block 2 of 32: scale 0b10_0001 - 32 = 1.
    let iq4 = |b: &mut [u8]| {
        b[..4].copy_from_slice(&[half(0.5), 0x20_u16.to_le_bytes()].concat());
        (b[5], b[8 + 32]) = (0x01, 0x98);
    };
    let second: Vec<(usize, f32)> = (64..96)
        .map(|i| {
            (
                i,
                if i == 64 {
                    0.5
                } else if i == 80 {
                    6.5
                } else {
                    -63.5
                },
            )
        })
        .collect();
    assert_elements(BlockFormat::IQ4XS, iq4, 2032.0, &second);
}

#[test]
fn mxfp4_has_every_power_of_two_down_to_the_subnormal_ones() {
    for exponent in 0..=254_u8 {
        let mut block = [0; 17];
        (block[0], block[1]) = (exponent, 0xa7);
        let scale = 2.0_f64.powi(i32::from(exponent) - 127);
        let values = decoded(BlockFormat::MXFP4, &block);
        assert_eq!([values[0], values[16], values[1]], [6.0 * scale, -scale, 0.0].map(|value| value as f32));
    }
}

#[test]
fn names_and_numbers_are_distinct_and_found() {
    for format in BlockFormat::ALL {
        assert_eq!(BlockFormat::from_name(format.name()), Some(format));
        assert_eq!(BlockFormat::from_ggml_type(format.ggml_type()), Some(format));
        if let Some(dtype) = format.dtype() {
            assert_eq!((format.block_elements(), format.block_bytes() * 8), (1, dtype.bits()), "{format}");
            assert_eq!(format.name(), dtype.name());
        }
    }
    assert_eq!(BlockFormat::Q6K.row_bytes(512), Some(420));
    assert_eq!(BlockFormat::Q6K.row_bytes(511), None);
    assert_eq!(BlockFormat::F64.row_bytes(usize::MAX), None);
    assert_eq!(BlockFormat::MXFP4.dtype(), None::<Dtype>);
}

#[test]
fn what_is_not_decoded_or_encoded_says_what_is() {
    for format in BlockFormat::ALL {
        let mut values = vec![0.0; format.block_elements()];
        let decoded = format.dequantize(&vec![0; format.block_bytes()], &mut values);
        assert_eq!(decoded.is_ok(), BlockFormat::DECODED.contains(&format), "{format}");
        let encoded = format.quantize(&values).map(|encoded| encoded.bytes.len());
        match BlockFormat::ENCODED.contains(&format) {
            true => assert_eq!(encoded.unwrap(), format.block_bytes()),
            false => assert_eq!(encoded.unwrap_err(), BlockError::NotEncoded { format }),
        }
        if let Err(error) = decoded {
            assert!(error.to_string().contains("Q8_0, Q2_K") && error.to_string().contains("get the model"), "{error}");
        }
    }
}

#[test]
fn lengths_that_are_no_whole_blocks_are_refused() {
    let format = BlockFormat::Q4_0;
    for (bytes, elements) in [(17, 32), (18, 31), (18, 33), (18, 64), (36, 32), (0, 32), (18, 0)] {
        let refused = format.dequantize(&vec![0; bytes], &mut vec![0.0; elements]);
        assert_eq!(refused, Err(BlockError::Length { format, bytes, elements }));
    }
    assert_eq!(format.quantize(&[0.0; 33]), Err(BlockError::Length { format, bytes: 0, elements: 33 }));
    assert_eq!(format.dequantize(&[], &mut []), Ok(()));
}

#[test]
fn what_no_block_can_hold_is_refused_with_its_place() {
    for format in BlockFormat::ENCODED {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; 512];
            values[300] = bad;
            match format.quantize(&values).unwrap_err() {
                BlockError::NotFinite { index: 300, value, .. } => assert_eq!(value.to_bits(), bad.to_bits()),
                other => panic!("{other:?}"),
            }
        }
        let large = vec![3e38; 512];
        let wide = matches!(format, BlockFormat::F32 | BlockFormat::BF16 | BlockFormat::MXFP4);
        assert_eq!(format.quantize(&large).is_ok(), wide, "{format}");
    }
}

#[test]
fn four_bit_floats_are_those_of_the_standard() {
    let format = BlockFormat::MXFP4;
    let levels = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    for scale in [1.0_f32, 2.0_f32.powi(-126), 2.0_f32.powi(-127), 1024.0, 2.0_f32.powi(125)] {
        let mut values: Vec<f32> = levels.iter().flat_map(|level| [level * scale, -level * scale]).collect();
        // Half way goes to the smaller, and nothing has a sign that is zero.
        for (value, expected) in
            [(0.25, 0.0), (-0.25, 0.0), (0.75, 0.5), (5.0, 4.0), (-5.1, -6.0), (7.9, 6.0), (2.4, 2.0)]
        {
            values.extend([value * scale, expected * scale]);
        }
        values.resize(32, 0.0);
        let encoded = format.quantize(&values).unwrap();
        let mut back = vec![0.0; 32];
        format.dequantize(&encoded.bytes, &mut back).unwrap();
        assert_eq!(back[..16], values[..16], "{scale:e}");
        for pair in 8..15 {
            assert_eq!(back[2 * pair], values[2 * pair + 1], "{scale:e}: {}", values[2 * pair]);
        }
    }
    // 4 is two to the second, which the largest level has, so that the shared exponent is 127.
    assert_eq!(format.quantize(&[4.0; 32]).unwrap().bytes[..2], [127, 0x66]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No element comes back further off than a step of its block, and the stated error is the one that was made.
    #[test]
    fn what_is_encoded_comes_back(
        values in prop::collection::vec(-4.0_f32..4.0, 512),
        scale in prop::sample::select(vec![1e-2_f32, 1.0, 1e3]),
    ) {
        let values: Vec<f32> = values.into_iter().map(|value| value * scale).collect();
        let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        for format in BlockFormat::ENCODED {
            let encoded = format.quantize(&values).unwrap();
            let mut back = vec![0.0; values.len()];
            format.dequantize(&encoded.bytes, &mut back).unwrap();
            // Levels between the largest value and its negative.
            let levels = match format {
                BlockFormat::F32 => f32::INFINITY,
                BlockFormat::F16 => 4096.0,
                BlockFormat::BF16 => 512.0,
                BlockFormat::Q8_0 => 254.0,
                BlockFormat::Q6K => 63.0,
                BlockFormat::Q3K => 7.0,
                BlockFormat::Q2K => 3.0,
                // What lies above the largest level, 6 of 8, comes back as that.
                BlockFormat::MXFP4 => 9.0,
                BlockFormat::Q5_0 | BlockFormat::Q5_1 | BlockFormat::Q5K => 31.0,
                _ => 15.0,
            };
            let (mut apart, mut whole) = (0.0, 0.0);
            for (value, back) in values.iter().zip(&back) {
                let off = (value - back).abs();
                prop_assert!(off <= largest * 2.0 / levels * 1.25, "{format}: {back} for {value}, of {largest}");
                apart += f64::from(off).powi(2);
                whole += f64::from(*value).powi(2);
            }
            let stated = encoded.relative_error;
            prop_assert!((stated - (apart / whole).sqrt()).abs() <= 1e-6 * stated, "{format}: {stated}");
        }
    }
}
