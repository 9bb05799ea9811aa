//! What a camera does to a picture before it can be looked at: turns and mirrors it, and stores it as one plane of brightness and one of
//! colour.

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Area {
    /// The leftmost column.
    pub x: u32,
    /// The topmost row.
    pub y: u32,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// How far a picture is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quarter {
    /// A quarter of a circle clockwise: what was at the left is at the top.
    Clockwise,
    /// Half a circle.
    Half,
    /// A quarter of a circle counterclockwise: what was at the top is at the left.
    Counterclockwise,
}

/// One of the eight ways in which a picture can lie: rotated by quarters clockwise, then perhaps mirrored, left for right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Turn {
    quarters: u8,
    mirrored: bool,
}

impl Turn {
    /// This way, then rotated.
    #[must_use]
    pub fn rotated(self, quarter: Quarter) -> Turn {
        let more = match quarter {
            Quarter::Clockwise => 1,
            Quarter::Half => 2,
            Quarter::Counterclockwise => 3,
        };
        // In a mirror clockwise is the other way.
        let more = if self.mirrored { 4 - more } else { more };
        Turn { quarters: (self.quarters + more) % 4, ..self }
    }

    /// This way, then mirrored, left for right.
    #[must_use]
    pub fn mirrored(self) -> Turn {
        Turn { mirrored: !self.mirrored, ..self }
    }

    /// All eight.
    pub fn all() -> [Turn; 8] {
        std::array::from_fn(|at| Turn { quarters: (at % 4) as u8, mirrored: at > 3 })
    }

    /// Width and height of what so large a picture becomes.
    pub fn size(self, width: u32, height: u32) -> [u32; 2] {
        if self.quarters % 2 == 1 { [height, width] } else { [width, height] }
    }

    /// Where pixel `(column, row)` of the turned picture comes from in one of `width` times `height` pixels.
    pub fn source(self, [column, row]: [u32; 2], [width, height]: [u32; 2]) -> [u32; 2] {
        let column = if self.mirrored { self.size(width, height)[0] - 1 - column } else { column };
        match self.quarters {
            0 => [column, row],
            1 => [row, height - 1 - column],
            2 => [width - 1 - column, height - 1 - row],
            _ => [width - 1 - row, column],
        }
    }

    /// `ccw180` and the like, for labels and summaries.
    pub(super) fn label(self) -> String {
        format!("{}{}", 90 * u32::from(self.quarters), if self.mirrored { "m" } else { "" })
    }

    /// Where the turned picture's first pixel comes from, and the steps in the source from a column, and from a row, to the next.
    pub(super) fn steps(self, width: u32, height: u32) -> ([i32; 2], [i32; 2], [i32; 2]) {
        let (right, bottom) = (width as i32 - 1, height as i32 - 1);
        let (mut origin, mut across, down) = match self.quarters {
            0 => ([0, 0], [1, 0], [0, 1]),
            1 => ([0, bottom], [0, -1], [1, 0]),
            2 => ([right, bottom], [-1, 0], [0, -1]),
            _ => ([right, 0], [0, 1], [-1, 0]),
        };
        if self.mirrored {
            let last = self.size(width, height)[0] as i32 - 1;
            origin = [0, 1].map(|axis| origin[axis] + last * across[axis]);
            across = across.map(|step| -step);
        }
        (origin, across, down)
    }
}

/// Which red, green and blue a pixel of luma and chroma stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum YuvMatrix {
    /// ITU-R BT.601, as of most cameras in phones and of JPEG files.
    Bt601,
    /// ITU-R BT.709, as of most video in HD.
    Bt709,
}

/// Which bytes stand for black and white, and for no colour to the fullest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum YuvRange {
    /// Luma from 16 to 235, chroma from 16 to 240.
    Limited,
    /// All of 0 to 255.
    Full,
}

/// How the two planes of an NV12 picture are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Yuv {
    /// The colours.
    pub matrix: YuvMatrix,
    /// The levels.
    pub range: YuvRange,
}

impl Yuv {
    /// Weights of red and blue in the luma.
    fn weights(self) -> [f64; 2] {
        match self.matrix {
            YuvMatrix::Bt601 => [0.299, 0.114],
            YuvMatrix::Bt709 => [0.2126, 0.0722],
        }
    }

    /// In units of `2^-16`: what luma, red chroma for red, blue and red chroma for green, and blue chroma for blue count; then the byte
    /// that is black.
    pub(super) fn factors(self) -> [i32; 6] {
        let [red, blue] = self.weights();
        let green = 1.0 - red - blue;
        let (luma, chroma, black) = match self.range {
            YuvRange::Limited => (255.0 / 219.0, 255.0 / 224.0, 16),
            YuvRange::Full => (1.0, 1.0, 0),
        };
        let for_red = 2.0 * (1.0 - red) * chroma;
        let for_blue = 2.0 * (1.0 - blue) * chroma;
        let unit = |value: f64| (value * 65536.0).round() as i32;
        let for_green = [-for_blue * blue / green, -for_red * red / green];
        [unit(luma), unit(for_red), unit(for_green[0]), unit(for_green[1]), unit(for_blue), black]
    }

    /// `.bt601.full` and the like, for labels.
    pub(super) fn label(self) -> String {
        format!(".{:?}.{:?}", self.matrix, self.range).to_lowercase()
    }

    /// Red, green and blue, in the lowest bytes, of a pixel; alpha is full.
    pub fn rgba(self, luma: u8, [blue, red]: [u8; 2]) -> u32 {
        let [scale, for_red, blue_for_green, red_for_green, for_blue, black] = self.factors().map(i64::from);
        let luma = scale * (i64::from(luma) - black);
        let [blue, red] = [blue, red].map(|chroma| i64::from(chroma) - 128);
        let byte = |sum: i64| ((sum + (1 << 15)) >> 16).clamp(0, 255) as u8;
        let colours = [
            byte(luma + for_red * red),
            byte(luma + blue_for_green * blue + red_for_green * red),
            byte(luma + for_blue * blue),
            255,
        ];
        u32::from_le_bytes(colours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_back_and_steps_lead_where_pixels_come_from() {
        let (width, height) = (5, 3);
        for turn in Turn::all() {
            let [w, h] = turn.size(width, height);
            let (origin, across, down) = turn.steps(width, height);
            for (column, row) in (0..h).flat_map(|row| (0..w).map(move |column| (column, row))) {
                let step = |axis: usize| origin[axis] + column as i32 * across[axis] + row as i32 * down[axis];
                assert_eq!([step(0), step(1)], turn.source([column, row], [width, height]).map(|at| at as i32));
            }
            assert_eq!(turn.mirrored().mirrored(), turn);
            let around = (0..4).fold(turn, |turn, _| turn.rotated(Quarter::Clockwise));
            assert_eq!(around, turn);
            assert_eq!(turn.rotated(Quarter::Clockwise).rotated(Quarter::Counterclockwise), turn);
            assert_eq!(turn.rotated(Quarter::Clockwise).rotated(Quarter::Clockwise), turn.rotated(Quarter::Half));
        }
        // What was at the left is at the top, and its lowest pixel at the left.
        assert_eq!(Turn::default().rotated(Quarter::Clockwise).source([0, 0], [5, 3]), [0, 2]);
        // Turned and then mirrored, not the other way round.
        let turned = Turn::default().rotated(Quarter::Clockwise).mirrored();
        assert_eq!(turned.source([0, 0], [5, 3]), [0, 0]);
        assert_ne!(turned, Turn::default().mirrored().rotated(Quarter::Clockwise));
    }

    #[test]
    fn colours_of_the_standards() {
        use {YuvMatrix::*, YuvRange::*};
        let of = |matrix, range, luma, chroma| Yuv { matrix, range }.rgba(luma, chroma).to_le_bytes();
        for matrix in [Bt601, Bt709] {
            assert_eq!(of(matrix, Limited, 16, [128; 2]), [0, 0, 0, 255]);
            assert_eq!(of(matrix, Limited, 235, [128; 2]), [255; 4]);
            assert_eq!(of(matrix, Full, 128, [128; 2]), [128, 128, 128, 255]);
            assert_eq!(of(matrix, Limited, 255, [128; 2]), [255; 4]);
        }
        // 100 % bars: red and blue of BT.601 and of BT.709, as the standards' tables have them.
        assert_eq!(of(Bt601, Limited, 81, [90, 240]), [254, 0, 0, 255]);
        assert_eq!(of(Bt601, Limited, 41, [240, 110]), [0, 0, 255, 255]);
        assert_eq!(of(Bt709, Limited, 63, [102, 240]), [255, 1, 0, 255]);
        assert_eq!(of(Bt601, Full, 76, [85, 255]), [254, 0, 0, 255]);
    }
}
