//! Reading and merging tags.

use std::future::Future;
use std::time::Duration;

use aws_sdk_s3::types::{Tag, Tagging};

use super::error::Failure;
use super::keys::encoded;
use super::{Inner, Pin};
use crate::model::{ObjectRef, Tags};
use crate::objects::TagsSet;
use crate::{Error, ErrorKind, Result};

/// How often is asked what became of tags, and the pause before it is asked again, which doubles.
const ASKED: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

impl Inner {
    pub(super) async fn tags(&self, object: &ObjectRef) -> Result<Tags, Failure> {
        let pin = self.check(object)?;
        self.pinned_tags(&object.key, &pin).await
    }

    /// The tags of a state. Without a version the request cannot say which: the state is looked at afterwards, and as
    /// it was the one that was meant before, the tags are its.
    pub(super) async fn pinned_tags(&self, key: &str, pin: &Pin) -> Result<Tags, Failure> {
        let tags = self.get_tags(key, pin.version.clone()).await?;
        if pin.version.is_none() && pin.etag.is_some() {
            self.head(&self.bucket, key, pin).await?;
        }
        Ok(tags)
    }

    pub(super) async fn set_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<TagsSet, Failure> {
        let key = &object.key;
        let mut pin = self.check(object)?;
        if pin.version.is_none() {
            // Its version, if it has one, makes the rest exact; its etag is needed otherwise.
            pin = self.head(&self.bucket, key, &pin).await?.pin();
        }
        let before = self.pinned_tags(key, &pin).await?;
        let merged = before.merge(ours);
        let done = TagsSet { tags: merged.tags, dropped: merged.dropped };
        if done.tags == before {
            return Ok(done);
        }
        let put = self.put_tags(key, pin.version.clone(), &done.tags).await;
        match &put {
            Ok(()) if pin.version.is_some() => return Ok(done),
            // With a version it hit that one or nothing, and an answer that says no is one.
            Err(failure) if pin.version.is_some() || !failure.error.is_retryable() => {}
            _ => {
                // What we say of an object is never put back: on another state it would be said of that one.
                let ours = Tags::new().merge(ours).tags;
                let theirs = before.iter().filter(|(name, _)| ours.get(name).is_none()).collect();
                self.settle(key, &pin, &theirs, &done.tags).await?;
            }
        }
        put.map(|()| done)
    }

    /// Finds out which object tags have hit that name no version, and takes them off again if it is another one, or if
    /// nobody says.
    async fn settle(&self, key: &str, pin: &Pin, theirs: &Tags, put: &Tags) -> Result<(), Failure> {
        let failure = match insist(|| self.head(&self.bucket, key, pin)).await {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        match failure.error.kind() {
            ErrorKind::Gone => {}
            // Those that we had read were the old object's, so when the ones that we put are there, none of them is the
            // new one's own: all go, lest it seem to be what the old one was.
            ErrorKind::Superseded => insist(|| self.replace(key, put, Tags::new())).await?,
            _ => {
                if let Err(why) = insist(|| self.replace(key, put, theirs.clone())).await {
                    tracing::warn!(bucket = %self.url, key, error = %why.error,
                        "tags were written, and nobody says on which state of the object; the next attempt looks again");
                }
            }
        }
        Err(failure)
    }

    /// Takes off what an earlier call may have left on another state. What was merged with it is not known any more, so
    /// the rest stays.
    pub(super) async fn take_back_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<(), Failure> {
        let key = &object.key;
        let meant = self.check(object)?;
        if meant.version.is_some() {
            return Ok(());
        }
        let anything = Pin::default();
        let now = match insist(|| self.head(&self.bucket, key, &anything)).await {
            Ok(now) => now.pin(),
            Err(failure) if failure.is_gone() => return Ok(()),
            Err(failure) => return Err(failure),
        };
        // A version is written to by its name only; and what is the object itself is its own.
        if now.version.is_some() || now.etag == meant.etag {
            return Ok(());
        }
        let there = insist(|| self.pinned_tags(key, &now)).await?;
        let ours = Tags::new().merge(ours).tags;
        let first = ours.iter().any(|(name, value)| there.get(name) == Some(value));
        if !first || ours.iter().any(|(name, value)| there.get(name).is_some_and(|there| there != value)) {
            return Ok(());
        }
        let rest: Tags = there.iter().filter(|(name, _)| ours.get(name).is_none()).collect();
        insist(|| self.replace(key, &there, rest.clone())).await
    }

    /// Puts tags in the place of these, if these are what is there.
    async fn replace(&self, key: &str, these: &Tags, with: Tags) -> Result<(), Failure> {
        let done = match self.get_tags(key, None).await {
            Ok(now) if now == *these && with.is_empty() => self.delete_tags(key).await,
            Ok(now) if now == *these => self.put_tags(key, None, &with).await,
            Ok(_) => return Ok(()),
            Err(failure) => Err(failure),
        };
        match done {
            Err(failure) if failure.is_gone() => Ok(()),
            done => done,
        }
    }

    /// Who may write tags need not be allowed to delete them.
    async fn delete_tags(&self, key: &str) -> Result<(), Failure> {
        let done = self.client.delete_object_tagging().bucket(&self.bucket).key(key).send().await;
        match done.map_err(Failure::from) {
            Err(failure) if failure.error.kind() == ErrorKind::Denied => {
                self.put_tags(key, None, &Tags::new()).await.map_err(|_| failure)
            }
            done => done.map(drop),
        }
    }

    async fn get_tags(&self, key: &str, version: Option<String>) -> Result<Tags, Failure> {
        let request = self.client.get_object_tagging().bucket(&self.bucket).key(key);
        match request.set_version_id(version).send().await.map_err(Failure::from) {
            Ok(answer) => Ok(answer.tag_set().iter().map(|tag| (tag.key(), tag.value())).collect()),
            Err(failure) if failure.has_code("NoSuchTagSet") || failure.has_code("NoSuchTagSetError") => {
                Ok(Tags::new())
            }
            Err(failure) => Err(failure),
        }
    }

    async fn put_tags(&self, key: &str, version: Option<String>, tags: &Tags) -> Result<(), Failure> {
        let tag = |(name, value)| Tag::builder().key(name).value(value).build();
        let set: std::result::Result<Vec<_>, _> = tags.iter().map(tag).collect();
        let unusable = |why| Error::new(ErrorKind::InvalidInput, "the tags cannot be sent").with_source(why);
        let tagging = set.and_then(|set| Tagging::builder().set_tag_set(Some(set)).build()).map_err(unusable)?;
        let request = self.client.put_object_tagging().bucket(&self.bucket).key(key);
        request.set_version_id(version).tagging(tagging).send().await?;
        Ok(())
    }
}

/// Asks again what has to be known, a few times, where the next answer may be another one.
async fn insist<T, F>(ask: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut asked = 1;
    loop {
        match ask().await {
            Err(failure) if failure.error.is_retryable() && asked < ASKED => {
                let pause = PAUSE * (1 << asked);
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                asked += 1;
            }
            answer => return answer,
        }
    }
}

/// The form that a header has them in; `None` for none.
pub(super) fn header(tags: &Tags) -> Option<String> {
    let pairs: Vec<_> = tags.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_keeps_every_character() {
        let tags = Tags::from([("a b", "c+d=e&f"), ("x", "")]);
        assert_eq!(header(&tags).as_deref(), Some("a%20b=c%2Bd%3De%26f&x="));
        assert_eq!(header(&Tags::new()), None);
    }
}
