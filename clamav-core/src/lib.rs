//! libclamav in process, made safe and honest.
//!
//! libclamav answers "clean" in some twenty situations in which it has not looked: an encrypted member, a limit, an
//! unknown compression method, a full disk. This crate answers [`Verdict::Clean`] only with proof: libclamav ran, it
//! said nothing of an error or a limit, and every member that the file's containers announce was delivered to its
//! matchers, whole, with the announced size and checksum. Everything else is [`Verdict::Infected`],
//! [`Verdict::Unscannable`] with reasons, or an [`Error`].
//!
//! ```no_run
//! use clamav_core::{EngineBuilder, ScanRequest, Verdict};
//!
//! # fn main() -> Result<(), clamav_core::Error> {
//! let engine = EngineBuilder::new().definitions("/var/lib/clamav").build()?;
//! let report = engine.scan(std::path::Path::new("upload.zip"), ScanRequest::new())?;
//! if let Verdict::Unscannable { reasons } = &report.verdict {
//!     for reason in reasons {
//!         eprintln!("{}: {}", reason.layer_path, reason.kind);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The calls block; scans run on the crate's own threads. A [`PendingScan`] is a future, so that an async service can
//! await it without a thread of its own. The crate works after a `fork()`, if no scan ran at that moment.
//!
//! libclamav is GPL-2.0-only; see the repository's README for what that means for a program that is given to others.

mod database;
mod engine;
mod error;
mod handle;
mod input;
mod layer;
mod ledger;
mod limits;
mod native;
mod pool;
mod report;
mod room;
mod scan;
mod schedule;
mod tempdir;
mod tracker;
mod verdict;
mod witness;

pub use database::{DatabaseInfo, EngineInfo, default_definitions_dir, is_database, library_version};
pub use engine::{Engine, EngineBuilder};
pub use error::{Error, ErrorKind, Result};
pub use handle::{EngineHandle, ReloadMode};
pub use input::Input;
pub use layer::{Layer, LayerDetector};
pub use limits::{Limits, ScanOptions};
pub use report::{Coverage, LayerSummary, Report};
pub use scan::{Canceller, PendingScan, ScanRequest};
pub use schedule::prefer_throughput;
pub use verdict::{Reason, ReasonKind, Threat, Verdict};
