//! Listings: order, ranges, pages.

use super::{ObjectFixture, by_etag, fails, text_of};
use crate::model::TaskId;
use crate::objects::{KeyRange, ObjectOps};
use crate::{Error, ErrorKind};

/// In byte order; UTF-16 has the last two the other way round, and walks of directories have `a/` before `a-`.
const KEYS: [&str; 14] =
    ["a!", "a-b", "a-c/d", "a.b", "a/a-", "a/a/x", "a/b", "a/c/d", "a0", "ab", "b", "ü", "\u{ff5e}", "😀"];

/// All keys and errors of a range, page by page.
pub(super) async fn keys_in(f: &ObjectFixture, range: &KeyRange) -> (Vec<String>, Vec<Error>) {
    listed(&*f.bucket, range).await
}

async fn listed(bucket: &dyn ObjectOps, range: &KeyRange) -> (Vec<String>, Vec<Error>) {
    let (mut keys, mut errors) = (Vec::new(), Vec::new());
    let mut range = range.clone();
    loop {
        let page = bucket.list(&range).await.expect("is listed");
        let good = page.entries.iter().filter(|entry| entry.is_ok()).count();
        assert!(range.most == 0 || good <= range.most, "a page of {good} where {} are the most", range.most);
        for entry in page.entries {
            match entry {
                Ok(object) => {
                    assert!(object.is_pinned() && object.size.is_some(), "{object:?}");
                    keys.push(object.key);
                }
                Err(error) => errors.push(error),
            }
        }
        let Some(next) = page.next else { return (keys, errors) };
        assert!(range.after.as_ref() < Some(&next), "a listing goes on, from {:?} to {next:?}", range.after);
        range.after = Some(next);
    }
}

async fn fill(f: &ObjectFixture) {
    // Not in their order.
    for (i, _) in KEYS.iter().enumerate() {
        let key = KEYS[(i * 5 + 3) % KEYS.len()];
        f.put(key, key).await;
    }
}

fn those(keep: impl Fn(&str) -> bool) -> Vec<&'static str> {
    KEYS.into_iter().filter(|key| keep(key)).collect()
}

/// Keys come in the order of their bytes, and each can be read.
pub async fn listings_are_in_byte_order(f: &ObjectFixture) {
    let page = f.bucket.list(&KeyRange::default()).await.expect("an empty bucket can be listed");
    assert!(page.entries.is_empty() && page.next.is_none(), "{page:?}");
    fill(f).await;
    let mut objects = Vec::new();
    for entry in f.bucket.list(&KeyRange::default()).await.expect("is listed").entries {
        objects.push(entry.expect("a good one"));
    }
    let keys: Vec<_> = objects.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, KEYS);
    for object in &objects {
        assert_eq!(text_of(&*f.bucket, object).await.expect("is read"), object.key);
    }
}

/// A prefix is the start of a key, and no directory.
pub async fn listings_have_prefixes(f: &ObjectFixture) {
    fill(f).await;
    for prefix in ["", "a", "a-", "a/", "a/a", "a/a/", "a/b", "a/b/", "b", "/", "a//", "ü", "zzz", "a/../b", "😀"] {
        let (keys, errors) = keys_in(f, &KeyRange::prefix(prefix)).await;
        assert_eq!(keys, those(|key| key.starts_with(prefix)), "{prefix:?}");
        assert!(errors.is_empty());
    }
}

/// A listing goes on behind any key, there or not, with pages of any size.
pub async fn listings_resume_anywhere(f: &ObjectFixture) {
    fill(f).await;
    for most in [1, 2, 3, 13, 14, 15] {
        let (keys, _) = keys_in(f, &KeyRange { most, ..KeyRange::default() }).await;
        assert_eq!(keys, KEYS, "pages of {most}");
        let (keys, _) = keys_in(f, &KeyRange { most, ..KeyRange::prefix("a/") }).await;
        assert_eq!(keys, those(|key| key.starts_with("a/")), "pages of {most}");
    }
    let points = [
        "",
        "a",
        "a-b",
        "a-b/",
        "a-b/zzz",
        "a.",
        "a/",
        "a/a",
        "a/a/",
        "a/a/x",
        "a//",
        "a/b/c",
        "zzz",
        "～",
        "\u{10ffff}",
    ];
    for after in points {
        for prefix in ["", "a/"] {
            let range = KeyRange { after: Some(String::from(after)), most: 2, ..KeyRange::prefix(prefix) };
            let (keys, _) = keys_in(f, &range).await;
            assert_eq!(keys, those(|key| key > after && key.starts_with(prefix)), "after {after:?}");
            let range = KeyRange { before: Some(String::from(after)), most: 2, ..KeyRange::prefix(prefix) };
            let (keys, _) = keys_in(f, &range).await;
            assert_eq!(keys, those(|key| key < after && key.starts_with(prefix)), "before {after:?}");
        }
    }
}

/// Shards of a range give each of its keys once, wherever the bounds lie.
pub async fn shards_give_every_key_once(f: &ObjectFixture) {
    fill(f).await;
    for bounds in [vec!["a/b"], vec!["a0", "a/", "a-b"], vec!["0", "b", "zzzz", "ü"], KEYS.to_vec(), Vec::new()] {
        let mut keys = Vec::new();
        for shard in KeyRange::default().shards(bounds.clone()) {
            keys.extend(keys_in(f, &shard).await.0);
        }
        assert_eq!(keys, KEYS, "{bounds:?}");
    }
}

/// An entry that cannot be used is an error with a name, and all others are listed.
pub async fn a_bad_entry_hides_nothing(f: &ObjectFixture) {
    let keys = ["a", "bad/a", "bad/z", "c"];
    for key in keys {
        f.put(key, key).await;
    }
    if let Some(plant) = &f.plant {
        plant().await;
    }
    let wanted = usize::from(f.plant.is_some());
    for most in [0, 1, 2, 3] {
        let (came, errors) = keys_in(f, &KeyRange { most, ..KeyRange::default() }).await;
        assert_eq!(came, keys, "pages of {most}");
        assert_eq!(errors.len(), wanted, "pages of {most}: {errors:?}");
        let (came, errors) = keys_in(f, &KeyRange { most, ..KeyRange::prefix("bad/") }).await;
        assert_eq!((came.as_slice(), errors.len()), (&[String::from("bad/a"), String::from("bad/z")][..], wanted));
        for error in errors {
            assert!(error.context().is_some_and(|name| name.contains("bad/")), "{error}");
        }
    }
}

/// An entry pins what is there now; in just the words of `stat` where the backend says so.
pub async fn listings_pin_what_is_there(fixture: &ObjectFixture) {
    let bucket = &*fixture.bucket;
    for (key, bytes) in [("a", "one"), ("b/c", ""), ("b/d ü", "two")] {
        fixture.put(key, "before").await;
        fixture.put(key, bytes).await;
    }
    let page = bucket.list(&KeyRange::default()).await.expect("is listed");
    assert_eq!(page.entries.len(), 3);
    for entry in page.entries {
        let listed = entry.expect("a good one");
        assert!(listed.is_pinned(), "{listed}");
        let there = bucket.stat(&listed).await.expect("is there").object;
        assert_eq!(there, bucket.stat(&listed.unpinned()).await.expect("is there").object);
        if bucket.lists_whole_references() {
            assert_eq!(listed, there);
            assert_eq!(TaskId::of(&listed, 0), TaskId::of(&there, 0));
        }
        fixture.put(&listed.key, "another").await;
        fails(ErrorKind::Superseded, bucket.stat(&by_etag(&listed)).await);
    }
}
