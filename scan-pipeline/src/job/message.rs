//! The messages of jobs.

use serde::{Deserialize, Serialize};

use crate::model::{BucketUrl, ObjectRef, Timestamp};
use crate::store::JobId;
use crate::{Error, ErrorKind, Result};

/// What every message of ours about jobs begins with, and nothing else does.
const BEGINNING: &[u8] = b"{\"scan_pipeline\":";
/// Most bytes of a chunk's message: every broker carries it, and there is room for attributes.
pub(super) const LARGEST: usize = 200 << 10;

/// A part of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scan_pipeline", deny_unknown_fields)]
pub(crate) enum JobMessage {
    /// List a shard on from its cursor.
    #[serde(rename = "shard/1")]
    Shard {
        /// The job.
        job: JobId,
        /// The number of the shard.
        shard: u32,
        /// How often it was tried as an earlier message.
        #[serde(default, skip_serializing_if = "is_none_yet")]
        tries: u32,
    },
    /// Work on some objects.
    #[serde(rename = "chunk/1")]
    Chunk {
        /// The job.
        job: JobId,
        /// The number of the shard.
        shard: u32,
        /// The number of the chunk in it.
        chunk: u64,
        /// The bucket of the objects.
        bucket: BucketUrl,
        /// The objects.
        objects: Vec<ChunkObject>,
        /// How often it was tried as an earlier message.
        #[serde(default, skip_serializing_if = "is_none_yet")]
        tries: u32,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "that is how it is called")]
fn is_none_yet(tries: &u32) -> bool {
    *tries == 0
}

/// An object of a chunk, as it was listed. The names are short because there are many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkObject {
    #[serde(rename = "k")]
    pub(super) key: String,
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub(super) modified: Option<Timestamp>,
}

impl ChunkObject {
    pub(super) fn new(object: ObjectRef) -> Self {
        let ObjectRef { key, version, etag, size, modified, .. } = object;
        Self { key, version, etag, size, modified }
    }

    pub(super) fn object(self, bucket: &BucketUrl) -> ObjectRef {
        let Self { key, version, etag, size, modified } = self;
        ObjectRef { bucket: bucket.clone(), key, version, etag, size, modified }
    }

    /// At least as many bytes as it takes in a message: a character of a key is escaped as `\u0000` at most.
    pub(super) fn bytes(&self) -> usize {
        let escaped: usize =
            self.key.chars().map(|c| if c < ' ' || c == '"' || c == '\\' { 6 } else { c.len_utf8() }).sum();
        escaped + self.version.as_ref().map_or(0, String::len) + self.etag.as_ref().map_or(0, String::len) * 2 + 96
    }
}

impl JobMessage {
    /// Reads a message of ours; `None` for one of anybody else.
    pub(crate) fn peek(body: &[u8]) -> Option<Result<Self>> {
        body.starts_with(BEGINNING).then(|| {
            serde_json::from_slice(body).map_err(|why| {
                // The words of the parser hold names and places only, and names of fields are ours.
                let kind = body[BEGINNING.len()..].iter().take(24).map(|byte| char::from(*byte));
                let kind: String = kind.filter(|c| c.is_ascii_graphic()).collect();
                let message = format!(
                    "is a message of a job that this program does not understand ({kind}, line {}, column {}): \
                     use the version that has written it",
                    why.line(),
                    why.column()
                );
                Error::new(ErrorKind::InvalidInput, message)
            })
        })
    }

    /// How often it was tried as an earlier message.
    pub(crate) fn tries(&self) -> u32 {
        match self {
            Self::Shard { tries, .. } | Self::Chunk { tries, .. } => *tries,
        }
    }

    /// The same after so many tries.
    pub(crate) fn tried(mut self, after: u32) -> Self {
        match &mut self {
            Self::Shard { tries, .. } | Self::Chunk { tries, .. } => *tries = after,
        }
        self
    }

    /// The message as JSON.
    pub(crate) fn to_json(&self) -> String {
        // Text and numbers only: there is nothing in it that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(objects: Vec<ChunkObject>) -> JobMessage {
        let bucket = "s3://uploads?endpoint=http://127.0.0.1:9000".parse().expect("an address");
        JobMessage::Chunk { job: JobId::new(), shard: 3, chunk: 17, bucket, objects, tries: 0 }
    }

    fn object(key: &str) -> ChunkObject {
        ChunkObject {
            key: key.to_owned(),
            version: Some(String::from("v")),
            etag: Some(String::from("\"quoted\"")),
            size: Some(u64::MAX),
            modified: Some(Timestamp(i64::MAX)),
        }
    }

    #[test]
    fn messages_come_back_as_they_were() {
        for message in [
            JobMessage::Shard { job: JobId::new(), shard: 0, tries: 0 },
            JobMessage::Shard { job: JobId::new(), shard: 7, tries: 5 },
            chunk(vec![object("a\0b\"\\\u{10ffff}"), object(""), object(&"x".repeat(1024))]),
        ] {
            let text = message.to_json();
            let back = JobMessage::peek(text.as_bytes()).expect("it is ours").expect("it is understood");
            assert_eq!(back, message);
        }
    }

    #[test]
    fn the_size_of_an_object_is_never_underrated() {
        for key in ["\0".repeat(1024), "\"".repeat(1024), "\u{10ffff}".repeat(256), "\u{7f}".repeat(3), String::new()] {
            let one = object(&key);
            let length = serde_json::to_string(&one).expect("JSON").len() + 1;
            assert!(one.bytes() >= length, "{} < {length}", one.bytes());
        }
    }

    #[test]
    fn other_peoples_messages_are_left_alone_and_unknown_ones_of_ours_are_errors() {
        for other in ["", "{}", "{\"Records\": []}", "[{\"scan_pipeline\":\"shard/1\"}]"] {
            assert!(JobMessage::peek(other.as_bytes()).is_none(), "{other}");
        }
        for ours in [
            "{\"scan_pipeline\":",
            "{\"scan_pipeline\":\"shard/2\",\"job\":\"0\"}",
            "{\"scan_pipeline\":\"shard/1\",\"job\":\"short\",\"shard\":0}",
            "{\"scan_pipeline\":\"shard/1\",\"job\":\"0123456789abcdef0123456789ab\",\"shard\":-1}",
            "{\"scan_pipeline\":\"shard/1\",\"job\":\"0123456789abcdef0123456789ab\",\"shard\":1,\"more\":1}",
        ] {
            let error = JobMessage::peek(ours.as_bytes()).expect("ours").expect_err("not understood");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!error.is_retryable());
        }
    }
}
