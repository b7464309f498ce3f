//! Signature databases from a bucket that is set up.

use std::sync::Arc;

use scan_pipeline_tests::marker;

use super::super::build::engines;
use super::super::engine::{self, EngineSpec};
use super::super::read::Reader;
use crate::config::Provided;
use crate::content::Content;
use crate::engine::ScanContext;
use crate::objects::{Buckets, MemoryBucket, ObjectOps, PutOptions};

fn specs(definitions: &str) -> Vec<EngineSpec> {
    let text = format!("[engine.clamav]\nthreads = 1\ndefinitions = {definitions}\n");
    let reader = Reader::new(&text, std::path::Path::new("/"), None, Provided::new());
    let (specs, _) = reader.read_root(engine::read);
    let problems = reader.problems();
    assert!(problems.is_empty(), "{problems:?}");
    specs
}

#[tokio::test]
async fn an_address_is_looked_up_among_the_buckets() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = marker::test_definitions(dir.path()).expect("definitions");
    let bucket = MemoryBucket::new("definitions").expect("a bucket");
    let content = Content::from_bytes(std::fs::read(database).expect("read"));
    bucket.put("av/test.ndb", &content, &PutOptions::default()).await.expect("put");
    let mut buckets = Buckets::new();
    buckets.insert("signatures", Arc::new(bucket));
    for address in ["memory://definitions/av/", "memory://definitions/av"] {
        let engines = engines(&specs(&format!("[{address:?}]")), None, &buckets).await.expect("an engine");
        let scan = engines[0].scan(&Content::from_bytes(marker::eicar()), &ScanContext::named("a")).await;
        assert_eq!(scan.expect("a report").verdict.status(), "infected", "{address}");
    }
    let url = url::Url::from_file_path(dir.path()).expect("a path");
    assert_eq!(
        engines(&specs(&format!("{:?}", url.as_str())), None, &Buckets::new()).await.expect("a folder").len(),
        1
    );
    let none = engines(&specs("\"memory://definitions/\""), None, &Buckets::new()).await;
    let why = none.err().expect("it is not set up");
    assert_eq!(why.kind(), crate::ErrorKind::Config, "{why}");
}
