//! Sizes and times as people write them.

use std::time::Duration;

/// Reads a size: `100`, `10K`, `25MB`, `1GiB`. Units are powers of 1024, as clamscan has them.
///
/// ```
/// assert_eq!(scan_pipeline::config::parse_size("25MB"), Ok(25 << 20));
/// ```
///
/// # Errors
///
/// What to write instead.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(String::from("write a size as 100, 10K, 25MB or 1GiB")),
    };
    if number.is_empty() {
        return Err(String::from("a size begins with a number: 100, 10K, 25MB or 1GiB"));
    }
    let number = number.parse::<u64>().map_err(|_| String::from("the number is too large"))?;
    number.checked_mul(1 << shift).ok_or_else(|| String::from("the size is too large"))
}

/// Reads a time with its units: `500ms`, `30s`, `5m`, `1h30m`, `2d`.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(scan_pipeline::config::parse_duration("1m30s"), Ok(Duration::from_secs(90)));
/// ```
///
/// # Errors
///
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || String::from("write a time as 500ms, 30s, 5m, 1h or 1h30m");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "" => return Err(String::from("the unit is missing: write a time as 500ms, 30s, 5m, 1h or 1h30m")),
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| String::from("the time is too long"))?;
        total = total.checked_add(part).ok_or_else(|| String::from("the time is too long"))?;
        rest = behind;
    }
    Ok(total)
}

/// A size in the largest unit that says it exactly, as [`parse_size`] reads it.
pub(super) fn show_size(bytes: u64) -> String {
    let (shift, unit) = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .unwrap_or((0, ""));
    format!("{}{unit}", bytes >> shift)
}

/// A time as [`parse_duration`] reads it.
pub(super) fn show_duration(time: Duration) -> String {
    if time.subsec_millis() > 0 || time.is_zero() {
        return format!("{}ms", time.as_millis());
    }
    let seconds = time.as_secs();
    let (length, unit) = [(86_400, "d"), (3600, "h"), (60, "m")]
        .into_iter()
        .find(|(n, _)| seconds.is_multiple_of(*n))
        .unwrap_or((1, "s"));
    format!("{}{unit}", seconds / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("100", 100),
            ("0", 0),
            ("10K", 10 << 10),
            ("10KB", 10 << 10),
            ("25M", 25 << 20),
            ("25 MiB", 25 << 20),
            ("1g", 1 << 30),
            ("1GiB", 1 << 30),
            ("2tb", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "10X", "10MM", "99999999999999999999", "18446744073709551615K"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h30m", 5_400_000), ("0.5s", 500), ("2d", 172_800_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1x", "1h30", "1..5s", "nan", "inf", "1e9s", "99999999999999999999d", "5 m"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        for bytes in [0, 1, 1023, 1024, 100 << 20, (100 << 20) + 1, 3 << 40] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
        for millis in [0, 1, 1500, 30_000, 90_000, 3_600_000, 172_800_000] {
            let time = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(time)), Ok(time));
        }
    }
}
