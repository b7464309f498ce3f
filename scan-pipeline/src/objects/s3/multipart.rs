//! Objects written in parts: nothing is there until the last step, and all of it afterwards.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use md5::{Digest, Md5};

use super::error::Failure;
use super::keys::encoded_path;
use super::put::Attributes;
use super::read::real_version;
use super::{Inner, Pin, quoted, tags, unquoted};
use crate::content::Content;
use crate::model::ObjectRef;
use crate::objects::pin::exists;
use crate::{Error, ErrorKind, Result};

/// Most parts of one object.
const MOST_PARTS: u64 = 10_000;
/// Parts that are on their way at once.
const IN_FLIGHT: usize = 4;
/// How often an upload is taken back until it is gone, and how long it is waited at first in between.
const ABORTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// An upload that was begun. Dropped before its end, it is taken back in the background, so that a cancelled task
/// leaves no parts that cost money.
pub(super) struct Upload {
    inner: Arc<Inner>,
    bucket: String,
    key: String,
    id: String,
    open: bool,
}

/// What came of it.
pub(super) struct Written {
    pub(super) version: Option<String>,
    pub(super) etag: String,
}

/// A part that arrived: its number, and the etag that the server gave it.
struct Part {
    number: i32,
    etag: String,
}

/// The parts that a size is cut in: number, first byte, length.
fn cut(size: u64, part_size: u64) -> Result<Vec<(i32, u64, u64)>> {
    let part = part_size.max(size.div_ceil(MOST_PARTS)).max(1);
    let too_large = |_| Error::new(ErrorKind::TooLarge, "there are too many parts");
    (0..size.div_ceil(part))
        .map(|i| Ok((i32::try_from(i + 1).map_err(too_large)?, i * part, part.min(size - i * part))))
        .collect()
}

impl Upload {
    pub(super) async fn begin(
        inner: &Arc<Inner>,
        bucket: &str,
        key: &str,
        attributes: &Attributes,
    ) -> Result<Self, Failure> {
        let begun = inner
            .client
            .create_multipart_upload()
            .bucket(bucket)
            .key(key)
            .set_content_type(attributes.content_type.clone())
            .set_metadata(Some(attributes.metadata.clone()).filter(|metadata| !metadata.is_empty()))
            .set_cache_control(attributes.cache_control.clone())
            .set_content_disposition(attributes.content_disposition.clone())
            .set_content_encoding(attributes.content_encoding.clone())
            .set_content_language(attributes.content_language.clone())
            .set_expires(attributes.expires.as_deref().and_then(http_date))
            .set_tagging(tags::header(&attributes.tags))
            .send()
            .await?;
        let silent = || Error::new(ErrorKind::Unavailable, "the server began an upload without naming it");
        let id = begun.upload_id().ok_or_else(silent)?.to_owned();
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        Ok(Self { inner: Arc::clone(inner), bucket, key, id, open: true })
    }

    pub(super) async fn put_parts(&self, content: &Content, part_size: u64) -> Result<Parts, Failure> {
        let parts = stream::iter(cut(content.size(), part_size)?).map(|(number, offset, length)| async move {
            let too_large = |_| Error::new(ErrorKind::Resources, "a part is larger than the address space");
            let bytes = content.range(offset, usize::try_from(length).map_err(too_large)?).await?;
            let request = self.inner.client.upload_part().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
            let done = request.part_number(number).body(ByteStream::from(bytes)).send().await?;
            Part::new(number, done.e_tag())
        });
        parts.buffered(IN_FLIGHT).try_collect().await.map(Parts)
    }

    /// Copies the parts of a pinned source, each with the pin.
    pub(super) async fn copy_parts(
        &self,
        from_bucket: &str,
        from: &ObjectRef,
        part_size: u64,
    ) -> Result<Parts, Failure> {
        let source = copy_source(from_bucket, from);
        let etag = from.etag.as_deref().map(quoted);
        let parts = stream::iter(cut(from.size.unwrap_or_default(), part_size)?).map(|(number, offset, length)| {
            let request = self.inner.client.upload_part_copy().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
            let request = request.copy_source(&source).set_copy_source_if_match(etag.clone()).part_number(number);
            async move {
                let done = request.copy_source_range(format!("bytes={offset}-{}", offset + length - 1)).send().await?;
                Part::new(number, done.copy_part_result().and_then(|result| result.e_tag()))
            }
        });
        parts.buffered(IN_FLIGHT).try_collect().await.map(Parts)
    }

    /// Makes the object of its parts, or takes everything back.
    pub(super) async fn end(
        mut self,
        parts: Result<Parts, Failure>,
        size: u64,
        only_new: bool,
    ) -> Result<Written, Failure> {
        let ended = match parts {
            Ok(parts) => self.complete(&parts, size, only_new).await,
            Err(failure) => Err(failure),
        };
        if ended.is_err() {
            self.abort().await;
        }
        self.open = false;
        ended
    }

    async fn complete(&self, parts: &Parts, size: u64, only_new: bool) -> Result<Written, Failure> {
        let listed = parts
            .0
            .iter()
            .map(|part| CompletedPart::builder().part_number(part.number).e_tag(quoted(&part.etag)).build());
        let listed = CompletedMultipartUpload::builder().set_parts(Some(listed.collect())).build();
        let request = self.inner.client.complete_multipart_upload().bucket(&self.bucket).key(&self.key);
        let request = request.upload_id(&self.id).multipart_upload(listed);
        let done = request.set_if_none_match(only_new.then(|| String::from("*"))).send().await;
        match done.map_err(Failure::from) {
            Ok(done) => Ok(Written {
                version: done.version_id().and_then(real_version),
                etag: done.e_tag().map(unquoted).unwrap_or_default().to_owned(),
            }),
            // The answer to an earlier attempt may have been lost: then the object is there, and made of our parts.
            Err(failure) if is_no_more(&failure) || failure.is_precondition() => {
                match self.inner.head(&self.bucket, &self.key, &Pin::default()).await {
                    Ok(head) => {
                        let seen = head.info.object;
                        if seen.size == Some(size) && seen.etag.is_some() && seen.etag == parts.etag() {
                            return Ok(Written { version: seen.version, etag: seen.etag.unwrap_or_default() });
                        }
                    }
                    Err(why) if why.is_gone() => {}
                    Err(why) => return Err(why),
                }
                if failure.is_precondition() && only_new {
                    return Err(exists(&ObjectRef::new(self.inner.url.clone(), &self.key)).into());
                }
                // The upload is gone, not an object.
                let why = Error::new(ErrorKind::Unavailable, "the upload in parts was lost").with_source(failure.error);
                Err(why.into())
            }
            Err(failure) => Err(failure),
        }
    }

    async fn abort(&mut self) {
        self.open = false;
        abort(&self.inner, &self.bucket, &self.key, &self.id).await;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let inner = Arc::clone(&self.inner);
            let (bucket, key, id) =
                (std::mem::take(&mut self.bucket), std::mem::take(&mut self.key), std::mem::take(&mut self.id));
            runtime.spawn(async move { abort(&inner, &bucket, &key, &id).await });
        }
    }
}

/// Takes an upload back, a few times: parts that were under way when it was given up may come in behind the first, and
/// stay. (Amazon, *AbortMultipartUpload*: "it might be necessary to abort a given multipart upload multiple times", and
/// the list of its parts shows whether it was.)
async fn abort(inner: &Inner, bucket: &str, key: &str, id: &str) {
    let mut why = None;
    for attempt in 0..ABORTS {
        if attempt > 0 {
            tokio::time::sleep((PAUSE * (1 << attempt)).mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
        let request = inner.client.abort_multipart_upload().bucket(bucket).key(key).upload_id(id);
        match request.send().await.map_err(Failure::from) {
            Err(failure) if is_no_more(&failure) => return,
            Err(failure) => {
                why = Some(failure.error);
                continue;
            }
            Ok(_) => {}
        }
        let request = inner.client.list_parts().bucket(bucket).key(key).upload_id(id).max_parts(1);
        match request.send().await.map_err(Failure::from) {
            // Who may not look has done what can be done.
            Err(failure) if is_no_more(&failure) || failure.error.kind() == ErrorKind::Denied => return,
            Err(failure) => why = Some(failure.error),
            Ok(_) => why = Some(Error::new(ErrorKind::Unavailable, "it is still there, with a part that came late")),
        }
    }
    if let Some(why) = why {
        tracing::warn!(bucket, key, upload = id, %why, "an upload in parts could not be taken back");
    }
}

fn is_no_more(failure: &Failure) -> bool {
    failure.is_gone() || failure.has_code("NoSuchUpload")
}

impl Part {
    fn new(number: i32, etag: Option<&str>) -> Result<Self, Failure> {
        let silent = || Error::new(ErrorKind::Unavailable, "the server gave no etag for a part");
        Ok(Self { number, etag: unquoted(etag.ok_or_else(silent)?).to_owned() })
    }
}

/// All parts, in order.
pub(super) struct Parts(Vec<Part>);

impl Parts {
    /// The etag that an object of these parts has: the MD5 of theirs, where theirs are MD5s.
    fn etag(&self) -> Option<String> {
        let mut hash = Md5::new();
        for part in &self.0 {
            if part.etag.len() != 32 {
                return None;
            }
            for pair in part.etag.as_bytes().chunks(2) {
                let byte = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
                hash.update([byte?]);
            }
        }
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!("{hex}-{}", self.0.len()))
    }
}

/// The header that names a source.
pub(super) fn copy_source(bucket: &str, from: &ObjectRef) -> String {
    let path = format!("{}/{}", encoded_path(bucket), encoded_path(&from.key));
    match &from.version {
        Some(version) => format!("{path}?versionId={}", super::keys::encoded(version)),
        None => path,
    }
}

/// A date that S3 keeps as text; one that is none is not carried over.
pub(super) fn http_date(text: &str) -> Option<aws_sdk_s3::primitives::DateTime> {
    use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
    DateTime::from_str(text, DateTimeFormat::HttpDate).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_bytes_once() {
        assert_eq!(cut(11, 5).expect("three"), [(1, 0, 5), (2, 5, 5), (3, 10, 1)]);
        assert_eq!(cut(10, 5).expect("two").len(), 2);
        assert!(cut(0, 5).expect("none").is_empty());
        let huge = cut(5 << 40, 8 << 20).expect("as many as there may be");
        assert!(huge.len() <= 10_000 && huge.iter().map(|(_, _, length)| length).sum::<u64>() == 5 << 40);
    }

    #[test]
    fn the_etag_of_parts_is_that_of_s3() {
        // The MD5s of "a" and "b", and of both together.
        let etags = ["0cc175b9c0f1b6a831c399e269772661", "92eb5ffee6ae2fec3ad71c777531578f"];
        let parts = Parts((1..).zip(etags).map(|(number, etag)| Part { number, etag: etag.to_owned() }).collect());
        assert_eq!(parts.etag().as_deref(), Some("96e024ba2074fe77e8e965ba43a704be-2"));
        assert!(Parts(vec![Part { number: 1, etag: String::from("opaque") }]).etag().is_none());
    }
}
