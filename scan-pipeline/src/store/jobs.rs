//! Bulk jobs as the store has them: shards with their cursors, and counters for each chunk.
//!
//! A job is cut into shards, which are listed side by side; a shard hands out chunks of keys, which are worked on in any
//! order. The store keeps how far each shard was listed and what each chunk came to, so a job goes on where it stopped,
//! and nobody ever counts rows of tasks.
//!
//! # Contract
//!
//! - [`advance`](JobStore::advance) is compare-and-set: of two listers of one shard one moves the cursor, and the other is
//!   told to stop.
//! - [`count`](JobStore::count) of the same chunk again replaces its counters, unless it has fewer objects than before: a
//!   chunk that was listed again lacks what was moved since.
//! - A job is done by itself, in the call that completes it: when every shard has ended and every chunk was counted.
//! - A job that has ended stays so: later calls change nothing and say what it is.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::model::{BucketUrl, ObjectRef, Timestamp};
use crate::{Error, ErrorKind, Result};

/// Keeps bulk jobs; the module page has the contract.
#[async_trait]
pub trait JobStore: fmt::Debug + Send + Sync + 'static {
    /// Puts a new job on record, with as many shards as it has bounds. The same job again changes nothing.
    async fn create_job(&self, job: &NewJob) -> Result<()>;

    /// A job with its shards and totals.
    async fn job(&self, id: &JobId) -> Result<Option<Job>>;

    /// The same without its shards and totals: what each of its chunks asks for, of which there may be hundreds of
    /// thousands, so it takes no longer the more of them were counted.
    async fn job_head(&self, id: &JobId) -> Result<Option<Job>>;

    /// Jobs, the newest first, at most `most`, older than the one with the id `before`. Without their shards.
    async fn jobs(&self, before: Option<&JobId>, most: usize) -> Result<Vec<Job>>;

    /// Moves a shard on. `None` when it was not at `step.from` any more, or the job has ended: then nothing was changed,
    /// and the caller has to stop.
    async fn advance(&self, id: &JobId, shard: u32, step: &Advance) -> Result<Option<JobState>>;

    /// What a chunk of a shard came to.
    async fn count(&self, id: &JobId, shard: u32, chunk: u64, counters: &Counters) -> Result<JobState>;

    /// Ends a job that runs, with why. The answer is what it is now.
    async fn end_job(&self, id: &JobId, state: JobState, why: Option<&str>) -> Result<JobState>;
}

/// The name of a job: 28 hexadecimal digits that sort by the time of its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// A name that no other job has.
    pub fn new() -> Self {
        Self(format!("{:012x}{:016x}", Timestamp::now().0.max(0), fastrand::u64(..)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for JobId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for JobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() == 28 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(40).collect();
        Err(Error::new(ErrorKind::InvalidInput, "a job's id is written as 28 hexadecimal digits").about(shown))
    }
}

impl TryFrom<String> for JobId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

/// Where a job's objects come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum JobSource {
    /// Every key of a bucket that begins with a prefix.
    Prefix {
        /// The bucket.
        bucket: BucketUrl,
        /// The prefix; empty for the whole bucket.
        prefix: String,
    },
    /// What an inventory of a bucket lists.
    Inventory {
        /// The bucket that was listed.
        bucket: BucketUrl,
        /// The manifest.
        manifest: ObjectRef,
    },
}

impl JobSource {
    /// The bucket that the objects are in.
    pub fn bucket(&self) -> &BucketUrl {
        match self {
            Self::Prefix { bucket, .. } | Self::Inventory { bucket, .. } => bucket,
        }
    }
}

impl fmt::Display for JobSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix { bucket, prefix } => write!(f, "{bucket}/{prefix}"),
            Self::Inventory { manifest, .. } => write!(f, "inventory {manifest}"),
        }
    }
}

/// What a job does with objects that were handled before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rescan {
    /// Nothing, whatever they were scanned with.
    Never,
    /// Scans them again when they were scanned with other definitions or settings than those in force.
    #[default]
    Outdated,
    /// Handles every one of them again; what follows from its verdict is done once more.
    Always,
}

impl Rescan {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Never, Self::Outdated, Self::Always];

    /// It as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Outdated => "outdated",
            Self::Always => "always",
        }
    }
}

impl fmt::Display for Rescan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a job needs from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Its name.
    pub id: JobId,
    /// Where its objects come from.
    pub source: JobSource,
    /// What happens to those that were handled before.
    pub rescan: Rescan,
    /// Most keys of a chunk.
    pub chunk: u32,
    /// The shards in their order. Listing one begins behind `after` and ends before `before`; for an inventory it is one
    /// of its files.
    pub shards: Vec<ShardRange>,
}

/// Which part of a job a shard is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRange {
    /// Only what is behind this key, or row of an inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only what is before this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// What has become of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It is listed and worked on.
    Running,
    /// Everything that it lists was dealt with.
    Done,
    /// Somebody stopped it.
    Cancelled,
    /// It cannot go on; the error says why.
    Failed,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Running, Self::Done, Self::Cancelled, Self::Failed];

    /// The state as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many objects came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Scanned, and clean.
    pub clean: u64,
    /// Scanned, and infected.
    pub infected: u64,
    /// Looked at, and unscannable.
    pub unscannable: u64,
    /// Handled before, and left alone.
    pub skipped: u64,
    /// Gone or replaced before they were scanned.
    pub gone: u64,
    /// Failed for good; the tasks have the errors.
    pub failed: u64,
    /// Bytes of those that were scanned.
    pub bytes: u64,
}

impl Counters {
    /// All objects.
    pub fn objects(&self) -> u64 {
        self.clean + self.infected + self.unscannable + self.skipped + self.gone + self.failed
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.clean += other.clean;
        self.infected += other.infected;
        self.unscannable += other.unscannable;
        self.skipped += other.skipped;
        self.gone += other.gone;
        self.failed += other.failed;
        self.bytes += other.bytes;
    }
}

/// How far a shard is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its number, from 0.
    pub number: u32,
    /// Which part it is.
    pub range: ShardRange,
    /// The last key, or row, that was handed out; listing goes on behind it.
    pub cursor: Option<String>,
    /// Objects handed out so far.
    pub listed: u64,
    /// Entries of the listing that could not be used.
    pub bad: u64,
    /// Chunks handed out so far; the next one has this number.
    pub chunks: u64,
    /// Chunks that were counted.
    pub counted: u64,
    /// Nothing is left to list.
    pub ended: bool,
    /// The page before the cursor, as long as its chunks may not all be in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenPage>,
    /// When it was moved on last.
    pub updated: Timestamp,
}

/// A page of a listing that is handed out. What is listed in its place later may lack objects and have others, but by its
/// bounds each object that stays comes into the chunk that it was in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPage {
    /// The key that it begins behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The last key of each of its chunks, which are the last ones of the shard.
    pub bounds: Vec<String>,
}

/// A step of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advance {
    /// How many chunks there were before.
    pub from: u64,
    /// How many there are now.
    pub chunks: u64,
    /// The new cursor.
    pub cursor: Option<String>,
    /// Objects handed out in addition.
    pub listed: u64,
    /// Unusable entries in addition.
    pub bad: u64,
    /// Nothing is left to list.
    pub ended: bool,
    /// The page that the step is over, before its chunks are in the queue. The next step says that they are.
    pub open: Option<OpenPage>,
}

/// A bulk job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Where its objects come from.
    pub source: JobSource,
    /// What happens to those that were handled before.
    pub rescan: Rescan,
    /// Most keys of a chunk.
    pub chunk: u32,
    /// What has become of it.
    pub state: JobState,
    /// Why it was stopped or cannot go on.
    pub error: Option<String>,
    /// What its chunks came to so far.
    pub totals: Counters,
    /// Its shards; empty in a list of jobs.
    pub shards: Vec<Shard>,
    /// When it was begun.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
}

impl Job {
    /// Objects that were listed so far.
    pub fn listed(&self) -> u64 {
        self.shards.iter().map(|shard| shard.listed).sum()
    }

    /// Whether listing has come to its end.
    pub fn is_listed(&self) -> bool {
        self.shards.iter().all(|shard| shard.ended)
    }
}
