//! Looking at objects, and reading them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::error::Failure;
use super::{Inner, Pin, quoted, unquoted};
use crate::aws::error::chain;
use crate::model::{ContentDigest, ObjectRef, Timestamp};
use crate::objects::{ObjectInfo, ObjectRead};
use crate::{Error, ErrorKind, Result};

/// How often a body that broke off is taken up again where it did.
const RESUMPTIONS: u32 = 3;

/// An object that was looked at: what everybody wants to know, and what a copy by hand has to carry over.
pub(super) struct Head {
    pub(super) info: ObjectInfo,
    pub(super) output: HeadObjectOutput,
}

impl Head {
    /// The pin of just this state.
    pub(super) fn pin(&self) -> Pin {
        let ObjectRef { version, etag, size, modified, .. } = self.info.object.clone();
        Pin { version, etag, size, modified }
    }
}

impl Inner {
    pub(super) async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo, Failure> {
        let pin = self.check(object)?;
        let seen = self.head(&self.bucket, &object.key, &pin).await?.info;
        Ok(ObjectInfo { object: ObjectRef { bucket: object.bucket.clone(), ..seen.object }, ..seen })
    }

    /// Looks at a state, in this bucket or a sibling.
    pub(super) async fn head(&self, bucket: &str, key: &str, pin: &Pin) -> Result<Head, Failure> {
        let request = self.client.head_object().bucket(bucket).key(key);
        let output = request.set_version_id(pin.version.clone()).set_if_match(pin.if_match()).send().await?;
        if output.delete_marker() == Some(true) {
            return Err(Error::new(ErrorKind::Gone, "is deleted").into());
        }
        let facts = Facts {
            version: output.version_id(),
            etag: output.e_tag(),
            size: output.content_length(),
            modified: output.last_modified(),
            content_type: output.content_type(),
            metadata: output.metadata(),
        };
        let info = facts.info(ObjectRef::new(self.url.clone(), key))?;
        pin.verify(&info.object)?;
        Ok(Head { info, output })
    }

    /// Whether what is there, as `seen`, are just these bytes.
    pub(super) async fn has_digest(
        self: &Arc<Self>,
        bucket: &str,
        seen: &ObjectRef,
        digest: ContentDigest,
    ) -> Result<bool, Failure> {
        let mut stream = open(self, bucket, &seen.key, &Pin::of(seen)?).await?.stream;
        let mut hash = Sha256::new();
        while let Some(part) = stream.next().await {
            hash.update(&part?);
        }
        Ok(ContentDigest(hash.finalize().into()) == digest)
    }
}

/// What the answers to a HEAD and a GET have in common.
struct Facts<'a> {
    version: Option<&'a str>,
    etag: Option<&'a str>,
    size: Option<i64>,
    modified: Option<&'a DateTime>,
    content_type: Option<&'a str>,
    metadata: Option<&'a std::collections::HashMap<String, String>>,
}

impl Facts<'_> {
    fn info(&self, object: ObjectRef) -> Result<ObjectInfo> {
        let silent = |what: &str| Error::new(ErrorKind::Unavailable, format!("the answer has no {what}"));
        let size = self.size.and_then(|size| u64::try_from(size).ok()).ok_or_else(|| silent("length"))?;
        let etag = self.etag.map(unquoted).filter(|etag| !etag.is_empty()).ok_or_else(|| silent("etag"))?;
        let metadata = self.metadata.into_iter().flatten();
        Ok(ObjectInfo {
            object: ObjectRef {
                version: self.version.and_then(real_version),
                etag: Some(etag.to_owned()),
                size: Some(size),
                modified: self.modified.map(timestamp),
                ..object
            },
            content_type: self.content_type.map(str::to_owned),
            metadata: metadata
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
                .collect::<BTreeMap<_, _>>(),
        })
    }
}

/// `null` is how S3 calls what has no version.
pub(super) fn real_version(version: &str) -> Option<String> {
    (!version.is_empty() && version != "null").then(|| version.to_owned())
}

/// To the second, which is all that a HEAD says: a listing may say more, and would make another time of the same.
pub(super) fn timestamp(time: &DateTime) -> Timestamp {
    Timestamp(time.secs().saturating_mul(1000))
}

pub(super) async fn read(inner: &Arc<Inner>, object: &ObjectRef) -> Result<ObjectRead, Failure> {
    let pin = inner.check(object)?;
    open(inner, &inner.bucket, &object.key, &pin).await
}

async fn open(inner: &Arc<Inner>, bucket: &str, key: &str, pin: &Pin) -> Result<ObjectRead, Failure> {
    let request = inner.client.get_object().bucket(bucket).key(key);
    let output = request.set_version_id(pin.version.clone()).set_if_match(pin.if_match()).send().await?;
    if output.delete_marker() == Some(true) {
        return Err(Error::new(ErrorKind::Gone, "is deleted").into());
    }
    let facts = Facts {
        version: output.version_id(),
        etag: output.e_tag(),
        size: output.content_length(),
        modified: output.last_modified(),
        content_type: output.content_type(),
        metadata: output.metadata(),
    };
    let info = facts.info(ObjectRef::new(inner.url.clone(), key))?;
    pin.verify(&info.object)?;
    let reading = Reading {
        size: info.object.size.unwrap_or_default(),
        object: info.object.clone(),
        inner: Arc::clone(inner),
        bucket: bucket.to_owned(),
        body: output.body,
        at: 0,
        resumptions: RESUMPTIONS,
    };
    let stream = stream::try_unfold(reading, Reading::next).boxed();
    Ok(ObjectRead { info, stream })
}

/// A body on its way.
struct Reading {
    inner: Arc<Inner>,
    bucket: String,
    object: ObjectRef,
    body: ByteStream,
    at: u64,
    size: u64,
    resumptions: u32,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        loop {
            // Asked for more than was announced would be an error of its own; what came is whole.
            if self.at == self.size {
                return Ok(None);
            }
            let why = match timeout(self.inner.read_timeout, self.body.next()).await {
                Err(_) => {
                    let why = format!("nothing more came after {} of {} bytes", self.at, self.size);
                    Error::new(ErrorKind::Timeout, why)
                }
                Ok(Some(Ok(part))) if part.is_empty() => continue,
                Ok(Some(Ok(part))) => {
                    self.at += part.len() as u64;
                    if self.at > self.size {
                        let why = format!("is longer than the {} bytes that were announced", self.size);
                        return Err(self.about(Error::new(ErrorKind::TooLarge, why)));
                    }
                    return Ok(Some((part, self)));
                }
                Ok(Some(Err(why))) => broken_off(&why, self.at, self.size),
                Ok(None) => truncated(self.at, self.size),
            };
            if self.resumptions == 0 {
                return Err(self.about(why));
            }
            self.resumptions -= 1;
            tracing::debug!(object = %self.object, at = self.at, %why, "taking up a body that broke off");
            self.body = self.resume().await.map_err(|failure| self.about(failure.error))?;
        }
    }

    /// The rest of the same state.
    async fn resume(&self) -> Result<ByteStream, Failure> {
        let etag = self.object.etag.as_deref().map(quoted);
        let request = self.inner.client.get_object().bucket(&self.bucket).key(&self.object.key);
        let request = request.set_version_id(self.object.version.clone()).set_if_match(etag);
        let output = request.range(format!("bytes={}-", self.at)).send().await?;
        let same = output.e_tag().map(unquoted) == self.object.etag.as_deref();
        if !same {
            return Err(Error::new(ErrorKind::Superseded, "was overwritten while it was read").into());
        }
        let wanted = format!("bytes {}-{}/{}", self.at, self.size - 1, self.size);
        if output.content_range() != Some(wanted.as_str()) {
            return Err(truncated(self.at, self.size).into());
        }
        Ok(output.body)
    }

    fn about(&self, error: Error) -> Error {
        error.about(self.object.to_string())
    }
}

fn truncated(at: u64, size: u64) -> Error {
    Error::new(ErrorKind::Truncated, format!("ended after {at} of {size} bytes"))
}

fn broken_off(why: &(dyn std::error::Error + 'static), at: u64, size: u64) -> Error {
    let said = chain(why);
    let mut is_early = false;
    let mut next = Some(why);
    while let Some(why) = next {
        is_early |= why.downcast_ref::<io::Error>().is_some_and(|why| why.kind() == io::ErrorKind::UnexpectedEof);
        next = why.source();
    }
    let error = if is_early || said.contains("end of file") {
        truncated(at, size)
    } else {
        Error::new(ErrorKind::Unavailable, format!("broke off after {at} of {size} bytes"))
    };
    error.with_source(said)
}
