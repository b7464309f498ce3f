use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;

use super::*;
use crate::content::{Budget, Spool, SpoolOptions};
use crate::engine::Detector;

/// A social security number that is nobody's, put together here.
fn ssn() -> String {
    format!("{}-{}-{}", 536, 22, 8761)
}

fn engine() -> DetectOnly {
    DetectOnly::new(Detectors::builder().detect(Detector::Ssn).build().expect("detectors"))
}

async fn on_disk(bytes: impl Into<Bytes>) -> Content {
    let options = SpoolOptions { memory_threshold: 0, max_size: u64::MAX, ..SpoolOptions::default() };
    let parts = stream::iter([Ok::<_, io::Error>(bytes.into())]);
    Content::from_stream(parts, &Spool::new(options, Budget::default())).await.expect("a content")
}

fn reasons(report: &Report) -> Vec<ReasonKind> {
    match &report.verdict {
        Verdict::Unscannable { reasons } => reasons.iter().map(|reason| reason.kind).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nothing_is_clean_whatever_was_found() {
    let engine = engine();
    for text in [String::new(), String::from("nothing"), format!("SSN: {}", ssn()), String::from("tiny")] {
        let mut reports = vec![engine.read(text.as_bytes(), "a.txt").expect("a report")];
        for content in [Content::from_bytes(text.clone()), on_disk(text.clone()).await] {
            reports.push(engine.scan(&content, &ScanContext::named("a.txt")).await.expect("a report"));
        }
        for report in &mut reports {
            assert_eq!(reasons(report), [ReasonKind::NoMalwareScan]);
            assert!(!report.is_complete() && !report.coverage.proven, "{report:?}");
            let found = usize::from(text.starts_with("SSN"));
            assert_eq!((report.findings.len(), report.findings_omitted), (found, 0), "{text}");
            assert_eq!(report.sha256, Some(ContentDigest::of(text.as_bytes())));
            assert_eq!((report.size, report.coverage.bytes), (Some(text.len() as u64), text.len() as u64));
            assert_eq!(report.engine, engine.info());
            report.elapsed = Duration::ZERO;
            for finding in &report.findings {
                assert_eq!((finding.layer_path.as_str(), finding.byte_offset), ("a.txt", 5));
            }
        }
        assert_eq!((&reports[0], &reports[0]), (&reports[1], &reports[2]), "wherever the bytes are");
    }
}

#[tokio::test]
async fn what_lies_across_two_pieces_is_found() {
    let engine = engine();
    for before in [HEAD - 5, CHUNK - 6, CHUNK - 1, 2 * CHUNK - 4] {
        let text = format!("{} ssn {} x", "a ".repeat(before / 2), ssn());
        let report = engine.read(text.as_bytes(), "a").expect("a report");
        assert_eq!(report.findings.len(), 1, "{before}");
        assert_eq!(report.findings[0].byte_offset as usize, text.find(&ssn()).expect("there"));
    }
}

#[tokio::test]
async fn what_is_packed_is_named() {
    for (bytes, form) in [
        (&b"PK\x03\x04rest"[..], Some("zip")),
        (b"%PDF-1.7\n", Some("pdf")),
        (b"\x1f\x8b\x08", Some("gzip")),
        (b"plain", None),
        (b"", None),
    ] {
        let report = engine().read(bytes, "a").expect("a report");
        assert_eq!(report.file_type.as_deref(), form);
        let Verdict::Unscannable { reasons } = &report.verdict else { panic!("{report:?}") };
        let detail = reasons[0].detail.as_deref().expect("words");
        assert_eq!(detail.contains("looked into"), form.is_some(), "{detail}");
    }
}

#[tokio::test]
async fn time_that_is_over_is_said() {
    let (engine, text) = (engine(), format!("ssn {}", ssn()));
    let context = |deadline| ScanContext { deadline: Some(deadline), ..ScanContext::named("a") };
    let late = Instant::now() - Duration::from_millis(1);
    let error = engine.scan(&Content::from_bytes(text), &context(late)).await.expect_err("there was no time");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // So much that the time is over in its midst.
    let much = on_disk(vec![b'a'; 256 << 20]).await;
    let report = engine.scan(&much, &context(Instant::now() + Duration::from_millis(5))).await;
    match report {
        Ok(report) => {
            assert_eq!(reasons(&report), [ReasonKind::NoMalwareScan, ReasonKind::TimedOut]);
            assert_eq!((report.size, report.sha256), (None, None));
        }
        Err(why) => assert_eq!(why.kind(), ErrorKind::Timeout, "it had not begun"),
    }
}

#[test]
fn the_settings_are_those_of_the_detectors() {
    let settings = |confidence| {
        let detectors = Detectors::builder().min_confidence(confidence).build().expect("detectors");
        DetectOnly::new(detectors).info().settings
    };
    assert_eq!(settings(0.5), settings(0.5));
    assert_ne!(settings(0.5), settings(0.6));
}

#[test]
fn a_reader_that_fails_is_an_error_and_one_that_is_slow_is_not() {
    struct Slow(Vec<u8>, bool);
    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // Every other time a signal comes in between.
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let Some(byte) = self.0.pop() else { return Ok(0) };
            buffer[0] = byte;
            Ok(1)
        }
    }
    let text: Vec<u8> = format!("ssn {} x", ssn()).bytes().rev().collect();
    assert_eq!(engine().read(Slow(text, false), "a").expect("a report").findings.len(), 1);
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    assert_eq!(engine().read(Broken, "a").expect_err("broken").kind(), ErrorKind::Io);
}
