//! How much of a file is looked at, and how.

use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// How much one scan may cost. Content beyond a limit is never called clean: the verdict is
/// [`Unscannable`](crate::Verdict::Unscannable) with the limit as its reason.
///
/// ```
/// use clamav_core::Limits;
/// let limits = Limits { max_file_size: 25 << 20, ..Limits::default() };
/// assert_eq!(limits.max_recursion, 17);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Bytes of one layer: the file itself and each file unpacked from it. Default 100 MiB, at least 1 KiB, at
    /// most [`Limits::LARGEST_FILE`]. Also bounds libclamav's inner limits that would skip content in silence
    /// (HTML and script normalisation, embedded executables, regular-expression signatures).
    pub max_file_size: u64,
    /// Bytes of all layers of one scan together. Default 400 MiB.
    pub max_scan_size: u64,
    /// Levels of nesting, the file itself being the first. Default 17, at most 100.
    pub max_recursion: u32,
    /// Layers in one scan. Default 10,000.
    pub max_files: u32,
    /// Time for one scan once it has started. Default 120 seconds. libclamav looks at the clock between layers
    /// and inside most unpackers, so one large layer may take somewhat longer.
    pub max_scan_time: Duration,
}

impl Limits {
    /// The largest `max_file_size`: libclamav clamps it to `INT_MAX - 2`.
    pub const LARGEST_FILE: u64 = i32::MAX as u64 - 2;
    /// The highest `max_recursion`: deeper nesting needs more stack than the scan threads have.
    pub const DEEPEST: u32 = 100;
    const SMALLEST_FILE: u64 = 1 << 10;

    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::new(ErrorKind::Config, what));
        if !(Self::SMALLEST_FILE..=Self::LARGEST_FILE).contains(&self.max_file_size) {
            return wrong(format!(
                "max_file_size is {} bytes; it must be from {} to {}",
                self.max_file_size,
                Self::SMALLEST_FILE,
                Self::LARGEST_FILE
            ));
        }
        if !(Self::SMALLEST_FILE..=i64::MAX as u64).contains(&self.max_scan_size) {
            return wrong(format!(
                "max_scan_size is {} bytes; it must be at least {}",
                self.max_scan_size,
                Self::SMALLEST_FILE
            ));
        }
        if !(1..=Self::DEEPEST).contains(&self.max_recursion) {
            return wrong(format!("max_recursion is {}; it must be from 1 to {}", self.max_recursion, Self::DEEPEST));
        }
        if self.max_files == 0 || self.max_files > i32::MAX as u32 {
            return wrong(format!("max_files is {}; it must be from 1 to {}", self.max_files, i32::MAX));
        }
        let longest = Duration::from_millis(u64::from(u32::MAX));
        if self.max_scan_time < Duration::from_millis(1) || self.max_scan_time > longest {
            return wrong(format!(
                "max_scan_time is {:?}; it must be from 1 millisecond to {longest:?}",
                self.max_scan_time
            ));
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_file_size: 100 << 20,
            max_scan_size: 400 << 20,
            max_recursion: 17,
            max_files: 10_000,
            max_scan_time: Duration::from_secs(120),
        }
    }
}

/// What libclamav reports beyond signatures. Every unpacker and parser is always on, and so are the alerts for
/// exceeded limits and for encryption, which become reasons and not threats.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ScanOptions {
    /// Go on after the first match, so that all threats are reported and layer detectors see every layer.
    /// Default true. When false the scan of an infected file ends sooner and its coverage is partial.
    pub all_matches: bool,
    /// Report documents with macros as threats (`Heuristics.OLE2.ContainsMacros`). Default false.
    pub alert_macros: bool,
    /// Treat executables and pictures that break their format as truncated or corrupt. Default false.
    pub alert_broken: bool,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { all_matches: true, alert_macros: false, alert_broken: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_zero_is_not_unlimited() {
        assert!(Limits::default().check().is_ok());
        for limits in [
            Limits { max_file_size: 0, ..Limits::default() },
            Limits { max_file_size: Limits::LARGEST_FILE + 1, ..Limits::default() },
            Limits { max_scan_size: 0, ..Limits::default() },
            Limits { max_recursion: 0, ..Limits::default() },
            Limits { max_recursion: 101, ..Limits::default() },
            Limits { max_files: 0, ..Limits::default() },
            Limits { max_scan_time: Duration::ZERO, ..Limits::default() },
        ] {
            let error = limits.check().expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Config);
        }
    }
}
