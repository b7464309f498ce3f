//! Tags, and what copies keep.

use super::{ObjectFixture, list_of, map, put, text_of};
use crate::ErrorKind;
use crate::model::{ObjectRef, Tags};
use crate::objects::PutOptions;

/// Ours are put over what is there, up to ten; the user's stay, the least important of ours do not.
pub async fn tags_are_merged_up_to_ten(f: &ObjectFixture) {
    if !f.bucket.caps().tags {
        return refuses_tags(f).await;
    }
    let users: Vec<_> = (0..9).map(|i| (format!("user-{i}"), String::from("theirs"))).collect();
    let object = put(&*f.bucket, "a", "one", &PutOptions { tags: users.clone(), ..PutOptions::default() }).await;
    assert_eq!(f.bucket.tags(&object).await.expect("has tags"), users.iter().cloned().collect::<Tags>());
    let ours = list_of(&[("scan-status", "infected"), ("scan-threat", "x"), ("user-3", "ours"), ("scan-at", "now")]);
    let set = f.bucket.set_tags(&object, &ours).await.expect("is tagged");
    assert_eq!(set.dropped, ["scan-threat", "scan-at"]);
    assert_eq!(f.bucket.tags(&object).await.expect("has tags"), set.tags);
    assert_eq!(
        (set.tags.len(), set.tags.get("scan-status"), set.tags.get("user-3")),
        (10, Some("infected"), Some("ours"))
    );
    for (name, value) in users.iter().filter(|(name, _)| name != "user-3") {
        assert_eq!(set.tags.get(name), Some(value.as_str()), "the user's stay");
    }
    // A full set takes none of ours, and stays as it is.
    let full: Vec<_> = (0..10).map(|i| (format!("user-{i}"), String::from("theirs"))).collect();
    let object = put(&*f.bucket, "b", "one", &PutOptions { tags: full.clone(), ..PutOptions::default() }).await;
    let set = f.bucket.set_tags(&object, &list_of(&[("scan-status", "clean")])).await.expect("is looked at");
    assert_eq!((set.dropped.as_slice(), set.tags), (&[String::from("scan-status")][..], full.into_iter().collect()));
    // An object without tags has none, and setting none leaves it so.
    let object = f.put("c", "one").await;
    assert!(f.bucket.tags(&object).await.expect("has none").is_empty());
    assert!(f.bucket.set_tags(&object, &[]).await.expect("nothing to do").tags.is_empty());
}

/// Names and values that not every backend takes are cleaned in the same way everywhere.
pub async fn tags_are_cleaned(f: &ObjectFixture) {
    if !f.bucket.caps().tags {
        return refuses_tags(f).await;
    }
    let object = f.put("a", "one").await;
    let long = "v".repeat(400);
    let ours =
        list_of(&[("scan-threat", "{HEX}php.base64;1"), ("aws:mine", "a&b=c"), ("long", &long), ("ünï", "日本")]);
    let set = f.bucket.set_tags(&object, &ours).await.expect("is tagged");
    let want = map(&[("scan-threat", "_HEX_php.base64_1"), ("mine", "a_b=c"), ("long", &long[..256]), ("ünï", "日本")]);
    assert_eq!(set.tags.0, want);
    assert_eq!(f.bucket.tags(&object).await.expect("has tags").0, want);
}

/// Tagging changes neither the bytes nor the pin.
pub async fn tags_change_no_state(f: &ObjectFixture) {
    if !f.bucket.caps().tags {
        return refuses_tags(f).await;
    }
    let object = f.put("a", "one").await;
    let before = f.bucket.stat(&object).await.expect("is there");
    f.bucket.set_tags(&object, &list_of(&[("scan-status", "clean")])).await.expect("is tagged");
    assert_eq!(f.bucket.stat(&object).await.expect("the pin still holds"), before);
    assert_eq!(text_of(&*f.bucket, &object).await.expect("is read"), "one");
    // An overwrite takes the tags with it: they were about other bytes.
    let next = f.put("a", "two").await;
    assert!(f.bucket.tags(&next).await.expect("has none").is_empty(), "tags do not outlive their bytes");
}

/// Metadata, type and tags go with a copy, within a bucket and between two.
pub async fn copies_keep_what_the_source_has(f: &ObjectFixture) {
    let tagged = f.bucket.caps().tags && f.other.caps().tags;
    let options = PutOptions {
        content_type: Some(String::from("text/x-mine")),
        metadata: map(&[("owner", "someone"), ("case", "42")]),
        tags: if tagged { list_of(&[("project", "x")]) } else { Vec::new() },
        ..PutOptions::default()
    };
    let object = put(&*f.bucket, "a", "one", &options).await;
    let copy = f.copy(&object, "dir/copy", &PutOptions::default()).await.expect("is copied");
    assert_eq!((&copy.bucket, copy.key.as_str(), copy.size), (f.other.url(), "dir/copy", Some(3)));
    assert!(copy.is_pinned());
    let info = f.other.stat(&copy).await.expect("is there");
    assert_eq!((info.content_type.as_deref(), &info.metadata), (Some("text/x-mine"), &options.metadata));
    assert_eq!(text_of(&*f.other, &copy).await.expect("is read"), "one");
    if tagged {
        assert_eq!(f.other.tags(&copy).await.expect("has tags").0, map(&[("project", "x")]));
    }
    // Within the bucket, as far as it copies by itself.
    match f.bucket.copy(&object, f.bucket.url(), "b", &PutOptions::default()).await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        Ok(copy) => {
            assert_eq!(text_of(&*f.bucket, &copy).await.expect("is read"), "one");
            assert_eq!(f.bucket.stat(&copy).await.expect("is there").metadata, options.metadata);
        }
    }
    // The source is as it was.
    assert_eq!(f.bucket.stat(&object).await.expect("is there").metadata, options.metadata);
}

/// What the options of a copy say is put over what the source has.
pub async fn copies_take_what_the_options_say(f: &ObjectFixture) {
    let tagged = f.bucket.caps().tags && f.other.caps().tags;
    let tags = |pairs: &[(&str, &str)]| if tagged { list_of(pairs) } else { Vec::new() };
    let source = PutOptions {
        content_type: Some(String::from("text/x-mine")),
        metadata: map(&[("owner", "someone"), ("case", "42")]),
        tags: tags(&[("project", "x"), ("scan-status", "pending")]),
        ..PutOptions::default()
    };
    let object = put(&*f.bucket, "a", "one", &source).await;
    let over = PutOptions {
        content_type: Some(String::from("application/octet-stream")),
        metadata: map(&[("case", "43"), ("scanned-from", "a")]),
        tags: tags(&[("scan-status", "clean"), ("scan-at", "now")]),
        ..PutOptions::default()
    };
    let copy = f.copy(&object, "copy", &over).await.expect("is copied");
    let info = f.other.stat(&copy).await.expect("is there");
    assert_eq!(info.content_type.as_deref(), Some("application/octet-stream"));
    assert_eq!(info.metadata, map(&[("owner", "someone"), ("case", "43"), ("scanned-from", "a")]));
    if tagged {
        let want = map(&[("project", "x"), ("scan-status", "clean"), ("scan-at", "now")]);
        assert_eq!(f.other.tags(&copy).await.expect("has tags").0, want);
        let there = f.bucket.tags(&object).await.expect("has tags").0;
        assert_eq!(there, map(&[("project", "x"), ("scan-status", "pending")]), "the source is as it was");
    }
}

/// A bucket without tags says so, and writes nothing that was to be tagged.
async fn refuses_tags(f: &ObjectFixture) {
    let object = f.put("a", "one").await;
    let ours = list_of(&[("scan-status", "clean")]);
    super::fails(ErrorKind::Unsupported, f.bucket.tags(&object).await);
    super::fails(ErrorKind::Unsupported, f.bucket.set_tags(&object, &ours).await);
    let options = PutOptions { tags: ours, ..PutOptions::default() };
    let content = crate::content::Content::from_bytes("two");
    super::fails(ErrorKind::Unsupported, f.bucket.put("b", &content, &options).await);
    super::fails(ErrorKind::Gone, f.bucket.stat(&f.unpinned("b")).await);
    super::fails(ErrorKind::Unsupported, f.copy(&object, "copy", &options).await);
    super::fails(ErrorKind::Gone, f.other.stat(&ObjectRef::new(f.other.url().clone(), "copy")).await);
}
