//! A move that fails, or that somebody interferes with, at each of its calls.

use super::*;
use crate::content::Content;
use crate::handler::fixture::{clean, scan_of, step};
use crate::objects::{Buckets, MemoryBucket};
use crate::testkit::{Interleaved, Moment};

/// More calls than a move makes on one bucket.
const CALLS: usize = 6;

async fn text(bucket: &MemoryBucket) -> Option<String> {
    let read = bucket.read(&ObjectRef::new(bucket.url().clone(), "a")).await.ok()?;
    let content = Content::from_stream(read.stream, &Spool::default()).await.expect("reads");
    Some(String::from_utf8(content.bytes().await.expect("bytes").to_vec()).expect("text"))
}

/// A quarantine with `abc` in it, a clean bucket that counts what is written to it, and the scan.
async fn scene() -> (MemoryBucket, MemoryBucket, Scanned) {
    let quarantine = MemoryBucket::new("quarantine").expect("a bucket");
    // Of another world, so that its first version is the first write to it, and the bytes take the long way.
    let released = MemoryBucket::versioned("clean").expect("a bucket");
    let object = quarantine.put("a", &Content::from_bytes("abc"), &PutOptions::default()).await.expect("put");
    (quarantine, released, scan_of(object, clean()))
}

fn buckets(quarantine: impl ObjectOps, released: impl ObjectOps) -> Buckets {
    let mut buckets = Buckets::new();
    buckets.insert("quarantine", Arc::new(quarantine));
    buckets.insert("clean", Arc::new(released));
    buckets
}

#[tokio::test]
async fn a_call_that_fails_anywhere_is_made_good_by_the_next() {
    let mut failed = 0;
    for (source, moment, call) in [true, false]
        .into_iter()
        .flat_map(|source| [Moment::Before, Moment::After].map(|moment| (source, moment)))
        .flat_map(|(source, moment)| (0..CALLS).map(move |call| (source, moment, call)))
    {
        let (quarantine, released, scanned) = scene().await;
        let failing = |bucket: &MemoryBucket, fails: bool| {
            Interleaved::new(Arc::new(bucket.clone()), move |at, number, _| {
                let now = fails && (at, number) == (moment, call);
                async move { if now { Err(Error::new(ErrorKind::Unavailable, "broken")) } else { Ok(()) } }
            })
        };
        let first = buckets(failing(&quarantine, source), failing(&released, !source));
        let rule = relocate("clean").tags(Vocabulary::default());
        failed += usize::from(rule.handle(&scanned, &step(&scanned, &first, 1)).await.is_err());
        let place = format!("{} {moment:?} {call}", if source { "source" } else { "destination" });

        let again = buckets(quarantine.clone(), released.clone());
        let output = rule.handle(&scanned, &step(&scanned, &again, 2)).await.expect(&place);
        let Some(Place::Moved { object }) = output.place else { panic!("{place}: moved") };
        assert_eq!(object.version.as_deref(), Some("v1"), "{place}: copied once");
        assert_eq!(text(&released).await.as_deref(), Some("abc"), "{place}");
        assert_eq!(text(&quarantine).await, None, "{place}");
        assert_eq!(released.tags(&object).await.expect("tags").get("scan-status"), Some("clean"), "{place}");
    }
    assert!(failed >= 10, "{failed} of the calls failed");
}

#[tokio::test]
async fn whenever_it_is_overwritten_the_new_bytes_stay_and_are_not_released() {
    let (mut released_before, mut not_released) = (0, 0);
    for (moment, call) in
        [Moment::Before, Moment::After].into_iter().flat_map(|m| (0..CALLS).map(move |call| (m, call)))
    {
        let (quarantine, released, scanned) = scene().await;
        let rival = quarantine.clone();
        let source = Interleaved::new(Arc::new(quarantine.clone()), move |at, number, _| {
            let rival = rival.clone();
            async move {
                if (at, number) == (moment, call) {
                    rival.put("a", &Content::from_bytes("evil"), &PutOptions::default()).await?;
                }
                Ok(())
            }
        });
        let source = Arc::new(source);
        let mut both = Buckets::new();
        both.insert("quarantine", Arc::clone(&source) as Arc<dyn ObjectOps>);
        both.insert("clean", Arc::new(released.clone()));
        let result = relocate("clean").handle(&scanned, &step(&scanned, &both, 1)).await;
        if source.calls() <= call {
            continue;
        }
        assert_eq!(text(&quarantine).await.as_deref(), Some("evil"), "{moment:?} {call}");
        match text(&released).await.as_deref() {
            Some("abc") => {
                assert!(result.is_ok(), "{moment:?} {call}: {result:?}");
                released_before += 1;
            }
            None => {
                let error = result.expect_err("not moved");
                assert_eq!(error.kind(), crate::handler::HandlerErrorKind::Superseded, "{moment:?} {call}: {error}");
                not_released += 1;
            }
            other => panic!("{moment:?} {call}: released {other:?}"),
        }
    }
    assert!(released_before > 0 && not_released > 0, "{released_before} {not_released}");
}
