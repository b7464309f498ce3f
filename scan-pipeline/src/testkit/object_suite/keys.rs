//! Keys that lesser clients decode, trim or normalise.

use super::listing::keys_in;
use super::{ObjectFixture, fails, text_of};
use crate::ErrorKind;
use crate::content::Content;
use crate::model::ObjectRef;
use crate::objects::{KeyRange, PutOptions};

/// Keys that are easily mistaken for others, each with the key that it may be mistaken for.
const TWINS: [(&str, &str); 22] = [
    ("/evil", "evil"),
    ("//evil", "/evil"),
    ("a//b", "a/b"),
    ("a/../b", "b"),
    ("../up", "up"),
    ("a/./b", "a/b"),
    ("./x", "x"),
    ("dir/.", "dir"),
    ("trailing/", "trailing"),
    ("plus+", "plus "),
    ("pct%2B", "pct+"),
    ("pct%252F", "pct%2F"),
    ("sp ace", "sp+ace"),
    (" edge ", "edge"),
    ("ünï/日本", "uni/日本"),
    ("e\u{301}", "\u{e9}"),
    ("Case", "case"),
    ("line\nbreak", "line break"),
    ("back\\slash", "back/slash"),
    ("q?v=1#f", "q"),
    ("<&'\">", "&lt;&amp;'\"&gt;"),
    (".hidden", "hidden"),
];

/// Every key that [`keys_are_exact`] tries, for [`ObjectFixture::refusing`].
pub fn awkward_keys() -> Vec<String> {
    let long = ["d".repeat(255), "e".repeat(255), "f".repeat(255), "g".repeat(253)].join("/");
    debug_assert_eq!(long.len() + 3, 1024);
    let fixed = TWINS.iter().map(|(key, _)| String::from(*key));
    fixed.chain([format!("{long}/zz"), "h".repeat(1024)]).collect()
}

/// Each awkward key is carried exactly or refused, and its twin is never touched.
pub async fn keys_are_exact(f: &ObjectFixture) {
    for key in awkward_keys() {
        let twin = TWINS.iter().find(|(awkward, _)| *awkward == key).map(|(_, twin)| *twin);
        let twin = match twin {
            Some(twin) if f.refused.iter().all(|refused| refused != twin) => Some(f.put(twin, "the twin's").await),
            _ => None,
        };
        if f.refused.contains(&key) {
            is_refused(f, &key).await;
        } else {
            is_carried(f, &key).await;
        }
        if let Some(twin) = twin {
            assert_eq!(text_of(&*f.bucket, &twin).await.expect("untouched"), "the twin's", "{key:?}");
            let (keys, _) = keys_in(f, &KeyRange::default()).await;
            assert!(keys.len() == 1 && keys[0] == twin.key, "{key:?}: {keys:?}");
            f.bucket.delete(&twin).await.expect("is deleted");
        }
        let (keys, errors) = keys_in(f, &KeyRange::default()).await;
        assert!(keys.is_empty() && errors.is_empty(), "{key:?} left {keys:?} and {errors:?}");
    }
}

async fn is_refused(f: &ObjectFixture, key: &str) {
    let object = f.unpinned(key);
    fails(ErrorKind::InvalidInput, f.bucket.put(key, &Content::from_bytes("x"), &PutOptions::default()).await);
    fails(ErrorKind::InvalidInput, f.bucket.stat(&object).await);
    fails(ErrorKind::InvalidInput, f.bucket.read(&object).await);
    fails(ErrorKind::InvalidInput, f.bucket.delete(&object).await);
    if f.bucket.caps().tags {
        fails(ErrorKind::InvalidInput, f.bucket.tags(&object).await);
        fails(ErrorKind::InvalidInput, f.bucket.set_tags(&object, &super::list_of(&[("a", "b")])).await);
    }
    let source = f.put("source", "x").await;
    fails(ErrorKind::InvalidInput, f.copy(&source, key, &PutOptions::default()).await);
    f.bucket.delete(&source).await.expect("is deleted");
}

async fn is_carried(f: &ObjectFixture, key: &str) {
    let object = f.bucket.put(key, &Content::from_bytes("the key's"), &PutOptions::default()).await;
    let object = object.unwrap_or_else(|error| panic!("{key:?} has to be carried: {error}"));
    assert_eq!(object.key, key);
    assert_eq!(f.bucket.stat(&f.unpinned(key)).await.expect("is there").object.key, key);
    assert_eq!(text_of(&*f.bucket, &object).await.expect("is read"), "the key's");
    let (keys, errors) = keys_in(f, &KeyRange::default()).await;
    assert!(keys.iter().any(|listed| listed == key) && errors.is_empty(), "{key:?}: {keys:?} {errors:?}");
    let (keys, _) = keys_in(f, &KeyRange::prefix(key)).await;
    assert_eq!(keys, [key], "a prefix is exact, too");
    if f.bucket.caps().tags {
        f.bucket.set_tags(&object, &super::list_of(&[("a", "b")])).await.expect("is tagged");
        assert_eq!(f.bucket.tags(&object).await.expect("has tags").get("a"), Some("b"));
    }
    let copy = f.copy(&object, key, &PutOptions::default()).await.expect("is copied");
    assert_eq!(text_of(&*f.other, &ObjectRef::new(f.other.url().clone(), key)).await.expect("is read"), "the key's");
    f.other.delete(&copy).await.expect("is deleted");
    f.bucket.delete(&object).await.expect("is deleted");
    fails(ErrorKind::Gone, f.bucket.stat(&f.unpinned(key)).await);
}
