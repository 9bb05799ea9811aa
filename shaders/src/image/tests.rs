//! The twins of the resize against Pillow's own bytes, and the sRGB curve against itself.

use super::{FAMILY, PRECISION_BITS, ResizeColumns, ResizeRows, corner, is_table, table, triangle};
use crate::{Desc, Format, HostTensor, Kernel, ShapeError, Tier};

/// A picture without symmetry, made by the same formula where the expected bytes were recorded.
fn picture(height: u32, width: u32) -> HostTensor {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let words = pixels.map(|(x, y)| {
        let blue = 255u32.wrapping_sub(x * 29 + y * 17);
        u32::from_le_bytes([x * 37 + y * 91, x * x * 13 + y * 7, blue, (x * 53) ^ (y * 111)].map(|v| v as u8))
    });
    HostTensor::from_words(Desc::new(Format::Rgba8, [1, height as usize, width as usize]), words.collect())
}

/// The rows of a picture that begins at a corner.
fn first_pass(kernel: ResizeRows, source: &HostTensor, columns: &HostTensor, [x, y]: [u32; 2]) -> HostTensor {
    let inputs = [source, columns, &corner(x, y)];
    let outputs = kernel.outputs(&inputs.map(|tensor| tensor.desc.clone())).unwrap();
    kernel.reference(&inputs, &outputs).remove(0)
}

/// Both passes over a whole picture.
fn resized(source: &HostTensor, height: usize, width: usize) -> Vec<u32> {
    let [h, w] = [source.desc.shape[1], source.desc.shape[2]];
    let (columns, rows) = (triangle(w, width, 0, width), triangle(h, height, 0, height));
    let between = first_pass(ResizeRows::new([w as u32, h as u32], 0, h as u32), source, &columns, [0, 0]);
    let second = ResizeColumns { first_row: 0 };
    let outputs = second.outputs(&[between.desc.clone(), rows.desc.clone()]).unwrap();
    second.reference(&[&between, &rows], &outputs).remove(0).words
}

#[test]
fn the_twins_give_pillow_s_bytes() {
    // Recorded with Pillow 13.0.0, `Image.resize(size, BILINEAR)` of each channel by itself.
    let smaller = [
        0x3ae90b3a, 0x65bc4174, 0xa9869ea2, 0x43599a89, 0xa8ce1689, 0x83a14c58, 0x706ba975, 0x9f3ea584, 0x88b32158,
        0x81865792, 0x7a50b46d, 0x8023b07e,
    ];
    assert_eq!(resized(&picture(5, 7), 3, 4), smaller);
    let larger = [
        0x00ff0000, 0x0df80309, 0x28e90a1c, 0x35e20d25, 0x2cf80324, 0x32f1062d, 0x3ee20d40, 0x44db1049, 0x6fee075b,
        0x6ae70a64, 0x5fd81177, 0x5ad11480, 0xb2e40b92, 0xb1dd0e9b, 0xb1ce15ae, 0xb1c718b7, 0xdedd0eb6, 0xe1d611bf,
        0xe8c718d2, 0xebc01bdb,
    ];
    assert_eq!(resized(&picture(3, 2), 5, 4), larger);
}

#[test]
fn a_part_of_a_picture_is_that_part_of_the_whole_result() {
    let source = picture(31, 17);
    let whole = resized(&source, 12, 9);
    let rows = triangle(31, 12, 4, 5);
    let used = rows.words.chunks(rows.desc.shape[1]);
    let first_row = used.clone().map(|entry| entry[0]).min().unwrap();
    let last = used.map(|entry| entry[0] + entry[1]).max().unwrap();
    let columns = triangle(17, 9, 2, 6);
    let between = first_pass(ResizeRows::new([17, 31], first_row, last - first_row), &source, &columns, [0, 0]);
    let second = ResizeColumns { first_row };
    let outputs = second.outputs(&[between.desc.clone(), rows.desc.clone()]).unwrap();
    let part = second.reference(&[&between, &rows], &outputs).remove(0);
    assert_eq!(part.desc.shape, [1, 5, 6]);
    for (row, pixels) in part.words.chunks(6).enumerate() {
        assert_eq!(pixels, &whole[(4 + row) * 9 + 2..][..6]);
    }
}

#[test]
fn a_part_is_a_picture_of_its_own() {
    let source = picture(20, 20);
    let table = triangle(8, 5, 0, 5);
    let found = first_pass(ResizeRows::new([8, 9], 2, 6), &source, &table, [3, 5]);
    let cut: Vec<u32> = (7..13).flat_map(|y| source.words[y * 20 + 3..y * 20 + 11].to_vec()).collect();
    let cut = HostTensor::from_words(Desc::new(Format::Rgba8, [1, 6, 8]), cut);
    assert_eq!(found, first_pass(ResizeRows::new([8, 6], 0, 6), &cut, &table, [0, 0]));
}

#[test]
fn a_corner_beyond_the_source_is_the_farthest_that_there_is_room_for() {
    let source = picture(20, 20);
    let table = triangle(8, 5, 0, 5);
    let at = |corner: [u32; 2]| first_pass(ResizeRows::new([8, 9], 2, 6), &source, &table, corner);
    assert_eq!(at([u32::MAX, 12]), at([12, 11]));
    assert_ne!(at([12, 11]), at([11, 11]));
}

#[test]
fn coefficients_may_overshoot_and_positions_may_be_empty() {
    let source = HostTensor::from_words(Desc::new(Format::Rgba8, [1, 1, 2]), vec![0xff00_80ff, 0x00ff_80ff]);
    let unit = 1 << PRECISION_BITS;
    let table = table(&[0, 0, 0], &[2, 2, 0], &[unit * 3 / 2, -unit / 2, -unit / 2, unit * 3 / 2, 7, 7], 2);
    let found = first_pass(ResizeRows::new([2, 1], 0, 1), &source, &table, [0, 0]);
    assert_eq!(found.words, [0xff00_80ff, 0x00ff_80ff, 0]);
}

#[test]
fn every_byte_survives_the_srgb_curve_in_single_precision() {
    let mut farthest = 0.0f32;
    for byte in 0..=255u8 {
        let stored = f32::from(byte) / 255.0;
        let linear = if stored <= 0.04045 { stored / 12.92 } else { ((stored + 0.055) / 1.055).powf(2.4) };
        let encoded =
            if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 } * 255.0;
        farthest = farthest.max((encoded - f32::from(byte)).abs());
        assert_eq!((encoded + 0.5) as u8, byte);
    }
    // Far from the half that would round to a neighbour, so that a device's own `pow` has room.
    assert!(farthest < 0.01, "{farthest}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let source = Desc::new(Format::Rgba8, [1, 10, 20]);
    let columns = Desc::new(Format::Word, [4, 5]);
    let beginning = corner(0, 0).desc;
    let whole = ResizeRows::new([20, 10], 0, 10);
    let refused = |kernel: ResizeRows, inputs: &[Desc]| kernel.outputs(inputs).unwrap_err();
    let inputs = [source.clone(), columns.clone(), beginning.clone()];
    assert!(whole.outputs(&inputs).is_ok());
    for size in [[u32::MAX, 10], [21, 10], [20, 11], [0, 10]] {
        assert!(matches!(refused(ResizeRows { size, ..whole }, &inputs), ShapeError::Parameter { .. }), "{size:?}");
    }
    assert!(matches!(refused(ResizeRows { first_row: 1, ..whole }, &inputs), ShapeError::Parameter { .. }));
    assert!(matches!(refused(ResizeRows { rows: 0, ..whole }, &inputs), ShapeError::Parameter { .. }));
    assert!(matches!(refused(whole, &inputs[..2]), ShapeError::Count { found: 2, .. }));
    assert!(matches!(refused(whole, &[]), ShapeError::Count { found: 0, .. }));
    let batch = Desc::new(Format::Rgba8, [2, 10, 20]);
    let of = |source: &Desc, table: &Desc, corner: &Desc| refused(whole, &[source, table, corner].map(Desc::clone));
    assert!(matches!(of(&batch, &columns, &beginning), ShapeError::Input { position: 0, .. }));
    let empty = Desc::new(Format::Word, [4, 2]);
    assert!(matches!(of(&source, &empty, &beginning), ShapeError::Input { position: 1, .. }));
    assert!(matches!(of(&source, &columns, &Desc::new(Format::Word, [3])), ShapeError::Input { position: 2, .. }));
    let second = ResizeColumns { first_row: 0 };
    assert!(second.outputs(&inputs[..2]).is_ok());
    for inputs in [[batch, columns.clone()], [source, empty], [Desc::new(Format::Texture, [1, 10, 20]), columns]] {
        assert!(matches!(second.outputs(&inputs), Err(ShapeError::Input { .. })));
    }
}

#[test]
fn the_cases_cover_what_they_promise() {
    let cases: Vec<_> = FAMILY.iter().flat_map(|entry| (entry.cases)()).collect();
    let mut far_down = false;
    for case in &cases {
        let inputs = case.tensors();
        let expected = case.expected(&inputs).unwrap();
        assert_eq!(expected[0].words.len(), expected[0].desc.words(), "{}", case.label);
        let plain = inputs[0].desc.len() == 1 || expected[0].words.len() == 1;
        assert!(plain || expected[0].words.iter().any(|word| *word != expected[0].words[0]));
        let table = inputs.iter().rfind(|input| is_table(&input.desc)).unwrap();
        far_down |= table.words.chunks(table.desc.shape[1]).all(|entry| entry[1] > 64);
        if inputs[0].desc.len() == 256 && inputs[0].desc.format != Format::Rgba8 {
            assert_eq!(expected[0].words, inputs[0].words, "{}", case.label);
        }
    }
    assert!(far_down, "no case of more than 64 pixels for one");
    assert!(cases.iter().any(|case| case.tier == Tier::Model));
}
