//! Writes the verdict on the object.

use async_trait::async_trait;
use serde_json::json;

use super::{HandlerError, ResultHandler, Scanned, StepContext, StepOutput, Vocabulary};
use crate::ErrorKind;

/// A handler made by [`tag`].
#[derive(Debug, Clone, Default)]
pub struct Tag {
    vocabulary: Vocabulary,
    optional: bool,
}

/// Makes a handler that writes the verdict on the object as tags, pinned to the state that was scanned.
///
/// The user's tags stay. On a bucket without versions tagging cannot be conditional: a reader may see the tag on newer
/// bytes for a moment, before it is taken off again; if the process dies in that moment, until the next attempt. That one
/// takes off what it would have written, even where the newer bytes have it in their own right. Copying to another bucket with
/// [`relocate`](super::relocate()) has no such moment.
///
/// - What is no object (an upload) is skipped, and so is one that an earlier step has deleted.
/// - A bucket that has no tags, or an object that has 10 of its own, is a fatal error unless it is
///   [`optional`](Tag::optional): a verdict that nobody can read was not written.
///
/// ```
/// use scan_pipeline::handler::{Vocabulary, tag};
/// use scan_pipeline::workflow::Workflow;
///
/// let mark = Workflow::new("mark").then(tag().vocabulary(Vocabulary::av_status()));
/// assert!(mark.check().is_ok());
/// ```
pub fn tag() -> Tag {
    Tag::default()
}

impl Tag {
    /// Sets names and words.
    #[must_use]
    pub fn vocabulary(mut self, vocabulary: Vocabulary) -> Self {
        self.vocabulary = vocabulary;
        self
    }

    /// Goes on where the bucket has no tags or the object has no room for them.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

#[async_trait]
impl ResultHandler for Tag {
    fn name(&self) -> &str {
        "tag"
    }

    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> Result<StepOutput, HandlerError> {
        let Some(object) = step.object(scanned) else {
            return Ok(StepOutput::skipped("there is no object to tag"));
        };
        let bucket = step.buckets.of(object)?;
        if !bucket.caps().tags {
            if self.optional {
                return Ok(StepOutput::skipped("the bucket has no tags"));
            }
            let why =
                format!("{object}: the bucket has no tags; record the verdict elsewhere, or make the step optional()");
            return Err(HandlerError::fatal(why));
        }
        let tagged = async {
            let there = bucket.tags(object).await?;
            let ours = self.vocabulary.tags_over(scanned, &there);
            bucket.set_tags(object, &ours).await.map(|set| (ours, set))
        };
        let (ours, set) = match tagged.await {
            // The call before may have ended between the tags and the look at what they have hit.
            Err(why) if why.kind() == ErrorKind::Superseded && step.attempt > 1 => {
                bucket.take_back_tags(object, &self.vocabulary.tags(scanned)).await?;
                return Err(why.into());
            }
            tagged => tagged?,
        };
        // Names are cut and cleaned on their way, so they are looked up by place, not by name.
        let lost = |name: &str| {
            crate::model::Tags::from([(name, "")])
                .sanitized()
                .iter()
                .any(|(name, _)| set.dropped.iter().any(|dropped| dropped == name))
        };
        if let Some((first, _)) = ours.first().filter(|(first, _)| lost(first)) {
            let why = format!(
                "{object}: has 10 tags of its own, so {first} could not be written; remove one, or make the step optional()"
            );
            if !self.optional {
                return Err(HandlerError::fatal(why));
            }
            tracing::warn!("{why}");
        }
        let written: serde_json::Map<_, _> =
            ours.into_iter().filter(|(name, _)| !lost(name)).map(|(name, value)| (name, value.into())).collect();
        Ok(StepOutput::new(json!({ "object": object, "set": written, "dropped": set.dropped })))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::content::Content;
    use crate::handler::fixture::{clean, infected, scan_of, step};
    use crate::handler::{HandlerErrorKind, Place};
    use crate::model::ObjectRef;
    use crate::objects::{Buckets, MemoryBucket, ObjectOps, PutOptions};

    async fn scene(tags: usize) -> (MemoryBucket, Buckets, ObjectRef) {
        let bucket = MemoryBucket::new("b").expect("a bucket");
        let mut buckets = Buckets::new();
        buckets.insert("b", Arc::new(bucket.clone()));
        let tags = (0..tags).map(|i| (format!("user-{i}"), String::from("theirs"))).collect();
        let options = PutOptions { tags, ..PutOptions::default() };
        let object = bucket.put("a", &Content::from_bytes("abc"), &options).await.expect("put");
        (bucket, buckets, object)
    }

    #[tokio::test]
    async fn it_writes_the_verdict_once() {
        let (bucket, buckets, object) = scene(1).await;
        let scanned = scan_of(object.clone(), infected());
        let first = tag().handle(&scanned, &step(&scanned, &buckets, 1)).await.expect("tags");
        let after_first = bucket.tags(&object).await.expect("tags");
        let again = tag().handle(&scanned, &step(&scanned, &buckets, 2)).await.expect("tags");
        assert_eq!(first, again);
        assert_eq!(bucket.tags(&object).await.expect("tags"), after_first);
        assert_eq!(after_first.get("scan-status"), Some("infected"));
        assert_eq!(after_first.get("user-0"), Some("theirs"));
        assert_eq!(first.value["set"]["scan-threat"], "{HEX}Test");
        assert_eq!(first.value["dropped"], json!([]));
    }

    #[tokio::test]
    async fn a_later_verdict_leaves_nothing_of_the_earlier() {
        let (bucket, buckets, object) = scene(0).await;
        for report in [infected(), clean()] {
            let scanned = scan_of(object.clone(), report);
            tag().handle(&scanned, &step(&scanned, &buckets, 1)).await.expect("tags");
        }
        let tags = bucket.tags(&object).await.expect("tags");
        assert_eq!((tags.get("scan-status"), tags.get("scan-threat")), (Some("clean"), Some("none")));
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_said() {
        let (_, buckets, object) = scene(8).await;
        let scanned = scan_of(object, infected());
        let output = tag().handle(&scanned, &step(&scanned, &buckets, 1)).await.expect("tags");
        assert_eq!(output.value["set"], json!({ "scan-status": "infected", "scan-threat": "{HEX}Test" }));
        assert_eq!(output.value["dropped"], json!(["scan-definitions"]));

        let (bucket, buckets, object) = scene(10).await;
        let scanned = scan_of(object.clone(), infected());
        let step = step(&scanned, &buckets, 1);
        assert_eq!(tag().handle(&scanned, &step).await.expect_err("no room").kind(), HandlerErrorKind::Fatal);
        let output = tag().optional().handle(&scanned, &step).await.expect("goes on");
        assert_eq!(output.value["set"], json!({}));
        assert_eq!(bucket.tags(&object).await.expect("tags").len(), 10);
    }

    #[tokio::test]
    async fn other_bytes_are_not_tagged() {
        let (bucket, buckets, object) = scene(0).await;
        let other = bucket.put("a", &Content::from_bytes("evil"), &PutOptions::default()).await.expect("put");
        let scanned = scan_of(object, clean());
        let error = tag().handle(&scanned, &step(&scanned, &buckets, 1)).await.expect_err("superseded");
        assert_eq!(error.kind(), HandlerErrorKind::Superseded);
        assert!(bucket.tags(&other).await.expect("tags").is_empty());
    }

    #[tokio::test]
    async fn where_there_is_no_object_it_is_skipped() {
        let (_, buckets, object) = scene(0).await;
        let upload = ObjectRef::new("upload://u".parse().expect("an address"), "a").with_etag("1");
        let upload = scan_of(upload, clean());
        let output = tag().handle(&upload, &step(&upload, &buckets, 1)).await.expect("skipped");
        assert!(output.value["skipped"].is_string());
        let scanned = scan_of(object, clean());
        let deleted = StepContext { place: Place::Deleted, ..step(&scanned, &buckets, 1) };
        assert!(tag().handle(&scanned, &deleted).await.expect("skipped").value["skipped"].is_string());
    }
}
