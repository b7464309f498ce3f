//! Pins, overwrites, deletes.

use std::sync::Arc;

use super::{ObjectFixture, by_etag, bytes_of, fails, list_of, map, put, text_of};
use crate::ErrorKind;
use crate::content::Content;
use crate::model::{ContentDigest, ObjectRef};
use crate::objects::{KeyRange, PutOptions};

/// Empty, small and large objects come back as they were, with type and metadata.
pub async fn what_is_put_is_read(f: &ObjectFixture) {
    let large: Vec<u8> = (0..(6 << 20) + 1_u32).map(|i| (i ^ (i >> 11)) as u8).collect();
    for (key, bytes) in [("empty", Vec::new()), ("small", b"hello".to_vec()), ("dir/large.bin", large)] {
        let options = PutOptions {
            content_type: Some(String::from("application/x-test")),
            metadata: map(&[("owner", "someone"), ("Upper-Case", "Kept")]),
            ..PutOptions::default()
        };
        let content = Content::from_bytes(bytes.clone());
        let object = f.bucket.put(key, &content, &options).await.expect("is written");
        assert!(object.is_pinned() && object.bucket == *f.bucket.url() && object.key == key, "{object:?}");
        for object in [f.unpinned(key), object.clone(), by_etag(&object)] {
            let info = f.bucket.stat(&object).await.expect("is there");
            assert_eq!(info.object.size, Some(bytes.len() as u64));
            assert!(info.object.is_pinned() && info.object.modified.is_some(), "{:?}", info.object);
            assert_eq!(info.content_type.as_deref(), Some("application/x-test"));
            assert_eq!(info.metadata, map(&[("owner", "someone"), ("upper-case", "Kept")]));
            let read = f.bucket.read(&object).await.expect("opens");
            assert_eq!(read.info, info, "reading says what stat says");
            let came = bytes_of(&*f.bucket, &object).await.expect("is read");
            assert!(came == bytes, "{key}: {} bytes came back", came.len());
        }
    }
}

/// Put, stat and listing name one state alike, so that one object is one task.
pub async fn references_agree(f: &ObjectFixture) {
    let put = f.put("a", "one").await;
    let stat = f.bucket.stat(&f.unpinned("a")).await.expect("is there").object;
    assert_eq!((&put.version, &put.etag, put.size), (&stat.version, &stat.etag, Some(3)));
    if put.modified.is_some() {
        assert_eq!(put.modified, stat.modified);
    }
    let page = f.bucket.list(&KeyRange::default()).await.expect("is listed");
    let listed = page.entries.first().expect("an entry").as_ref().expect("a good one");
    assert_eq!((&listed.etag, listed.size), (&stat.etag, stat.size));
    assert_eq!(listed.modified, stat.modified, "times are given alike");
    if listed.version.is_some() {
        assert_eq!(listed.version, stat.version);
    }
    let again = f.bucket.stat(listed).await.expect("a listed reference can be used").object;
    assert_eq!(again, stat);
}

/// Nothing is made up for a key that is not there.
pub async fn what_is_not_there_is_gone(f: &ObjectFixture) {
    let there = f.put("there", "one").await;
    let absent = f.unpinned("absent");
    let pinned = ObjectRef { key: absent.key.clone(), ..by_etag(&there) };
    for object in [absent, pinned, f.unpinned("there/below"), f.unpinned("ther")] {
        fails(ErrorKind::Gone, f.bucket.stat(&object).await);
        fails(ErrorKind::Gone, f.bucket.read(&object).await);
        fails(ErrorKind::Gone, f.copy(&object, "copy", &PutOptions::default()).await);
        if f.bucket.caps().tags {
            fails(ErrorKind::Gone, f.bucket.tags(&object).await);
            fails(ErrorKind::Gone, f.bucket.set_tags(&object, &list_of(&[("a", "b")])).await);
        }
        if let Err(error) = f.bucket.delete(&object).await {
            assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
        }
    }
    fails(ErrorKind::Gone, f.other.stat(&ObjectRef::new(f.other.url().clone(), "copy")).await);
    assert_eq!(text_of(&*f.bucket, &there).await.expect("untouched"), "one");
}

/// A pinned read after an overwrite fails, however like the new object is.
pub async fn an_overwrite_supersedes_stat_and_read(f: &ObjectFixture) {
    let mut before = f.put("a", "old").await;
    for round in 0..5 {
        let after = f.put("a", &format!("{round}xx")).await;
        fails(ErrorKind::Superseded, f.bucket.stat(&by_etag(&before)).await);
        fails(ErrorKind::Superseded, f.bucket.read(&by_etag(&before)).await);
        before = after;
    }
    assert_eq!(text_of(&*f.bucket, &f.unpinned("a")).await.expect("is read"), "4xx");
}

/// Neither reading nor setting tags reaches another state.
pub async fn an_overwrite_supersedes_tags(f: &ObjectFixture) {
    if !f.bucket.caps().tags {
        let object = f.put("a", "old").await;
        fails(ErrorKind::Unsupported, f.bucket.tags(&object).await);
        fails(ErrorKind::Unsupported, f.bucket.set_tags(&object, &list_of(&[("a", "b")])).await);
        return;
    }
    let before = f.put("a", "old").await;
    let tags = PutOptions { tags: list_of(&[("users", "own")]), ..PutOptions::default() };
    put(&*f.bucket, "a", "new", &tags).await;
    fails(ErrorKind::Superseded, f.bucket.tags(&by_etag(&before)).await);
    fails(ErrorKind::Superseded, f.bucket.set_tags(&by_etag(&before), &list_of(&[("scan", "clean")])).await);
    let now = f.bucket.tags(&f.unpinned("a")).await.expect("has tags");
    assert_eq!(now.0, map(&[("users", "own")]), "the new object is untouched");
}

/// A copy of a state that is not there any more writes nothing.
pub async fn an_overwrite_supersedes_copies(f: &ObjectFixture) {
    let before = f.put("a", "old").await;
    f.put("a", "new").await;
    fails(ErrorKind::Superseded, f.copy(&by_etag(&before), "copy", &PutOptions::default()).await);
    fails(ErrorKind::Gone, f.other.stat(&ObjectRef::new(f.other.url().clone(), "copy")).await);
}

/// A delete of a state that is not there any more leaves the new one.
pub async fn an_overwrite_supersedes_deletes(f: &ObjectFixture) {
    let before = f.put("a", "old").await;
    let after = f.put("a", "new").await;
    fails(ErrorKind::Superseded, f.bucket.delete(&by_etag(&before)).await);
    assert_eq!(text_of(&*f.bucket, &after).await.expect("still there"), "new");
    f.bucket.delete(&after).await.expect("the current one goes");
}

/// After a delete nothing works on that state, and it does not come back.
pub async fn what_was_deleted_is_gone(f: &ObjectFixture) {
    let object = f.put("dir/a", "one").await;
    f.bucket.delete(&object).await.expect("is deleted");
    for object in [object.clone(), by_etag(&object), f.unpinned("dir/a")] {
        fails(ErrorKind::Gone, f.bucket.stat(&object).await);
        fails(ErrorKind::Gone, f.bucket.read(&object).await);
        fails(ErrorKind::Gone, f.copy(&object, "copy", &PutOptions::default()).await);
        if f.bucket.caps().tags {
            fails(ErrorKind::Gone, f.bucket.tags(&object).await);
            fails(ErrorKind::Gone, f.bucket.set_tags(&object, &list_of(&[("a", "b")])).await);
        }
    }
    let page = f.bucket.list(&KeyRange::default()).await.expect("is listed");
    assert!(page.entries.is_empty(), "{page:?}");
    // The key is free again, and its new object is another one.
    let next = f.put("dir/a", "two").await;
    fails(if object.version.is_some() { ErrorKind::Gone } else { ErrorKind::Superseded }, f.bucket.stat(&object).await);
    f.bucket.delete(&f.unpinned("dir/a")).await.expect("a delete needs no pin");
    fails(ErrorKind::Gone, f.bucket.stat(&next).await);
}

/// A repeated copy, tagging or delete changes nothing more.
pub async fn again_is_the_same(f: &ObjectFixture) {
    let object = f.put("a", "one").await;
    let first = f.copy(&object, "copy", &PutOptions::default()).await.expect("is copied");
    let second = f.copy(&object, "copy", &PutOptions::default()).await.expect("is copied again");
    assert_eq!((&first.key, first.size), (&second.key, second.size));
    assert_eq!(text_of(&*f.other, &second).await.expect("is read"), "one");
    if f.bucket.caps().tags {
        let ours = list_of(&[("scan-status", "clean"), ("scan-at", "now")]);
        let first = f.bucket.set_tags(&object, &ours).await.expect("is tagged");
        assert_eq!(f.bucket.set_tags(&object, &ours).await.expect("is tagged again"), first);
        assert_eq!(f.bucket.tags(&object).await.expect("has tags"), first.tags);
    }
    f.put("bystander", "two").await;
    f.bucket.delete(&object).await.expect("is deleted");
    if let Err(error) = f.bucket.delete(&object).await {
        assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
    }
    assert_eq!(text_of(&*f.bucket, &f.unpinned("bystander")).await.expect("untouched"), "two");
}

/// `only_new` leaves what is there.
pub async fn only_new_takes_no_key_twice(f: &ObjectFixture) {
    let options = PutOptions { only_new: true, ..PutOptions::default() };
    let first = put(&*f.bucket, "a", "one", &options).await;
    fails(ErrorKind::Exists, f.bucket.put("a", &Content::from_bytes("two"), &options).await);
    assert_eq!(text_of(&*f.bucket, &first).await.expect("untouched"), "one");
    f.copy(&first, "copy", &options).await.expect("the key is free");
    let second = f.put("b", "two").await;
    fails(ErrorKind::Exists, f.copy(&second, "copy", &options).await);
    let copy = ObjectRef::new(f.other.url().clone(), "copy");
    assert_eq!(text_of(&*f.other, &copy).await.expect("untouched"), "one");
}

/// Of many writers of one new key, one succeeds.
pub async fn only_one_of_many_is_new(f: &ObjectFixture) {
    let options = PutOptions { only_new: true, ..PutOptions::default() };
    let writers: Vec<_> = (0..8)
        .map(|i| {
            let (bucket, options) = (Arc::clone(&f.bucket), options.clone());
            tokio::spawn(async move { bucket.put("a", &Content::from_bytes(i.to_string()), &options).await })
        })
        .collect();
    let mut winner = None;
    for writer in writers {
        match writer.await.expect("no panic") {
            Ok(object) => assert!(winner.replace(object).is_none(), "two were new"),
            // Some servers answer both with "try again".
            Err(error) => assert!(error.kind() == ErrorKind::Exists || error.is_retryable(), "{error}"),
        }
    }
    if let Some(winner) = winner {
        f.bucket.stat(&winner).await.expect("the winner's object is there");
    }
}

/// A put whose bytes are not the expected ones writes nothing; a copy may rely on its pin instead.
pub async fn unexpected_bytes_are_not_written(f: &ObjectFixture) {
    let wrong = PutOptions { expect: Some(ContentDigest::of(b"other")), ..PutOptions::default() };
    let right = PutOptions { expect: Some(ContentDigest::of(b"one")), ..PutOptions::default() };
    fails(ErrorKind::Superseded, f.bucket.put("a", &Content::from_bytes("one"), &wrong).await);
    fails(ErrorKind::Gone, f.bucket.stat(&f.unpinned("a")).await);
    let object = put(&*f.bucket, "a", "one", &right).await;
    f.copy(&object, "right", &right).await.expect("is copied");
    if let Err(error) = f.copy(&object, "wrong", &wrong).await {
        assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
        fails(ErrorKind::Gone, f.other.stat(&ObjectRef::new(f.other.url().clone(), "wrong")).await);
    }
}

/// While an object is overwritten again and again, a reader gets one whole state or an error.
pub async fn readers_never_see_two_states(f: &ObjectFixture) {
    const SIZE: usize = 700 << 10;
    let state = |i: u8| Content::from_bytes(vec![i; SIZE + usize::from(i)]);
    f.bucket.put("a", &state(0), &PutOptions::default()).await.expect("is written");
    let bucket = Arc::clone(&f.bucket);
    let writer = tokio::spawn(async move {
        for i in 1..=12 {
            bucket.put("a", &state(i), &PutOptions::default()).await.expect("is written");
        }
    });
    while !writer.is_finished() {
        match bytes_of(&*f.bucket, &f.unpinned("a")).await {
            Ok(bytes) => {
                let first = bytes.first().copied().expect("no state is empty");
                assert!(bytes.len() == SIZE + usize::from(first) && bytes.iter().all(|byte| *byte == first));
            }
            Err(error) => assert!(error.kind() == ErrorKind::Superseded || error.is_retryable(), "{error}"),
        }
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer is done");
}

/// Where versions are kept, each stays what it was, and goes alone.
pub async fn old_versions_stay(f: &ObjectFixture) {
    let old = f.put("a", "old").await;
    let new = f.put("a", "newer").await;
    if !f.bucket.caps().versions {
        assert!(old.version.is_none() || old.version != new.version);
        return;
    }
    assert!(old.version.is_some() && old.version != new.version, "{old:?} {new:?}");
    assert_eq!(text_of(&*f.bucket, &old).await.expect("is read"), "old");
    assert_eq!(f.bucket.stat(&old).await.expect("is there").object.size, Some(3));
    if f.bucket.caps().tags {
        f.bucket.set_tags(&old, &list_of(&[("scan", "infected")])).await.expect("is tagged");
        assert_eq!(f.bucket.tags(&old).await.expect("has tags").get("scan"), Some("infected"));
        assert!(f.bucket.tags(&new).await.expect("has none").is_empty(), "the new version is untouched");
    }
    let copy = f.copy(&old, "copy", &PutOptions::default()).await.expect("is copied");
    assert_eq!(text_of(&*f.other, &copy).await.expect("is read"), "old");
    f.bucket.delete(&old).await.expect("is deleted");
    fails(ErrorKind::Gone, f.bucket.read(&old).await);
    assert_eq!(text_of(&*f.bucket, &f.unpinned("a")).await.expect("is read"), "newer");
    assert_eq!(text_of(&*f.bucket, &new).await.expect("is read"), "newer");
}

/// A reference to another bucket is a mistake, and not looked up here.
pub async fn other_buckets_are_refused(f: &ObjectFixture) {
    f.put("a", "one").await;
    let other = ObjectRef::new(f.other.url().clone(), "a");
    fails(ErrorKind::InvalidInput, f.bucket.stat(&other).await);
    fails(ErrorKind::InvalidInput, f.bucket.read(&other).await);
    fails(ErrorKind::InvalidInput, f.bucket.tags(&other).await);
    fails(ErrorKind::InvalidInput, f.bucket.set_tags(&other, &list_of(&[("a", "b")])).await);
    fails(ErrorKind::InvalidInput, f.copy(&other, "copy", &PutOptions::default()).await);
    fails(ErrorKind::InvalidInput, f.bucket.delete(&other).await);
    assert_eq!(text_of(&*f.bucket, &f.unpinned("a")).await.expect("untouched"), "one");
}
