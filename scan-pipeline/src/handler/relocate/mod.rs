//! Moves the object, or copies it.

mod key;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::{HandlerError, Place, ResultHandler, Scanned, StepContext, StepOutput, Vocabulary};
use crate::content::{Budget, Spool, SpoolOptions};
use crate::model::{ContentDigest, ObjectRef};
use crate::objects::{ObjectInfo, ObjectOps, PutOptions, transfer};
use crate::{Error, ErrorKind, Result};

use key::KeyRule;

/// Metadata of a copy: the idempotency key of the step that made it.
pub const META_KEY: &str = "scan-pipeline-key";
/// Metadata of a copy: the SHA-256 of the bytes that were scanned.
pub const META_SHA256: &str = "scan-pipeline-sha256";
/// Metadata of a copy: a hash of the bucket and key it came from.
pub const META_SOURCE: &str = "scan-pipeline-source";
/// Metadata of a copy: when its source was written, in milliseconds since 1970.
pub const META_WRITTEN: &str = "scan-pipeline-written";

/// What happens when the key at the destination is taken by what this step did not put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnConflict {
    /// A newer upload takes the place of the copy of an older upload under the same key. An older version does
    /// not take the place of a newer one: it is superseded. Anything else there is a fatal error, and is not touched. The
    /// default: `report.pdf` can be uploaded again and again, and no bytes of anybody else are lost.
    #[default]
    Update,
    /// Whatever is there is replaced. In a bucket without versions it is lost.
    Overwrite,
    /// The copy gets a key with a part of the step's idempotency key in it, such as `report-1f0c93a2b7d4.pdf`.
    Rename,
    /// A fatal error.
    Fail,
}

/// A handler made by [`relocate`].
#[derive(Debug, Clone)]
pub struct Relocate {
    to: String,
    key: KeyRule,
    tags: Option<Vocabulary>,
    keep_source: bool,
    on_conflict: OnConflict,
    spool: Spool,
}

/// Makes a handler that moves the object to another bucket, by short name or address: a copy of exactly the scanned
/// bytes, a look at the copy, and a delete of exactly the scanned state.
///
/// - What is no object (an upload) is skipped, and so is one that an earlier step has deleted.
/// - A copy carries its step's idempotency key ([`META_KEY`]). A repeated call finds it, and goes on from there; it
///   copies nothing twice. The destination has to keep metadata.
/// - When the object was replaced or deleted before it was copied, nothing is copied:
///   [`Superseded`](super::HandlerErrorKind::Superseded) or [`Gone`](super::HandlerErrorKind::Gone).
/// - When it is replaced *after* it was copied, the copy stays, and the step is done: it holds the bytes that were
///   scanned, and the state that was scanned is not at its source any more. The output's `source` says `superseded`.
///   What took its place has a task of its own.
/// - Without [`keep_source`](Relocate::keep_source) the steps that follow act on the copy.
/// - A bucket that allows no copy is a fatal error, and the object stays where it is.
/// - So is a source that cannot delete just the state that was scanned, unless the source is kept or that was accepted
///   ([`Buckets::accept_unpinned_delete`](crate::objects::Buckets::accept_unpinned_delete)).
///
/// Without [`tags`](Relocate::tags) the copy has the tags that the uploader gave the object, whatever they say.
///
/// ```
/// use scan_pipeline::Policy;
/// use scan_pipeline::handler::{Vocabulary, relocate};
/// use scan_pipeline::workflow::Workflow;
///
/// # fn main() -> scan_pipeline::Result<()> {
/// let policy = Policy::new()
///     .clean(Workflow::new("release").then(relocate("clean").tags(Vocabulary::default())))
///     .infected(Workflow::new("isolate").then(relocate("s3://isolated").key_template("{status}/{sha256}/{name}")?));
/// # Ok(()) }
/// ```
pub fn relocate(bucket: impl Into<String>) -> Relocate {
    // What is there already, and is handed on whole, needs no limit of size: unscannable can mean too large.
    let spool = Spool::new(SpoolOptions { max_size: u64::MAX, ..SpoolOptions::default() }, Budget::default());
    Relocate {
        to: bucket.into(),
        key: KeyRule::default(),
        tags: None,
        keep_source: false,
        on_conflict: OnConflict::default(),
        spool,
    }
}

impl Relocate {
    /// Puts this before the key, as it is: end it with a slash for a folder. Within one bucket, what begins with the
    /// prefix already is not moved, which is a fatal error: a copy that is scanned itself would be moved for ever.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key = KeyRule::Prefix(prefix.into());
        self
    }

    /// Makes the key of a template: `{key}`, `{name}` (the last part of the key), `{bucket}`, `{sha256}`, `{task}`,
    /// `{status}` (the verdict), `{size}`, `{threats}`, `{reasons}`; `{{` and `}}` for braces.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when there is another name in braces.
    pub fn key_template(mut self, template: &str) -> Result<Self> {
        self.key = KeyRule::template(template)?;
        Ok(self)
    }

    /// Makes the key by a function. It has to give the same key each time.
    #[must_use]
    pub fn key_with(mut self, key: impl Fn(&Scanned, &ObjectRef) -> String + Send + Sync + 'static) -> Self {
        self.key = KeyRule::Function(Arc::new(key));
        self
    }

    /// Puts the verdict's tags on the copy, which is never there without them.
    #[must_use]
    pub fn tags(mut self, vocabulary: Vocabulary) -> Self {
        self.tags = Some(vocabulary);
        self
    }

    /// Copies only. The steps that follow act on the object where it was.
    #[must_use]
    pub fn keep_source(mut self) -> Self {
        self.keep_source = true;
        self
    }

    /// Sets what happens when the key is taken.
    #[must_use]
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// The spool through which bytes go that no backend can copy by itself. By default temporary files take them,
    /// without a limit of size.
    #[must_use]
    pub fn spool(mut self, spool: Spool) -> Self {
        self.spool = spool;
        self
    }
}

#[async_trait]
impl ResultHandler for Relocate {
    fn name(&self) -> &str {
        "relocate"
    }

    fn deletes(&self) -> bool {
        !self.keep_source
    }

    fn writes_to(&self) -> Option<&str> {
        Some(&self.to)
    }

    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> Result<StepOutput, HandlerError> {
        let Some(from) = step.object(scanned) else {
            return Ok(StepOutput::skipped("there is no object to move"));
        };
        if !self.keep_source {
            step.buckets.check_delete(from)?;
        }
        let errand = Errand {
            rule: self,
            scanned,
            step,
            from,
            source: &**step.buckets.of(from)?,
            dest: &**step.buckets.get(&self.to)?,
        };
        let copy = errand.copy().await?;
        if self.keep_source {
            return Ok(StepOutput::new(json!({ "from": from, "to": copy, "source": "kept" })));
        }
        let source = errand.remove(&copy).await?;
        let output = StepOutput::new(json!({ "from": from, "to": copy, "source": source }));
        Ok(output.with_place(Place::Moved { object: copy }))
    }
}

/// One call.
struct Errand<'a> {
    rule: &'a Relocate,
    scanned: &'a Scanned,
    step: &'a StepContext,
    from: &'a ObjectRef,
    source: &'a dyn ObjectOps,
    dest: &'a dyn ObjectOps,
}

impl Errand<'_> {
    /// The copy: that of an earlier call, or a new one. It was looked at.
    async fn copy(&self) -> Result<ObjectRef, HandlerError> {
        let mut key = self.rule.key.make(self.scanned, self.from);
        let mut renamed = false;
        loop {
            self.check(&key)?;
            let replace = match self.there(&key).await? {
                None => false,
                Some(there) if self.is_ours(&there) => return Ok(there.object),
                Some(_) if self.rule.on_conflict == OnConflict::Rename && !renamed => {
                    key = key::with_suffix(&key, &self.step.idempotency_key);
                    renamed = true;
                    continue;
                }
                Some(there) => {
                    self.may_replace(&there)?;
                    true
                }
            };
            let options = self.options(!replace).await?;
            match transfer(self.source, self.from, self.dest, &key, &options, &self.rule.spool).await {
                Ok(copy) => return self.verify(copy).await,
                Err(why) if why.kind() == ErrorKind::Exists => {
                    // Somebody came between the look and the copy: the next call sees who.
                    return Err(
                        HandlerError::retryable("the key at the destination was taken just now").with_source(why)
                    );
                }
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Refuses keys that are none, and the object's own.
    fn check(&self, key: &str) -> Result<(), HandlerError> {
        if key.is_empty() {
            return Err(HandlerError::fatal(format!("{}: the key at the destination is empty", self.from)));
        }
        if self.from.bucket == *self.dest.url() && self.from.key == key {
            let why = format!("{}: is to be moved to where it is; name another bucket, a prefix or a key", self.from);
            return Err(HandlerError::fatal(why));
        }
        // Where new objects are scanned, the copy is one: it would be moved again and again, deeper each time.
        if self.from.bucket == *self.dest.url() && self.rule.key.is_prefix_of(&self.from.key) {
            let why = format!(
                "{}: begins with the prefix already that it is to be moved under; scan another prefix, or name another bucket",
                self.from
            );
            return Err(HandlerError::fatal(why));
        }
        Ok(())
    }

    async fn there(&self, key: &str) -> Result<Option<ObjectInfo>> {
        match self.dest.stat(&ObjectRef::new(self.dest.url().clone(), key)).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.kind() == ErrorKind::Gone => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether an earlier call of this step made it, and it is whole.
    fn is_ours(&self, info: &ObjectInfo) -> bool {
        info.metadata.get(META_KEY) == Some(&self.step.idempotency_key)
            && self.size().is_none_or(|size| info.object.size.is_none_or(|there| there == size))
    }

    fn size(&self) -> Option<u64> {
        self.scanned.report.size.or(self.from.size)
    }

    fn may_replace(&self, there: &ObjectInfo) -> Result<(), HandlerError> {
        let taken = || format!("{}: is there already, and not as a copy of {}", there.object, self.from);
        match self.rule.on_conflict {
            OnConflict::Overwrite => Ok(()),
            OnConflict::Update if there.metadata.get(META_SOURCE) == Some(&self.origin()) => {
                let theirs = there.metadata.get(META_WRITTEN).and_then(|at| at.parse::<i64>().ok());
                let ours = self.scanned.object.modified.map(|at| at.0);
                // Without versions only the latest state is there at all, whatever its date says: files keep theirs when
                // they are moved.
                let keeps_older = self.source.caps().versions;
                if keeps_older && theirs.zip(ours).is_some_and(|(theirs, ours)| theirs > ours) {
                    let why = format!("a newer upload of {} is at the destination already", self.from);
                    return Err(Error::new(ErrorKind::Superseded, why).about(there.object.to_string()).into());
                }
                Ok(())
            }
            OnConflict::Update => {
                Err(HandlerError::fatal(format!("{}; remove it, or choose another OnConflict or key", taken())))
            }
            OnConflict::Rename | OnConflict::Fail => Err(HandlerError::fatal(taken())),
        }
    }

    /// The same for all uploads under one key. A hash, since metadata cannot carry every key.
    fn origin(&self) -> String {
        let object = &self.scanned.object;
        ContentDigest::of(format!("{}\n{}", object.bucket, object.key).as_bytes()).to_string()
    }

    async fn options(&self, only_new: bool) -> Result<PutOptions> {
        // All of them, each time: what the uploader wrote under these names must not get to the copy.
        let unknown = || String::from("unknown");
        let metadata = BTreeMap::from([
            (String::from(META_KEY), self.step.idempotency_key.clone()),
            (String::from(META_SOURCE), self.origin()),
            (String::from(META_SHA256), self.scanned.report.sha256.map_or_else(unknown, |sha256| sha256.to_string())),
            (String::from(META_WRITTEN), self.scanned.object.modified.map_or_else(unknown, |at| at.0.to_string())),
        ]);
        let tags = match &self.rule.tags {
            None => Vec::new(),
            Some(vocabulary) => {
                let there = match self.source.caps().tags {
                    true => self.source.tags(self.from).await?,
                    false => crate::model::Tags::new(),
                };
                vocabulary.tags_over(self.scanned, &there)
            }
        };
        Ok(PutOptions { content_type: None, metadata, tags, only_new, expect: self.scanned.report.sha256 })
    }

    /// Looks at the copy before the source goes.
    async fn verify(&self, copy: ObjectRef) -> Result<ObjectRef, HandlerError> {
        match self.dest.stat(&copy).await {
            Ok(info) if self.is_ours(&info) => Ok(info.object),
            Ok(info) if info.metadata.contains_key(META_KEY) => {
                Err(HandlerError::retryable(format!("{copy}: the copy is not what was copied")))
            }
            Ok(_) => Err(HandlerError::fatal(format!(
                "{copy}: the bucket does not keep metadata, so nobody could tell the copy later; the source was kept"
            ))),
            // Not the object's own fate: somebody else took the copy away. Another call makes another.
            Err(why) if matches!(why.kind(), ErrorKind::Gone | ErrorKind::Superseded) => {
                Err(HandlerError::retryable("the copy was gone before it was looked at").with_source(why))
            }
            Err(why) => Err(why.into()),
        }
    }

    /// Deletes the state that was copied, and says what became of it.
    async fn remove(&self, copy: &ObjectRef) -> Result<&'static str, HandlerError> {
        match self.source.delete(self.from).await {
            Ok(()) => Ok("removed"),
            // By an earlier call, or by somebody else: it is not there, and the copy is.
            Err(error) if error.kind() == ErrorKind::Gone => Ok("removed"),
            Err(error) if error.kind() == ErrorKind::Superseded => Ok("superseded"),
            Err(error) if error.is_retryable() => Err(error.into()),
            Err(error) => {
                Err(HandlerError::fatal(format!("the copy {copy} is there, and the source could not be deleted"))
                    .with_source(error))
            }
        }
    }
}

#[cfg(all(test, feature = "testkit"))]
mod faults;
#[cfg(test)]
mod tests;
