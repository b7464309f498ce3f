//! Sensitive data alone: an engine without a malware scan, and without libclamav.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::{Detectors, Engine, Findings, Permits, ScanContext, before, hash, label};
use crate::content::{Content, blocking};
use crate::model::{ContentDigest, Coverage, EngineInfo, Limits, Reason, ReasonKind, Report, Verdict};
use crate::{Error, ErrorKind, Result};

/// How much is looked at between two looks at the clock.
const CHUNK: usize = 256 << 10;
/// Bytes at the beginning by which a form is known.
const HEAD: usize = 1024;

/// An engine that looks for sensitive data in the content as it lies there, and for nothing else.
///
/// - **It never says clean.** Nobody looked for malware, so the verdict is always unscannable, with the reason
///   [`ReasonKind::NoMalwareScan`], whatever was found or not. No policy lets that through as clean. In a
///   [`Group`](super::Group) beside an engine that does look for malware, that engine's verdict counts, and the findings
///   are added.
/// - **It unpacks nothing.** What is packed in an archive, a PDF or an Office document is not seen, and `file_type` names
///   such a form; for a content as it lies there `file_type` is `None`.
///   [`ClamAvBuilder::detectors`](super::ClamAvBuilder::detectors) looks into all of them.
/// - **It streams.** A content of any size takes some megabytes of memory.
///
/// ```
/// use scan_pipeline::content::Content;
/// use scan_pipeline::engine::{DetectOnly, Detectors, Engine, ScanContext};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let engine = DetectOnly::new(Detectors::builder().first_tier().build()?);
/// let report = engine.scan(&Content::from_bytes("nothing to see"), &ScanContext::named("a.txt")).await?;
/// assert_eq!((report.verdict.status(), report.findings.len()), ("unscannable", 0));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct DetectOnly {
    detectors: Detectors,
    info: EngineInfo,
    permits: Arc<Permits>,
}

impl fmt::Debug for DetectOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetectOnly").field("settings", &self.info.settings).finish_non_exhaustive()
    }
}

impl DetectOnly {
    /// An engine with these detectors. It works on as many contents at once as there are cores.
    pub fn new(detectors: Detectors) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let mut info = EngineInfo::new("detectors", version, version);
        info.settings = hash([version, &detectors.settings()]);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { detectors, info, permits: Arc::new(Permits::new(threads)) }
    }

    /// Looks at everything that a reader gives, on this thread, without a runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when it cannot be read to its end.
    pub fn read(&self, mut from: impl Read, name: &str) -> Result<Report> {
        let (mut digest, started) = (Sha256::new(), Instant::now());
        let next = |buffer: &mut [u8]| -> io::Result<usize> {
            let length = loop {
                match from.read(buffer) {
                    Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            digest.update(&buffer[..length]);
            Ok(length)
        };
        let seen = self.search(label(name), next, || false)?;
        let mut report = self.report(seen, label(name), started);
        report.sha256 = Some(ContentDigest(digest.finalize().into()));
        Ok(report)
    }

    /// Looks at what `next` gives until it gives nothing, or until it is to `stop`.
    fn search(
        &self,
        name: &str,
        mut next: impl FnMut(&mut [u8]) -> io::Result<usize>,
        stop: impl Fn() -> bool,
    ) -> Result<Seen> {
        let mut read = |buffer: &mut [u8]| next(buffer).map_err(|why| Error::io("the content could not be read", why));
        let mut buffer = vec![0; CHUNK];
        // A pipe may give its first bytes one by one.
        let mut filled = 0;
        while filled < HEAD {
            match read(&mut buffer[filled..])? {
                0 => break,
                length => filled += length,
            }
        }
        let head = &buffer[..filled.min(HEAD)];
        let (form, packed) = (Detectors::form_of(name, head), packed_in(head));
        let mut stream = self.detectors.stream_as(form, name);
        let (mut size, mut cut) = (0, false);
        while filled > 0 {
            if stop() {
                cut = true;
                break;
            }
            stream.push(&buffer[..filled]);
            size += filled as u64;
            filled = read(&mut buffer)?;
        }
        Ok(Seen { found: stream.finish_counted(), size, packed, cut })
    }

    fn report(&self, seen: Seen, name: &str, started: Instant) -> Report {
        let mut detail = String::from("sensitive data was looked for, and no malware");
        if let Some(form) = seen.packed {
            detail = format!("{detail}; nor was it looked into the {form}");
        }
        let reason = |kind, detail| Reason { kind, layer_path: name.to_owned(), detail };
        let mut reasons = vec![reason(ReasonKind::NoMalwareScan, Some(detail))];
        if seen.cut {
            reasons.push(reason(ReasonKind::TimedOut, None));
        }
        let mut report = Report::new(Verdict::Unscannable { reasons }, self.info.clone());
        report.findings = seen.found.list;
        report.findings_omitted = seen.found.omitted;
        report.coverage = Coverage { started: true, layers: 1, bytes: seen.size, limits: NO_LIMITS, ..report.coverage };
        report.size = Some(seen.size).filter(|_| !seen.cut);
        report.file_type = seen.packed.map(str::to_owned);
        report.elapsed = started.elapsed();
        report
    }
}

/// 0 stands for what an engine does not tell.
const NO_LIMITS: Limits = Limits {
    max_file_size: 0,
    max_scan_size: 0,
    max_recursion: 0,
    max_files: 0,
    max_scan_time: std::time::Duration::ZERO,
};

/// What came of one content.
struct Seen {
    found: Findings,
    size: u64,
    packed: Option<&'static str>,
    /// There was more, and no time for it.
    cut: bool,
}

#[async_trait]
impl Engine for DetectOnly {
    fn info(&self) -> EngineInfo {
        self.info.clone()
    }

    async fn scan(&self, content: &Content, context: &ScanContext) -> Result<Report> {
        let name = context.label();
        let closed = |_| Error::new(ErrorKind::Engine, "the engine is shut down");
        let permit = async { self.permits.here().acquire_owned().await.map_err(closed) };
        let permit = before(context.deadline, permit).await.map_err(|why| why.about(name))?;
        let gone = Gone::default();
        let (this, content, deadline) = (self.clone(), content.clone(), context.deadline);
        let (called, noticed, keeps) = (name.to_owned(), Arc::clone(&gone.0), context.keeps.clone());
        let work = move || {
            let _kept = (permit, keeps);
            let started = Instant::now();
            let late = || deadline.is_some_and(|deadline| deadline <= Instant::now());
            let mut offset = 0;
            let seen = this.search(
                &called,
                |buffer| {
                    let length = read_at(&content, buffer, offset)?;
                    offset += length as u64;
                    Ok(length)
                },
                || late() || noticed.load(Ordering::Relaxed),
            )?;
            let mut report = this.report(seen, &called, started);
            if report.size.is_some() {
                report.sha256 = Some(content.sha256());
            }
            Ok(report)
        };
        let report = blocking(work).await;
        drop(gone);
        report.map_err(|why| why.about(name))
    }
}

/// Says when nobody waits for the answer any more.
#[derive(Default)]
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn read_at(content: &Content, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let left = usize::try_from(content.size().saturating_sub(offset)).unwrap_or(usize::MAX);
    let length = left.min(buffer.len());
    match (content.memory(), content.file()) {
        (Some(bytes), _) => {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            buffer[..length].copy_from_slice(&bytes[start..start + length]);
        }
        (None, Some(file)) => file.read_exact_at(&mut buffer[..length], offset)?,
        (None, None) => return Err(io::Error::other("the content has no bytes")),
    }
    Ok(length)
}

/// What a content is packed in, by its first bytes.
fn packed_in(head: &[u8]) -> Option<&'static str> {
    const FORMS: [(&[u8], &str); 14] = [
        (b"PK\x03\x04", "zip"),
        (b"PK\x05\x06", "zip"),
        (b"PK\x07\x08", "zip"),
        (b"\x1f\x8b", "gzip"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"Rar!\x1a\x07", "rar"),
        (b"MSCF", "cab"),
        (b"%PDF-", "pdf"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole2"),
        (b"\x1f\x9d", "compress"),
    ];
    FORMS.iter().find(|(first, _)| head.starts_with(first)).map(|(_, form)| *form)
}

#[cfg(test)]
mod tests;
