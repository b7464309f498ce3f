//! Removing a state.

use super::error::Failure;
use super::{Inner, Versioning, quoted};
use crate::model::ObjectRef;
use crate::{Error, ErrorKind, Result};

impl Inner {
    /// Looks first: a version that is not there is deleted without a word, and there are servers that do not know a
    /// condition on a delete.
    pub(super) async fn delete(&self, object: &ObjectRef) -> Result<(), Failure> {
        let pin = self.check(object)?;
        let head = self.head(&self.bucket, &object.key, &pin).await?;
        let seen = &head.info.object;
        // What was there before the bucket kept versions is the version `null`, which nobody overwrites as long as it
        // keeps them.
        let null = || self.versioning == Versioning::Enabled && head.output.version_id() == Some("null");
        let version = seen.version.clone().or_else(|| null().then(|| String::from("null")));
        self.remove(&self.bucket, &object.key, version, seen.etag.as_deref()).await
    }

    /// Removes a version, or whatever has this etag.
    pub(super) async fn remove(
        &self,
        bucket: &str,
        key: &str,
        version: Option<String>,
        etag: Option<&str>,
    ) -> Result<(), Failure> {
        let request = self.client.delete_object().bucket(bucket).key(key);
        let request = match version {
            Some(version) => request.version_id(version),
            None => request.set_if_match(etag.map(quoted)),
        };
        match request.send().await.map_err(Failure::from) {
            Ok(_) => Ok(()),
            // It was there a moment ago: this is the repetition of a request whose answer was lost, or somebody else
            // did the same.
            Err(failure) if failure.is_gone() => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn probe_conditional_delete(&self) -> Result<bool> {
        let mut name = [0; 16];
        getrandom::fill(&mut name)
            .map_err(|why| Error::new(ErrorKind::Resources, "no random numbers").with_source(why.to_string()))?;
        let key = format!(".scan-pipeline-probe-{:032x}", u128::from_be_bytes(name));
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        match request.if_match(quoted("00000000000000000000000000000000")).send().await.map_err(Failure::from) {
            Ok(_) => Ok(false),
            Err(failure) if failure.is_precondition() || failure.is_gone() => Ok(true),
            Err(failure) if failure.error.kind() == ErrorKind::Unsupported => Ok(false),
            Err(failure) => Err(failure.error.about(self.url.as_str())),
        }
    }
}
