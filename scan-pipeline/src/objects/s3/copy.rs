//! Copies that the server makes by itself, of a pinned source.

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_s3::operation::copy_object::CopyObjectOutput;
use aws_sdk_s3::types::{ChecksumAlgorithm, MetadataDirective, ServerSideEncryption, TaggingDirective};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::Failure;
use super::multipart::{Upload, copy_source, http_date};
use super::put::Attributes;
use super::read::{Head, real_version};
use super::{Inner, Pin, quoted, tags, unquoted};
use crate::model::{BucketUrl, ObjectRef};
use crate::objects::PutOptions;
use crate::objects::pin::{exists, merged_metadata, superseded};
use crate::{Error, ErrorKind, Result};

impl Inner {
    pub(super) async fn copy(
        self: &Arc<Self>,
        from: &ObjectRef,
        to: &BucketUrl,
        key: &str,
        options: &PutOptions,
    ) -> Result<ObjectRef, Failure> {
        let pin = self.check(from)?;
        let dest = Dest { url: to.clone(), bucket: self.sibling(to)?, key: key.to_owned() };
        self.keys.check(key)?;
        let head = self.head(&self.bucket, &from.key, &pin).await?;
        // From here on a wrong region is that of the destination: whoever copies through this process can still do it.
        self.copy_head(head, dest, options).await.map_err(|failure| {
            if !failure.is_elsewhere() {
                return failure;
            }
            Error::new(ErrorKind::Unsupported, format!("cannot copy to {to} by itself"))
                .with_source(failure.error)
                .into()
        })
    }

    async fn copy_head(self: &Arc<Self>, head: Head, dest: Dest, options: &PutOptions) -> Result<ObjectRef, Failure> {
        let onto_itself = dest.bucket == self.bucket && dest.key == head.info.object.key;
        if onto_itself && !has_changes(options) {
            // S3 refuses it; and there is nothing to do.
            return Ok(head.info.object);
        }
        if options.only_new
            && let Some(there) = self.there(&dest).await?
        {
            return self.ours_or_exists(&head, there, &dest, options).await;
        }
        let size = head.info.object.size.unwrap_or_default();
        let done = if size > self.copy_threshold {
            self.copy_in_parts(&head, &dest, options).await
        } else {
            self.copy_whole(&head, &dest, options).await
        };
        match done {
            // Somebody else was faster, or an earlier attempt of ours whose answer was lost.
            Err(failure) if failure.error.kind() == ErrorKind::Exists && options.only_new => {
                match self.there(&dest).await? {
                    Some(there) => self.ours_or_exists(&head, there, &dest, options).await,
                    None => Err(failure),
                }
            }
            done => done,
        }
    }

    /// The bucket of an address that this server has, too.
    fn sibling(&self, to: &BucketUrl) -> Result<String> {
        let parts = |url: &BucketUrl| {
            let (bucket, server) = url.rest().split_once('?').unwrap_or((url.rest(), ""));
            (bucket.to_owned(), server.to_owned())
        };
        let (bucket, server) = parts(to);
        if to.scheme() != "s3" || server != parts(&self.url).1 {
            let why = format!("{} cannot copy to {to} by itself", self.url);
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        Ok(bucket)
    }

    async fn there(&self, dest: &Dest) -> Result<Option<Head>, Failure> {
        match self.head(&dest.bucket, &dest.key, &Pin::default()).await {
            Ok(head) => Ok(Some(head)),
            Err(failure) if failure.is_gone() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// What is there is the copy if it has the same bytes: a copy that is repeated is the same copy.
    async fn ours_or_exists(
        self: &Arc<Self>,
        head: &Head,
        there: Head,
        dest: &Dest,
        options: &PutOptions,
    ) -> Result<ObjectRef, Failure> {
        let seen = dest.object(&there.info.object);
        let (source, size) = (&head.info.object, seen.size);
        let same = size == source.size
            && match (plain_md5(head), plain_md5(&there), options.expect) {
                (Some(source), Some(copy), _) => source == copy,
                (_, _, Some(digest)) => self.has_digest(&dest.bucket, &there.info.object, digest).await?,
                _ => false,
            };
        if same { Ok(seen) } else { Err(exists(&seen).into()) }
    }

    async fn copy_whole(
        self: &Arc<Self>,
        head: &Head,
        dest: &Dest,
        options: &PutOptions,
    ) -> Result<ObjectRef, Failure> {
        let source = &head.info.object;
        let mut request = self
            .client
            .copy_object()
            .bucket(&dest.bucket)
            .key(&dest.key)
            .copy_source(copy_source(&self.bucket, source))
            .set_copy_source_if_match(source.etag.as_deref().map(quoted))
            .set_if_none_match(options.only_new.then(|| String::from("*")))
            // Then the server takes the digest of what it copies, and the copy is not only pinned, but proven.
            .set_checksum_algorithm(options.expect.map(|_| ChecksumAlgorithm::Sha256));
        if options.content_type.is_some() || !options.metadata.is_empty() {
            let attributes = attributes(head, options);
            request = request
                .metadata_directive(MetadataDirective::Replace)
                .set_content_type(attributes.content_type)
                .set_metadata(Some(attributes.metadata))
                .set_cache_control(attributes.cache_control)
                .set_content_disposition(attributes.content_disposition)
                .set_content_encoding(attributes.content_encoding)
                .set_content_language(attributes.content_language)
                .set_expires(attributes.expires.as_deref().and_then(http_date));
        }
        if !options.tags.is_empty() {
            let merged = self.pinned_tags(&source.key, &head.pin()).await?.merge(&options.tags).tags;
            request = request.tagging_directive(TaggingDirective::Replace).set_tagging(tags::header(&merged));
        }
        let done = match request.send().await.map_err(Failure::from) {
            Ok(done) => done,
            Err(failure) if failure.is_precondition() && options.only_new => {
                // Which of the two conditions it was is not said.
                self.head(&self.bucket, &source.key, &head.pin()).await?;
                return Err(exists(&dest.object(source)).into());
            }
            Err(failure) => return Err(failure),
        };
        let copied = done.copy_object_result();
        let etag = copied.and_then(|copied| copied.e_tag()).map(unquoted).map(str::to_owned);
        let version = done.version_id().and_then(real_version);
        // There are servers that ignore the condition on the source. Where the etag does not tell, the source does.
        let digest = copied.and_then(|copied| copied.checksum_sha256()).filter(|digest| !digest.contains('-'));
        let digests = options.expect.zip(digest);
        let was_meant = match (digests, plain_md5(head), plain_md5_of(etag.as_deref(), &done)) {
            (Some((expected, copy)), ..) => STANDARD.encode(expected.0) == copy,
            (None, Some(source), Some(copy)) => source == copy,
            _ => self.still_there(head).await?,
        };
        if !was_meant {
            return Err(self.take_back(dest, version, etag, source).await);
        }
        self.copied(head, dest, version, etag).await
    }

    /// Everything that a copy with one request carries over is carried over by hand.
    async fn copy_in_parts(
        self: &Arc<Self>,
        head: &Head,
        dest: &Dest,
        options: &PutOptions,
    ) -> Result<ObjectRef, Failure> {
        let source = &head.info.object;
        let mut attributes = attributes(head, options);
        attributes.tags = match self.pinned_tags(&source.key, &head.pin()).await {
            Ok(tags) => tags.merge(&options.tags).tags,
            Err(failure) if failure.error.kind() == ErrorKind::Unsupported && options.tags.is_empty() => {
                attributes.tags
            }
            Err(failure) => return Err(failure),
        };
        let upload = Upload::begin(self, &dest.bucket, &dest.key, &attributes).await?;
        let mut parts = upload.copy_parts(&self.bucket, source, self.copy_part_size).await;
        // For servers that ignore the condition on the source: it was the same before the first and after the last.
        if parts.is_ok()
            && let Err(failure) = self.head(&self.bucket, &source.key, &head.pin()).await
        {
            parts = Err(failure);
        }
        let size = source.size.unwrap_or_default();
        let written = upload.end(parts, size, options.only_new).await?;
        self.copied(head, dest, written.version, Some(written.etag)).await
    }

    async fn still_there(&self, head: &Head) -> Result<bool, Failure> {
        match self.head(&self.bucket, &head.info.object.key, &head.pin()).await {
            Ok(_) => Ok(true),
            Err(failure) if matches!(failure.error.kind(), ErrorKind::Superseded | ErrorKind::Gone) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Looks at the copy, for its time and to see that it is whole.
    async fn copied(
        &self,
        head: &Head,
        dest: &Dest,
        version: Option<String>,
        etag: Option<String>,
    ) -> Result<ObjectRef, Failure> {
        let pin = Pin { version: version.clone(), etag: etag.clone(), ..Pin::default() };
        let seen = self.head(&dest.bucket, &dest.key, &pin).await?.info.object;
        if seen.size != head.info.object.size {
            return Err(self.take_back(dest, version, etag, &head.info.object).await);
        }
        Ok(dest.object(&seen))
    }

    /// Removes a copy that is not of the state that was meant.
    async fn take_back(
        &self,
        dest: &Dest,
        version: Option<String>,
        etag: Option<String>,
        source: &ObjectRef,
    ) -> Failure {
        match self.remove(&dest.bucket, &dest.key, version, etag.as_deref()).await {
            Err(failure) if !failure.is_precondition() => {
                let why = format!("a copy of another state is at {}/{}, and could not be removed", dest.url, dest.key);
                Error::new(failure.error.kind(), why).with_source(failure.error).into()
            }
            // Done; or something else was put there since, and the copy is gone all the same.
            _ => superseded(source).into(),
        }
    }
}

/// Where a copy goes.
struct Dest {
    url: BucketUrl,
    bucket: String,
    key: String,
}

impl Dest {
    /// What was seen there, under its address.
    fn object(&self, seen: &ObjectRef) -> ObjectRef {
        ObjectRef { bucket: self.url.clone(), key: self.key.clone(), ..seen.clone() }
    }
}

fn has_changes(options: &PutOptions) -> bool {
    options.content_type.is_some() || !options.metadata.is_empty() || !options.tags.is_empty()
}

/// What the source has, with the options over it.
fn attributes(head: &Head, options: &PutOptions) -> Attributes {
    let (info, output) = (&head.info, &head.output);
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Attributes {
        content_type: options.content_type.clone().or_else(|| info.content_type.clone()),
        metadata: merged_metadata(&info.metadata, &options.metadata).into_iter().collect::<HashMap<_, _>>(),
        cache_control: owned(output.cache_control()),
        content_disposition: owned(output.content_disposition()),
        content_encoding: owned(output.content_encoding()),
        content_language: owned(output.content_language()),
        expires: owned(output.expires_string()),
        tags: crate::model::Tags::new(),
    }
}

/// An etag that is the MD5 of the bytes, and can be compared with that of a copy.
fn plain_md5(head: &Head) -> Option<&str> {
    let output = &head.output;
    let own_key = output.sse_customer_algorithm().is_some();
    md5_etag(head.info.object.etag.as_deref(), output.server_side_encryption(), own_key)
}

fn plain_md5_of<'a>(etag: Option<&'a str>, done: &CopyObjectOutput) -> Option<&'a str> {
    md5_etag(etag, done.server_side_encryption(), done.sse_customer_algorithm().is_some())
}

fn md5_etag<'a>(etag: Option<&'a str>, sse: Option<&ServerSideEncryption>, own_key: bool) -> Option<&'a str> {
    let plain = matches!(sse, None | Some(ServerSideEncryption::Aes256)) && !own_key;
    etag.filter(|etag| plain && etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
