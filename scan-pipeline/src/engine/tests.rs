//! The behaviour suite on every engine, clamd's among them, which is a real one here.

use std::sync::Arc;

use scan_pipeline_tests::{clamd, marker, zip};

use super::*;
use crate::content::{Spool, SpoolOptions};
use crate::model::{Limits, ReasonKind, Threat, Verdict};
use crate::testkit::engine_suite::EngineFixture;

/// The fixtures' marker as an engine of its own.
fn closure() -> impl Engine {
    Closure::new("marker", |bytes, name| {
        Ok(match marker::shows_marker(bytes) {
            true => Verdict::Infected {
                threats: vec![Threat { signature: String::from("Marker"), layer_path: name.to_owned() }],
            },
            false => Verdict::Clean,
        })
    })
}

/// A real server with small limits.
fn server(configure: fn(ClamdBuilder) -> ClamdBuilder, lines: &[&str]) -> (Clamd, clamd::Running) {
    let running = clamd::start(lines);
    (configure(Clamd::unix(running.socket())).build().expect("an engine"), running)
}

#[cfg(feature = "clamav")]
async fn clamav(limits: Limits) -> (ClamAv, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let definitions = marker::test_definitions(dir.path()).expect("definitions");
    let engine = ClamAv::builder().definitions(definitions).threads(2).limits(limits).build().await;
    (engine.expect("an engine"), dir)
}

fn small() -> Limits {
    Limits { max_file_size: 512 << 10, ..Limits::default() }
}

mod closure_suite {
    use super::*;

    async fn fixture() -> EngineFixture {
        EngineFixture::new(Arc::new(closure()), marker::marker())
    }

    crate::engine_suite!(fixture);
}

#[cfg(feature = "clamav")]
mod clamav_suite {
    use super::*;

    async fn fixture() -> EngineFixture {
        let (engine, dir) = clamav(small()).await;
        EngineFixture::new(Arc::new(engine), zip::letter(&marker::payload())).with_limit(512 << 10).keeping(dir)
    }

    crate::engine_suite!(fixture);
}

mod clamd_suite {
    use super::*;

    async fn fixture() -> EngineFixture {
        let (engine, running) = server(|builder| builder, &[]);
        EngineFixture::new(Arc::new(engine), zip::letter(&marker::payload()))
            .without_proof()
            .with_limit(clamd::STREAM_MAX_LENGTH as u64)
            .keeping(running)
    }

    crate::engine_suite!(fixture);
}

mod clamd_descriptor_suite {
    use super::*;

    async fn fixture() -> EngineFixture {
        let (engine, running) = server(|builder| builder.pass_descriptors(true), &[]);
        EngineFixture::new(Arc::new(engine), zip::letter(&marker::payload()))
            .without_proof()
            .with_limit(clamd::MAX_FILE_SIZE as u64)
            .keeping(running)
    }

    crate::engine_suite!(fixture);
}

mod clamd_tcp_suite {
    use super::*;

    async fn fixture() -> EngineFixture {
        let running = clamd::start(&[]);
        let engine = Clamd::tcp(running.address().to_string()).max_size(100_000).build().expect("an engine");
        EngineFixture::new(Arc::new(engine), marker::eicar()).without_proof().with_limit(100_000).keeping(running)
    }

    crate::engine_suite!(fixture);
}

/// One member has the proof, the other one has none.
#[cfg(feature = "clamav")]
mod group_suite {
    use super::*;

    async fn fixture() -> EngineFixture {
        let (engine, dir) = clamav(small()).await;
        let (clamd, running) = server(|builder| builder, &[]);
        let group = Group::new(vec![Arc::new(engine), Arc::new(clamd)]).expect("a group");
        EngineFixture::new(Arc::new(group), zip::letter(&marker::payload()))
            .with_limit(512 << 10)
            .keeping((dir, running))
    }

    crate::engine_suite!(fixture);
}

async fn kind_of(engine: &impl Engine, bytes: Vec<u8>) -> ReasonKind {
    let report = engine.scan(&Content::from_bytes(bytes), &ScanContext::named("a")).await.expect("a report");
    match report.verdict {
        Verdict::Unscannable { reasons } if reasons.len() == 1 => reasons[0].kind,
        other => panic!("{other:?}"),
    }
}

#[cfg(feature = "clamav")]
#[tokio::test]
async fn definitions_have_urls() {
    let dir = tempfile::Builder::new().prefix("with space-").tempdir().expect("a directory");
    let file = marker::test_definitions(dir.path()).expect("definitions");
    let url = |path: &std::path::Path| url::Url::from_file_path(path).expect("a path").to_string();
    assert!(url(dir.path()).contains("%20"));
    for url in [url(dir.path()), url(&file)] {
        let engine = ClamAv::builder().definitions_url(&url).expect("a path").build().await.expect("an engine");
        assert_eq!(engine.info().signatures, 2, "{url}");
    }
    for url in ["", "/var/lib/clamav", "https://example.org/main.cvd", "file://elsewhere/main.cvd", "file:///a?b"] {
        let error = ClamAv::builder().definitions_url(url).expect_err(url);
        assert_eq!(error.kind(), crate::ErrorKind::Config, "{url}");
    }
}

/// What is in memory holds a part of the budget until it is scanned. Scans that wait for that part must not keep it from
/// being scanned.
#[cfg(feature = "clamav")]
#[tokio::test]
async fn waiting_for_memory_keeps_nobody_from_scanning() {
    let dir = tempfile::tempdir().expect("a directory");
    let definitions = marker::test_definitions(dir.path()).expect("definitions");
    let engine = ClamAv::builder().definitions(definitions).threads(1).build().await.expect("an engine");
    let budget = Budget::new(1 << 20);
    let spooled = async |memory_threshold, bytes: Vec<u8>| {
        let spool = Spool::new(SpoolOptions { memory_threshold, ..Default::default() }, budget.clone());
        Content::from_reader(&*bytes, &spool).await.expect("a content")
    };
    let scan = async |content: Content| {
        let context = ScanContext { budget: Some(budget.clone()), ..ScanContext::named("a") };
        engine.scan(&content, &context).await.expect("a report").verdict
    };
    let mut scans: Vec<futures_util::future::BoxFuture<'_, Verdict>> = Vec::new();
    let disk = spooled(0, vec![b'a'; 100_000]).await;
    let memory = spooled(1 << 20, vec![b'a'; 1 << 20]).await;
    assert!(memory.memory().is_some() && budget.available() == 0);
    scans.extend((0..8).map(|_| Box::pin(scan(disk.clone())) as _));
    scans.push(Box::pin(scan(memory)));
    let all = futures_util::future::join_all(scans);
    let verdicts = tokio::time::timeout(std::time::Duration::from_secs(120), all).await.expect("nobody waits for ever");
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Clean));
}

/// The alerts are about what was not scanned, whatever clamd calls them.
#[tokio::test]
async fn clamds_alerts_are_reasons() {
    for pass in [false, true] {
        let running = clamd::start(&["MaxRecursion 3", "MaxFiles 5"]);
        let engine = Clamd::unix(running.socket()).pass_descriptors(pass).build().expect("an engine");
        let locked = zip::encrypted::zipcrypto(&[("a.txt", &marker::payload())]);
        assert_eq!(kind_of(&engine, locked).await, ReasonKind::Encrypted);
        let mut large = marker::marker();
        large.resize(clamd::MAX_FILE_SIZE + 1, b'a');
        assert_eq!(kind_of(&engine, large).await, ReasonKind::TooLarge);
        assert_eq!(kind_of(&engine, zip::nested(6, &marker::payload())).await, ReasonKind::TooDeep);
        assert_eq!(kind_of(&engine, zip::many(20, None)).await, ReasonKind::TooManyFiles);
    }
}

/// Beyond `StreamMaxLength` clamd says so and closes, with bytes of ours unread: the answer has to survive that.
#[tokio::test]
async fn clamds_stream_limit_is_a_reason() {
    let running = clamd::start(&[]);
    for builder in [Clamd::unix(running.socket()), Clamd::tcp(running.address().to_string())] {
        let engine = builder.build().expect("an engine");
        for size in [clamd::STREAM_MAX_LENGTH + 1, 2 << 20, 20 << 20] {
            assert_eq!(kind_of(&engine, vec![b'a'; size]).await, ReasonKind::TooLarge, "{size}");
        }
    }
}

/// Why its `OK` is not clean: each of these holds something to find.
#[tokio::test]
async fn clamd_says_ok_to_what_it_did_not_scan() {
    let running = clamd::start(&["AlertExceedsMax no"]);
    let engine = Clamd::unix(running.socket()).pass_descriptors(true).build().expect("an engine");
    let mut large = marker::marker();
    large.resize(clamd::MAX_FILE_SIZE + 1, b'a');
    assert_eq!(kind_of(&engine, large).await, ReasonKind::Unproven);
    std::fs::remove_dir_all(running.temporary_dir()).expect("removed");
    assert_eq!(kind_of(&engine, zip::letter(&marker::payload())).await, ReasonKind::Unproven);
    // Sent instead, the same is an error.
    let engine = Clamd::unix(running.socket()).build().expect("an engine");
    let content = Content::from_bytes(marker::eicar());
    let error = engine.scan(&content, &ScanContext::named("a")).await.expect_err("it has nowhere to put it");
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_clamd_that_ends_is_an_error() {
    let (engine, running) = server(|builder| builder, &[]);
    let content = Content::from_bytes(marker::eicar());
    engine.scan(&content, &ScanContext::named("a")).await.expect("a report");
    drop(running);
    let error = engine.scan(&content, &ScanContext::named("a")).await.expect_err("nobody is there");
    assert_eq!(error.kind(), crate::ErrorKind::Unavailable, "{error}");
}

#[cfg(feature = "clamav")]
#[tokio::test]
async fn with_an_engine_that_has_proof_clamd_only_adds() {
    let (engine, _dir) = clamav(Limits::default()).await;
    let (clamd, _running) = server(|builder| builder, &[]);
    let group = Group::new(vec![Arc::new(engine), Arc::new(clamd)]).expect("a group");
    let scan = async |bytes: Vec<u8>| {
        group.scan(&Content::from_bytes(bytes), &ScanContext::named("a")).await.expect("a report")
    };
    let clean = scan(marker::harmless()).await;
    assert!(clean.verdict == Verdict::Clean && clean.is_complete(), "{clean:?}");
    // clamd's limit is smaller than the other one's.
    let large = scan(vec![b'a'; clamd::MAX_FILE_SIZE + 1]).await;
    assert_eq!(large.verdict.status(), "unscannable", "{large:?}");
    let Verdict::Infected { threats } = scan(marker::eicar()).await.verdict else { panic!("not found") };
    assert_eq!(threats.len(), 1, "both say the same");
    // Neither an engine whose definitions are not known, nor one that has no proof, is for the cache.
    assert_eq!(group.info().generation, "");
}

#[cfg(feature = "clamav")]
#[tokio::test]
async fn newer_definitions_are_taken_up_and_bad_ones_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = marker::test_definitions(dir.path()).expect("definitions");
    let folder = first.parent().expect("a folder").to_owned();
    let engine = ClamAv::builder().definitions(&folder).threads(1).build().await.expect("an engine");
    let old = engine.info().generation;
    assert!(!engine.refresh_definitions().await.expect("looked"));
    std::fs::write(folder.join("more.ndb"), "More.Test:0:*:6d6f7265206f662069742e2e2e\n").expect("written");
    assert!(engine.refresh_definitions().await.expect("loaded"));
    let new = engine.info().generation;
    assert_ne!(new, old);
    std::fs::write(folder.join("bad.ndb"), "this is no signature\n").expect("written");
    assert!(engine.refresh_definitions().await.is_err());
    assert_eq!(engine.info().generation, new, "the old ones go on serving");
}

#[cfg(feature = "clamav")]
#[tokio::test]
async fn definitions_in_a_bucket_are_copied_and_kept_up() {
    use crate::objects::{MemoryBucket, ObjectOps, PutOptions};
    let bucket = Arc::new(MemoryBucket::new("definitions").expect("a bucket"));
    let put = async |key: &str, text: Vec<u8>| {
        bucket.put(key, &Content::from_bytes(text), &PutOptions::default()).await.expect("put")
    };
    let parent = tempfile::tempdir().expect("a directory");
    let build = async || {
        let builder = ClamAv::builder().temp_dir(parent.path()).threads(1);
        builder.definitions_in(Arc::clone(&bucket) as Arc<dyn ObjectOps>, "av/").build().await
    };
    let error = build().await.expect_err("there are none");
    assert!(error.kind() == crate::ErrorKind::Config && error.to_string().contains("memory://definitions"), "{error}");

    // What a killed process has left behind goes, too.
    std::fs::create_dir(parent.path().join("scan-pipeline-definitions-1-2")).expect("made");
    std::fs::write(parent.path().join("scan-pipeline-definitions-1-2.lock"), b"").expect("written");
    let more = |word: &str| format!("More.{}:0:*:{}\n", word.replace(' ', ""), hex(word.as_bytes())).into_bytes();
    put("av/first.ndb", more("the first of them")).await;
    put("av/read.me", b"no database".to_vec()).await;
    put("av/old/bad.ndb", b"of another folder\n".to_vec()).await;
    put("bad.ndb", b"not under the prefix\n".to_vec()).await;
    let engine = build().await.expect("an engine");
    let finds = async |text: &str| {
        let report = engine.scan(&Content::from_bytes(text.to_owned()), &ScanContext::named("a")).await;
        report.expect("a report").verdict.status() == "infected"
    };
    assert!(finds("this is the first of them").await && !finds("this is the second of them").await);
    assert!(!engine.refresh_definitions().await.expect("nothing has changed"));
    let names: Vec<_> = engine.info().databases.iter().map(|database| database.name.clone()).collect();
    assert_eq!(names, ["first.ndb"]);

    put("av/second.ndb", more("the second of them")).await;
    assert!(engine.refresh_definitions().await.expect("loaded"));
    assert!(finds("this is the first of them").await && finds("this is the second of them").await);
    let first = bucket.stat(&crate::model::ObjectRef::new(bucket.url().clone(), "av/first.ndb")).await.expect("there");
    bucket.delete(&first.object).await.expect("deleted");
    put("av/second.ndb", more("the third of them")).await;
    assert!(engine.refresh_definitions().await.expect("loaded"));
    assert!(!finds("this is the first of them").await && finds("this is the third of them").await);

    // Whatever somebody removes of the copies is there again.
    let folder = std::fs::read_dir(parent.path()).expect("a directory").filter_map(|entry| {
        let path = entry.expect("an entry").path();
        (path.is_dir() && path.to_string_lossy().contains("-definitions-")).then_some(path)
    });
    let folder = folder.last().expect("the copies");
    std::fs::remove_file(folder.join("second.ndb")).expect("removed");
    assert!(!engine.refresh_definitions().await.expect("nothing has changed"));
    std::fs::remove_dir_all(&folder).expect("removed");
    assert!(!engine.refresh_definitions().await.expect("nothing has changed"));
    assert!(folder.join("second.ndb").exists());

    put("av/broken.ndb", b"this is no signature\n".to_vec()).await;
    assert!(engine.refresh_definitions().await.is_err());
    assert!(finds("this is the third of them").await, "the old ones go on serving");
    drop(engine);
    assert_eq!(std::fs::read_dir(parent.path()).expect("a directory").count(), 0, "nothing is left behind");
}

#[cfg(feature = "clamav")]
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(feature = "clamav")]
mod sensitive;
