//! `[queue]` and `[worker]`: where messages come from, and how many are in hand.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::read::Section;
#[cfg(feature = "nats")]
use crate::queue::NatsQueue;
#[cfg(feature = "postgres")]
use crate::queue::PostgresQueue;
use crate::queue::Queue;
#[cfg(feature = "sqlite")]
use crate::queue::SqliteQueue;
#[cfg(feature = "sqs")]
use crate::queue::SqsQueue;
use crate::worker::WorkerOptions;
use crate::workflow::RetryPolicy;
use crate::{Error, ErrorKind, Result};

/// A queue by its address.
#[derive(Clone, PartialEq, Eq)]
pub enum QueueUrl {
    /// SQLite in this file, which is not the store's.
    Sqlite(PathBuf),
    /// PostgreSQL at this address.
    Postgres(String),
    /// SQS: the queue's address, and that of its dead letters.
    Sqs {
        /// `https://sqs.eu-central-1.amazonaws.com/123456789012/scans`.
        url: String,
        /// The queue that dead messages go to; else that of the queue's redrive policy.
        dead_letters: Option<String>,
    },
    /// NATS with JetStream: the servers, and the name that streams and subjects begin with.
    Nats(String),
}

const FORM: &str = "write sqlite:///var/lib/scan-pipeline/queue.db, postgres://user@host/database, \
                    https://sqs.<region>.amazonaws.com/<account>/<name> or nats://host:4222";

impl QueueUrl {
    /// Reads an address. Relative paths begin at `base`.
    ///
    /// # Errors
    ///
    /// What to write instead.
    pub fn parse(text: &str, dead_letters: Option<&str>, base: &Path) -> std::result::Result<Self, String> {
        let url = text.to_owned();
        match text.split_once("://") {
            Some(("sqlite", path)) if !path.is_empty() && !path.ends_with('/') && !path.contains(['\0', '?']) => {
                Ok(Self::Sqlite(base.join(path)))
            }
            Some(("sqlite", _)) => Err(format!("the path of a file is missing: {FORM}")),
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => {
                // What is wrong with it is said before anybody connects.
                let address = text.parse::<crate::sql::postgres::PostgresUrl>();
                address.map(|_| Self::Postgres(url)).map_err(|error| error.to_string())
            }
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(url)),
            Some(("http" | "https", rest)) if rest.split('/').filter(|part| !part.is_empty()).count() < 2 => {
                Err(format!("this is the address of no SQS queue: {FORM}"))
            }
            Some(("http" | "https", _)) => Ok(Self::Sqs { url, dead_letters: dead_letters.map(str::to_owned) }),
            Some(("nats" | "tls", _)) => Ok(Self::Nats(url)),
            Some((scheme, _)) => Err(format!("there is no queue of the kind {scheme}: {FORM}")),
            None => Err(format!("this is no address: {FORM}")),
        }
    }

    /// What has to be compiled in for it.
    fn feature(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Sqs { .. } => "sqs",
            Self::Nats(_) => "nats",
        }
    }

    fn is_compiled_in(&self) -> bool {
        match self {
            Self::Sqlite(_) => cfg!(feature = "sqlite"),
            Self::Postgres(_) => cfg!(feature = "postgres"),
            Self::Sqs { .. } => cfg!(feature = "sqs"),
            Self::Nats(_) => cfg!(feature = "nats"),
        }
    }

    /// Opens the queue.
    ///
    /// # Errors
    ///
    /// The queue's own; [`ErrorKind::Unsupported`] for a kind that is not compiled in.
    pub async fn open(&self) -> Result<Arc<dyn Queue>> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => Ok(Arc::new(SqliteQueue::open(path).await?)),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Ok(Arc::new(PostgresQueue::open(url).await?)),
            #[cfg(feature = "sqs")]
            Self::Sqs { url, dead_letters } => Ok(Arc::new(sqs(url, dead_letters.as_deref()).await?)),
            #[cfg(feature = "nats")]
            Self::Nats(url) => Ok(Arc::new(NatsQueue::builder(url).build().await?)),
            #[allow(unreachable_patterns, reason = "all may be compiled in")]
            other => {
                let why = format!("this build has no such queue; rebuild with --features {}", other.feature());
                Err(Error::new(ErrorKind::Unsupported, why).about(other.to_string()))
            }
        }
    }
}

impl QueueUrl {
    /// What is set up at the broker in a way that loses sight of messages, in words, where workers give a message up after
    /// so many deliveries. Of the kinds that there are, only SQS has such settings.
    ///
    /// # Errors
    ///
    /// The broker cannot be asked.
    pub async fn warnings(&self, max_attempts: u32) -> Result<Vec<String>> {
        match self {
            #[cfg(feature = "sqs")]
            Self::Sqs { url, dead_letters } => sqs(url, dead_letters.as_deref()).await?.check(max_attempts).await,
            _ => {
                let _ = max_attempts;
                Ok(Vec::new())
            }
        }
    }
}

#[cfg(feature = "sqs")]
async fn sqs(url: &str, dead_letters: Option<&str>) -> Result<SqsQueue> {
    let builder = SqsQueue::builder(url);
    match dead_letters {
        Some(dead_letters) => builder.dead_letters(dead_letters).build().await,
        None => builder.build().await,
    }
}

/// Without user and password.
impl fmt::Display for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) | Self::Nats(url) | Self::Sqs { url, .. } => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                // A password may have a slash in it.
                let (_, place) = rest.rsplit_once('@').unwrap_or(("", rest));
                let (server, path) = place.split_once('/').unwrap_or((place, ""));
                write!(f, "{scheme}://{server}/{}", path.split('?').next().unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueUrl({self})")
    }
}

pub(super) fn read(root: &Section<'_>) -> Option<QueueUrl> {
    let section = root.section("queue")?;
    section.read(|queue| {
        let url = queue.required("url", FORM)?;
        let dead_letters = queue.text("dead_letters");
        let dead_letters = dead_letters.as_ref().map(|text| text.value.as_str());
        match QueueUrl::parse(&url.value, dead_letters, queue.reader.base) {
            Ok(parsed) if !parsed.is_compiled_in() => {
                let feature = parsed.feature();
                url.mistake(queue.reader, format!("this build has no such queue; rebuild with --features {feature}"));
                None
            }
            Ok(parsed) => {
                if let QueueUrl::Sqlite(path) = &parsed
                    && path.parent().is_some_and(|parent| !parent.is_dir())
                {
                    url.warning(queue.reader, "the folder of this file does not exist (yet)");
                }
                if dead_letters.is_some() && !matches!(parsed, QueueUrl::Sqs { .. }) {
                    queue.warning("dead_letters is for SQS; this queue keeps its own");
                }
                Some(parsed)
            }
            Err(why) => {
                url.mistake(queue.reader, format!("`{}` is no queue: {}", url.address(), url.hide(&why)));
                None
            }
        }
    })
}

const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn worker(root: &Section<'_>) -> WorkerOptions {
    let default = WorkerOptions::default();
    let Some(section) = root.section("worker") else { return default };
    section.read(|worker| {
        let attempts = worker.count("attempts", 1..=1000).and_then(|count| u32::try_from(count).ok());
        let longest = worker.time("longest_pause", SECOND..=DAY).unwrap_or(default.retry.cap);
        let max_attempts = attempts.unwrap_or(default.retry.max_attempts);
        WorkerOptions {
            messages: worker.count("messages", 1..=65_536).map_or(default.messages, |count| count as usize),
            bytes: worker.size("bytes", 1 << 20..=1 << 50).unwrap_or(default.bytes),
            lease: worker.time("lease", SECOND..=DAY / 2).unwrap_or(default.lease),
            wait: worker.time("wait", Duration::ZERO..=20 * SECOND).unwrap_or(default.wait),
            retry: RetryPolicy { max_attempts, cap: longest, ..default.retry },
            drain: worker.time("drain", Duration::ZERO..=DAY).unwrap_or(default.drain),
            resume: worker.time("resume", SECOND..=DAY).unwrap_or(default.resume),
            bulk: worker.count("bulk", 1..=1024).map_or(default.bulk, |count| count as usize),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_named_by_address() {
        let parse = |text: &str, dead: Option<&str>| QueueUrl::parse(text, dead, Path::new("/base"));
        assert_eq!(parse("sqlite://q.db", None), Ok(QueueUrl::Sqlite("/base/q.db".into())));
        let sqs = "https://sqs.eu-central-1.amazonaws.com/123456789012/scans";
        assert_eq!(parse(sqs, Some("https://x/1/dead")).map(|url| url.to_string()), Ok(String::from(sqs)));
        for text in ["", "q.db", "sqlite://", "sqlite://a/", "redis://x", "https://sqs.eu-central-1.amazonaws.com/"] {
            assert!(parse(text, Some("https://x/1/dead")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = QueueUrl::parse("postgres://me:secret@db.example/scans?application_name=x", None, Path::new("/"));
        let url = url.expect("an address");
        assert_eq!(format!("{url} {url:?}"), "postgres://db.example/scans QueueUrl(postgres://db.example/scans)");
        let url = QueueUrl::parse("nats://token:p@ss@h:4222", None, Path::new("/")).expect("an address");
        assert_eq!(url.to_string(), "nats://h:4222/");
    }
}
