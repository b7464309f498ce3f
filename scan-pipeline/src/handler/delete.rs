//! Deletes the object.

use async_trait::async_trait;
use serde_json::json;

use super::{HandlerError, Place, ResultHandler, Scanned, StepContext, StepOutput};
use crate::ErrorKind;

/// A handler made by [`delete`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Delete {}

/// Makes a handler that deletes the state of the object that was scanned, for good, and no other.
///
/// - What is no object (an upload) is skipped, and so is one that an earlier step has deleted.
/// - When the first attempt finds that state gone or replaced, somebody else was there before:
///   [`Gone`](super::HandlerErrorKind::Gone) or [`Superseded`](super::HandlerErrorKind::Superseded). On a later attempt
///   it counts as done, since an attempt before may have deleted it without living to say so; the output's `found`
///   says which.
/// - A bucket that cannot delete just that state is a fatal error, unless that was accepted
///   ([`Buckets::accept_unpinned_delete`](crate::objects::Buckets::accept_unpinned_delete)).
///
/// ```
/// use scan_pipeline::handler::delete;
/// use scan_pipeline::workflow::Workflow;
///
/// assert!(Workflow::new("remove").then(delete()).check().is_ok());
/// ```
pub fn delete() -> Delete {
    Delete::default()
}

#[async_trait]
impl ResultHandler for Delete {
    fn name(&self) -> &str {
        "delete"
    }

    fn deletes(&self) -> bool {
        true
    }

    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> Result<StepOutput, HandlerError> {
        let Some(object) = step.object(scanned) else {
            return Ok(StepOutput::skipped("there is no object to delete"));
        };
        step.buckets.check_delete(object)?;
        let found = match step.buckets.of(object)?.delete(object).await {
            Ok(()) => "there",
            Err(error) if step.attempt > 1 => match error.kind() {
                ErrorKind::Gone => "gone",
                ErrorKind::Superseded => "superseded",
                _ => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        Ok(StepOutput::new(json!({ "deleted": object, "found": found })).with_place(Place::Deleted))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::content::Content;
    use crate::handler::HandlerErrorKind;
    use crate::handler::fixture::{infected, scan_of, step};
    use crate::objects::{Buckets, MemoryBucket, ObjectOps, PutOptions};

    async fn scene() -> (MemoryBucket, Buckets, Scanned) {
        let bucket = MemoryBucket::new("b").expect("a bucket");
        let mut buckets = Buckets::new();
        buckets.insert("b", Arc::new(bucket.clone()));
        let object = bucket.put("a", &Content::from_bytes("abc"), &PutOptions::default()).await.expect("put");
        (bucket, buckets, scan_of(object, infected()))
    }

    #[tokio::test]
    async fn it_deletes_once_and_says_so_again() {
        let (bucket, buckets, scanned) = scene().await;
        let first = delete().handle(&scanned, &step(&scanned, &buckets, 1)).await.expect("deletes");
        assert_eq!(first.place, Some(Place::Deleted));
        let again = delete().handle(&scanned, &step(&scanned, &buckets, 2)).await.expect("done already");
        assert_eq!((again.place, again.value["found"].as_str()), (Some(Place::Deleted), Some("gone")));
        assert_eq!(bucket.stat(&scanned.object).await.expect_err("gone").kind(), ErrorKind::Gone);
    }

    #[tokio::test]
    async fn what_came_in_its_place_is_left() {
        let (bucket, buckets, scanned) = scene().await;
        let newer = bucket.put("a", &Content::from_bytes("new"), &PutOptions::default()).await.expect("put");
        let error = delete().handle(&scanned, &step(&scanned, &buckets, 1)).await.expect_err("superseded");
        assert_eq!(error.kind(), HandlerErrorKind::Superseded);
        let output = delete().handle(&scanned, &step(&scanned, &buckets, 2)).await.expect("done");
        assert_eq!(output.value["found"], "superseded");
        assert!(bucket.stat(&newer).await.is_ok());
    }

    #[tokio::test]
    async fn a_first_attempt_that_finds_nothing_was_not_us() {
        let (bucket, buckets, scanned) = scene().await;
        bucket.delete(&scanned.object).await.expect("deletes");
        let error = delete().handle(&scanned, &step(&scanned, &buckets, 1)).await.expect_err("gone");
        assert_eq!(error.kind(), HandlerErrorKind::Gone);
    }
}
