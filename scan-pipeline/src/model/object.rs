//! Which bytes: an object in a bucket, pinned.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{ContentDigest, Timestamp};
use crate::{Error, ErrorKind, Result};

/// A bucket by its address: `s3://uploads`, `file:///srv/quarantine`, `gs://uploads`, `az://container`,
/// `memory://name`. Two addresses that differ are two buckets.
///
/// ```
/// use scan_pipeline::model::BucketUrl;
/// let bucket: BucketUrl = "file:///srv/quarantine/".parse()?;
/// assert_eq!(bucket.as_str(), "file:///srv/quarantine");
/// assert_eq!(bucket.scheme(), "file");
/// # Ok::<(), scan_pipeline::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BucketUrl(String);

impl BucketUrl {
    /// The address of a bucket of this name at its vendor's. `None` for names with other characters than buckets have,
    /// so that nothing in one can be taken for an endpoint or a key.
    pub(crate) fn named(scheme: &str, name: &str) -> Option<Self> {
        let plain = |character: char| character.is_ascii_alphanumeric() || "-._$".contains(character);
        let is_name = (1..=255).contains(&name.len()) && name.chars().all(plain);
        is_name.then(|| Self(format!("{scheme}://{name}")))
    }

    /// The address as text, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before `://`.
    pub fn scheme(&self) -> &str {
        self.0.split("://").next().unwrap_or_default()
    }

    /// What stands behind `://`.
    pub fn rest(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, rest)| rest)
    }
}

impl std::str::FromStr for BucketUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::InvalidInput, format!("is no bucket address: {why}")).about(text.to_owned())
        };
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| wrong("write it as s3://name or file:///absolute/path"))?;
        let well_formed = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c));
        if !well_formed {
            return Err(wrong("it begins with a scheme in small letters, such as s3"));
        }
        let rest = match rest.trim_end_matches('/') {
            "" if scheme == "file" && rest.starts_with('/') => "/",
            "" => return Err(wrong("nothing follows the scheme")),
            trimmed => trimmed,
        };
        Ok(Self(format!("{scheme}://{rest}")))
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object, and which state of it. A reference without version and etag means "whatever is there now"; one with
/// them is *pinned*, and every operation on it fails with [`ErrorKind::Superseded`] when something else is there.
///
/// The key is exact: nothing is decoded, normalised or trimmed. `/evil`, `a//b` and `a/../b` are three keys.
///
/// ```
/// use scan_pipeline::model::ObjectRef;
/// let object = ObjectRef::new("s3://quarantine".parse()?, "2026/report.pdf").with_version("3sL4kqtJlcpXro").with_size(4711);
/// assert!(object.is_pinned());
/// assert_eq!(object.to_string(), "s3://quarantine/2026/report.pdf");
/// # Ok::<(), scan_pipeline::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The bucket it is in.
    pub bucket: BucketUrl,
    /// Its name there, exactly.
    pub key: String,
    /// Version (S3, Azure) or generation (Google), where the bucket keeps versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The backend's mark of this state, as it gives it but without quotes. Never a content hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Bytes, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When this state was written, as the backend says. In a bucket without versions this tells the same bytes
    /// uploaded again from the object that was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
}

impl ObjectRef {
    /// Whatever is there under this key.
    pub fn new(bucket: BucketUrl, key: impl Into<String>) -> Self {
        Self { bucket, key: key.into(), version: None, etag: None, size: None, modified: None }
    }

    /// Pins the version.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Pins the etag.
    #[must_use]
    pub fn with_etag(mut self, etag: impl Into<String>) -> Self {
        self.etag = Some(etag.into());
        self
    }

    /// Says how large it is.
    #[must_use]
    pub fn with_size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// The same key without a pin: whatever is there now.
    #[must_use]
    pub fn unpinned(&self) -> Self {
        Self::new(self.bucket.clone(), self.key.clone())
    }

    /// Whether it says which state of the object is meant.
    pub fn is_pinned(&self) -> bool {
        self.version.is_some() || self.etag.is_some()
    }

    /// The last part of the key, as a name for what was scanned; the whole key when it ends in a slash.
    pub fn file_name(&self) -> &str {
        match self.key.rsplit('/').next() {
            Some(name) if !name.is_empty() => name,
            _ => &self.key,
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

/// The identity of one unit of work: a hash of which bytes it is about, so that a duplicate event is the same task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub ContentDigest);

impl TaskId {
    /// The task of a pinned object. `incarnation` is 0 for all but an object that came back after it was handled:
    /// the same bytes put under the same key again, which a bucket without versions cannot tell apart.
    pub fn of(object: &ObjectRef, incarnation: u32) -> Self {
        let mut hash = Self::state(object);
        hash.update(incarnation.to_be_bytes());
        Self(ContentDigest(hash.finalize().into()))
    }

    /// The task that handles the same state of an object once more. Each mark makes another task: the definitions that
    /// it is scanned with now, or the job that asked for it.
    pub fn again(object: &ObjectRef, mark: &str) -> Self {
        let mut hash = Self::state(object);
        hash.update(b"again");
        hash.update((mark.len() as u64).to_be_bytes());
        hash.update(mark.as_bytes());
        Self(ContentDigest(hash.finalize().into()))
    }

    fn state(object: &ObjectRef) -> Sha256 {
        let mut hash = Sha256::new();
        let modified = object.modified.map(|at| at.0.to_string());
        // A version says it all; etag and time stand in for it where there is none.
        let pin = match &object.version {
            Some(version) => [Some(version.as_str()), None, None],
            None => [None, object.etag.as_deref(), modified.as_deref()],
        };
        let parts = [Some(object.bucket.as_str()), Some(object.key.as_str())].into_iter().chain(pin);
        for part in parts {
            // With its length before it, so that no two lists of parts give the same bytes.
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            hash.update(length.to_be_bytes());
            hash.update(part.unwrap_or_default().as_bytes());
        }
        hash
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(Self).map_err(|_| {
            Error::new(ErrorKind::InvalidInput, "a task id is written as 64 hexadecimal digits").about(text.to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bucket: &str, key: &str) -> ObjectRef {
        ObjectRef::new(bucket.parse().expect("an address"), key)
    }

    #[test]
    fn addresses_are_checked() {
        for (text, clean) in [
            ("s3://a", "s3://a"),
            ("file:///", "file:///"),
            ("file:///a/b//", "file:///a/b"),
            ("memory://x/", "memory://x"),
            ("s3://b?endpoint=http://127.0.0.1:9000", "s3://b?endpoint=http://127.0.0.1:9000"),
        ] {
            assert_eq!(text.parse::<BucketUrl>().expect(text).as_str(), clean);
        }
        for text in ["", "a", "s3:/a", "s3://", "S3://a", "://a", "s 3://a", "memory:///"] {
            let error = text.parse::<BucketUrl>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_task_is_about_one_state_of_one_key() {
        let a = object("s3://b", "k").with_etag("1");
        let ids = [
            TaskId::of(&a, 0),
            TaskId::of(&a, 1),
            TaskId::of(&a.clone().with_version("1"), 0),
            TaskId::of(&object("s3://b", "k").with_etag("2"), 0),
            TaskId::of(&object("s3://b", "/k").with_etag("1"), 0),
            TaskId::of(&object("s3://b/k", "").with_etag("1"), 0),
            TaskId::of(&ObjectRef { modified: Some(Timestamp(1)), ..a.clone() }, 0),
            TaskId::again(&a, ""),
            TaskId::again(&a, "1"),
        ];
        for (i, id) in ids.iter().enumerate() {
            assert!(!ids[..i].contains(id), "{i}");
        }
        assert_eq!(TaskId::of(&a, 0), TaskId::of(&a.clone().with_size(7), 0), "the size is no identity");
        let versioned = a.clone().with_version("1");
        let later = ObjectRef { etag: Some(String::from("other")), ..versioned.clone() };
        assert_eq!(TaskId::of(&versioned, 0), TaskId::of(&later, 0), "a version says it all");
        assert_eq!(ids[0].to_string().parse::<TaskId>().expect("parses"), ids[0]);
    }

    #[test]
    fn file_names_are_the_last_part() {
        for (key, name) in [("a/b.zip", "b.zip"), ("b", "b"), ("a/", "a/"), ("/evil", "evil"), ("", "")] {
            assert_eq!(object("s3://b", key).file_name(), name);
        }
    }
}
