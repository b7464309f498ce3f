//! Keeps the result, as an object or in the journal.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::json;

use super::{HandlerError, Place, ResultHandler, Scanned, StepContext, StepOutput};
use crate::content::Content;
use crate::model::{ContentDigest, ObjectRef, Report, TaskId, Verdict};
use crate::objects::{ObjectOps, PutOptions};
use crate::{Error, ErrorKind, Result};

/// The `schema` of a record.
pub const RECORD_SCHEMA: &str = "scan-pipeline.record/1";

/// A handler made by [`record`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Record {}

/// Makes a handler that keeps a summary of the result in the step's own output, which is in the store's journal and
/// which later steps can read: status, threats, kinds of reasons, numbers of findings, digest, size and definitions.
///
/// ```
/// use scan_pipeline::handler::record;
/// use scan_pipeline::workflow::Workflow;
///
/// assert!(Workflow::new("keep").then(record()).check().is_ok());
/// ```
pub fn record() -> Record {
    Record::default()
}

#[async_trait]
impl ResultHandler for Record {
    fn name(&self) -> &str {
        "record"
    }

    async fn handle(&self, scanned: &Scanned, _step: &StepContext) -> Result<StepOutput, HandlerError> {
        let report = &*scanned.report;
        let (mut threats, mut reasons) = (Vec::new(), Vec::new());
        match &report.verdict {
            Verdict::Clean => {}
            Verdict::Infected { threats: found } => threats.extend(found.iter().map(|threat| &threat.signature)),
            Verdict::Unscannable { reasons: found } => reasons.extend(found.iter().map(|reason| reason.kind)),
        }
        threats.sort();
        threats.dedup();
        reasons.sort();
        reasons.dedup();
        Ok(StepOutput::new(json!({
            "status": report.verdict.status(),
            "threats": threats,
            "reasons": reasons,
            "findings": report.findings_by_detector(),
            "findings_omitted": report.findings_omitted,
            "sha256": report.sha256,
            "size": report.size,
            "engine": report.engine.name,
            "definitions": report.engine.generation,
        })))
    }
}

/// A handler made by [`record_to`].
#[derive(Debug, Clone)]
pub struct RecordTo {
    bucket: String,
    prefix: String,
}

/// Makes a handler that writes the whole result as one object of JSON, and a line end, into a bucket, by short name or
/// address. Its key is made of the prefix, the task and the step's idempotency key, so a repeated call writes the same
/// bytes under the same key, and does not write at all when they are there.
///
/// The form is [`RECORD_SCHEMA`], with `task`, `workflow`, `step`, `object` (as it was scanned), `place` (where it is
/// now) and `report`.
///
/// ```
/// use scan_pipeline::handler::record_to;
/// use scan_pipeline::workflow::Workflow;
///
/// assert!(Workflow::new("keep").then(record_to("s3://records").prefix("scans/")).check().is_ok());
/// ```
pub fn record_to(bucket: impl Into<String>) -> RecordTo {
    RecordTo { bucket: bucket.into(), prefix: String::new() }
}

impl RecordTo {
    /// Puts this before the key, as it is: end it with a slash for a folder. A bucket whose new objects are scanned must
    /// not hold records where they are found.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }
}

/// Nothing here may differ between two attempts.
#[derive(Serialize)]
struct Body<'a> {
    schema: &'static str,
    task: TaskId,
    workflow: &'a str,
    step: &'a str,
    object: &'a ObjectRef,
    place: &'a Place,
    report: &'a Report,
}

#[async_trait]
impl ResultHandler for RecordTo {
    fn name(&self) -> &str {
        "record-to"
    }

    fn writes_to(&self) -> Option<&str> {
        Some(&self.bucket)
    }

    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> Result<StepOutput, HandlerError> {
        let body = Body {
            schema: RECORD_SCHEMA,
            task: scanned.task,
            workflow: &step.workflow,
            step: &step.step,
            object: &scanned.object,
            place: &step.place,
            report: &scanned.report,
        };
        let mut bytes = serde_json::to_vec(&body)
            .map_err(|why| HandlerError::fatal("the report could not be written as JSON").with_source(why))?;
        bytes.push(b'\n');
        let bucket = &**step.buckets.get(&self.bucket)?;
        // Sixteen digits tell the steps of one task apart; the task's id tells the tasks.
        let digits = step.idempotency_key.get(..16).unwrap_or(&step.idempotency_key);
        let key = format!("{}{}-{digits}.json", self.prefix, scanned.task);
        let content = Content::from_bytes(bytes);
        let written = put(bucket, &key, &content).await?;
        Ok(StepOutput::new(json!({ "record": written.unpinned(), "sha256": content.sha256() })))
    }
}

async fn put(bucket: &dyn ObjectOps, key: &str, content: &Content) -> Result<ObjectRef> {
    let options = PutOptions {
        content_type: Some(String::from("application/json")),
        metadata: BTreeMap::new(),
        tags: Vec::new(),
        only_new: true,
        expect: Some(content.sha256()),
    };
    match bucket.put(key, content, &options).await {
        Err(error) if error.kind() == ErrorKind::Exists => {}
        done => return done,
    }
    // An earlier call, or somebody who knows how these keys are made.
    let there = bucket.read(&ObjectRef::new(bucket.url().clone(), key)).await?;
    let object = there.info.object.clone();
    match same(there, content).await? {
        true => Ok(object),
        false => {
            Err(Error::new(ErrorKind::Exists, "something else is where the record belongs").about(object.to_string()))
        }
    }
}

async fn same(there: crate::objects::ObjectRead, content: &Content) -> Result<bool> {
    use futures_util::TryStreamExt;
    use sha2::{Digest, Sha256};
    if there.info.object.size.is_some_and(|size| size != content.size()) {
        return Ok(false);
    }
    let hash = there.stream.try_fold(Sha256::new(), |mut hash, part| async move {
        hash.update(&part);
        Ok(hash)
    });
    Ok(ContentDigest(hash.await?.finalize().into()) == content.sha256())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::content::Spool;
    use crate::handler::HandlerErrorKind;
    use crate::handler::fixture::{clean, infected, scanned, step, unscannable};
    use crate::objects::{Buckets, KeyRange, MemoryBucket};

    fn scene() -> (MemoryBucket, Buckets) {
        let bucket = MemoryBucket::versioned("records").expect("a bucket");
        let mut buckets = Buckets::new();
        buckets.insert("records", Arc::new(bucket.clone()));
        (bucket, buckets)
    }

    async fn keys(bucket: &MemoryBucket) -> Vec<ObjectRef> {
        let page = bucket.list(&KeyRange::default()).await.expect("lists");
        page.entries.into_iter().map(|entry| entry.expect("an entry")).collect()
    }

    #[tokio::test]
    async fn a_record_is_written_once_with_the_whole_result() {
        let (bucket, buckets) = scene();
        let scanned = scanned(infected());
        let handler = record_to("records").prefix("scans/");
        let first = handler.handle(&scanned, &step(&scanned, &buckets, 1)).await.expect("written");
        let before = keys(&bucket).await;
        let again = handler.handle(&scanned, &step(&scanned, &buckets, 2)).await.expect("done already");
        assert_eq!(first, again);
        assert_eq!(keys(&bucket).await, before, "the same version of the one object");
        assert_eq!(before.len(), 1);
        assert!(before[0].key.starts_with(&format!("scans/{}-", scanned.task)), "{}", before[0].key);

        let read = bucket.read(&before[0]).await.expect("there");
        let bytes =
            Content::from_stream(read.stream, &Spool::default()).await.expect("reads").bytes().await.expect("bytes");
        assert!(bytes.ends_with(b"}\n") && bytes.iter().filter(|byte| **byte == b'\n').count() == 1);
        let form: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!((form["schema"].as_str(), form["object"]["key"].as_str()), (Some(RECORD_SCHEMA), Some("dir/a.zip")));
        let report: Report = serde_json::from_value(form["report"].clone()).expect("a report");
        assert_eq!(report, *scanned.report);
    }

    #[tokio::test]
    async fn what_somebody_else_put_there_is_neither_lost_nor_believed() {
        let (bucket, buckets) = scene();
        let scanned = scanned(infected());
        let handler = record_to("records");
        handler.handle(&scanned, &step(&scanned, &buckets, 1)).await.expect("written");
        let key = keys(&bucket).await[0].key.clone();
        let forged = bucket.put(&key, &Content::from_bytes("forged"), &PutOptions::default()).await.expect("put");
        let error = handler.handle(&scanned, &step(&scanned, &buckets, 2)).await.expect_err("refused");
        assert_eq!(error.kind(), HandlerErrorKind::Fatal);
        assert_eq!(keys(&bucket).await, [forged]);
    }

    #[tokio::test]
    async fn two_steps_of_a_task_write_two_records() {
        let (bucket, buckets) = scene();
        let scanned = scanned(clean());
        let first = step(&scanned, &buckets, 1);
        let other = StepContext { idempotency_key: StepContext::key(scanned.task, "w", "other"), ..first.clone() };
        for step in [first, other] {
            record_to("records").handle(&scanned, &step).await.expect("written");
        }
        assert_eq!(keys(&bucket).await.len(), 2);
    }

    #[tokio::test]
    async fn the_summary_is_short() {
        for (report, status, threats, reasons) in [
            (clean(), "clean", json!([]), json!([])),
            (infected(), "infected", json!(["{HEX}Test"]), json!([])),
            (unscannable(), "unscannable", json!([]), json!(["encrypted"])),
        ] {
            let scanned = scanned(report);
            let output = record().handle(&scanned, &step(&scanned, &Buckets::new(), 1)).await.expect("a summary");
            assert_eq!(output.value["status"], status);
            assert_eq!((&output.value["threats"], &output.value["reasons"]), (&threats, &reasons));
            assert_eq!((output.value["size"].as_u64(), output.place), (Some(3), None));
        }
    }
}
