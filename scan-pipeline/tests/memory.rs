//! A 4 GiB stream through a pipeline with a budget of 64 MiB. One test, alone in its process: it reads the process's
//! peak of resident memory.

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use scan_pipeline::content::{Budget, SpoolOptions};
use scan_pipeline::engine::ClamAv;
use scan_pipeline::model::{ReasonKind, Verdict};
use scan_pipeline::pipeline::UploadRequest;
use scan_pipeline::store::SqliteStore;
use scan_pipeline::{Pipeline, Policy};

const GIB: u64 = 1 << 30;
const PART: usize = 1 << 20;
const BUDGET: u64 = 64 << 20;
const ALLOWED: u64 = 200 << 20;

/// A line of /proc/self/status, in bytes.
fn status(name: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect(name);
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Each part is made when it is asked for, and none is the same as the one before.
fn parts(bytes: u64) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::iter(0..bytes / PART as u64).map(|number| {
        let mut part = vec![b'x'; PART];
        part[..8].copy_from_slice(&number.to_be_bytes());
        Ok(Bytes::from(part))
    })
}

#[tokio::test]
async fn a_stream_of_4_gib_takes_less_than_200_mib() {
    let definitions = concat!(env!("CARGO_MANIFEST_DIR"), "/definitions");
    let engine = ClamAv::builder().definitions(definitions).build().await.expect("an engine");
    let dir = tempfile::tempdir().expect("a directory");
    let spool = SpoolOptions { max_size: 8 * GIB, dir: Some(dir.path().to_owned()), ..SpoolOptions::default() };
    let pipeline = Pipeline::builder()
        .engine(engine)
        .policy(Policy::new())
        .spool(spool)
        .memory(Budget::new(BUDGET))
        .store(SqliteStore::open(dir.path().join("state.db")).await.expect("a store"))
        .build()
        .expect("a pipeline");
    let before = status("VmRSS");

    let upload = pipeline.process_upload(UploadRequest::named("huge.bin").size(4 * GIB), parts(4 * GIB)).await;
    let upload = upload.expect("scanned");
    assert!(
        matches!(&upload.report().verdict, Verdict::Unscannable { reasons } if reasons[0].kind == ReasonKind::TooLarge)
    );
    assert_eq!(upload.report().size, Some(4 * GIB));
    drop(upload);
    let huge = status("VmHWM").saturating_sub(before);

    // Ten that are scanned, at once, of which the budget has room for three.
    let all = (0..10).map(|_| pipeline.process_upload(UploadRequest::named("large.bin"), parts(20 << 20)));
    for upload in futures_util::future::join_all(all).await {
        assert_eq!(upload.expect("scanned").report().verdict, Verdict::Clean);
    }
    let many = status("VmHWM").saturating_sub(before);
    eprintln!("above the engine: {} MiB for 4 GiB, {} MiB for ten of 20 MiB", huge >> 20, many >> 20);
    assert!(many < ALLOWED, "{} MiB", many >> 20);
}
