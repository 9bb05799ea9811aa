//! A drawing as characters: eight dots of braille each, so that a terminal shows what a model was shown.

use lampyris::models::decode::Rgba8Image;

/// Characters of a row.
pub(crate) const COLUMNS: usize = 24;
/// Rows of characters.
pub(crate) const ROWS: usize = 12;

/// Dots of a character.
const DOTS: (usize, usize) = (2, 4);
/// The first braille character, which has no dot.
const BLANK: u32 = 0x2800;
/// The bit of each dot of a character, row by row.
const BITS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
/// Shares of ink from which a dot is set: its mean darkness over the background's, of 255.
const INK: i64 = 72;

/// The picture in [`ROWS`] rows of [`COLUMNS`] characters; what differs from the background at its edge is ink.
pub(crate) fn braille(picture: &Rgba8Image) -> Vec<String> {
    let ground = background(picture);
    let dot = |x: usize, y: usize| (mean(picture, x, y) - ground).abs() >= INK;
    let character = |column: usize, row: usize| {
        let mut code = BLANK;
        for (y, bits) in BITS.iter().enumerate() {
            for (x, bit) in bits.iter().enumerate() {
                if dot(column * DOTS.0 + x, row * DOTS.1 + y) {
                    code |= bit;
                }
            }
        }
        char::from_u32(code).unwrap_or(' ')
    };
    (0..ROWS).map(|row| (0..COLUMNS).map(|column| character(column, row)).collect()).collect()
}

/// How light a pixel is, from 0 to 255.
fn light(picture: &Rgba8Image, x: usize, y: usize) -> i64 {
    let at = (y * picture.width as usize + x) * 4;
    let colours = picture.pixels.get(at..at + 3).unwrap_or(&[0; 3]);
    colours.iter().map(|colour| i64::from(*colour)).sum::<i64>() / 3
}

/// How light most of the picture's edge is.
fn background(picture: &Rgba8Image) -> i64 {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let rows = (0..width).flat_map(|x| [(x, 0), (x, height - 1)]);
    let columns = (0..height).flat_map(|y| [(0, y), (width - 1, y)]);
    let mut edge: Vec<i64> = rows.chain(columns).map(|(x, y)| light(picture, x, y)).collect();
    edge.sort_unstable();
    edge.get(edge.len() / 2).copied().unwrap_or(0)
}

/// How light the pixels are that a dot stands for.
fn mean(picture: &Rgba8Image, x: usize, y: usize) -> i64 {
    let range = |at: usize, dots: usize, pixels: usize| {
        let from = at * pixels / dots;
        from..((at + 1) * pixels).div_ceil(dots).clamp(from + 1, pixels.max(from + 1))
    };
    let columns = range(x, COLUMNS * DOTS.0, picture.width as usize);
    let rows = range(y, ROWS * DOTS.1, picture.height as usize);
    let count = (columns.len() * rows.len()) as i64;
    rows.flat_map(|y| columns.clone().map(move |x| light(picture, x, y))).sum::<i64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, ink: impl Fn(u32, u32) -> bool, [paper, pen]: [u8; 2]) -> Rgba8Image {
        let pixel = |x, y| if ink(x, y) { [pen, pen, pen, 255] } else { [paper, paper, paper, 255] };
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
        Rgba8Image { width, height, pixels }
    }

    #[test]
    fn ink_is_what_differs_from_the_edge() {
        // A line of an eighth of a dot is too thin to be one.
        let thin = braille(&picture(384, 384, |x, y| x == y, [255, 0]));
        assert!(thin.concat().chars().all(|c| c == '\u{2800}'));
        let left = |x: u32, y: u32| (8..48).contains(&x) && (8..88).contains(&y);
        for colours in [[255, 0], [0, 255], [30, 200]] {
            let rows = braille(&picture(96, 96, left, colours));
            assert_eq!((rows.len(), rows[0].chars().count()), (ROWS, COLUMNS));
            assert_eq!(
                rows[5].chars().collect::<String>(),
                format!("{}{}{}", "\u{2800}".repeat(2), "\u{28ff}".repeat(10), "\u{2800}".repeat(12))
            );
            assert!(rows[0].chars().all(|c| c == '\u{2800}'));
        }
    }

    #[test]
    fn pictures_of_any_size_are_drawn() {
        for (width, height) in [(1, 1), (3, 200), (47, 49), (1000, 2)] {
            let rows = braille(&picture(width, height, |x, _| x > 0, [0, 255]));
            assert!(rows.iter().all(|row| row.chars().count() == COLUMNS));
        }
    }
}
