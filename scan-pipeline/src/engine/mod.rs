//! Engines: what scans a content and gives a report.
//!
//! # Contract
//!
//! - A report is about all bytes of the content that was given, or says what it is not about. An engine answers
//!   [`Verdict::Clean`](crate::model::Verdict::Clean) only when its coverage is proven; one that cannot prove it answers
//!   unscannable with [`ReasonKind::Unproven`](crate::model::ReasonKind::Unproven).
//! - One that does not look for malware answers unscannable with
//!   [`ReasonKind::NoMalwareScan`](crate::model::ReasonKind::NoMalwareScan), whatever else it finds.
//! - Findings of sensitive data are masked in every part, listed up to a bound, and counted beyond it. They change no
//!   verdict. What they depend on is in the settings of [`Engine::info`].
//! - An engine that failed (no memory, no connection, no definitions) is an `Err` and never a verdict. What the same
//!   bytes will always give (encryption, damage, a limit) is a verdict.
//! - [`Engine::info`] names what the next scan would use; each report carries what its own scan used. Two engines with
//!   the same generation and settings give the same verdict on the same bytes. Of the content's name only the ending
//!   may make a difference, beside the layer paths, all of which begin with it.
//! - `scan` stops soon after its future is dropped or the deadline has passed. It blocks no thread of the runtime.
//! - No call panics. Scans may run at the same time.
//!
//! `testkit::engine_suite!` checks this on any implementation.

mod cache;
#[cfg(feature = "clamav")]
pub mod clamav;
mod clamd;
mod closure;
mod detect_only;
mod group;
mod permits;
pub mod sensitive;
#[cfg(feature = "clamav")]
mod taker;
#[cfg(all(test, feature = "testkit"))]
mod tests;

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::content::{Budget, Content};
use crate::model::{EngineInfo, Report};
use crate::{Error, ErrorKind, Result};

pub use cache::VerdictCache;
#[cfg(feature = "clamav")]
pub use clamav::{ClamAv, ClamAvBuilder};
pub use clamd::{Clamd, ClamdBuilder};
pub use closure::Closure;
pub use detect_only::DetectOnly;
pub use group::Group;
pub use sensitive::{Detector, Detectors, DetectorsBuilder, Findings, Form};
#[cfg(feature = "clamav")]
pub use taker::FindingTaker;

use permits::Permits;

/// Findings that one report lists, unless it is said otherwise. All of them are counted.
#[cfg(feature = "clamav")]
const MOST_FINDINGS: usize = 1000;

/// Something that scans a content and gives a report; the module page has the contract.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// What the next scan would use: software, definitions, settings.
    fn info(&self) -> EngineInfo;

    /// Scans a content.
    ///
    /// # Errors
    ///
    /// The engine failed, and nothing is known about the content.
    async fn scan(&self, content: &Content, context: &ScanContext) -> Result<Report>;

    /// Takes up newer definitions if there are any, and says whether there were. Scans go on meanwhile. An engine whose
    /// definitions are not its own affair has nothing to do here.
    ///
    /// # Errors
    ///
    /// They could not be loaded; the old ones go on serving.
    async fn refresh_definitions(&self) -> Result<bool> {
        Ok(false)
    }
}

/// What an engine is told about a scan, beside the bytes.
#[derive(Debug, Clone, Default)]
pub struct ScanContext {
    /// What the content is called, for layer paths: the last part of a key, never a path.
    pub name: String,
    /// When the scan has to be over. A scan that is cut short is unscannable (`timed_out`), or an error when it had
    /// not begun.
    pub deadline: Option<Instant>,
    /// Where to ask for the memory that a content on disk takes when it is loaded.
    pub budget: Option<Budget>,
    /// Kept until nothing of the scan goes on any more, which is a while after its caller has gone: what has to wait for
    /// the scan can wait for this.
    pub keeps: Option<Arc<dyn Any + Send + Sync>>,
}

impl ScanContext {
    /// A scan of something by this name, without a deadline.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// What layer paths begin with: the name, or `content` where there is none.
    pub fn label(&self) -> &str {
        label(&self.name)
    }
}

/// A name, or what stands for it where there is none.
fn label(name: &str) -> &str {
    if name.is_empty() { "content" } else { name }
}

/// The work, as long as there is time: what was not said by then, nobody knows.
async fn before<T>(deadline: Option<Instant>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(deadline) = deadline else { return work.await };
    let late = || Error::new(ErrorKind::Timeout, "the deadline of the scan has passed");
    if deadline <= Instant::now() {
        return Err(late());
    }
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or_else(|_| Err(late()))
}

/// A short hash over words, each with its length, so that no two lists of words run into one another.
fn hash<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    use std::fmt::Write;
    let mut all = Sha256::new();
    for word in words {
        all.update((word.len() as u64).to_le_bytes());
        all.update(word.as_bytes());
    }
    all.finalize()[..16].iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
