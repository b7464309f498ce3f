use super::*;
use crate::content::Content;
use crate::handler::HandlerErrorKind;
use crate::handler::fixture::{clean, infected, scan_of, step};
use crate::objects::{Buckets, MemoryBucket};

/// A quarantine with one object, and the buckets around it.
struct Scene {
    quarantine: MemoryBucket,
    clean: MemoryBucket,
    buckets: Buckets,
    scanned: Scanned,
}

async fn put(bucket: &MemoryBucket, key: &str, bytes: &'static str) -> ObjectRef {
    bucket.put(key, &Content::from_bytes(bytes), &PutOptions::default()).await.expect("put")
}

async fn scene_of(quarantine: MemoryBucket, key: &str) -> Scene {
    let clean = quarantine.sibling("clean").expect("a bucket");
    let mut buckets = Buckets::new();
    buckets.insert("quarantine", Arc::new(quarantine.clone()));
    buckets.insert("clean", Arc::new(clean.clone()));
    let object = put(&quarantine, key, "abc").await;
    Scene { quarantine, clean, buckets, scanned: scan_of(object, super::super::fixture::clean()) }
}

async fn scene() -> Scene {
    scene_of(MemoryBucket::new("quarantine").expect("a bucket"), "dir/a.txt").await
}

impl Scene {
    async fn run(&self, rule: &Relocate, attempt: u32) -> Result<StepOutput, HandlerError> {
        rule.handle(&self.scanned, &step(&self.scanned, &self.buckets, attempt)).await
    }

    async fn keys(&self, bucket: &MemoryBucket) -> Vec<String> {
        let page = bucket.list(&crate::objects::KeyRange::default()).await.expect("lists");
        page.entries.into_iter().map(|entry| entry.expect("an entry").key).collect()
    }

    async fn text(&self, bucket: &MemoryBucket, key: &str) -> String {
        let read = bucket.read(&ObjectRef::new(bucket.url().clone(), key)).await.expect("there");
        let content = Content::from_stream(read.stream, &Spool::default()).await.expect("reads");
        String::from_utf8(content.bytes().await.expect("bytes").to_vec()).expect("text")
    }

    /// Another upload under the same key, an hour later.
    async fn upload_again(&self, bytes: &'static str) -> Scanned {
        let mut object = put(&self.quarantine, &self.scanned.object.key, bytes).await;
        object.modified = object.modified.map(|at| at.plus(std::time::Duration::from_secs(3600)));
        let mut scanned = scan_of(object, clean());
        Arc::make_mut(&mut scanned.report).sha256 = Some(ContentDigest::of(bytes.as_bytes()));
        Arc::make_mut(&mut scanned.report).size = Some(bytes.len() as u64);
        scanned
    }
}

fn moved_to(output: &StepOutput) -> &ObjectRef {
    match &output.place {
        Some(Place::Moved { object }) => object,
        other => panic!("moved, not {other:?}"),
    }
}

#[tokio::test]
async fn it_moves_and_marks_the_copy() {
    let scene = scene().await;
    let output = scene.run(&relocate("clean").prefix("in/").tags(Vocabulary::default()), 1).await.expect("moves");
    let copy = moved_to(&output);
    assert_eq!((copy.to_string().as_str(), copy.is_pinned()), ("memory://clean/in/dir/a.txt", true));
    assert_eq!(output.value["source"], "removed");
    assert!(scene.keys(&scene.quarantine).await.is_empty());
    assert_eq!(scene.text(&scene.clean, "in/dir/a.txt").await, "abc");
    let info = scene.clean.stat(copy).await.expect("there");
    assert_eq!(info.metadata[META_SHA256], ContentDigest::of(b"abc").to_string());
    assert_eq!(scene.clean.tags(copy).await.expect("tags").get("scan-status"), Some("clean"));
}

#[tokio::test]
async fn a_repeated_call_has_no_second_effect() {
    let scene = scene().await;
    let rule = relocate("clean");
    let first = scene.run(&rule, 1).await.expect("moves");
    let again = scene.run(&rule, 2).await.expect("done already");
    assert_eq!(first, again);
    assert_eq!(scene.keys(&scene.clean).await, ["dir/a.txt"]);
}

#[tokio::test]
async fn a_call_goes_on_between_copy_and_delete() {
    let scene = scene().await;
    // What a process leaves that dies there: a copy by the same step.
    let kept = scene.run(&relocate("clean").keep_source(), 1).await.expect("copies");
    assert_eq!(kept.place, None);
    assert_eq!(scene.keys(&scene.quarantine).await, ["dir/a.txt"]);
    let output = scene.run(&relocate("clean"), 2).await.expect("goes on");
    assert_eq!(serde_json::to_value(moved_to(&output)).expect("json"), kept.value["to"], "the same copy");
    assert!(scene.keys(&scene.quarantine).await.is_empty());
}

#[tokio::test]
async fn other_bytes_are_not_copied() {
    let scene = scene().await;
    scene.upload_again("evil").await;
    let error = scene.run(&relocate("clean"), 1).await.expect_err("superseded");
    assert_eq!(error.kind(), HandlerErrorKind::Superseded);
    assert!(scene.keys(&scene.clean).await.is_empty());
    assert_eq!(scene.text(&scene.quarantine, "dir/a.txt").await, "evil");
    // The reference fits, and the bytes were others when they were scanned: the digest decides.
    let mut lying = scene_of(MemoryBucket::new("quarantine").expect("a bucket"), "dir/a.txt").await;
    Arc::make_mut(&mut lying.scanned.report).sha256 = Some(ContentDigest::of(b"xyz"));
    assert_eq!(lying.run(&relocate("clean"), 1).await.expect_err("refused").kind(), HandlerErrorKind::Superseded);
    assert!(lying.keys(&lying.clean).await.is_empty());
}

#[tokio::test]
async fn what_is_gone_is_gone() {
    let scene = scene().await;
    scene.quarantine.delete(&scene.scanned.object).await.expect("deletes");
    let error = scene.run(&relocate("clean"), 1).await.expect_err("gone");
    assert_eq!(error.kind(), HandlerErrorKind::Gone);
}

#[tokio::test]
async fn replaced_after_the_copy_the_copy_stays_and_the_new_one_too() {
    let scene = scene().await;
    scene.run(&relocate("clean").keep_source(), 1).await.expect("copies");
    scene.upload_again("evil").await;
    let output = scene.run(&relocate("clean"), 2).await.expect("done");
    assert_eq!(output.value["source"], "superseded");
    assert_eq!(scene.text(&scene.clean, "dir/a.txt").await, "abc");
    assert_eq!(scene.text(&scene.quarantine, "dir/a.txt").await, "evil");
}

#[tokio::test]
async fn a_newer_upload_replaces_the_older_copy_and_not_the_other_way_round() {
    let scene = scene_of(MemoryBucket::versioned("quarantine").expect("a bucket"), "dir/a.txt").await;
    let newer = scene.upload_again("new").await;
    let rule = relocate("clean");
    rule.handle(&newer, &step(&newer, &scene.buckets, 1)).await.expect("moves");
    let error = scene.run(&rule, 1).await.expect_err("the older one comes too late");
    assert_eq!(error.kind(), HandlerErrorKind::Superseded);
    assert_eq!(scene.text(&scene.clean, "dir/a.txt").await, "new");

    let other_way = scene_of(MemoryBucket::versioned("quarantine").expect("a bucket"), "dir/a.txt").await;
    other_way.run(&rule, 1).await.expect("moves");
    let newer = other_way.upload_again("new").await;
    rule.handle(&newer, &step(&newer, &other_way.buckets, 1)).await.expect("replaces");
    assert_eq!(other_way.text(&other_way.clean, "dir/a.txt").await, "new");
}

#[tokio::test]
async fn what_somebody_else_put_there_is_touched_only_on_request() {
    for (on_conflict, keys, text) in [
        (OnConflict::Update, vec!["dir/a.txt"], "theirs"),
        (OnConflict::Fail, vec!["dir/a.txt"], "theirs"),
        (OnConflict::Overwrite, vec!["dir/a.txt"], "abc"),
        (OnConflict::Rename, vec!["dir/a-", "dir/a.txt"], "theirs"),
    ] {
        let scene = scene().await;
        put(&scene.clean, "dir/a.txt", "theirs").await;
        let rule = relocate("clean").on_conflict(on_conflict);
        let fails = matches!(on_conflict, OnConflict::Update | OnConflict::Fail);
        match scene.run(&rule, 1).await {
            Ok(first) => {
                assert!(!fails, "{on_conflict:?}");
                assert_eq!(scene.run(&rule, 2).await.expect("done"), first, "{on_conflict:?}");
            }
            Err(error) => {
                assert!(fails, "{on_conflict:?}: {error}");
                assert_eq!(error.kind(), HandlerErrorKind::Fatal, "{error}");
            }
        }
        assert_eq!(scene.keys(&scene.quarantine).await.is_empty(), !fails, "{on_conflict:?}");
        let found = scene.keys(&scene.clean).await;
        assert_eq!(found.len(), keys.len(), "{found:?}");
        assert!(found.iter().zip(keys).all(|(found, key)| found.starts_with(key)), "{found:?}");
        assert_eq!(scene.text(&scene.clean, "dir/a.txt").await, text, "{on_conflict:?}");
    }
}

#[tokio::test]
async fn it_does_not_move_to_where_it_is_and_within_a_bucket_by_prefix() {
    let scene = scene().await;
    let error = scene.run(&relocate("quarantine"), 1).await.expect_err("refused");
    assert_eq!(error.kind(), HandlerErrorKind::Fatal);
    assert_eq!(scene.keys(&scene.quarantine).await, ["dir/a.txt"]);
    scene.run(&relocate("memory://quarantine").prefix("done/"), 1).await.expect("moves");
    assert_eq!(scene.keys(&scene.quarantine).await, ["done/dir/a.txt"]);
    let error = scene.run(&relocate("nowhere"), 1).await.expect_err("no such bucket");
    assert_eq!(error.kind(), HandlerErrorKind::Fatal);
}

#[tokio::test]
async fn keys_are_exact() {
    for key in ["/evil", "a//b", "a/../b", "a+b", "a%2Bb", " ", "new\nline"] {
        let scene = scene_of(MemoryBucket::new("quarantine").expect("a bucket"), key).await;
        scene.run(&relocate("clean"), 1).await.expect("moves");
        assert_eq!(scene.keys(&scene.clean).await, [key]);
    }
}

#[tokio::test]
async fn metadata_of_the_uploader_does_not_pass_for_ours() {
    let scene = scene().await;
    let forged = [(META_WRITTEN, "99999999999999"), (META_SHA256, "0"), ("mine", "kept")];
    let metadata = forged.into_iter().map(|(name, value)| (String::from(name), String::from(value))).collect();
    let options = PutOptions { metadata, ..PutOptions::default() };
    let mut object = scene.quarantine.put("f", &Content::from_bytes("abc"), &options).await.expect("put");
    object.modified = None;
    let mut scanned = scan_of(object, infected());
    Arc::make_mut(&mut scanned.report).sha256 = None;
    let output = relocate("clean").handle(&scanned, &step(&scanned, &scene.buckets, 1)).await.expect("moves");
    let info = scene.clean.stat(moved_to(&output)).await.expect("there");
    assert_eq!(info.metadata["mine"], "kept");
    assert_eq!((info.metadata[META_WRITTEN].as_str(), info.metadata[META_SHA256].as_str()), ("unknown", "unknown"));
}

#[tokio::test]
async fn uploads_are_skipped() {
    let scene = scene().await;
    let upload = ObjectRef::new("upload://x".parse().expect("an address"), "a").with_etag("1");
    let scanned = scan_of(upload, clean());
    let output = relocate("clean").handle(&scanned, &step(&scanned, &scene.buckets, 1)).await.expect("skipped");
    assert!(output.value["skipped"].is_string() && output.place.is_none());
}
