//! Reading and merging tags.

use aws_sdk_s3::types::{Tag, Tagging};

use super::error::Failure;
use super::keys::encoded;
use super::{Inner, Pin};
use crate::model::{ObjectRef, Tags};
use crate::objects::TagsSet;
use crate::{Error, ErrorKind, Result};

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
        self.put_tags(key, pin.version.clone(), &done.tags).await?;
        if pin.version.is_none() {
            match self.head(&self.bucket, key, &pin).await {
                Ok(_) => {}
                Err(failure) if failure.error.kind() == ErrorKind::Superseded => {
                    self.take_off(key, &done.tags).await?;
                    return Err(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(done)
    }

    /// Takes tags off again that hit another object. Those that we had read were the old object's, so when the ones
    /// that we put are there, none of them is the new one's own: all go, lest it seem to be what the old one was.
    async fn take_off(&self, key: &str, put: &Tags) -> Result<(), Failure> {
        match self.get_tags(key, None).await {
            Ok(now) if now == *put => {
                let done = self.client.delete_object_tagging().bucket(&self.bucket).key(key).send().await;
                match done.map_err(Failure::from) {
                    Err(failure) if !failure.is_gone() => Err(failure),
                    _ => Ok(()),
                }
            }
            Ok(_) => Ok(()),
            Err(failure) if failure.is_gone() => Ok(()),
            Err(failure) => Err(failure),
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
