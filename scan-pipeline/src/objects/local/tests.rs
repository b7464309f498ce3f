//! What is particular to file systems: links, writes in place, crashes, large directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use futures_util::TryStreamExt;
use proptest::prelude::*;
use tempfile::TempDir;

use super::LocalBucket;
use crate::content::Content;
use crate::model::ObjectRef;
use crate::objects::{KeyRange, ObjectOps, PutOptions};
use crate::{ErrorKind, Result};

async fn bucket() -> (TempDir, LocalBucket) {
    let dir = tempfile::tempdir().expect("a directory");
    let bucket = LocalBucket::open(dir.path()).await.expect("opens");
    assert!(bucket.caps().tags, "these tests need extended attributes in the directory for temporary files");
    (dir, bucket)
}

fn at(bucket: &LocalBucket, key: &str) -> ObjectRef {
    ObjectRef::new(bucket.url().clone(), key)
}

async fn put(bucket: &LocalBucket, key: &str, bytes: &str) -> ObjectRef {
    let content = Content::from_bytes(bytes.to_owned());
    bucket.put(key, &content, &PutOptions::default()).await.expect("is written")
}

async fn text(bucket: &LocalBucket, object: &ObjectRef) -> Result<String> {
    let parts: Vec<_> = bucket.read(object).await?.stream.try_collect().await?;
    Ok(String::from_utf8_lossy(&parts.concat()).into_owned())
}

fn leftovers(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join(".scan-pipeline")).expect("is listed");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "lock" && name != "meta").collect()
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_while_it_wrote_tags_is_not_waited_for_without_end() {
    let (dir, bucket) = bucket().await;
    let object = put(&bucket, "a.txt", "text").await;
    bucket.set_tags(&object, &ours()).await.expect("is tagged");
    let lock = fs::File::open(dir.path().join(".scan-pipeline/lock")).expect("it is there");
    lock.lock().expect("is locked, as by another process");
    let all: Vec<_> = (0..20).map(|_| bucket.set_tags(&object, &[])).collect();
    for answer in futures_util::future::join_all(all).await {
        let why = answer.expect_err("nobody may write");
        assert!(why.kind() == ErrorKind::Busy && why.is_retryable(), "{why}");
    }
    drop(lock);
    assert_eq!(bucket.set_tags(&object, &[]).await.expect("is free again").tags.len(), 1);
}

fn ours() -> Vec<(String, String)> {
    vec![(String::from("scan-status"), String::from("clean"))]
}

#[tokio::test]
async fn links_are_neither_followed_nor_replaced() {
    let (dir, bucket) = bucket().await;
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("secret"), "secret").expect("is written");
    symlink(outside.path().join("secret"), dir.path().join("file-link")).expect("is made");
    symlink(outside.path(), dir.path().join("dir-link")).expect("is made");
    fs::create_dir(dir.path().join("dir")).expect("is made");
    for key in ["file-link", "dir-link/secret", "dir"] {
        for result in [
            bucket.stat(&at(&bucket, key)).await.map(|_| ()),
            bucket.read(&at(&bucket, key)).await.map(|_| ()),
            bucket.set_tags(&at(&bucket, key), &ours()).await.map(|_| ()),
            bucket.delete(&at(&bucket, key)).await,
        ] {
            assert_eq!(result.expect_err(key).kind(), ErrorKind::Gone, "{key}");
        }
        for only_new in [false, true] {
            let options = PutOptions { only_new, ..PutOptions::default() };
            let error = bucket.put(key, &Content::from_bytes("x"), &options).await.expect_err(key);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
    let error = bucket.put(".scan-pipeline/x", &Content::from_bytes("x"), &PutOptions::default()).await;
    assert_eq!(error.expect_err("our own directory").kind(), ErrorKind::InvalidInput);
    assert!(bucket.list(&KeyRange::default()).await.expect("is listed").entries.is_empty());
    assert_eq!(fs::read_to_string(outside.path().join("secret")).expect("untouched"), "secret");
    assert!(leftovers(dir.path()).is_empty(), "nothing half is left");
    let mode = |path: &str| fs::metadata(dir.path().join(path)).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(".scan-pipeline"), 0o700);
    put(&bucket, "plain", "x").await;
    fs::write(dir.path().join("reference"), "x").expect("is written");
    assert_eq!(mode("plain"), mode("reference"), "objects have the mode that every other file gets");
}

/// The time of a file has ticks, and two writes of one size in one tick look alike.
#[tokio::test]
async fn writes_in_place_within_a_tick_are_noticed() {
    let (dir, bucket) = bucket().await;
    let path = dir.path().join("a");
    fs::write(&path, "0000").expect("is written");
    for round in 1..40 {
        // Read at once after a write, and overwritten at once after that.
        let read = bucket.read(&at(&bucket, "a")).await.expect("opens");
        let pinned = read.info.object.clone();
        fs::write(&path, format!("{round:04}")).expect("is written");
        let late: Result<Vec<_>> = read.stream.try_collect().await;
        assert_eq!(late.expect_err("other bytes").kind(), ErrorKind::Superseded);
        assert_eq!(text(&bucket, &pinned).await.expect_err("another state").kind(), ErrorKind::Superseded);
        let error = bucket.set_tags(&pinned, &ours()).await.expect_err("another state");
        assert_eq!(error.kind(), ErrorKind::Superseded);
        assert_eq!(bucket.delete(&pinned).await.expect_err("another state").kind(), ErrorKind::Superseded);
        assert!(bucket.tags(&at(&bucket, "a")).await.expect("has none").is_empty());
    }
}

#[tokio::test]
async fn notes_are_void_after_a_write_in_place() {
    let (dir, bucket) = bucket().await;
    let options = PutOptions { content_type: Some(String::from("text/x-mine")), ..PutOptions::default() };
    let object = bucket.put("a", &Content::from_bytes("one"), &options).await.expect("is written");
    bucket.set_tags(&object, &ours()).await.expect("is tagged");
    fs::write(dir.path().join("a"), "two").expect("is written");
    let info = bucket.stat(&at(&bucket, "a")).await.expect("is there");
    assert_eq!(info.content_type, None);
    assert!(bucket.tags(&info.object).await.expect("has none").is_empty(), "clean was said of other bytes");
    // Moving a file takes its notes along, as a user expects of a file.
    let object = bucket.put("b", &Content::from_bytes("one"), &options).await.expect("is written");
    bucket.set_tags(&object, &ours()).await.expect("is tagged");
    fs::rename(dir.path().join("b"), dir.path().join("c")).expect("is moved");
    assert_eq!(bucket.tags(&at(&bucket, "c")).await.expect("has tags").len(), 1);
}

/// Somebody replaces the file at any moment of a delete: the new one is never lost.
#[tokio::test]
async fn deletes_take_only_what_was_meant() {
    let (dir, bucket) = bucket().await;
    for round in 0..150 {
        let old = put(&bucket, "a", "old").await;
        let (path, next) = (dir.path().join("a"), dir.path().join(".next"));
        let replacer = std::thread::spawn(move || {
            fs::write(&next, "new").expect("is written");
            std::thread::sleep(std::time::Duration::from_micros(round % 60 * 10));
            fs::rename(&next, &path).expect("is replaced");
        });
        if let Err(error) = bucket.delete(&old).await {
            assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
        }
        replacer.join().expect("no panic");
        assert_eq!(fs::read_to_string(dir.path().join("a")).expect("the new one is there"), "new");
        bucket.delete(&at(&bucket, "a")).await.expect("is deleted");
        assert!(leftovers(dir.path()).is_empty());
    }
}

/// The same with tags: none ever lies on the new file.
#[tokio::test]
async fn tags_hit_only_what_was_meant() {
    let (dir, bucket) = bucket().await;
    for round in 0..200 {
        let old = put(&bucket, "a", "old").await;
        let (path, next) = (dir.path().join("a"), dir.path().join(".next"));
        let in_place = round % 2 == 0;
        let replacer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_micros(round % 50 * 5));
            if in_place {
                fs::write(&path, "new").expect("is written");
            } else {
                fs::write(&next, "new").expect("is written");
                fs::rename(&next, &path).expect("is replaced");
            }
        });
        if let Err(error) = bucket.set_tags(&old, &ours()).await {
            assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
        }
        replacer.join().expect("no panic");
        let now = bucket.stat(&at(&bucket, "a")).await.expect("is there").object;
        assert_eq!(text(&bucket, &now).await.expect("is read"), "new");
        assert!(bucket.tags(&now).await.expect("has none").is_empty());
    }
}

#[tokio::test]
async fn a_crash_in_a_delete_is_finished_or_undone() {
    let (dir, bucket) = bucket().await;
    let own = dir.path().join(".scan-pipeline");
    let crash = |name: &str, key: &str, etag: &str, bytes: Option<&str>| {
        let removal = own.join(name);
        fs::create_dir(&removal).expect("is made");
        let record = serde_json::json!({"key": key, "etag": etag});
        fs::write(removal.join("record"), record.to_string()).expect("is written");
        if let Some(bytes) = bytes {
            fs::write(removal.join("object"), bytes).expect("is written");
        }
    };
    let meant = put(&bucket, "meant", "to be deleted").await;
    let etag = meant.etag.clone().expect("an etag");
    crash("del-1", "meant", &etag, None);
    fs::rename(dir.path().join("meant"), own.join("del-1/object")).expect("is moved");
    crash("del-2", "dir/other", &etag, Some("not meant"));
    crash("del-3", "taken", &etag, Some("not meant either"));
    put(&bucket, "taken", "newer").await;
    crash("del-4", "not-begun", &etag, None);
    fs::write(own.join("tmp-1"), "half").expect("is written");
    drop(bucket);
    let bucket = LocalBucket::open(dir.path()).await.expect("opens");
    assert_eq!(bucket.stat(&at(&bucket, "meant")).await.expect_err("is finished").kind(), ErrorKind::Gone);
    assert_eq!(text(&bucket, &at(&bucket, "dir/other")).await.expect("is undone"), "not meant");
    assert_eq!(text(&bucket, &at(&bucket, "taken")).await.expect("stays"), "newer");
    assert_eq!(leftovers(dir.path()), ["del-3"], "what has no place any more is kept");
    assert_eq!(fs::read_to_string(own.join("del-3/object")).expect("is kept"), "not meant either");
    // Its place gets free, and the next start puts it back.
    bucket.delete(&at(&bucket, "taken")).await.expect("is deleted");
    let bucket = LocalBucket::open(dir.path()).await.expect("opens");
    assert_eq!(text(&bucket, &at(&bucket, "taken")).await.expect("is back"), "not meant either");
    assert!(leftovers(dir.path()).is_empty());
}

#[tokio::test]
async fn opening_a_bucket_leaves_what_others_are_writing() {
    let (dir, bucket) = bucket().await;
    let temporary = bucket.run(|inner| inner.write(&Content::from_bytes("x"))).await.expect("is written");
    LocalBucket::open(dir.path()).await.expect("opens");
    assert_eq!(leftovers(dir.path()).len(), 1, "it is in use");
    drop(temporary);
    assert!(leftovers(dir.path()).is_empty());
}

#[tokio::test]
async fn a_directory_that_cannot_be_read_hides_nothing() {
    let (dir, bucket) = bucket().await;
    for key in ["a", "closed/x", "z"] {
        put(&bucket, key, key).await;
    }
    fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o000)).expect("is closed");
    // For root no directory is closed.
    let is_root = rustix::process::geteuid().is_root();
    let page = bucket.list(&KeyRange::default()).await.expect("is listed");
    assert_eq!(page.entries.len(), 3);
    assert_eq!(page.entries.iter().filter(|entry| entry.is_err()).count(), usize::from(!is_root));
    fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o755)).expect("is opened");
}

#[tokio::test]
async fn large_directories_come_in_pages() {
    let (dir, bucket) = bucket().await;
    let mut wanted = Vec::new();
    fs::create_dir(dir.path().join("dir")).expect("is made");
    for i in 0..9000 {
        let key = format!("dir/{:x}", i * 7919);
        fs::write(dir.path().join(&key), "").expect("is written");
        wanted.push(key);
    }
    wanted.sort();
    for most in [0, 999, 2500] {
        let mut range = KeyRange { most, ..KeyRange::default() };
        let (mut keys, mut pages) = (Vec::new(), 0);
        loop {
            let page = bucket.list(&range).await.expect("is listed");
            keys.extend(page.entries.into_iter().map(|entry| entry.expect("a good one").key));
            pages += 1;
            let Some(next) = page.next else { break };
            range.after = Some(next);
        }
        assert_eq!(keys, wanted);
        assert_eq!(pages, if most == 0 { 1 } else { 9000_usize.div_ceil(most) });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// A listing is what a sorted list of all keys would give, for any tree, range and page.
    #[test]
    fn listings_agree_with_a_sorted_list(
        keys in prop::collection::vec("([a!.0-]{1,2}|ü)(/([a!.0-]{1,2}|日)){0,3}", 0..20),
        prefix in "[a!.0/-]{0,2}",
        after in prop::option::of("[a!.0/-]{0,4}"),
        before in prop::option::of("[a!.0/-]{0,4}"),
        most in 0..5_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (_dir, bucket) = bucket().await;
            let mut model = BTreeMap::new();
            for key in keys {
                // What is no path, or below a file, is refused; what is written is in the list.
                if let Ok(object) = bucket.put(&key, &Content::from_bytes(""), &PutOptions::default()).await {
                    model.insert(object.key, ());
                }
            }
            let range = KeyRange { prefix, after, before, most };
            let wanted: Vec<_> = model.into_keys().filter(|key| range.contains(key)).collect();
            let (mut keys, mut rest) = (Vec::new(), range);
            loop {
                let page = bucket.list(&rest).await.expect("is listed");
                keys.extend(page.entries.into_iter().map(|entry| entry.expect("a good one").key));
                let Some(next) = page.next else { break };
                rest.after = Some(next);
            }
            assert_eq!(keys, wanted);
        });
    }
}
