//! The gate: nothing comes through before its verdict, and nothing at all without one.

use bytes::Bytes;
use futures_util::stream;
use scan_pipeline::ErrorKind;
use scan_pipeline::content::SpoolOptions;
use scan_pipeline::objects::{ObjectOps, PutOptions};
use scan_pipeline::pipeline::UploadRequest;
use scan_pipeline::store::TaskState;

use crate::common::{Rig, get, kind, whole};

type Part = Result<Bytes, std::io::Error>;

fn body(text: &'static str) -> impl futures_util::Stream<Item = Part> {
    stream::iter(text.as_bytes().chunks(3).map(|part| Ok(Bytes::from_static(part))))
}

#[tokio::test]
async fn only_what_the_policy_admits_comes_through() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    for (text, admitted) in [("fine", true), ("infected", false), ("locked", false)] {
        let upload = pipeline.process_upload(UploadRequest::named("a.txt"), body(text)).await.expect("scanned");
        assert_eq!(upload.is_admitted(), admitted, "{text}");
        let stored = upload.store(&pipeline, "clean", text, &PutOptions::default()).await;
        match admitted {
            true => assert_eq!(upload.content().expect("admitted").bytes().await.expect("bytes"), text),
            false => {
                assert_eq!(kind(upload.content().map(|_| ())), ErrorKind::Denied);
                assert_eq!(kind(stored), ErrorKind::Denied);
            }
        }
        assert_eq!(get(&*rig.clean, text).await.is_some(), admitted);
        assert_eq!(upload.processed().record.state, TaskState::Done);
    }
    assert_eq!(
        rig.notified(),
        ["clean", "infected", "unscannable"],
        "workflows run, and what needs an object is skipped"
    );
    whole(&pipeline).await;
}

#[tokio::test]
async fn an_id_names_one_upload() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let request = || UploadRequest::named("a.txt").id("order-7");
    assert!(!pipeline.process_upload(request(), body("fine")).await.expect("scanned").processed().repeated);
    let again = pipeline.process_upload(request(), body("fine")).await.expect("on record");
    assert!(again.processed().repeated && again.is_admitted());
    assert_eq!(rig.notified().len(), 1);
    // The record says clean; these are not the bytes it is about.
    assert_eq!(kind(pipeline.process_upload(request(), body("infected")).await), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_failed_engine_lets_nothing_through_and_the_upload_can_come_again() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let request = || UploadRequest::named("a.txt").id("7");
    for round in 1..=2 {
        assert_eq!(kind(pipeline.process_upload(request(), body("broken")).await), ErrorKind::Engine, "{round}");
    }
    assert!(pipeline.process_upload(request(), body("fine")).await.expect("scanned").is_admitted());
    whole(&pipeline).await;
}

#[tokio::test]
async fn streams_that_break_are_errors() {
    let rig = Rig::new();
    let spool =
        SpoolOptions { max_size: 20, stall_timeout: std::time::Duration::from_millis(50), ..Default::default() };
    let pipeline = rig.builder().await.spool(spool).build().expect("a pipeline");
    let named = || UploadRequest::named("a.txt");
    let broken = || -> [Part; 2] { [Ok(Bytes::from("fi")), Err(std::io::ErrorKind::ConnectionReset.into())] };
    assert_eq!(kind(pipeline.process_upload(named(), stream::iter(broken())).await), ErrorKind::Unavailable);
    assert_eq!(kind(pipeline.process_upload(named().size(3), body("fine")).await), ErrorKind::TooLarge);
    assert_eq!(kind(pipeline.process_upload(named().size(5), body("fine")).await), ErrorKind::Truncated);
    assert_eq!(kind(pipeline.process_upload(named(), body("fine, and far too long")).await), ErrorKind::TooLarge);
    assert_eq!(kind(pipeline.process_upload(named().size(21), body("")).await), ErrorKind::TooLarge);
    assert_eq!(kind(pipeline.process_upload(named(), stream::pending::<Part>()).await), ErrorKind::Timeout);
    let drip = stream::repeat_with(|| -> Part { Ok(Bytes::new()) });
    assert_eq!(kind(pipeline.process_upload(named(), drip).await), ErrorKind::Timeout, "nothing is no progress");
    assert_eq!((rig.scans.get(), rig.notified().len()), (0, 0));
    assert_eq!(rig.clean.list(&Default::default()).await.expect("listed").entries.len(), 0);
}

/// What the next test runs with a limit on the size of files, which is what a full disk is to a writer.
#[tokio::test]
async fn full_disk_child() {
    if std::env::var_os("SCAN_PIPELINE_FULL_DISK").is_none() {
        return;
    }
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let large = stream::iter((0..16).map(|_| -> Part { Ok(Bytes::from(vec![b'x'; 1 << 20])) }));
    let error = pipeline.process_upload(UploadRequest::named("large.bin"), large).await.expect_err("no room");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Resources, true), "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
    assert_eq!(rig.scans.get(), 0, "and no part of it was scanned");
    assert!(pipeline.process_upload(UploadRequest::named("a.txt"), body("fine")).await.expect("scanned").is_admitted());
}

#[test]
fn a_full_disk_is_an_error_and_lets_nothing_through() {
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact uploads::full_disk_child --nocapture"])
        .arg(std::env::current_exe().expect("this program"))
        .env("SCAN_PIPELINE_FULL_DISK", "1")
        .output()
        .expect("sh starts");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
}
