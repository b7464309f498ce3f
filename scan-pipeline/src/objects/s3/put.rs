//! Writing new objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::ByteStream;

use super::error::Failure;
use super::multipart::Upload;
use super::read::real_version;
use super::{Inner, Pin, tags, unquoted};
use crate::content::Content;
use crate::model::{ObjectRef, Tags};
use crate::objects::PutOptions;
use crate::objects::pin::{check_expected, exists, tags_of};
use crate::{ErrorKind, Result};

/// What an object has beside its bytes and tags.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    pub(super) content_type: Option<String>,
    pub(super) metadata: std::collections::HashMap<String, String>,
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) expires: Option<String>,
    pub(super) tags: Tags,
}

impl Inner {
    pub(super) async fn put(
        self: &Arc<Self>,
        key: &str,
        content: &Content,
        options: &PutOptions,
    ) -> Result<ObjectRef, Failure> {
        let object = ObjectRef::new(self.url.clone(), key);
        self.keys.check(key)?;
        check_expected(&object, content, options)?;
        let attributes = Attributes {
            content_type: options.content_type.clone(),
            metadata: options.metadata.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            tags: tags_of(options),
            ..Attributes::default()
        };
        if content.size() <= self.part_size {
            return self.put_whole(object, content, attributes, options.only_new).await;
        }
        let upload = Upload::begin(self, &self.bucket, key, &attributes).await?;
        let parts = upload.put_parts(content, self.part_size).await;
        let written = upload.end(parts, content.size(), options.only_new).await?;
        Ok(self.written(object, written.version, &written.etag, content.size()).await)
    }

    async fn put_whole(
        self: &Arc<Self>,
        object: ObjectRef,
        content: &Content,
        attributes: Attributes,
        only_new: bool,
    ) -> Result<ObjectRef, Failure> {
        let attempts = Attempts::default();
        let done = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&object.key)
            .body(ByteStream::from(content.bytes().await?))
            .set_content_type(attributes.content_type)
            .set_metadata(Some(attributes.metadata).filter(|metadata| !metadata.is_empty()))
            .set_tagging(tags::header(&attributes.tags))
            .set_if_none_match(only_new.then(|| String::from("*")))
            .customize()
            .interceptor(attempts.clone())
            .send()
            .await
            .map_err(Failure::from);
        match done {
            Ok(done) => {
                let etag = done.e_tag().map(unquoted).unwrap_or_default();
                let version = done.version_id().and_then(real_version);
                Ok(self.written(object, version, etag, content.size()).await)
            }
            Err(failure) if only_new && failure.is_precondition() => {
                // An attempt whose answer was lost may have written it: then what is there are these very bytes.
                if attempts.count() > 1 {
                    let there = self.head(&self.bucket, &object.key, &Pin::default()).await?.info.object;
                    let alike = there.size == Some(content.size());
                    if alike && self.has_digest(&self.bucket, &there, content.sha256()).await? {
                        return Ok(there);
                    }
                }
                Err(exists(&object).into())
            }
            Err(failure) => Err(failure),
        }
    }

    /// The reference of what was just written. Its time has to be asked for; when something else is there already,
    /// what was written is still what was written.
    async fn written(&self, object: ObjectRef, version: Option<String>, etag: &str, size: u64) -> ObjectRef {
        let etag = Some(etag.to_owned()).filter(|etag| !etag.is_empty());
        let object = ObjectRef { version, etag, size: Some(size), ..object };
        let Ok(pin) = Pin::of(&object) else { return object };
        match self.head(&self.bucket, &object.key, &pin).await {
            Ok(head) if object.is_pinned() || head.info.object.size == Some(size) => head.info.object,
            Ok(_) => object,
            Err(failure) => {
                if failure.error.kind() != ErrorKind::Superseded {
                    tracing::debug!(%object, why = %failure.error, "was written, and its time is not known");
                }
                object
            }
        }
    }
}

/// Counts how often the SDK tried: a refusal of the first attempt is somebody else's doing.
#[derive(Debug, Clone, Default)]
struct Attempts(Arc<AtomicU32>);

impl Attempts {
    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "attempts"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
