//! The time of day that a chat template may ask for, given by the caller because neither a browser nor a test has one clock.

use super::TextError;

/// A date and a time on somebody's wall: no time zone, no leap second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallClock(jiff::civil::DateTime);

impl WallClock {
    /// A moment of the proleptic Gregorian calendar: `month` and `day` from 1, `hour` 0 to 23, `minute` and `second` 0 to 59.
    ///
    /// # Errors
    /// [`TextError::Time`] for a moment that no calendar has, such as the 30th of February.
    pub fn new(year: i16, month: i8, day: i8, hour: i8, minute: i8, second: i8) -> Result<Self, TextError> {
        jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).map(Self).map_err(|_| TextError::Time {
            year,
            month,
            day,
            hour,
            minute,
            second,
        })
    }

    /// Formats the moment as C's `strftime` does, in English.
    pub(super) fn format(self, pattern: &str) -> Result<String, String> {
        jiff::fmt::strtime::format(pattern, self.0).map_err(|error| error.to_string())
    }
}
