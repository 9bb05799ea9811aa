//! The time of day that a chat template is told: the system's, in UTC, because the standard library knows no time zones.

use lampyris::text::WallClock;
use std::time::{SystemTime, UNIX_EPOCH};

/// The time now; `None` where the system's clock stands before 1970 or after the calendar.
pub(crate) fn now() -> Option<WallClock> {
    at(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// So many seconds after the beginning of 1970.
fn at(seconds: u64) -> Option<WallClock> {
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    // Years that begin with March, so that leap days come last, in eras of 400 years; 719 468 days lie before 1970.
    let days = days.checked_add(719_468)?;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era.checked_mul(400)? + year + u64::from(month >= 10);
    let month = if month < 10 { month + 3 } else { month - 9 };
    let small = |value: u64| i8::try_from(value).ok();
    let time = (small(seconds / 3600)?, small(seconds / 60 % 60)?, small(seconds % 60)?);
    WallClock::new(i16::try_from(year).ok()?, small(month)?, small(day)?, time.0, time.1, time.2).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_days_of_the_calendar() {
        for (seconds, (year, month, day), (hour, minute, second)) in [
            (0, (1970, 1, 1), (0, 0, 0)),
            (951_782_399, (2000, 2, 28), (23, 59, 59)),
            (951_827_696, (2000, 2, 29), (12, 34, 56)),
            (1_709_164_800, (2024, 2, 29), (0, 0, 0)),
            (4_107_542_400, (2100, 3, 1), (0, 0, 0)),
        ] {
            assert_eq!(at(seconds), WallClock::new(year, month, day, hour, minute, second).ok(), "{seconds}");
        }
        assert_eq!(at(u64::MAX), None);
    }
}
