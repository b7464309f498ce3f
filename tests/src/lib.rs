//! Fixtures for the tests of `scan-pipeline`, built in code at run time.
//!
//! Nothing detectable is stored in the repository: [`marker`] assembles a marker string and EICAR, and the modules
//! below put them where a scanner has to look. Each builder says what it proves.
//!
//! The rule that all of this is about: **bytes that nobody has looked at are never called clean.** So a fixture comes
//! in several shapes, which [`catalogue`] lists under their names:
//!
//! | Name begins with | It holds | A scanner says |
//! |---|---|---|
//! | `clean-` | nothing, all of it readable | clean |
//! | `infected-` | the marker where libclamav gets to | infected |
//! | `hidden-` | the marker where libclamav does not get to | infected or unscannable |
//! | `opaque-` | nothing, but nobody can know | unscannable |
//! | `odd-` | nothing, in a file that readers may differ on | clean or unscannable |
//! | `unreadable-` | the marker, where no reader of the format gets to | clean or unscannable |
//! | `rewritten-` | the marker, in other bytes (a word cut by tags) | clean, or infected where a detector decodes |
//!
//! ```
//! use scan_pipeline_tests::{marker, zip};
//!
//! let archive = zip::letter(&marker::payload());
//! assert!(!marker::shows_marker(&archive)); // only unpacking finds it
//! ```
//!
//! The unit tests check the fixtures with other people's readers: `python3`, `tar`, `gzip`, `bzip2`, `xz`, `7z`
//! (p7zip-full) and `qpdf` have to be installed, and the tests fail, not skip, where one is absent.

pub mod brokers;
pub mod catalogue;
pub mod clamd;
pub mod cutter;
pub mod mail;
pub mod marker;
pub mod misc;
pub mod objects;
pub mod office;
pub mod pdf;
pub mod personal;
pub mod postgres;
pub mod rar;
pub mod servers;
pub mod sevenz;
pub mod stream;
pub mod tape;
#[cfg(test)]
mod testing;
pub mod zip;
