//! The gate for web applications: an upload streams in, and its content is there to be read or stored only after a
//! verdict that the policy allows.

use bytes::Bytes;
use futures_util::Stream;

use super::lease::Permit;
use super::{Pipeline, Processed, Round, UPLOAD_SCHEME, ended};
use crate::content::{Content, StreamError};
use crate::model::{BucketUrl, ObjectRef, Report, TaskId};
use crate::objects::PutOptions;
use crate::store::{Changes, Claim, TaskState};
use crate::{Error, ErrorKind, Result};

/// What is known of an upload beforehand.
#[derive(Debug, Clone, Default)]
pub struct UploadRequest {
    name: String,
    id: Option<String>,
    size: Option<u64>,
}

impl UploadRequest {
    /// An upload by the name that its sender gave the file. It is used for layer paths and on record, never as a path.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Gives the upload an identity of the application's: a second upload with the same one, and the same
    /// name, is the same task if it has the same bytes, and refused if it has others. Without one each upload is its own.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Says how many bytes were announced (`Content-Length`); it has to be just that.
    #[must_use]
    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }
}

/// An upload that was scanned, and its content behind the gate.
#[derive(Debug)]
pub struct Upload {
    processed: Processed,
    report: Report,
    content: Content,
    admitted: bool,
}

impl Upload {
    /// What the scan found.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The task on record.
    pub fn processed(&self) -> &Processed {
        &self.processed
    }

    /// Whether the policy hands the content on.
    pub fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// The content, if the policy hands it on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] with the verdict; never retryable, the same bytes give the same answer.
    pub fn content(&self) -> Result<&Content> {
        if self.admitted { Ok(&self.content) } else { Err(self.refusal()) }
    }

    /// Stores the content in a bucket, if the policy hands it on.
    ///
    /// # Errors
    ///
    /// As [`content`](Self::content), and the bucket's own.
    pub async fn store(&self, pipeline: &Pipeline, bucket: &str, key: &str, options: &PutOptions) -> Result<ObjectRef> {
        let content = self.content()?;
        pipeline.buckets().get(bucket)?.put(key, content, options).await
    }

    /// The content whatever the verdict: to keep evidence, never to serve it.
    pub fn into_unadmitted_content(self) -> Content {
        self.content
    }

    fn refusal(&self) -> Error {
        let why = format!("the upload is {} and is not handed on", self.report.verdict.status());
        Error::new(ErrorKind::Denied, why).about(self.processed.record.object.key.clone())
    }
}

impl Pipeline {
    /// Takes an upload in, scans it, puts the report on record, runs the workflow that follows, and gives the content
    /// only if the policy admits it. Handlers that act on objects are skipped: an upload is none yet.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use bytes::Bytes;
    /// # use futures_util::stream;
    /// # use scan_pipeline::engine::Closure;
    /// # use scan_pipeline::model::{Threat, Verdict};
    /// # use scan_pipeline::store::SqliteStore;
    /// # use scan_pipeline::{ErrorKind, Pipeline};
    /// use scan_pipeline::pipeline::UploadRequest;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
    /// # let engine = Closure::new("cats", |bytes: &[u8], name: &str| Ok(match bytes.starts_with(b"cat") {
    /// #     true => Verdict::Infected { threats: vec![Threat { signature: "Cat".into(), layer_path: name.into() }] },
    /// #     false => Verdict::Clean,
    /// # }));
    /// # let pipeline = Pipeline::builder().engine(engine).store(SqliteStore::in_memory().await?).build()?;
    /// let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from("cat pictures"))]);
    /// let upload = pipeline.process_upload(UploadRequest::named("holiday.jpg"), body).await?;
    /// assert_eq!(upload.report().verdict.status(), "infected");
    /// assert_eq!(upload.content().unwrap_err().kind(), ErrorKind::Denied);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The stream's own, a limit ([`ErrorKind::TooLarge`], [`ErrorKind::Timeout`]), or a failed engine or store. The
    /// content is not handed on then, and nothing of it is kept.
    pub async fn process_upload<S, E>(&self, request: UploadRequest, stream: S) -> Result<Upload>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Into<StreamError>,
    {
        let about = |error: Error| error.about(request.name.clone());
        // Before the permit: a slow sender keeps nobody from being scanned.
        let content = self.shared.spool.stream(stream, request.size).await.map_err(about)?;
        let permit = self.permit().await?;
        let bucket: BucketUrl = format!("{UPLOAD_SCHEME}://uploads").parse()?;
        let id = match &request.id {
            Some(id) => id.clone(),
            None => random_id()?,
        };
        let object = ObjectRef::new(bucket, request.name.clone()).with_version(id).with_size(content.size());
        for incarnation in 0..super::MOST_INCARNATIONS {
            let claim = self.claim(TaskId::of(&object, incarnation), &object).await?;
            let processed = match claim {
                // An earlier upload with this identity failed, or was lost with its process; here are the bytes again.
                Claim::Finished(record) if record.state == TaskState::Dead || record.report.is_none() => continue,
                Claim::Finished(record) => Processed { record: *record, repeated: true, superseded: 0 },
                claim => match self.upload_round(claim, &object, &content, &permit).await? {
                    Round::Ended(done) => *done,
                    Round::Known(known) => return Err(known.into()),
                    Round::Superseded | Round::Alone => {
                        return Err(about(Error::new(ErrorKind::Busy, "another upload took over")));
                    }
                },
            };
            let report = match &processed.record.report {
                Some(report) => report.clone(),
                None => {
                    let why = processed.record.error.clone().unwrap_or_else(|| String::from("there is no report"));
                    return Err(about(Error::new(ErrorKind::Engine, why)));
                }
            };
            if report.sha256 != Some(content.sha256()) {
                let why = "an upload with this id and other bytes is on record; ids name one content each";
                return Err(about(Error::new(ErrorKind::InvalidInput, why)));
            }
            let admitted = self.shared.policy.admits(&report);
            return Ok(Upload { processed, report, content, admitted });
        }
        Err(about(Error::new(ErrorKind::Corrupt, "failed too often under this id")))
    }

    async fn upload_round(
        &self,
        claim: Claim,
        object: &ObjectRef,
        content: &Content,
        permit: &Permit,
    ) -> Result<Round> {
        let (lease, record) = match claim {
            Claim::Mine(lease, record) if record.report.is_none() => (lease, record),
            // Its report is on record, and only the workflow is left.
            Claim::Mine(lease, record) => return self.work(self.held(lease, permit), *record).await,
            Claim::NotYet { record, .. } if record.report.is_some() => return Ok(ended(*record, true)),
            claim => return self.claimed(claim, object, permit).await,
        };
        let held = self.held(lease, permit);
        let scan = held.keep(self.scan_content(content, record.object.file_name())).await.and_then(|found| found);
        match scan {
            Ok(found) => self.follow(held, *record, found).await,
            Err(why) => {
                let key = record.object.key.clone();
                // Nobody has the bytes for another attempt, so this one ends here; the caller may upload again.
                self.end(held, *record, Changes::default(), TaskState::Dead, &why.to_string()).await?;
                Err(why.about(key))
            }
        }
    }
}

fn random_id() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|why| Error::new(ErrorKind::Resources, format!("no random number could be had: {why}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
