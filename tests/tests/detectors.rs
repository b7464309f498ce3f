//! Layer detectors, cancellation, and what must not disturb a scan.

mod common;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use clamav_core::{ErrorKind, Layer, PendingScan, Report, Result, ScanRequest, Verdict};
use common::{engine, found_in};
use scan_pipeline_tests::marker::{harmless, payload};
use scan_pipeline_tests::{mail, office, pdf, stream, tape, zip};

type Seen = HashMap<String, Vec<u8>>;

/// Scans and collects every layer that a detector is shown.
fn layers(name: &str, bytes: Vec<u8>) -> (Report, Seen, usize) {
    let seen = Arc::new(Mutex::new((Seen::new(), 0)));
    let collect = Arc::clone(&seen);
    let request = ScanRequest::named(name).detector(move |layer: &Layer<'_>| {
        let mut seen = collect.lock().expect("not poisoned");
        seen.0.insert(layer.path.to_owned(), layer.bytes.to_vec());
        seen.1 += 1;
        ControlFlow::Continue(())
    });
    let report = engine().scan(bytes, request).expect("a verdict");
    let (seen, calls) = std::mem::take(&mut *seen.lock().expect("not poisoned"));
    (report, seen, calls)
}

#[test]
fn sees_every_layer_with_its_bytes() {
    let inner = zip::plain(&[("word/document.xml", &payload())]);
    let bytes = zip::plain(&[("in/inner.zip", &inner), ("readme.txt", &harmless())]);
    let (report, seen, calls) = layers("outer.zip", bytes.clone());
    found_in("outer.zip/in/inner.zip/word/document.xml", &report);
    assert_eq!(seen["outer.zip"], bytes);
    assert_eq!(seen["outer.zip/in/inner.zip"], inner);
    assert_eq!(seen["outer.zip/in/inner.zip/word/document.xml"], payload());
    assert_eq!(seen["outer.zip/readme.txt"], harmless());
    assert_eq!(calls, 4);
}

#[test]
fn sees_each_content_once() {
    let twice = zip::plain(&[("a.txt", &harmless()), ("b.txt", &harmless()), ("c.txt", &payload())]);
    let (_, seen, calls) = layers("a.zip", twice);
    assert_eq!(calls, seen.len());
    assert_eq!(calls, 3, "{:?}", seen.keys());
    // libclamav delivers the members of a docx two or three times.
    let (_, seen, calls) = layers("a.docx", office::docx("hello"));
    let distinct: std::collections::HashSet<_> = seen.values().collect();
    assert_eq!(calls, distinct.len(), "{:?}", seen.keys());
}

#[test]
fn sees_into_all_formats() {
    let data = payload();
    for (name, bytes) in [
        ("a.tar.gz", tape::tar_gz(&[("b.txt", &data)])),
        ("a.eml", mail::attachment("b.txt", &data)),
        ("a.pdf", pdf::attachment("b.txt", &data)),
        ("a.deb", tape::deb(&data)),
        ("a.zst", stream::zst(&data)),
    ] {
        let (_, seen, _) = layers(name, bytes);
        assert!(seen.values().any(|bytes| *bytes == data), "{name}: {:?}", seen.keys());
    }
}

#[test]
fn sees_files_that_libclamav_does_not_look_at() {
    let (report, seen, calls) = layers("tiny", b"abc".to_vec());
    assert_eq!((calls, seen["tiny"].as_slice()), (1, &b"abc"[..]));
    assert_eq!(report.verdict, Verdict::Clean);
}

#[test]
fn may_stop_looking_without_stopping_the_scan() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let request = ScanRequest::named("a.zip").detector(move |_: &Layer<'_>| {
        count.fetch_add(1, Ordering::Relaxed);
        ControlFlow::Break(())
    });
    found_in("a.zip/letter.txt", &engine().scan(zip::letter(&payload()), request).expect("a verdict"));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_panic_in_it_is_contained_and_is_no_verdict() {
    for depth in [0, 1] {
        let request = ScanRequest::named("a.zip").detector(move |layer: &Layer<'_>| {
            assert!(layer.depth != depth, "on purpose");
            ControlFlow::Continue(())
        });
        let error = engine().scan(zip::letter(&harmless()), request).expect_err("no verdict");
        assert_eq!(error.kind(), ErrorKind::Panicked, "{error}");
    }
    common::clean(&common::scan("after.zip", zip::letter(&harmless())));
}

#[test]
fn cancelling_ends_the_scan_between_two_layers() {
    let pending: Arc<Mutex<Option<clamav_core::Canceller>>> = Arc::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let (slot, count) = (Arc::clone(&pending), Arc::clone(&calls));
    let (ready, go) = std::sync::mpsc::channel::<()>();
    let go = Mutex::new(go);
    let request = ScanRequest::named("a.zip").detector(move |layer: &Layer<'_>| {
        if layer.depth == 0 {
            go.lock().expect("not poisoned").recv().expect("the test sends");
        }
        if count.fetch_add(1, Ordering::Relaxed) == 9 {
            slot.lock().expect("not poisoned").as_ref().expect("set before").cancel();
        }
        ControlFlow::Continue(())
    });
    let scan: PendingScan = engine().submit(zip::many(6_000, Some(5_999)), request).expect("taken");
    *pending.lock().expect("not poisoned") = Some(scan.canceller());
    ready.send(()).expect("the detector waits");
    let result: Result<Report> = scan.wait();
    assert_eq!(result.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    assert_eq!(calls.load(Ordering::Relaxed), 10, "no layer is shown after the one that cancelled");
}

#[test]
fn cancelling_before_the_start_and_dropping_are_safe() {
    let (ready, go) = std::sync::mpsc::channel::<()>();
    let go = Mutex::new(go);
    let request = ScanRequest::new().detector(move |_: &Layer<'_>| {
        let _ = go.lock().expect("not poisoned").recv();
        ControlFlow::Break(())
    });
    let scan = engine().submit(zip::many(3_000, None), request).expect("taken");
    scan.cancel();
    drop(ready);
    // Whether it had started or not, it is cancelled.
    assert_eq!(scan.wait().expect_err("cancelled").kind(), ErrorKind::Cancelled);
    for _ in 0..20 {
        drop(engine().submit(zip::many(1_000, Some(999)), ScanRequest::new()).expect("taken"));
    }
    common::clean(&common::scan("after", harmless()));
}

#[test]
fn a_pending_scan_is_a_future() {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut scan =
        std::pin::pin!(engine().submit(zip::letter(&payload()), ScanRequest::named("a.zip")).expect("taken"));
    let report = loop {
        match scan.as_mut().poll(&mut context) {
            std::task::Poll::Ready(result) => break result.expect("a verdict"),
            std::task::Poll::Pending => std::thread::park(),
        }
    };
    found_in("a.zip/letter.txt", &report);
}
