//! What must be known of a JPEG before it is decoded and the decoding library does not tell: whether the file is
//! complete, and how much memory its coefficients take.

/// What walking over the segments of a file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scan {
    /// The end marker is there, after at least one scan.
    pub(super) complete: bool,
    /// Bytes a pixel that the decoder holds until the last scan: coefficients of 16 bits for each component, unless all
    /// components come in one sequential scan.
    pub(super) coefficient_bytes: u64,
}

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Walks over the markers of a JPEG file (ITU-T T.81, annex B) without decoding anything.
pub(super) fn scan(file: &[u8]) -> Scan {
    let (mut scans, mut components, mut progressive) = (0, 0, false);
    let mut at = 2;
    let complete = loop {
        let Some((marker, next)) = marker_from(file, at) else {
            break false;
        };
        at = next;
        if marker == END_OF_IMAGE {
            break scans > 0;
        }
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            // Markers without a segment: restarts and the like.
            continue;
        }
        let Some(&[high, low]) = file.get(at..at + 2) else {
            break false;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        match marker {
            START_OF_SCAN => scans += 1,
            // Start of frame, except for tables and extensions that share its range.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                progressive |= matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce);
                components = file.get(at + 7).map_or(0, |count| u64::from(*count));
            }
            _ => {}
        }
        at += length.max(2);
    };
    let held = progressive || scans > 1;
    Scan { complete, coefficient_bytes: if held { 2 * components } else { 0 } }
}

/// The next marker at or after `at`, and where what follows it begins. Coded data is passed over: there 0 follows a byte
/// of 255.
fn marker_from(file: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += file.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        match *file.get(at + 1)? {
            0xff => at += 1,
            0x00 => at += 2,
            marker => return Some((marker, at + 2)),
        }
    }
}
