#![forbid(unsafe_code)]
//! From a file that arrived to everything that had to follow from its scan.
//!
//! This is the crate's first stage: malware scanning in process, with proof for every "clean". The engine is
//! [`clamav`] (the crate `clamav-core`, re-exported), the command line `scan-pipeline` scans files and directory
//! trees with it, and [`json`] is the form in which results leave the process.
//!
//! ```no_run
//! use scan_pipeline::clamav::{EngineBuilder, ScanRequest};
//! use scan_pipeline::json::ReportJson;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = EngineBuilder::new().build()?;
//! let path = std::path::Path::new("upload.zip");
//! let report = engine.scan(path, ScanRequest::new())?;
//! println!("{}", serde_json::to_string(&ReportJson::new(path, &report, None))?);
//! # Ok(())
//! # }
//! ```
//!
//! A verdict is [`Clean`](clamav::Verdict::Clean), [`Infected`](clamav::Verdict::Infected) or
//! [`Unscannable`](clamav::Verdict::Unscannable); a scan that failed is an [`Error`](clamav::Error) and no verdict.
//!
//! # Features
//!
//! `cli` (default) builds the program; without it only the library's own dependencies are left.

pub use clamav_core as clamav;

pub mod digest;
pub mod json;
