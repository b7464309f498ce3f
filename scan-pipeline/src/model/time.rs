//! Points in time, as the store and the JSON forms have them.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::excerpt;
use crate::{Error, ErrorKind, Result};

/// Milliseconds since 1970 in UTC. It displays as RFC 3339 to the millisecond.
///
/// ```
/// use scan_pipeline::model::Timestamp;
/// assert_eq!(Timestamp(951_782_399_250).to_string(), "2000-02-28T23:59:59.250Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The wall clock's time.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// This much later; the end of time where that is beyond it.
    #[must_use]
    pub fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this one; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0).unwrap_or(0);
        let whole = rfc3339(UNIX_EPOCH + Duration::from_millis(millis));
        write!(f, "{}.{:03}Z", whole.trim_end_matches('Z'), millis % 1000)
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// A time in UTC from 1970 on as RFC 3339 has it, ending in `Z`. What is finer than a millisecond is cut off.
    fn from_str(text: &str) -> Result<Self> {
        parsed(text).ok_or_else(|| {
            let why = format!("{} is no time such as 2026-11-20T23:02:04.000Z", excerpt(text));
            Error::new(ErrorKind::InvalidInput, why)
        })
    }
}

fn parsed(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = match text.strip_suffix('Z')?.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (text.strip_suffix('Z')?, "0"),
    };
    let number = |at: std::ops::Range<usize>| {
        let digits = whole.get(at).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
        digits.parse::<i64>().ok()
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let is_marked = whole.len() == 19 && marks.iter().all(|(at, mark)| whole.as_bytes()[*at] == *mark);
    if !is_marked || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let in_range = year >= 1970 && (1..=12).contains(&month) && (1..=days).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since 1970 by Howard Hinnant's days_from_civil, the inverse of what `rfc3339` does.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year / 400, year % 400);
    let days = era * 146_097 + year * 365 + year / 4 - year / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(Timestamp((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis))
}

/// A time in UTC as RFC 3339 has it, to the second: `2026-11-20T23:02:04Z`. Times before 1970 become its start.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// let time = UNIX_EPOCH + Duration::from_secs(951_782_399);
/// assert_eq!(scan_pipeline::model::rfc3339(time), "2000-02-28T23:59:59Z");
/// ```
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days, for days since 1970: years start in March, so that the leap day ends them.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(millis in 0..253_402_300_800_000i64) {
            let time = Timestamp(millis);
            prop_assert_eq!(time.to_string().parse::<Timestamp>().expect("a time"), time);
        }

        #[test]
        fn any_text_is_a_time_or_an_error(text in "[0-9TZ:. -]{0,26}|.*") {
            if let Ok(time) = text.parse::<Timestamp>() {
                prop_assert!(time.to_string().starts_with(&text[..19]), "{} {}", text, time);
            }
        }
    }

    #[test]
    fn times_are_read() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56.7Z", 951_827_696_700),
            ("2024-02-29T23:59:59.123456789Z", 1_709_251_199_123),
        ] {
            assert_eq!(text.parse::<Timestamp>().expect(text), Timestamp(millis));
        }
        for wrong in [
            "",
            "Z",
            "2026-11-20",
            "2026-11-20T23:02:04",
            "2026-11-20T23:02:04.Z",
            "2026-11-20T23:02:04+01:00",
            "2026-13-20T23:02:04Z",
            "2025-02-29T23:02:04Z",
            "2026-11-00T23:02:04Z",
            "2026-11-20T24:02:04Z",
            "1969-12-31T23:59:59Z",
            "2026-11-20 23:02:04Z",
            "+026-11-20T23:02:04Z",
            "2026-11-20T23:02:0üZ",
        ] {
            assert!(wrong.parse::<Timestamp>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn dates_agree_with_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_767_225_600, "2026-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
