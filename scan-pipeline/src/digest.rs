//! The SHA-256 of what was scanned.
//!
//! A digest of a file that is read a second time is a digest of something else, should the file have changed. So it
//! is taken from the engine's own copy of the bytes, while the scan has them in memory.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clamav::{Layer, LayerDetector, Report};
use crate::model::ContentDigest;

/// Takes the digest of a file in the pass that scans it.
///
/// ```no_run
/// use scan_pipeline::clamav::{EngineBuilder, ScanRequest};
/// use scan_pipeline::digest::DigestTaker;
///
/// # fn main() -> Result<(), scan_pipeline::clamav::Error> {
/// let engine = EngineBuilder::new().build()?;
/// let digest = DigestTaker::new();
/// let report = engine.scan(std::path::Path::new("upload.zip"), ScanRequest::new().detector(digest.detector()))?;
/// println!("{:?}", digest.of(&report).map(|digest| digest.to_string()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct DigestTaker(Arc<Mutex<Option<(u64, ContentDigest)>>>);

impl DigestTaker {
    /// One for one scan.
    pub fn new() -> Self {
        Self::default()
    }

    /// The detector to give to [`ScanRequest::detector`](crate::clamav::ScanRequest::detector).
    pub fn detector(&self) -> impl LayerDetector + 'static {
        let slot = Arc::clone(&self.0);
        move |layer: &Layer<'_>| {
            if layer.depth != 0 || layer.normalized {
                return ControlFlow::Continue(());
            }
            let digest = ContentDigest::of(layer.bytes);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((layer.bytes.len() as u64, digest));
            ControlFlow::Break(())
        }
    }

    /// The digest, once the scan is done. `None` where no detector saw the file: it was too large, its time was
    /// over before libclamav looked at it, or it has 1 to 5 bytes, which detectors are not shown.
    pub fn of(&self, report: &Report) -> Option<ContentDigest> {
        if report.size == 0 {
            return Some(ContentDigest::of(b""));
        }
        let taken = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.filter(|(size, _)| *size == report.size).map(|(_, digest)| digest)
    }
}
